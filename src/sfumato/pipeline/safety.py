"""The safety filter: runs a checkpoint's checker on finished pictures, replaces what it flags, and says so."""

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from PIL import Image

from sfumato.errors import ConfigError
from sfumato.models.safety_checker import SafetyChecker

BLOCKED = "the safety checker flagged this picture; it was replaced by a black one (safety_checker=None turns it off)"


class SafetyFilter:
    """A safety checker with the preparation of pictures that its `preprocessor_config.json` asks for."""

    def __init__(self, checker: SafetyChecker, preparation: Mapping[str, Any] | None) -> None:
        self._checker = checker
        self._prepare = Preparation.from_config(preparation or {})

    def __call__(self, picture: np.ndarray) -> tuple[np.ndarray, bool]:
        """The picture (`h w 3` uint8) to pass on, black if it was flagged, and whether it was."""
        weight = next(self._checker.parameters())
        prepared = torch.from_numpy(self._prepare(picture))[None].to(weight.device, weight.dtype)
        with torch.no_grad():
            flagged = bool(self._checker(prepared).flagged[0])
        return (np.zeros_like(picture) if flagged else picture), flagged


class Preparation:
    """CLIP's preparation of a picture: shortest side resized bicubically, centre cropped, normalised.

    Source: Radford et al. 2021, arXiv:2103.00020, and the fields of CLIPImageProcessor's config.
    """

    MEAN = (0.48145466, 0.4578275, 0.40821073)
    STD = (0.26862954, 0.26130258, 0.27577711)

    def __init__(self, resize: int, crop: tuple[int, int], mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        self._resize = resize
        self._crop = crop
        self._mean = np.asarray(mean, dtype=np.float32)
        self._std = np.asarray(std, dtype=np.float32)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Preparation":
        """Read from `preprocessor_config.json`. Raises ConfigError for sizes that are not whole numbers."""
        size, crop = config.get("size", 224), config.get("crop_size", 224)
        resize = size.get("shortest_edge") if isinstance(size, Mapping) else size
        height, width = (crop.get("height"), crop.get("width")) if isinstance(crop, Mapping) else (crop, crop)
        for name, value in (("size", resize), ("crop_size", height), ("crop_size", width)):
            if not isinstance(value, int) or value < 1:
                raise ConfigError(
                    f"preprocessor_config.json of the safety checker has no usable {name}; expected a whole number such as 224"
                )
        mean, std = tuple(config.get("image_mean", cls.MEAN)), tuple(config.get("image_std", cls.STD))
        return cls(cast(int, resize), (cast(int, height), cast(int, width)), mean, std)

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """`3 crop crop` float32 of an `h w 3` uint8 picture."""
        image = Image.fromarray(picture)
        scale = self._resize / min(image.size)
        size = tuple(self._resize if side == min(image.size) else int(scale * side) for side in image.size)
        image = image.resize((size[0], size[1]), Image.Resampling.BICUBIC)
        top, left = (image.height - self._crop[0]) // 2, (image.width - self._crop[1]) // 2
        image = image.crop((left, top, left + self._crop[1], top + self._crop[0]))
        values = np.asarray(image, dtype=np.float32) / 255
        return np.ascontiguousarray(((values - self._mean) / self._std).transpose(2, 0, 1))
