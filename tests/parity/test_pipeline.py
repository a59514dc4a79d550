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
from sfumato.errors import UnsupportedError

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


@pytest.mark.parametrize("name", ["EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"])
def test_pictures_of_a_network_with_edm_s_preconditioning_equal_diffusers(
    reference: Any, tiny_folder: Path, name: str
) -> None:
    """From words and from a picture. The class is made from options, as a model's own config makes it."""
    ours = sfumato.StableDiffusionPipeline.from_pretrained(tiny_folder, safety_checker=None)
    options = {"sigma_data": 0.7, "sigma_max": 20.0}
    theirs = diffusers.StableDiffusionPipeline(
        **{**reference.components, "scheduler": getattr(diffusers, name)(**options)}
    )
    theirs.set_progress_bar_config(disable=True)
    ours.scheduler = getattr(sfumato, name)(**options)
    run = {"prompt": "a fox", "num_inference_steps": 5, "output_type": "np"}
    generator = torch.Generator
    expected = theirs(**run, generator=generator().manual_seed(3)).images
    result = ours(**run, generator=generator().manual_seed(3))
    assert_same_pictures(result.images, expected)
    from_picture = diffusers.StableDiffusionImg2ImgPipeline(**theirs.components)
    from_picture.set_progress_bar_config(disable=True)
    picture = torch.rand(1, 3, 64, 64, generator=generator().manual_seed(9))
    expected = from_picture(**run, image=picture, strength=0.6, generator=generator().manual_seed(3)).images
    again = sfumato.StableDiffusionImg2ImgPipeline.from_pipe(ours)
    got = again(**run, image=picture, strength=0.6, generator=generator().manual_seed(3)).images
    assert_same_pictures(got, expected)


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


@pytest.mark.parametrize("name", ["PNDMScheduler", "EulerDiscreteScheduler"])
def test_step_callbacks_see_and_change_the_same_latents(
    reference: Any, ours: sfumato.StableDiffusionPipeline, name: str
) -> None:
    seen: dict[str, list[tuple[float, torch.Tensor]]] = {"theirs": [], "ours": []}
    steps: dict[str, list[int]] = {"theirs": [], "ours": []}
    # PLMS evaluates its second timestep twice, first to correct the first step: one step of ours, and diffusers' steps 0 and 1.
    between = [0] if name == "PNDMScheduler" else []

    def callback(who: str, halved: int, unseen: list[int]) -> Any:
        def call(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            steps[who].append(step)
            if step not in unseen:
                seen[who].append((float(timestep), tensors["latents"].clone()))
            if step == halved:
                tensors["latents"] = tensors["latents"] * 0.5
            return tensors

        return call

    swap(reference, ours, name)
    run = {"prompt": ["a fox", "a cat"], "num_inference_steps": 4, "output_type": "np"}
    g = torch.Generator
    theirs = callback("theirs", 2 + len(between), between)
    expected = reference(**run, generator=g().manual_seed(3), callback_on_step_end=theirs).images
    got = ours(**run, generator=g().manual_seed(3), callback_on_step_end=callback("ours", 2, [])).images
    swap(reference, ours, "PNDMScheduler")
    assert steps == {"theirs": list(range(4 + len(between))), "ours": [0, 1, 2, 3]}
    times = {who: [time for time, _ in seen[who]] for who in seen}
    assert times["ours"][len(between) :] == times["theirs"][len(between) :]
    for (_, mine), (_, their_latents) in zip(seen["ours"], seen["theirs"], strict=True):
        torch.testing.assert_close(mine, their_latents, rtol=1e-3, atol=1e-3)
    assert_same_pictures(got, expected)


@pytest.mark.parametrize("name", [*SCHEDULERS, "EulerAncestralDiscreteScheduler"])
def test_schedulers_of_diffusers_are_taken_over(
    reference: Any, ours: sfumato.StableDiffusionPipeline, tiny_folder: Path, name: str
) -> None:
    # from_config leaves the class that the config was first written by in it: the scheduler's own class counts.
    theirs = getattr(diffusers, name).from_config(reference.scheduler.config)
    ours.scheduler = theirs
    assert type(ours.scheduler) is getattr(sfumato, name)
    expected = getattr(sfumato, name).from_config(dict(reference.scheduler.config))
    assert ours.scheduler.levels(5) == expected.levels(5)
    again = sfumato.StableDiffusionPipeline.from_pretrained(tiny_folder, scheduler=theirs)
    assert type(again.scheduler) is getattr(sfumato, name)
    swap(reference, ours, "PNDMScheduler")


def test_parts_of_diffusers_and_transformers_are_refused(reference: Any, ours: sfumato.StableDiffusionPipeline) -> None:
    for name, library in (
        ("unet", "diffusers"), ("vae", "diffusers"), ("text_encoder", "transformers"), ("tokenizer", "transformers"),
    ):  # fmt: skip
        with pytest.raises(UnsupportedError, match=rf"{name} can't be a \w+ of {library}: .* take its \.{name}$"):
            setattr(ours, name, getattr(reference, name))
    with pytest.raises(UnsupportedError, match="IPNDMScheduler"):
        ours.scheduler = diffusers.IPNDMScheduler()


def test_encode_prompt_gives_the_same_embeddings(reference: Any, ours: sfumato.StableDiffusionPipeline) -> None:
    for arguments in (
        {"prompt": "a fox"},
        {"prompt": ["a fox", "a cat"], "num_images_per_prompt": 2, "negative_prompt": ["x", "y"], "clip_skip": 1},
        {"prompt": "a fox", "do_classifier_free_guidance": False},
    ):
        common = {"device": "cpu", "num_images_per_prompt": 1, "do_classifier_free_guidance": True, **arguments}
        for mine, theirs in zip(ours.encode_prompt(**common), reference.encode_prompt(**common), strict=True):
            if theirs is None:
                assert mine is None
            else:
                torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


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


@pytest.mark.parametrize("output_type", ["pil", "np", "pt"])
def test_latents_decoded_by_the_caller_are_the_same_pictures(
    reference: Any, ours: sfumato.StableDiffusionPipeline, output_type: str
) -> None:
    run = {"prompt": ["a fox", "a cat"], "num_inference_steps": 2, "output_type": "latent"}
    pictures: list[Any] = []
    for pipe in (reference, ours):
        latents = pipe(**run, generator=torch.Generator().manual_seed(3)).images
        with torch.no_grad():
            pixels = pipe.vae.decode(latents / pipe.vae.config.scaling_factor, return_dict=False)[0]
        pictures.append(pipe.image_processor.postprocess(pixels, output_type=output_type, do_denormalize=[True, True]))
    for theirs, mine in zip(*pictures, strict=True):
        scale = 1 if output_type == "pil" else 255
        assert np.abs(np.asarray(mine, dtype=float) - np.asarray(theirs, dtype=float)).max() * scale <= 3
