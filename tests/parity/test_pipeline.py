"""Whole pictures: the same folder, seed and settings give diffusers' picture."""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

import sfumato

SCHEDULERS = ["PNDMScheduler", "DDIMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler"]
SETTINGS: dict[str, dict[str, Any]] = {
    "one prompt": {"prompt": "a red apple"},
    "a list of prompts": {"prompt": ["a red apple", "two cats, 3d"], "negative_prompt": ["blur", "dogs"]},
    "several images": {
        "prompt": ["a red apple", "a cat"],
        "num_images_per_prompt": 2,
        "negative_prompt": ["ugly", "ugly"],
    },
    "no guidance": {"prompt": "a red apple", "guidance_scale": 1.0},
    "other size": {"prompt": "a red apple", "height": 48, "width": 88},
    "clip skip": {"prompt": "a red apple", "clip_skip": 1},
}


@pytest.fixture(scope="module")
def reference(tiny_folder: Path) -> Any:
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(tiny_folder, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    if not hasattr(pipe.text_encoder, "text_model"):
        # diffusers 0.42 looks for the final norm one level deeper than transformers 5.23 keeps it, when clip_skip is set.
        object.__setattr__(pipe.text_encoder, "text_model", pipe.text_encoder)
    return pipe


@pytest.fixture(scope="module")
def ours(tiny_folder: Path) -> sfumato.StableDiffusionPipeline:
    pipe = sfumato.StableDiffusionPipeline.from_pretrained(tiny_folder, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def assert_same_pictures(got: np.ndarray, expected: np.ndarray) -> None:
    assert got.shape == expected.shape
    assert expected.std() > 0.02, "a flat reference picture shows nothing"
    difference = np.abs(got - expected) * 255
    assert difference.mean() < 0.5
    assert difference.max() <= 3


def swap(reference: Any, ours: sfumato.StableDiffusionPipeline, name: str) -> None:
    reference.scheduler = getattr(diffusers, name).from_config(reference.scheduler.config)
    ours.scheduler = getattr(sfumato, name).from_config(ours.scheduler.config)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
@pytest.mark.parametrize("name", SCHEDULERS)
def test_pictures_equal_diffusers(
    reference: Any, ours: sfumato.StableDiffusionPipeline, name: str, settings: dict[str, Any]
) -> None:
    swap(reference, ours, name)
    run = {"num_inference_steps": 5, "output_type": "np", **settings}
    expected = reference(**run, generator=torch.Generator().manual_seed(3)).images
    got = ours(**run, generator=torch.Generator().manual_seed(3)).images
    assert_same_pictures(got, expected)


@pytest.mark.parametrize(
    ("name", "extra"),
    [
        ("DDIMScheduler", {"eta": 0.7}),
        ("EulerAncestralDiscreteScheduler", {}),
        ("DDPMScheduler", {}),
        ("HeunDiscreteScheduler", {}),
        ("LMSDiscreteScheduler", {}),
    ],
)
def test_the_other_schedulers_and_their_noise(
    reference: Any, ours: sfumato.StableDiffusionPipeline, name: str, extra: dict[str, Any]
) -> None:
    swap(reference, ours, name)
    run = {"prompt": ["a fox", "a house"], "num_inference_steps": 6, "output_type": "np", **extra}
    expected = reference(**run, generator=torch.Generator().manual_seed(5)).images
    assert_same_pictures(ours(**run, generator=torch.Generator().manual_seed(5)).images, expected)
    swap(reference, ours, "PNDMScheduler")


def test_generators_are_left_where_diffusers_leaves_them(reference: Any, ours: sfumato.StableDiffusionPipeline) -> None:
    run = {"prompt": "a fox", "num_images_per_prompt": 2, "num_inference_steps": 2, "output_type": "np"}
    theirs, mine = torch.Generator().manual_seed(8), torch.Generator().manual_seed(8)
    for _ in range(2):
        assert_same_pictures(ours(**run, generator=mine).images, reference(**run, generator=theirs).images)
    assert torch.equal(theirs.get_state(), mine.get_state())


def test_one_generator_an_image_and_the_global_one(reference: Any, ours: sfumato.StableDiffusionPipeline) -> None:
    run = {"prompt": ["a fox", "a house"], "num_inference_steps": 3, "output_type": "np"}
    expected = reference(**run, generator=[torch.Generator().manual_seed(s) for s in (1, 2)]).images
    got = ours(**run, generator=[torch.Generator().manual_seed(s) for s in (1, 2)]).images
    assert_same_pictures(got, expected)
    torch.manual_seed(4)
    expected = reference(**run).images
    torch.manual_seed(4)
    assert_same_pictures(ours(**run).images, expected)


def test_latents_and_embeddings_of_the_caller(reference: Any, ours: sfumato.StableDiffusionPipeline) -> None:
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    embeds, negative = reference.encode_prompt("a fox", "cpu", 1, True)
    run = {
        "prompt_embeds": embeds, "negative_prompt_embeds": negative, "latents": latents,
        "num_inference_steps": 3, "output_type": "np",
    }  # fmt: skip
    assert_same_pictures(ours(**run).images, reference(**run).images)


@pytest.mark.parametrize("output_type", ["pil", "np", "pt", "latent"])
def test_output_types(reference: Any, ours: sfumato.StableDiffusionPipeline, output_type: str) -> None:
    run = {"prompt": "a fox", "num_inference_steps": 2, "output_type": output_type}
    expected = reference(**run, generator=torch.Generator().manual_seed(3)).images
    got = ours(**run, generator=torch.Generator().manual_seed(3)).images
    assert type(got) is type(expected)
    if output_type == "pil":
        assert got[0].mode == expected[0].mode
        assert np.abs(np.asarray(got[0], dtype=int) - np.asarray(expected[0], dtype=int)).max() <= 3
    else:
        assert got.dtype == expected.dtype
        np.testing.assert_allclose(np.asarray(got), np.asarray(expected), atol=1e-3, rtol=1e-3)


def test_step_callbacks_see_and_change_the_same_latents(reference: Any, ours: sfumato.StableDiffusionPipeline) -> None:
    seen: dict[str, list[tuple[int, float, torch.Tensor]]] = {"theirs": [], "ours": []}

    def callback(who: str) -> Any:
        def call(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            seen[who].append((step, float(timestep), tensors["latents"].clone()))
            if step == 1:
                tensors["latents"] = tensors["latents"] * 0.5
            return tensors

        return call

    for name in ("PNDMScheduler", "EulerDiscreteScheduler"):
        swap(reference, ours, name)
        run = {"prompt": ["a fox", "a cat"], "num_inference_steps": 3, "output_type": "np"}
        g = torch.Generator
        expected = reference(**run, generator=g().manual_seed(3), callback_on_step_end=callback("theirs")).images
        got = ours(**run, generator=g().manual_seed(3), callback_on_step_end=callback("ours")).images
        if name == "EulerDiscreteScheduler":
            assert_same_pictures(got, expected)
            assert [s[:2] for s in seen["ours"]] == [s[:2] for s in seen["theirs"]]
            for mine, theirs in zip(seen["ours"], seen["theirs"], strict=True):
                torch.testing.assert_close(mine[2], theirs[2], rtol=1e-3, atol=1e-3)
        seen["ours"].clear()
        seen["theirs"].clear()


def test_safety_decisions_equal_diffusers(tiny_folder_with_checker: Path) -> None:
    theirs = diffusers.StableDiffusionPipeline.from_pretrained(tiny_folder_with_checker)
    mine = sfumato.StableDiffusionPipeline.from_pretrained(tiny_folder_with_checker)
    decisions: list[bool] = []
    for pipe in (theirs, mine):
        pipe.set_progress_bar_config(disable=True)
    for seed in range(4):
        run = {"prompt": "a fox", "num_images_per_prompt": 2, "num_inference_steps": 2, "output_type": "np"}
        expected = theirs(**run, generator=torch.Generator().manual_seed(seed))
        got = mine(**run, generator=torch.Generator().manual_seed(seed))
        assert got.nsfw_content_detected == expected.nsfw_content_detected
        assert np.abs(got.images - expected.images).max() * 255 <= 3
        decisions += got.nsfw_content_detected
    assert {True, False} <= set(decisions), "the test must see both decisions"


def test_old_scheduler_configs_are_repaired_as_diffusers_does(tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "old"
    shutil.copytree(tiny_folder, folder)
    file = folder / "scheduler" / "scheduler_config.json"
    config = json.loads(file.read_text())
    for option in ("steps_offset", "timestep_spacing", "prediction_type"):
        config.pop(option, None)
    file.write_text(json.dumps({**config, "clip_sample": True}))
    # The index decides which class it is, whatever the config says.
    index = folder / "model_index.json"
    index.write_text(index.read_text().replace("PNDMScheduler", "DDIMScheduler"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        theirs = diffusers.StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    mine = sfumato.StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    run = {"prompt": "a fox", "num_inference_steps": 5, "output_type": "np"}
    for pipe in (theirs, mine):
        pipe.set_progress_bar_config(disable=True)
    expected = theirs(**run, generator=torch.Generator().manual_seed(1)).images
    assert_same_pictures(mine(**run, generator=torch.Generator().manual_seed(1)).images, expected)
