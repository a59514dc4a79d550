"""A tiny autoencoder in the place of a model's own: recorded by name and hash, replayed, and refused where it does not fit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import sfumato
from sfumato.cli.fast import load_recipe_s_tiny_vae
from sfumato.errors import ConfigError, MissingFileError, RecipeError
from sfumato.models import AutoencoderKL, VAEConfig
from sfumato.recipe import Recipe

SETTINGS: dict[str, Any] = {"num_inference_steps": 2, "height": 64, "width": 64, "seeds": [1]}


@pytest.fixture(scope="module")
def taesd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of its shape, as diffusers saves them."""
    from diffusers import AutoencoderTiny

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("taesd")
    AutoencoderTiny().save_pretrained(folder)
    return folder / "diffusion_pytorch_model.safetensors"


@pytest.fixture
def pipe(tiny_folder: Path) -> Any:
    pipe = sfumato.StableDiffusionPipeline.from_pretrained(tiny_folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_it_decodes_what_the_model_s_own_would_have(pipe: Any, taesd: Path) -> None:
    from diffusers import AutoencoderTiny

    plain = pipe("a fox", **SETTINGS).images[0]
    latents = pipe("a fox", **SETTINGS, output_type="latent").images
    pipe.load_tiny_vae(taesd)
    image = pipe("a fox", **SETTINGS).images[0]
    theirs = AutoencoderTiny.from_pretrained(taesd.parent).decode(latents).sample[0]
    expected = ((theirs / 2 + 0.5).clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    assert np.abs(np.asarray(image).astype(int) - expected.astype(int)).max() <= 1
    assert torch.equal(pipe("a fox", **SETTINGS, output_type="latent").images, latents)
    pipe.unload_tiny_vae()
    assert np.array_equal(pipe("a fox", **SETTINGS).images[0], plain)


def test_it_is_recorded_and_replayed(pipe: Any, taesd: Path, tmp_path: Path) -> None:
    plain = pipe("a fox", **SETTINGS).images[0].recipe
    assert plain.fast == {}
    pipe.load_tiny_vae(taesd)
    image = pipe("a fox", fast={"cache": 2}, **SETTINGS).images[0]
    recipe = Recipe.from_json(image.recipe.to_json())
    assert recipe.fast["vae_tiny"]["file"] == taesd.name
    assert recipe.fast["cache"] == 2
    assert recipe.model == plain.model, "the model is the same"
    assert pipe.replay(recipe).identical
    assert pipe.replay(plain).identical, "a recipe without one is decoded without one"
    pipe.unload_tiny_vae()
    with pytest.raises(RecipeError, match="it is not loaded"):
        pipe.replay(recipe)
    with pytest.raises(MissingFileError, match="pass --vae-tiny"):
        load_recipe_s_tiny_vae(pipe, recipe, tmp_path / "picture.png", None)
    other = {name: tensor + 0.01 for name, tensor in load_file(taesd).items()}
    save_file(other, tmp_path / taesd.name)
    load_recipe_s_tiny_vae(pipe, recipe, tmp_path / "picture.png", None)
    with pytest.raises(RecipeError, match="another is loaded"):
        pipe.replay(recipe)
    load_recipe_s_tiny_vae(pipe, recipe, tmp_path / "picture.png", taesd)
    assert pipe.replay(recipe).identical


def test_what_does_not_fit_is_refused(pipe: Any, taesd: Path, tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="there is no file"):
        pipe.load_tiny_vae(tmp_path / "nothing.safetensors")
    finer = AutoencoderKL(VAEConfig(channels=(8, 8, 8), blocks_per_level=1, norm_groups=4))
    other = sfumato.StableDiffusionPipeline.from_pretrained(tiny_folder, vae=finer)
    with pytest.raises(ConfigError, match="to 8 pixels each, and this model's have 4 for 4"):
        other.load_tiny_vae(taesd)
    assert pipe("a fox", **SETTINGS).images[0].recipe.fast == {}
