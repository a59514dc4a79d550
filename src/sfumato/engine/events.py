"""What the engine tells whoever drives it, one value an occurrence."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sfumato.errors import SfumatoError


@dataclass(slots=True, eq=False)
class StepDone:
    """One image finished one step.

    `image` is the ticket that `Engine.submit` gave; `step` counts from 1 to `steps`, which
    is None where the sampler takes as many as it needs; `sigma` is the level reached, in
    latent standard deviations. `x` is the image's state at that level and `denoised` the network's latest estimate of
    the finished latents, both `channels h w`, float32. Whoever receives the event may put another tensor into `x`
    (an inpainting mask, a callback): the sampler goes on from it once every event of the round has been handed out.
    """

    image: int
    step: int
    steps: int | None
    sigma: float
    x: Tensor
    denoised: Tensor
    decode: Callable[[Tensor], Any] | None = None

    def preview(self) -> Any:
        """The picture as it looks now: `denoised`, decoded. Costs one decoding; None when the engine has no decoder."""
        return None if self.decode is None else self.decode(self.denoised)


@dataclass(frozen=True, slots=True, eq=False)
class ImageDone:
    """One image is finished: `x` is its state at the last level, `channels h w`, float32; `notes` say what has to be known of it."""

    image: int
    x: Tensor
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageFailed:
    """One image could not be finished; the others go on. `error` says why (Cancelled when it was asked for)."""

    image: int
    error: SfumatoError


Event = StepDone | ImageDone | ImageFailed
