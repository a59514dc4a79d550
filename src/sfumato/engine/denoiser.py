"""Answers samplers' questions: network, prediction type and guidance together make "denoised x at this sigma".

This is the one frontier between precisions. Samplers live in float32; rows are cast to the network's dtype on the way
in and back on the way out.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from sfumato.diffusion.conversation import Query
from sfumato.diffusion.prediction import denoised_from, network_scale
from sfumato.engine.health import first_nonfinite_layer, is_finite
from sfumato.engine.job import Run
from sfumato.engine.memory import Economy
from sfumato.engine.repair import HALVES, named, repaired
from sfumato.errors import NumericalError
from sfumato.models.unet import KeysValues, UNet
from sfumato.models.widening import widened


class Denoiser:
    """Evaluates the rows of one or more runs in a single batch of the network."""

    def __init__(self, unet: UNet, economy: Economy | None = None) -> None:
        self.unet = unet
        self._economy = economy or Economy()

    def __call__(self, runs: Sequence[Run]) -> list[Tensor]:
        """The denoised estimate each run's pending query asks for, `channels h w` each, float32, where its x is; two where it asks for two.

        What overflows in half precision is computed in float32. Raises NumericalError, naming step and layer, if an answer is not finite
        all the same; only sensible for one run at a time, so the engine evaluates a failing batch again run by run.
        """
        x, timesteps, keys_values = self._rows(runs)
        output = self._evaluate(x, timesteps, keys_values, runs[0])
        outputs = torch.split(output.to(torch.float32), [len(run.job.guidance.rows()) for run in runs])
        answers = [self._answer(run, rows) for run, rows in zip(runs, outputs, strict=True)]
        if all(is_finite(answer) for answer in answers):
            return answers
        if len(runs) > 1:
            raise NumericalError("NaN or infinity arose in a batch of several images")
        return [self._repaired(runs[0])]

    def _repaired(self, run: Run) -> Tensor:
        """The answer for a run whose own was not finite, with as much of the network in float32 as it takes, from now to its end.

        Raises NumericalError where that is of no help.
        """
        x, timesteps, keys_values = self._rows([run])
        if x.dtype in HALVES and is_finite(pending_query(run).x):
            found = repaired(self.unet, lambda: self._evaluate(x, timesteps, keys_values, run), run.widened)
            answer = None if found is None else self._answer(run, found[0].to(torch.float32))
            if found is not None and answer is not None and is_finite(answer):
                run.widened = found[1]
                dtype = str(x.dtype).removeprefix("torch.")
                run.notes.append(
                    f"the U-Net overflowed in {dtype} at step {run.place}: {named(found[1])} was computed in float32 from there on"
                )
                return answer
        raise self._diagnosis(run)

    def _rows(self, runs: Sequence[Run]) -> tuple[Tensor, Tensor, KeysValues]:
        xs: list[Tensor] = []
        timesteps: list[float] = []
        with torch.no_grad():
            keys_values = [run.keys_values(self.unet) for run in runs]
        for run in runs:
            query = pending_query(run)
            count = len(run.job.guidance.rows())
            # The network was trained on inputs of unit variance (Karras et al. 2022, Table 1, c_in for VP).
            rows = (query.x * network_scale(query.sigma)).expand(count, *query.x.shape)
            if (beside := run.job.beside) is not None:
                further = torch.stack([beside.get(name, beside["cond"]) for name in run.job.guidance.rows()])
                rows = torch.cat([rows, further.to(rows.device, rows.dtype)], dim=1)
            xs.append(rows)
            timesteps += [run.job.timestep(query.sigma)] * count
        x = torch.cat(xs).to(self.unet.device, self.unet.dtype, memory_format=torch.channels_last)
        joined = keys_values[0] if len(keys_values) == 1 else KeysValues.concat(keys_values)
        return x, torch.tensor(timesteps, dtype=torch.float32, device=self.unet.device), joined

    def _answer(self, run: Run, rows: Tensor) -> Tensor:
        query = pending_query(run)
        by_row = dict(zip(run.job.guidance.rows(), rows.to(query.x.device), strict=True))
        guided = denoised_from(run.job.guidance.answer(by_row), query.x, query.sigma, run.job.prediction)
        if not query.unconditioned:
            return guided
        assert "uncond" in by_row, "a sampler that asks for the unconditioned estimate needs guidance that evaluates it"
        return torch.stack([guided, denoised_from(by_row["uncond"], query.x, query.sigma, run.job.prediction)])

    def _diagnosis(self, run: Run) -> NumericalError:
        query = pending_query(run)
        where = f"at step {run.place} (sigma {query.sigma:.4g})"
        if not is_finite(query.x):
            return NumericalError(
                f"the latents themselves were not finite {where}, before the network saw them; check the latents "
                "or the callback that supplied them"
            )
        x, timesteps, keys_values = self._rows([run])
        layer = first_nonfinite_layer(self.unet, lambda: self._evaluate(x, timesteps, keys_values, run))
        dtype = str(x.dtype).removeprefix("torch.")
        place = f"U-Net layer {layer!r}" if layer else "guidance, after the U-Net"
        hint = "use float32 or bfloat16" if x.dtype == torch.float16 else "the weights or the conditioning are damaged"
        return NumericalError(f"NaN or infinity arose in {place} {where}, computing in {dtype}; {hint}")

    def _evaluate(self, x: Tensor, timesteps: Tensor, keys_values: KeysValues, run: Run) -> Tensor:
        """The network's answer for rows of this run, and of others with the same adapters."""
        with torch.no_grad(), run.job.adapters.beside("unet", self.unet), widened(self.unet, run.widened):
            return self._economy.evaluated(self.unet, x, timesteps, keys_values)


def pending_query(run: Run) -> Query:
    """The question the run's sampler waits on."""
    assert isinstance(run.pending, Query)
    return run.pending
