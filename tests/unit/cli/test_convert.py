from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_families import FAMILIES, our_networks

from sfumato.checkpoints.convert import open_model
from sfumato.checkpoints.single_saving import save_single_file
from sfumato.cli.app import run


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("convert") / "model.safetensors"
    family = FAMILIES["sd2"]
    save_single_file(path, **our_networks(family), scheduler_config=family.scheduler)
    return path


def test_to_a_folder_and_back(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, again = tmp_path / "folder", tmp_path / "again.safetensors"
    assert run(["convert", str(file), str(folder), "--dtype", "fp16"]) == 0
    assert capsys.readouterr().out == f"{folder}\n"
    assert open_model(folder).unet.dtype == torch.float16
    assert run(["convert", str(folder), str(again), "--layout", "ldm", "--dtype", "float32"]) == 0
    assert load_file(again).keys() == load_file(file).keys()
    assert run(["convert", str(folder), str(again)]) == 2
    assert "exists already and is left as it is; choose another name, or pass --overwrite" in capsys.readouterr().err
    assert run(["convert", str(folder), str(again), "--overwrite"]) == 0


def test_what_was_guessed_is_said(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = tmp_path / "plain.safetensors"
    save_file(load_file(file), plain)
    assert run(["convert", str(plain), str(tmp_path / "a.safetensors")]) == 0
    assert (
        "768: what it predicts is in no tensor; taken for v_prediction; --family says otherwise"
        in capsys.readouterr().err
    )
    assert run(["convert", str(plain), str(tmp_path / "b.safetensors"), "--family", "sd2"]) == 0
    assert capsys.readouterr().err == ""
    assert open_model(tmp_path / "b.safetensors").family is FAMILIES["sd2"]


def test_merging(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    doubled = tmp_path / "doubled.safetensors"
    networks = our_networks(FAMILIES["sd2"])
    for network in networks.values():
        for parameter in network.parameters():
            parameter.data *= 2
    save_single_file(doubled, **networks, scheduler_config=FAMILIES["sd2"].scheduler)
    out = tmp_path / "out.safetensors"
    assert run(["merge", str(file), str(doubled), "--weight", "0.25", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    for name, tensor in load_file(out).items():
        torch.testing.assert_close(tensor, load_file(file)[name] * 1.25)
    assert (
        run(["merge", str(file), str(doubled), str(file), str(out), "--method", "add-difference", "--overwrite"]) == 0
    )
    for name, tensor in load_file(out).items():
        torch.testing.assert_close(tensor, load_file(file)[name] * 1.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["convert", "{}", "out", "--layout", "ldm"], "does not end in .safetensors"),
        (["convert", "{}", "out.safetensors", "--layout", "diffusers"], "is named like a file"),
        (["convert", "{}", "out", "--dtype", "int8"], "dtype must be float32"),
        (["convert", "nowhere", "out"], "there is no nowhere; give a model folder"),
        (["convert", "{}", "out", "--family", "sdxl"], "not of the family sdxl"),
        (["convert", "{}", "out", "--variant", "fp16"], "which has no variants"),
        (["merge", "{}", "out"], "weighted-sum takes 2 models and the one to write, A B OUT; 2 paths were given"),
        (["merge", "{}", "{}", "out", "--method", "add-difference"], "takes 3 models and the one to write, A B C OUT"),
        (["merge", "{}", "{}", "out", "--weight", "nan"], "the weight is nan"),
    ],
)
def test_what_can_not_be_done(
    arguments: list[str], message: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert run([argument.format(file) for argument in arguments]) == 2
    output = capsys.readouterr()
    assert message in output.err
    assert output.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_averages_of_training_are_taken_when_they_are_asked_for(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = load_file(file)
    both = tensors | {
        f"model_ema.{name.removeprefix('model.').replace('.', '')}": tensor + 1
        for name, tensor in tensors.items()
        if name.startswith("model.diffusion_model.")
    }
    path = tmp_path / "training.ckpt"
    torch.save({"state_dict": both, "global_step": 3}, path)
    options = ["--family", "sd2"]
    assert run(["convert", str(path), str(tmp_path / "plain.safetensors"), *options]) == 0
    assert "also holds its U-Net averaged over training (EMA), which is left alone" in capsys.readouterr().err
    assert run(["convert", str(path), str(tmp_path / "ema.safetensors"), "--ema", *options]) == 0
    assert capsys.readouterr().err == ""
    plain, averaged = load_file(tmp_path / "plain.safetensors"), load_file(tmp_path / "ema.safetensors")
    assert plain.keys() == averaged.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(plain[name], tensor)
        assert torch.equal(averaged[name], tensor + 1 if name.startswith("model.diffusion_model.") else tensor)
    assert run(["inspect", str(path), *options]) == 0
    assert (
        "averages of training (EMA): its U-Net's, left alone unless extract_ema=True or --ema"
        in capsys.readouterr().out
    )
    assert run(["convert", str(file), str(tmp_path / "x"), "--ema"]) == 2
    assert "holds no averages of training" in capsys.readouterr().err
    folder = tmp_path / "folder"
    assert run(["convert", str(file), str(folder)]) == 0
    assert run(["convert", str(folder), str(tmp_path / "y"), "--ema"]) == 2
    assert "is a folder, which holds no averages of training" in capsys.readouterr().err
