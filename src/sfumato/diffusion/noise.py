"""Where an image's noise comes from: its own seed, on the CPU, whatever device, batch or neighbours it has."""

import hashlib

import torch
from torch import Tensor

from sfumato.diffusion.brownian import BrownianPath
from sfumato.errors import OptionError


class NoiseSource:
    """Seeded standard normal float32 tensors for one image.

    With `count` > 1 the image is row `index` of a batch that other software draws from a single generator: each draw makes the
    whole batch and keeps one row, so that images of one seed differ, each can be made alone, and nothing is shared.
    `state` continues a generator from where it stood (see `generator_state`), in place of the seed.
    Raises OptionError for an index outside the count, a seed that is not a 64-bit integer, or bytes that are no generator state.
    """

    def __init__(
        self, seed: int, shape: tuple[int, ...], *, index: int = 0, count: int = 1, state: bytes | None = None
    ) -> None:
        if not 0 <= index < count:
            raise OptionError(f"noise row {index} of {count} does not exist; rows count from 0.")
        self.shape = tuple(shape)
        self.index = index
        self.count = count
        self._generator = torch.Generator("cpu")
        self._seed = seed if state is None else int.from_bytes(hashlib.sha256(state).digest()[:8], "big")
        try:
            if state is None:
                self._generator.manual_seed(seed)
            else:
                self._generator.set_state(torch.frombuffer(bytearray(state), dtype=torch.uint8))
        except (RuntimeError, TypeError, ValueError, OverflowError) as error:
            given = f"seed {seed!r}" if state is None else f"a generator state of {len(state)} bytes"
            raise OptionError(
                f"{given} can't start a noise source; give an integer of at most 64 bits, or the state of a CPU torch.Generator."
            ) from error

    def draw(self) -> Tensor:
        """The next noise: `shape`, float32, on the CPU."""
        return torch.randn((self.count, *self.shape), generator=self._generator, dtype=torch.float32)[self.index]

    def path(self, low: float, high: float, seed: int | None = None) -> BrownianPath:
        """A Brownian path between two levels, for the samplers that take noise from one; it moves no generator.

        It is determined by the image's seed, by the state where it goes on from one, or by `seed`; rows of a batch have their own.
        """

        def draw(node: int) -> Tensor:
            generator = torch.Generator("cpu").manual_seed(node)
            return torch.randn((self.count, *self.shape), generator=generator, dtype=torch.float32)[self.index]

        return BrownianPath(self._seed if seed is None else seed, low, high, draw)

    def generator_state(self) -> bytes:
        """The generator's state, as `state` takes it: a source made with it draws what this one would draw next."""
        return self._generator.get_state().numpy().tobytes()
