"""Inpainting: what is outside the mask stays, what is inside changes, and what can't be is said."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

import sfumato
from sfumato.errors import OptionError, UnsupportedError, UsageError
from sfumato.pipeline.masks import blurred, filled_from_around, latent_mask, region_of
from sfumato.recipe import Recipe

RUN: dict[str, Any] = {"prompt": "a fox", "num_inference_steps": 4, "seeds": [1]}


def picture(width: int = 64, height: int = 64, seed: int = 0) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def mask(width: int = 64, height: int = 64) -> Image.Image:
    drawn = Image.new("L", (width, height))
    ImageDraw.Draw(drawn).ellipse((width // 4, height // 4, width * 3 // 4, height * 3 // 4), fill=255)
    return drawn


@pytest.fixture(scope="module")
def pipe(tiny_folder: Path) -> Any:
    pipe = sfumato.StableDiffusionInpaintPipeline.from_pretrained(tiny_folder, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize(
    "said",
    [
        {"paste_back": True},
        {"paste_back": True, "mask_blur": 3, "soft_mask": True, "strength": 0.6},
        {"padding_mask_crop": 4, "mask_blur": 2},
        {"paste_back": True, "mask_content": "noise", "strength": 0.8},
    ],
)
def test_outside_the_mask_no_pixel_changes(pipe: Any, said: dict[str, Any]) -> None:
    image, where = picture(96, 80), mask(96, 80)
    size = {} if "padding_mask_crop" in said else {"width": 96, "height": 80}
    result = pipe(**RUN, image=image, mask_image=where, **said, **size)
    painted, before = np.asarray(result.images[0], dtype=int), np.asarray(image, dtype=int)
    reach = blurred(where, said.get("mask_blur", 0))
    outside = np.asarray(reach) == 0
    assert outside.mean() > 0.3
    assert np.array_equal(painted[outside], before[outside])
    assert np.abs(painted - before)[np.asarray(where) == 255].mean() > 2, "inside, something was painted"
    again = pipe.replay(Recipe.from_json(result.recipes[0].to_json()), {"image": image, "mask_image": where})
    assert again.identical
    assert again.recipe.workflow == "inpaint"


def test_without_pasting_the_latents_outside_are_the_picture_s(pipe: Any) -> None:
    near = pipe(**RUN, image=picture(), mask_image=mask(), output_type="latent", strength=0.5).images
    far = pipe(
        **RUN, image=picture(), mask_image=mask(), output_type="latent", strength=0.5, negative_prompt="a cat" * 9
    ).images
    changed = (near - far).abs().amax(dim=1)[0] > 0
    inside = latent_mask(torch.from_numpy(np.asarray(mask()) / 255.0)[None].float(), (8, 8), soft=False)[0] > 0
    assert torch.equal(changed, inside)


def test_what_lies_under_the_mask_at_first_makes_a_difference(pipe: Any) -> None:
    options = RUN | {"image": picture(), "mask_image": mask(), "strength": 0.5, "output_type": "np"}
    drawn = [pipe(**options, mask_content=content).images for content in ("original", "fill", "noise", "nothing")]
    for i, one in enumerate(drawn):
        for other in drawn[:i]:
            assert np.abs(one - other).max() > 0.01


def test_filling_spreads_the_surroundings_and_leaves_them() -> None:
    pixels = torch.zeros(3, 32, 32)
    pixels[0, :, :16], pixels[1, :, 16:] = 1.0, 1.0
    hole = torch.zeros(1, 32, 32)
    hole[:, 8:24, 8:24] = 1
    filled = filled_from_around(torch.where(hole > 0, torch.full_like(pixels, -9.0), pixels), hole)
    assert torch.equal(filled[:, hole[0] == 0], pixels[:, hole[0] == 0])
    assert 0 <= float(filled.min()) <= float(filled.max()) <= 1 + 1e-4, "nothing of what was masked is seen"
    assert filled[0, 16, 9] > 0.9 > 0.1 > filled[0, 16, 22]


def test_the_region_of_a_mask_has_the_proportions_that_are_drawn() -> None:
    drawn = Image.new("L", (200, 100))
    drawn.paste(255, (150, 40, 170, 50))
    assert region_of(drawn, 64, 64, 0) == (150, 35, 170, 55)
    left, top, right, bottom = region_of(drawn, 64, 64, 30)
    assert right - left == bottom - top == 80
    assert (left, right) == (120, 200)
    assert (top, bottom) == (5, 85)
    with pytest.raises(OptionError, match="the mask is black"):
        region_of(Image.new("L", (20, 20)), 64, 64, 0)


def test_what_can_t_be_painted_is_said(pipe: Any) -> None:
    with pytest.raises(UsageError, match="pass mask_image="):
        pipe("a fox", picture())
    general = sfumato.AutoPipelineForText2Image.from_pipe(pipe)
    with pytest.raises(UnsupportedError, match="a mask is of an image; pass image="):
        general(**RUN, mask_image=mask())
    with pytest.raises(OptionError, match="mask_content must be one of original, fill, noise, nothing, not 'water'"):
        pipe(**RUN, image=picture(), mask_image=mask(), mask_content="water")
    with pytest.raises(OptionError, match="must have one size"):
        pipe(**RUN, image=picture(), mask_image=mask(32, 32), padding_mask_crop=2)
    with pytest.raises(OptionError, match="image must hold pixels here, not latents"):
        pipe(**RUN, image=torch.zeros(1, 4, 8, 8), mask_image=mask())
    with pytest.raises(UnsupportedError, match="take no depth_map"):
        pipe(**RUN, image=picture(), mask_image=mask(), depth_map=mask())


@pytest.mark.parametrize(
    "said",
    [{"mask_blur": 2}, {"soft_mask": True}, {"paste_back": True}, {"padding_mask_crop": 0}, {"mask_content": "fill"}],
)
def test_what_is_said_of_a_mask_that_is_not_there_is_refused(pipe: Any, said: dict[str, Any]) -> None:
    words = sfumato.AutoPipelineForText2Image.from_pipe(pipe)
    for image in ({}, {"image": picture()}):
        with pytest.raises(OptionError, match=f"{next(iter(said))} does nothing without mask_image="):
            words(**image, **said, **RUN)


def test_other_options_that_would_do_nothing_are_refused(pipe: Any) -> None:
    words = sfumato.AutoPipelineForText2Image.from_pipe(pipe)
    with pytest.raises(OptionError, match="resize_mode does nothing without image="):
        words(resize_mode="crop", **RUN)
    with pytest.raises(OptionError, match="image_guidance_scale is for models that edit a picture"):
        words(image=picture(), image_guidance_scale=2.0, **RUN)
