import io
import json
import os
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load, load_file, save_file
from torch import nn

from sfumato.checkpoints import filling, safetensors_file, streaming, torch_file
from sfumato.checkpoints.components import VAE
from sfumato.checkpoints.filling import load_weights, save_weights
from sfumato.checkpoints.keys import KeyMap
from sfumato.checkpoints.safetensors_writer import Entry, write_safetensors
from sfumato.checkpoints.weights import find_weights, has_weights, sha256
from sfumato.errors import CheckpointError, CorruptFileError, KeyMismatchError, MissingFileError
from sfumato.models import AutoencoderKL, VAEConfig

KEYS = KeyMap(
    (("first", "0"), ("second", "1")), also_read=(("old_first", "0"),), leftovers=frozenset({"first.position_ids"})
)


def network() -> nn.Sequential:
    with torch.device("meta"):
        return nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 4))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_weights(nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 4)), tmp_path / "model.safetensors", KEYS)
    return tmp_path / "model.safetensors"


def rewrite(file: Path, **changes: torch.Tensor | None) -> None:
    tensors = load_file(file)
    for name, tensor in changes.items():
        key = name.replace("__", ".")
        tensors.pop(key, None)
        if tensor is not None:
            tensors[key] = tensor
    save_file(tensors, file)


def test_weights_come_back(file: Path) -> None:
    loaded = network()
    load_weights(loaded, [file], KEYS)
    tensors = load_file(file)
    assert torch.equal(loaded[0].weight, tensors["first.weight"])
    assert torch.equal(loaded[1].bias, tensors["second.bias"])
    assert all(parameter.requires_grad and parameter.device.type == "cpu" for parameter in loaded.parameters())


def test_weights_are_converted(file: Path) -> None:
    loaded = network()
    load_weights(loaded, [file], KEYS, torch.bfloat16)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.bfloat16}


def test_channels_last_weights_are_saved_in_plain_order(tmp_path: Path) -> None:
    conv = nn.Conv2d(3, 4, 3)
    save_weights(nn.Sequential(conv), tmp_path / "plain", KeyMap((("first", "0"),)))
    save_weights(
        nn.Sequential(conv).to(memory_format=torch.channels_last), tmp_path / "last", KeyMap((("first", "0"),))
    )
    assert (tmp_path / "plain").read_bytes() == (tmp_path / "last").read_bytes()


def test_training_a_loaded_network_leaves_its_file_alone(file: Path) -> None:
    before = file.read_bytes()
    loaded = network()
    load_weights(loaded, [file], KEYS)
    with torch.no_grad():
        for parameter in loaded.parameters():
            parameter.add_(1)
    assert file.read_bytes() == before


def test_known_leftovers_and_older_names_are_read(file: Path) -> None:
    weight = load_file(file)["first.weight"]
    rewrite(file, first__weight=None, old_first__weight=weight, first__position_ids=torch.arange(3))
    loaded = network()
    load_weights(loaded, [file], KEYS)
    assert torch.equal(loaded[0].weight, weight)


def test_one_error_names_all_that_is_amiss(file: Path) -> None:
    rewrite(
        file,
        first__weight=torch.zeros(2, 5),
        first__bias=None,
        second__weight=torch.zeros(4, 2, dtype=torch.int8),
        third__weight=torch.zeros(1),
        old_first__bias=None,
        extra=torch.zeros(1),
    )
    with pytest.raises(KeyMismatchError) as caught:
        load_weights(network(), [file], KEYS)
    message = str(caught.value)
    assert "1 missing (first.bias)" in message
    assert "2 unexpected (extra, third.weight)" in message
    assert "first.weight is [2, 5], not [2, 3]" in message
    assert "second.weight is torch.int8, not a float" in message
    assert "\n" not in message


def test_a_tensor_under_two_names_is_refused(file: Path) -> None:
    rewrite(file, old_first__weight=torch.zeros(2, 3))
    with pytest.raises(KeyMismatchError, match=r"1 given twice \((old_)?first.weight\)"):
        load_weights(network(), [file], KEYS)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_is_refused_or_read_and_nothing_else(file: Path, tmp_path: Path, data: st.DataObject) -> None:
    damaged = bytearray(file.read_bytes())
    if data.draw(st.booleans()):
        del damaged[data.draw(st.integers(0, len(damaged) - 1)) :]
    for _ in range(data.draw(st.integers(0, 4))):
        if damaged:
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "damaged").write_bytes(damaged)
    try:
        load_weights(network(), [tmp_path / "damaged"], KEYS)
    except CheckpointError as error:
        assert "\n" not in str(error)  # noqa: PT017 (either outcome is right)


