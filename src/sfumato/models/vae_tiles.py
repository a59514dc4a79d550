"""An autoencoder's layers in tiles that make the whole picture, and not one like it: less memory, the same arithmetic.

Two things in an autoencoder see further than the next positions: attention, which there is at the size of the latents alone, and norms, whose
mean and variance are those of a whole map. So a layer goes through its map tile by tile, each with a margin for the convolutions: once for
every norm, to gather its mean and variance, and once more to compute. Only maps between layers are ever whole.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor, nn

from sfumato.models.ahead import silu
from sfumato.models.convolution import NOWHERE, wrapped_axes, wrapping
from sfumato.models.resnet import Downsample, ResnetBlock, Upsample, added

if TYPE_CHECKING:
    from jaxtyping import Float

MARGIN = 2
"""Positions around a tile: as far as two convolutions in a row see, and even, so that what is halved begins where it would."""

Asking: TypeAlias = Generator[tuple[nn.GroupNorm, Tensor], Tensor, Tensor]
"""Layers at work: yields a norm and what is to be normed, is sent that normed, returns the layers' output."""


def in_tiles(stages: Sequence[Sequence[nn.Module]], x: Tensor, edge: int, least: int) -> Tensor:
    """Put a map through the stages one after the other, each some layers that are computed together.

    Tiles are `edge` positions high and wide at first, and twice or half as many after a layer that enlarges or halves. A stage whose maps have
    no more than `least` numbers for an image is computed whole.
    """
    is_ours = False  # whether it may be written over
    for layers in stages:
        height, width = x.shape[-2:]
        after = _channels(layers, x.shape[1]) * _after(layers, height) * _after(layers, width)
        is_small = max(x[0].numel(), after) <= least or max(height, width) <= edge
        x = nn.Sequential(*layers)(x) if is_small else _stage(layers, x, edge, over=is_ours)
        edge, is_ours = _after(layers, edge), not torch.is_grad_enabled()
    return x


def joined(layers: Sequence[nn.Module]) -> Iterator[list[nn.Module]]:
    """The stages of a decoder's layers: one each, but the last enlargement and the layer after it make one.

    What is enlarged last, and has yet to become narrower, would be the largest map of all: it is computed again for each pass instead.
    """
    last = max((place for place, layer in enumerate(layers) if isinstance(layer, Upsample)), default=None)
    for place, layer in enumerate(layers):
        if last is None or place not in (last, last + 1):
            yield [layer]
        elif place == last:
            yield list(layers[place : place + 2])


def _stage(
    layers: Sequence[nn.Module], x: Float[Tensor, "b c h w"], edge: int, *, over: bool
) -> Float[Tensor, "b o H W"]:
    """What the layers make of x; in its place, where it is `over` and as large."""
    axes = wrapped_axes()
    known: dict[nn.GroupNorm, _Affine] = {}
    down, across = (
        [_Span.of(start, edge, size, dim in axes) for start in range(0, size, edge)]
        for dim, size in ((-2, x.shape[-2]), (-1, x.shape[-1]))
    )
    for _ in range(sum(isinstance(each, nn.GroupNorm) for layer in layers for each in layer.modules())):
        unknown, moments = None, _Moments()
        for rows, columns in product(down, across):
            unknown, y = _run(layers, _tile(x, rows, columns), known)
            assert unknown is not None, "as many passes as norms"
            moments.add(_inside(y, rows, columns, layers).unflatten(1, (unknown.num_groups, -1)).flatten(2))
        assert unknown is not None, "a map has at least one tile"
        known[unknown] = moments.affine(unknown)
    return _written(layers, x, known, down, across, over=over and edge >= MARGIN and -2 not in axes)


def _written(
    layers: Sequence[nn.Module],
    x: Tensor,
    known: Mapping[nn.GroupNorm, _Affine],
    down: Sequence[_Span],
    across: Sequence[_Span],
    *,
    over: bool,
) -> Tensor:
    """The layers' output, all norms known. Over x, a row of tiles is written when all of it is made, and the next one's margin is put aside."""
    out: Tensor | None = None
    above: Tensor | None = None
    for rows in down:
        waiting: list[tuple[_Span, Tensor]] = []
        for columns in across:
            _, y = _run(layers, _tile(x, rows, columns, above), known)
            y = _inside(y, rows, columns, layers)
            if out is None:
                shape = (*y.shape[:2], _after(layers, x.shape[-2]), _after(layers, x.shape[-1]))
                out = x if over and shape == x.shape else y.new_empty(shape)
            if out is x:
                waiting.append((columns, y))
            else:
                out[..., rows.after(layers), columns.after(layers)] = y
        if out is x:
            above = x[..., max(rows.stop - MARGIN, rows.start) : rows.stop, :].clone()
        for columns, y in waiting:
            x[..., rows.after(layers), columns.after(layers)] = y
    assert out is not None, "a map has at least one tile"
    return out


def _tile(x: Tensor, rows: _Span, columns: _Span, above: Tensor | None = None) -> Tensor:
    """A tile and its margins; that at its top from `above`, where x no longer has it."""
    tile = columns.cut(x, -1)
    if above is None:
        tile = rows.cut(tile, -2)
    else:
        tile = torch.cat([columns.cut(above, -1), tile[..., rows.start : rows.stop + rows.behind, :]], dim=-2)
    # In one layout, so that it is computed alike whichever layout the weights have.
    return tile.contiguous(memory_format=torch.channels_last)


