"""What a call may ask of the noise, checked, and what a recipe says of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sfumato.diffusion.noise_rules import NoiseRules, Rng
from sfumato.errors import OptionError
from sfumato.pipeline.randomness import Seed, ruled
from sfumato.pipeline.request import check_count, check_number, whole
from sfumato.recipe import Recipe

NAMES = ("rng", "subseed", "subseed_strength", "seed_resize", "eta_noise_seed_delta")


@dataclass(frozen=True, kw_only=True, slots=True)
class NoiseOptions:
    """A call's options on noise: `rng` None leaves it to the generators that were passed; `subseeds` are one for all, or one an image."""

    rng: Rng | None
    subseeds: tuple[int | None, ...]
    strength: float
    seed_resize: tuple[int, int] | None
    eta_noise_seed_delta: int

    @classmethod
    def taken_from(cls, options: dict[str, Any]) -> "NoiseOptions":
        """Take the options on noise out of a call's others. Raises OptionError for values that can't be."""
        rng, subseed, strength, resize, delta = (options.pop(name, None) for name in NAMES)
        delta = whole(0 if delta is None else delta)
        if delta is None or abs(delta) > 2**62:
            raise OptionError("eta_noise_seed_delta must be a whole number of at most 62 bits")
        return cls(
            rng=None if rng is None else Rng.parse(rng),
            subseeds=_subseeds(subseed),
            strength=0.0 if strength is None else check_number("subseed_strength", strength, least=0.0, most=1.0),
            seed_resize=_sides(resize),
            eta_noise_seed_delta=delta,
        )

    def of(self, seeds: Sequence[Seed]) -> list[Seed]:
        """The seeds with these rules. Raises OptionError for subseeds that are not one an image, or a strength without any."""
        subseeds = self.subseeds * len(seeds) if len(self.subseeds) == 1 else self.subseeds
        if len(subseeds) != len(seeds):
            raise OptionError(f"{len(subseeds)} subseeds for {len(seeds)} images; pass one, or one for each image")
        rules = [
            NoiseRules(
                subseed=subseed,
                subseed_strength=self.strength,
                seed_resize=self.seed_resize,
                eta_noise_seed_delta=self.eta_noise_seed_delta,
            )
            for subseed in subseeds
        ]
        return ruled(seeds, rules, self.rng)


def noise_fields(rules: NoiseRules) -> dict[str, Any]:
    """What a recipe says of the rules."""
    return {
        "rng": str(rules.rng),
        "subseed": rules.subseed,
        "subseed_strength": rules.subseed_strength,
        "seed_resize": rules.seed_resize,
        "eta_noise_seed_delta": rules.eta_noise_seed_delta,
    }


def noise_rules_of(recipe: Recipe) -> NoiseRules:
    """The rules that a recipe's noise was made by. Raises OptionError for what can't be."""
    return NoiseRules(
        rng=Rng.parse(recipe.rng),
        subseed=recipe.subseed,
        subseed_strength=recipe.subseed_strength,
        seed_resize=recipe.seed_resize,
        eta_noise_seed_delta=recipe.eta_noise_seed_delta,
    )


def _subseeds(given: object) -> tuple[int | None, ...]:
    if given is None:
        return (None,)
    if (one := whole(given)) is not None:
        given = [one]
    if not isinstance(given, list | tuple) or not given:
        raise OptionError(f"subseed must be a whole number, or a list of one for each image, not {given!r}")
    return tuple(check_count("subseed", subseed, least=0, most=2**64 - 1) for subseed in given)


def _sides(given: object) -> tuple[int, int] | None:
    if given is None:
        return None
    sides: object = [] if isinstance(given, str | Mapping) else given
    if not isinstance(sides, list | tuple) or len(sides) != 2:
        raise OptionError(f"seed_resize must be (width, height) in pixels, not {given!r}")
    width, height = (check_count("each side of seed_resize", side, least=8, most=2**20) for side in sides)
    return width, height