def test_a_file_cut_short_says_so(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(CorruptFileError, match=r"can't be read as safetensors .*; download the model again"):
        load_weights(network(), [file], KEYS)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("not enough memory: you tried to allocate 3 bytes"),
        OSError(12, "Cannot allocate memory"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("where", ["safe_open", "read_as"])
def test_memory_that_runs_out_is_no_fault_of_the_file(
    file: Path, error: Exception, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(safetensors_file if where == "safe_open" else filling, where, fail)
    with pytest.raises(CheckpointError, match="not enough memory to open") as caught:
        load_weights(network(), [file], KEYS, torch.bfloat16)
    assert not isinstance(caught.value, CorruptFileError)
    assert str(file) in str(caught.value)


def test_another_failure_while_a_file_is_open_stays_what_it_is(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(filling, "read_as", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        load_weights(network(), [file], KEYS, torch.bfloat16)


def test_the_older_names_of_the_autoencoders_attention(tmp_path: Path) -> None:
    torch.manual_seed(0)
    vae = AutoencoderKL(VAEConfig(channels=(8, 16), blocks_per_level=1, norm_groups=4))
    VAE.save(vae, tmp_path / "vae")
    file = tmp_path / "vae" / "diffusion_pytorch_model.safetensors"
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = load_file(file)
    for key in list(tensors):
        prefix, attention, name = key.partition("attentions.0.")
        module, _, parameter = name.rpartition(".")
        if attention and module in old:
            tensors[f"{prefix}{attention}{old[module]}.{parameter}"] = tensors.pop(key)
    assert sum("proj_attn" in key for key in tensors) == 4
    save_file(tensors, file)
    weights = vae.state_dict()
    for key, tensor in VAE.open(tmp_path / "vae").state_dict().items():
        assert torch.equal(tensor, weights[key])


def test_what_there_is_instead_of_the_weights_is_said(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"model\.safetensors is missing; expected the weights"):
        find_weights(tmp_path, "model", None)
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(MissingFileError, match="pass variant=None"):
        find_weights(tmp_path, "model", "fp16")
    (tmp_path / "model.fp16.safetensors").touch()
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "pytorch_model.fp32.bin").touch()
    (tmp_path / "pytorch_model.bf16-00001-of-00002.bin").touch()
    with pytest.raises(MissingFileError, match="pass variant='bf16' or 'fp16' or 'fp32'"):
        find_weights(tmp_path, "model", None)
    assert find_weights(tmp_path, "model", "fp16") == [tmp_path / "model.fp16.safetensors"]


@pytest.mark.parametrize("variant", [None, "fp16"])
@pytest.mark.parametrize(("stem", "pickled"), [("model", "pytorch_model"), ("diffusion_pytorch_model",) * 2])
def test_pickles_are_found_where_there_are_no_safetensors(
    tmp_path: Path, stem: str, pickled: str, variant: str | None
) -> None:
    infix = f".{variant}" if variant else ""
    index = tmp_path / f"{pickled}.bin.index{infix}.json"
    index.write_text(json.dumps({"weight_map": {"a": "1.bin", "b": "2.bin"}}))
    (tmp_path / "1.bin").touch()
    (tmp_path / "2.bin").touch()
    assert find_weights(tmp_path, stem, variant) == [tmp_path / "1.bin", tmp_path / "2.bin"]
    for name in (f"{pickled}{infix}.bin", f"{stem}{infix}.safetensors"):
        (tmp_path / name).touch()
        assert find_weights(tmp_path, stem, variant) == [tmp_path / name]
    assert has_weights(tmp_path, stem, variant)
    assert not has_weights(tmp_path, stem, "other")


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("wrapped", [False, True])
def test_weights_come_back_from_pickles(tmp_path: Path, file: Path, old: bool, wrapped: bool) -> None:
    tensors = load_file(file)
    names = list(tensors)
    for number, part in enumerate((names[:2], names[2:])):
        values = {name: tensors[name] for name in part}
        values = {"state_dict": values, "global_step": 3} if wrapped else values
        torch.save(values, tmp_path / f"{number}.bin", _use_new_zipfile_serialization=not old)
    loaded = network()
    load_weights(loaded, [tmp_path / "0.bin", tmp_path / "1.bin"], KEYS)
    assert torch.equal(loaded[0].weight, tensors["first.weight"])
    assert torch.equal(loaded[1].bias, tensors["second.bias"])


@pytest.mark.parametrize(
    "index", ['{"weight_map": {"a": "../other/secret"}}', '{"weight_map": {}}', '{"weight_map": [1]}', "{}"]
)
def test_shards_lie_beside_their_index(tmp_path: Path, index: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(CorruptFileError, match="no weight_map from tensors to files beside it"):
        find_weights(tmp_path, "model", None)


def test_a_missing_shard(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(
        '{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}'
    )
    (tmp_path / "1.safetensors").touch()
    with pytest.raises(MissingFileError, match=r"2\.safetensors is missing, one of 2"):
        find_weights(tmp_path, "model", None)


def test_sha256_is_of_all_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"ab")
    (tmp_path / "b").write_bytes(b"c")
    assert (
        sha256([tmp_path / "a", tmp_path / "b"]) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


FUSED = KeyMap(
    (("out", "out"), ("square", "square.weight"), ("flat", "flat")),
    fused=(("qkv_weight", ("q.weight", "k.weight")), ("qkv_bias", ("q.bias", "k.bias"))),
    transposed=frozenset({"square"}),
    pointwise=frozenset({"flat.weight"}),
)


def forms() -> nn.Module:
    network = nn.Module()
    for name, layer in {
        "q": nn.Linear(3, 2),
        "k": nn.Linear(3, 4),
        "out": nn.Linear(2, 2),
        "flat": nn.Linear(5, 2),
    }.items():
        network.add_module(name, layer)
    network.add_module("square", nn.Linear(3, 5, bias=False))
    return network


def test_tensors_of_another_form_come_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = forms()
    file = tmp_path / "m.safetensors"
    save_weights(network, file, FUSED)
    tensors = load_file(file)
    assert {name: list(tensor.shape) for name, tensor in tensors.items()} == {
        "qkv_weight": [6, 3], "qkv_bias": [6], "out.weight": [2, 2], "out.bias": [2], "square": [3, 5],
        "flat.weight": [2, 5, 1, 1], "flat.bias": [2],
    }  # fmt: skip
    with torch.device("meta"):
        loaded = forms()
    load_weights(loaded, [file], FUSED)
    weights = loaded.state_dict()
    for name, tensor in network.state_dict().items():
        assert torch.equal(weights[name], tensor), name

    rewrite(file, qkv_weight=torch.zeros(5, 3), square=None, flat__weight=torch.zeros(2, 5))
    with pytest.raises(KeyMismatchError, match=r"1 missing \(square\); .*\(qkv_weight is \[5, 3\], not \[6, 3\]\)"):
        load_weights(forms(), [file], FUSED)


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("pickled", [None, "new", "old"])
def test_another_dtype_is_read_a_little_at_a_time(
    file: Path, tmp_path: Path, stored: torch.dtype, pickled: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same as converting the whole tensor; and nothing of the file is mapped for it."""
    tensors = {name: tensor.to(stored) for name, tensor in load_file(file).items()}
    if pickled:
        tensors["first.weight"] = (
            tensors["first.weight"].T.contiguous().T
        )  # as some programs save them: it does not lie in order
        file = tmp_path / "model.bin"
        torch.save(tensors, file, _use_new_zipfile_serialization=pickled == "new")
    else:
        save_file(tensors, file)
    monkeypatch.setattr(streaming, "CHUNK", 8)
    taken: list[str] = []
    for kind in (safetensors_file.SafetensorsFile, torch_file.TorchFile):
        whole = kind.get_tensor
        monkeypatch.setattr(kind, "get_tensor", lambda self, name, whole=whole: taken.append(name) or whole(self, name))
    for dtype in (torch.float32, torch.float16):
        taken.clear()
        loaded = network()
        load_weights(loaded, [file], KEYS, dtype)
        for name, ours in (("first", loaded[0]), ("second", loaded[1])):
            assert torch.equal(ours.weight, tensors[f"{name}.weight"].to(dtype))
            assert torch.equal(ours.bias, tensors[f"{name}.bias"].to(dtype))
        expected = set(tensors) if dtype == stored else ({"first.weight"} if pickled else set())
        assert set(taken) == expected


def test_a_file_that_is_cut_short_while_it_is_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = filling.read_as

    def cut(stream: BinaryIO, *arguments: Any) -> torch.Tensor:
        os.truncate(file, 100)
        return whole(stream, *arguments)

    monkeypatch.setattr(filling, "read_as", cut)
    with pytest.raises(CorruptFileError, match=r"it was cut short while it was read; download the model again"):
        load_weights(network(), [file], KEYS, torch.float16)


@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_weights_of_8_bits_are_widened(file: Path, kind: torch.dtype) -> None:
    tensors = {name: tensor.to(kind) for name, tensor in load_file(file).items()}
    save_file(tensors, file)
    for dtype in (None, torch.float32):
        loaded = network()
        load_weights(loaded, [file], KEYS, dtype)
        assert loaded[0].weight.dtype == (dtype or torch.float16)
        assert torch.equal(loaded[0].weight.float(), tensors["first.weight"].float())


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.text(min_size=1, max_size=8).filter(lambda name: name != "__metadata__" and name.isprintable()),
        st.tuples(
            st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool]),
            st.lists(st.integers(0, 3), max_size=3),
        ),
        max_size=6,
    )
)
def test_what_is_written_is_what_the_formats_library_reads(tensors: dict[str, tuple[torch.dtype, list[int]]]) -> None:
    made = {name: (torch.rand(shape) * 9).to(dtype) for name, (dtype, shape) in tensors.items()}
    file = io.BytesIO()
    entries = [
        Entry(name=name, shape=tuple(tensor.shape), dtype=tensor.dtype, make=lambda tensor=tensor: tensor)
        for name, tensor in made.items()
    ]
    write_safetensors(file, entries, {"format": "pt"})
    read = load(file.getvalue())
    assert read.keys() == made.keys()
    for name, tensor in made.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor)
