"""What can be asked of an image's noise beside its seed: which generator makes it, and three rules of AUTOMATIC1111's web UI."""

import math
import re
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sfumato.errors import OptionError, UnknownNameError

MOST_THREADS = 2**31

CARDS = {
    "gtx-1080-ti": 28 * 2048,
    "rtx-2080-ti": 68 * 1024,
    "rtx-3060": 28 * 1536,
    "rtx-3090": 82 * 1536,
    "rtx-4090": 128 * 1536,
    "t4": 40 * 1024,
    "l4": 58 * 1536,
    "p100": 56 * 2048,
    "v100": 80 * 2048,
    "a100": 108 * 2048,
    "h100": 132 * 2048,
}
"""Threads that a card has at work at once: its multiprocessors times the threads that one holds, as NVIDIA publishes them."""


@dataclass(frozen=True, slots=True)
class Rng:
    """Which generator makes the noise.

    `cpu`: torch's on the CPU, as diffusers with a CPU generator, and ComfyUI. `nv`: CUDA's, computed on the CPU; with `threads`, as a
    card with so many at once makes it, which matters for draws of more numbers than that.
    """

    kind: Literal["cpu", "nv"] = "cpu"
    threads: int | None = None

    @classmethod
    def parse(cls, text: object) -> "Rng":
        """`cpu`, `nv`, `nv:THREADS` or `nv:CARD`. Raises OptionError or UnknownNameError."""
        if not isinstance(text, str):
            raise OptionError(f"rng must be 'cpu', 'nv' or 'nv:CARD', not {text!r}")
        kind, colon, card = text.strip().lower().partition(":")
        if kind == "cpu" and not colon:
            return cls()
        if kind != "nv":
            raise OptionError(f"rng must be 'cpu', 'nv' or 'nv:CARD', not {text!r}")
        if not colon:
            return cls("nv")
        card = re.sub(r"[\s_]+", "-", card.strip())
        if card in CARDS:
            return cls("nv", CARDS[card])
        if not re.fullmatch(r"[0-9]{1,10}", card):
            raise UnknownNameError("card", card, CARDS)
        threads = int(card)
        if not 256 <= threads <= MOST_THREADS or threads % 256:
            raise OptionError(
                f"a card has a multiple of 256 threads at once, not {threads}; its multiprocessors times the threads that one holds"
            )
        return cls("nv", threads)

    @property
    def torch_device(self) -> str:
        """The type of the device whose generators draw so in torch."""
        return "cpu" if self.kind == "cpu" else "cuda"

    def __str__(self) -> str:
        return self.kind if self.threads is None else f"{self.kind}:{self.threads}"


@dataclass(frozen=True, kw_only=True, slots=True)
class NoiseRules:
    """How an image's noise is made from its seed.

    rng                    the generator
    subseed                the first draw is mixed with that of this seed …
    subseed_strength       … by so much: 0 is the seed's own, 1 the subseed's
    seed_resize            (width, height) in pixels: the first draw is that of a picture of this size, laid on the middle
    eta_noise_seed_delta   draws after the first come from a fresh generator, of the seed plus this (the web UI's ENSD); 0 goes on

    Raises OptionError for a strength outside 0 to 1, or one without a subseed; for sizes under 8.
    """

    rng: Rng = Rng()
    subseed: int | None = None
    subseed_strength: float = 0.0
    seed_resize: tuple[int, int] | None = None
    eta_noise_seed_delta: int = 0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.subseed_strength) and 0 <= self.subseed_strength <= 1):
            raise OptionError(f"subseed_strength must be from 0 to 1, not {self.subseed_strength!r}")
        if self.subseed_strength > 0 and self.subseed is None:
            raise OptionError("subseed_strength was given without a subseed; give the seed to vary towards")
        if self.seed_resize is not None and min(self.seed_resize) < 8:
            raise OptionError(
                f"seed_resize must be (width, height) in pixels, 8 or more each, not {self.seed_resize!r}"
            )


PLAIN = NoiseRules()
"""The CPU's noise of the seed, and nothing else."""


def slerp(amount: float, low: Tensor, high: Tensor) -> Tensor:
    """From `low` (amount 0) towards `high` (1) along great circles: mixed in between, noise keeps its length.

    The circles are those of the web UI, to the number: a latent's columns, one of each channel, are taken as the vectors. Tensors are
    `channels h w`. Where the two are nearly one its linear mix, which leads the other way, is kept too.
    Source: Shoemake 1985, "Animating rotation with quaternion curves"; AUTOMATIC1111, `modules/rng.py`.
    """
    cosine = (low / _lengths(low) * (high / _lengths(high))).sum(1)
    if cosine.mean() > 0.9995:
        return low * amount + high * (1 - amount)
    angle = torch.acos(cosine.clamp(-1, 1))
    sine = torch.sin(angle)
    of_low = (torch.sin((1.0 - amount) * angle) / sine).unsqueeze(1)
    of_high = (torch.sin(amount * angle) / sine).unsqueeze(1)
    # Columns that point the same way or opposite ways span no circle: a picture one latent high has no others.
    flat = (sine.abs() < 1e-6).unsqueeze(1)
    of_low, of_high = torch.where(flat, 1.0 - amount, of_low), torch.where(flat, amount, of_high)
    return of_low * low + of_high * high


def laid_on(noise: Tensor, ground: Tensor) -> Tensor:
    """The noise of another size on the middle of the `ground`: cut where it is larger, framed by the ground where it is smaller.

    Both `channels h w`. An odd difference is rounded as the web UI rounds it. Source: AUTOMATIC1111, `ImageRNG.first`.
    """
    out = ground.clone()
    spans: list[tuple[slice, slice]] = []
    for side in (1, 2):
        own, wanted = noise.shape[side], ground.shape[side]
        margin = (wanted - own) // 2
        length = own if margin >= 0 else own + 2 * margin
        start, skipped = max(margin, 0), max(-margin, 0)
        spans.append((slice(start, start + length), slice(skipped, skipped + length)))
    (to_h, from_h), (to_w, from_w) = spans
    out[:, to_h, to_w] = noise[:, from_h, from_w]
    return out


def _lengths(columns: Tensor) -> Tensor:
    """The length of each channel's columns."""
    return torch.linalg.vector_norm(columns, dim=1, keepdim=True)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
