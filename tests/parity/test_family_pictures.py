"""Whole pictures of every family that draws from words: the same tiny model, seed and settings give diffusers' picture."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from tiny_families import FAMILIES
from vivid import vivid

import sfumato
from sfumato.checkpoints import open_folder
from sfumato.checkpoints.single_saving import save_single_file
from sfumato.errors import UnsupportedError
from sfumato.schedulers import UnavailableScheduler

Folders = Callable[[str], Path]

DRAWN = ["lcm", "sd2", "sd2-v", "sd-turbo", "sdxl", "sdxl-turbo", "lcm-sdxl", "sdxl-refiner"]
"""Stable Diffusion 1 has a file of tests of its own."""

RUN: dict[str, Any] = {"prompt": "a red apple", "num_inference_steps": 3, "output_type": "np"}


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def assert_same(got: np.ndarray, expected: np.ndarray) -> None:
    assert got.shape == expected.shape
    assert expected.std() > 0.02, "a flat reference picture shows nothing"
    difference = np.abs(got - expected) * 255
    assert difference.mean() < 0.5
    assert difference.max() <= 3


def shows(picture: np.ndarray, other: np.ndarray) -> bool:
    """Whether two pictures differ by far more than those that are the same may."""
    return picture.shape != other.shape or np.abs(picture - other).max() * 255 > 20


@pytest.fixture(scope="module")
def vivid_folders(family_folders: Folders, tmp_path_factory: pytest.TempPathFactory) -> Folders:
    folders: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in folders:
            folders[name] = vivid(family_folders(name), tmp_path_factory.mktemp("vivid") / name)
        return folders[name]

    return folder


def test_every_family_that_needs_no_picture_is_drawn() -> None:
    assert {*DRAWN, "sd1"} == {name for name, family in FAMILIES.items() if not family.needs}


def opened(folder: Path, name: str) -> tuple[Any, Any]:
    """diffusers' pipeline and ours, with a scheduler that both have where the model's own is not there."""
    ours = sfumato.StableDiffusionPipeline.from_pretrained(folder)
    kind = getattr(diffusers, FAMILIES[name].pipeline)
    if kind is diffusers.LatentConsistencyModelPipeline and isinstance(ours.scheduler, UnavailableScheduler):
        kind = diffusers.StableDiffusionPipeline  # the other draws with no scheduler but its own
    theirs = kind.from_pretrained(folder)
    for pipe in (theirs, ours):
        pipe.set_progress_bar_config(disable=True)
    if isinstance(ours.scheduler, UnavailableScheduler):
        theirs.scheduler = diffusers.DDIMScheduler.from_config(theirs.scheduler.config, clip_sample=False)
        ours.scheduler = sfumato.DDIMScheduler.from_config(ours.scheduler.config, clip_sample=False)
    for part in ("text_encoder", "text_encoder_2"):
        if (encoder := getattr(theirs, part, None)) is not None and not hasattr(encoder, "text_model"):
            # diffusers 0.42 looks for the final norm one level deeper than transformers 5.23 keeps it, when clip_skip is set.
            object.__setattr__(encoder, "text_model", encoder)
    return theirs, ours


def by_refiner(theirs: Any, **options: Any) -> np.ndarray:
    """diffusers' refiner begins from a picture. From latents of zeros under all the noise there is, as from text alone."""
    theirs.scheduler = diffusers.EulerDiscreteScheduler.from_config(
        theirs.scheduler.config, timestep_spacing="trailing"
    )
    return theirs(image=torch.zeros(1, 4, 8, 8), strength=1.0, generator=seeded(), **options).images


@pytest.mark.parametrize("name", [name for name in DRAWN if name != "sdxl-refiner"])
def test_every_family_draws_diffusers_picture(name: str, vivid_folders: Folders, tmp_path: Path) -> None:
    theirs, ours = opened(vivid_folders(name), name)
    assert ours.family is FAMILIES[name]
    assert isinstance(ours, sfumato.StableDiffusionXLPipeline) == ("XL" in FAMILIES[name].pipeline)
    pictures: list[np.ndarray] = []
    for scale in (4.0, 2.0, 0.0):
        options = RUN | {"guidance_scale": scale}
        pictures.append(theirs(**options, generator=seeded()).images)
        assert_same(ours(**options, generator=seeded()).images, pictures[-1])
    assert shows(pictures[0], pictures[1]), "guidance, or being told of it, shows"
    drawn = ours(**RUN, guidance_scale=4.0, seeds=[1]).images

    # The same model in one file draws the same picture; some of its tensors lie otherwise, and are summed in another order.
    parts = open_folder(vivid_folders(name))
    save_single_file(tmp_path / "one.safetensors", **parts.networks, scheduler_config=parts.scheduler_config, options=parts.options)  # fmt: skip
    single = sfumato.StableDiffusionPipeline.from_single_file(tmp_path / "one.safetensors", local_files_only=True)
    single.set_progress_bar_config(disable=True)
    single.scheduler = ours.scheduler
    np.testing.assert_allclose(single(**RUN, guidance_scale=4.0, seeds=[1]).images, drawn, atol=1e-5)


