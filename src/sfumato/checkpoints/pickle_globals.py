"""The names that a checkpoint's pickle may use, each with what it means to us. Any other name is refused.

Which names there are in the files that people share: the allow-lists of stable-diffusion-webui (modules/safe.py), picklescan and
spandrel, PyTorch's own weights_only, and the issues people opened where these refused a good file.
"""

import re
from collections.abc import Mapping
from typing import Any, cast

import torch

from sfumato.checkpoints.pickle_numpy import (
    NumpyArray,
    array_from_buffer,
    array_tensor,
    encode,
    numpy_dtype,
    numpy_scalar,
    reconstruct_array,
)
from sfumato.checkpoints.pickle_values import Arguments, Global, Instance, Pairs, Parameters, arity, as_list, as_tuple
from sfumato.checkpoints.stored_tensor import NAMES, StoredTensor, view
from sfumato.errors import CorruptFileError

# Packages whose objects lie about in training checkpoints (callbacks, options) beside the weights: read as inert stand-ins.
INERT_PACKAGES = ("pytorch_lightning", "lightning", "lightning_fabric", "lightning_lite", "omegaconf")
INERT = frozenset(
    {
        "argparse.Namespace", "types.SimpleNamespace", "torch.torch_version.TorchVersion", "torch.device", "typing.Any",
        "builtins.bool", "builtins.int", "builtins.float", "builtins.str",
        "datetime.date", "datetime.datetime", "datetime.timedelta",
        *(f"pathlib{inner}.{name}" for inner in ("", "._local") for name in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")),
    }
)  # fmt: skip
# What Python 3 calls the modules of Python 2, and newer releases of numpy those of older ones.
RENAMED = {
    "__builtin__": "builtins",
    "copy_reg": "copyreg",
    "numpy._core.multiarray": "numpy.core.multiarray",
    "numpy._core.numeric": "numpy.core.numeric",
}
MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)

STORAGES: dict[str, torch.dtype] = {
    "Float": torch.float32, "Half": torch.float16, "BFloat16": torch.bfloat16, "Double": torch.float64, "Long": torch.int64,
    "Int": torch.int32, "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8, "Bool": torch.bool,
    "ComplexFloat": torch.complex64, "ComplexDouble": torch.complex128,
}  # fmt: skip


def find_global(module: str, name: str) -> Global | None:
    """What a name means; None if it is not one that a checkpoint needs. Nothing is looked up outside this file's tables."""
    if not MODULE.fullmatch(module) or not NAME.fullmatch(name):
        return None
    module = RENAMED.get(module, module)
    full = f"{module}.{name}"
    if full in GLOBALS:
        return GLOBALS[full]
    if full in INERT or module.split(".")[0] in INERT_PACKAGES:
        return Global(full, inert=True)
    return None


def tensor_v1(arguments: Arguments) -> StoredTensor:
    """A tensor of a storage, offset, shape and strides."""
    return view(*arity(arguments, 4, 4, "_rebuild_tensor"))


def tensor_v2(arguments: Arguments) -> StoredTensor:
    """The same with requires_grad and hooks, which mean nothing to us, and flags that would change the values."""
    storage, offset, shape, stride, _, _, flags = arity(arguments, 4, 7, "_rebuild_tensor_v2")
    return without_flags(view(storage, offset, shape, stride), flags)


def tensor_v3(arguments: Arguments) -> StoredTensor:
    """The same for the types that have no storage class of their own."""
    storage, offset, shape, stride, _, _, dtype, flags = arity(arguments, 7, 8, "_rebuild_tensor_v3")
    return without_flags(view(storage, offset, shape, stride, dtype_of(dtype)), flags)


def without_flags(tensor: StoredTensor, flags: object) -> StoredTensor:
    """The tensor, unless it is marked as conjugated or negated. Raises CorruptFileError."""
    if flags is not None and flags != []:
        raise CorruptFileError("a tensor is marked as conjugated or negated; expected the values themselves")
    return tensor


def dtype_of(value: object) -> torch.dtype:
    """The dtype that a name stands for. Raises CorruptFileError."""
    if not isinstance(value, Global) or value.dtype is None or value.name not in DTYPE_GLOBALS:
        raise CorruptFileError(f"a {type(value).__name__} stands where a dtype belongs")
    return value.dtype


def parameter(arguments: Arguments) -> StoredTensor:
    """A parameter is its tensor; whether it was being trained, its hooks and attributes mean nothing to us."""
    data = arity(arguments, 1, 4, "a parameter")[0]
    if not isinstance(data, StoredTensor):
        raise CorruptFileError(f"a parameter is made of a {type(data).__name__} instead of a tensor")
    return data


def from_type(arguments: Arguments) -> object:
    """A tensor with attributes of its own: the function that makes it, its class, its arguments, the attributes."""
    function, _, inner, _ = arity(arguments, 4, 4, "_rebuild_from_type_v2")
    make = function.make if isinstance(function, Global) else None
    inner = as_tuple(inner)
    if make is None or make not in (tensor_v1, tensor_v2, tensor_v3, parameter) or inner is None:
        raise CorruptFileError("a tensor with attributes is not made as tensors are")
    return make(inner)


def from_device(arguments: Arguments) -> StoredTensor:
    """A tensor that a device saved by way of the CPU or numpy: the data, and the dtype it had there."""
    data, dtype, _, _ = arity(arguments, 3, 4, "_rebuild_device_tensor")
    found = array_tensor(data) if isinstance(data, NumpyArray) else data
    if not isinstance(found, StoredTensor):
        raise CorruptFileError(f"a device's tensor is made of a {type(data).__name__}")
    return StoredTensor(found.storage, found.offset, found.shape, found.stride, found.dtype, dtype_of(dtype))


