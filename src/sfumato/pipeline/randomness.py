"""From what people pass as `generator` to one noise source an image, and back.

diffusers draws the noise of a whole batch from one generator. Here each image owns its source, which draws what the
batch would have drawn and takes its own row: the pictures are the same, and no image depends on its neighbours' order.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from sfumato.diffusion.noise import NoiseSource, seed_of
from sfumato.diffusion.noise_philox import BLOCK
from sfumato.diffusion.noise_rules import PLAIN, NoiseRules, Rng
from sfumato.errors import OptionError
from sfumato.pipeline.request import check_count, whole

Generators = torch.Generator | Sequence[torch.Generator] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Seed:
    """Where one image's noise comes from, as a recipe records it.

    Row `index` of each draw of `count` rows, from a generator seeded with `seed`, or put into `state` where the
    caller's generator had been drawn from before; by the generator, and changed in the ways, that `rules` name.
    """

    seed: int
    index: int = 0
    count: int = 1
    state: bytes | None = None
    rules: NoiseRules = PLAIN

    def source(self, shape: Sequence[int], scale: int = 8) -> NoiseSource:
        """A fresh noise source for latents of `shape` (channels, h, w), each `scale` pixels wide."""
        return NoiseSource(
            self.seed,
            tuple(shape),
            index=self.index,
            count=self.count,
            state=self.state,
            rules=self.rules,
            scale=scale,
        )

    @property
    def state_text(self) -> str | None:
        """The state in base64, as JSON carries it."""
        return None if self.state is None else base64.b64encode(self.state).decode("ascii")


def seeds_of(generator: Generators, images: int) -> list[Seed]:
    """One Seed an image for what was passed as `generator`.

    None means torch's global generator, as in diffusers, so `torch.manual_seed` before the call decides the picture.
    Raises OptionError for a list whose length is not the number of images.
    """
    if generator is None:
        return _shared(torch.default_generator, images)
    if isinstance(generator, torch.Generator):
        return _shared(generator, images)
    given: Sequence[object] = generator if isinstance(generator, list | tuple) else [generator]
    generators = [g for g in given if isinstance(g, torch.Generator)]
    if len(generators) != len(given):
        raise OptionError(
            "generator must be a torch.Generator or a list of them; for a seed: torch.Generator().manual_seed(123)"
        )
    if len(generators) == 1:
        return _shared(generators[0], images)
    if len(generators) != images:
        raise OptionError(f"{len(generators)} generators for {images} images; pass one, or one for each image")
    # A generator that stands in the list several times is drawn from in turn, as a shared one is.
    rows = {id(g): iter(_shared(g, sum(other is g for other in generators))) for g in generators}
    return [next(rows[id(g)]) for g in generators]


def advance(generator: Generators, sources: Sequence[NoiseSource]) -> None:
    """Put the caller's generators where diffusers would have left them, so that the next call draws new noise."""
    if generator is None:
        generator = torch.default_generator
    generators = [generator] if isinstance(generator, torch.Generator) else list(generator)
    for own, source in zip(generators, sources, strict=False):
        if own.device.type == source.rules.rng.torch_device:
            own.set_state(torch.frombuffer(bytearray(source.generator_state()), dtype=torch.uint8))
        else:
            torch.randn(1, generator=own, device=own.device)


def threads_of(device: torch.device) -> int:
    """How many threads a card has at work at once, as PyTorch's kernels reckon it."""
    card = torch.cuda.get_device_properties(device)
    return card.multi_processor_count * (card.max_threads_per_multi_processor // BLOCK) * BLOCK


def ruled(seeds: Sequence[Seed], rules: Sequence[NoiseRules], rng: Rng | None) -> list[Seed]:
    """The seeds with a call's rules, one an image. `rng` None leaves each its own generator.

    A generator that has been drawn from can't go on as another kind: then its state gives a seed, so that each call has new noise.
    """
    made: list[Seed] = []
    for seed, rule in zip(seeds, rules, strict=True):
        kind = rng or seed.rules.rng
        if seed.state is not None and kind.kind != seed.rules.rng.kind:
            seed = replace(seed, seed=seed_of(seed.state), state=None)
        made.append(replace(seed, rules=replace(rule, rng=kind)))
    return made


def _shared(generator: torch.Generator, images: int) -> list[Seed]:
    seed, state = generator.initial_seed(), generator.get_state()
    # The numbers that a card's generator would draw, from where it stands, are computed on the CPU.
    rules = NoiseRules(rng=Rng("nv", threads_of(generator.device))) if generator.device.type == "cuda" else PLAIN
    kept = state.cpu().numpy().tobytes()
    if torch.equal(state, _fresh_state(generator)):
        kept = None
    elif generator.device.type not in ("cpu", "cuda"):
        # Another device's generator has an algorithm that is not to be had here, and the noise is the CPU's: from the seed while it is
        # fresh, and from where it stands once it has been drawn from, so that the next call has other noise.
        seed, kept = seed_of(kept), None
    return [Seed(seed=seed, index=index, count=images, state=kept, rules=rules) for index in range(images)]


def _fresh_state(generator: torch.Generator) -> torch.Tensor:
    """The state the generator had when it was seeded."""
    return torch.Generator(generator.device).manual_seed(generator.initial_seed()).get_state()


def seeds_for(seeds: Sequence[int] | None, generator: Generators, images: int) -> list[Seed]:
    """One seed an image, from `seeds` where they are given, else from the generator. Raises OptionError."""
    if seeds is None:
        return seeds_of(generator, images)
    if generator is not None:
        raise OptionError("both generator and seeds were given; pass one of them")
    seeds = [one] if (one := whole(seeds)) is not None else seeds
    if not hasattr(seeds, "__len__"):
        raise OptionError(f"seeds must be a list of whole numbers, one for each image, not {seeds!r}")
    if len(seeds) != images:
        raise OptionError(f"{len(seeds)} seeds for {images} images; pass one for each image")
    return [Seed(seed=check_count("seed", seed, least=0, most=2**64 - 1)) for seed in seeds]
