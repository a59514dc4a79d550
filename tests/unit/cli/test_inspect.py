import errno
import hashlib
import json
import os
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.numpy import load_file, save_file
from tiny_families import FAMILIES, our_networks, save_tokenizers

from sfumato.checkpoints import save_folder
from sfumato.checkpoints.single_saving import save_single_file
from sfumato.cli.app import run
from sfumato.cli.inspect import _variants, read_header
from sfumato.errors import CorruptFileError


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    tensors = {
        "down.0.weight": np.zeros((3, 4), np.float32),
        "down.0.bias": np.zeros(3, np.float16),
        "up.scale": np.zeros((), np.float32),
    }
    save_file(tensors, tmp_path / "weights.safetensors", metadata={"format": "pt", "made by": "a test"})
    return tmp_path / "weights.safetensors"


def test_header(weights: Path) -> None:
    summary = read_header(weights)
    assert summary.parameters == 16
    assert summary.dtypes == {"F32": 2, "F16": 1}
    assert summary.metadata["made by"] == "a test"


def test_weights_are_shown(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(weights)]) == 0
    shown = capsys.readouterr().out
    assert "parameters        16" in shown
    assert "down  15" in shown
    assert "metadata made by  a test" in shown


@pytest.mark.parametrize("size", [0, 4, 8, 60, -1])
def test_cut_files_are_said(weights: Path, size: int) -> None:
    weights.write_bytes(weights.read_bytes()[:size])
    with pytest.raises(CorruptFileError, match="download it again"):
        read_header(weights)


@pytest.mark.parametrize(
    "header",
    [
        b"[]",
        b"{",
        b'{"a": 1}',
        b'{"a": {"shape": [1]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}}',
        b'{"__metadata__": [1]}',
        b'{"__metadata__": 1}',
        b'{"a": {"dtype": "F32", "shape": "ab", "data_offsets": [0, 0]}}',
        b'{"a": {"dtype": "F32", "shape": [1.5], "data_offsets": [0, 0]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, "0"]}}',
        b'{"a": ' + b"[" * 100_000,
    ],
)
def test_damaged_headers_are_said(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(CorruptFileError):
        read_header(tmp_path / "x.safetensors")


def test_a_huge_header_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", 2**60) + b"{}")
    with pytest.raises(CorruptFileError, match="not a safetensors file"):
        read_header(tmp_path / "x.safetensors")


def test_what_is_no_model_is_shown_all_the_same(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(weights)]) == 0
    shown = capsys.readouterr().out
    assert "no model: it holds no network of Stable Diffusion: 3 tensors" in shown
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert f"short hash        {digest[:10]}, and e3b0c442 as older programs have it" in shown
    assert digest in shown


def test_a_pickled_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = {"lora_unet_x.lora_up.weight": torch.tensor([1.0, float("nan")])}
    torch.save({"state_dict": tensors, "epoch": 3}, tmp_path / "model.CKPT")
    assert run(["inspect", str(tmp_path / "model.CKPT")]) == 0
    shown = capsys.readouterr().out
    assert "no model: it holds an adapter (LoRA)" in shown
    assert re.search(r"beside epoch +3", shown)
    assert "1 tensors hold NaN or infinity" in shown
    assert "lora_unet_x.lora_up.weight: 1 NaN, 0 infinite" in shown


