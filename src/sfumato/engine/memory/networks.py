"""What the networks take while they run, in bytes beside their stored weights: their `forward`, followed map by map."""

from math import ceil

from sfumato.engine.memory.layers import Map, Numbers, conv, position_attention, resnet, transformer, upsample
from sfumato.models import CLIPTextConfig, SafetyCheckerConfig, UNetConfig, VAEConfig
from sfumato.models.clip_vision import CLIPVisionConfig
from sfumato.models.packing import SMALL_MAP

MARGIN = 2
"""Positions around a tile."""


def keys_values(config: UNetConfig, rows: int, tokens: int, numbers: Numbers) -> int:
    """The keys and values of a text, which are kept for a whole run."""
    widths = 0
    for level, width in enumerate(config.channels):
        if config.attention[level]:
            readers = 2 if config.only_cross[level] else 1
            widths += width * config.depth[level] * readers * (2 * config.blocks_per_level + 1)
    widths += config.channels[-1] * config.depth[-1]
    return numbers.of(2 * rows * tokens * widths)


def unet(config: UNetConfig, rows: int, height: int, width: int, numbers: Numbers) -> int:
    """A U-Net on so many rows of latents of this size, above its input.

    Its way down keeps every map until the way up has read it.
    """
    time_width, linear = 4 * config.channels[0], config.linear_projection
    sizes = [(height, width)]
    for _ in config.channels[1:]:
        sizes.append((ceil(sizes[-1][0] / 2), ceil(sizes[-1][1] / 2)))
    x = Map(config.channels[0], rows * height * width)
    kept = [x]
    peak = conv(x.of(config.in_channels), x, 3, numbers)

    def alive() -> int:
        return numbers.of(sum(one.count for one in kept))

    def block(x: Map, channels: int, attends: bool, beside: int) -> int:
        """A block, and what is alive beside its input: that is kept until its end."""
        y = x.of(channels)
        attention = numbers.of(y.count) + transformer(y, numbers, linear=linear) if attends else 0
        return beside + max(resnet(x, channels, numbers, time_width=time_width), attention)

    last = len(config.channels) - 1
    for level, channels in enumerate(config.channels):
        for _ in range(config.blocks_per_level):
            peak = max(peak, block(x, channels, config.attention[level], alive()))
            x = x.of(channels)
            kept.append(x)
        if level < last:
            smaller = Map(channels, rows * sizes[level + 1][0] * sizes[level + 1][1])
            peak = max(peak, alive() + conv(x, smaller, 3, numbers))
            x = smaller
            kept.append(x)

    peak = max(peak, block(x, config.channels[last], True, alive()))
    peak = max(peak, block(x, config.channels[last], False, alive() + numbers.of(x.count)))

    for level, channels in reversed(list(enumerate(config.channels))):
        for _ in range(config.blocks_per_level + 1):
            beside = kept.pop()
            both = x.of(x.channels + beside.channels)
            held = alive() + numbers.of(x.count + both.count)
            peak = max(peak, held + numbers.of(beside.count), block(both, channels, config.attention[level], held))
            x = x.of(channels)
        if level > 0:
            larger = Map(channels, rows * sizes[level - 1][0] * sizes[level - 1][1])
            enlarged = numbers.of(x.count + larger.count) + conv(larger, larger, 3, numbers)
            peak = max(peak, alive() + enlarged)
            x = larger
    return max(peak, 3 * numbers.of(x.count))


def packed(config: UNetConfig, rows: int, height: int, width: int, numbers: Numbers) -> int:
    """The weights that are kept packed: those of the levels whose maps are small, but for the keys and values of the text."""
    count, time_width, last = 0, 4 * config.channels[0], len(config.channels) - 1
    above = config.channels[0]
    for level, channels in enumerate(config.channels):
        side = 2**level
        if rows * ceil(height / side) * ceil(width / side) <= SMALL_MAP:
            blocks = 2 * config.blocks_per_level + 1 + 2 * (level == last)
            # On the way up each block's input is joined with one from the way down, about as wide.
            wide = (config.blocks_per_level + 1) * 9 * channels**2 + 9 * (above - channels) * channels
            count += blocks * (2 * 9 * channels**2 + time_width * channels) + wide
            attends = (2 * config.blocks_per_level + 1) * config.attention[level] + (level == last)
            count += attends * channels**2 * (2 + config.depth[level] * (4 + 2 + 12))
        above = channels
    return numbers.of(count)


def vae_decode(config: VAEConfig, height: int, width: int, numbers: Numbers) -> int:
    """An autoencoder's decoder on latents of this size, whole, of one picture."""
    x = Map(config.channels[-1], height * width)
    peak = max(conv(x, x, 3, numbers), _middle(x, numbers))
    for level, channels in reversed(list(enumerate(config.channels))):
        for _ in range(config.blocks_per_level + 1):
            peak = max(peak, numbers.of(x.count) + resnet(x, channels, numbers))
            x = x.of(channels)
        if level > 0:
            peak = max(peak, numbers.of(x.count) + upsample(x, numbers))
            x = Map(channels, 4 * x.positions)
    return max(peak, 3 * numbers.of(x.count) + numbers.of(config.out_channels * x.positions))


