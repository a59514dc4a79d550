"""The canvas: pictures through windows, enlarged ones, and ones that wrap."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import sfumato
from sfumato.errors import OptionError, RecipeError, SizeError, UnsupportedError
from sfumato.infotext import infotext, parse_infotext
from sfumato.models.convolution import wrapping
from sfumato.pipeline.resizing import resized, stretched
from sfumato.recipe import Recipe

RUN: dict[str, Any] = {"prompt": "a fox", "num_inference_steps": 3, "seeds": [1]}
LARGE: dict[str, Any] = {"width": 112, "height": 80}
BOTH = frozenset({-1, -2})


def picture(width: int = 64, height: int = 64, seed: int = 0) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def mask(width: int, height: int) -> Image.Image:
    drawn = Image.new("L", (width, height))
    drawn.paste(255, (width // 4, height // 4, width, height * 3 // 4))
    return drawn


@pytest.fixture(scope="module")
def pipe(tiny_folder: Path) -> Any:
    pipe = sfumato.StableDiffusionPipeline.from_pretrained(tiny_folder, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def again(recipe: Recipe) -> Recipe:
    return Recipe.from_json(recipe.to_json())


WORKFLOWS: dict[str, dict[str, Any]] = {
    "words": {},
    "picture": {"image": picture(112, 80), "strength": 0.7},
    "mask": {"image": picture(112, 80), "mask_image": mask(112, 80), "paste_back": True},
}


@pytest.mark.parametrize("name", WORKFLOWS)
def test_every_workflow_goes_through_windows_and_replays(pipe: Any, name: str) -> None:
    said = WORKFLOWS[name]
    plain = pipe(**RUN, **LARGE, **said).images[0]
    one = pipe(**RUN, **LARGE, **said, tile=(112, 80)).images[0]
    assert np.array_equal(plain, one), "one window that holds all is no window"
    result = pipe(**RUN, **LARGE, **said, tile=64, tile_overlap=24)
    assert not np.array_equal(plain, result.images[0])
    recipe = again(result.recipes[0])
    assert (recipe.tile, recipe.tile_overlap) == ((64, 64), 24)
    inputs = {role: given for role, given in said.items() if role in ("image", "mask_image")}
    assert pipe.replay(recipe, inputs).identical
    if name == "mask":
        outside = np.asarray(said["mask_image"]) == 0
        assert np.array_equal(np.asarray(result.images[0])[outside], np.asarray(said["image"])[outside])


def test_hires_fix_draws_its_second_pass_through_windows(pipe: Any) -> None:
    result = sfumato.hires_fix(pipe, scale=1.5, tile=64, **RUN)
    recipe = again(result.recipes[0])
    assert recipe.tile == tuple(recipe.inputs["image"]["recipe"]["tile"]) == (64, 64)
    assert pipe.replay(recipe).identical
    assert not np.array_equal(result.images[0], sfumato.hires_fix(pipe, scale=1.5, **RUN).images[0])


@pytest.mark.parametrize("enlarge", ["pixel", "latent"])
def test_a_picture_is_drawn_over_larger(pipe: Any, enlarge: Any) -> None:
    image = picture(72, 48)
    run = RUN | {"num_inference_steps": 10}
    result = sfumato.tiled_upscale(pipe, image, scale=1.5, enlarge=enlarge, **run)
    assert result.images[0].size == (104, 72)
    recipe = again(result.recipes[0])
    assert (recipe.workflow, recipe.workflow_options["strength"], recipe.tile) == ("img2img", 0.3, (64, 64))
    assert (recipe.inputs["image"]["width"], recipe.inputs["image"]["height"]) == (72, 48)
    assert pipe.replay(recipe, {"image": image}).identical
    plain = pipe(**run, image=image, width=104, height=72, strength=0.3, resize_mode="resize", tile="model").images[0]
    assert np.array_equal(result.images[0], plain) == (enlarge == "pixel")
    whole = sfumato.tiled_upscale(pipe, image, scale=1.5, enlarge=enlarge, tile=None, **run).images[0]
    assert not np.array_equal(whole, result.images[0])


def test_latents_are_enlarged_as_latents(pipe: Any) -> None:
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    large = sfumato.tiled_upscale(pipe, latents, scale=2, strength=0.34, output_type="latent", **RUN).images
    assert large.shape == (1, 4, 16, 16)
    near = stretched(latents, 16, 16)
    likeness = [
        float(torch.cosine_similarity(large.flatten(), other.flatten(), dim=0)) for other in (near, near.roll(8, -1))
    ]
    assert likeness[0] > 0.5 > 0.3 > likeness[1]


def test_a_seamless_picture_rolls_with_its_noise(pipe: Any) -> None:
    noise = torch.randn(1, 4, 10, 14, generator=torch.Generator().manual_seed(1))
    run = {"prompt": "a fox", "num_inference_steps": 3, "output_type": "pt", **LARGE}

    def apart(down: int, across: int, **said: Any) -> float:
        plain = pipe(**run, **said, latents=noise).images
        rolled = pipe(**run, **said, latents=noise.roll((down, across), (-2, -1))).images
        return float((plain.roll((8 * down, 8 * across), (-2, -1)) - rolled).abs().max())

    assert apart(4, 6, seamless="both") < 1e-4
    assert apart(0, 6, seamless="x") < 1e-4
    assert apart(4, 0, seamless="y") < 1e-4
    for down, across, seamless in ((4, 6, None), (4, 0, "x"), (0, 6, "y")):
        assert apart(down, across, seamless=seamless) > 0.02
    pipe.enable_vae_tiling()
    assert apart(4, 6, seamless="both") < 1e-4
    pipe.disable_vae_tiling()


def steps(image: Any, axis: int) -> tuple[float, float]:
    """How far pixels on both sides of the seam are apart, on average, and the largest such average where other blocks of 8 meet."""
    values = np.asarray(image, dtype=float)
    apart = np.abs(np.diff(values, axis=axis, append=np.take(values, [0], axis=axis))).mean(axis=(1 - axis, 2))
    return apart[-1], apart[7:-1:8].max()


@pytest.mark.parametrize("strength", [0.4, 0.9])
def test_a_seam_is_as_smooth_as_the_rest(pipe: Any, strength: float) -> None:
    run = RUN | LARGE | {"image": picture(112, 80), "strength": strength}
    plain, result = pipe(**run).images[0], pipe(**run, seamless="both")
    for axis in (0, 1):
        over, inside = steps(result.images[0], axis)
        assert over <= inside
        over, inside = steps(plain, axis)
        assert over > inside, "without wrapping, the picture's own edges meet"
    assert pipe.replay(again(result.recipes[0]), {"image": run["image"]}).identical


@pytest.mark.parametrize("enlarge", ["latent", "pixel"])
def test_hires_fix_wraps_in_both_passes_and_replays(pipe: Any, enlarge: Any) -> None:
    recipe = again(sfumato.hires_fix(pipe, scale=1.5, enlarge=enlarge, seamless="both", tile=64, **RUN).recipes[0])
    assert recipe.seamless == recipe.inputs["image"]["recipe"]["seamless"] == "both"
    assert pipe.replay(recipe).identical


def test_pictures_and_latents_that_wrap_are_enlarged_over_the_seam() -> None:
    image = picture(40, 24)
    rolled = Image.fromarray(np.roll(np.asarray(image), (12, 20), (0, 1)))
    larger, rolled = (np.asarray(resized(one, 80, 48, "resize", axes=BOTH), dtype=int) for one in (image, rolled))
    assert np.abs(np.roll(larger, (24, 40), (0, 1)) - rolled).max() <= 1
    latents = torch.randn(1, 4, 6, 8, generator=torch.Generator().manual_seed(1))
    larger, rolled = (stretched(one, 16, 9, BOTH) for one in (latents, latents.roll((2, 4), (-2, -1))))
    torch.testing.assert_close(larger.roll((3, 8), (-2, -1)), rolled)


def test_the_canvas_in_the_web_ui_s_words(pipe: Any) -> None:
    recipe = pipe(**RUN, **LARGE, tile=64, seamless="both").recipes[0]
    settings = parse_infotext(infotext(recipe)).settings
    assert (settings["Tiling"], settings["Tile size"], settings["Tile overlap"]) == ("True", "64x64", "16")
    settings = parse_infotext(infotext(pipe(**RUN, seamless="x").recipes[0])).settings
    assert settings["Seamless"] == "x"
    assert not {"Tiling", "Tile size", "Tile overlap"} & settings.keys()


@pytest.mark.parametrize(
    ("said", "error", "message"),
    [
        ({"tile": 60}, SizeError, "positive multiples of 8 pixels, not 60 and 60"),
        ({"tile": (64, 0)}, SizeError, "positive multiples of 8"),
        ({"tile": "big"}, OptionError, "tile must be"),
        ({"tile": (64, 64, 64)}, OptionError, "tile must be"),
        ({"tile": 64, "tile_overlap": 64}, OptionError, "tile_overlap must be from 0 to 56"),
        ({"tile": 64, "tile_overlap": 12}, OptionError, "multiple of 8"),
        ({"tile_overlap": 8}, OptionError, "pass tile="),
        ({"seamless": "z"}, OptionError, "seamless must be one of x, y, both"),
        ({"seamless": "x", "width": 72}, SizeError, "the width must be a multiple of 16 with this model, not 72"),
        ({"seamless": "y", "height": 72}, SizeError, "the height must be a multiple of 16"),
        (
            {"seamless": "y", "image": picture(), "mask_image": mask(64, 64), "padding_mask_crop": 4},
            OptionError,
            "which does not wrap",
        ),
        ({"resize_mode": "latent", "image": picture(), "mask_image": mask(64, 64)}, OptionError, "stretches"),
    ],
)
def test_a_canvas_that_can_t_be(pipe: Any, said: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        pipe(**RUN, **said)


def test_a_side_that_does_not_wrap_may_have_any_size(pipe: Any) -> None:
    assert pipe(**RUN, seamless="x", width=64, height=72).images[0].size == (64, 72)


def test_a_compiled_network_is_not_asked_to_wrap() -> None:
    network = torch.nn.Identity()
    network._orig_mod = network  # pyright: ignore[reportAttributeAccessIssue] (what torch.compile leaves)
    with pytest.raises(UnsupportedError, match="compiled"), wrapping(BOTH, network):
        pass


@pytest.mark.parametrize("wrong", [{"tile": [64]}, {"tile": [4, 64]}, {"tile_overlap": -8}, {"seamless": "z"}])
def test_a_recipe_s_canvas_is_checked(pipe: Any, wrong: dict[str, Any]) -> None:
    import json

    values = json.loads(pipe(**RUN, tile=64).recipes[0].to_json())
    with pytest.raises(RecipeError):
        Recipe.from_dict(values | wrong)


def test_scales_and_pictures_that_can_t_be_enlarged(pipe: Any) -> None:
    for scale in (0.5, 17, "2"):
        with pytest.raises(OptionError, match="scale"):
            sfumato.tiled_upscale(pipe, picture(), scale=scale, **RUN)
    with pytest.raises(OptionError, match="enlarge must be one of"):
        sfumato.tiled_upscale(pipe, picture(), enlarge="water", **RUN)  # pyright: ignore[reportArgumentType]
    with pytest.raises(SizeError, match="8 pixels a side"):
        sfumato.tiled_upscale(pipe, picture(3, 3), **RUN)
