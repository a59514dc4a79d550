import errno
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sfumato.checkpoints import LoadedModel, components, open_folder, save_folder
from sfumato.errors import (
    CheckpointError,
    ConfigError,
    CorruptFileError,
    KeyMismatchError,
    MissingFileError,
    OptionError,
    OutputError,
)
from sfumato.models import AutoencoderKL, CLIPTextConfig, CLIPTextEncoder, UNet, UNetConfig, VAEConfig

SCHEDULER = {"_class_name": "DDIMScheduler", "steps_offset": 1}


def write_tokenizer(folder: Path) -> None:
    (folder / "vocab.json").write_text("{}")


def model() -> dict[str, Any]:
    unet = UNetConfig(
        channels=(8, 16), attention=(False, True), heads=(2, 2), depth=(1, 1), norm_groups=4, context_dim=8
    )
    return {
        "unet": UNet(unet),
        "vae": AutoencoderKL(VAEConfig(channels=(8, 8), blocks_per_level=1, norm_groups=4)),
        "text_encoder": CLIPTextEncoder(CLIPTextConfig(vocab_size=20, width=8, layers=1, heads=2, mlp_width=8)),
        "tokenizer_files": write_tokenizer,
        "scheduler_config": SCHEDULER,
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_folder(tmp_path / "model", **model())
    return tmp_path / "model"


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_what_is_opened(folder: Path) -> None:
    loaded = open_folder(str(folder))
    assert isinstance(loaded, LoadedModel)
    assert not loaded.unet.training
    assert loaded.safety_checker is None
    assert loaded.feature_extractor is None
    assert loaded.scheduler_config == SCHEDULER
    assert loaded.tokenizer_dir == folder / "tokenizer"
    assert loaded.missing == ()
    assert len(loaded.sha256) == 64


def test_the_digest_is_of_what_was_opened(folder: Path) -> None:
    loaded, other = open_folder(folder), open_folder(folder)
    digest = loaded.sha256
    save_folder(folder, **model(), overwrite=True)
    assert loaded.sha256 == digest, "known once, it is kept"
    with pytest.raises(CheckpointError, match="was replaced after it was opened"):
        _ = other.sha256
    again = open_folder(folder)
    assert again.sha256 != digest
    third = open_folder(folder)
    shutil.rmtree(folder)
    with pytest.raises(CheckpointError, match="was replaced after it was opened"):
        _ = third.sha256


def test_a_model_with_another_vae_is_another_model(folder: Path) -> None:
    digest = open_folder(folder).sha256
    save_folder(
        folder,
        **{**model(), **{name: getattr(open_folder(folder), name) for name in ("unet", "text_encoder")}},
        overwrite=True,
    )
    assert open_folder(folder).sha256 != digest


def test_in_another_dtype(folder: Path) -> None:
    loaded = open_folder(folder, dtype=torch.bfloat16)
    for network in (loaded.unet, loaded.vae, loaded.text_encoder):
        assert {parameter.dtype for parameter in network.parameters()} == {torch.bfloat16}


def rename_weights(folder: Path, variant: str, *names: str) -> None:
    for name in names:
        file = next((folder / name).glob("*.safetensors"))
        file.rename(file.with_name(f"{file.stem}.{variant}.safetensors"))


def test_a_component_without_the_variant_is_opened_without(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    digest = open_folder(folder).sha256
    rename_weights(folder, "fp16", "unet", "text_encoder")
    loaded = open_folder(folder, variant="fp16")
    assert [(record.name, record.levelname) for record in caplog.records] == [("sfumato", "WARNING")]
    assert "vae has no fp16 weights" in caplog.text
    assert loaded.sha256 == digest
    assert open_folder(folder, variant="fp16", components=["unet"]).vae is None
    assert len(caplog.records) == 1, "of what is not asked for nothing is said"


def test_a_variant_that_no_component_has(folder: Path) -> None:
    with pytest.raises(MissingFileError, match="there are weights without a variant; pass variant=None"):
        open_folder(folder, variant="fp16")
    rename_weights(folder, "fp16", "unet")
    (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(MissingFileError, match=r"vae/diffusion_pytorch_model\.fp16\.safetensors is missing"):
        open_folder(folder, variant="fp16")


def test_the_index_decides_on_the_text_encoder_s_class(folder: Path) -> None:
    whole = open_folder(folder)
    config = folder / "text_encoder" / "config.json"
    values = json.loads(config.read_text())
    config.write_text(json.dumps({"architectures": ["CLIPModel"], "model_type": "clip", "text_config": values}))
    weights = folder / "text_encoder" / "model.safetensors"
    rest = {"logit_scale": torch.zeros(()), "text_projection.weight": torch.zeros(4, 8)}
    rest |= {"vision_model.pre_layrnorm.weight": torch.zeros(3), "visual_projection.weight": torch.zeros(4, 3)}
    save_file(load_file(weights) | rest, weights, metadata={"format": "pt"})
    loaded = open_folder(folder)
    assert loaded.text_encoder.config == whole.text_encoder.config
    expected = whole.text_encoder.state_dict()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in loaded.text_encoder.state_dict().items())


def test_only_some_components(folder: Path) -> None:
    shutil.rmtree(folder / "unet")
    loaded = open_folder(folder, components=["text_encoder"])
    assert loaded.unet is None
    assert loaded.text_encoder is not None
    assert len(loaded.sha256) == 64
    assert open_folder(folder, components=[]).sha256 == ""
    with pytest.raises(OptionError, match="components names clip; known: unet, vae"):
        open_folder(folder, components=["clip"])


def test_a_safety_checker_that_is_listed_and_not_there_is_said(folder: Path) -> None:
    edit(folder / "model_index.json", safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"])
    assert open_folder(folder).missing == ("safety_checker",)


def remove(name: str) -> Any:
    return lambda folder: (folder / name).unlink()


def write(name: str, text: str) -> Any:
    return lambda folder: (folder / name).write_text(text)


def index(**changes: object) -> Any:
    return lambda folder: edit(folder / "model_index.json", **changes)


def weights_of_another_model(folder: Path) -> None:
    shutil.copy(folder / "vae" / "diffusion_pytorch_model.safetensors", folder / "unet")


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (shutil.rmtree, MissingFileError, "model does not exist; expected a folder"),
        (remove("model_index.json"), MissingFileError, "has no model_index.json"),
        (remove("unet/config.json"), MissingFileError, "unet/config.json is missing"),
        (remove("vae/diffusion_pytorch_model.safetensors"), MissingFileError, "safetensors is missing"),
        (remove("scheduler/scheduler_config.json"), MissingFileError, "scheduler_config.json is missing"),
        (lambda folder: shutil.rmtree(folder / "tokenizer"), MissingFileError, "tokenizer is missing, though"),
        (write("model_index.json", "{"), CorruptFileError, "model_index.json is not JSON"),
        (write("vae/config.json", "[1]"), CorruptFileError, "holds a list; expected a JSON object"),
        (
            write("vae/config.json", "\udcff".encode("utf-8", "surrogateescape").decode("latin-1")),
            CorruptFileError,
            "not JSON",
        ),
        (write("unet/config.json", "[" * 100_000), CorruptFileError, "unet/config.json is not JSON"),
        (
            write("unet/diffusion_pytorch_model.safetensors", "<html>"),
            CorruptFileError,
            "is a web page; download the file",
        ),
        (weights_of_another_model, KeyMismatchError, "does not fit its config: tensors .* missing .* unexpected"),
        (index(_class_name="FluxPipeline"), ConfigError, "_class_name is 'FluxPipeline'; Sfumato opens"),
        (index(unet=["diffusers", "SD3Transformer2DModel"]), ConfigError, "unet is 'SD3Transformer2DModel'"),
        (index(unet=[7]), ConfigError, "unet is 7, which"),
        (index(controlnet=["diffusers", "ControlNetModel"]), ConfigError, "expected no such component"),
        (
            index(text_encoder_2=["transformers", "T5EncoderModel"]),
            ConfigError,
            "'T5EncoderModel', which .* expected CLIP",
        ),
        (
            index(force_zeros_for_empty_prompt="yes"),
            ConfigError,
            "force_zeros_for_empty_prompt is 'yes'; expected bool",
        ),
        (index(text_encoder=[None, None]), ConfigError, "lists no text_encoder; expected a model with"),
        (index(vae=[None, None]), ConfigError, "lists no vae"),
    ],
)
def test_damaged_folders(folder: Path, damage: Any, error: type[CheckpointError], message: str) -> None:
    damage(folder)
    with pytest.raises(CheckpointError, match=message) as caught:
        open_folder(folder)
    assert type(caught.value) is error
    assert "\n" not in str(caught.value)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "model.ckpt").touch()
    with pytest.raises(CheckpointError, match="is a file; expected a folder"):
        open_folder(tmp_path / "model.ckpt")


