"""Where an image's noise comes from: its own seed, on the CPU, whatever device, batch or neighbours it has."""

import torch
from torch import Tensor

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

    def draw_shared(self, rows: int) -> Tensor:
        """The next noise, of `rows` that a batch's images share by turns: one for all where the batch begins from a single picture."""
        rows = min(rows, self.count)
        drawn = torch.randn((rows, *self.shape), generator=self._generator, dtype=torch.float32)
        return drawn[self.index % rows]

    def generator_state(self) -> bytes:
        """The generator's state, as `state` takes it: a source made with it draws what this one would draw next."""
        return self._generator.get_state().numpy().tobytes()