REFINED: dict[str, dict[str, Any]] = {
    "nothing said": {},
    "scores": {"aesthetic_score": 8.5, "negative_aesthetic_score": 1.5},
    "sizes": {
        "original_size": (512, 300), "crops_coords_top_left": (12, 70), "negative_original_size": (40, 30),
        "negative_crops_coords_top_left": (3, 4), "negative_prompt": "blur",
    },
}  # fmt: skip


@pytest.mark.parametrize("said", REFINED.values(), ids=REFINED.keys())
def test_the_refiner_is_told_its_scores(vivid_folders: Folders, said: dict[str, Any]) -> None:
    theirs, ours = opened(vivid_folders("sdxl-refiner"), "sdxl-refiner")
    ours.scheduler = sfumato.EulerDiscreteScheduler.from_config(ours.scheduler.config, timestep_spacing="trailing")
    options = RUN | {"guidance_scale": 4.0}
    # Img2Img counts sizes from the picture it is given, of zeros here: both are told what ours takes by itself.
    sizes = {"original_size": (64, 64), "target_size": (64, 64)} | said
    expected = by_refiner(theirs, **options, **sizes)
    got = ours(**options, **said, generator=seeded()).images
    assert_same(got, expected)
    for other in ({"aesthetic_score": 2.0}, {"negative_aesthetic_score": 9.0}, {"original_size": (8, 8)}):
        assert shows(got, ours(**options, **said | other, generator=seeded()).images), other
    expected = ours(**options, **said | {"target_size": (8, 8)}, generator=seeded()).images
    assert np.array_equal(got, expected), "it is told a score in place of that"


TOLD: dict[str, dict[str, Any]] = {
    "a negative prompt": {"negative_prompt": "blur"},
    "an empty negative prompt, which is no text of zeros": {"negative_prompt": ""},
    "second prompts": {"prompt_2": "oil on canvas", "negative_prompt": "blur", "negative_prompt_2": "dogs"},
    "lists": {
        "prompt": ["a red apple", "two cats"], "prompt_2": ["flat", ""], "negative_prompt": ["", "ugly"],
        "num_images_per_prompt": 2,
    },
    "sizes": {"original_size": (300, 200), "crops_coords_top_left": (10, 20), "target_size": (64, 128)},
    "sizes of the negative side": {
        "negative_original_size": (30, 20), "negative_crops_coords_top_left": (5, 6), "negative_target_size": (9, 8),
    },
    "half of those, which is none": {"negative_original_size": (30, 20), "original_size": (90, 80)},
    "another size": {"height": 48, "width": 88},
    "clip skip": {"clip_skip": 1, "negative_prompt": "blur"},
    "no guidance": {"guidance_scale": 1.0, "prompt_2": "flat"},
    "ten steps of another sampler": {"num_inference_steps": 10, "prompt": "x " * 100},
}  # fmt: skip


@pytest.fixture(scope="module")
def xl(vivid_folders: Folders) -> tuple[Any, Any]:
    return opened(vivid_folders("sdxl"), "sdxl")


@pytest.fixture(scope="module")
def plain(xl: tuple[Any, Any]) -> np.ndarray:
    return xl[1](**RUN, generator=seeded()).images


@pytest.mark.parametrize("said", TOLD.values(), ids=TOLD.keys())
def test_sdxl_is_told_what_diffusers_tells_it(xl: tuple[Any, Any], plain: np.ndarray, said: dict[str, Any]) -> None:
    theirs, ours = xl
    options = RUN | said
    expected = theirs(**options, generator=seeded()).images
    got = ours(**options, generator=seeded())
    assert_same(got.images, expected)
    assert shows(got.images, plain)
    for recipe, picture in zip(got.recipes, got.images, strict=True):
        again = ours.replay(recipe)
        assert again.identical
        assert again.recipe.told == recipe.told
        assert np.array_equal(np.asarray(again.image), (picture * 255).round().astype(np.uint8))