def test_a_model_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.safetensors"
    family = FAMILIES["sd1-inpaint"]
    save_single_file(path, **our_networks(family), scheduler_config=family.scheduler)
    assert run(["inspect", str(path)]) == 0
    shown = capsys.readouterr().out
    for said in (
        "family: Stable Diffusion 1, inpainting (sd1-inpaint)",
        "  9 input channels: the latents and a mask",
        "needs: a picture and a mask",
        "layout: ldm",
        "memory: 0.01 GiB for the weights in float16, 0.01 GiB in float32",
        "opens: yes\n",
    ):
        assert said in shown
    assert re.search(
        r"brings along +model_index.json, scheduler/scheduler_config.json, text_encoder/config.json", shown
    )
    assert re.search(r"text_encoder +3,\d+,\d+", shown)

    save_file(
        {name: tensor for name, tensor in load_file(path).items() if not name.startswith("cond_stage")}
        | {"x": np.zeros(1)},
        path,
    )
    assert run(["inspect", str(path)]) == 2
    output = capsys.readouterr()
    assert "1 tensors unexpected\n  x\n" in output.out
    assert "can't be opened as Stable Diffusion 1, inpainting: 1 tensors unexpected" in output.err
    save_file({name: tensor for name, tensor in load_file(path).items() if name != "x"}, path)
    assert run(["inspect", str(path), "--family", "sd1-inpaint"]) == 0
    assert "opens: yes; it has no text_encoder" in capsys.readouterr().out
    assert run(["inspect", str(path), "--family", "sdxl"]) == 0
    assert "no model: this model is not of the family sdxl" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (None, "model_index.json; expected a model folder in the diffusers layout"),
        ("{", "can't be read as JSON"),
        ("[]", "not a JSON object"),
        (json.dumps({"_class_name": "FluxPipeline"}), "FluxPipeline"),
    ],
)
def test_foreign_folders_are_said(
    tmp_path: Path, index: str | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if index is not None:
        (tmp_path / "model_index.json").write_text(index)
    assert run(["inspect", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def png_with(folder: Path, recipe: str) -> Path:
    chunks = PngInfo()
    chunks.add_text("sfumato", recipe)
    Image.new("RGB", (8, 8)).save(folder / "picture.png", pnginfo=chunks)
    return folder / "picture.png"


@pytest.mark.parametrize("recipe", ["[" * 100_000, "[1]", '["a"', "[[]]", "{", '{"scheduler": ' + "[" * 100_000])
def test_hostile_recipes_are_said(tmp_path: Path, recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(png_with(tmp_path, recipe))]) == 2
    output = capsys.readouterr()
    assert output.err.startswith("error: ")
    assert output.err.count("\n") == 1
    assert len(output.err) < 500


def test_a_file_that_may_not_be_read_is_said(
    weights: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *args: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "open", refuse)
    assert run(["inspect", str(weights)]) == 2
    assert capsys.readouterr().err == (
        f"error: can't open {weights}: Permission denied; check that it is there and may be read\n"
    )
    assert run(["inspect", "x" * 5000]) == 2
    assert "File name too long" in capsys.readouterr().err


def test_weights_are_counted_once_however_many_variants_lie_beside_each_other(tmp_path: Path) -> None:
    names = {
        "model.safetensors": None,
        "model.fp16.safetensors": "fp16",
        "model-00001-of-00002.fp16.safetensors": "fp16",
        "model.fp16-00002-of-00002.safetensors": "fp16",
        "model-00001-of-00002.safetensors": None,
    }
    for name in names:
        (tmp_path / name).touch()
    found = {file.name: variant for variant, files in _variants(tmp_path).items() for file in files}
    assert found == names


def test_pickles_are_those_that_there_are_no_safetensors_of(tmp_path: Path) -> None:
    for name in ("model.bin", "model.fp16.bin", "model.fp16.safetensors", "model-00001-of-00002.ema.bin"):
        (tmp_path / name).touch()
    found = {variant: [file.name for file in files] for variant, files in _variants(tmp_path).items()}
    assert found == {
        "fp16": ["model.fp16.safetensors"], None: ["model.bin"], "ema": ["model-00001-of-00002.ema.bin"]
    }  # fmt: skip


def test_a_model_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its parts whatever their files are, its family and layout, and what does not fit of each."""
    family, path = FAMILIES["sd2-v"], tmp_path / "model"
    networks = our_networks(family)
    save_tokenizers(family, tmp_path)
    save_folder(path, **networks, tokenizer_files=tmp_path / "tokenizer", scheduler_config=family.scheduler)
    weights = path / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = {name: torch.from_numpy(tensor) for name, tensor in load_file(weights).items()}
    weights.unlink()
    torch.save(tensors, weights.with_suffix(".bin"))
    assert run(["inspect", str(path)]) == 0
    shown = capsys.readouterr().out
    count = sum(tensor.numel() for tensor in tensors.values())
    assert re.search(rf"vae +AutoencoderKL +{count:,} +F32 +\d", shown)
    for said in (
        "family: Stable Diffusion 2, 768 (sd2-v)\n", "  linear projections around its attention", "layout: diffusers\n",
        "GiB for the weights in float16", "sha256: ", "opens: yes\n",
    ):  # fmt: skip
        assert said in shown

    del tensors["quant_conv.bias"]
    torch.save(tensors | {"who.knows": torch.zeros(2)}, weights.with_suffix(".bin"))
    (path / "unet" / "config.json").write_text(
        (path / "unet" / "config.json").read_text().replace('"cross_attention_dim": 64', '"cross_attention_dim": 72')
    )
    assert run(["inspect", str(path)]) == 2
    output = capsys.readouterr()
    assert "\nvae: 1 tensors missing\n  quant_conv.bias\n" in output.out
    assert "\nvae: 1 tensors unexpected\n  who.knows\n" in output.out
    assert re.search(
        r"\nunet: \d+ tensors of the wrong shape or type\n  .*attn2.to_k.weight is \[64, 64\], not \[64, 72\]",
        output.out,
    )
    assert "text_encoder: " not in output.out
    assert output.err.count("\n") == 1


def test_what_a_folder_says_moves_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "scheduler").mkdir()
    (tmp_path / "model_index.json").write_text(
        json.dumps({"_class_name": "Pipe\x1b[2J", "unet": ["diffusers", "U\x1b]0;"]})
    )
    (tmp_path / "scheduler" / "scheduler_config.json").write_text(json.dumps({"beta\x1b[H": "\x07"}))
    run(["inspect", str(tmp_path)])
    said = "".join(capsys.readouterr())
    assert "beta\\x1b[H=\\x07" in said
    assert not {"\x1b", "\x07"} & set(said)
