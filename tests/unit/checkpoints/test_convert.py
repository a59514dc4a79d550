from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_families import FAMILIES, IN_ONE_FILE, our_networks, save_tokenizers
from torch import Tensor

from sfumato.checkpoints import open_folder, save_folder
from sfumato.checkpoints.card import Card
from sfumato.checkpoints.components import VAE
from sfumato.checkpoints.convert import open_model, save_model
from sfumato.checkpoints.merge import FIRST, merge_models, tensors_of
from sfumato.checkpoints.model import LoadedModel
from sfumato.checkpoints.single_file import open_single_file
from sfumato.errors import KeyMismatchError, MissingFileError, OptionError, OutputError, UnsupportedError

WORDS = Card(settings={"guidance_scale": 4.0}, words=("apple",))


def folder_of(name: str, path: Path, **changes: Any) -> Path:
    family = FAMILIES[name]
    networks = our_networks(family) | changes.pop("networks", {})
    save_tokenizers(family, path.with_name("tokenizers"))
    tokenizers = {f"{name}_files": path.with_name("tokenizers") / name for name in family.padding}
    save_folder(
        path, **networks, **tokenizers, scheduler_config=dict(family.scheduler),
        low_res_scheduler=family.low_res_scheduler, family=family, extra_files=WORDS.files(), **changes,
    )  # fmt: skip
    return path


def assert_same(first: LoadedModel, second: LoadedModel, dtype: torch.dtype | None = None) -> None:
    assert first.networks.keys() == second.networks.keys()
    theirs = tensors_of(second)
    for name, tensor in tensors_of(first).items():
        assert torch.equal(theirs[name], tensor if dtype is None else tensor.to(dtype)), name
    for name, network in first.networks.items():
        assert network.config == second.networks[name].config
    assert first.scheduler_config == second.scheduler_config
    assert first.family is second.family
    assert {name: first.tokenizer(name).spec for name in first.tokenizers} == {
        name: second.tokenizer(name).spec for name in second.tokenizers
    }


@pytest.mark.parametrize("name", IN_ONE_FILE)
def test_folder_to_file_to_folder_loses_nothing(name: str, tmp_path: Path) -> None:
    first = open_model(folder_of(name, tmp_path / "first"))
    assert save_model(first, tmp_path / "it.safetensors", layout="ldm") == ()
    second = open_model(tmp_path / "it.safetensors")
    assert_same(first, second)
    assert second.layout == "ldm"
    save_model(second, tmp_path / "second", layout="diffusers")
    third = open_model(tmp_path / "second")
    assert_same(first, third)
    assert (tmp_path / "second" / "model_index.json").read_text() == (
        tmp_path / "first" / "model_index.json"
    ).read_text()
    assert Card.read(tmp_path / "second") == WORDS
    save_model(third, tmp_path / "again.safetensors", layout="ldm")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "it.safetensors").read_bytes()


def test_dtypes_and_variants(tmp_path: Path) -> None:
    first = open_model(folder_of("sdxl", tmp_path / "first"))
    save_model(first, tmp_path / "half", layout="diffusers", dtype=torch.float16, variant="fp16")
    half = open_model(tmp_path / "half", variant="fp16")
    assert_same(first, half, torch.float16)
    save_model(half, tmp_path / "full.safetensors", layout="ldm", dtype=torch.float32)
    assert {tensor.dtype for tensor in load_file(tmp_path / "full.safetensors").values()} == {torch.float32}


def test_parts_that_only_one_layout_holds(tmp_path: Path) -> None:
    folder = folder_of("sd2-depth", tmp_path / "depth")
    (folder / "depth_estimator").mkdir()
    (folder / "depth_estimator" / "config.json").write_text("{}")
    index = folder / "model_index.json"
    index.write_text(
        index.read_text().replace(
            '"depth_estimator": [\n    null,\n    null\n  ]',
            '"depth_estimator": ["transformers", "DPTForDepthEstimation"]',
        )
    )
    model = open_folder(folder)
    assert model.unread == {"depth_estimator": ("transformers", "DPTForDepthEstimation")}
    assert save_model(model, tmp_path / "it.safetensors", layout="ldm") == ("depth_estimator",)
    save_model(model, tmp_path / "again", layout="diffusers")
    assert (tmp_path / "again" / "depth_estimator" / "config.json").read_text() == "{}"
    assert open_folder(tmp_path / "again").unread == model.unread


def test_a_network_by_itself(tmp_path: Path) -> None:
    network = our_networks(FAMILIES["sd1"])["vae"]
    VAE.save(network, tmp_path / "vae")
    first = open_single_file(tmp_path / "vae" / "diffusion_pytorch_model.safetensors")
    save_model(first, tmp_path / "vae.safetensors", layout="ldm")
    assert "decoder.up.0.block.0.conv1.weight" in load_file(tmp_path / "vae.safetensors")
    second = open_model(tmp_path / "vae.safetensors")
    save_model(second, tmp_path / "again", layout="diffusers", dtype=torch.bfloat16)
    again = VAE.open(tmp_path / "again")
    weights = again.state_dict()
    for key, tensor in network.state_dict().items():
        assert torch.equal(weights[key], tensor.bfloat16())
    with pytest.raises(OutputError, match="exists and is not empty"):
        save_model(second, tmp_path / "again", layout="diffusers")
    save_model(second, tmp_path / "again", layout="diffusers", overwrite=True)
    (tmp_path / "again" / "thesis.txt").touch()
    with pytest.raises(OutputError, match="if it is a vae to replace"):
        save_model(second, tmp_path / "again", layout="diffusers", overwrite=True)
    with pytest.raises(OutputError, match="exists already"):
        save_model(second, tmp_path / "vae.safetensors", layout="ldm")


