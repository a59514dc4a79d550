"""Our reader of pickles against `torch.load`, on random state dicts in both formats and all protocols."""

import random
import warnings
from argparse import Namespace
from collections import Counter, OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sfumato.checkpoints.stored_tensor import NAMES
from sfumato.checkpoints.tensor_file import open_tensors

# The newest dtypes have no storage class; in the older format PyTorch writes them, and can't read them again.
WITHOUT_CLASS = {torch.uint16, torch.uint32, torch.uint64, torch.float8_e4m3fn, torch.float8_e5m2}
ROUNDS = 40


def random_tensor(draw: random.Random, kinds: list[torch.dtype], shared: list[Tensor]) -> Tensor:
    """A tensor of any dtype and strides: whole, transposed, sliced, repeated, or a view of another's storage."""
    dtype = draw.choice(kinds)
    shape = [
        draw.choice((0, 1, 2, 3, 5)) if draw.random() < 0.2 else draw.randint(1, 5) for _ in range(draw.randint(0, 4))
    ]
    raw = torch.randint(0, 256, (max(1, int(np.prod(shape))) * dtype.itemsize + 64,), dtype=torch.uint8)
    if dtype == torch.bool:
        raw = raw % 2
    start = draw.choice((0, 0, dtype.itemsize, 16))
    whole = raw[start : start + int(np.prod(shape)) * dtype.itemsize]
    tensor = (whole.clone() if draw.random() < 0.5 and start == 0 else whole).view(dtype).view(shape)
    how = draw.randrange(7)
    if how == 0 and tensor.dim() >= 2:
        tensor = tensor.transpose(0, 1)
    elif how == 1 and tensor.dim() >= 1 and tensor.shape[0] > 1:
        tensor = tensor[1:]
    elif how == 2 and tensor.dim() >= 1 and tensor.shape[-1] > 1:
        tensor = tensor[..., ::2]
    elif how == 3 and tensor.dim() == 4 and tensor.numel():
        tensor = tensor.contiguous(memory_format=torch.channels_last)
    elif how == 4:
        tensor = tensor.unsqueeze(0).expand(3, *tensor.shape)
    elif how == 5 and shared:
        base = draw.choice(shared)
        tensor = base.view(-1)[draw.randrange(base.numel()) :] if base.is_contiguous() and base.numel() else base
    shared.append(tensor)
    return tensor


def random_values(draw: random.Random, kinds: list[torch.dtype], shared: list[Tensor], depth: int = 0) -> Any:
    """A dict such as checkpoints hold: tensors, parameters, numbers, texts, and dicts within."""
    values: dict[str, Any] = OrderedDict() if draw.random() < 0.5 else {}
    for index in range(draw.randint(1, 6)):
        name = draw.choice(("weight", "model.diffusion_model.in.0", "é 💡", "x" * 200)) + str(index)
        tensor = random_tensor(draw, kinds, shared)
        choice = draw.randrange(10)
        if choice == 0 and depth < 3:
            values[name] = random_values(draw, kinds, shared, depth + 1)
        elif choice == 1 and (tensor.is_floating_point() or tensor.is_complex()):
            values[name] = nn.Parameter(tensor, requires_grad=draw.random() < 0.5 and tensor.dtype.itemsize > 1)
        elif choice == 2:
            values[name] = draw.choice((None, True, 7, -1, 1 << 40, -(1 << 63), 2.5, "text", "", "ü", 1 << 300))
        elif choice == 3:
            values[name] = [tensor, (tensor, 3), [], (), {}]
        else:
            values[name] = tensor
    return values


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """What `torch.load` gives, by the names that we give."""
    if isinstance(value, dict):
        items: Any = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    else:
        return {name: value}
    return {
        key: item for part, inner in items for key, item in flat(inner, f"{name}.{part}" if name else str(part)).items()
    }


def same(ours: Tensor, theirs: Tensor) -> bool:
    if (
        ours.dtype != theirs.dtype
        or ours.shape != theirs.shape
        or (theirs.numel() > 1 and ours.stride() != theirs.stride())  # one number has plain strides here
    ):
        return False
    return torch.equal(as_bytes(ours), as_bytes(theirs))


def as_bytes(tensor: Tensor) -> Tensor:
    """What two tensors of one dtype and shape are compared by: NaN is not equal to itself."""
    return torch.empty(tensor.numel(), dtype=tensor.dtype).copy_(tensor.detach().reshape(-1)).view(torch.uint8)


