"""Kernels in C for what PyTorch's own are slow at on a CPU: attention, in float32 and in bytes, and what goes into layers in int8.

They are no part of the package as machine code: the machine's compiler translates them when they are first needed, in seconds, and the
result is kept. Where there is no compiler, or none that serves, PyTorch's kernels do it.
"""

from sfumato.native.bindings import (
    LANES,
    LARGEST,
    NO_NUMBER,
    attention,
    gated,
    group_normed,
    layer_normed,
    serving,
    why_not,
    why_not_in_bytes,
)
from sfumato.native.building import OFF

__all__ = [
    "LANES",
    "LARGEST",
    "NO_NUMBER",
    "OFF",
    "attention",
    "gated",
    "group_normed",
    "layer_normed",
    "serving",
    "why_not",
    "why_not_in_bytes",
]
