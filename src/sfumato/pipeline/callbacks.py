"""The step callbacks of the field's public face, spoken to in their own terms."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from sfumato.diffusion.spacing import Levels
from sfumato.engine import Conditioning, StepDone
from sfumato.errors import OptionError, UnsupportedError, UsageError
from sfumato.pipeline.request import check_count
from sfumato.schedulers import Scheduler

TENSOR_INPUTS = ("latents", "prompt_embeds", "negative_prompt_embeds")
BESIDE_INPUTS = ("add_text_embeds", "add_time_ids", "negative_pooled_prompt_embeds", "negative_add_time_ids")
"""What callbacks of SDXL can have too: the pooled texts and the sizes that the network is told."""


class StepCallback:
    """Calls `callback_on_step_end(pipe, step, timestep, tensors)` once a step with the latents of the whole batch.

    PLMS evaluates its second timestep twice, first to correct its first step: one step here; diffusers counts two, and calls twice.

    The tensors a callback returns under "latents" become the images' x; they are in the scaling that the scheduler's
    latents have at that level, as callbacks written for diffusers expect. The embeddings can be read; changing them mid-run raises
    UnsupportedError, since the network's keys and values of the text are computed once.
    """

    def __init__(
        self,
        pipe: object,
        callback: Callable[[Any, int, Any, dict[str, Any]], Mapping[str, Any] | None],
        names: Sequence[str],
        *,
        scheduler: Scheduler,
        levels: Levels,
        rows: Sequence[Mapping[str, Conditioning]],
    ) -> None:
        told = rows[0]["cond"].told is not None and rows[0]["cond"].told.sizes is not None
        known = (*TENSOR_INPUTS, *BESIDE_INPUTS) if told else TENSOR_INPUTS
        if unknown := [name for name in names if name not in known]:
            raise OptionError(
                f"callback_on_step_end_tensor_inputs names {', '.join(unknown)}; a callback can have {', '.join(known)}"
            )
        self._pipe = pipe
        self._callback = callback
        self._names = tuple(names)
        self.changed = False
        self._scale = scheduler.latents_scale
        self._levels, self._schedule = levels, scheduler.noise_schedule
        self._began: dict[int, float] = {}  # the level that each image's step began at
        sides = [side for side in ("cond", "uncond") if all(side in row for row in rows)]
        # Prompts with emphasis have contexts of their own lengths: the shorter ones end in zeros here.
        self._embeds = {
            name: pad_sequence([row[side].context for row in rows], batch_first=True)
            for side, name in zip(sides, TENSOR_INPUTS[1:], strict=False)
        }
        for side, names_told in zip(sides, (BESIDE_INPUTS[:2], BESIDE_INPUTS[2:]), strict=False):
            for name, part in zip(names_told, ("pooled", "sizes"), strict=True):
                if told:
                    self._embeds[name] = torch.cat([getattr(row[side].told, part) for row in rows])

    def __call__(self, events: Sequence[StepDone]) -> None:
        """Call the callback for one finished step and put back what it returns."""
        step = events[0].step - 1
        scale = self._scale(events[0].sigma)
        alive = [event.image for event in events]
        tensors: dict[str, Any] = {name: rows[alive] for name, rows in self._embeds.items()}
        # In the networks' own dtype, as diffusers has them: callbacks decode them, or feed them to other parts.
        tensors["latents"] = (torch.stack([event.x for event in events]) * scale).to(tensors["prompt_embeds"].dtype)
        before = tensors["latents"].clone()
        offered = {name: tensors[name] for name in self._names if name in tensors}
        began = self._began.get(alive[0], self._levels.sigmas[0])
        timestep = torch.tensor(self._levels.timestep(began, self._schedule))
        self._began |= {event.image: event.sigma for event in events}
        guidance = getattr(self._pipe, "_guidance_scale", None)
        returned = self._callback(self._pipe, step, timestep, dict(offered))
        if returned is None:
            returned = {}
        if not isinstance(returned, Mapping):
            raise OptionError(f"the step callback must return a dict of tensors or None, not {type(returned).__name__}")
        if getattr(self._pipe, "_guidance_scale", None) != guidance:
            raise UnsupportedError(
                "the step callback changed _guidance_scale; guidance stays the same while an image is being made"
            )
        for name, value in returned.items():
            if name != "latents" and value is not offered.get(name):
                raise UnsupportedError(
                    f"the step callback replaced {name}; only latents can be replaced while an image is being made"
                )
        latents = returned.get("latents")
        if latents is None or latents is offered.get("latents"):
            # In-place changes are changes too: x is only left alone when the callback never had the latents.
            latents = offered.get("latents")
        if latents is None:
            return
        if not isinstance(latents, Tensor) or latents.shape != before.shape:
            found = tuple(latents.shape) if isinstance(latents, Tensor) else type(latents).__name__
            raise OptionError(
                f"the step callback returned latents that are {found}; expected a tensor {tuple(before.shape)}"
            )
        if torch.equal(latents.to(before.device, before.dtype), before):
            return
        self.changed = True
        for event, row in zip(events, latents.to(before.device, torch.float32), strict=True):
            event.x = row / scale


def legacy_callback(callback: Callable[[int, Any, Tensor], None], every: int) -> Callable[..., dict[str, Any]]:
    """The older `callback(step, timestep, latents)`, called every `every` steps, as a step-end callback."""

    def call(_pipe: object, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if step % every == 0:
            callback(step, timestep, tensors["latents"])
        return {}

    return call


def callback_of(
    others: dict[str, Any], on_step_end: Callable[..., Any] | None, names: Sequence[str]
) -> tuple[Callable[..., Any] | None, Sequence[str]]:
    """The step callback of a call, also from the older `callback`; refuses every other option that was not understood.

    Raises UnsupportedError, or UsageError for two callbacks.
    """
    legacy, every = others.pop("callback", None), others.pop("callback_steps", 1)
    for name, value in others.items():
        if value is not None:
            raise UnsupportedError(f"the option {name}={value!r} is not available in this pipeline; leave it out")
    if legacy is None:
        return on_step_end, names
    if on_step_end is not None:
        raise UsageError("both callback and callback_on_step_end were given; pass one of them")
    return legacy_callback(legacy, check_count("callback_steps", every)), ("latents",)
