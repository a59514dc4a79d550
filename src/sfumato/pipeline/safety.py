"""The safety filter: asks a checkpoint's checker, or a function in its place, about finished pictures."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from sfumato.engine.health import is_finite
from sfumato.errors import ConfigError, NumericalError, UnsupportedError
from sfumato.models.safety_checker import SafetyChecker

BLOCKED = "the safety checker flagged this picture; it was replaced by a black one (safety_checker=None turns it off)"


class SafetyFilter:
    """A safety checker with the preparation of pictures that its `preprocessor_config.json` asks for.

    A function of the caller's can stand in for the checker. It is called as diffusers calls one: `images`, a float array
    `1 h w 3` in [0, 1], and `clip_input`, the prepared picture, by name; it returns the images and one flag for each.
    """

    def __init__(self, checker: SafetyChecker | Callable[..., Any], preparation: Mapping[str, Any] | None) -> None:
        self._checker = checker
        self._prepare = Preparation.from_config(preparation or {})

    def __call__(self, picture: np.ndarray) -> bool:
        """Whether a picture, `h w 3` uint8, is flagged. Raises UnsupportedError for a function that does more than judge."""
        prepared = torch.from_numpy(self._prepare(picture))[None]
        if isinstance(self._checker, nn.Module):
            weight = next(self._checker.parameters())
            with torch.no_grad():
                verdict = self._checker(prepared.to(weight.device, weight.dtype))
            # NaN is above no threshold: a checker that overflows would pass every picture.
            if not is_finite(verdict.concept_scores) or not is_finite(verdict.special_scores):
                raise NumericalError(
                    f"the safety checker's scores are not finite, computing in {weight.dtype}; it can't judge the picture. "
                    "Use float32, or a checker whose weights are whole"
                )
            return bool(verdict.flagged[0])
        return self._ask(picture, prepared)

    def _ask(self, picture: np.ndarray, prepared: Tensor) -> bool:
        given = (picture.astype(np.float32) / 255)[None]
        answer = self._checker(images=given.copy(), clip_input=prepared)
        if not isinstance(answer, tuple) or len(answer) != 2:
            raise UnsupportedError(
                "the function in the safety checker's place must return two things: images and flags"
            )
        images, flags = answer
        flagged = bool(np.any(False if flags is None else np.asarray(flags)))
        if not flagged and not np.array_equal(np.asarray(images, dtype=np.float32), given):
            raise UnsupportedError(
                "the function in the safety checker's place changed a picture that it did not flag; it can only judge pictures"
            )
        return flagged


class Preparation:
    """CLIP's preparation of a picture: shortest side resized bicubically, centre cropped, normalised.

    Source: Radford et al. 2021, arXiv:2103.00020, and the fields of CLIPImageProcessor's config.
    """

    MEAN = (0.48145466, 0.4578275, 0.40821073)
    STD = (0.26862954, 0.26130258, 0.27577711)

    def __init__(
        self,
        *,
        resize: int | None = 224,
        crop: tuple[int, int] | None = (224, 224),
        resample: Image.Resampling = Image.Resampling.BICUBIC,
        scale: float = 1 / 255,
        mean: tuple[float, ...] = MEAN,
        std: tuple[float, ...] = STD,
    ) -> None:
        self._resize = resize
        self._crop = crop
        self._resample = resample
        self._scale = scale
        self._mean = np.asarray(mean, dtype=np.float32)
        self._std = np.asarray(std, dtype=np.float32)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Preparation":
        """Read from `preprocessor_config.json`. Raises ConfigError for values that it can't have."""

        def option(name: str, default: Any, usable: Callable[[Any], bool], expected: str) -> Any:
            value = config.get(name, default)
            if not usable(value):
                raise ConfigError(
                    f"preprocessor_config.json of the safety checker: {name} is {value!r}; expected {expected}"
                )
            return value

        def on(name: str) -> bool:
            return option(name, True, lambda value: isinstance(value, bool), "true or false")

        def length(value: Any) -> bool:
            return isinstance(value, int) and not isinstance(value, bool) and value >= 1

        def size_of(name: str, *keys: str) -> list[int]:
            def sides(value: Any) -> list[Any]:
                return [value.get(key) for key in keys] if isinstance(value, Mapping) else [value] * len(keys)

            expected = f"a whole number such as 224, or an object with {' and '.join(keys)}"
            return sides(option(name, 224, lambda value: all(map(length, sides(value))), expected))

        def channels(name: str, default: tuple[float, ...]) -> tuple[float, ...]:
            return tuple(
                option(
                    name, default,
                    lambda value: isinstance(value, list | tuple) and len(value) == 3 and all(isinstance(number, int | float) for number in value),
                    "three numbers",
                )
            )  # fmt: skip

        def deviations() -> tuple[float, ...]:
            given = channels("image_std", cls.STD)
            if not all(math.isfinite(number) and number > 0 for number in given):
                raise ConfigError(
                    f"preprocessor_config.json of the safety checker: image_std is {given!r}; expected numbers above 0"
                )
            return given

        resample = option(
            "resample", 3, lambda value: value in list(Image.Resampling), "one of Pillow's filters, 0 to 5"
        )
        scale = option(
            "rescale_factor", 1 / 255, lambda value: isinstance(value, int | float) and value > 0, "a number above 0"
        )
        height, width = size_of("crop_size", "height", "width")
        return cls(
            resize=size_of("size", "shortest_edge")[0] if on("do_resize") else None,
            crop=(height, width) if on("do_center_crop") else None,
            resample=Image.Resampling(resample),
            scale=float(scale) if on("do_rescale") else 1.0,
            mean=channels("image_mean", cls.MEAN) if on("do_normalize") else (0.0, 0.0, 0.0),
            std=deviations() if on("do_normalize") else (1.0, 1.0, 1.0),
        )

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """`3 crop crop` float32 of an `h w 3` uint8 picture."""
        image = Image.fromarray(picture)
        if self._resize is not None:
            # Multiplied first and cut to a whole number then, as transformers does; the other order is a pixel off at some sizes.
            short = min(image.size)
            width, height = (self._resize * side // short for side in image.size)
            image = image.resize((width, height), self._resample)
        if self._crop is not None:
            top, left = (image.height - self._crop[0]) // 2, (image.width - self._crop[1]) // 2
            image = image.crop((left, top, left + self._crop[1], top + self._crop[0]))
        values = (np.asarray(image, dtype=np.float64) * self._scale).astype(np.float32)
        return np.ascontiguousarray(((values - self._mean) / self._std).transpose(2, 0, 1))
