"""The kernels in C over tensors: attention in float32 or with its products in bytes, and what goes into layers in int8 as their bytes."""

import ctypes
import math
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from sfumato.errors import EngineError, NumericalError
from sfumato.native.building import digest, library

NO_NUMBER = "NaN or infinity arose before an int8 layer; pipe.dequantize() computes in float32, and says where it arose"

LARGEST = 256
"""Channels of a head, at most; they come by eights. SIZE in attention.h."""
LANES = 16
"""Channels that what is made in bytes takes at a time."""

FLOAT, BYTES = ("attention_float32",), ("attention_int8", "gated_int8", "layer_norm_int8", "group_norm_int8")
# How far a kernel may be from the formula in a small problem before it is taken to be mistranslated: a share of the largest number.
_NEAR = {"attention_float32": 1e-5, "attention_int8": 0.1}
_SCALE, _ZERO = 0.05, 128

_int = ctypes.c_int64


@cache
def why_not() -> str | None:
    """Why attention in float32 can't be computed by the kernel here, in words; None where it can. Compiles it at the first call."""
    return _missing(FLOAT)


@cache
def why_not_in_bytes() -> str | None:
    """The same of attention whose products are in bytes, and of what else is made in them."""
    return _missing(BYTES)


def serving() -> str | None:
    """What recipes say of the kernels that this process computes with, which decide its last bits; None before any was needed."""
    served = {"attention": why_not, "bytes": why_not_in_bytes}
    names = [name for name, each in served.items() if each.cache_info().currsize and each() is None]
    return f"{', '.join(names)} {digest()}" if names else None


def attention(q: Tensor, k: Tensor, v: Tensor, *, in_bytes: bool = False) -> Tensor:
    """softmax(q kᵀ / √size) v over `b heads n size`, float32 on a CPU, in any strides; size is a multiple of 8, at most LARGEST.

    Its bits depend neither on threads, nor on other rows, heads or queries. NaN and infinity stay in what they reach.
    Raises EngineError where the kernel is not to be had; ask `why_not` first.
    """
    return _attention(library(), q, k, v, "attention_int8" if in_bytes else "attention_float32")


def _attention(kernels: ctypes.CDLL, q: Tensor, k: Tensor, v: Tensor, name: str) -> Tensor:
    rows, heads, queries, size = q.shape
    keys = k.shape[2]
    assert size % 8 == 0, "the kernels take channels by eights"
    assert 0 < size <= LARGEST, "the kernels have room for so many channels of a head"
    assert k.shape == v.shape == (rows, heads, keys, size), "keys and values belong to the queries"
    q, k, v = (_checked(each if each.stride(-1) == 1 else each.contiguous()) for each in (q, k, v))
    # Heads beside each other in memory: the next layer takes them together, as one line for each position.
    out = q.new_empty(rows, queries, heads, size).transpose(1, 2)
    if out.numel() == 0 or keys == 0:
        return out.zero_()
    strides = (_int * 12)(*(stride for each in (q, k, v, out) for stride in each.stride()[:3]))
    sizes = map(_int, (rows, heads, queries, keys, size))
    if getattr(kernels, name)(*map(_at, (q, k, v, out)), strides, *sizes, _threads()) != 0:
        raise MemoryError("there was no memory for the few megabytes that attention needs")
    return out


