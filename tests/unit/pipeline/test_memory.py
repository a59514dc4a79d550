"""A pipeline under a budget: the same picture, and what was done for it said."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sfumato import StableDiffusionPipeline
from sfumato.errors import OptionError
from sfumato.models.held import is_held
from sfumato.pipeline import sparing

SETTINGS: dict[str, Any] = {"num_inference_steps": 2, "height": 64, "width": 64, "seeds": [3]}


@pytest.fixture(scope="module")
def half_folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, stored in float16."""
    folder = tmp_path_factory.mktemp("half") / "model"
    StableDiffusionPipeline.from_pretrained(tiny_folder, torch_dtype=torch.float16).save_pretrained(folder)
    return folder


def opened(folder: Path, **options: Any) -> StableDiffusionPipeline:
    pipe = StableDiffusionPipeline.from_pretrained(folder, **options)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def pixels(pipe: StableDiffusionPipeline, **settings: Any) -> np.ndarray:
    return np.asarray(pipe("a cat", **{**SETTINGS, **settings}).images[0]).astype(int)


def test_the_smallest_run_draws_the_same_picture(half_folder: Path) -> None:
    plain, small = opened(half_folder), opened(half_folder, memory="min")
    assert not is_held(plain.unet)
    assert is_held(small.unet)
    assert small.dtype == torch.float32
    result = small("a cat", **SETTINGS)
    assert np.abs(np.asarray(result.images[0]).astype(int) - pixels(plain)).max() <= 1
    (note,) = [note for note in result.notes if note.startswith("memory:")]
    assert "widened layer by layer" in note
    assert "one after the other" in note
    assert "predicted" in note


def test_held_weights_alone_change_no_bit(half_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = opened(half_folder)
    monkeypatch.setattr(sparing, "HELD_FROM", 1)
    held = opened(half_folder)
    assert is_held(held.unet)
    assert is_held(held.vae)
    assert is_held(held.text_encoder)
    assert np.array_equal(pixels(held), pixels(plain))


def test_a_file_that_is_wide_already_is_left_mapped(tiny_folder: Path) -> None:
    pipe = opened(tiny_folder, memory="min")
    assert not is_held(pipe.unet)
    assert np.abs(pixels(pipe) - pixels(opened(tiny_folder))).max() <= 1


def test_a_generous_budget_costs_nothing(half_folder: Path) -> None:
    pipe = opened(half_folder, memory="16GB")
    assert not is_held(pipe.unet)
    result = pipe("a cat", **SETTINGS)
    assert any("nothing is spared" in note for note in result.notes)


def test_a_budget_that_can_not_be_kept_is_refused_before_anything_is_drawn(half_folder: Path) -> None:
    pipe = opened(half_folder, memory="2MB")
    with pytest.raises(OptionError, match="memory is 2 MB"):
        pipe("a cat", **SETTINGS)


def test_what_is_no_budget_is_refused(half_folder: Path) -> None:
    with pytest.raises(OptionError, match="memory is 'lots'"):
        opened(half_folder, memory="lots")


def test_a_picture_of_a_small_run_is_replayed_to_the_bit(half_folder: Path) -> None:
    result = opened(half_folder, memory="min")("a cat", **SETTINGS)
    (recipe,) = result.recipes
    assert recipe.rows_apart
    again = opened(half_folder).replay(recipe)
    assert again.identical
    assert opened(half_folder, memory="min").replay(recipe).identical


def test_a_cast_widens_for_good(half_folder: Path) -> None:
    pipe = opened(half_folder, memory="min")
    pipe.to(torch.float32)
    assert not is_held(pipe.unet)
    assert {parameter.dtype for parameter in pipe.unet.parameters()} == {torch.float32}
    pipe = opened(half_folder, memory="min").to(torch.float16)
    assert pipe.dtype == torch.float16


def test_float16_on_a_cpu_is_widened_layer_by_layer_under_a_budget(half_folder: Path) -> None:
    pipe = opened(half_folder, memory="min", torch_dtype=torch.float16)
    result = pipe("a cat", **SETTINGS)
    assert is_held(pipe.unet)
    assert any("float16 weights were widened" in note for note in result.notes)
    assert np.array_equal(np.asarray(result.images[0]), pixels(opened(half_folder, memory="min")))


def test_saving_a_held_model_writes_what_is_stored(half_folder: Path, tmp_path: Path) -> None:
    pipe = opened(half_folder, memory="min")
    pipe.save_pretrained(tmp_path / "saved")
    name = "unet/diffusion_pytorch_model.safetensors"
    assert (tmp_path / "saved" / name).read_bytes() == (half_folder / name).read_bytes()


def test_decoding_that_runs_out_of_memory_goes_on_with_less(half_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = opened(half_folder)
    expected = pixels(pipe)
    whole, failures = type(pipe.vae).decode_whole, []

    def failing(self: Any, latents: torch.Tensor) -> torch.Tensor:
        if not failures:
            failures.append(1)
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")
        return whole(self, latents)

    monkeypatch.setattr(type(pipe.vae), "decode_whole", failing)
    result = pipe("a cat", **SETTINGS)
    assert np.abs(np.asarray(result.images[0]).astype(int) - expected).max() <= 1
    assert any("memory ran out" in note for note in result.notes)
    assert "memory ran out" in (result.recipes[0].unrecorded or "")
