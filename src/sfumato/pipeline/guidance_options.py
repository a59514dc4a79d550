"""What a call asks of guidance beside its scale, checked, and what a recipe says of it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sfumato.diffusion.perturbation import Perturbation
from sfumato.diffusion.spacing import Levels
from sfumato.errors import OptionError, RecipeError
from sfumato.models.freeu import FreeU
from sfumato.models.unet import UNet
from sfumato.pipeline.perturbing import perturbed_layers
from sfumato.pipeline.request import Request, check_number
from sfumato.recipe import Recipe

NAMES = ("guidance_rescale", "guidance_interval", "pag_scale", "pag_adaptive_scale", "pag_applied_layers", "freeu")

WHOLE_RUN = (0.0, 1.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Usual:
    """What a pipeline takes where a call says nothing: the scale of perturbed-attention guidance, its layers, and FreeU."""

    pag_scale: float = 0.0
    pag_applied_layers: tuple[str, ...] = ("mid",)
    freeu: FreeU | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class GuidanceOptions:
    """A call's options on guidance.

    rescale        how far guided answers are brought back to the spread of unguided ones, 0 to 1
    interval       the share of the run's steps that is guided, from the first number up to the second
    perturbation   guidance away from a perturbed network; None for none
    applied_to     its layers as they were said, in parts of diffusers' names
    freeu          factors for the way up of the network; None for none
    """

    rescale: float = 0.0
    interval: tuple[float, float] = WHOLE_RUN
    perturbation: Perturbation | None = None
    applied_to: tuple[str, ...] = ()
    freeu: FreeU | None = None

    @classmethod
    def taken_from(cls, options: dict[str, Any], unet: UNet, usual: Usual) -> "GuidanceOptions":
        """Take the options on guidance out of a call's others. Raises OptionError for values that can't be."""
        rescale, interval, scale, adaptive, layers, freeu = (options.pop(name, None) for name in NAMES)
        scale = usual.pag_scale if scale is None else check_number("pag_scale", scale, least=0.0)
        adaptive = 0.0 if adaptive is None else check_number("pag_adaptive_scale", adaptive, least=0.0)
        applied_to = usual.pag_applied_layers if layers is None else check_layers(layers)
        if adaptive and not scale:
            raise OptionError(
                "pag_adaptive_scale says how pag_scale is lowered, and that is 0; give a pag_scale, such as 3"
            )
        perturbation = None
        if scale and applied_to:
            perturbation = Perturbation(scale=scale, adaptive=adaptive, layers=perturbed_layers(unet, applied_to))
        factors = usual.freeu if freeu is None else check_freeu(freeu)
        return cls(
            rescale=0.0 if rescale is None else check_number("guidance_rescale", rescale, least=0.0, most=1.0),
            interval=WHOLE_RUN if interval is None else check_interval(interval),
            perturbation=perturbation,
            applied_to=applied_to if perturbation is not None else (),
            freeu=None if factors is None or factors.is_neutral else factors,
        )

    @classmethod
    def of_recipe(cls, recipe: Recipe, unet: UNet) -> "GuidanceOptions":
        """The options that a recipe says. Raises RecipeError for one that is unknown, OptionError for values that can't be."""
        options = dict(recipe.guidance)
        found = cls.taken_from(options, unet, Usual())
        if options:
            raise RecipeError(
                f"the recipe says {sorted(options)[0]!r} of its guidance, which is unknown; a newer Sfumato may have written it"
            )
        return found

    def recorded(self) -> dict[str, Any]:
        """What a recipe says: the options that do something, by their names."""
        said: dict[str, Any] = {}
        if self.rescale:
            said["guidance_rescale"] = self.rescale
        if self.interval != WHOLE_RUN:
            said["guidance_interval"] = list(self.interval)
        if self.perturbation is not None:
            said["pag_scale"] = self.perturbation.scale
            said["pag_adaptive_scale"] = self.perturbation.adaptive
            said["pag_applied_layers"] = list(self.applied_to)
        if self.freeu is not None:
            said["freeu"] = {name: getattr(self.freeu, name) for name in ("s1", "s2", "b1", "b2")}
        return said

    def of_run(self, levels: Levels, *, unconditioned: bool) -> dict[str, Any]:
        """The options of a `Guidance` for a run on these levels, `unconditioned` where its sampler asks for that estimate.

        Raises OptionError for an interval that holds none of the steps, and for rescaling what such a sampler goes between.
        """
        if self.rescale and unconditioned:
            raise OptionError(
                "guidance_rescale is not for CFG++ samplers, which don't go past the answer to the prompt; leave it out"
            )
        first, end = (math.ceil(share * levels.steps - 1e-9) for share in self.interval)
        if first == end:
            raise OptionError(
                f"guidance_interval {self.interval} holds none of {levels.steps} steps; give a longer one, or guidance_scale=1"
            )
        # Noise put back before a step lifts it above its level, and some samplers ask below the last one.
        high = math.inf if first == 0 else levels.sigmas[first]
        low = -math.inf if end == levels.steps else levels.sigmas[end]
        return {"rescale": self.rescale, "interval": (low, high), "perturbation": self.perturbation}

    def notes(self, scale: float) -> list[str]:
        """What has to be said of options that do nothing, with guidance of that scale."""
        if scale > 1:
            return []
        idle = ["guidance_rescale"] if self.rescale else []
        idle += ["guidance_interval"] if self.interval != WHOLE_RUN and self.perturbation is None else []
        return [f"{name} does nothing: there is no guidance" for name in idle]


NOTHING = GuidanceOptions()


def options_of(request: Request) -> GuidanceOptions:
    """The options on guidance of a request."""
    return request.guidance or NOTHING


def check_interval(given: object) -> tuple[float, float]:
    """The shares of the run between which there is guidance. Raises OptionError unless they are two, from 0 to 1, the second larger."""
    pair: Any = [] if isinstance(given, str | Mapping) else given
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise OptionError(
            f"guidance_interval must be (start, end), each a share of the steps from 0 to 1, not {given!r}"
        )
    start, end = (check_number("each side of guidance_interval", side, least=0.0, most=1.0) for side in pair)
    if not start < end:
        raise OptionError(f"guidance_interval ({start:g}, {end:g}) must start before it ends")
    return start, end


def check_layers(given: object) -> tuple[str, ...]:
    """Patterns of layers. Raises OptionError unless they are one text, or a list of texts."""
    layers: Any = [given] if isinstance(given, str) else given
    if not isinstance(layers, list | tuple) or not all(isinstance(layer, str) for layer in layers) or len(layers) > 100:
        raise OptionError(f"pag_applied_layers must be a text or a list of texts, such as 'mid', not {given!r}")
    return tuple(layers)


def check_freeu(given: object) -> FreeU:
    """Factors by name, or in the order s1, s2, b1, b2. Raises OptionError for anything else."""
    names = ("s1", "s2", "b1", "b2")
    if isinstance(given, FreeU):
        return given
    values: Any = given
    if isinstance(given, list | tuple) and len(given) == len(names):
        values = dict(zip(names, given, strict=True))
    if not isinstance(values, Mapping) or set(values) != set(names):
        raise OptionError(
            f"freeu must be the four factors s1, s2, b1 and b2, such as (0.9, 0.2, 1.2, 1.4), not {given!r}"
        )
    return FreeU(**{name: check_number(f"FreeU's {name}", values[name], least=0.0) for name in names})
