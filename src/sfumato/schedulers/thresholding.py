"""Dynamic thresholding: estimates held to the range of data while a run goes on, for the classes that have the option.

It is meant for pictures, whose values lie in [-1, 1]; those of Stable Diffusion's latents don't, and are dulled by it.
"""

from typing import Protocol

from torch import Tensor

from sfumato.diffusion.conversation import Query, Sampling
from sfumato.errors import OptionError


class Thresholds(Protocol):
    """The options, as diffusers names them."""

    @property
    def thresholding(self) -> bool: ...  # noqa: D102
    @property
    def dynamic_thresholding_ratio(self) -> float: ...  # noqa: D102
    @property
    def sample_max_value(self) -> float: ...  # noqa: D102
    @property
    def unit(self) -> float: ...  # noqa: D102


def dynamic_threshold(denoised: Tensor, *, ratio: float, most: float) -> Tensor:
    """One image's estimate of any shape, held to [-s, s] and divided by s, the value that a share `ratio` of it does not pass, from 1 to `most`.

    Source: Saharia et al. 2022, arXiv:2205.11487, section 2.3.
    """
    s = denoised.abs().flatten().quantile(ratio).clamp(1.0, most)
    return denoised.clamp(-s, s) / s


def thresholded(scheduler: Thresholds, sampling: Sampling) -> Sampling:
    """The sampling, told thresholded estimates where the scheduler says so.

    Raises OptionError for a ratio outside 0 … 1, or a largest value below 1.
    """
    check_thresholding(scheduler)
    return _thresholding(scheduler, sampling) if scheduler.thresholding else sampling


def check_thresholding(scheduler: Thresholds) -> None:
    """Raise OptionError for a ratio outside 0 … 1, or a largest value below 1, where they matter."""
    if not scheduler.thresholding:
        return
    if not 0 <= scheduler.dynamic_thresholding_ratio <= 1:
        raise OptionError(
            f"dynamic_thresholding_ratio {scheduler.dynamic_thresholding_ratio} is no share; give 0 to 1."
        )
    if not scheduler.sample_max_value >= 1:
        raise OptionError(
            f"sample_max_value {scheduler.sample_max_value} is out of range; give a number of at least 1."
        )


def _thresholding(scheduler: Thresholds, sampling: Sampling) -> Sampling:
    ratio, most = scheduler.dynamic_thresholding_ratio, scheduler.sample_max_value
    said = next(sampling)
    while True:
        answer = yield said
        if isinstance(said, Query):
            answer = dynamic_threshold(answer * scheduler.unit, ratio=ratio, most=most) / scheduler.unit
        try:
            said = sampling.send(answer)
        except StopIteration as end:
            return end.value
