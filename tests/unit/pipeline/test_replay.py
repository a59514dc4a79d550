"""A recipe holds what shaped its image, or says that it can't; a picture is saveable whatever becomes of its pipeline."""

import copy
import gc
import os
import pickle
import shutil
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

import sfumato
from sfumato.errors import EvaluationError, NumericalError, OptionError, RecipeError
from sfumato.images import read_recipe
from sfumato.pipeline.picture import Picture

SETTINGS: dict[str, Any] = {"num_inference_steps": 2, "seeds": [1]}


@pytest.fixture
def pipe(tiny_folder: Path) -> Any:
    return opened(tiny_folder)


def opened(folder: Path) -> Any:
    pipe = sfumato.StableDiffusionPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_tiling_slicing_and_autocast_replay(pipe: Any) -> None:
    pipe.enable_vae_tiling()
    pipe.enable_attention_slicing("max")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        recipe = pipe("a fox", height=128, width=128, **SETTINGS).images[0].recipe
    assert (recipe.vae_tiling, recipe.attention_slicing, recipe.autocast) == (True, 1, "bfloat16")
    pipe.disable_vae_tiling()
    pipe.disable_attention_slicing()
    result = pipe.replay(recipe)
    assert result.identical
    assert result.differences == []
    assert pipe.unet.attention_slicing is None, "a replay leaves the switches as they were"


def test_dtypes_of_the_parts_are_recorded_and_compared(pipe: Any) -> None:
    plain = pipe("a fox", **SETTINGS).images[0].recipe
    assert plain.vae_dtype is None
    pipe.vae.to(torch.bfloat16)
    assert pipe("a fox", **SETTINGS).images[0].recipe.vae_dtype == "bfloat16"
    assert "vae_dtype: float32 then, bfloat16 now" in pipe.replay(plain).differences


def test_the_recipe_is_of_the_moment_the_image_was_made(pipe: Any) -> None:
    image = pipe("a fox", **SETTINGS).images[0]
    pipe.to(torch.bfloat16)
    pipe.enable_vae_tiling()
    assert image.recipe.dtype == "float32"
    assert not image.recipe.vae_tiling
    assert image.recipe.model_sha256 is not None, "casting a model does not make it another"


