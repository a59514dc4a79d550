"""Pictures larger than a model composes, or memory holds: one image's question is put to the network window by window.

Each window is a picture of its own to the network; where windows overlap, their answers are averaged, at every question anew, so that all
of them go on from one x. No sampler knows of it. Source: Bar-Tal et al. 2023, arXiv:2302.08113, Eq. 5, whose weights are smooth here: an
answer counts most in the middle of its window and, over the overlap, less and less towards its edge.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from itertools import product
from typing import TypeAlias

import torch
from torch import Tensor

from sfumato.engine.job import Job, Run
from sfumato.models.convolution import Axes

Answer: TypeAlias = Callable[[Sequence[Run]], list[Tensor]]
"""The denoised estimates that the pending queries of some runs ask for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Windows:
    """Windows of `height` by `width` latents over a larger x, which overlap by `overlap` at least."""

    height: int
    width: int
    overlap: int

    def __post_init__(self) -> None:
        assert 0 <= self.overlap < min(self.height, self.width), "windows that don't advance"

    def answers(self, runs: Sequence[Run], answer: Answer) -> list[Tensor]:
        """What the queries ask for, one window of all the runs at a time. The runs' x have one shape.

        Where one window holds all of x, it is asked as if there were none.
        """
        wraps = runs[0].job.wraps
        height, width = runs[0].query.x.shape[-2:]
        rows = _along(height, self.height, self.overlap, wraps=-2 in wraps)
        columns = _along(width, self.width, self.overlap, wraps=-1 in wraps)
        if len(rows) == len(columns) == 1:
            return answer(runs)
        # Along an axis with several windows, they wrap and what is inside one does not.
        inside = frozenset(dim for dim, strips in ((-2, rows), (-1, columns)) if dim in wraps and len(strips) == 1)
        sums: list[Tensor] | None = None
        for down, across in product(rows, columns):
            seen = [_seen(run, down.places, across.places, inside) for run in runs]
            answers = answer(seen)
            for run, one in zip(runs, seen, strict=True):
                run.widened = one.widened  # what overflowed in this window is wide for the next
            if sums is None:
                sums = [each.new_zeros(*each.shape[:-2], height, width) for each in answers]
            for total, each in zip(sums, answers, strict=True):
                share = (down.share[:, None] * across.share).to(each.device)
                total[..., down.places[:, None], across.places] += each * share
        assert sums is not None
        return sums


@dataclass(frozen=True, slots=True, eq=False)
class _Strip:
    """Where a window lies along one axis, and its share in the answer at each place: those of all windows add up to 1."""

    places: Tensor
    share: Tensor


def _along(length: int, window: int, overlap: int, *, wraps: bool) -> list[_Strip]:
    """The windows along an axis, at even distances; as few as overlap by so much."""
    window = min(window, length)
    if window == length:
        return [_Strip(torch.arange(length), torch.ones(length))]
    stride = window - overlap
    if wraps:
        count = math.ceil(length / stride)
        starts = [place * length // count for place in range(count)]
    else:
        count = math.ceil((length - window) / stride) + 1
        starts = [place * (length - window) // (count - 1) for place in range(count)]
    weight = _weights(window, overlap)
    total = torch.zeros(length)
    places = [torch.arange(start, start + window) % length for start in starts]
    for each in places:
        total[each] += weight
    return [_Strip(each, weight / total[each]) for each in places]


def _weights(window: int, overlap: int) -> Tensor:
    """A window's weight along one axis: sin² from its edge over the overlap, 1 between; nowhere 0."""
    from_edge = torch.arange(window).minimum(torch.arange(window).flip(0)) + 0.5
    return torch.sin((from_edge / max(overlap, 1)).clamp(max=1) * (math.pi / 2)) ** 2 if overlap else torch.ones(window)


def _seen(run: Run, rows: Tensor, columns: Tensor, wraps: Axes) -> Run:
    """The run as it is seen through a window: of its query, and of what its network reads beside, only that part."""

    def part(x: Tensor) -> Tensor:
        return x[..., rows.to(x.device)[:, None], columns.to(x.device)]

    query, job = run.query, run.job
    seen = copy(run)
    seen.pending = replace(query, x=part(query.x))
    seen.job = replace(job, windows=None, wraps=wraps, beside=_parts(job, part))
    return seen


def _parts(job: Job, part: Callable[[Tensor], Tensor]) -> Mapping[str, Tensor] | None:
    return None if job.beside is None else {name: part(beside) for name, beside in job.beside.items()}
