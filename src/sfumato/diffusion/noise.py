"""Where an image's noise comes from: its own seed, on the CPU, whatever device, batch or neighbours it has."""

import hashlib
from typing import Protocol

import torch
from torch import Tensor

from sfumato.diffusion.brownian import BrownianPath
from sfumato.diffusion.noise_philox import PhiloxGenerator
from sfumato.diffusion.noise_rules import PLAIN, NoiseRules, Rng, laid_on, slerp
from sfumato.errors import OptionError


class Generator(Protocol):
    """Draws standard normal numbers, and can say where it stands."""

    def row(self, shape: tuple[int, ...], which: int, count: int) -> Tensor:
        """Row `which` of the next draw of `count` rows of `shape`: float32, on the CPU."""
        ...

    def state(self) -> bytes:
        """Where it stands, for another to go on from."""
        ...


class CpuGenerator:
    """torch's generator on the CPU."""

    def __init__(self, seed: int, state: bytes | None = None) -> None:
        self._generator = torch.Generator("cpu")
        if state is None:
            self._generator.manual_seed(seed)
        else:
            self._generator.set_state(torch.frombuffer(bytearray(state), dtype=torch.uint8))

    def row(self, shape: tuple[int, ...], which: int, count: int) -> Tensor:
        """Row `which` of the next draw: the whole batch is made, because no part of it can be made alone."""
        return torch.randn((count, *shape), generator=self._generator, dtype=torch.float32)[which]

    def state(self) -> bytes:
        """As `torch.Generator.get_state` has it."""
        return self._generator.get_state().numpy().tobytes()


class NoiseSource:
    """Seeded standard normal float32 tensors for one image.

    With `count` > 1 the image is row `index` of a batch that other software draws from a single generator: each draw is the
    whole batch's and one row is kept, so that images of one seed differ, each can be made alone, and nothing is shared.
    `state` continues a generator from where it stood (see `generator_state`), in place of the seed. `rules` say which generator it is,
    and what else becomes of its draws; `scale` is how many pixels a latent is wide, for the sizes in them.
    Raises OptionError for an index outside the count, a seed that is not a 64-bit integer, or bytes that are no generator state.
    """

    def __init__(
        self,
        seed: int,
        shape: tuple[int, ...],
        *,
        index: int = 0,
        count: int = 1,
        state: bytes | None = None,
        rules: NoiseRules = PLAIN,
        scale: int = 8,
    ) -> None:
        if not 0 <= index < count:
            raise OptionError(f"noise row {index} of {count} does not exist; rows count from 0.")
        self.seed = seed
        self.shape = tuple(shape)
        self.index = index
        self.count = count
        self.rules = rules
        self._generator = generator_of(rules.rng, seed, state)
        self._later: Generator | None = None
        self._start = state
        self._small = self._smaller(scale)
        self._is_first = True

    def draw(self) -> Tensor:
        """The next noise: `shape`, float32, on the CPU."""
        if self._is_first:
            self._is_first = False
            if self.rules.eta_noise_seed_delta:
                self._later = generator_of(self.rules.rng, self.seed + self.rules.eta_noise_seed_delta)
            return self._first()
        return (self._later or self._generator).row(self.shape, self.index, self.count)

    def path(self, low: float, high: float, seed: int | None = None) -> BrownianPath:
        """A Brownian path between two levels, for the samplers that take noise from one; it moves no generator.

        It is determined by the image's seed, by the state where it goes on from one, or by `seed`; rows of a batch have their own.
        """

        def draw(node: int) -> Tensor:
            return generator_of(self.rules.rng, node).row(self.shape, self.index, self.count)

        if seed is None:
            seed = self.seed if self._start is None else seed_of(self._start)
        return BrownianPath(seed, low, high, draw)

    def draw_shared(self, rows: int, shape: tuple[int, ...] | None = None) -> Tensor:
        """The next noise, of `rows` that a batch's images share by turns: one for all where the batch begins from a single picture.

        It is of another `shape` where that is given. It is not the first draw that the rules are about: that is the noise of the picture
        to be made.
        """
        rows = min(rows, self.count)
        return self._generator.row(self.shape if shape is None else shape, self.index % rows, rows)

    def generator_state(self) -> bytes:
        """The generator's state, as `state` takes it: a source made with it draws what this one would draw next, rules aside."""
        return self._generator.state()

    def _first(self) -> Tensor:
        """The draw that the image begins with."""
        noise = self._generator.row(self.shape, self.index, self.count)
        if self._small is None:
            return self._varied(noise)
        # The smaller picture's noise is its own generator's first draw; the larger one's is the frame around it.
        small = generator_of(self.rules.rng, self.seed, self._start).row(self._small, self.index, self.count)
        return laid_on(self._varied(small), noise)

    def _varied(self, noise: Tensor) -> Tensor:
        if self.rules.subseed is None or not self.rules.subseed_strength:
            return noise
        other = generator_of(self.rules.rng, self.rules.subseed).row(tuple(noise.shape), 0, 1)
        return slerp(self.rules.subseed_strength, noise, other)

    def _smaller(self, scale: int) -> tuple[int, ...] | None:
        """The shape of the picture that `seed_resize` names; None where it is this one's, or none is named."""
        if self.rules.seed_resize is None:
            return None
        width, height = self.rules.seed_resize
        if min(width, height) < scale:
            raise OptionError(
                f"seed_resize is {width}x{height}; this model's pictures have {scale} pixels a side or more"
            )
        shape = (self.shape[0], height // scale, width // scale)
        return None if shape == self.shape else shape


def seed_of(state: bytes) -> int:
    """A seed of 63 bits that stands for a generator's state, where another generator is to be seeded; a number may still be added to it."""
    return int.from_bytes(hashlib.sha256(state).digest()[:8], "big") >> 1


def generator_of(rng: Rng, seed: int, state: bytes | None = None) -> Generator:
    """The generator of a kind, freshly seeded or, with `state`, where one stood. Raises OptionError for no seed, or no state."""
    try:
        if rng.kind == "cpu":
            return CpuGenerator(seed, state)
        if state is not None:
            return PhiloxGenerator.of_state(state, threads=rng.threads)
        return PhiloxGenerator(seed, threads=rng.threads)
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        given = f"seed {seed!r}" if state is None else f"a generator state of {len(state)} bytes"
        kind = "a CPU torch.Generator" if rng.kind == "cpu" else "a CUDA torch.Generator"
        raise OptionError(
            f"{given} can't start a noise source; give an integer of at most 64 bits, or the state of {kind}."
        ) from error
