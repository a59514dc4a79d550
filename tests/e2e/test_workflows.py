"""The pictures of docs/workflows.md: each command is run, in few steps, and each has a property that fails if its workflow did nothing.

Each is checked on a tiny random model too, in tests/unit/pipeline: test_image_to_image, test_inpainting, test_enlarging, test_canvas.
"""

import contextlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import sfumato
from sfumato import bundled_model
from sfumato.cli.app import run
from sfumato.images import read_recipe
from sfumato.pipeline.masks import blurred

DOCS = Path(__file__).parents[2] / "docs"
sys.path.insert(0, str(DOCS))

from examples import Command, Shown, carry_out, read_examples  # noqa: E402

ILLUSTRATED = ("workflows.md", "guidance.md", "prompts.md", "grids.md")
EXAMPLES = read_examples(DOCS / "workflows.md")
MOST_BYTES = 1_000_000
FEW_STEPS = ["--steps", "5"]
SIDE: int = json.loads((bundled_model() / "sfumato.json").read_text())["height"]
"""Of the pictures that the model in the package draws."""
pytestmark = pytest.mark.usefixtures("as_shipped")


@pytest.fixture(scope="module")
def here(as_shipped: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a reader has followed docs/workflows.md, in few steps."""
    torch.set_num_threads(1)
    folder, names = tmp_path_factory.mktemp("workflows"), dict[str, Any]()
    with contextlib.chdir(folder):
        for example in EXAMPLES:
            if not isinstance(example, Shown) and not example.needs_another_model:
                carry_out(example, names, FEW_STEPS)
    return folder


@pytest.fixture(scope="module")
def pipe(as_shipped: None) -> Any:
    pipe = sfumato.StableDiffusionPipeline.from_pretrained(bundled_model())
    pipe.set_progress_bar_config(disable=True)
    return pipe


def command(here: Path, out: str, *more: str) -> np.ndarray:
    """What the document's command that writes `out` draws when it is told more."""
    (words,) = [one.words for one in EXAMPLES if isinstance(one, Command) and one.words[-1] == out]
    with contextlib.chdir(here):
        carry_out(Command((*words[:-1], "again.png", *more, "--overwrite")), {}, FEW_STEPS)
        return pixels(here, "again.png")


def pixels(here: Path, name: str) -> np.ndarray:
    """The picture of a file, `h w 3` or, where it is grey, `h w`, 0 to 255."""
    with Image.open(here / name) as image:
        return np.asarray(image, dtype=float)


def apart(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).mean())


def enlarged(picture: np.ndarray, times: int) -> np.ndarray:
    return picture.repeat(times, axis=0).repeat(times, axis=1)


def alike(one: np.ndarray, other: np.ndarray) -> float:
    """The correlation of two pictures."""
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


@pytest.mark.parametrize("document", ILLUSTRATED)
def test_pictures_are_there_and_made_by_the_commands_above_them(document: str) -> None:
    examples = read_examples(DOCS / document)
    shown = [one for one in examples if isinstance(one, Shown)]
    assert shown
    assert (DOCS / document).read_text(encoding="utf-8").count("](images/") == len(shown), "one names no files"
    for one in shown:
        with Image.open(DOCS / one.picture) as picture:
            assert picture.width > 100


def test_the_pictures_are_small_files() -> None:
    assert sum(path.stat().st_size for path in (DOCS / "images").iterdir()) < MOST_BYTES


def test_a_small_strength_stays_near_and_a_large_one_leaves(here: Path) -> None:
    apple, near, far = (pixels(here, f"{name}.png") for name in ("apple", "near", "far"))
    assert 0 < apart(near, apple) < 0.8 * apart(far, apple)
    assert apart(far, apple) > 10


@pytest.mark.parametrize(
    ("before", "mask", "after", "blur"),
    [("apple.png", "mask.png", "half.png", 8), ("four-grid.png", "where.png", "swapped.png", 0)],
)
def test_outside_the_mask_no_pixel_changes(here: Path, before: str, mask: str, after: str, blur: float) -> None:
    old, new = pixels(here, before), pixels(here, after)
    with Image.open(here / mask) as image:
        inside, outside = np.asarray(image) == 255, np.asarray(blurred(image, blur)) == 0
    assert outside.mean() > 0.3
    assert np.array_equal(old[outside], new[outside])
    assert apart(old[inside], new[inside]) > 5


def test_only_the_masked_part_is_drawn_at_the_models_size(here: Path) -> None:
    recipe = read_recipe(here / "swapped.png")
    assert (recipe.width, recipe.height) == (SIDE, SIDE)
    assert pixels(here, "swapped.png").shape == (2 * SIDE, 2 * SIDE, 3)


def test_margins_are_painted_and_the_picture_stays(here: Path) -> None:
    cut, whole = pixels(here, "cut.png"), pixels(here, "whole.png")
    width = cut.shape[1]
    assert whole.shape == (SIDE, SIDE, 3)
    assert np.array_equal(whole[:, :width], cut)
    assert np.ptp(whole[:, width:], axis=1).max() > 20, "more than the edges drawn out"


