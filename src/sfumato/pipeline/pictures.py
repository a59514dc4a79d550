"""The pictures that a call is given, in whatever form: what they hold, and what a recipe says of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from sfumato.errors import OptionError
from sfumato.models.convolution import NOWHERE, Axes
from sfumato.pipeline.resizing import ResizeMode, resized
from sfumato.recipe import pixels_sha256

Box = tuple[int, int, int, int]
"""Left, top, right and bottom of a part of a picture, in pixels."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Pictures:
    """Pictures of one option of a call: `images` of 8 bits, or else one `tensor` of all, `n c h w` as it was given.

    `records` are what recipes say of pictures that were made on the way, and lie in no file.
    A tensor of 3 channels (1, for a mask) holds pixels in [0, 1], or in [-1, 1] where one is below 0; of more it holds latents.
    """

    images: tuple[Image.Image, ...] = ()
    tensor: Tensor | None = None
    records: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def of(cls, name: str, given: Any, *, channels: int = 3) -> "Pictures":
        """The pictures given for the option `name`: PIL images, arrays, tensors, or a list of one kind.

        Raises OptionError for anything else. Arrays are `h w c` or `n h w c`, tensors `c h w` or `n c h w`; a mask needs no channel.
        """
        if isinstance(given, Pictures):
            return given
        several: list[Any] = list(given) if isinstance(given, list | tuple) else [given]
        if several and all(isinstance(one, Image.Image) for one in several):
            return cls(images=tuple(_plain(one, channels) for one in several))
        if several and all(isinstance(one, np.ndarray) and one.dtype == np.uint8 for one in several):
            rows = [row for one in several for row in (one if _is_batch(one, channels) else [one])]
            if not all(row.ndim == 2 or (row.ndim == 3 and row.shape[-1] in CHANNELS) for row in rows):
                raise OptionError(f"{name} must be arrays h w c or n h w c, not {several[0].shape}")
            squeezed = [row[..., 0] if row.shape[-1] == 1 and row.ndim == 3 else row for row in rows]
            return cls(images=tuple(_plain(Image.fromarray(row), channels) for row in squeezed))
        if several and all(isinstance(one, np.ndarray) for one in several):
            return cls(tensor=torch.cat([_channels_first(name, one, channels) for one in several]))
        if several and all(isinstance(one, Tensor) and one.is_floating_point() for one in several):
            return cls(tensor=torch.cat([_batched(name, one, channels) for one in several]))
        kinds = ", ".join(sorted({type(one).__name__ for one in several})) or "an empty list"
        raise OptionError(f"{name} must be a picture (PIL, array or tensor) or a list of them, not {kinds}")

    def __len__(self) -> int:
        return len(self.images) if self.tensor is None else len(self.tensor)

    def is_latent(self, channels: int = 4) -> bool:
        """Whether these are latents already."""
        return self.tensor is not None and self.tensor.shape[1] == channels

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the first."""
        if self.tensor is None:
            return self.images[0].size
        return self.tensor.shape[-1], self.tensor.shape[-2]

    def pixels(
        self,
        width: int,
        height: int,
        mode: ResizeMode = "resize",
        box: Box | None = None,
        by: Image.Resampling = Image.Resampling.LANCZOS,
        axes: Axes = NOWHERE,
    ) -> Tensor:
        """Pixels `n 3 h w` in [-1, 1], float32 on the CPU, of the pictures, which wrap along `axes`, or of a part of each, in that size."""
        if self.tensor is None:
            parts = (one if box is None else one.crop(box) for one in self.images)
            scaled = [resized(one, width, height, mode, by, axes) for one in parts]
            return torch.stack([to_pixels(one) for one in scaled])
        tensor = _sized(self.tensor, width, height)
        return tensor if bool((tensor < 0).any()) else tensor * 2 - 1

    def grey(self, width: int, height: int, mode: ResizeMode = "resize", box: Box | None = None) -> Tensor:
        """Masks `n 1 h w` in [0, 1]."""
        if self.tensor is None:
            scaled = [resized(one if box is None else one.crop(box), width, height, mode) for one in self.images]
            return torch.stack([torch.from_numpy(np.array(one, dtype=np.float32) / 255)[None] for one in scaled])
        return _sized(self.tensor, width, height)

    def as_images(self) -> tuple[Image.Image, ...]:
        """The pictures in 8 bits, in their own size."""
        if self.tensor is None:
            return self.images
        unit = self.tensor.float().cpu()
        unit = unit / 2 + 0.5 if bool((unit < 0).any()) else unit
        rows = (unit.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        return tuple(Image.fromarray(row[..., 0] if row.shape[-1] == 1 else row) for row in rows)

    def recorded(self, index: int) -> dict[str, Any] | None:
        """What a recipe says of the picture that image `index` began from: hash of its RGB bytes, size and file; None for a tensor."""
        if self.records:
            return dict(self.records[index % len(self)])
        if not self.images:
            return None
        image = self.images[index % len(self)]
        pixels = np.asarray(image.convert("RGB"))
        record: dict[str, Any] = {"sha256": pixels_sha256(pixels), "width": image.width, "height": image.height}
        name = PurePath(str(image.info.get(FILE, ""))).name
        record |= {"file": name} if name else {}
        return record | ({"among": len(self)} if len(self) > 1 else {})


CHANNELS = (1, 3, 4)
"""Of arrays of bytes: grey, RGB, RGB with transparency."""

FILE = "sfumato file"
"""Where an opened picture remembers the name of its file."""


def to_pixels(image: Image.Image) -> Tensor:
    """`3 h w` in [-1, 1]."""
    return torch.from_numpy(np.array(image, dtype=np.float32) / 255 * 2 - 1).permute(2, 0, 1)


def _plain(image: Image.Image, channels: int) -> Image.Image:
    """The picture in RGB or grey, knowing its file's name."""
    named = getattr(image, "filename", "") or image.info.get(FILE, "")
    if image.mode.startswith("I"):  # 16 bits, which Pillow would cut off at 255
        image = Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
    plain = image.convert("L" if channels == 1 else "RGB")
    plain = plain.copy() if plain is image else plain
    plain.info[FILE] = str(named)
    return plain


