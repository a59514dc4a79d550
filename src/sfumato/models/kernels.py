"""By which arithmetic a CPU computes convolutions, linear layers and attention: the fastest that gives the same numbers, to rounding.

Where gradients are wanted, a graph is traced or compiled, another precision is asked for, or on any other device, it is PyTorch's own, but for
attention that is learned from in bfloat16.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from sfumato.models.winograd import Tile, winograd

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

Pair: TypeAlias = tuple[int, ...]
Algorithm: TypeAlias = Literal["direct", "winograd 2", "winograd 4"]

# What the algorithms cost, measured on two cores with AVX-512; what counts is their relation, which other processors share.
DIRECT = 2e11  # multiplications and additions a second of oneDNN's direct convolution
PRODUCTS = 1.5e11  # and of the products between the transforms
MOVED = 1.2e10  # bytes a second that the transforms read and write
LAID = 1.2e10  # bytes a second of laying the weights out as a direct convolution wants them
SMALL = 1 << 16  # weights below which a linear layer gains nothing
CALLS = 3e-4  # seconds that the calls of Winograd's parts take by themselves
FEW = 1 << 16  # scores of a head up to which products are faster than PyTorch's attention, there and back in bfloat16


def linear(x: Float[Tensor, "*b i"], weight: Float[Tensor, "o i"], bias: Tensor | None) -> Float[Tensor, "*b o"]:
    """x · weightᵀ + bias. On a CPU by oneDNN, which is from 1.1 to 1.4 times as fast as MKL where this was measured."""
    if weight.numel() < SMALL or _plain(x, weight):
        return F.linear(x, weight, bias)
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def convolution(
    x: Float[Tensor, "b i h w"],
    weight: Float[Tensor, "o i k l"],
    bias: Tensor | None,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Float[Tensor, "b o H W"]:
    """The convolution of x with zeros around it, as F.conv2d gives it."""
    if _plain(x, weight):
        return F.conv2d(x, weight, bias, stride, padding, dilation, groups)
    down, across = padding
    match algorithm(x, len(weight), weight.shape[2:], stride, padding, dilation, groups):
        case "linear":
            return linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)
        case "winograd 2":
            return winograd(x, weight, bias, (down, across), tile=2)
        case "winograd 4":
            return winograd(x, weight, bias, (down, across), tile=4)
        case "direct":
            return F.conv2d(x, weight, bias, stride, padding, dilation, groups)


def attention(
    q: Float[Tensor, "b h m d"],
    k: Float[Tensor, "b h n d"],
    v: Float[Tensor, "b h n d"],
    *,
    visible: Bool[Tensor, "#b #h #m n"] | None = None,
    causal: bool = False,
) -> Float[Tensor, "b h m d"]:
    """Scaled dot-product attention, of each query to the keys `visible` to it; `causal`: to those not after it.

    PyTorch's own, but for few scores learned from in bfloat16 on a CPU: there its way back takes six times as long as the products'.
    Source: Vaswani et al. 2017, arXiv:1706.03762, Eq. 1.
    """
    assert visible is None or not causal, "one of the two says what is visible"
    if not _learns_by_products(q, k):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=visible, is_causal=causal)
    scores = q @ k.mT * q.shape[-1] ** -0.5
    if causal:
        visible = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
    if visible is not None:
        scores = scores.masked_fill(~visible, -torch.inf)
    return scores.softmax(-1) @ v


def _learns_by_products(q: Tensor, k: Tensor) -> bool:
    return (
        q.requires_grad
        and torch.is_grad_enabled()
        and q.dtype == torch.bfloat16
        and q.device.type == "cpu"
        and q.shape[2] * k.shape[2] <= FEW
    )


def algorithm(
    x: Tensor, outputs: int, kernel: Sequence[int], stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Algorithm | Literal["linear"]:
    """By what a convolution of x, to so many channels by kernels of this height and width, is computed."""
    if groups != 1 or (*stride, *dilation) != (1, 1, 1, 1):
        return "direct"
    size, (down, across) = tuple(kernel), padding
    if size == (1, 1) and (down, across) == (0, 0) and x.is_contiguous(memory_format=torch.channels_last):
        return "linear"
    if size != (3, 3):
        return "direct"
    return cheapest(len(x), x.shape[1], outputs, x.shape[2] + 2 * down - 2, x.shape[3] + 2 * across - 2)


def cheapest(images: int, channels: int, outputs: int, height: int, width: int) -> Algorithm:
    """The algorithm that should compute a 3 × 3 convolution with outputs of this size soonest."""
    weights = channels * outputs
    costs: dict[Algorithm, float] = {
        "direct": 2 * 9 * images * height * width * weights / DIRECT + 2 * 4 * 9 * weights / LAID
    }
    sizes: tuple[tuple[Algorithm, Tile], ...] = (("winograd 2", 2), ("winograd 4", 4))
    for name, tiles in sizes:
        count = images * -(-height // tiles) * -(-width // tiles)
        places = (tiles + 2) ** 2
        moved = 4 * places * (count * (3 * channels + 2 * outputs) + 2 * weights)
        costs[name] = CALLS + 2 * places * count * weights / PRODUCTS + moved / MOVED
    return min(costs, key=lambda name: costs[name])


def is_plain(x: Tensor) -> bool:
    """Whether PyTorch's own arithmetic is what is wanted of a layer, or all that there is, for this input."""
    return (
        x.device.type != "cpu"
        or x.dtype != torch.float32
        or torch.is_grad_enabled()
        or torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or torch.is_autocast_enabled("cpu")
        or not torch.backends.mkldnn.is_available()
    )


def _plain(x: Tensor, weight: Tensor) -> bool:
    return weight.dtype != torch.float32 or is_plain(x)