def _inside(y: Tensor, rows: _Span, columns: _Span, layers: Sequence[nn.Module]) -> Tensor:
    """What the layers made of a tile, without its margins."""
    return columns.inside(rows.inside(y, -2, layers), -1, layers)


def _run(
    layers: Sequence[nn.Module], x: Tensor, known: Mapping[nn.GroupNorm, _Affine]
) -> tuple[nn.GroupNorm | None, Tensor]:
    """The first norm that is not known yet and what it is to norm; or None and the layers' output."""
    asking = _asking(layers, x)
    with wrapping(NOWHERE):  # the margins hold what is at the other side already
        try:
            norm, y = next(asking)
            while norm in known:
                norm, y = asking.send(known[norm](y))
        except StopIteration as end:
            return None, end.value
    asking.close()
    return norm, y


def _asking(layers: Sequence[nn.Module], x: Tensor) -> Asking:
    """The layers' own arithmetic, with every norm left to whoever is asked."""
    for layer in layers:
        if isinstance(layer, ResnetBlock):
            y = layer.conv1(silu((yield layer.norm1, x)))
            y = silu((yield layer.norm2, y))
            x = added(layer.conv2(y), x if layer.shortcut is None else layer.shortcut(x))
        elif isinstance(layer, nn.GroupNorm):
            x = yield layer, x
        else:
            x = layer(x)
    return x


@dataclass(frozen=True, slots=True)
class _Span:
    """Where a tile lies along one axis, `start` to `stop`, of a map that has `size` there, with margins `before` and `behind` it."""

    start: int
    stop: int
    before: int
    behind: int
    size: int

    @classmethod
    def of(cls, start: int, edge: int, size: int, wraps: bool) -> _Span:
        """A tile with margins that end at the map's edges, where convolutions pad by themselves, unless the map wraps."""
        stop = min(start + edge, size)
        before, behind = (MARGIN, MARGIN) if wraps else (min(MARGIN, start), min(MARGIN, size - stop))
        return cls(start, stop, before, behind, size)

    def cut(self, x: Tensor, dim: int) -> Tensor:
        """The tile and its margins."""
        first, last = self.start - self.before, self.stop + self.behind
        if first >= 0 and last <= self.size:
            return x.narrow(dim, first, last - first)
        return x.index_select(dim, torch.arange(first, last, device=x.device) % self.size)

    def after(self, layers: Sequence[nn.Module]) -> slice:
        """Where the tile lies after the layers."""
        return slice(_after(layers, self.start), _after(layers, self.stop))

    def inside(self, y: Tensor, dim: int, layers: Sequence[nn.Module]) -> Tensor:
        """What the layers made of the tile, without its margins."""
        place = self.after(layers)
        return y.narrow(dim, _after(layers, self.before), place.stop - place.start)


def _after(layers: Sequence[nn.Module], positions: int) -> int:
    """How many positions there are after the layers, along one axis."""
    for layer in layers:
        if isinstance(layer, Upsample):
            positions *= 2
        elif isinstance(layer, Downsample):
            positions //= 2
    return positions


def _channels(layers: Sequence[nn.Module], channels: int) -> int:
    """The most channels that a map has on its way through the layers."""
    made = [layer.out_channels for each in layers for layer in each.modules() if isinstance(layer, nn.Conv2d)]
    return max(channels, *made)


class _Moments:
    """Mean and variance of what is added piece by piece, in float64 on the CPU, as some accelerators have none.

    Source: Chan, Golub and LeVeque 1979, Updating formulae and a pairwise algorithm for computing sample variances.
    """

    def __init__(self) -> None:
        self._count = 0
        self._mean: Tensor | float = 0.0
        self._squares: Tensor | float = 0.0

    def add(self, x: Float[Tensor, "b g n"]) -> None:
        """Add n numbers to each of the groups."""
        variance, mean = torch.var_mean(x.to(torch.promote_types(x.dtype, torch.float32)), dim=2, correction=0)
        mean, variance, more = mean.cpu().double(), variance.cpu().double(), x.shape[2]
        count = self._count + more
        apart = mean - self._mean
        self._mean = self._mean + apart * (more / count)
        self._squares = self._squares + variance * more + apart**2 * (self._count * more / count)
        self._count = count

    def affine(self, norm: nn.GroupNorm) -> _Affine:
        """What the norm does, now that mean and variance are known."""
        assert isinstance(self._mean, Tensor), "nothing was added"
        assert isinstance(self._squares, Tensor)
        deviation = (self._squares / self._count + norm.eps).sqrt()
        width = norm.num_channels // norm.num_groups
        weight, bias = norm.weight.cpu().double(), norm.bias.cpu().double()
        scale = weight / deviation.repeat_interleave(width, dim=1)
        return _Affine(scale, bias - self._mean.repeat_interleave(width, dim=1) * scale)


class _Affine:
    """A norm whose mean and variance are known: x times a scale of its channel, and a shift."""

    def __init__(self, scale: Float[Tensor, "b c"], shift: Float[Tensor, "b c"]) -> None:
        self._scale, self._shift = scale[..., None, None], shift[..., None, None]

    def __call__(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The map normed, in its own precision."""
        wide = torch.promote_types(x.dtype, torch.float32)
        scale, shift = (each.to(wide).to(x.device) for each in (self._scale, self._shift))
        return torch.addcmul(shift, x, scale).to(x.dtype)
