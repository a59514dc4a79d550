"""How a run keeps within memory: steps of rising cost, and what each is predicted to take."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sfumato.engine.memory.budget import Budget, in_words
from sfumato.engine.memory.layers import Numbers
from sfumato.engine.memory.networks import (
    keys_values,
    packed,
    safety_checker,
    text_encoder,
    unet,
    vae_decode,
    vae_decode_in_stages,
    vae_decode_tiled,
    vae_encode,
)
from sfumato.engine.memory.process import KEPT_FREE, WORKING
from sfumato.errors import OptionError
from sfumato.models import AnyUNetConfig, CLIPTextConfig, SafetyCheckerConfig, TinyVAEConfig, UNetConfig, VAEConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Measures:
    """What is done to take less memory, each for some time; none of them by default.

    stored      weights stay as their file has them, mapped, and are widened one layer at a time
    at_once     freed tensors are given back to the system, not kept for the next ones
    rows_apart  guidance's rows are evaluated one after the other
    tiles       the picture is decoded in tiles
    """

    stored: bool = False
    at_once: bool = False
    rows_apart: bool = False
    tiles: bool = False

    def __str__(self) -> str:
        said = [words for name, words in WORDS.items() if getattr(self, name)]
        return "; ".join(said) or "nothing is spared"


WORDS: Mapping[str, str] = {
    "stored": "weights stay in the file and are widened layer by layer",
    "at_once": "freed memory is given back at once",
    "rows_apart": "guidance's rows are evaluated one after the other",
    "tiles": "the picture is decoded in tiles",
}

LADDER = (
    Measures(),
    Measures(stored=True),
    Measures(stored=True, at_once=True),
    Measures(stored=True, at_once=True, rows_apart=True),
    Measures(stored=True, at_once=True, rows_apart=True, tiles=True),
)
"""From the fastest to the smallest; each step keeps what those before it do."""


DOUBT = 0.03
"""How much more than predicted a run may take, as a part of it, and yet keep within its budget."""


def ladder_of(*, stored: bool) -> tuple[Measures, ...]:
    """The steps that are left once it is settled how the weights are kept."""
    return tuple(dict.fromkeys(replace(step, stored=stored) for step in LADDER))


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """What a run is made of, as far as memory goes. Sizes are those of latents.

    rows          of one picture's guidance
    tokens        of a context
    widened       bytes of the weights, once they are widened for good
    packs         bytes of the U-Net's weights that may yet be packed beside those that are stored, on small maps
    encodes       whether it begins from a picture
    checker       the safety checker that looks at what was made
    number_size   bytes of a number that is computed with
    roomy         whether nobody asked for memory to be spared
    tile          latents along the edge of a tile, where tiles make the whole picture; None where they don't
    """

    unet: AnyUNetConfig
    vae: VAEConfig | TinyVAEConfig
    text_encoders: Mapping[str, CLIPTextConfig]
    height: int
    width: int
    rows: int = 2
    tokens: int = 77
    widened: int = 0
    packs: int = 0
    encodes: bool = False
    checker: SafetyCheckerConfig | None = None
    number_size: int = 4
    roomy: bool = False
    tile: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """Bytes that each stage of a run takes at most, beside `base`: the process itself, the weights in memory of its own, and what libraries work in."""

    base: int
    stages: Mapping[str, int]
    slack: int = 0
    """What was freed and is still kept."""

    @property
    def peak(self) -> int:
        """The most at once."""
        return self.base + self.slack + max(self.stages.values())

    @property
    def largest(self) -> str:
        """The stage that takes most."""
        return max(self.stages, key=lambda name: self.stages[name])

    def of(self, stage: str) -> int:
        """The peak while a stage runs."""
        return self.base + self.slack + self.stages[stage]


def predict(sizes: Sizes, measures: Measures, base: int) -> Prediction:
    """What a run takes with these measures. `base` is what the process has before its weights are widened."""
    numbers = Numbers(size=sizes.number_size, held=measures.stored, roomy=sizes.roomy)
    rows = 1 if measures.rows_apart else sizes.rows
    stages = {name: text_encoder(config, 1, sizes.tokens, numbers) for name, config in sizes.text_encoders.items()}
    kept = 0
    if isinstance(sizes.unet, UNetConfig):
        kept = keys_values(sizes.unet, sizes.rows, sizes.tokens, numbers) + _joined(sizes)
        stages["unet"] = kept + unet(sizes.unet, rows, sizes.height, sizes.width, numbers)
    if isinstance(sizes.vae, VAEConfig):
        stages["vae decode"] = kept + _decode(sizes.vae, sizes, numbers, tiled=measures.tiles)
        if sizes.encodes:
            stages["vae encode"] = vae_encode(sizes.vae, sizes.height, sizes.width, numbers)
    if sizes.checker is not None:
        stages["safety"] = kept + safety_checker(sizes.checker, numbers)
    weights = 0 if measures.stored else sizes.widened
    if measures.stored and isinstance(sizes.unet, UNetConfig):
        weights = min(sizes.packs, packed(sizes.unet, rows, sizes.height, sizes.width, numbers))
    return Prediction(base=base + weights + WORKING, stages=stages, slack=0 if measures.at_once else KEPT_FREE)


def _decode(vae: VAEConfig, sizes: Sizes, numbers: Numbers, *, tiled: bool) -> int:
    if not tiled:
        return vae_decode(vae, sizes.height, sizes.width, numbers)
    if sizes.tile is None:
        return vae_decode_tiled(vae, sizes.height, sizes.width, numbers)
    return vae_decode_in_stages(vae, sizes.height, sizes.width, sizes.tile, numbers)


def _joined(sizes: Sizes) -> int:
    """Keys and values once more: each text's are kept for other pictures, beside those joined for this one."""
    assert isinstance(sizes.unet, UNetConfig), "asked for U-Nets that attend to a text"
    return keys_values(sizes.unet, sizes.rows, sizes.tokens, Numbers(size=sizes.number_size))


def choose(sizes: Sizes, budget: Budget, base: int, ladder: Sequence[Measures] = LADDER) -> Measures:
    """The first step of the ladder that keeps within a budget, less what is not needed for that.

    Raises OptionError, saying what would do, where none does.
    """
    if budget.bytes is None:
        return ladder[-1]
    for measures in ladder:
        # Where the last measure is what was needed, one before it may be of no use to the stage that takes most.
        for tried in (replace(measures, rows_apart=False) if measures.tiles else measures, measures):
            if predict(sizes, tried, base).peak * (1 + DOUBT) <= budget.bytes:
                return tried
    least = min((predict(sizes, measures, base) for measures in ladder), key=lambda one: one.peak)
    raise OptionError(
        f"a picture of latents {sizes.width} × {sizes.height} takes {in_words(least.peak)} at least with this model, most of it in the "
        f'{least.largest}, and memory is {budget}; make the picture smaller, or allow more (memory="min" tries with as little as possible)'
    )
