"""What notebooks do with a pipeline beside calling it, and what they are told where that can't be done."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import sfumato
from sfumato.errors import (
    ConfigError,
    MissingFileError,
    OptionError,
    OutputError,
    PromptError,
    UnsupportedError,
    UsageError,
)
from sfumato.models import SafetyChecker

opened = sfumato.StableDiffusionPipeline.from_pretrained


@pytest.fixture
def pipe(tiny_folder: Path) -> Any:
    pipe = opened(tiny_folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


# -- a function in the safety checker's place ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "function",
    [
        lambda images, clip_input: (images, [False]),
        lambda clip_input, images: (images, False),
        lambda images, **kwargs: (images, None),
    ],
)
def test_a_function_stands_in_for_the_safety_checker(
    tiny_folder_with_checker: Path, function: Any, caplog: pytest.LogCaptureFixture
) -> None:
    pipe = opened(tiny_folder_with_checker)
    pipe.set_progress_bar_config(disable=True)
    pipe.safety_checker = function
    assert caplog.text.count("judged by the function") == 1
    result = pipe.to("cpu", torch.float32)("a fox", num_inference_steps=1, num_images_per_prompt=2)
    assert result.nsfw_content_detected == [False, False]
    assert caplog.text.count("judged by the function") == 1


def test_the_function_is_called_as_diffusers_calls_it(pipe: Any, tmp_path: Path) -> None:
    seen: list[tuple[np.ndarray, torch.Tensor]] = []

    def judge(images: np.ndarray, clip_input: torch.Tensor) -> tuple[np.ndarray, list[bool]]:
        seen.append((images, clip_input))
        return images, [len(seen) == 2]

    pipe.safety_checker = judge
    result = pipe("a fox", num_inference_steps=1, num_images_per_prompt=2, output_type="np")
    assert result.nsfw_content_detected == [False, True]
    assert result.images[1].max() == 0
    images, clip_input = seen[0]
    np.testing.assert_allclose(images[0], result.images[0], atol=0.5 / 255)
    assert (images.shape, images.dtype, clip_input.shape) == ((1, 64, 64, 3), np.float32, (1, 3, 32, 32))
    pipe.save_pretrained(tmp_path / "saved")
    assert opened(tmp_path / "saved").safety_checker is None


def test_a_function_that_does_more_than_judge_is_refused(pipe: Any) -> None:
    pipe.safety_checker = lambda images, clip_input: (images / 2, [False])
    with pytest.raises(UnsupportedError, match="changed a picture that it did not flag"):
        pipe("a fox", num_inference_steps=1)
    pipe.safety_checker = lambda images, clip_input: images
    with pytest.raises(UnsupportedError, match="must return two things"):
        pipe("a fox", num_inference_steps=1)
    for wrong in (torch.nn.Linear(1, 1), SafetyChecker, 5):
        with pytest.raises(UnsupportedError, match="safety_checker can't be"):
            pipe.safety_checker = wrong


# -- parts of other libraries -------------------------------------------------------------------------------------------


class Foreign:
    def __init__(self) -> None:
        self.config = {"beta_start": 0.00085, "_class_name": "PNDMScheduler"}


def test_parts_that_can_not_be_taken_over_are_refused_in_one_line(pipe: Any, tiny_folder: Path) -> None:
    for name in ("unet", "vae", "text_encoder", "tokenizer"):
        with pytest.raises(UnsupportedError, match=rf"{name} can't be a Linear of torch: only Sfumato's own") as caught:
            setattr(pipe, name, torch.nn.Linear(1, 1))
        assert "\n" not in str(caught.value)
        with pytest.raises(UnsupportedError, match=f"{name} can't be"):
            opened(tiny_folder, **{name: Foreign()})
    for wrong in ("euler", None, sfumato.EulerDiscreteScheduler, SimpleNamespace(config=5)):
        with pytest.raises(UnsupportedError, match=r"scheduler can't be .*EulerDiscreteScheduler\.from_config"):
            pipe.scheduler = wrong
    with pytest.raises(UsageError, match="Foreign"):  # its own name counts, not the one that its config was written by
        pipe.scheduler = Foreign()


def test_a_compiled_network_is_still_itself(pipe: Any, tmp_path: Path) -> None:
    own = pipe.unet
    pipe.unet = torch.compile(own, backend="eager")
    assert (pipe.dtype, pipe.unet.config) == (torch.float32, own.config)
    pipe.save_pretrained(tmp_path / "saved")
    saved = opened(tmp_path / "saved").unet
    assert all(torch.equal(a, b) for a, b in zip(saved.parameters(), own.parameters(), strict=True))


def test_parts_that_do_not_fit_together_are_refused_at_once(pipe: Any) -> None:
    from sfumato.models import UNet

    config = pipe.unet.config
    values = {name: getattr(config, name) for name in config.__slots__}
    other = UNet(type(config)(**{**values, "context_dim": 64}))
    with pytest.raises(ConfigError, match="context 64 wide"):
        sfumato.StableDiffusionPipeline(**{**pipe.components, "unet": other})
    kept, pipe.unet = pipe.unet, other
    with pytest.raises(ConfigError, match="context 64 wide"):
        pipe("a fox")
    pipe.unet = kept


# -- the face of the parts ----------------------------------------------------------------------------------------------


def test_embeddings_made_by_hand_draw_the_same_picture(pipe: Any, caplog: pytest.LogCaptureFixture) -> None:
    run = {"num_inference_steps": 2, "seeds": [1, 2], "output_type": "np"}
    words = pipe("a fox", negative_prompt="blur", num_images_per_prompt=2, **run).images
    embeds, negative = pipe.encode_prompt("a fox", "cpu", 2, True, negative_prompt="blur")
    assert embeds.shape == negative.shape == (2, 77, 32)
    drawn = pipe(prompt_embeds=embeds, negative_prompt_embeds=negative, **run).images
    assert np.array_equal(drawn, words)
    assert pipe.encode_prompt(["a", "b"], "cpu", 1, False)[1] is None
    pipe.encode_prompt("fox " * 80, do_classifier_free_guidance=False)
    assert "not seen" in caplog.text
    with pytest.raises(PromptError, match="no prompt"):
        pipe.encode_prompt(None)


def test_a_pipeline_says_what_it_is(pipe: Any) -> None:
    assert pipe.config.requires_safety_checker is True
    assert pipe.config["unet"] == ["sfumato", "UNet"]
    assert pipe.config["safety_checker"] == [None, None]
    assert pipe._execution_device == pipe.device == pipe.vae.device == pipe.text_encoder.device
    assert pipe.dtype == pipe.vae.dtype == pipe.text_encoder.dtype
    assert pipe.vae.config["scaling_factor"] == pipe.vae.config.scaling_factor == 0.18215
    assert pipe.text_encoder.config.hidden_size == pipe.unet.config.cross_attention_dim == 32
    images = pipe.numpy_to_pil(np.full((2, 8, 16, 3), 0.5))
    assert [image.size for image in images] == [(16, 8)] * 2
    assert np.asarray(images[0]).max() == 128
    assert list(pipe.progress_bar([1, 2])) == [1, 2]
    with pipe.progress_bar(total=2) as bar:
        bar.update()
    with pytest.raises(UsageError, match="total"):
        pipe.progress_bar()


def test_tiling_is_switched_on_the_vae_too(pipe: Any) -> None:
    run = {"num_inference_steps": 1, "seeds": [1], "height": 96, "width": 96, "output_type": "np"}
    whole = pipe("a fox", **run).images
    pipe.vae.enable_tiling()
    tiled = pipe("a fox", **run).images
    assert not np.array_equal(tiled, whole)
    np.testing.assert_allclose(tiled, whole, atol=0.01 / 255)
    pipe.disable_vae_tiling()
    pipe.vae.enable_slicing()
    assert np.array_equal(pipe("a fox", **run).images, whole)
    pipe.enable_vae_tiling()
    assert pipe.vae.use_tiling
    assert np.array_equal(pipe("a fox", **run).images, tiled)


def test_a_replay_tiles_as_the_recipe_says(pipe: Any) -> None:
    run = {"num_inference_steps": 1, "seeds": [1], "height": 96, "width": 96}
    recipe = pipe("a fox", **run).images[0].recipe
    pipe.enable_vae_tiling()
    assert pipe.replay(recipe).identical
    assert pipe.vae.use_tiling


def test_the_autoencoder_is_opened_by_itself(tiny_folder: Path, pipe: Any) -> None:
    vae = sfumato.AutoencoderKL.from_pretrained(str(tiny_folder), subfolder="vae", torch_dtype=torch.float64)
    assert vae.dtype == torch.float64
    alone = sfumato.AutoencoderKL.from_pretrained(tiny_folder / "vae", use_safetensors=True)
    assert all(torch.equal(a, b) for a, b in zip(alone.parameters(), pipe.vae.parameters(), strict=True))
    run = {"num_inference_steps": 1, "seeds": [1], "output_type": "np"}
    other = sfumato.DiffusionPipeline.from_pretrained(tiny_folder, vae=alone)
    assert np.array_equal(other("a fox", **run).images, pipe("a fox", **run).images)
    with pytest.raises(FileNotFoundError):
        sfumato.AutoencoderKL.from_pretrained(tiny_folder / "nowhere")
    with pytest.raises(UnsupportedError, match="low_memory"):
        sfumato.AutoencoderKL.from_pretrained(tiny_folder, subfolder="vae", low_memory=True)


# -- what is not there --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["save_lora_weights", "enable_lora_hotswap", "load_ip_adapter", "unload_ip_adapter", "cuda"]
)
def test_what_a_pipeline_has_not_is_said(pipe: Any, name: str) -> None:
    with pytest.raises(UnsupportedError, match=f"{name} is not available: ") as caught:
        getattr(pipe, name)("x")
    assert "\n" not in str(caught.value)
    assert not hasattr(pipe, name)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        pipe.nonsense()


def test_what_is_no_single_file_is_said(tiny_folder: Path) -> None:
    opening = sfumato.StableDiffusionPipeline.from_single_file
    with pytest.raises(MissingFileError, match=r"no file 'x\.ckpt'"):
        opening("x.ckpt")
    with pytest.raises(UnsupportedError, match="is an address; download"):
        opening("https://example.org/x.safetensors")
    with pytest.raises(UsageError, match="is a folder; from_pretrained"):
        opening(tiny_folder)


def test_names_of_diffusers_that_the_package_has_not() -> None:
    with pytest.raises(ImportError, match=r"no IPNDMScheduler yet; .*DDIMScheduler, DDPMScheduler"):
        from sfumato import IPNDMScheduler  # type: ignore[attr-defined]  # noqa: F401
    with pytest.raises(UnsupportedError, match=r"no StableDiffusionGLIGENPipeline yet; there are Stable.*XLPipeline"):
        _ = sfumato.StableDiffusionGLIGENPipeline
    with pytest.raises(ImportError, match="opens a whole model"):
        _ = sfumato.UNet2DConditionModel
    assert not hasattr(sfumato, "nonsense")


@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="for a machine without one")
def test_offloading_without_an_accelerator_is_said(pipe: Any, caplog: pytest.LogCaptureFixture) -> None:
    pipe.enable_model_cpu_offload()
    pipe.enable_sequential_cpu_offload()
    assert caplog.text.count("no accelerator to offload from") == 2
    with pytest.raises(OptionError, match="no CUDA device"):
        pipe.enable_model_cpu_offload(gpu_id=0, device="cuda")


def test_offloading_moves_to_the_accelerator_and_says_so(
    pipe: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    moves: list[Any] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(type(pipe), "to", lambda self, *where: moves.append(where))
    pipe.enable_model_cpu_offload()
    pipe.enable_sequential_cpu_offload(gpu_id=1)
    assert moves == [("cuda",), ("cuda:1",)]
    assert caplog.text.count("offloading is not available yet: the whole pipeline is now on cuda") == 2


# -- options and numbers ------------------------------------------------------------------------------------------------


def test_numbers_of_numpy_are_numbers(pipe: Any) -> None:
    plain = pipe("a fox", 32, 64, 2, guidance_scale=3.5, seeds=[7], output_type="np").images
    same = pipe(
        "a fox", np.int64(32), np.int32(64), np.int64(2), guidance_scale=np.float32(3.5), seeds=np.array([7]),
        num_images_per_prompt=np.int64(1), eta=np.float64(0), clip_skip=np.int64(0), output_type="np",
    ).images  # fmt: skip
    assert np.array_equal(same, plain)
    assert np.array_equal(pipe("a fox", 32, 64, 2, guidance_scale=3.5, seeds=7, output_type="np").images, plain)
    with pytest.raises(OptionError, match="seeds must be a list"):
        pipe("a fox", seeds=1.5)


def test_options_that_are_off_ask_for_nothing(tiny_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    opened(
        tiny_folder, force_download=False, device_map=None, local_files_only=True, cache_dir="x", token=False,
        use_safetensors=True, resume_download=True, custom_pipeline=None,
    )  # fmt: skip
    assert caplog.text == ""
    opened(tiny_folder, revision="fp16")
    assert "revision='fp16' was not needed" in caplog.text
    for option in ({"device_map": "balanced"}, {"force_download": True}):
        with pytest.raises(UnsupportedError, match=next(iter(option))):
            opened(tiny_folder, **option)


def test_devices_and_dtypes(pipe: Any, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pipe.to("cpu", non_blocking=True, silence_dtype_warnings=True) is pipe
    assert pipe.to(torch_device="cpu", torch_dtype="bfloat16").dtype == torch.bfloat16
    for wrong in ("xpu", "meta", torch.device("meta"), "vulkan", "toaster", [], "cuda:x"):
        with pytest.raises(OptionError, match="cpu") as caught:
            pipe.to(wrong)
        assert "\n" not in str(caught.value)
    for wrong in (torch.float8_e4m3fn, torch.int8, torch.complex64):
        with pytest.raises(OptionError, match="dtype must be float32, float16, bfloat16"):
            pipe.to(wrong)
    for wrong in ("float8_e4m3fn", "nn", 5, {"default": torch.float16}):
        with pytest.raises(OptionError, match="dtype must be"):
            opened(tiny_folder, torch_dtype=wrong)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(OptionError, match="has 1 CUDA devices, numbered from 0; there is no cuda:1"):
        pipe.to("cuda:1")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"prompt_embeds": torch.zeros(1, 77, 31)}, r"shape \(1, tokens, 32\) for this call, not \(1, 77, 31\)"),
        (
            {"prompt": "a", "negative_prompt_embeds": torch.zeros(2, 77, 32)},
            r"negative_prompt_embeds must have the shape \(1",
        ),
        ({"prompt": "a", "negative_prompt_embeds": torch.zeros(1, 70, 32)}, "has 70 tokens and a prompt in words 77"),
        ({"prompt_embeds": torch.zeros(1, 154, 32)}, "prompt_embeds has 154 tokens"),
        ({"prompt_embeds": [0.0]}, "prompt_embeds must be a tensor of floating-point numbers, not list"),
        ({"prompt_embeds": torch.zeros(1, 77, 32, dtype=torch.long)}, r"not a tensor of torch\.int64"),
        ({"prompt": "a", "latents": np.zeros((1, 4, 8, 8))}, "latents must be a tensor"),
    ],
)
def test_embeddings_that_do_not_fit_are_said_before_any_work(pipe: Any, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        pipe(**arguments)
    unguided = pipe(prompt_embeds=torch.zeros(1, 154, 32), guidance_scale=1.0, num_inference_steps=1)
    assert len(unguided.images) == 1


# -- callbacks ----------------------------------------------------------------------------------------------------------


def test_callbacks_can_ask_the_pipeline_how_far_it_is(pipe: Any) -> None:
    seen: list[tuple[int, float, bool, int | None]] = []

    def look(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        seen.append((pipe.num_timesteps, pipe.guidance_scale, pipe.do_classifier_free_guidance, pipe.clip_skip))
        return tensors

    pipe("a fox", num_inference_steps=3, guidance_scale=1.0, clip_skip=1, callback_on_step_end=look)
    assert seen == [(3, 1.0, False, 1)] * 3


def test_a_callback_that_changes_the_guidance_is_refused(pipe: Any) -> None:
    def change(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        pipe._guidance_scale = 0.0
        return tensors

    with pytest.raises(UnsupportedError, match="changed _guidance_scale"):
        pipe("a fox", num_inference_steps=2, callback_on_step_end=change)
    assert len(pipe("a fox", num_inference_steps=1).images) == 1


# -- saving -------------------------------------------------------------------------------------------------------------


def test_saving_keeps_what_the_makers_recommend(pipe: Any, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path / "plain", True)
    assert not (tmp_path / "plain" / "sfumato.json").exists()
    pipe.defaults = {"num_inference_steps": 2, "guidance_scale": 3.0}
    pipe.save_pretrained(tmp_path / "saved")
    assert opened(tmp_path / "saved").defaults == pipe.defaults


def test_saving_replaces_a_model_and_nothing_else(pipe: Any, tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder)  # written by diffusers
    pipe.scheduler = sfumato.EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    pipe.save_pretrained(folder)
    pipe.save_pretrained(folder, safe_serialization=True)
    again = opened(folder)
    assert type(again.scheduler) is sfumato.EulerDiscreteScheduler
    again.save_pretrained(folder)  # over the very files that its weights are read from
    run = {"num_inference_steps": 1, "seeds": [1], "output_type": "np"}
    assert np.array_equal(again("a fox", **run).images, pipe("a fox", **run).images)
    with pytest.raises(OutputError):
        pipe.save_pretrained(folder, overwrite=False)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"holds more than a model \(notes\.txt\)"):
        pipe.save_pretrained(folder)
    assert (folder / "notes.txt").read_text() == "mine"
    other = tmp_path / "other"
    (other / "unet").mkdir(parents=True)
    with pytest.raises(OutputError):
        pipe.save_pretrained(other)
    with pytest.raises(UnsupportedError, match="safetensors only"):
        pipe.save_pretrained(tmp_path / "new", False)
