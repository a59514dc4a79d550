"""Attention by the kernels in C: softmax(q kᵀ / √size) v over tensors, in float32 or with its products in bytes."""

import ctypes
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from sfumato.errors import EngineError
from sfumato.native.building import instructions, library, note_loaded

LARGEST = 256
"""Channels of a head, at most; they come by eights. SIZE in attention.h."""

# How far the kernels may be from PyTorch's in a small problem before they are taken to be mistranslated: a share of the largest number.
_NEAR = {"attention_float32": 1e-5, "attention_int8": 0.1}


def why_not() -> str | None:
    """Why attention in float32 can't be computed by the kernel here, in words; None where it can. Compiles it at the first call."""
    return _missing("attention_float32")


def why_not_in_bytes() -> str | None:
    """The same of attention whose products are in bytes."""
    return _missing("attention_int8")


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
    assert all(each.dtype == torch.float32 and each.device.type == "cpu" for each in (q, k, v)), "float32 on a CPU"
    q, k, v = (each if each.stride(-1) == 1 else each.contiguous() for each in (q, k, v))
    # Heads beside each other in memory: the next layer takes them together, as one line for each position.
    out = torch.empty(rows, queries, heads, size).transpose(1, 2)
    if out.numel() == 0 or keys == 0:
        return out.zero_()
    strides = (ctypes.c_int64 * 12)(*(stride for each in (q, k, v, out) for stride in each.stride()[:3]))
    pointers = (ctypes.c_void_p(each.data_ptr()) for each in (q, k, v, out))
    sizes = map(ctypes.c_int64, (rows, heads, queries, keys, size, torch.get_num_threads()))
    if getattr(kernels, name)(*pointers, strides, *sizes) != 0:
        raise MemoryError("there was no memory for a megabyte that attention needs")
    return out


@cache
def _missing(name: str) -> str | None:
    try:
        kernels = library()
        if not hasattr(kernels, name):
            return "the kernel needs a processor with AVX-512 VNNI"
        _check(kernels, name)
    except EngineError as error:
        return str(error)
    note_loaded(instructions())
    return None


def _check(kernels: ctypes.CDLL, name: str) -> None:
    """Raise EngineError unless the kernel is near PyTorch's attention where blocks, groups of queries and vectors are all cut short."""
    numbers = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 2, positions, 40, generator=numbers) for positions in (21, 203, 203))
    with torch.no_grad():
        exact = F.scaled_dot_product_attention(q, k, v)
        worst = (_attention(kernels, q, k, v, name) - exact).abs().max() / exact.abs().max()
    if not worst <= _NEAR[name]:
        raise EngineError(f"what the compiler made is wrong: {name} differs from PyTorch's by {float(worst):.2g}")
