"""Whole folders, between diffusers and us: what either saves, the other opens, bit for bit."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline

from sfumato.checkpoints import LoadedModel, open_folder, save_folder
from sfumato.checkpoints.diffusers_layout import safety_keys, text_keys, unet_keys, vae_keys
from sfumato.checkpoints.keys import KeyMap
from sfumato.errors import CheckpointError


def save(loaded: LoadedModel, path: Path, **options: object) -> None:
    save_folder(
        path,
        unet=loaded.unet,
        vae=loaded.vae,
        text_encoder=loaded.text_encoder,
        safety_checker=loaded.safety_checker,
        feature_extractor=loaded.feature_extractor,
        tokenizer_files=loaded.tokenizer_dir,
        scheduler_config=loaded.scheduler_config,
        **options,
    )


def assert_same_tensors(ours: torch.nn.Module, theirs: torch.nn.Module, keys: KeyMap) -> None:
    expected = {keys.to_ours(key): tensor for key, tensor in theirs.state_dict().items()}
    found = ours.state_dict()
    assert found.keys() == expected.keys()
    for key, tensor in found.items():
        assert torch.equal(tensor, expected[key]), key


@pytest.mark.parametrize("checked", [False, True])
def test_diffusers_opens_what_we_save(
    checked: bool, tiny_folder: Path, tiny_folder_with_checker: Path, tmp_path: Path
) -> None:
    ours = open_folder(tiny_folder_with_checker if checked else tiny_folder)
    save(ours, tmp_path / "saved")
    theirs = StableDiffusionPipeline.from_pretrained(tmp_path / "saved")

    assert_same_tensors(ours.unet, theirs.unet, unet_keys(ours.unet.config))
    assert_same_tensors(ours.vae, theirs.vae, vae_keys(ours.vae.config))
    assert_same_tensors(ours.text_encoder, theirs.text_encoder, text_keys(ours.text_encoder.config))
    if checked:
        assert_same_tensors(ours.safety_checker, theirs.safety_checker, safety_keys(ours.safety_checker.config))
        assert theirs.feature_extractor.crop_size["height"] == 32
    else:
        assert theirs.safety_checker is None
    assert theirs.config.requires_safety_checker == checked
    assert theirs.vae.config.scaling_factor == ours.vae.config.scaling_factor
    assert theirs.scheduler.config.skip_prk_steps
    assert theirs.tokenizer("a red apple").input_ids == [49406, 320, 736, 3055, 49407]


def test_we_open_what_diffusers_saves_again(tiny_folder_with_checker: Path, tmp_path: Path) -> None:
    first = open_folder(tiny_folder_with_checker)
    save(first, tmp_path / "ours")
    StableDiffusionPipeline.from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "theirs")
    second = open_folder(tmp_path / "theirs")
    assert second.missing == ()
    for name in ("unet", "vae", "text_encoder", "safety_checker"):
        before, after = getattr(first, name), getattr(second, name)
        assert before.config == after.config
        weights = after.state_dict()
        assert all(torch.equal(tensor, weights[key]) for key, tensor in before.state_dict().items())


def test_variants_in_half_precision(tiny_folder: Path, tmp_path: Path) -> None:
    save(open_folder(tiny_folder), tmp_path / "half", dtype=torch.float16, variant="fp16")
    theirs = StableDiffusionPipeline.from_pretrained(tmp_path / "half", variant="fp16", torch_dtype=torch.float16)
    ours = open_folder(tmp_path / "half", variant="fp16")
    assert ours.unet.conv_in.weight.dtype == torch.float16
    assert_same_tensors(ours.unet, theirs.unet, unet_keys(ours.unet.config))
    with pytest.raises(CheckpointError, match="pass variant='fp16'"):
        open_folder(tmp_path / "half")


def test_sharded_weights(tiny_folder: Path, tmp_path: Path) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_folder)
    pipeline.save_pretrained(tmp_path / "shards", max_shard_size="200KB")
    index = tmp_path / "shards" / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    assert len(set(json.loads(index.read_text())["weight_map"].values())) > 1
    ours = open_folder(tmp_path / "shards")
    assert_same_tensors(ours.unet, pipeline.unet, unet_keys(ours.unet.config))
    assert_same_tensors(ours.vae, pipeline.vae, vae_keys(ours.vae.config))