def load(path: Path, protocol: int) -> Any:
    # PyTorch's own safe reader knows protocol 2 only, and some opcodes of 3; these files are ours.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.load(path, weights_only=protocol == 2)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("old", [False, True])
def test_state_dicts_are_read_as_torch_reads_them(tmp_path: Path, protocol: int, old: bool) -> None:
    draw = random.Random(protocol + 10 * old)
    torch.manual_seed(0)
    path = tmp_path / "model.pt"
    tensors = 0
    kinds = [dtype for dtype in NAMES if not old or dtype not in WITHOUT_CLASS]
    for _ in range(ROUNDS):
        values = random_values(draw, kinds, [])
        try:
            torch.save(values, path, pickle_protocol=protocol, _use_new_zipfile_serialization=not old)
        except RuntimeError as error:
            # The older format has no storage that two dtypes look at.
            assert "view the same data as different types" in str(error)  # noqa: PT017
            continue
        theirs = flat(load(path, protocol))
        with open_tensors(path) as file:
            names = [name for name, value in theirs.items() if isinstance(value, Tensor)]
            assert file.keys() == names
            for name in names:
                ours = file.get_tensor(name)
                assert same(ours, theirs[name]), name
                assert file.get_slice(name).get_shape() == list(theirs[name].shape)
                assert file.get_slice(name).get_dtype() == NAMES[theirs[name].dtype]
            assert dict(file.others) == {name: value for name, value in theirs.items() if name not in names}
            tensors += len(names)
    assert tensors > 100


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_shared_storages_stay_shared(tmp_path: Path, protocol: int) -> None:
    base = torch.arange(12.0)
    values = {"a": base, "b": base[4:].view(2, 4), "c": base.view(3, 4).t()}
    torch.save(values, tmp_path / "model.pt", pickle_protocol=protocol)
    with open_tensors(tmp_path / "model.pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    tensors["a"][5] = 99
    assert tensors["b"][0, 1] == 99
    assert tensors["c"][1, 1] == 99
    assert load(tmp_path / "model.pt", protocol)["a"][5] == 5, "the file is as it was"


# What else lies in the checkpoints that people share, each as it is saved and as it is read.
LEFTOVERS: dict[str, tuple[Any, Any]] = {
    "numpy scalar": (np.float64(1.5), 1.5),
    "numpy int": (np.int32(-7), -7),
    "numpy bool": (np.bool_(True), True),
    "set": ({"x"}, None),
    "bytes": (b"ab\x00\xff" * 300, "1,200 bytes"),
    "ascii bytes": (b"ab", "ab"),
    "empty bytes": (b"", ""),
    "bytearray": (bytearray(b"\xff\x00"), "2 bytes"),
    "complex": (1 + 2j, "(1+2j)"),
    "dtype": (torch.float16, "torch.float16"),
    "namespace": (Namespace(lr=0.1, name="x"), "argparse.Namespace, not read"),
    "path": (Path("a/b"), f"{type(Path()).__module__}.{type(Path()).__name__}, not read"),
    "class": (Namespace, "argparse.Namespace"),
    "big number": (1 << 500, 1 << 500),
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("what", LEFTOVERS)
def test_leftovers_of_training_are_read_or_set_aside(tmp_path: Path, protocol: int, old: bool, what: str) -> None:
    saved, expected = LEFTOVERS[what]
    torch.save(
        {what: saved, "w": torch.ones(2)},
        tmp_path / "model.pt",
        pickle_protocol=protocol,
        _use_new_zipfile_serialization=not old,
    )
    with open_tensors(tmp_path / "model.pt") as file:
        assert file.keys() == ["w"]
        if expected is None:
            assert file.others == {"set.0": "x"}
        else:
            assert file.others == {what: expected}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("order", ["C", "F"])
def test_numpy_arrays_are_tensors(tmp_path: Path, protocol: int, order: str) -> None:
    dtypes = ("b1", "u1", "i1", "u2", "i2", "<i4", ">i4", "i8", "f2", "<f4", ">f4", "f8", ">f8", "c8", "c16")
    arrays = {
        dtype: np.asarray(
            np.arange(24).reshape(2, 3, 4) % 2 if dtype == "b1" else np.arange(24).reshape(2, 3, 4), order=order
        ).astype(dtype)
        for dtype in dtypes
    }
    torch.save(
        {"a": arrays, "empty": np.zeros((0, 3)), "scalar": np.zeros(())},
        tmp_path / "model.pt",
        pickle_protocol=protocol,
    )
    with open_tensors(tmp_path / "model.pt") as file:
        assert file.get_tensor("empty").shape == (0, 3)
        assert file.get_tensor("scalar").shape == ()
        for dtype, array in arrays.items():
            assert torch.equal(
                file.get_tensor(f"a.{dtype}"), torch.from_numpy(array.astype(array.dtype.newbyteorder("=")))
            ), dtype


def test_other_dicts_are_dicts(tmp_path: Path) -> None:
    values = {
        "default": defaultdict(dict, {"a": torch.ones(1)}),
        "counter": Counter({30: 2}),
        "numbers": {0: torch.ones(2), 1.5: torch.ones(3), True: 1, (1, "a"): 2, None: 3, b"raw": 4, Namespace: 5},
    }
    torch.save(values, tmp_path / "model.pt")
    with open_tensors(tmp_path / "model.pt") as file:
        assert file.keys() == ["default.a", "numbers.0", "numbers.1.5"]
        assert file.others == {
            "counter.30": 2, "numbers.True": 1, "numbers.1, a": 2, "numbers.None": 3, "numbers.raw": 4,
            "numbers.argparse.Namespace": 5,
        }  # fmt: skip


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("protocol", [2, 4])
def test_textual_inversions_of_the_first_kind(tmp_path: Path, protocol: int, old: bool) -> None:
    """Their vectors are a ParameterDict, a module; the older format keeps a module's source code beside it."""
    vectors = nn.ParameterDict({"*": nn.Parameter(torch.randn(2, 768))})
    values = {"string_to_token": {"*": torch.tensor(265)}, "string_to_param": vectors}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(values, tmp_path / "a.pt", pickle_protocol=protocol, _use_new_zipfile_serialization=not old)
    with open_tensors(tmp_path / "a.pt") as file:
        assert file.keys() == ["string_to_token.*", "string_to_param.*"]
        assert torch.equal(file.get_tensor("string_to_param.*"), vectors["*"])


def test_a_list_of_tensors_is_named_by_number(tmp_path: Path) -> None:
    torch.save([torch.ones(1), torch.zeros(2)], tmp_path / "lora.pt")
    with open_tensors(tmp_path / "lora.pt") as file:
        assert file.keys() == ["0", "1"]
    torch.save(torch.ones(3), tmp_path / "alone.pt")
    with open_tensors(tmp_path / "alone.pt") as file:
        assert file.keys() == ["tensor"]


def test_a_module_s_state_dict_with_its_versions(tmp_path: Path) -> None:
    """A state dict's attributes come after it."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    torch.save(network.state_dict(), tmp_path / "model.pt")
    with open_tensors(tmp_path / "model.pt") as file:
        for name, tensor in network.state_dict().items():
            assert torch.equal(file.get_tensor(name), tensor)


def test_a_training_checkpoint_is_stepped_into(tmp_path: Path) -> None:
    network = nn.Linear(3, 2)
    state = {
        index: {"step": torch.ones(()), "exp_avg": torch.ones(2, 3), "exp_avg_sq": torch.ones(2, 3)} for index in (0, 1)
    }
    optimizer = {
        "state": state,
        "param_groups": [{"lr": 1e-4, "betas": (0.9, 0.999), "foreach": None, "params": [0, 1]}],
    }
    values = {
        "epoch": 3,
        "global_step": 470_000,
        "pytorch-lightning_version": "1.4.2",
        "state_dict": {**network.state_dict(), "scale": 0.18215},
        "callbacks": {Namespace: {"best": torch.ones(1), "path": "a", "score": np.float64(1)}},
        "optimizer_states": [optimizer],
        "lr_schedulers": [],
    }
    torch.save(values, tmp_path / "model.ckpt")
    with open_tensors(tmp_path / "model.ckpt") as file:
        assert file.keys() == ["weight", "bias"]
        assert torch.equal(file.get_tensor("bias"), network.bias)
        others = dict(file.others)
    states = str(others.pop("optimizer_states"))
    assert "6 tensors and" in states
    assert others == {
        "state_dict.scale": 0.18215, "epoch": 3, "global_step": 470_000, "pytorch-lightning_version": "1.4.2",
        "callbacks": "1 tensors and 2 values, not read", "lr_schedulers": "nothing, not read",
    }  # fmt: skip


def test_nothing_but_the_file_is_needed_once_it_is_open(tmp_path: Path) -> None:
    """Mapped tensors outlive the open file, and even its name."""
    expected = torch.randn(100_000)
    torch.save({"a": expected}, tmp_path / "model.pt")
    with open_tensors(tmp_path / "model.pt") as file:
        tensor = file.get_tensor("a")
    (tmp_path / "model.pt").unlink()
    assert torch.equal(tensor, expected)