def _is_batch(array: np.ndarray, channels: int) -> bool:
    """Whether an array of bytes holds several pictures; masks and depth maps may be without a channel."""
    return array.ndim == 4 or (channels == 1 and array.ndim == 3 and array.shape[-1] not in CHANNELS)


def _sized(tensor: Tensor, width: int, height: int) -> Tensor:
    tensor = tensor.detach().to("cpu", torch.float32)
    return tensor if tensor.shape[-2:] == (height, width) else F.interpolate(tensor, size=(height, width))


def _channels_first(name: str, array: np.ndarray, channels: int) -> Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(array)).float()
    if channels == 1 and tensor.shape[-1] != 1:
        tensor = tensor[..., None]
    tensor = tensor[None] if tensor.ndim == 3 else tensor
    return _batched(name, tensor.permute(0, 3, 1, 2) if tensor.ndim == 4 else tensor, channels)


def _batched(name: str, tensor: Tensor, channels: int) -> Tensor:
    if channels == 1 and tensor.ndim in (2, 3):
        tensor = tensor.reshape(-1, 1, *tensor.shape[-2:])
    tensor = tensor[None] if tensor.ndim == 3 else tensor
    if tensor.ndim != 4 or (channels == 1) != (tensor.shape[1] == 1):
        raise OptionError(f"{name} must be a batch of pictures, n {channels} h w, not {tuple(tensor.shape)}")
    return tensor


def check_counts(pictures: Sequence[tuple[str, Pictures | None]], images: int) -> None:
    """Raise OptionError unless each option has one picture for all images, or as many as divide them."""
    for name, given in pictures:
        if given is not None and (len(given) > images or images % len(given)):
            raise OptionError(f"{len(given)} pictures in {name} for {images} images; pass one, or one for each")
