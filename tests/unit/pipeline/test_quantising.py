"""A pipeline in int8 says so, records it and makes the picture again; what its scales are not for is said or refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import sfumato
from sfumato import native
from sfumato.errors import ConfigError, MissingFileError, OptionError, RecipeError, UnsupportedError
from sfumato.models.int8 import missing
from sfumato.models.quantising import quantisation_of
from sfumato.recipe import Recipe

pytestmark = pytest.mark.skipif(missing() is not None, reason=f"int8 needs {missing()}")

SETTINGS: dict[str, Any] = {"num_inference_steps": 2, "seeds": [1]}


@pytest.fixture
def pipe(tiny_folder: Path) -> Any:
    return opened(tiny_folder)


def opened(folder: Path) -> Any:
    pipe = sfumato.StableDiffusionPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def latents_of(pipe: Any) -> torch.Tensor:
    return pipe("a fox", output_type="latent", **SETTINGS).images


def test_scales_are_taken_from_prompts_recorded_and_replayed(pipe: Any, tmp_path: Path, tiny_folder: Path) -> None:
    plain, plain_recipe = latents_of(pipe), pipe("a fox", **SETTINGS).images[0].recipe
    made = pipe.quantize(["a fox", "a hen"], **SETTINGS)
    assert made.prompts == 2
    torch.manual_seed(5)
    assert pipe.quantize(["a fox", "a hen"], num_inference_steps=2) == pipe.quantize(
        ["a fox", "a hen"], num_inference_steps=2
    )
    assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(5))), (
        "torch's generator is not drawn from"
    )
    made = pipe.quantize(["a fox", "a hen"], **SETTINGS)
    result = pipe("a fox", **SETTINGS)
    recipe = Recipe.from_json(result.images[0].recipe.to_json())
    assert recipe.int8 == made.name
    assert "int8 (scales from 2 prompts)" in result.notes[0]
    difference = (latents_of(pipe) - plain).norm() / plain.norm()
    assert 0 < difference < 0.1

    assert pipe.replay(plain_recipe).identical, "a picture of float32 is made in float32"
    assert quantisation_of(pipe.unet) is made, "a replay leaves the switches as they were"
    assert pipe.replay(recipe).identical
    pipe.dequantize()
    assert torch.equal(latents_of(pipe), plain)
    with pytest.raises(RecipeError, match="not at hand"):
        pipe.replay(recipe)

    pipe.quantize(["a fox", "a hen"], **SETTINGS)
    pipe.save_quantization(tmp_path / "scales.json")
    again = opened(tiny_folder)
    again.quantize(scales=tmp_path / "scales.json")
    assert again.replay(recipe).identical


def test_without_scales_they_are_each_input_s_own(pipe: Any) -> None:
    assert pipe.quantize().name.startswith("dynamic-")
    result = pipe("a fox", **SETTINGS)
    assert "scales taken from each input" in result.notes[0]
    pipe.dequantize()
    assert pipe.replay(result.images[0].recipe).identical, "nothing else is needed"
    with pytest.raises(OptionError, match="no scales to save"):
        pipe.save_quantization("scales.json")


def test_layers_can_be_kept(pipe: Any) -> None:
    whole = pipe.quantize()
    kept = pipe.quantize(keep=["conv1", "to_q"])
    assert {
        name for name in whole.layers if "conv1" in name or "to_q" in name
    } == whole.layers.keys() - kept.layers.keys()
    assert pipe.unet.middle[0].resnet.conv1.int8 is None


@pytest.mark.skipif(native.why_not_in_bytes() is not None, reason=f"no kernel: {native.why_not_in_bytes()}")
def test_attention_that_has_no_kernel_here_is_in_float_and_said(pipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = pipe.quantize()
    with_products = pipe("a fox", **SETTINGS)
    kept = pipe.quantize(keep=["products"])
    without_products = pipe("a fox", **SETTINGS)
    assert kept.layers == whole.layers
    assert not any("attention is computed in float32" in note for note in without_products.notes), "it was asked for"
    pipe.dequantize()
    for picture in (with_products, without_products):
        assert pipe.replay(picture.images[0].recipe).identical, "either is at hand"

    monkeypatch.setattr(native, "why_not_in_bytes", lambda: "there is no C compiler (cc, gcc, clang)")
    assert pipe.quantize() == whole
    there = pipe("a fox", **SETTINGS)
    assert there.images[0].recipe.int8 == kept.name, "a recipe says what was computed"
    said = pipe("a fox", **SETTINGS).notes
    assert "its attention is computed in float32, which takes longer: there is no C compiler (cc, gcc, clang)" in said
    again = pipe.replay(with_products.images[0].recipe)
    assert not again.identical
    assert any("int8" in difference for difference in again.differences), "and why"
    monkeypatch.undo()
    assert pipe.replay(there.images[0].recipe).identical, "where there is a kernel, it is left out"


def test_scales_beside_the_weights_are_used_while_they_are_for_them(pipe: Any, tiny_folder: Path) -> None:
    beside = tiny_folder / "unet" / "int8.json"
    made = pipe.quantize("a fox", **SETTINGS)
    pipe.save_quantization(beside)
    try:
        again = opened(tiny_folder)
        assert again.quantize() == made
        assert opened(tiny_folder).replay(pipe("a fox", **SETTINGS).images[0].recipe).identical
        again.unet.middle[0].resnet.conv1.weight.data.mul_(2)
        assert again.quantize().name.startswith("dynamic-")
        with pytest.raises(OptionError, match="other weights"):
            again.quantize(scales=beside)
    finally:
        beside.unlink()


def test_weights_that_change_afterwards_are_taken_up_and_said(pipe: Any) -> None:
    pipe.quantize("a fox", **SETTINGS)
    before = latents_of(pipe)
    with torch.no_grad():
        pipe.unet.up[0].resnet.conv1.weight.mul_(1.5)
    result = pipe("a fox", output_type="latent", **SETTINGS)
    assert not torch.equal(result.images, before)
    assert any("other weights than the U-Net has now" in note for note in result.notes)


def test_adapters_run_beside_int8_and_merge_into_it(pipe: Any) -> None:
    torch.manual_seed(0)
    name = "unet.mid_block.resnets.0.conv1"
    lora = {
        f"{name}.lora_A.weight": torch.randn(4, 32, 3, 3) / 8,
        f"{name}.lora_B.weight": torch.randn(32, 4, 1, 1) / 8,
    }
    pipe.load_lora_weights(lora)
    plain = latents_of(pipe)
    pipe.quantize("a fox", **SETTINGS)

    def difference() -> float:
        return float((latents_of(pipe) - plain).norm() / plain.norm())

    beside = difference()
    pipe.disable_lora()
    assert difference() > 2 * beside, "the LoRA makes more of a difference than int8"
    pipe.enable_lora()
    pipe.fuse_lora()
    assert difference() < 2 * beside
    pipe.unfuse_lora()
    assert difference() == beside


def test_an_adapter_that_was_there_leaves_no_trace(pipe: Any) -> None:
    pipe.quantize("a fox", **SETTINGS)
    before = latents_of(pipe)
    name = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_v"
    width = pipe.unet.down[0].attention.blocks[0].self_attention.to_v.in_features
    pipe.load_lora_weights(
        {f"{name}.lora_A.weight": torch.arange(width)[None] / width, f"{name}.lora_B.weight": torch.ones(width, 1)}
    )
    assert not torch.equal(latents_of(pipe), before)
    pipe.unload_lora_weights()
    assert torch.equal(latents_of(pipe), before)


def test_the_bundled_model_s_own_scales_make_nearly_its_picture() -> None:
    pipe = opened(sfumato.bundled_model())
    plain = pipe("a red apple, 3d style", num_inference_steps=6, seeds=[1], output_type="pt").images
    assert pipe.quantize().name.startswith("static-"), "python bench/int8.py calibrate takes them for new weights"
    near = pipe("a red apple, 3d style", num_inference_steps=6, seeds=[1], output_type="pt").images
    assert 0 < float(((near - plain) ** 2).mean()) < 1e-3  # 30 dB


def test_what_cannot_be_is_refused(pipe: Any, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="leave one of the two out"):
        pipe.quantize("a fox", scales="scales.json")
    with pytest.raises(OptionError, match="num_inference_steps says how prompts are drawn"):
        pipe.quantize(num_inference_steps=2)
    with pytest.raises(OptionError, match="no prompts"):
        pipe.quantize([])
    with pytest.raises(MissingFileError, match="give a file that save_quantization wrote"):
        pipe.quantize(scales=tmp_path / "none.json")
    (tmp_path / "other.json").write_text(json.dumps({"format": "x"}))
    with pytest.raises(ConfigError, match="holds no scales"):
        pipe.quantize(scales=tmp_path / "other.json")
    assert quantisation_of(pipe.unet) is None

    pipe.quantize()
    pipe.to(torch.bfloat16)
    with pytest.raises(UnsupportedError, match=r"bfloat16 on cpu; .*pipe.dequantize\(\)"):
        pipe("a fox", **SETTINGS)
    pipe.dequantize()
    with pytest.raises(UnsupportedError, match="bfloat16"):
        pipe.quantize()


@pytest.mark.parametrize("value", ["", "int8", "static-12", "dynamic-" + "g" * 16])
def test_a_recipe_names_scales_by_their_digest(pipe: Any, value: str) -> None:
    recipe = pipe("a fox", **SETTINGS).images[0].recipe
    with pytest.raises(RecipeError, match="int8"):
        Recipe.from_dict({**json.loads(recipe.to_json()), "int8": value})
