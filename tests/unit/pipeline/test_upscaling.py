"""Models that enlarge a picture: what may be asked of them, and that recipes hold it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import sfumato
from sfumato.diffusion.prediction import denoised_from
from sfumato.errors import OptionError, PromptError, SizeError, UnsupportedError, UsageError
from sfumato.pipeline import upscaling_pipelines
from sfumato.recipe import Recipe

Folders = Callable[[str], Path]
RUN: dict[str, Any] = {"prompt": "a fox", "num_inference_steps": 2, "seeds": [1]}


def picture(width: int = 16, height: int = 12, seed: int = 0) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def opened(folder: Path) -> Any:
    pipe = sfumato.StableDiffusionPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture
def four_times(family_folders: Folders) -> Any:
    return opened(family_folders("x4-upscaler"))


@pytest.fixture
def twice(family_folders: Folders) -> Any:
    return opened(family_folders("x2-latent-upscaler"))


def test_the_family_decides_on_the_class(four_times: Any, twice: Any, family_folders: Folders) -> None:
    assert type(four_times) is sfumato.StableDiffusionUpscalePipeline
    assert type(twice) is sfumato.StableDiffusionLatentUpscalePipeline
    for kind in (sfumato.StableDiffusionImg2ImgPipeline, sfumato.StableDiffusionLatentUpscalePipeline):
        with pytest.raises(UsageError, match=f"none for {kind.__name__}"):
            kind.from_pretrained(family_folders("x4-upscaler"))


@pytest.mark.parametrize(("name", "side", "times"), [("x4-upscaler", 16, 4), ("x2-latent-upscaler", 32, 2)])
def test_a_picture_is_enlarged_recorded_and_replayed(name: str, side: int, times: int, family_folders: Folders) -> None:
    pipe, small = opened(family_folders(name)), picture(side, side)
    result = pipe(**RUN, image=small, guidance_scale=3.0)
    recipe = Recipe.from_json(result.recipes[0].to_json())
    assert result.images[0].size == (side * times, side * times)
    assert (recipe.workflow, recipe.inputs["image"]["width"], recipe.unrecorded) == ("upscale", side, None)
    assert recipe.workflow_options == ({"noise_level": 20} if times == 4 else {})
    assert pipe.replay(recipe, {"image": small}).identical
    assert not pipe.replay(recipe, {"image": picture(side, side, 1)}).identical

    # In company as alone; and to another size, for which the picture is brought to another first.
    prompts, others = ["a cat", "a fox"], [picture(side, side, 1), small]
    both = pipe(prompts, image=others, num_inference_steps=2, guidance_scale=3.0, seeds=[2, 1])
    assert np.array_equal(both.images[1], result.images[0])
    larger = pipe(**RUN, image=small, guidance_scale=3.0, height=3 * side * times, width=side * times).images[0]
    assert larger.size == (side * times, 3 * side * times)


REFUSED: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "more noise than it knows": ({"noise_level": 40}, OptionError, "noise_level must be from 0 to 39, not 40"),
    "a share of noise": ({"noise_level": 0.5}, OptionError, "noise_level must be a whole number"),
    "a strength": ({"strength": 0.5}, OptionError, "strength says how much of an image is to change"),
    "a mask": ({"mask_image": Image.new("L", (16, 12))}, UnsupportedError, "×4 upscaler take no mask_image"),
    "latents": ({"image": torch.zeros(1, 4, 8, 8)}, OptionError, "image must hold pixels here"),
    "a part of a run": ({"denoising_end": 0.5}, OptionError, "leave out denoising_start and denoising_end"),
    "no picture": ({"image": None}, UnsupportedError, "a picture to enlarge; pass image=…"),
    "a picture of nothing": ({"image": picture(3, 40)}, SizeError, "it must have 4 pixels a side at least"),
    "a size that it can't draw": ({"height": 40}, SizeError, "height must be a positive multiple of 16, not 40"),
}  # fmt: skip


@pytest.mark.parametrize(("said", "error", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_what_the_upscaler_can_t_be_asked(
    four_times: Any, said: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        four_times(**{**RUN, "image": picture(), **said})


def test_noise_is_for_models_that_read_it(twice: Any, tiny_folder: Path) -> None:
    for pipe in (twice, opened(tiny_folder)):
        with pytest.raises(UnsupportedError, match="make no picture noisy before they read it; leave out noise_level"):
            pipe(**RUN, image=picture(32, 32), noise_level=20)


def test_more_noise_takes_it_further_from_the_picture(four_times: Any) -> None:
    run = {**RUN, "num_inference_steps": 1, "guidance_scale": 1.0, "output_type": "latent"}
    still = four_times(**run, image=picture(), noise_level=0).images
    away = [
        float((four_times(**run, image=picture(), noise_level=level).images - still).abs().mean()) for level in (5, 39)
    ]
    assert 0 < away[0] < away[1]


def test_large_pictures_are_decoded_in_tiles_unless_switched_off(
    four_times: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = four_times(**RUN, image=picture(40, 24))
    assert not whole.recipes[0].vae_tiling
    monkeypatch.setattr(upscaling_pipelines, "WHOLE_PIXELS", 100 * 100)
    tiled = four_times(**RUN, image=picture(40, 24))
    assert tiled.recipes[0].vae_tiling
    assert not np.array_equal(tiled.images[0], whole.images[0])
    assert not four_times(**RUN, image=picture()).recipes[0].vae_tiling, "not what is small"
    assert four_times.replay(tiled.recipes[0], {"image": picture(40, 24)}).identical
    four_times.disable_vae_tiling()
    again = four_times(**RUN, image=picture(40, 24))
    assert np.array_equal(again.images[0], whole.images[0])
    four_times.enable_vae_tiling()
    assert four_times(**RUN, image=picture(40, 24)).recipes[0].vae_tiling


def test_its_noise_schedule_comes_with_it_and_goes_on(four_times: Any, tmp_path: Path) -> None:
    kept = four_times.low_res_scheduler
    assert (kept.beta_schedule, kept.beta_end) == ("scaled_linear", 0.02)
    other = sfumato.DDPMScheduler(beta_start=0.01, beta_end=0.1)
    options = {**four_times.components, "low_res_scheduler": other, "max_noise_level": 30}
    made = sfumato.StableDiffusionUpscalePipeline(**options)
    made.set_progress_bar_config(disable=True)
    drawn = made(**RUN, image=picture(), noise_level=30).images[0]
    assert not np.array_equal(drawn, four_times(**RUN, image=picture(), noise_level=30).images[0])
    with pytest.raises(UnsupportedError, match="low_res_scheduler comes with the model and stays"):
        sfumato.StableDiffusionUpscalePipeline.from_pipe(made, low_res_scheduler=kept)
    with pytest.raises(UnsupportedError, match="watermarks are not available"):
        sfumato.StableDiffusionUpscalePipeline(**options, watermarker=object())
    with pytest.raises(OptionError, match="from 0 to 30"):
        made(**RUN, image=picture(), noise_level=31)
    made.save_pretrained(tmp_path / "saved")
    again = opened(tmp_path / "saved")
    assert (again.low_res_scheduler.beta_end, again.config.max_noise_level) == (0.1, 30)
    assert np.array_equal(again(**RUN, image=picture(), noise_level=30).images[0], drawn)


def test_a_prompt_that_the_latent_upscaler_does_not_read_is_said(twice: Any) -> None:
    small = picture(32, 32)
    silent = twice(**RUN, image=small)
    assert silent.recipes[0].guidance_scale == 0.0
    assert (
        "at a guidance scale of 0 the latent upscaler reads no prompt; give 1 or more to have it read" in silent.notes
    )
    assert silent.recipes[0].prompt == "a fox"
    empty = twice(**{**RUN, "prompt": ""}, image=small)
    assert empty.notes == []
    assert np.array_equal(silent.images[0], empty.images[0])
    assert twice.replay(silent.recipes[0], {"image": small}).identical


def test_the_latent_upscaler_goes_on_from_latents(twice: Any, tiny_folder: Path) -> None:
    latents = opened(tiny_folder)(**RUN, output_type="latent").images
    seen: list[tuple[int, ...]] = []

    def callback(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        seen.append(tuple(tensors["latents"].shape))
        return {}

    result = twice(**RUN, image=latents, guidance_scale=2.0, callback_on_step_end=callback)
    assert result.images[0].size == (128, 128)
    assert seen == [(1, 4, 16, 16)] * 2
    assert "given as a tensor" in str(result.recipes[0].unrecorded)
    for wrong in ({"image": latents[..., :7]}, {"height": 64}):
        with pytest.raises(SizeError, match="can't be enlarged to"):
            twice(**{**RUN, "image": latents, **wrong})
    with pytest.raises(PromptError, match="pass prompt_embeds and pooled_prompt_embeds together"):
        twice(image=latents, prompt_embeds=torch.zeros(1, 77, 64), num_inference_steps=1)


def test_minus_v_is_karras_network_at_unit_variance() -> None:
    """c_skip x + c_out F with sigma_data = 1, of Table 1; a network that answers -v of x0 and noise gives x0 back."""
    x0, noise = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    for sigma in (0.03, 1.0, 14.6):
        v = (noise - sigma * x0) / (1 + sigma**2) ** 0.5
        torch.testing.assert_close(denoised_from(-v, x0 + sigma * noise, sigma, "minus_v"), x0, atol=1e-4, rtol=1e-4)
