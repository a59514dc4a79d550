"""3 × 3 convolutions with fewer multiplications: Winograd's, tile by tile.

A convolution becomes products of matrices between two small linear maps: of each tile of the input, of the kernel, and back. With tiles of
2 × 2 outputs each output costs 4 multiplications a channel instead of 9, with tiles of 4 × 4 it costs 2.25, and the maps' own additions.
Source: Lavin & Gray 2016, arXiv:1509.09308, section 4; the matrices of their Eq. 6 and 15.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from sfumato.allocator import is_reusing

if TYPE_CHECKING:
    from jaxtyping import Float

Tile: TypeAlias = Literal[2, 4]
"""How many outputs a tile has on a side."""

KERNELS = 1 << 24
"""How many numbers the transformed kernels of one part may be: 64 MiB."""

TILES = 1 << 22
"""How many numbers the transformed tiles of one part may be: 16 MiB, thrice at once."""

ROOMY = 1 << 24
"""The same where memory is kept for the next layer: 64 MiB, with which it is a twentieth faster."""


@dataclass(frozen=True, slots=True, eq=False)
class Transforms:
    """The maps of one size of tile, each on both axes at once, as a matrix: with Kronecker products, of Lavin and Gray's B, G and A.

    input   `a·a a·a`, of a tile of a·a inputs
    kernel  `a·a 9`, of the nine weights of a kernel
    output  `m·m a·a+1`; its last column adds the bias to every output
    """

    input: Tensor
    kernel: Tensor
    output: Tensor


@cache
def transforms(tile: Tile) -> Transforms:
    """The maps for tiles of `tile` × `tile` outputs."""
    if tile == 2:
        b = [[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]]
        g = [[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]]
        a = [[1, 1, 1, 0], [0, 1, -1, -1]]
    else:
        b = [
            [4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
            [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1],
        ]  # fmt: skip
        g = [
            [1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6],
            [1 / 24, 1 / 12, 1 / 6], [1 / 24, -1 / 12, 1 / 6], [0, 0, 1],
        ]  # fmt: skip
        a = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]
    both = [torch.kron(matrix, matrix) for matrix in (torch.tensor(rows, dtype=torch.float64) for rows in (b, g, a))]
    output = torch.cat([both[2], torch.ones(tile * tile, 1, dtype=torch.float64)], dim=1)
    return Transforms(both[0].float(), both[1].float(), output.float())


def winograd(
    x: Float[Tensor, "b i h w"],
    weight: Float[Tensor, "o i 3 3"],
    bias: Float[Tensor, " o"] | None,
    padding: tuple[int, int] = (1, 1),
    *,
    tile: Tile,
) -> Float[Tensor, "b o H W"]:
    """The convolution of x, of stride 1, in float32 on a CPU; `padding` is that at top and bottom, and at left and right.

    Of the same accuracy as a direct one with tiles of 2, of some five times its rounding with tiles of 4 (about 1e-5 of the largest
    output). It makes no use of gradients. x and the answer lie with their channels last.
    """
    count, channels, height, width = x.shape
    outputs = len(weight)
    down, across = padding
    height, width = height + 2 * down - 2, width + 2 * across - 2
    tall, wide = -(-height // tile), -(-width // tile)
    right = wide * tile + 2 - x.shape[3] - across
    maps, side = transforms(tile), tile + 2
    lines = x.permute(0, 2, 3, 1)  # a view: the channels lie last
    answer = x.new_empty(count, tall, tile, wide, tile, outputs)
    row = side * side * wide * max(channels, outputs)  # numbers in the transformed tiles of one row
    for some in parts(outputs, side * side * channels):
        kernels = transformed_kernels(weight[some], maps)
        shift = x.new_zeros(1) if bias is None else bias[some]
        for images, rows in blocks(count, tall, row, ROOMY if is_reusing() else TILES):
            top, end = rows.start * tile - down, rows.stop * tile + 2 - down
            inside = slice(max(top, 0), min(end, x.shape[2]))
            around = (0, 0, across, right, inside.start - top, end - inside.stop)
            made = _tiles(lines[images, inside], around, kernels, shift, tile)
            answer[images, rows, ..., some] = made.permute(2, 3, 0, 4, 1, 5)
    whole = answer.view(count, tall * tile, wide * tile, outputs)
    return whole[:, :height, :width].permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def _tiles(
    lines: Float[Tensor, "b h w i"], around: tuple[int, ...], kernels: Float[Tensor, "k i o"], shift: Tensor, tile: Tile
) -> Float[Tensor, "m m b H W o"]:
    """The outputs of some rows of tiles, by their place in the tile, of these lines and so many zeros around them."""
    maps, side = transforms(tile), tile + 2
    # `side side images rows wide channels`: neighbouring tiles share their edges.
    tiles = F.pad(lines, around).unfold(1, side, tile).unfold(2, side, tile).permute(4, 5, 0, 1, 2, 3)
    images, rows, wide, channels = tiles.shape[2:]
    transformed = torch.mm(maps.input, tiles.reshape(side * side, -1)).view(side * side, -1, channels)
    products = lines.new_empty(side * side + 1, transformed.shape[1], kernels.shape[2])
    torch.bmm(transformed, kernels, out=products[:-1])
    products[-1] = shift
    return torch.mm(maps.output, products.flatten(1)).view(tile, tile, images, rows, wide, -1)


def transformed_kernels(weight: Float[Tensor, "o i 3 3"], maps: Transforms) -> Float[Tensor, "k i o"]:
    """The kernels as each of the products reads them; a view, whichever of both layouts the weights lie in."""
    outputs, channels = weight.shape[:2]
    if weight.is_contiguous():
        flat = torch.mm(maps.kernel, weight.view(outputs * channels, 9).t())
        return flat.view(-1, outputs, channels).transpose(1, 2)
    taps = weight.permute(0, 2, 3, 1).reshape(outputs, 9, channels)
    return torch.matmul(maps.kernel, taps).permute(1, 2, 0)


def parts(outputs: int, numbers: int) -> Iterator[slice]:
    """The output channels in parts whose transformed kernels, of so many numbers a channel, are at most `KERNELS`."""
    size = max(1, KERNELS // numbers)
    return (slice(first, min(first + size, outputs)) for first in range(0, outputs, size))


def blocks(count: int, rows: int, numbers: int, most: int) -> Iterator[tuple[slice, slice]]:
    """Images, and rows of tiles of them, in parts of `most` numbers at most, where a row has so many."""
    if count * rows * numbers <= most:
        yield slice(0, count), slice(0, rows)
        return
    size = max(1, most // numbers)
    for image in range(count):
        for first in range(0, rows, size):
            yield slice(image, image + 1), slice(first, min(first + size, rows))