def changed(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
    return {"latents": tensors["latents"] * 0.9}


def stopped(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
    pipe._interrupt = True
    return tensors


EMBEDS = torch.zeros(1, 77, 32)
UNRECORDED: dict[str, dict[str, Any]] = {
    "latents that its caller supplied": {"prompt": "a fox", "latents": torch.zeros(1, 4, 8, 8)},
    "prompt was given as embeddings": {"prompt_embeds": EMBEDS},
    "negative prompt was given as embeddings": {"prompt": "a fox", "negative_prompt_embeds": EMBEDS},
    "a callback changed its latents": {"prompt": "a fox", "callback_on_step_end": changed},
    "the run was interrupted": {"prompt": "a fox", "callback_on_step_end": stopped},
}


@pytest.mark.parametrize("why", UNRECORDED)
def test_what_no_recipe_can_hold_is_said_and_not_replayed(pipe: Any, why: str) -> None:
    recipe = pipe(**UNRECORDED[why], num_inference_steps=3, generator=torch.Generator().manual_seed(1)).images[0].recipe
    assert recipe.unrecorded is not None
    assert why in recipe.unrecorded
    with pytest.raises(RecipeError, match=why):
        pipe.replay(recipe)


def test_a_callback_that_only_looks_changes_nothing(pipe: Any) -> None:
    def look(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        return tensors

    recipe = pipe("a fox", callback_on_step_end=look, **SETTINGS).images[0].recipe
    assert recipe.unrecorded is None
    assert pipe.replay(recipe).identical


def test_changed_weights_have_no_hash(pipe: Any) -> None:
    with torch.no_grad():
        next(pipe.unet.parameters()).mul_(1.5)
    recipe = pipe("a fox", **SETTINGS).images[0].recipe
    assert recipe.model.endswith("(changed: unet)")
    assert recipe.model_sha256 is None


def test_a_picture_can_be_saved_when_its_model_has_gone(tiny_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_folder, tmp_path / "model")
    image = opened(tmp_path / "model")("a fox", **SETTINGS).images[0]
    for file in (tmp_path / "model").rglob("*.safetensors"):
        os.utime(file, (1, 1))
    image.save(tmp_path / "a.png")
    recipe = read_recipe(tmp_path / "a.png")
    assert recipe.model == "model"
    assert recipe.model_sha256 is None


def test_a_picture_does_not_keep_the_networks(tiny_folder: Path) -> None:
    pipe = opened(tiny_folder)
    image = pipe("a fox", **SETTINGS).images[0]
    held = [weakref.ref(pipe.unet), weakref.ref(pipe.vae), weakref.ref(pipe.text_encoder)]
    del pipe
    gc.collect()
    assert [reference() for reference in held] == [None, None, None]
    assert image.recipe.prompt == "a fox"


@pytest.mark.parametrize("again", [copy.deepcopy, lambda image: pickle.loads(pickle.dumps(image))])
def test_copies_of_a_picture_are_pictures(pipe: Any, tmp_path: Path, again: Any) -> None:
    image = pipe("a fox", **SETTINGS).images[0]
    copied = again(image)
    assert isinstance(copied, Picture)
    assert copied.recipe == image.recipe
    assert copied.tobytes() == image.tobytes()
    with open(tmp_path / "open.png", "wb") as file:
        copied.save(file)
    assert read_recipe(tmp_path / "open.png") == image.recipe


def test_memory_that_runs_out_is_an_error_of_one_image(pipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first: list[torch.Tensor] = []

    def failing(decode: Any) -> Any:
        def of_the_first(self: Any, latents: torch.Tensor, *tile: Any) -> torch.Tensor:
            if not first:
                first.append(latents)
            if torch.equal(latents, first[0]):  # by whatever measures
                raise torch.OutOfMemoryError("out of memory: tried to allocate 3 EiB\nlong explanation")
            return decode(self, latents, *tile)

        return of_the_first

    for way in ("decode_whole", "decode_tiled"):
        monkeypatch.setattr(type(pipe.vae), way, failing(getattr(type(pipe.vae), way)))
    result = pipe(["a fox", "a cat"], num_inference_steps=1, seeds=[1, 2])
    assert isinstance(result.errors[0], EvaluationError)
    assert "make the picture smaller" in str(result.errors[0])
    assert "\n" not in str(result.errors[0])
    assert isinstance(result.images[1], Picture)


def test_a_size_beyond_any_memory_is_one_line(pipe: Any) -> None:
    with pytest.raises(EvaluationError, match="the noise could not be computed"):
        pipe("a fox", height=8 * 10**7, width=8 * 10**7, num_inference_steps=1)


def test_weights_that_were_rounded_are_said_to_be(tiny_folder: Path) -> None:
    pipe = sfumato.StableDiffusionPipeline.from_pretrained(tiny_folder, torch_dtype=torch.float16)
    pipe.set_progress_bar_config(disable=True)
    recipe = pipe("a fox", **SETTINGS).images[0].recipe
    assert (recipe.dtype, recipe.weights_dtype) == ("float32", "float16")
    assert pipe.replay(recipe).identical
    differences = opened(tiny_folder).replay(recipe).differences
    assert "weights_dtype: float16 then, float32 now" in differences
    assert (
        opened(tiny_folder).to(torch.bfloat16).to(torch.float32)("a fox", **SETTINGS).images[0].recipe.weights_dtype
        == "bfloat16"
    )


@pytest.mark.parametrize("returned", [torch.zeros(1), [1], {"latents": [1.0]}, {"latents": torch.zeros(1)}])
def test_what_a_callback_returns_is_checked(pipe: Any, returned: Any) -> None:
    with pytest.raises(OptionError, match="the step callback"):
        pipe("a fox", callback_on_step_end=lambda *_: returned, **SETTINGS)


def test_callbacks_have_latents_in_the_networks_dtype(pipe: Any) -> None:
    pipe.to(torch.bfloat16)
    sizes: list[torch.Size] = []

    def preview(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        with torch.no_grad():
            sizes.append(pipe.vae.decode(tensors["latents"] / pipe.vae.config.scaling_factor).shape)
        return tensors

    recipe = pipe("a fox", callback_on_step_end=preview, **SETTINGS).images[0].recipe
    assert sizes == [torch.Size([1, 3, 64, 64])] * 2
    assert recipe.unrecorded is None, "looking is not changing, whatever was rounded on the way"


def test_a_checker_that_overflows_passes_no_picture(tiny_folder_with_checker: Path) -> None:
    pipe = opened(tiny_folder_with_checker)
    with torch.no_grad():
        next(pipe.safety_checker.parameters()).fill_(torch.nan)
    with pytest.raises(NumericalError, match="safety checker's scores are not finite"):
        pipe("a fox", **SETTINGS)
