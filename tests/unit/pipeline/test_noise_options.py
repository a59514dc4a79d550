"""Options on noise at the pipeline: checked, recorded, replayed, and the same alone as in a batch."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import sfumato
from sfumato.diffusion.noise_philox import PhiloxGenerator
from sfumato.diffusion.noise_rules import NoiseRules, Rng
from sfumato.errors import OptionError, RecipeError, UnsupportedError
from sfumato.infotext import parse_infotext
from sfumato.pipeline import randomness
from sfumato.pipeline.noise_options import noise_fields
from sfumato.pipeline.randomness import Seed, advance, seeds_of
from sfumato.recipe import Recipe

SETTINGS: dict[str, Any] = {"num_inference_steps": 3, "height": 64, "width": 64}
RULES: dict[str, dict[str, Any]] = {
    "nv": {"rng": "nv"},
    "a card": {"rng": "nv:256"},
    "variation": {"subseed": 9, "subseed_strength": 0.4},
    "resize": {"seed_resize": (32, 48)},
    "delta": {"eta_noise_seed_delta": 31337},
    "all": {"rng": "nv", "subseed": 9, "subseed_strength": 0.4, "seed_resize": [32, 48], "eta_noise_seed_delta": -7},
}


@pytest.fixture
def pipe(tiny_folder: Path) -> Any:
    pipe = sfumato.StableDiffusionPipeline.from_pretrained(tiny_folder)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = sfumato.EulerAncestralDiscreteScheduler.from_config(pipe.scheduler)  # takes noise at every step
    return pipe


@pytest.mark.parametrize("name", RULES)
def test_each_rule_changes_the_picture_is_recorded_and_replays(pipe: Any, name: str) -> None:
    plain = pipe("a fox", seeds=[1], **SETTINGS).images[0]
    image = pipe("a fox", seeds=[1], **RULES[name], **SETTINGS).images[0]
    assert not np.array_equal(plain, image), "the rule did nothing"
    recipe = Recipe.from_json(image.recipe.to_json())
    assert recipe == image.recipe
    for option, value in RULES[name].items():
        assert getattr(recipe, option) == (tuple(value) if isinstance(value, list) else value)
    result = pipe.replay(recipe)
    assert result.identical
    assert result.recipe == image.recipe


def test_a_batch_draws_as_each_alone(pipe: Any) -> None:
    together = pipe(["a fox", "a cat"], seeds=[1, 2], subseed=[5, 6], subseed_strength=0.5, rng="nv", **SETTINGS)
    for prompt, seed, subseed, image in zip(["a fox", "a cat"], [1, 2], [5, 6], together.images, strict=True):
        alone = pipe(prompt, seeds=[seed], subseed=subseed, subseed_strength=0.5, rng="nv", **SETTINGS).images[0]
        assert np.array_equal(alone, image)
        assert (image.recipe.subseed, image.recipe.noise_count) == (subseed, 1)


def test_cuda_s_noise_of_a_generator_on_the_cpu_is_that_of_its_seed(pipe: Any) -> None:
    latents = PhiloxGenerator(4).row((2, 4, 8, 8), 0, 1)
    given = pipe("a fox", latents=latents, num_images_per_prompt=2, num_inference_steps=1, output_type="np").images
    generator = torch.Generator().manual_seed(4)
    pipe.scheduler = sfumato.EulerDiscreteScheduler.from_config(pipe.scheduler)
    options = {"num_images_per_prompt": 2, "num_inference_steps": 1, "rng": "nv"}
    pictures = [pipe("a fox", generator=generator, output_type="np", **options).images for _ in range(2)]
    given = pipe("a fox", latents=latents, num_images_per_prompt=2, num_inference_steps=1, output_type="np").images
    np.testing.assert_array_equal(pictures[0], given)
    assert not np.array_equal(pictures[0], pictures[1]), "the caller's generator moves on"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rng": "cuda"}, "'nv:CARD'"),
        ({"rng": 3}, "not 3"),
        ({"subseed_strength": 0.5}, "without a subseed"),
        ({"subseed": 1, "subseed_strength": 2}, "from 0 to 1"),
        ({"subseed": 1, "subseed_strength": "much"}, "finite number"),
        ({"subseed": [1, 2]}, "2 subseeds for 1 images"),
        ({"subseed": []}, "whole number"),
        ({"subseed": -1}, "from 0"),
        ({"seed_resize": 64}, "width, height"),
        ({"seed_resize": "512x512"}, "width, height"),
        ({"seed_resize": (4, 64)}, "seed_resize"),
        ({"eta_noise_seed_delta": 0.5}, "whole number"),
        ({"eta_noise_seed_delta": 2**63}, "62 bits"),
    ],
)
def test_options_that_can_t_be(pipe: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        pipe("a fox", seeds=[1], **options, **SETTINGS)


def test_other_options_are_still_refused(pipe: Any) -> None:
    with pytest.raises(UnsupportedError, match="sigmas"):
        pipe("a fox", rng="nv", sigmas=[1.0], **SETTINGS)


def test_the_web_ui_s_words(pipe: Any) -> None:
    words = parse_infotext(sfumato.infotext.infotext(pipe("a fox", seeds=[1], **RULES["all"], **SETTINGS).recipes[0]))  # type: ignore[attr-defined]
    said = {
        name: words.settings[name]
        for name in ("RNG", "Variation seed", "Variation seed strength", "Seed resize from", "ENSD")
    }
    assert said == {
        "RNG": "NV",
        "Variation seed": "9",
        "Variation seed strength": "0.4",
        "Seed resize from": "32x48",
        "ENSD": "-7",
    }
    assert parse_infotext(sfumato.infotext.infotext(pipe("a fox", seeds=[1], rng="nv:256", **SETTINGS).recipes[0])).settings["RNG"] == "GPU"  # type: ignore[attr-defined]  # fmt: skip


@pytest.mark.parametrize(
    "wrong",
    [
        {"rng": "cuda"},
        {"rng": "nv:"},
        {"rng": "nv:1e9"},
        {"rng": None},
        {"subseed_strength": 0.5},
        {"subseed": 2**64},
        {"subseed": "9"},
        {"subseed": 1, "subseed_strength": 1.5},
        {"seed_resize": [64]},
        {"seed_resize": [64, 64, 64]},
        {"seed_resize": [64, "64"]},
        {"seed_resize": [0, 64]},
        {"seed_resize": {"width": 64}},
        {"eta_noise_seed_delta": 2**63},
    ],
)
def test_recipes_that_can_t_be(pipe: Any, wrong: dict[str, Any]) -> None:
    values = {**noise_fields(NoiseRules()), **wrong}
    base = {"prompt": "a", "seed": 1, "sampler": "euler", "scheduler": {}, "steps": 1, "guidance_scale": 1.0}
    with pytest.raises(RecipeError):
        Recipe.from_dict({**base, "width": 8, "height": 8, "dtype": "float32", "device": "cpu", "model": "m"} | values)


class Card(torch.Generator):
    """A generator that says it is on a card, with a state of CUDA's form."""

    device = torch.device("cuda")  # type: ignore[assignment]
    state = (7).to_bytes(8, "little") + bytes(8)

    def initial_seed(self) -> int:
        return 7

    def get_state(self) -> torch.Tensor:
        return torch.frombuffer(bytearray(self.state), dtype=torch.uint8)

    def set_state(self, state: torch.Tensor) -> "Card":
        self.state = state.numpy().tobytes()
        return self


def test_a_card_s_generator_is_followed_draw_by_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    card = SimpleNamespace(multi_processor_count=2, max_threads_per_multi_processor=300)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)
    monkeypatch.setattr(randomness, "_fresh_state", lambda generator: Card().get_state())
    generator, expected = Card(), PhiloxGenerator(7, threads=512)
    for _ in range(3):
        seeds = seeds_of(generator, 2)
        assert {seed.rules.rng for seed in seeds} == {Rng("nv", 512)}
        sources = [seed.source((4, 12, 12)) for seed in seeds]
        for _ in range(2):
            rows = torch.stack([source.draw() for source in sources])
            assert torch.equal(rows, expected.row((2, 4, 12, 12), 0, 1))
        advance(generator, sources)
        assert generator.state == expected.state()
    again = Seed(seed=0, state=generator.state, rules=NoiseRules(rng=Rng("nv", 512)))
    assert torch.equal(again.source((8,)).draw(), expected.row((8,), 0, 1))