def test_every_file_is_readable_by_all_that_may_read_the_folder(folder: Path) -> None:
    modes = {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()}
    assert len(modes) == 1


def test_the_same_model_is_saved_as_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_folder(tmp_path / "again", **model())
    for path in folder.rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(folder)).read_bytes()


def test_nothing_is_overwritten_unless_asked(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="exists and is not empty"):
        save_folder(folder, **model())
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").touch()
    with pytest.raises(OutputError, match="overwrite=True if it is a model to replace"):
        save_folder(tmp_path / "thesis", **model(), overwrite=True)
    (tmp_path / "empty").mkdir()
    save_folder(tmp_path / "empty", **model())

    before = open_folder(folder)
    save_folder(folder, **model(), overwrite=True)
    assert before.unet.conv_in.weight.isfinite().all(), "a model that is open stays whole when its folder is replaced"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "model", "thesis"]


def test_a_model_can_be_saved_over_itself(folder: Path) -> None:
    loaded = open_folder(folder)
    before = {path: path.read_bytes() for path in folder.rglob("*.*")}
    save_folder(
        folder,
        unet=loaded.unet,
        vae=loaded.vae,
        text_encoder=loaded.text_encoder,
        tokenizer_files=loaded.tokenizer_dir,
        scheduler_config=loaded.scheduler_config,
        overwrite=True,
    )
    assert {path: path.read_bytes() for path in folder.rglob("*.*")} == before


