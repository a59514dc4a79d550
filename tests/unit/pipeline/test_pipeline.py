"""The pipeline: the field's public face, and the promises behind it."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sfumato
from sfumato.engine import StepDone
from sfumato.errors import (
    CheckpointError,
    CorruptFileError,
    MissingFileError,
    NumericalError,
    OptionError,
    PromptError,
    SizeError,
    UnsupportedError,
    UsageError,
)
from sfumato.images import read_recipe
from sfumato.pipeline.picture import Picture
from sfumato.recipe import Recipe


@pytest.fixture
def pipe(tiny_folder: Path) -> sfumato.StableDiffusionPipeline:
    pipe = sfumato.StableDiffusionPipeline.from_pretrained(tiny_folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# -- the same image -----------------------------------------------------------------------------------------------------


def test_an_image_is_bit_identical_alone_in_a_batch_and_whatever_is_beside_it(pipe: Any) -> None:
    run = {"num_inference_steps": 3, "output_type": "np"}
    together = pipe(["a fox", "a house", "a fox"], seeds=[1, 2, 3], **run).images
    for i, (prompt, seed) in enumerate([("a fox", 1), ("a house", 2), ("a fox", 3)]):
        assert np.array_equal(pipe(prompt, seeds=[seed], **run).images[0], together[i])
    assert np.array_equal(pipe("a fox", generator=seeded(1), **run).images[0], together[0])


@pytest.mark.parametrize("name", ["PNDMScheduler", "DDIMScheduler", "EulerAncestralDiscreteScheduler", "DDPMScheduler"])
def test_every_saved_picture_replays_bit_identically(pipe: Any, tmp_path: Path, name: str) -> None:
    pipe.scheduler = getattr(sfumato, name).from_config(pipe.scheduler.config)
    eta = 0.5 if name == "DDIMScheduler" else 0.0
    settings = {"num_images_per_prompt": 2, "num_inference_steps": 3, "eta": eta, "height": 32, "clip_skip": 1}
    for i, image in enumerate(pipe("a fox", negative_prompt="blur", generator=seeded(7), **settings).images):
        image.save(tmp_path / f"{i}.png")
    pipe.scheduler = sfumato.PNDMScheduler.from_config(pipe.scheduler.config)
    for i in range(2):
        result = pipe.replay(read_recipe(tmp_path / f"{i}.png"))
        assert result.identical
        assert result.differences == []


def test_replay_continues_a_generator_that_had_been_used(pipe: Any) -> None:
    generator = seeded(7)
    run = {"num_inference_steps": 2, "generator": generator}
    first, second = (pipe("a fox", **run).images[0] for _ in range(2))
    assert first.recipe.noise_state is None
    assert second.recipe.noise_state is not None
    assert pipe.replay(second.recipe).identical
    assert first.recipe.pixels_sha256 != second.recipe.pixels_sha256


def test_replay_says_what_differs(pipe: Any) -> None:
    recipe: Recipe = pipe("a fox", num_inference_steps=2, seeds=[1]).images[0].recipe
    values = {name: getattr(recipe, name) for name in recipe.__slots__}
    other = Recipe(
        **{**values, "model_sha256": "0" * 64, "model": "another", "versions": {**recipe.versions, "torch": "1.0"}}
    )
    result = pipe.replay(other)
    assert result.identical
    assert [d.split(":")[0] for d in result.differences] == ["the model", "torch"]
    changed = pipe.replay(Recipe(**{**values, "seed": 2}))
    assert not changed.identical


def test_a_replaced_part_is_no_longer_the_opened_model(pipe: Any, tiny_folder: Path) -> None:
    known = pipe("a fox", num_inference_steps=1, seeds=[1]).images[0].recipe
    assert known.model == tiny_folder.name
    assert len(known.model_sha256) == 64
    pipe.vae = sfumato.StableDiffusionPipeline.from_pretrained(tiny_folder).vae
    other = pipe("a fox", num_inference_steps=1, seeds=[1]).images[0].recipe
    assert other.model == f"{tiny_folder.name} (changed: vae)"
    assert other.model_sha256 is None


def test_in_inference_mode_a_model_is_opened_and_cast_and_known_for_what_it_is(pipe: Any, tiny_folder: Path) -> None:
    run = {"num_inference_steps": 1, "seeds": [1]}
    plain = pipe.to(torch.float64)("a fox", **run).images[0]
    with torch.inference_mode():
        opened = sfumato.StableDiffusionPipeline.from_pretrained(tiny_folder).to(torch.float64)
        opened.set_progress_bar_config(disable=True)
        inside = opened("a fox", **run).images[0]
        opened.unet.conv_out.weight.mul_(2)
        changed = opened("a fox", **run).images[0]
    assert np.array_equal(inside, plain)
    assert (inside.recipe.model, inside.recipe.model_sha256) == (plain.recipe.model, plain.recipe.model_sha256)
    assert changed.recipe.model == f"{tiny_folder.name} (changed: unet)"
    assert changed.recipe.model_sha256 is None


@pytest.mark.parametrize("cast", [{}, {"torch_dtype": torch.float16}], ids=["by itself", "for a CPU"])
def test_a_network_cast_in_inference_mode_is_still_seen_to_change(tiny_folder: Path, cast: Any) -> None:
    run = {"num_inference_steps": 1, "seeds": [1]}
    with torch.inference_mode():
        pipe = sfumato.StableDiffusionPipeline.from_pretrained(tiny_folder, **cast)
        pipe.set_progress_bar_config(disable=True)
        pipe.unet.to(torch.float64).to(torch.float16 if cast else torch.float32)
        assert pipe("a fox", **run).images[0].recipe.model == tiny_folder.name
        pipe.unet.conv_out.weight.mul_(2)
        assert pipe("a fox", **run).images[0].recipe.model == f"{tiny_folder.name} (changed: unet)"


def test_a_network_made_and_cast_in_inference_mode_draws_in_it_and_outside(pipe: Any) -> None:
    run = {"num_inference_steps": 1, "seeds": [1]}
    weights = pipe.unet.state_dict()
    with torch.inference_mode():
        pipe.unet = sfumato.models.UNet(pipe.unet.config)
        pipe.unet.load_state_dict(weights)
        inside = pipe.to(torch.float64)("a fox", **run).images[0]
    assert np.array_equal(pipe("a fox", **run).images[0], inside)


def test_pictures_carry_their_recipe_until_they_are_changed(pipe: Any) -> None:
    image = pipe("a fox", num_inference_steps=1, seeds=[1]).images[0]
    assert isinstance(image, Picture)
    assert image.recipe.prompt == "a fox"
    assert image.recipe.seed == 1
    assert not isinstance(image.resize((8, 8)), Picture)


# -- the field's habits -------------------------------------------------------------------------------------------------


def test_a_notebook_runs_as_it_is_written(tiny_folder: Path) -> None:
    pipe = sfumato.StableDiffusionPipeline.from_pretrained(
        str(tiny_folder), torch_dtype=torch.float32, safety_checker=None, use_safetensors=True, low_cpu_mem_usage=True
    )
    pipe = pipe.to("cpu")
    pipe.scheduler = sfumato.EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    pipe.enable_attention_slicing()
    pipe.enable_vae_slicing()
    pipe.enable_vae_tiling()
    pipe.enable_model_cpu_offload()
    pipe.enable_xformers_memory_efficient_attention()
    pipe.set_progress_bar_config(disable=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = pipe(prompt=["a fox"] * 2, num_inference_steps=2, guidance_scale=7.5, generator=seeded(0))
    assert len(out.images) == 2
    assert out.nsfw_content_detected is None
    assert out["images"] is out.images
    assert out[0] is out.images
    assert out._repr_png_().startswith(b"\x89PNG")
    images, nsfw = pipe("a fox", num_inference_steps=1, return_dict=False)
    assert len(images) == 1
    assert nsfw is None


def test_the_older_callback_still_works(pipe: Any) -> None:
    seen: list[tuple[int, int, tuple[int, ...]]] = []
    pipe(
        "a fox",
        num_inference_steps=4,
        callback=lambda step, t, latents: seen.append((step, int(t), tuple(latents.shape))),
        callback_steps=2,
    )
    assert [s[0] for s in seen] == [0, 2]
    assert seen[0][2] == (1, 4, 8, 8)


def test_a_callback_can_stop_the_run(pipe: Any) -> None:
    steps: list[int] = []

    def stop(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        steps.append(step)
        pipe._interrupt = step == 1
        return tensors

    pipe.scheduler = sfumato.EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    assert len(pipe("a fox", num_inference_steps=10, callback_on_step_end=stop).images) == 1
    assert steps == [0, 1]


def test_events_carry_previews(pipe: Any) -> None:
    sizes: list[tuple[int, int]] = []
    pipe(
        "a fox",
        num_inference_steps=2,
        on_event=lambda e: sizes.append(e.preview().size) if isinstance(e, StepDone) else None,
    )
    assert set(sizes) == {(64, 64)}


def test_attention_slicing_and_tiling_do_not_change_the_picture(pipe: Any) -> None:
    run = {"num_inference_steps": 2, "seeds": [1], "output_type": "np"}
    plain = pipe("a fox", **run).images
    for size in ("auto", "max", 2):
        pipe.enable_attention_slicing(size)
        np.testing.assert_allclose(pipe("a fox", **run).images, plain, atol=1e-4)
    pipe.disable_attention_slicing()
    pipe.enable_vae_tiling()
    np.testing.assert_allclose(pipe("a fox", **run).images, plain, atol=1 / 255)
    with pytest.raises(OptionError, match="slice_size"):
        pipe.enable_attention_slicing(0)


def test_saving_and_opening_again_gives_the_same_picture(pipe: Any, tmp_path: Path) -> None:
    run = {"num_inference_steps": 2, "seeds": [1], "output_type": "np"}
    pipe.scheduler = sfumato.EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    pipe.save_pretrained(tmp_path / "copy")
    again = sfumato.StableDiffusionPipeline.from_pretrained(tmp_path / "copy")
    again.set_progress_bar_config(disable=True)
    assert type(again.scheduler) is sfumato.EulerDiscreteScheduler
    assert np.array_equal(again("a fox", **run).images, pipe("a fox", **run).images)


def test_float16_weights_are_computed_in_float32_on_a_cpu_and_it_is_said(tiny_folder: Path) -> None:
    pipe = sfumato.StableDiffusionPipeline.from_pretrained(tiny_folder, torch_dtype=torch.float16)
    pipe.set_progress_bar_config(disable=True)
    assert pipe.dtype == torch.float16
    result = pipe("a fox", num_inference_steps=1)
    assert pipe.dtype == torch.float32
    assert any("float16" in note for note in result.notes)


def test_a_cut_prompt_is_said(pipe: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="sfumato"):
        result = pipe("fox " * 80, num_inference_steps=1)
    assert any("not seen: 'fox fox" in note for note in result.notes)
    assert "not seen" in caplog.text


def test_a_flagged_picture_is_replaced_and_said(tiny_folder_with_checker: Path) -> None:
    pipe = sfumato.StableDiffusionPipeline.from_pretrained(tiny_folder_with_checker)
    pipe.set_progress_bar_config(disable=True)
    result = pipe(["a fox"] * 8, num_inference_steps=1, seeds=list(range(8)))
    flagged = result.nsfw_content_detected
    assert set(flagged) == {True, False}
    for image, recipe, bad in zip(result.images, result.recipes, flagged, strict=True):
        assert (np.asarray(image).max() == 0) == bad
        assert recipe.safety == ("flagged" if bad else "passed")
    assert sum("safety checker" in note for note in result.notes) == sum(flagged)
    pipe.safety_checker = None
    assert pipe("a fox", num_inference_steps=1).nsfw_content_detected is None


# -- what can't be done ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({}, PromptError, "no prompt"),
        ({"prompt": "a", "height": 100}, SizeError, "multiple of 8"),
        ({"prompt": "a", "num_inference_steps": 0}, OptionError, "num_inference_steps"),
        ({"prompt": "a", "num_inference_steps": 10_000}, OptionError, "from 1 to 1000"),
        ({"prompt": "a", "guidance_scale": float("nan")}, OptionError, "guidance_scale must be a finite number"),
        ({"prompt": "a", "output_type": "jpg"}, OptionError, "output_type"),
        ({"prompt": "a", "seeds": [1, 2]}, OptionError, "2 seeds for 1 images"),
        ({"prompt": "a", "latents": torch.zeros(1, 4, 4, 4)}, SizeError, "latents must have the shape"),
        ({"prompt": "a", "clip_skip": 3}, OptionError, "clip_skip"),
        ({"prompt": "a", "ip_adapter_image": object()}, UnsupportedError, "ip_adapter_image"),
        ({"prompt": "a", "eta": 2.0}, OptionError, "eta"),
    ],
)
def test_bad_input_is_a_typed_error_before_any_work(
    pipe: Any, arguments: dict[str, Any], error: type[UsageError], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        pipe(**arguments)
    assert "\n" not in str(caught.value)


def test_models_that_cannot_be_opened(tmp_path: Path) -> None:
    opened = sfumato.StableDiffusionPipeline.from_pretrained
    with pytest.raises(MissingFileError, match="no model folder"):
        opened(tmp_path / "nowhere")
    with pytest.raises(MissingFileError, match=r"model_index\.json"):
        opened(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(CorruptFileError, match=r"model\.safetensors"):
        opened(tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError):
        opened("nobody/such-a-model", local_files_only=True)
    with pytest.raises(UnsupportedError, match="custom_pipeline"):
        opened(tmp_path, custom_pipeline="x")


def test_devices_and_dtypes_that_are_not_there(pipe: Any) -> None:
    with pytest.raises(OptionError, match="unknown device"):
        pipe.to("toaster")
    if not torch.cuda.is_available():
        with pytest.raises(OptionError, match="no CUDA device"):
            pipe.to("cuda", torch.float16)
    assert pipe.to(torch.float64).dtype == torch.float64


def test_a_failing_image_leaves_the_others_alone(pipe: Any) -> None:
    embeds = torch.randn(2, 77, 32, generator=seeded(1))
    embeds[0] = torch.nan
    run = {"num_inference_steps": 2, "negative_prompt_embeds": torch.zeros(2, 77, 32)}
    result = pipe(prompt_embeds=embeds, **run)
    assert result.images[0] is None
    assert isinstance(result.errors[0], NumericalError)
    assert isinstance(result.images[1], Picture)
    with pytest.raises(NumericalError, match="step 1 of 2"):
        pipe(prompt_embeds=embeds[:1], num_inference_steps=2, negative_prompt_embeds=torch.zeros(1, 77, 32))


def test_a_vae_that_overflows_is_an_error_not_a_black_picture(pipe: Any) -> None:
    pipe.vae.decoder.conv_out.weight.data.fill_(torch.inf)
    with pytest.raises(NumericalError, match=r"VAE layer 'decoder.*the weights are damaged"):
        pipe("a fox", num_inference_steps=1)


def test_a_vae_that_overflows_in_float16_is_computed_in_float32_and_that_is_said(pipe: Any) -> None:
    """As SDXL's does; diffusers goes by an option of its config, which single files have not."""
    expected = pipe("a fox", num_inference_steps=1, seeds=[1, 2], num_images_per_prompt=2, output_type="pt").images
    decoder = pipe.vae.decoder
    decoder.conv_in.weight.data *= 1e5  # a norm comes after it, so that the picture stays nearly what it was
    decoder.conv_in.bias.data *= 1e5
    pipe.vae.to(torch.float16)
    pipe.unet.to(torch.float32)
    result = pipe("a fox", num_inference_steps=1, seeds=[1, 2], num_images_per_prompt=2, output_type="pt")
    assert result.notes[0] == "image 1: its autoencoder overflowed in float16, and was computed in float32 instead"
    assert pipe.vae.dtype == torch.float16
    assert torch.isfinite(result.images).all()
    assert result.images.shape == expected.shape
