"""A pipeline of SDXL: what a call may say beside the prompt, and what is refused or said of it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_families import FAMILIES

import sfumato
from sfumato.errors import ConfigError, OptionError, PromptError, RecipeError, UnsupportedError, UsageError

Folders = Callable[[str], Path]
SETTINGS: dict[str, Any] = {"num_inference_steps": 1, "seeds": [1]}


@pytest.fixture(scope="module")
def xl(family_folders: Folders) -> Any:
    return opened(family_folders("sdxl"))


def opened(folder: Path, **options: Any) -> Any:
    pipe = sfumato.StableDiffusionPipeline.from_pretrained(folder, **options)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_the_class_is_the_family_s_or_an_error(family_folders: Folders, tiny_folder: Path) -> None:
    kind = sfumato.StableDiffusionXLPipeline
    assert type(sfumato.DiffusionPipeline.from_pretrained(family_folders("sdxl"))) is kind
    assert type(kind.from_pretrained(family_folders("sdxl"))) is kind
    assert type(opened(tiny_folder)) is sfumato.StableDiffusionPipeline
    with pytest.raises(
        UsageError, match="is a model of Stable Diffusion 1, which is none for StableDiffusionXLPipeline"
    ):
        kind.from_pretrained(tiny_folder)

    class Mine(sfumato.StableDiffusionPipeline):
        pass

    assert type(Mine.from_pretrained(tiny_folder)) is Mine
    with pytest.raises(UsageError, match="none for Mine"):
        Mine.from_pretrained(family_folders("sdxl"))


def test_parts_that_are_missing_or_too_many(family_folders: Folders, tiny_folder: Path, xl: Any) -> None:
    with pytest.raises(UsageError, match=r"text_encoder can't be None"):
        opened(family_folders("sdxl"), text_encoder=None)
    with pytest.raises(UsageError, match="models of Stable Diffusion 1 have no text_encoder_2"):
        opened(tiny_folder, text_encoder_2=xl.text_encoder_2)
    with pytest.raises(ConfigError, match="its 2 text encoders' is 128 wide"):
        sfumato.StableDiffusionXLPipeline(**xl.components | {"text_encoder_2": xl.text_encoder})
    with pytest.raises(UnsupportedError, match="watermark"):
        sfumato.StableDiffusionXLPipeline(**xl.components, add_watermarker=True)
    refiner = opened(family_folders("sdxl-refiner"))
    assert refiner.text_encoder is None
    assert refiner.config.text_encoder == [None, None]
    assert refiner.to(torch.float32) is refiner


def test_the_family_and_its_usual_settings_do_not_follow_another_scheduler(xl: Any) -> None:
    """Trailing spacing is told from a model's own scheduler, not from one that somebody put in."""
    kept = xl.scheduler
    xl.scheduler = sfumato.EulerDiscreteScheduler.from_config(kept.config, timestep_spacing="trailing")
    try:
        assert xl.family is FAMILIES["sdxl"]
        recipe = xl("a fox", num_inference_steps=1, seeds=[1]).recipes[0]
        assert recipe.guidance_scale == 5.0
    finally:
        xl.scheduler = kept


def test_a_tiny_autoencoder_draws_in_the_place_of_another_and_is_not_saved(
    family_folders: Folders, tmp_path: Path
) -> None:
    from sfumato.models.tiny_vae import TinyAutoencoder, TinyVAEConfig

    torch.manual_seed(0)
    pipe = opened(family_folders("sdxl"))
    pipe.vae = TinyAutoencoder(TinyVAEConfig(width=8)).eval()
    assert pipe("a fox", **SETTINGS).images[0].size == (64, 64)
    with pytest.raises(UnsupportedError, match="a tiny autoencoder is not saved"):
        pipe.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_few_step_models_draw_with_few_steps(family_folders: Folders) -> None:
    recipe = opened(family_folders("sdxl-turbo"))("a fox", seeds=[1]).recipes[0]
    assert (recipe.steps, recipe.guidance_scale) == (1, 0.0)
    lcm = opened(family_folders("lcm"))
    lcm.scheduler = sfumato.DDIMScheduler.from_config(lcm.scheduler.config, clip_sample=False)
    recipe = lcm("a fox", seeds=[1]).recipes[0]
    assert (recipe.steps, recipe.guidance_scale) == (4, 8.5)
    assert not lcm.do_classifier_free_guidance, "it is told the scale instead"