def vae_decode_tiled(config: VAEConfig, height: int, width: int, numbers: Numbers) -> int:
    """The same in tiles as `decode_tiled` has them: one tile at a time, beside the pixels of a row of tiles and the row above."""
    scale = 2 ** (len(config.channels) - 1)
    tile = config.sample_size // scale
    if max(height, width) <= tile:
        return vae_decode(config, height, width, numbers)
    pixels = numbers.of(config.out_channels * scale**2)
    rows = 3 * pixels * tile * width * 4 // 3
    return vae_decode(config, tile, tile, numbers) + rows + pixels * height * width


def vae_decode_in_stages(config: VAEConfig, height: int, width: int, tile: int, numbers: Numbers) -> int:
    """The same where tiles make the whole picture: each layer goes through its map in tiles, and only maps between layers are whole.

    `tile` is a tile's edge in latents. Stages of small maps are computed whole; the last enlargement goes with the layer after it. A layer
    whose output is as large as its input is written over it, a row of tiles at a time.
    """
    scale = 2 ** (len(config.channels) - 1)
    has_levels = scale > 1
    least = config.channels[0] * height * width * scale**2 // 4
    x = Map(config.channels[-1], height * width)
    peak = max(conv(x, x, 3, numbers), _middle(x, numbers))
    positions, wide = (tile + 2 * MARGIN) ** 2, width

    def stage(x: Map, out: Map, whole: int, at_work: int) -> int:
        if max(x.count, out.count) <= least:
            return numbers.of(x.count) + whole
        written = x.channels * tile * wide if x == out else out.count
        return numbers.of(x.count + written) + at_work

    for level, channels in reversed(list(enumerate(config.channels))):
        for place in range(config.blocks_per_level + 1):
            part = Map(x.channels, min(positions, x.positions))
            small = numbers.of(part.count) + resnet(part, channels, numbers)
            goes_with_what_enlarges = level == 0 and place == 0 and has_levels
            if not goes_with_what_enlarges:
                peak = max(peak, stage(x, x.of(channels), resnet(x, channels, numbers), small))
            x = x.of(channels)
        if level > 0:
            out = Map(channels, 4 * x.positions)
            part = Map(channels, min(positions, x.positions))
            small = numbers.of(part.count) + upsample(part, numbers)
            if level == 1:  # with the first layer of the outermost level
                small = max(
                    small,
                    numbers.of(5 * part.count) + resnet(Map(channels, 4 * part.positions), config.channels[0], numbers),
                )
                peak = max(peak, stage(x, out.of(config.channels[0]), upsample(x, numbers), small))
            else:
                peak = max(peak, stage(x, out, upsample(x, numbers), small))
            x = out
            tile, wide = 2 * tile, 2 * wide
            positions = (tile + 2 * MARGIN) ** 2
    return max(
        peak,
        numbers.of(x.count + config.out_channels * x.positions)
        + 3 * numbers.of(x.channels * min(positions, x.positions)),
    )


def vae_encode(config: VAEConfig, height: int, width: int, numbers: Numbers) -> int:
    """An autoencoder's encoder for latents of this size, of one picture: the decoder's way back, with maps half as wide."""
    scale = 2 ** (len(config.channels) - 1)
    x = Map(config.channels[0], height * width * scale**2)
    peak = conv(x, x, 3, numbers)
    for level, channels in enumerate(config.channels):
        for _ in range(config.blocks_per_level):
            peak = max(peak, numbers.of(x.count) + resnet(x, channels, numbers))
            x = x.of(channels)
        if level < len(config.channels) - 1:
            smaller = Map(channels, x.positions // 4)
            # It is padded by a row and a column first, which is a copy.
            peak = max(peak, 2 * numbers.of(x.count) + conv(x, smaller, 3, numbers))
            x = smaller
    return max(peak, numbers.of(x.count) + _middle(x, numbers))


def _middle(x: Map, numbers: Numbers) -> int:
    return numbers.of(x.count) + max(resnet(x, x.channels, numbers), position_attention(x, numbers))


def text_encoder(config: CLIPTextConfig, rows: int, tokens: int, numbers: Numbers) -> int:
    """A text encoder on so many texts: the states of all its layers, and the layer at work."""
    states = (config.layers + 1) * rows * tokens * config.width
    return numbers.of(states) + _clip_layer(config.width, config.mlp_width, rows * tokens, numbers)


def safety_checker(config: SafetyCheckerConfig, numbers: Numbers) -> int:
    """A safety checker on one picture."""
    return _vision(config.vision, numbers)


def _vision(config: CLIPVisionConfig, numbers: Numbers) -> int:
    tokens = (config.image_size // config.patch_size) ** 2 + 1
    pixels = numbers.of(config.in_channels * config.image_size**2)
    return pixels + 2 * numbers.of(tokens * config.width) + _clip_layer(config.width, config.mlp_width, tokens, numbers)


def _clip_layer(width: int, inside: int, tokens: int, numbers: Numbers) -> int:
    """A layer of CLIP: normed, queries, keys, values, attended, added; or normed, and twice what is inside."""
    attention = 6 * tokens * width
    perceptron = 2 * tokens * width + 2 * tokens * inside
    return numbers.of(max(attention, perceptron)) + numbers.linear(width * inside)
