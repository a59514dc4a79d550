"""Which judge a pipeline gets for its pictures, and what becomes of flagged ones: the options `safety` and `safety_threshold`."""

import logging
from dataclasses import dataclass
from typing import Any, cast, get_args

from sfumato.errors import UnknownNameError, UsageError
from sfumato.pipeline.nsfw_filter import NSFWFilter
from sfumato.recipe import Recipe, SafetyMode

logger = logging.getLogger("sfumato")

OFF = "off"
MODES: tuple[SafetyMode, ...] = get_args(SafetyMode)


@dataclass(frozen=True, kw_only=True, slots=True)
class SafetyChoice:
    """What was asked for. Without a mode a model's own safety checker blocks, and a model without one has its pictures judged by nobody."""

    mode: SafetyMode | None = None
    off: bool = False
    threshold: float | None = None

    @classmethod
    def take(cls, options: dict[str, Any]) -> "SafetyChoice":
        """Take `safety` and `safety_threshold` out of the options of `from_pretrained`, with `safety_checker=None` if they say "off".

        Raises UnknownNameError for a mode that there is not, OptionError for a threshold that is not from 0 to 1, UsageError for options that
        contradict each other.
        """
        given, threshold = options.pop("safety", None), options.pop("safety_threshold", None)
        off = given == OFF
        mode = None if given is None or off else check_mode(given, also=(OFF,))
        if threshold is not None:
            threshold = NSFWFilter(threshold).threshold
            if mode is None:
                raise UsageError(
                    "safety_threshold is used only with safety='block', 'blur' or 'flag'; pass one of them, or leave it out"
                )
        if given is not None and "safety_checker" in options and (options["safety_checker"] is None) != off:
            judge = "None" if options["safety_checker"] is None else "a checker"
            raise UsageError(
                f"safety={given!r} and safety_checker={judge} contradict each other; leave one of them out"
            )
        if off:
            options["safety_checker"] = None
        return cls(mode=mode, off=off, threshold=threshold)

    def judge(self, checker: Any) -> Any:
        """What judges pictures of a model whose safety checker, or what the caller put in its place, is `checker`; None for nobody."""
        if self.mode is None or self.off:
            return checker
        if checker is None:
            return NSFWFilter() if self.threshold is None else NSFWFilter(self.threshold)
        if self.threshold is not None:
            logger.warning(
                "the model's own safety checker judges, by thresholds of its own; safety_threshold is not used"
            )
        return checker


def check_mode(value: object, *, also: tuple[str, ...] = ()) -> SafetyMode:
    """The value as a safety mode. Raises UnknownNameError."""
    if value not in MODES:
        raise UnknownNameError("safety mode", str(value), (*also, *MODES))
    return cast("SafetyMode", value)


def judge_of(recipe: Recipe, checker: Any) -> Any:
    """What judges the picture of a recipe when it is made again with a model whose safety checker is `checker`.

    Nobody, where nobody did; but a recipe of which no picture was made yet says nothing of that, and the model's own judges.
    """
    if recipe.safety == OFF and recipe.pixels_sha256 is not None:
        return None
    return NSFWFilter(recipe.safety_threshold) if recipe.safety_threshold is not None else checker
