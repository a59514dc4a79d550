"""Answers samplers' questions: network, prediction type and guidance together make "denoised x at this sigma".

This is the one frontier between precisions. Samplers live in float32; rows are cast to the network's dtype on the way
in and back on the way out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.diffusion.guidance import Guidance, is_perturbed
from sfumato.diffusion.prediction import denoised_from, network_scale
from sfumato.engine.evaluators import Evaluation, unet_task
from sfumato.engine.health import first_nonfinite_layer, is_finite
from sfumato.engine.job import Run
from sfumato.errors import NumericalError
from sfumato.models.attention import Perturbed
from sfumato.models.convolution import wrapping
from sfumato.models.unet import KeysValues, UNet


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Batch:
    """Rows of runs that are evaluated at once: what the network reads, and the guidance that asked for them, run by run.

    `run` is one of the runs: in what changes the network they are alike (see `batches`).
    """

    run: Run
    rules: Sequence[Guidance]
    x: Tensor
    timesteps: Tensor
    keys_values: KeysValues


class Denoiser:
    """Evaluates the rows of one or more runs in a single batch of the network."""

    def __init__(self, unet: UNet, evaluation: Evaluation | None = None) -> None:
        self.unet = unet
        self._evaluation = evaluation or Evaluation()

    def __call__(self, runs: Sequence[Run]) -> list[Tensor]:
        """The denoised estimate each run's pending query asks for, `channels h w` each, float32, where its x is; two where it asks for two.

        Raises NumericalError, naming step and layer, if an answer is not finite; only sensible for one run at a time,
        so the engine evaluates a failing batch again run by run.
        """
        windows = runs[0].job.windows
        return self._whole(runs) if windows is None else windows.answers(runs, self._whole)

    def _whole(self, runs: Sequence[Run]) -> list[Tensor]:
        batch = self._batch(runs)
        # One network writes a channel more, which nobody reads.
        output = self._evaluate(batch)[:, : runs[0].query.x.shape[0]]
        outputs = torch.split(output.to(torch.float32), [len(rule.rows()) for rule in batch.rules])
        answers = [self._answer(*each) for each in zip(runs, batch.rules, outputs, strict=True)]
        for run, answer in zip(runs, answers, strict=True):
            if not is_finite(answer):
                raise self._diagnosis(run)
        return answers

    def _batch(self, runs: Sequence[Run]) -> Batch:
        xs: list[Tensor] = []
        timesteps: list[float] = []
        rules = [run.guidance for run in runs]
        with torch.no_grad():
            keys_values = [run.keys_values(self.unet, rule.rows()) for run, rule in zip(runs, rules, strict=True)]
        for run, rule in zip(runs, rules, strict=True):
            x, names = run.query.x, rule.rows()
            # The network was trained on inputs of unit variance (Karras et al. 2022, Table 1, c_in for VP).
            rows = (x * network_scale(run.query.sigma)).expand(len(names), *x.shape)
            if (beside := run.job.beside) is not None:
                further = torch.stack([beside.get(name, beside["cond"]) for name in names])
                rows = torch.cat([rows, further.to(rows.device, rows.dtype)], dim=1)
            xs.append(rows)
            timesteps += [run.job.timestep(run.query.sigma)] * len(names)
        return Batch(
            run=runs[0],
            rules=rules,
            x=torch.cat(xs).to(self.unet.device, self.unet.dtype, memory_format=torch.channels_last),
            timesteps=torch.tensor(timesteps, dtype=torch.float32, device=self.unet.device),
            keys_values=keys_values[0] if len(keys_values) == 1 else KeysValues.concat(keys_values),
        )

    def _answer(self, run: Run, rule: Guidance, rows: Tensor) -> Tensor:
        query, prediction = run.query, run.job.prediction
        by_row = dict(zip(rule.rows(), rows.to(query.x.device), strict=True))
        guided = denoised_from(rule.answer(by_row), query.x, query.sigma, prediction)
        if not query.unconditioned:
            return guided
        assert run.job.guidance.unconditioned, (
            "a sampler that asks for the unconditioned estimate needs its guidance to"
        )
        if not rule.unconditioned:  # nothing is guided now
            return torch.stack([guided, guided])
        return torch.stack([guided, denoised_from(by_row["uncond"], query.x, query.sigma, prediction)])

    def _diagnosis(self, run: Run) -> NumericalError:
        query = run.query
        where = f"at step {run.place} (sigma {query.sigma:.4g})"
        if not is_finite(query.x):
            return NumericalError(
                f"the latents themselves were not finite {where}, before the network saw them; check the latents "
                "or the callback that supplied them"
            )
        batch = self._batch([run])
        layer = first_nonfinite_layer(self.unet, lambda: self._evaluate(batch))
        dtype = str(batch.x.dtype).removeprefix("torch.")
        place = f"U-Net layer {layer!r}" if layer else "guidance, after the U-Net"
        hint = (
            "use float32 or bfloat16"
            if batch.x.dtype == torch.float16
            else "the weights or the conditioning are damaged"
        )
        return NumericalError(f"NaN or infinity arose in {place} {where}, computing in {dtype}; {hint}")

    def _evaluate(self, batch: Batch) -> Tensor:
        """The network's answer for the rows of a batch."""
        job = batch.run.job
        with torch.no_grad(), job.adapters.beside("unet", self.unet), wrapping(job.wraps, self.unet):
            changes = {"perturbed": self._perturbed(batch), "freeu": job.freeu}
            said = {name: change for name, change in changes.items() if change is not None}
            return self._evaluation(unet_task(self.unet, batch.x, batch.timesteps, batch.keys_values, said))

    def _perturbed(self, batch: Batch) -> Perturbed | None:
        """Which rows of a batch ask for a perturbed network; None for none."""
        asking = [is_perturbed(name) for rule in batch.rules for name in rule.rows()]
        perturbation = batch.run.job.guidance.perturbation
        if perturbation is None or not any(asking):
            return None
        return self.unet.perturbing(perturbation.layers, asking)
