"""The kernels in C over tensors: attention in float32 or with its products in bytes, and what goes into layers in int8 as their bytes."""

import ctypes
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from sfumato.errors import EngineError
from sfumato.native.building import instructions, library, note_loaded

LARGEST = 256
"""Channels of a head, at most; they come by eights. SIZE in attention.h."""

LANES = 16
"""Channels that what is made in bytes takes at a time."""

# How far the kernels may be from PyTorch's in a small problem before they are taken to be mistranslated: a share of the largest number.
_NEAR = {"attention_float32": 1e-5, "attention_int8": 0.1}


def why_not() -> str | None:
    """Why attention in float32 can't be computed by the kernel here, in words; None where it can. Compiles it at the first call."""
    return _missing("attention_float32")


def why_not_in_bytes() -> str | None:
    """The same of attention whose products are in bytes, and of what else is made in them."""
    for name in ("attention_int8", "gated_int8", "layer_norm_int8", "group_norm_int8"):
        if (reason := _missing(name)) is not None:
            return reason
    return None


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
    assert all((each.dtype, each.device.type) == (torch.float32, "cpu") for each in (q, k, v)), "float32 on a CPU"
    q, k, v = (each if each.stride(-1) == 1 else each.contiguous() for each in (q, k, v))
    # Heads beside each other in memory: the next layer takes them together, as one line for each position.
    out = torch.empty(rows, queries, heads, size).transpose(1, 2)
    if out.numel() == 0 or keys == 0:
        return out.zero_()
    strides = (_int * 12)(*(stride for each in (q, k, v, out) for stride in each.stride()[:3]))
    sizes = map(_int, (rows, heads, queries, keys, size))
    if getattr(kernels, name)(*map(_at, (q, k, v, out)), strides, *sizes, _threads()) != 0:
        raise MemoryError("there was no memory for a megabyte that attention needs")
    return out


def gated(x: Tensor, scale: float, zero: int) -> Tensor:
    """value · GELU(gate) of `*b 2c`, values before gates, as the bytes `*b c` that stand for scale · (byte - zero).

    Of this and the norms: what goes in is float32 on a CPU, c a multiple of LANES. Raises EngineError where the kernel is not to be had; ask
    `why_not_in_bytes` first.
    """
    width = x.shape[-1] // 2
    x, out = _ready(x), torch.empty(*x.shape[:-1], width, dtype=torch.uint8)
    library().gated_int8(_at(x), _at(out), _int(out.numel() // width), _int(width), *_byte(scale, zero), _threads())
    return out


def layer_normed(x: Tensor, weight: Tensor, bias: Tensor, eps: float, scale: float, zero: int) -> Tensor:
    """The layer norm of `*b c` over its channels, as bytes."""
    width = x.shape[-1]
    x, weight, bias, out = _ready(x), _ready(weight), _ready(bias), torch.empty(x.shape, dtype=torch.uint8)
    sizes = _int(x.numel() // width), _int(width), ctypes.c_double(eps)
    library().layer_norm_int8(_at(x), _at(weight), _at(bias), _at(out), *sizes, *_byte(scale, zero), _threads())
    return out


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
    rows, width, height, across = x.shape
    assert x.is_contiguous(memory_format=torch.channels_last), "channels last"
    weight, bias, shift = _ready(weight), _ready(bias), None if shift is None else _ready(shift)
    out = torch.empty_like(x, dtype=torch.uint8, memory_format=torch.channels_last)
    sizes = map(_int, (rows, height * across, width, groups))
    pointers = _at(x), None if shift is None else _at(shift), _at(weight), _at(bias), _at(out)
    rest = ctypes.c_double(eps), _int(activated), *_byte(scale, zero), _threads()
    if library().group_norm_int8(*pointers, *sizes, *rest) != 0:
        raise MemoryError("there was no memory for the sums of a group norm")
    return out


_int = ctypes.c_int64


def _ready(x: Tensor) -> Tensor:
    assert (x.dtype, x.device.type) == (torch.float32, "cpu"), "float32 on a CPU"
    return x.contiguous()


def _at(x: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(x.data_ptr())


def _byte(scale: float, zero: int) -> tuple[ctypes.c_float, ctypes.c_float]:
    return ctypes.c_float(scale), ctypes.c_float(zero)


def _threads() -> ctypes.c_int64:
    return _int(torch.get_num_threads())


@cache
def _missing(name: str) -> str | None:
    try:
        if not hasattr(library(), name):
            return "the kernel needs a processor with AVX-512 VNNI"
        check(name)
    except EngineError as error:
        return str(error)
    note_loaded(instructions())
    return None


@torch.no_grad()
def check(name: str) -> None:
    """Raise EngineError unless a kernel is near PyTorch's in a small problem, where blocks, groups of queries and chunks are cut short."""
    numbers = torch.Generator().manual_seed(0)
    x, weight, bias = torch.randn(45, 96, generator=numbers), *torch.randn(2, 96, generator=numbers)
    scale, zero = 0.05, 128
    match name:
        case "gated_int8":
            value, gate = x.chunk(2, dim=-1)
            made, exact = gated(x, scale, zero), value * F.gelu(gate)
        case "layer_norm_int8":
            made = layer_normed(x, weight, bias, 1e-5, scale, zero)
            exact = F.layer_norm(x, (96,), weight, bias)
        case "group_norm_int8":
            image = x.view(1, 5, 9, 96).permute(0, 3, 1, 2)
            made = group_normed(image, weight[None], 4, weight, bias, 1e-5, True, scale, zero)
            exact = F.silu(F.group_norm(image + weight[None, :, None, None], 4, weight, bias))
        case _:
            q, k, v = (torch.randn(2, 2, positions, 40, generator=numbers) for positions in (21, 203, 203))
            made, exact = _attention(library(), q, k, v, name), F.scaled_dot_product_attention(q, k, v)
    if made.dtype == torch.uint8:
        made, exact = (made.float() - zero) * scale, exact.clamp(-zero * scale, (255 - zero) * scale)
    worst = (made - exact).abs().max() / exact.abs().max()
    if not worst <= _NEAR.get(name, 0.01):
        raise EngineError(f"what the compiler made is wrong: {name} differs from PyTorch's by {float(worst):.2g}")