def test_extra_files_come_and_go_with_the_model(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_folder(folder, **model(), extra_files={"words.txt": b"cat\n", "note": b""}, overwrite=True)
    assert (folder / "words.txt").read_bytes() == b"cat\n"
    assert (folder / "note").read_bytes() == b""

    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match=r"can't write \S+/model/words.txt: the disk is full; free some space"):
        save_folder(folder, **model(), extra_files={"words.txt": b"dog\n"}, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (folder / "words.txt").read_bytes() == b"cat\n"
    monkeypatch.undo()
    save_folder(folder, **model(), overwrite=True)
    assert not (folder / "words.txt").exists()


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "../words.txt", "/words.txt", "unet", "tokenizer", "model_index.json"]
)
def test_an_extra_file_has_a_name_of_its_own(tmp_path: Path, name: str) -> None:
    with pytest.raises(OptionError, match="an extra file can't be called"):
        save_folder(tmp_path / "model", **model(), extra_files={name: b""})
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing_behind(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = open_folder(folder).sha256

    def full(network: object, path: Path, *_: object) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(components, "save_weights", full)
    for path in (tmp_path / "new", folder):
        with pytest.raises(OutputError, match="can't be written: No space left on device; nothing was left behind"):
            save_folder(path, **model(), overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert open_folder(folder).sha256 == before


def test_what_was_there_comes_back_if_the_last_move_fails(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = open_folder(folder).sha256
    move = Path.replace

    def fail(path: Path, target: Path) -> Path:
        if path.name == "new":
            raise OSError(errno.EIO, "Input/output error")
        return move(path, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OutputError, match="Input/output error"):
        save_folder(folder, **model(), overwrite=True)
    assert open_folder(folder).sha256 == before


def test_a_place_that_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="can't be written"):
        save_folder(tmp_path / "file" / "model", **model())


def test_a_scheduler_without_a_class(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no _class_name"):
        save_folder(tmp_path / "model", **model() | {"scheduler_config": {}})


def test_an_interrupt_while_replacing_a_model_leaves_the_old_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = open_folder(folder).sha256
    replace = Path.replace

    def interrupted(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_folder(folder, **model(), overwrite=True)
    monkeypatch.undo()
    assert open_folder(folder).sha256 == before
    assert [path.name for path in folder.parent.iterdir() if path.name.startswith(".")] == []
