"""Another program's settings on a model that is here: the nearest recipe, and every difference named."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import sfumato
from sfumato.errors import RecipeError
from sfumato.metadata import NamedLora, Settings
from sfumato.metadata.names import AUTOMATIC, COMFY_SAMPLERS, INVOKE_SAMPLERS, NOVELAI_SAMPLERS
from sfumato.pipeline import recipe_from

SETTINGS = Settings(
    program="AUTOMATIC1111",
    prompt="a fox",
    negative_prompt="blurry",
    seed=5,
    steps=2,
    guidance_scale=3.0,
    sampler="Euler a",
    schedule="uniform",
    width=64,
    height=48,
    clip_skip=1,
    rng="nv",
    subseed=9,
    subseed_strength=0.25,
    eta_noise_seed_delta=31337,
)


@pytest.fixture
def pipe(tiny_folder: Path) -> Any:
    pipe = sfumato.StableDiffusionPipeline.from_pretrained(tiny_folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def changed(**values: Any) -> Settings:
    from dataclasses import replace

    return replace(SETTINGS, **values)


def test_the_recipe_draws_what_a_call_with_the_same_settings_draws(pipe: Any) -> None:
    found = recipe_from(SETTINGS, pipe)
    assert found.omissions == ()
    replayed = pipe.replay(found.recipe).image
    pipe.scheduler = sfumato.KDiffusionScheduler.from_config(pipe.scheduler, sampler_name="Euler a", schedule="uniform")
    called = pipe(
        "a fox", 48, 64, 2, guidance_scale=3.0, negative_prompt="blurry", clip_skip=1, seeds=[5], rng="nv", subseed=9,
        subseed_strength=0.25, eta_noise_seed_delta=31337, rounding="down",
    ).images[0]  # fmt: skip
    assert np.array_equal(replayed, called)


@pytest.mark.parametrize(
    ("settings", "names", "recipe"),
    [
        (changed(sampler="Nobody's"), {"sampler"}, {"sampler": "plms"}),
        (changed(sampler=None, schedule=None), {"sampler"}, {"sampler": "plms"}),
        (changed(schedule="align_my_steps"), {"schedule"}, {"sampler": "euler_a"}),
        (changed(schedule=None), set(), {"sampler": "euler_a"}),
        (changed(sampling={"eta": 0.5, "s_churn": 3.0, "s_noise": 1.01}), {"s_churn"}, {"sampler": "euler_a"}),
        (changed(sampler="DDIM", schedule="karras"), set(), {"sampler": "ddim"}),
        (changed(sampler="DPM++ 2M", schedule="karras"), set(), {"sampler": "dpmpp_2m"}),
        (changed(width=65, height=7), {"width", "height"}, {"width": 64, "height": 8}),
        (changed(seed=None, steps=None, guidance_scale=None), {"seed", "steps", "guidance scale"}, {"seed": 0, "steps": 50}),
        (changed(width=None), {"width"}, {"width": 64}),
        (changed(clip_skip=3), {"clip skip"}, {"clip_skip": None}),
        (changed(seamless=True), set(), {"seamless": "both"}),
        (changed(seamless=True, width=72), {"Tiling"}, {"seamless": None}),
        (changed(loras=(NamedLora(name="ink", weight=0.5),)), {"LoRA"}, {"adapters": ()}),
    ],
)  # fmt: skip
def test_what_is_not_here_is_named(pipe: Any, settings: Settings, names: set[str], recipe: dict[str, Any]) -> None:
    found = recipe_from(settings, pipe)
    assert {one.name for one in found.omissions} == names
    assert {name: getattr(found.recipe, name) for name in recipe} == recipe
    assert pipe.replay(found.recipe).image.size == (found.recipe.width, found.recipe.height)


@pytest.mark.parametrize(
    ("emphasis", "prompt", "read", "marked"),
    [
        ("a1111", "a (red:1.2) fox AND a [cat|dog]", "a1111", False),
        ("a1111_no_norm", "a (red:1.2) fox", "a1111_no_norm", False),
        ("comfy", "a (fox:1.2)", "comfy", False),
        ("compel", "a fox++", "compel", False),
        ("novelai", "{a} fox", "none", True),
        ("novelai", "(a) fox", "none", False),
    ],
)
def test_prompts_are_read_in_their_program_s_words_and_what_can_not_be_is_named(
    pipe: Any, emphasis: Any, prompt: str, read: str, marked: bool
) -> None:
    found = recipe_from(changed(emphasis=emphasis, prompt=prompt), pipe)
    assert [one.name for one in found.omissions] == (["emphasis"] if marked else [])
    assert (found.recipe.prompt, found.recipe.emphasis) == (prompt, read)
    plain = pipe.replay(recipe_from(changed(emphasis="novelai", prompt=prompt), pipe).recipe).image
    assert np.array_equal(pipe.replay(found.recipe).image, plain) == (read == "none")


def test_a_lora_that_is_loaded_is_used_with_its_weights(pipe: Any, tmp_path: Path) -> None:
    name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    width = 16
    generator = torch.Generator().manual_seed(0)
    save_file(
        {
            f"{name}.lora_down.weight": torch.randn(4, width, generator=generator),
            f"{name}.lora_up.weight": torch.randn(width, 4, generator=generator),
        },
        tmp_path / "Ink.safetensors",
    )
    plain = pipe.replay(recipe_from(SETTINGS, pipe).recipe).image
    pipe.load_lora_weights(tmp_path / "Ink.safetensors")
    found = recipe_from(changed(loras=(NamedLora(name="ink", weight=0.5, text_weight=0.0),)), pipe)
    assert found.omissions == ()
    (used,) = found.recipe.adapters
    assert (used.file, dict(used.weights)) == ("Ink.safetensors", {"unet": 0.5})
    result = pipe.replay(found.recipe)
    assert not np.array_equal(result.image, plain)
    assert result.recipe.adapters == found.recipe.adapters


def test_guidance_goes_along_as_far_as_the_sampler_and_the_steps_have_it(pipe: Any) -> None:
    asked = {"guidance_rescale": 0.7, "guidance_interval": [0.3001, 1.0]}
    found = recipe_from(changed(guidance=asked, steps=4), pipe)
    assert (found.recipe.guidance, found.omissions) == (asked, ())
    plain = recipe_from(changed(steps=4), pipe).recipe
    drawn, without = pipe.replay(found.recipe).image, pipe.replay(plain).image
    assert not np.array_equal(drawn, without)
    for impossible in ({"sampler": "DDIM CFG++", "schedule": None}, {"guidance": {"guidance_interval": [0.9, 1.0]}}):
        found = recipe_from(changed(**{"guidance": asked, "steps": 4, **impossible}), pipe)
        assert found.recipe.guidance == {}
        assert {one.name for one in found.omissions} == set(impossible.get("guidance", asked))


def test_no_prompt_is_an_error(pipe: Any) -> None:
    with pytest.raises(RecipeError, match="no prompt"):
        recipe_from(changed(prompt=None), pipe)


def test_names_of_samplers_agree() -> None:
    """Every program's name leads to one that the web UI, or diffusers, has."""
    titles = set(COMFY_SAMPLERS.values()) | set(AUTOMATIC)
    assert set(NOVELAI_SAMPLERS.values()) <= titles
    assert set(INVOKE_SAMPLERS.values()) - titles == {"DPM++ 2S", "TCD"}
