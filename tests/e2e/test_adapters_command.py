"""`--lora` and `--embedding` as a person uses them, on a tiny random model."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sfumato.cli.app import run
from sfumato.images import read_recipe

OUTPUT = pytest.CaptureFixture[str]


def sfumato(*arguments: object) -> int:
    return run([str(argument) for argument in arguments])


@pytest.fixture
def here(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the tiny model, a LoRA and an embedding in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / tiny_folder.name).symlink_to(tiny_folder)  # replay looks for it by its own name
    (tmp_path / "model").symlink_to(tiny_folder)
    g, tensors = torch.Generator().manual_seed(0), dict[str, torch.Tensor]()
    for name, width in (
        ("lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_q", 32),
        ("lora_te_text_model_encoder_layers_1_mlp_fc2", 64),
    ):
        tensors[f"{name}.lora_down.weight"] = torch.randn(2, width, generator=g)
        tensors[f"{name}.lora_up.weight"] = torch.randn(32, 2, generator=g)
        tensors[f"{name}.alpha"] = torch.tensor(2.0)
    save_file(tensors, tmp_path / "style.safetensors")
    save_file({"<zorp>": torch.randn(2, 32, generator=g)}, tmp_path / "zorp.safetensors")
    return tmp_path


COMMON = ["--model", "model", "--steps", 2, "--seed", 1, "--device", "cpu"]


def test_adapters_are_drawn_with_recorded_and_replayed(here: Path, capsys: OUTPUT) -> None:
    extra = ["--lora", "style.safetensors:0.5:2", "--embedding", "zorp.safetensors"]
    assert sfumato("generate", "a <zorp> cat", *COMMON, *extra, "--out", "out/x.png") == 0
    assert capsys.readouterr().err == "note: zorp.safetensors is written <zorp> in a prompt\n"
    recipe = read_recipe(here / "out/x.png")
    assert [(used.file, dict(used.weights), used.token) for used in recipe.adapters] == [
        ("style.safetensors", {"unet": 0.5, "text_encoder": 2.0}, None),
        ("zorp.safetensors", {}, "<zorp>"),
    ]
    assert sfumato("generate", "a <zorp> cat", *COMMON, "--out", "plain.png") == 0
    assert read_recipe(here / "plain.png").pixels_sha256 != recipe.pixels_sha256
    capsys.readouterr()
    assert sfumato("replay", "out/x.png") == 0
    assert capsys.readouterr().out == "bit-identical\n"

    (here / "style.safetensors").rename(here / "renamed.safetensors")
    assert sfumato("replay", "out/x.png") == 2
    assert "was made with 'style.safetensors'" in (said := capsys.readouterr().err)
    assert said.endswith("no such file is here or beside the picture; pass --lora FILE\n")
    assert sfumato("replay", "out/x.png", "--lora", "renamed.safetensors") == 0
    (here / "renamed.safetensors").rename(here / "out/style.safetensors")
    assert sfumato("replay", "out/x.png", "--embedding", "zorp.safetensors") == 0
    assert capsys.readouterr().out == "bit-identical\n" * 2


def test_two_at_once_and_notes_on_what_has_no_effect(here: Path, capsys: OUTPUT) -> None:
    save_file({"lora_unet_conv_in.lora_down.weight": torch.zeros(2, 4, 3, 3), "lora_unet_conv_in.lora_up.weight": torch.zeros(16, 2, 1, 1), "odd": torch.zeros(1)}, here / "odd.safetensors")  # fmt: skip
    assert (
        sfumato(
            "generate", "cat", *COMMON, "--lora", "style.safetensors", "--lora", "odd.safetensors:0.1", "--out", "x.png"
        )
        == 0
    )
    said = capsys.readouterr().err
    assert "odd.safetensors: 1 keys match nothing of this model and have no effect (odd)" in said
    assert "odd.safetensors: 1 layers have no alpha" in said
    assert len(read_recipe(here / "x.png").adapters) == 2


def test_what_does_not_fit_is_one_line(here: Path, capsys: OUTPUT) -> None:
    name = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"
    save_file(
        {f"{name}.lora_down.weight": torch.zeros(2, 2048), f"{name}.lora_up.weight": torch.zeros(32, 2)},
        here / "xl.safetensors",
    )
    for extra, said in (
        (["--lora", "xl.safetensors"], "xl.safetensors does not fit this model: it is for Stable Diffusion XL"),
        (["--lora", "nowhere.safetensors:1"], "there is no file 'nowhere.safetensors'"),
        (["--embedding", "zorp.safetensors:cat"], "is a word of this model's vocabulary"),
        (["--embedding", "style.safetensors"], "style.safetensors"),
    ):
        assert sfumato("generate", "cat", *COMMON, *extra, "--out", "x.png") == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
        assert said in line
    assert not (here / "x.png").exists()
