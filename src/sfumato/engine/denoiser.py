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
from sfumato.engine.fast import joined
from sfumato.engine.health import first_nonfinite_layer, is_finite
from sfumato.engine.job import Job, Run
from sfumato.engine.memory import Economy
from sfumato.engine.repair import HALVES, named, repaired
from sfumato.errors import NumericalError
from sfumato.models.attention import Perturbed
from sfumato.models.convolution import wrapping
from sfumato.models.deep_features import DeepFeatures
from sfumato.models.unet import KeysValues, UNet
from sfumato.models.widening import widened


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Batch:
    """Rows of runs that are evaluated at once: what the network reads, and the guidance that asked for them, run by run.

    `deep` is what lies inside the network, where that is kept. `run` is one of the runs: in what changes the network they are alike (see `batches`).
    """

    run: Run
    rules: Sequence[Guidance]
    x: Tensor
    timesteps: Tensor
    keys_values: KeysValues
    deep: DeepFeatures | None = None


class Denoiser:
    """Evaluates the rows of one or more runs in a single batch of the network."""

    def __init__(self, unet: UNet, economy: Economy | None = None, evaluation: Evaluation | None = None) -> None:
        self.unet = unet
        self._economy = economy or Economy()
        self._evaluation = evaluation or Evaluation()

    def __call__(self, runs: Sequence[Run]) -> list[Tensor]:
        """The denoised estimate each run's pending query asks for, `channels h w` each, float32, where its x is; two where it asks for two.

        What overflows in half precision is computed in float32. Raises NumericalError, naming step and layer, if an answer is not finite
        all the same; only sensible for one run at a time, so the engine evaluates a failing batch again run by run.
        """
        windows = runs[0].job.windows
        return self._whole(runs) if windows is None else windows.answers(runs, self._whole)

    def _whole(self, runs: Sequence[Run]) -> list[Tensor]:
        batch = self._batch(runs)
        answers = self._answers(batch, runs, *self._evaluate(batch))
        if all(is_finite(answer) for answer in answers):
            return answers
        if len(runs) > 1:
            raise NumericalError("NaN or infinity arose in a batch of several images")
        return [self._repaired(runs[0])]

    def _answers(self, batch: Batch, runs: Sequence[Run], output: Tensor, deep: Tensor | None) -> list[Tensor]:
        """The runs' answers, of what the network wrote, and of what lay inside it where that is to be remembered."""
        counts = [len(rule.rows()) for rule in batch.rules]
        if deep is not None:
            for run, rule, features in zip(runs, batch.rules, torch.split(deep, counts), strict=True):
                run.remembered.keep(rule.rows(), features)
        # One network writes a channel more, which nobody reads.
        written = output[:, : runs[0].query.x.shape[0]].to(torch.float32)
        return [self._answer(*each) for each in zip(runs, batch.rules, torch.split(written, counts), strict=True)]

    def _repaired(self, run: Run) -> Tensor:
        """The answer for a run whose own was not finite, with as much of the network in float32 as it takes, from now to its end.

        Raises NumericalError where that is of no help.
        """
        batch = self._batch([run])
        deep: Tensor | None = None

        def evaluate() -> Tensor:
            nonlocal deep
            output, deep = self._evaluate(batch)
            return output

        if batch.x.dtype in HALVES and is_finite(run.query.x):
            found = repaired(self.unet, evaluate, run.widened)
            answer = None if found is None else self._answers(batch, [run], found[0], deep)[0]
            if found is not None and answer is not None and is_finite(answer):
                run.widened = found[1]
                dtype = str(batch.x.dtype).removeprefix("torch.")
                run.notes.append(
                    f"the U-Net overflowed in {dtype} at step {run.place}: {named(found[1])} was computed in float32 from there on"
                )
                return answer
        raise self._diagnosis(run)

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
            deep=joined([run.remembered.deep(rule.rows()) for run, rule in zip(runs, rules, strict=True)]),
        )

    def _answer(self, run: Run, rule: Guidance, rows: Tensor) -> Tensor:
        query, prediction = run.query, run.job.prediction
        by_row = dict(zip(rule.rows(), rows.to(query.x.device), strict=True))
        if run.remembered.options.adaptive is not None:
            estimates = {name: denoised_from(row, query.x, query.sigma, prediction) for name, row in by_row.items()}
            run.remembered.compare(query.x, query.sigma, estimates)
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
        layer = first_nonfinite_layer(self.unet, lambda: self._evaluate(batch)[0])
        dtype = str(batch.x.dtype).removeprefix("torch.")
        place = f"U-Net layer {layer!r}" if layer else "guidance, after the U-Net"
        hint = (
            "use float32 or bfloat16"
            if batch.x.dtype == torch.float16
            else "the weights or the conditioning are damaged"
        )
        return NumericalError(f"NaN or infinity arose in {place} {where}, computing in {dtype}; {hint}")

    def _evaluate(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """The network's answer for the rows of a batch, and what lay inside it, if that is kept and was computed."""
        job, kept = batch.run.job, batch.deep
        asking = [is_perturbed(name) for rule in batch.rules for name in rule.rows()]
        merging = self.unet.merging_positions(job.fast.merge) if job.fast.merge else None
        inside: list[Tensor] = []

        def evaluate(rows: slice) -> Tensor:
            deep = None if kept is None else kept.of(rows)
            changes = {
                "perturbed": self._perturbed(job, asking[rows]),
                "freeu": job.freeu,
                "merging": merging,
                "deep": deep,
            }
            said = {name: change for name, change in changes.items() if change is not None}
            keys_values = batch.keys_values.rows(rows.start, rows.stop)
            output = self._evaluation(unet_task(self.unet, batch.x[rows], batch.timesteps[rows], keys_values, said))
            if deep is not None and deep.features is not None:
                inside.append(deep.features)
            return output

        beside, wide = job.adapters.beside("unet", self.unet), widened(self.unet, batch.run.widened)
        with torch.no_grad(), beside, wrapping(job.wraps, self.unet), wide:
            output = self._economy.evaluated(evaluate, len(batch.x))
        return output, torch.cat(inside) if inside and kept is not None and kept.features is None else None

    def _perturbed(self, job: Job, asking: Sequence[bool]) -> Perturbed | None:
        """Which rows ask for a perturbed network; None for none."""
        perturbation = job.guidance.perturbation
        if perturbation is None or not any(asking):
            return None
        return self.unet.perturbing(perturbation.layers, asking)