def test_a_variation_of_strength_0_is_the_picture_and_grows(here: Path) -> None:
    car = pixels(here, "car.png")
    assert np.array_equal(command(here, "varied.png", "--variation-strength", "0"), car)
    whole = command(here, "varied.png", "--variation-strength", "1")
    assert np.array_equal(whole, command(here, "car.png", "--seed", "7"))
    assert 0 < apart(pixels(here, "varied.png"), car) < apart(pixels(here, "other.png"), car) < apart(whole, car)


@pytest.mark.parametrize(("name", "least"), [("hires.png", 0.6), ("upscaled.png", 0.9)])
def test_a_larger_picture_keeps_the_composition(here: Path, name: str, least: float) -> None:
    large, small = pixels(here, name), enlarged(pixels(here, "apple.png"), 2)
    assert large.shape == (2 * SIDE, 2 * SIDE, 3)
    assert alike(large, small) > max(least, alike(large, enlarged(pixels(here, "car.png"), 2)))
    assert apart(large, small) > 1


def test_every_tile_is_drawn_in(here: Path) -> None:
    crowd, recipe = pixels(here, "crowd.png"), read_recipe(here / "crowd.png")
    assert recipe.tile == (SIDE, SIDE)
    step = SIDE - recipe.tile_overlap
    assert crowd.shape == (SIDE + step, SIDE + 2 * step, 3)
    for down in (0, step):
        for across in (0, step, 2 * step):
            assert crowd[down : down + SIDE, across : across + SIDE].std() > 10
    (words,) = [one.words for one in EXAMPLES if isinstance(one, Command) and one.words[-1] == "crowd.png"]
    place = words.index("--tile")
    with contextlib.chdir(here):
        carry_out(Command((*words[:place], *words[place + 4 : -1], "untiled.png")), {}, FEW_STEPS)
    assert apart(pixels(here, "untiled.png"), crowd) > 1


def test_a_tiled_decode_is_the_whole_one(pipe: Any) -> None:
    run = {"prompt": "a red apple", "seeds": [1], "num_inference_steps": 2, "width": 136, "height": 104}
    whole = np.asarray(pipe(**run).images[0], dtype=int)
    pipe.enable_vae_tiling()
    tiled = pipe(**run).images[0]
    pipe.disable_vae_tiling()
    assert tiled.recipe.vae_tiling
    assert np.abs(np.asarray(tiled, dtype=int) - whole).max() <= 1


def test_a_texture_wraps(here: Path, pipe: Any) -> None:
    leaves = pixels(here, "leaves.png")
    for axis in (0, 1):
        over = np.abs(np.diff(leaves, axis=axis, append=np.take(leaves, [0], axis=axis))).mean(axis=(1 - axis, 2))
        assert over[-1] <= over[:-1].max(), "the seam is rougher than what is inside"
    places = SIDE // 8
    noise = torch.randn(1, 4, places, places, generator=torch.Generator().manual_seed(1))
    run = {"prompt": "autumn leaves, 3d style", "num_inference_steps": 3, "output_type": "pt"}

    def moved(**said: Any) -> float:
        """How far the picture of noise that is moved over the edges is from the picture, moved."""
        plain = pipe(**run, **said, latents=noise).images
        rolled = pipe(**run, **said, latents=noise.roll((places // 2, places // 2), (-2, -1))).images
        return float((plain.roll((SIDE // 2, SIDE // 2), (-2, -1)) - rolled).abs().max())

    assert moved(seamless="both") < 1e-3
    assert moved() > 0.05


def test_a_prompt_changes_on_the_way(pipe: Any) -> None:
    run = {"seeds": [1], "num_inference_steps": 4, "emphasis": "a1111"}
    drawn = [pipe(p, **run).images[0].recipe.pixels_sha256 for p in ("a red apple", "a [red:blue:0.5] apple", "a blue apple")]  # fmt: skip
    assert len(set(drawn)) == 3
    ends = [pipe(f"a [red:blue:{when}] apple", **run).images[0].recipe.pixels_sha256 for when in ("1.0", "0.0")]
    assert ends == [drawn[0], drawn[2]]


FAMILIES = {
    "stabilityai/stable-diffusion-x4-upscaler": "x4-upscaler",
    "stabilityai/sd-x2-latent-upscaler": "x2-latent-upscaler",
    "timbrooks/instruct-pix2pix": "instruct-pix2pix",
    "stabilityai/stable-diffusion-2-depth": "sd2-depth",
}
OF_ANOTHER_MODEL = [one.words for one in EXAMPLES if isinstance(one, Command) and one.needs_another_model]


@pytest.mark.parametrize("words", OF_ANOTHER_MODEL, ids=lambda words: words[words.index("--model") + 1])
def test_commands_for_other_models_run_on_tiny_ones(
    words: tuple[str, ...], family_folders: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, mode in (("photo.png", "RGB"), ("small.png", "RGB"), ("depth.png", "L")):
        Image.linear_gradient("L").resize((64, 64)).convert(mode).save(name)
    at = words.index("--model") + 1
    model = str(family_folders(FAMILIES[words[at]]))
    assert run([*words[:at], model, *words[at + 1 :], "--steps", "2", "--seed", "1", "--out", "out.png"]) == 0
    recipe = read_recipe(tmp_path / "out.png")
    assert "image" in recipe.inputs
    assert pixels(tmp_path, "out.png").std() > 0