def byte_string(arguments: Arguments) -> bytes:
    """What `bytes` and `bytearray` are called with: nothing, bytes, or text with its encoding."""
    if not arguments:
        return b""
    if len(arguments) == 2:
        return encode(arguments)
    if len(arguments) == 1 and isinstance(arguments[0], bytes):
        return arguments[0]
    raise CorruptFileError("bytes are made of something else than bytes")


def sequence(arguments: Arguments) -> list[Any]:
    """A set, a tuple, a size: a list to us, made of none or one."""
    given = arity(arguments, 0, 1, "a collection")[0]
    items = [] if given is None else as_list(given)
    if items is None:
        raise CorruptFileError(f"a collection is made of a {type(given).__name__}")
    return items


def mapping(arguments: Arguments) -> Pairs:
    """An ordered dict: empty, or of a list of pairs as Python 2 saved it, or of a dict as a counter is."""
    given = arity(arguments, 0, 1, "a dict")[0]
    if isinstance(given, Pairs):
        return Pairs(cast("list[Any]", given))
    pairs = cast("list[Any]", [] if given is None else given if type(given) in (list, tuple) else [None])
    # Looked at before any is copied: a list of one long list over and over takes no room, and its copies would take all there is.
    if not all(type(pair) in (list, tuple) and len(pair) == 2 for pair in pairs):
        raise CorruptFileError("a dict is made of something else than pairs")
    return Pairs(item for pair in pairs for item in pair)


def default_mapping(arguments: Arguments) -> Pairs:
    """A dict with a default, which does not matter: it is filled afterwards."""
    return mapping(arity(arguments, 0, 2, "a dict")[1:2]) if len(arguments) == 2 else Pairs()


def complex_number(arguments: Arguments) -> complex:
    """A complex number of its parts."""
    real, imaginary = arity(arguments, 2, 2, "complex")
    if type(real) is not float or type(imaginary) is not float:
        raise CorruptFileError("a complex number is not made of two numbers")
    return complex(real, imaginary)


def reconstruct_object(arguments: Arguments) -> object:
    """An object of the oldest protocols: of a class that is listed, and nothing else."""
    kind, base, state = arity(arguments, 3, 3, "copyreg._reconstructor")
    if not isinstance(kind, Global) or not kind.inert or base != GLOBALS["builtins.object"] or state is not None:
        raise CorruptFileError("an object is not made as plain objects are")
    return Instance(kind.name)


def parameters(arguments: Arguments) -> Parameters:
    """An empty ParameterDict; its state comes after."""
    arity(arguments, 0, 0, "ParameterDict")
    return Parameters()


CLASSES = ("numpy.ndarray", "torch.Tensor", "torch.nn.parameter.Buffer")
DTYPE_GLOBALS = {f"torch.{str(dtype).removeprefix('torch.')}": dtype for dtype in NAMES}


def _globals() -> Mapping[str, Global]:
    makers = {
        "collections.OrderedDict": mapping,
        "typing.OrderedDict": mapping,
        "collections.Counter": mapping,
        "collections.defaultdict": default_mapping,
        "builtins.dict": mapping,
        "builtins.list": sequence,
        "builtins.tuple": sequence,
        "builtins.set": sequence,
        "builtins.frozenset": sequence,
        "builtins.bytes": byte_string,
        "builtins.bytearray": byte_string,
        "builtins.complex": complex_number,
        "_codecs.encode": encode,
        "copyreg._reconstructor": reconstruct_object,
        "numpy.dtype": numpy_dtype,
        "numpy.core.multiarray.scalar": numpy_scalar,
        "numpy.core.multiarray._reconstruct": reconstruct_array,
        "numpy.core.numeric._frombuffer": array_from_buffer,
        "torch.Size": sequence,
        "torch._utils._rebuild_tensor": tensor_v1,
        "torch._utils._rebuild_tensor_v2": tensor_v2,
        "torch._utils._rebuild_tensor_v3": tensor_v3,
        "torch._utils._rebuild_parameter": parameter,
        "torch._utils._rebuild_parameter_with_state": parameter,
        "torch._utils._rebuild_device_tensor_from_numpy": from_device,
        "torch._utils._rebuild_device_tensor_from_cpu_tensor": from_device,
        "torch._utils._rebuild_xla_tensor": from_device,
        "torch._tensor._rebuild_from_type_v2": from_type,
        "torch.nn.parameter.Parameter": parameter,
        "torch.nn.modules.container.ParameterDict": parameters,
    }
    table = {name: Global(name, make) for name, make in makers.items()}
    table |= {name: Global(name) for name in (*CLASSES, "builtins.object")}
    table |= {name: Global(name, dtype=dtype) for name, dtype in DTYPE_GLOBALS.items()}
    for module in ("torch", "torch.cuda"):
        table |= {f"{module}.{name}Storage": Global(f"{name}Storage", dtype=dtype) for name, dtype in STORAGES.items()}
    for name in ("torch.UntypedStorage", "torch.storage.UntypedStorage", "torch.storage._UntypedStorage"):
        table[name] = Global("UntypedStorage", dtype=torch.uint8)
    return table


GLOBALS = _globals()


def storage_dtype(value: object) -> torch.dtype:
    """The element type of a storage's class. Raises CorruptFileError for anything else."""
    if not isinstance(value, Global) or value.dtype is None or not value.name.endswith("Storage"):
        raise CorruptFileError(f"a {type(value).__name__} stands where a storage's class belongs")
    return value.dtype
