"""How fast this machine is at what networks are made of, by PyTorch and oneDNN: products, 3×3 convolutions, and copies of memory."""

import time
from collections.abc import Callable
from typing import Any

from bench.worker import Figures, Setting, serve

SIDE = 4096
"""Rows and columns of the matrices."""
SHAPES = ((2, 320, 64), (2, 640, 32), (2, 1280, 16), (2, 1280, 8), (1, 128, 512))
"""Batch, channels and side of the convolutions in Stable Diffusion 1.5 at 512²: four of the U-Net, one of the autoencoder."""
COPIED = 256 << 20
"""Bytes."""


def ceilings(setting: Setting) -> Figures:
    """The best of each kind in GFLOP/s (GB/s for copies, read and written), and every one by itself under "all"."""
    import torch

    torch.set_num_threads(setting.threads)
    found = {
        f"fp32 matmul {SIDE}": rate(product(torch.float32), 2 * SIDE**3, setting),
        f"bf16 matmul {SIDE}": rate(product(torch.bfloat16), 2 * SIDE**3, setting),
        **{f"int8 matmul {SIDE}, {name}": rate(work, 2 * SIDE**3, setting) for name, work in int8_products().items()},
    }
    for batch, channels, side in SHAPES:
        operations = 2 * batch * channels**2 * 9 * side**2
        shape = f"{channels} channels, {side}²"
        found[f"fp32 convolution {shape}"] = rate(convolution(batch, channels, side), operations, setting)
        found[f"int8 convolution {shape}"] = rate(int8_convolution(batch, channels, side), operations, setting)
    source = torch.zeros(COPIED, dtype=torch.uint8)
    target = torch.empty_like(source)
    found["copy"] = rate(lambda: target.copy_(source), 2 * COPIED, setting)
    found = {name: round(one, 1) for name, one in found.items() if one is not None}
    kinds = ("fp32 matmul", "bf16 matmul", "int8 matmul", "fp32 convolution", "int8 convolution", "copy")
    best = {kind: max((one for name, one in found.items() if name.startswith(kind)), default=None) for kind in kinds}
    return {**best, "all": found}


def rate(work: Callable[[], object] | None, operations: int, setting: Setting) -> float | None:
    """Billions of operations a second at the best of `repeats` times, the first apart; None where this PyTorch can't."""
    if work is None:
        return None
    try:
        work()
    except (RuntimeError, NotImplementedError, AttributeError):
        return None
    seconds: list[float] = []
    for _ in range(setting.repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return operations / min(seconds) / 1e9


def product(dtype: Any) -> Callable[[], object]:
    """A product of two square matrices."""
    import torch

    left, right = (torch.randn(SIDE, SIDE).to(dtype) for _ in range(2))
    return lambda: left @ right


def int8_products() -> dict[str, Callable[[], object]]:
    """Products of whole numbers into whole numbers, and of quantised activations with prepared weights into float32."""
    import torch

    left, right = (torch.randint(-127, 127, (SIDE, SIDE), dtype=torch.int8) for _ in range(2))
    rows = torch.randint(0, 255, (SIDE, SIDE), dtype=torch.uint8)
    scales, zeros = torch.ones(SIDE), torch.zeros(SIDE, dtype=torch.int64)
    ops = torch.ops.onednn
    ready: list[Any] = []

    def quantised() -> object:
        if not ready:
            ready.append(ops.qlinear_prepack(right, [SIDE, SIDE]))
        return ops.qlinear_pointwise(
            rows, 0.01, 0, ready[0], scales, zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )  # fmt: skip

    return {"whole numbers": lambda: torch._int_mm(left, right), "oneDNN": quantised}


def convolution(batch: int, channels: int, side: int) -> Callable[[], object]:
    """A 3×3 convolution in float32 with channels last."""
    import torch

    layer = (
        torch.nn.Conv2d(channels, channels, 3, padding=1).requires_grad_(False).to(memory_format=torch.channels_last)
    )
    x = torch.randn(batch, channels, side, side).to(memory_format=torch.channels_last)
    return lambda: layer(x)


def int8_convolution(batch: int, channels: int, side: int) -> Callable[[], object]:
    """The same of quantised activations with prepared weights into float32."""
    import torch

    ops = torch.ops.onednn
    weight = torch.randint(-127, 127, (channels, channels, 3, 3), dtype=torch.int8)
    scales, zeros = torch.ones(channels), torch.zeros(channels, dtype=torch.int64)
    x = torch.randint(0, 255, (batch, channels, side, side), dtype=torch.uint8).to(memory_format=torch.channels_last)
    ready: list[Any] = []

    def convolve() -> object:
        if not ready:
            ready.append(ops.qconv_prepack(weight, scales, 0.01, 0, [1, 1], [1, 1], [1, 1], 1, list(x.shape)))
        return ops.qconv_pointwise(
            x, 0.01, 0, ready[0], scales, zeros, None, [1, 1], [1, 1], [1, 1], 1, 1.0, 0, torch.float32, "none", [], ""
        )  # fmt: skip

    return convolve


if __name__ == "__main__":
    serve({"ceilings": ceilings})
