"""Judging finished pictures, by a model's safety checker or what stands in its place, and what becomes of those that are flagged."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.engine.health import is_finite
from sfumato.errors import ConfigError, NumericalError, UnsupportedError
from sfumato.models.network import computed_in
from sfumato.models.nsfw_classifier import UNSAFE
from sfumato.models.safety_checker import SafetyChecker
from sfumato.pipeline.nsfw_filter import NSFWFilter
from sfumato.recipe import Judge, SafetyMode

WHAT_BECAME: Mapping[SafetyMode, str] = {
    "block": "it was replaced by a black one",
    "blur": "it was blurred",
    "flag": "it is left as it is",
}
# A blurred picture keeps so many patches of colour along its short side.
PATCHES = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What was said of a picture. `scores` are finite numbers, rounded for the record; `said` is the verdict in words."""

    by: Judge
    flagged: bool
    said: str
    scores: Mapping[str, float] = field(default_factory=dict[str, float])
    threshold: float | None = None


class SafetyFilter:
    """What judges pictures, with the preparation that its `preprocessor_config.json` asks for, and what becomes of flagged ones.

    The judge is a model's safety checker, Sfumato's own filter, or a function of the caller's. That is called as diffusers calls one:
    `images`, a float array `1 h w 3` in [0, 1], and `clip_input`, the prepared picture, by name; it returns the images and one flag for
    each.
    """

    def __init__(
        self,
        judge: SafetyChecker | NSFWFilter | Callable[..., Any],
        preparation: Mapping[str, Any] | None = None,
        mode: SafetyMode = "block",
    ) -> None:
        self.mode: SafetyMode = mode
        self._judge = judge
        self._prepare = Preparation.from_config(preparation or {})

    def __call__(self, picture: np.ndarray) -> Verdict:
        """The verdict on a picture, `h w 3` uint8. Raises UnsupportedError for a function that does more than judge."""
        if isinstance(self._judge, NSFWFilter):
            return _filtered(self._judge, picture)
        clip_input = torch.from_numpy(self._prepare(picture))[None]
        if isinstance(self._judge, nn.Module):  # torch.compile's wrapper too
            return _checked(self._judge, clip_input)
        flagged = _asked(self._judge, picture, clip_input)
        return Verdict(by="function", flagged=flagged, said="the safety checker flagged this picture")

    def keep_back(self, pixels: Tensor) -> Tensor:
        """What is shown of a flagged picture: pixels `3 h w` in [-1, 1] of the same size."""
        match self.mode:
            case "block":
                return torch.full_like(pixels, -1.0)
            case "blur":
                return blurred(pixels)
            case "flag":
                return pixels

    def note(self, verdict: Verdict) -> str:
        """What is said of a flagged picture."""
        return f"{verdict.said}; {WHAT_BECAME[self.mode]} (safety_checker=None turns it off)"


def blurred(pixels: Tensor) -> Tensor:
    """Pixels `3 h w` of which only patches of colour are left, eight to the short side, whatever the size."""
    height, width = pixels.shape[1:]
    patch = max(1.0, min(height, width) / PATCHES)
    patches = F.adaptive_avg_pool2d(pixels[None], (max(1, round(height / patch)), max(1, round(width / patch))))
    return F.interpolate(patches, size=(height, width), mode="bicubic", align_corners=False)[0].clamp(-1, 1)


def _filtered(judge: NSFWFilter, picture: np.ndarray) -> Verdict:
    scores = judge.scores(picture)
    kinds = ", ".join(f"{kind} {scores[kind]:.2f}" for kind in sorted(UNSAFE, key=lambda kind: -scores[kind]))
    said = (
        f"the safety filter scores this picture {scores['nsfw']:.3f} ({kinds}), and its threshold is {judge.threshold:g}"
        if math.isfinite(scores["nsfw"])
        else "the safety filter's scores of this picture are not finite, which counts as unsafe"
    )
    return Verdict(
        by="filter", flagged=judge.flags(scores), said=said, scores=_recorded(scores), threshold=judge.threshold
    )


def _checked(checker: nn.Module, clip_input: Tensor) -> Verdict:
    dtype = computed_in(checker)
    with torch.no_grad():
        verdict = checker(clip_input.to(next(checker.parameters()).device, dtype))
    # NaN is above no threshold: a checker that overflows would pass every picture.
    if not is_finite(verdict.concept_scores) or not is_finite(verdict.special_scores):
        raise NumericalError(
            f"the safety checker's scores are not finite, computing in {dtype}; it can't judge the picture. "
            "Use float32, or a checker whose weights are whole"
        )
    highest = {"concept": verdict.concept_scores, "special concept": verdict.special_scores}
    return Verdict(
        by="model",
        flagged=bool(verdict.flagged[0]),
        said="the safety checker flagged this picture",
        scores=_recorded({name: float(scores.max()) for name, scores in highest.items() if scores.numel()}),
    )


def _asked(function: Callable[..., Any], picture: np.ndarray, clip_input: Tensor) -> bool:
    given = (picture.astype(np.float32) / 255)[None]
    answer = function(images=given.copy(), clip_input=clip_input)
    if not isinstance(answer, tuple) or len(answer) != 2:
        raise UnsupportedError("the function in the safety checker's place must return two things: images and flags")
    images, flags = answer
    flagged = bool(np.any(False if flags is None else np.asarray(flags)))
    if not flagged and not np.array_equal(np.asarray(images, dtype=np.float32), given):
        raise UnsupportedError(
            "the function in the safety checker's place changed a picture that it did not flag; it can only judge pictures"
        )
    return flagged


def _recorded(scores: Mapping[str, float]) -> dict[str, float]:
    """Scores as recipes hold them: four decimals, and none that is not finite, for which JSON has no place."""
    return {name: round(score, 4) for name, score in scores.items() if math.isfinite(score)}


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