def gated(x: Tensor, scale: float, zero: int) -> Tensor:
    """value · GELU(gate) of `*b 2c`, values before gates, as the bytes `*b c` that stand for scale · (byte - zero).

    Of this and the norms: what goes in is float32 on a CPU, c a multiple of LANES. Raises NumericalError for what is no finite number, and
    EngineError where the kernel is not to be had; ask `why_not_in_bytes` first.
    """
    width = _width(x.shape[-1] // 2)
    assert x.shape[-1] == 2 * width, "as many gates as values"
    x = _checked(x.contiguous())
    out = x.new_empty(*x.shape[:-1], width, dtype=torch.uint8)
    sizes = _int(out.numel() // width), _int(width)
    return _made(out, library().gated_int8(_at(x), _at(out), *sizes, *_byte(scale, zero), _threads()))


def layer_normed(x: Tensor, weight: Tensor, bias: Tensor, eps: float, scale: float, zero: int) -> Tensor:
    """The layer norm of `*b c` over its channels, as bytes."""
    width = _width(x.shape[-1])
    x = _checked(x.contiguous())
    out = torch.empty_like(x, dtype=torch.uint8)
    pointers = _at(x), _at(_channels(weight, width)), _at(_channels(bias, width)), _at(out)
    sizes = _int(x.numel() // width), _int(width), ctypes.c_double(eps)
    return _made(out, library().layer_norm_int8(*pointers, *sizes, *_byte(scale, zero), _threads()))


def group_normed(
    x: Tensor,
    shift: Tensor | None,
    groups: int,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    activated: bool,
    scale: float,
    zero: int,
) -> Tensor:
    """The group norm of x + shift, `b c h w` in channels last and `b c`, and if `activated` SiLU of it, as bytes in channels last."""
    rows, channels, height, across = x.shape
    width = _width(channels)
    assert _checked(x).is_contiguous(memory_format=torch.channels_last), "channels last"
    assert width % groups == 0, "groups of as many channels each"
    shift = None if shift is None else _channels(shift, rows * width)
    weight, bias = _channels(weight, width), _channels(bias, width)
    out = torch.empty_like(x, dtype=torch.uint8, memory_format=torch.channels_last)
    sizes = map(_int, (rows, height * across, width, groups))
    pointers = _at(x), None if shift is None else _at(shift), _at(weight), _at(bias), _at(out)
    rest = ctypes.c_double(eps), _int(activated), *_byte(scale, zero), _threads()
    return _made(out, library().group_norm_int8(*pointers, *sizes, *rest))


def _checked(x: Tensor) -> Tensor:
    assert (x.dtype, x.device.type) == (torch.float32, "cpu"), "float32 on a CPU"
    return x


def _width(channels: int) -> int:
    assert channels > 0, "some channels"
    assert channels % LANES == 0, "channels by sixteens"
    return channels


def _channels(x: Tensor, count: int) -> Tensor:
    assert x.numel() == count, "a number for each channel"
    return _checked(x.contiguous())


def _made(out: Tensor, result: int) -> Tensor:
    if result < 0:
        raise MemoryError("there was no memory for the sums of a group norm")
    if result > 0:
        raise NumericalError(NO_NUMBER)
    return out


def _at(x: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(x.data_ptr())


def _byte(scale: float, zero: int) -> tuple[ctypes.c_float, ctypes.c_float]:
    assert scale > 0, "a scale is above 0"
    assert 0 <= zero <= 255, "a byte stands for 0"
    return ctypes.c_float(scale), ctypes.c_float(zero)


def _threads() -> ctypes.c_int64:
    return _int(torch.get_num_threads())


def _missing(names: tuple[str, ...]) -> str | None:
    try:
        for name in names:
            check(name)
    except EngineError as error:
        return str(error)
    return None


@torch.no_grad()
def check(name: str) -> None:
    """Raise EngineError unless a kernel is here and near the formula in small problems, where blocks, groups and chunks are cut short."""
    if not hasattr(library(), name):
        raise EngineError("the kernel needs a processor with AVX-512 VNNI, and a compiler that knows it")
    for size in (40, 104):
        with torch.autocast("cpu", enabled=False):
            made, exact = _tried(name, size)
        worst = (made.double() - exact).abs().max() / exact.abs().max()
        if not worst <= _NEAR.get(name, 0.01):
            raise EngineError(
                f"what the compiler made is wrong: {name} is off by {float(worst):.2g} of the largest number"
            )


def _tried(name: str, size: int) -> tuple[Tensor, Tensor]:
    """What a kernel makes of some numbers, and what the formula does, in float64."""
    source = torch.Generator().manual_seed(0)

    def numbers(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=source, dtype=torch.float32, device="cpu")

    if name.startswith("attention"):
        q, k, v = (numbers(2, 2, positions, size) for positions in (21, 203, 203))
        made = _attention(library(), q, k, v, name)
        return made, (q.double() @ k.double().transpose(-1, -2) / math.sqrt(size)).softmax(-1) @ v.double()
    x, weight, bias = numbers(45, 96), numbers(96), numbers(96)
    wide, by, plus = x.double(), weight.double(), bias.double()
    if name == "gated_int8":
        value, gate = wide.chunk(2, dim=-1)
        made, exact = gated(x, _SCALE, _ZERO), value * F.gelu(gate)
    elif name == "layer_norm_int8":
        made, exact = layer_normed(x, weight, bias, 1e-5, _SCALE, _ZERO), F.layer_norm(wide, (96,), by, plus, 1e-5)
    else:
        image, shift = x.view(1, 5, 9, 96).permute(0, 3, 1, 2), weight[None]
        made = group_normed(image, shift, 4, weight, bias, 1e-5, True, _SCALE, _ZERO)
        exact = F.silu(F.group_norm(image.double() + shift.double()[:, :, None, None], 4, by, plus, 1e-5))
    return (made.double() - _ZERO) * _SCALE, exact.clamp(-_ZERO * _SCALE, (255 - _ZERO) * _SCALE)