def test_sdxl_takes_the_embeddings_that_diffusers_makes(xl: tuple[Any, Any]) -> None:
    theirs, ours = xl
    names = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
    for words in (
        {"prompt": "a fox", "prompt_2": "flat", "negative_prompt": "blur", "clip_skip": 1},
        {"prompt": ["a fox", "a cat"], "num_images_per_prompt": 2},
    ):
        expected = theirs.encode_prompt(**words, device="cpu")
        got = ours.encode_prompt(**words, device="cpu")
        for mine, its in zip(got, expected, strict=True):
            torch.testing.assert_close(mine, its, atol=1e-5, rtol=1e-4)
        given = dict(zip(names, expected, strict=True)) | {"num_inference_steps": 3, "output_type": "np"}
        result = ours(**given, generator=seeded())
        assert_same(result.images, theirs(**given, generator=seeded()).images)
        assert "given as embeddings" in result.recipes[0].unrecorded
    # Without negative ones they are zeros, as without a negative prompt.
    given = {name: tensor for name, tensor in given.items() if not name.startswith("negative")}
    assert_same(ours(**given, generator=seeded()).images, theirs(**given, generator=seeded()).images)
    assert ours.encode_prompt("a fox", do_classifier_free_guidance=False)[1::2] == (None, None)


def test_callbacks_see_what_sdxl_is_told(xl: tuple[Any, Any]) -> None:
    theirs, ours = xl
    seen: dict[str, dict[str, torch.Tensor]] = {}
    names = ["latents", "prompt_embeds", "add_text_embeds", "add_time_ids"]

    def callback(who: str) -> Any:
        def call(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            seen[who] = {name: tensor.clone() for name, tensor in tensors.items()}
            return {}

        return call

    options = RUN | {"guidance_scale": 1.0, "original_size": (30, 20), "callback_on_step_end_tensor_inputs": names}
    for who, pipe in (("theirs", theirs), ("ours", ours)):
        pipe(**options, generator=seeded(), callback_on_step_end=callback(who))
    for name in names:
        torch.testing.assert_close(seen["ours"][name], seen["theirs"][name].float(), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", ["sdxl", "sdxl-refiner"])
def test_what_is_saved_of_sdxl_diffusers_opens_with_its_options(
    name: str, family_folders: Folders, tmp_path: Path
) -> None:
    family, ours = FAMILIES[name], sfumato.StableDiffusionPipeline.from_pretrained(family_folders(name))
    assert ours.config.force_zeros_for_empty_prompt == family.zeros_for_empty
    ours.force_zeros_for_empty_prompt = not family.zeros_for_empty
    ours.save_pretrained(tmp_path / "saved")
    theirs = getattr(diffusers, family.pipeline).from_pretrained(tmp_path / "saved")
    assert theirs.config.force_zeros_for_empty_prompt != family.zeros_for_empty
    assert theirs.config.get("requires_aesthetics_score", False) == family.aesthetic
    again = type(ours)(**sfumato.StableDiffusionPipeline.from_pretrained(tmp_path / "saved").components)
    again.force_zeros_for_empty_prompt = ours.force_zeros_for_empty_prompt
    for pipe in (theirs, ours, again):
        pipe.set_progress_bar_config(disable=True)
    drawn = ours(**RUN, generator=seeded()).images
    assert np.array_equal(again(**RUN, generator=seeded()).images, drawn)
    if name == "sdxl":
        assert_same(drawn, theirs(**RUN, generator=seeded()).images)


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family.needs])
def test_families_that_need_a_picture_open_and_say_so(name: str, family_folders: Folders, tmp_path: Path) -> None:
    pipe = sfumato.StableDiffusionPipeline.from_pretrained(family_folders(name))
    assert pipe.family is FAMILIES[name]
    with pytest.raises(UnsupportedError, match=FAMILIES[name].needs):
        pipe("a red apple", num_inference_steps=1)
    pipe.save_pretrained(tmp_path / "saved")
    again = getattr(diffusers, FAMILIES[name].pipeline).from_pretrained(tmp_path / "saved")
    assert torch.equal(again.unet.conv_in.weight, pipe.unet.conv_in.weight)
