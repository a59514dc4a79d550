"""What the layers take while they run, in bytes above their input: arithmetic on shapes, after what their `forward` keeps alive."""

from dataclasses import dataclass
from math import ceil, sqrt

from sfumato.models.kernels import cheapest
from sfumato.models.winograd import KERNELS, ROOMY, TILES


@dataclass(frozen=True, kw_only=True, slots=True)
class Numbers:
    """How numbers are kept: bytes of one that is computed with, whether the weights are widened only while their layer runs, and whether
    time is dearer than room.
    """

    size: int = 4
    held: bool = False
    roomy: bool = False

    def of(self, count: int) -> int:
        """Bytes of so many numbers."""
        return count * self.size

    def linear(self, weights: int) -> int:
        """Bytes of a linear layer's weights beside those that are stored."""
        return self.of(weights) if self.held else 0


@dataclass(frozen=True, slots=True)
class Map:
    """A feature map: channels, and positions of all its rows together."""

    channels: int
    positions: int

    @property
    def count(self) -> int:
        """How many numbers it has."""
        return self.channels * self.positions

    def of(self, channels: int) -> "Map":
        """One as large with other channels."""
        return Map(channels, self.positions)


def conv(x: Map, out: Map, kernel: int, numbers: Numbers) -> int:
    """A convolution: its output, its weights beside those that are stored, and what it works in.

    A direct one lays its weights out channels last, and again in oneDNN's own order. Winograd's has a part of them transformed, and of the
    tiles: what comes in as it lies and copied out, or what goes in and comes out of the products.
    """
    weights, pairs = x.channels * out.channels * kernel**2, x.channels * out.channels
    side = ceil(sqrt(out.positions))
    algorithm = "direct"
    if kernel == 3 and numbers.size == 4 and out.positions == x.positions:
        algorithm = cheapest(1, x.channels, out.channels, side, side)
    if algorithm == "direct":
        laid_out = numbers.held or kernel > 1
        return numbers.of(out.count + weights * (1 + laid_out))
    tile = 2 if algorithm == "winograd 2" else 4
    places, widest = (tile + 2) ** 2, max(x.channels, out.channels)
    across = ceil(side / tile)
    tiles = places * widest * min(across**2, max(across, (ROOMY if numbers.roomy else TILES) // (places * widest)))
    kernels = min(places * pairs, KERNELS)
    return numbers.of(out.count + weights * numbers.held + kernels + ceil((2 + tile**2 / places) * tiles))


def resnet(x: Map, width: int, numbers: Numbers, *, time_width: int | None = None) -> int:
    """A `ResnetBlock`, whose activations are written over what the norms gave out."""
    y = x.of(width)
    wide, narrow = numbers.of(x.count), numbers.of(y.count)
    shortcut = x.channels != width
    moments = [
        wide + conv(x, y, 3, numbers),
        2 * narrow,
        narrow + conv(y, y, 3, numbers),
        (narrow + conv(x, y, 1, numbers) if shortcut else 0),
    ]
    if time_width is not None:
        moments.append(2 * narrow + numbers.linear(time_width * width))
    return max(moments)


def transformer(x: Map, numbers: Numbers, *, linear: bool) -> int:
    """A `SpatialTransformer`, of any number of blocks: each is through before the next begins.

    Alive at a block's end are the tokens that went in, what the attentions made of them, and a normed copy; the feed-forward layer has
    eight times their width twice over: value and gate, and the gate's activation with their product.
    """
    tokens, c = numbers.of(x.count), x.channels
    projected = numbers.linear(c * c) if linear else conv(x, x, 1, numbers) - tokens
    return max(
        2 * tokens + projected,
        6 * tokens + numbers.linear(c * c),
        (3 + 8 + 4 + 4) * tokens,
        (3 + 8) * tokens + numbers.linear(8 * c * c),
        (3 + 8 + 4 + 1) * tokens + numbers.linear(4 * c * c),
        2 * tokens + projected,
    )


def position_attention(x: Map, numbers: Numbers) -> int:
    """A `PositionAttention` of the autoencoder: normed, queries, keys, values, what was attended, and its projection."""
    return 6 * numbers.of(x.count) + numbers.linear(x.channels**2)


def upsample(x: Map, numbers: Numbers) -> int:
    """An `Upsample`: the enlarged map, and its convolution."""
    large = Map(x.channels, 4 * x.positions)
    return numbers.of(large.count) + conv(large, large, 3, numbers)