EMBEDS, POOLED = torch.zeros(1, 77, 192), torch.zeros(1, 128)
WRONG: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "a size of three": ({"original_size": (1, 2, 3)}, OptionError, "original_size must be two whole numbers from 1"),
    "a size of nothing": ({"target_size": (0, 64)}, OptionError, "target_size must be"),
    "a size in words": ({"target_size": "64x64"}, OptionError, "target_size must be"),
    "a crop outside": ({"crops_coords_top_left": (-1, 0)}, OptionError, "two whole numbers from 0"),
    "a score": ({"aesthetic_score": float("nan")}, OptionError, "aesthetic_score must be a finite number"),
    "two second prompts for one": ({"prompt_2": ["a", "b"]}, PromptError, "2 texts in prompt_2 for 1 prompts"),
    "a second prompt of no text": ({"negative_prompt_2": 3}, PromptError, "must be a string or a list of strings"),
    "embeddings alone": ({"prompt": None, "prompt_embeds": EMBEDS}, PromptError, "pass prompt_embeds and pooled_prompt_embeds"),
    "pooled ones alone": ({"pooled_prompt_embeds": POOLED}, PromptError, "together"),
    "pooled ones of another width": (
        {"prompt": None, "prompt_embeds": EMBEDS, "pooled_prompt_embeds": POOLED[:, :5]}, PromptError, r"shape \(1, 128\)",
    ),
    "pooled ones that are none": (
        {"negative_prompt_embeds": EMBEDS, "negative_pooled_prompt_embeds": [1.0]}, OptionError, "must be a tensor",
    ),
    "both words and embeddings": (
        {"prompt": None, "prompt_embeds": EMBEDS, "pooled_prompt_embeds": POOLED, "prompt_2": "x"}, PromptError, "both prompt_2",
    ),
    "what is the refiner's": ({"denoising_start": 0.8}, OptionError, "denoising_start needs the latents"),
    "a part without a step": ({"denoising_end": 0.1}, OptionError, "denoising_end 0.1 leaves none of 1 steps"),
    "more layers than there are": ({"clip_skip": 3}, OptionError, "clip_skip must be from 0 to 2"),
}  # fmt: skip


@pytest.mark.parametrize(("said", "error", "words"), WRONG.values(), ids=WRONG.keys())
def test_what_can_t_be_told_is_a_typed_error(xl: Any, said: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        xl(**{"prompt": "a fox", **SETTINGS, **said})
    assert "\n" not in str(caught.value)


def test_options_of_sdxl_are_refused_by_other_models(tiny_folder: Path) -> None:
    pipe = opened(tiny_folder)
    with pytest.raises(UnsupportedError, match="prompt_2='x' is not available"):
        pipe("a fox", prompt_2="x", **SETTINGS)


def test_second_prompts_that_nobody_reads_are_said(
    xl: Any, family_folders: Folders, caplog: pytest.LogCaptureFixture
) -> None:
    xl("a fox", negative_prompt_2="blur", **SETTINGS)
    assert "negative_prompt_2 is not read without a negative_prompt" in caplog.text
    refiner = opened(family_folders("sdxl-refiner"))
    refiner("a fox", prompt_2="flat", **SETTINGS)
    assert "this model has one text encoder: prompt_2 and negative_prompt_2 are not read" in caplog.text


def test_recipes_keep_what_was_told_and_nothing_that_is_usual(
    xl: Any, family_folders: Folders, tiny_folder: Path
) -> None:
    assert xl("a fox", negative_prompt="x", **SETTINGS).recipes[0].told == {}
    assert xl("a fox", negative_prompt="x", original_size=(64, 64), **SETTINGS).recipes[0].told == {}
    recipe = xl(["a fox", "a cat"], prompt_2=["flat", "3d"], original_size=(9, 8), num_inference_steps=1, seeds=[1, 2]).recipes[1]  # fmt: skip
    assert recipe.told["prompt_2"] == "3d"
    assert recipe.told["original_size"] == [9, 8]
    assert recipe.told["negative_original_size"] == [9, 8]
    assert recipe.told["zeros"] is True
    again = sfumato.Recipe.from_json(recipe.to_json())
    assert again == recipe
    assert xl.replay(again).identical
    with pytest.raises(RecipeError, match=r"the recipe says prompt_2, .* one of Stable Diffusion 1;"):
        opened(tiny_folder).replay(recipe)
    with pytest.raises(RecipeError, match="told 'nonsense', which no model is"):
        xl.replay(replace(recipe, told={"nonsense": 1}))
    with pytest.raises(OptionError, match="original_size must be"):
        xl.replay(replace(recipe, told={"original_size": "wide"}))
    # What the caller's embeddings were, no recipe holds.
    with pytest.raises(RecipeError, match="pooled_prompt_embeds"):
        xl.replay(replace(recipe, told={"pooled_prompt_embeds": [1.0]}))


def test_dtypes_of_two_text_encoders(family_folders: Folders) -> None:
    pipe = opened(family_folders("sdxl"))
    pipe.text_encoder_2.to(torch.bfloat16)
    assert "text encoders were of two dtypes" in pipe("a fox", **SETTINGS).recipes[0].unrecorded
    pipe.text_encoder.to(torch.bfloat16)
    recipe = pipe("a fox", **SETTINGS).recipes[0]
    assert (recipe.text_encoder_dtype, recipe.unrecorded) == ("bfloat16", None)
    changed = opened(family_folders("sdxl"))
    changed.text_encoder_2 = pipe.text_encoder_2
    assert changed("a fox", **SETTINGS).recipes[0].model.endswith("(changed: text_encoder_2)")
