"""What a sampler says and is told.

A sampler is a generator. It yields a `Query` and is sent the denoised tensor; at the end of each step it yields a `Step` and is
sent the x to go on with, which is the one it offered unless a mask or a callback changed it. It returns the x of the last level.
Closing the generator at any yield abandons the run; nothing is left behind, because all its state is in its local variables.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Query:
    """A sampler's question: what is x, at this sigma, without its noise? The answer has the shape of x, in float32.

    With `unconditioned` it also asks for the estimate without the prompt: the answer then is two of that shape, the guided and
    the unconditioned one, stacked.
    """

    x: Tensor
    sigma: float
    unconditioned: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """The end of a step: x at the level now reached, and the last denoised tensor, good as a preview. The answer is an x."""

    x: Tensor
    sigma: float
    denoised: Tensor


Sampling: TypeAlias = Generator[Query | Step, Tensor, Tensor]
"""A sampler at work: yields queries and steps, is sent tensors, returns x at the last level."""

Denoiser: TypeAlias = Callable[[Tensor, float], Tensor]
"""Answers a query: `(x, sigma) -> denoised`."""

Noise: TypeAlias = Callable[[], Tensor]
"""Draws the next standard normal tensor, of the shape of x, from an image's own source."""

NoisePath: TypeAlias = Callable[[float, float], Tensor]
"""Standard normal noise of the way from one level to another, on an image's own Brownian path: `(sigma, sigma_next) -> noise`."""

NoisePathFrom: TypeAlias = Callable[[float, float, int | None], NoisePath]
"""Begins a path between two levels, from an image's own seed or the one given: `(low, high, seed) -> path`."""


def run(sampling: Sampling, denoise: Denoiser) -> Tensor:
    """Drive one sampler to its end, taking every step as it is offered; return its x at the last level.

    There is no guidance here: whoever asks for the unconditioned estimate too gets the same one twice.
    """
    answer: Tensor | None = None
    while True:
        try:
            asked = next(sampling) if answer is None else sampling.send(answer)
        except StopIteration as end:
            return end.value
        if isinstance(asked, Step):
            answer = asked.x
            continue
        answer = denoise(asked.x, asked.sigma)
        if asked.unconditioned:
            answer = torch.stack([answer, answer])