def test_what_can_not_be_converted(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"there is no .*; give a model folder, or a model file"):
        open_model(tmp_path / "nothing")
    folder = folder_of("sd1", tmp_path / "first")
    model = open_model(folder)
    with pytest.raises(OptionError, match="leave out family='sd1'"):
        open_model(folder, family="sd1")
    save_model(model, tmp_path / "it.safetensors", layout="ldm")
    with pytest.raises(OptionError, match="is one file, which has no variants"):
        open_model(tmp_path / "it.safetensors", variant="fp16")
    with pytest.raises(OptionError, match="a single file has no variants"):
        save_model(model, tmp_path / "fp16.safetensors", layout="ldm", variant="fp16")
    tensors = load_file(tmp_path / "it.safetensors")
    save_file({name: t for name, t in tensors.items() if "first_stage" not in name}, tmp_path / "two.safetensors")
    with pytest.raises(UnsupportedError, match="holds unet and text_encoder, which is neither a whole model nor one"):
        save_model(open_model(tmp_path / "two.safetensors"), tmp_path / "two", layout="diffusers")
    save_file({name: t for name, t in tensors.items() if "cond_stage" in name}, tmp_path / "text.safetensors")
    with pytest.raises(UnsupportedError, match="hold a text encoder only within a whole model"):
        save_model(open_model(tmp_path / "text.safetensors"), tmp_path / "x.safetensors", layout="ldm")


def changed(name: str, path: Path, by: float) -> LoadedModel:
    networks = our_networks(FAMILIES[name])
    with torch.no_grad():
        for network in networks.values():
            for parameter in network.parameters():
                parameter.add_(by * torch.randn_like(parameter))
    return open_model(folder_of(name, path, networks=networks))


@pytest.mark.parametrize("layout", ["ldm", "diffusers"])
def test_weighted_sums(layout: Any, tmp_path: Path) -> None:
    a, b = changed("sd1", tmp_path / "a", 0.1), changed("sd1", tmp_path / "b", 0.2)
    for weight in (0.0, 0.3, 1.0):
        out = tmp_path / f"{weight}.safetensors" if layout == "ldm" else tmp_path / f"sum{weight:.0f}{weight > 0}"
        merge_models(a, b, None, out, weight=weight, layout=layout)
        merged = tensors_of(open_model(out))
        others = tensors_of(b)
        for name, tensor in tensors_of(a).items():
            other = others[name]
            torch.testing.assert_close(merged[name], (1 - weight) * tensor + weight * other)
            if weight in (0.0, 1.0):
                assert torch.equal(merged[name], other if weight else tensor)


def test_differences(tmp_path: Path) -> None:
    """What makes an inpainting model of any other: its extra channels stay as they are."""
    a, b, c = (
        changed("sd1-inpaint", tmp_path / "a", 0),
        changed("sd1", tmp_path / "b", 0.2),
        changed("sd1", tmp_path / "c", 0),
    )
    merge_models(
        a, b, c, tmp_path / "out.safetensors", weight=0.8, method="add-difference", layout="ldm", dtype=torch.float16
    )
    model = open_model(tmp_path / "out.safetensors")
    assert model.family is FAMILIES["sd1-inpaint"]
    merged, mine, other, base = map(tensors_of, (model, a, b, c))

    def expected(name: str) -> Tensor:
        difference = 0.8 * (other[name] - base[name])
        if name == FIRST:
            return torch.cat([mine[name][:, :4] + difference, mine[name][:, 4:]], dim=1)
        return mine[name] + difference

    for name, tensor in merged.items():
        assert torch.equal(tensor, expected(name).half()), name


def test_models_that_do_not_fit(tmp_path: Path) -> None:
    a, b = changed("sd1", tmp_path / "a", 0), changed("sd2", tmp_path / "b", 0)
    for options, error, message in (
        ({"weight": float("nan")}, OptionError, "the weight is nan"),
        ({"method": "sigmoid"}, OptionError, "expected weighted-sum or add-difference"),
        ({"method": "add-difference"}, OptionError, "add-difference takes three models"),
        ({}, KeyMismatchError, "only models of one make"),
    ):
        with pytest.raises(error, match=message):
            merge_models(a, b, None, tmp_path / "x.safetensors", layout="ldm", **options)
    v = open_model(folder_of("sd1", tmp_path / "v"))
    v.scheduler_config["prediction_type"] = "v_prediction"
    with pytest.raises(KeyMismatchError, match=r"predicts epsilon and .* v_prediction"):
        merge_models(a, v, None, tmp_path / "x.safetensors", layout="ldm")
    larger = changed("sd1-inpaint", tmp_path / "c", 0)
    with pytest.raises(KeyMismatchError, match=r"unet.conv_in.weight is \[32, 9, 3, 3\]"):
        merge_models(a, larger, None, tmp_path / "x.safetensors", layout="ldm")
    assert not (tmp_path / "x.safetensors").exists()
