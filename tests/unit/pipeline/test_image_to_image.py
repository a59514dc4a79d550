"""Image to image: what strength does, how pipelines share, and how a recipe names its pictures."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import sfumato
from sfumato.errors import OptionError, RecipeError, UsageError
from sfumato.pipeline.pictures import Pictures
from sfumato.pipeline.resizing import resized
from sfumato.recipe import Recipe

RUN: dict[str, Any] = {"prompt": "a fox", "num_inference_steps": 10, "seeds": [1]}


def picture(width: int = 64, height: int = 64, seed: int = 0) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def pipe(tiny_folder: Path) -> Any:
    pipe = sfumato.StableDiffusionPipeline.from_pretrained(tiny_folder, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_a_small_strength_stays_near_the_picture_and_a_large_one_leaves_it(pipe: Any) -> None:
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    away = [
        float((pipe(**RUN, image=latents, strength=strength, output_type="latent").images - latents).abs().mean())
        for strength in (0.1, 0.5, 1.0)
    ]
    assert away[0] < 0.5 * latents.abs().mean()
    assert away[0] < away[1] < away[2]


def test_pipelines_of_one_model_share_everything(pipe: Any) -> None:
    painter = sfumato.AutoPipelineForImage2Image.from_pipe(pipe)
    assert type(painter) is sfumato.StableDiffusionImg2ImgPipeline
    assert all(painter.components[name] is part for name, part in pipe.components.items() if part is not None)
    assert painter.source is pipe.source
    scheduler = sfumato.EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    assert sfumato.StableDiffusionInpaintPipeline.from_pipe(painter, scheduler=scheduler).scheduler is scheduler
    assert type(sfumato.AutoPipelineForText2Image.from_pipe(painter)) is sfumato.StableDiffusionPipeline
    assert pipe.scheduler is not scheduler
    with pytest.raises(UsageError, match="has no part 'lens'"):
        sfumato.StableDiffusionInpaintPipeline.from_pipe(pipe, lens=None)
    with pytest.raises(UsageError, match=r"AutoPipelineForInpainting\.from_pretrained"):
        sfumato.AutoPipelineForInpainting()


def test_a_recipe_names_its_pictures_and_replays_with_them(pipe: Any, tmp_path: Path) -> None:
    picture().save(tmp_path / "sketch.png")
    given = Image.open(tmp_path / "sketch.png")
    others = [given, picture(seed=1)]
    options = {"strength": 0.5, "resize_mode": "crop", "width": 48, "height": 64, "num_inference_steps": 4}
    result = pipe(["a fox", "a cat"], image=others, generator=torch.Generator().manual_seed(1), **options)
    recipe = Recipe.from_json(result.recipes[1].to_json())
    first = result.recipes[0].inputs["image"]
    assert (first["file"], first["width"], first["height"]) == ("sketch.png", 64, 64)
    assert recipe.workflow == "img2img"
    assert recipe.workflow_options == {"strength": 0.5, "resize_mode": "crop"}
    assert pipe.replay(recipe, {"image": others[1]}).identical
    assert not pipe.replay(recipe, {"image": picture(seed=2)}).identical
    with pytest.raises(RecipeError, match=r"these are missing: image \(sketch.png, sha256 " + first["sha256"][:10]):
        pipe.replay(result.recipes[0])
    tensor = pipe(**RUN, image=torch.rand(1, 3, 64, 64), strength=0.3).recipes[0]
    assert "given as a tensor" in str(tensor.unrecorded)


def test_a_picture_of_another_picture_is_a_difference(pipe: Any) -> None:
    recipe = pipe(**RUN, image=picture(), strength=0.3).recipes[0]
    again = pipe.replay(recipe, {"image": picture(seed=2)})
    assert any(line.startswith("image: ") for line in again.differences), again.differences


def test_resize_modes() -> None:
    image = picture(80, 40)
    for mode in ("resize", "crop", "fill"):
        assert resized(image, 40, 40, mode).size == (40, 40)
        assert resized(image, 33, 57, mode).size == (33, 57)
        assert resized(image, 80, 40, mode) is image
    cut, filled = np.asarray(resized(image, 40, 40, "crop")), np.asarray(resized(image, 40, 40, "fill"))
    assert np.array_equal(cut, np.asarray(image)[:, 20:60])
    assert (filled[0] == filled[10]).all(), "edges are drawn out above and below"
    assert (filled[10] != filled[20]).any()


def test_forms_of_pictures() -> None:
    image = picture(16, 8)
    array = np.asarray(image)
    for form in (
        image,
        [image],
        array,
        array[None],
        array.astype(np.float32) / 255,
        torch.from_numpy(array / 255.0).permute(2, 0, 1),
    ):
        pixels = Pictures.of("image", form).pixels(16, 8)
        assert pixels.shape == (1, 3, 8, 16)
        torch.testing.assert_close(pixels[0], torch.from_numpy(array / 127.5 - 1).float().permute(2, 0, 1))
    assert Pictures.of("mask_image", array[..., 0], channels=1).grey(16, 8).shape == (1, 1, 8, 16)
    for form in (array, array[..., :1], array[..., 0], array[None, ..., 0]):
        assert len(Pictures.of("mask_image", form, channels=1)) == 1
    deep = Image.fromarray(np.array([[0, 257, 65535]], dtype=np.uint16))
    assert Pictures.of("depth_map", deep, channels=1).grey(3, 1).flatten().tolist() == pytest.approx([0, 1 / 255, 1])
    for wrong in (
        "x.png",
        [],
        np.zeros((2, 2, 2), dtype=np.uint8),
        [image, array],
        np.zeros((2, 2, 2, 2, 2)),
        torch.zeros(3, 8),
    ):
        with pytest.raises(OptionError, match="image must be"):
            Pictures.of("image", wrong)
