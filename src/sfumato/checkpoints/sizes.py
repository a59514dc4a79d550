"""The sizes of networks, told from the names and shapes of their tensors, where a file brings no config.

What no shape tells is left to the family: heads of attention, activations, the scaling of latents.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sfumato.errors import ConfigError
from sfumato.models import CLIPTextConfig, UNetConfig, VAEConfig
from sfumato.variants import OPENCLIP_H_LAYERS, Family

Shapes = Mapping[str, Sequence[int]]
"""Tensors of one network by name, under no prefix."""

HEAD_WIDTH = 64
"""Channels of one attention head of all of CLIP's text encoders."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UNetNames:
    """Where a layout has what tells a U-Net's sizes; `{}` stand for a level and a block, or for a block alone."""

    resnet: str
    attention: str
    downsample: str
    middle: str
    conv_in: str
    conv_out: str
    sizes: str
    noise_levels: str
    guidance: str


LDM = UNetNames(
    resnet="input_blocks.{}.0.in_layers.2.weight",
    attention="input_blocks.{}.1",
    downsample="input_blocks.{}.0.op.weight",
    middle="middle_block.1",
    conv_in="input_blocks.0.0.weight",
    conv_out="out.2.weight",
    sizes="label_emb.0.0.weight",
    noise_levels="label_emb.weight",
    guidance="time_embed.cond_proj.weight",
)
DIFFUSERS = UNetNames(
    resnet="down_blocks.{}.resnets.{}.conv1.weight",
    attention="down_blocks.{}.attentions.{}",
    downsample="down_blocks.{}.downsamplers.0.conv.weight",
    middle="mid_block.attentions.0",
    conv_in="conv_in.weight",
    conv_out="conv_out.weight",
    sizes="add_embedding.linear_1.weight",
    noise_levels="class_embedding.weight",
    guidance="time_embedding.cond_proj.weight",
)


@dataclass(frozen=True, slots=True)
class Block:
    """A block of a U-Net's way down: its channels, how deep its attention is (0: it has none), and whether that sees only the text."""

    width: int
    depth: int
    only_cross: bool


def unet_sizes(shapes: Shapes, names: UNetNames) -> UNetConfig:
    """The config of a U-Net, all but its heads, which are 1 here. Raises ConfigError for one that is built in no regular way."""
    levels = _ldm_levels(shapes, names) if names is LDM else _diffusers_levels(shapes, names)
    middle = f"{names.middle}.transformer_blocks.0.attn2.to_k.weight"
    for needed in (names.conv_in, names.conv_out, middle):
        if needed not in shapes:
            raise ConfigError(f"its U-Net has no {needed}; expected that of a Stable Diffusion model")
    if not levels or any(len(set(blocks)) > 1 or len(blocks) != len(levels[0]) for blocks in levels):
        raise ConfigError(
            "the blocks of its U-Net differ within a level, as those of distilled models do (SSD-1B, Vega …), which Sfumato can't build"
        )
    each = [blocks[0] for blocks in levels]
    middle_depth = _depth(shapes, names.middle)
    if each[-1].depth not in (0, middle_depth):
        raise ConfigError(
            f"the attention of its innermost level is {each[-1].depth} blocks deep and that of its middle {middle_depth}; "
            "expected as many"
        )
    return UNetConfig(
        in_channels=shapes[names.conv_in][1],
        out_channels=shapes[names.conv_out][0],
        channels=tuple(block.width for block in each),
        blocks_per_level=len(levels[0]),
        attention=tuple(block.depth > 0 for block in each),
        heads=(1,) * len(each),
        depth=(*(block.depth or 1 for block in each[:-1]), middle_depth),
        context_dim=shapes[middle][1],
        linear_projection=len(shapes[f"{names.middle}.proj_in.weight"]) == 2,
        only_cross=tuple(block.only_cross for block in each),
        sizes_width=shapes[names.sizes][1] if names.sizes in shapes else None,
        noise_levels=shapes[names.noise_levels][0] if names.noise_levels in shapes else None,
        guidance_width=shapes[names.guidance][1] if names.guidance in shapes else None,
    )


def _ldm_levels(shapes: Shapes, names: UNetNames) -> list[list[Block]]:
    """The blocks of each level of a U-Net that numbers blocks and changes of size alike."""
    levels: list[list[Block]] = [[]]
    at = 1
    while True:
        if names.resnet.format(at) in shapes:
            levels[-1].append(_block(shapes, names.resnet.format(at), names.attention.format(at)))
        elif names.downsample.format(at) in shapes:
            levels.append([])
        else:
            return [level for level in levels if level]
        at += 1


def _diffusers_levels(shapes: Shapes, names: UNetNames) -> list[list[Block]]:
    """The blocks of each level of a U-Net that numbers levels, and the blocks of each."""
    levels: list[list[Block]] = []
    while names.resnet.format(len(levels), 0) in shapes:
        level, blocks = len(levels), list[Block]()
        while names.resnet.format(level, len(blocks)) in shapes:
            at = (level, len(blocks))
            blocks.append(_block(shapes, names.resnet.format(*at), names.attention.format(*at)))
        levels.append(blocks)
    return levels


def _block(shapes: Shapes, resnet: str, attention: str) -> Block:
    width = shapes[resnet][0]
    first = shapes.get(f"{attention}.transformer_blocks.0.attn1.to_k.weight", (width, width))
    return Block(width, _depth(shapes, attention), only_cross=first[1] != width)


def _depth(shapes: Shapes, attention: str) -> int:
    return count(shapes, f"{attention}.transformer_blocks.{{}}.norm1.weight")


def count(shapes: Shapes, template: str) -> int:
    """How many of the names that a template gives for 0, 1, 2 … there are before the first that is missing."""
    found = 0
    while template.format(found) in shapes:
        found += 1
    return found


def settled(unet: UNetConfig, family: Family) -> UNetConfig:
    """The config with what no shape tells and its family does: heads, and the size it was trained for.

    Where it has the family's levels, it also has its way of attending on a level as wide as the text, which looks alike either way,
    and its depth where nothing attends. Raises ConfigError where the heads don't divide.
    """
    like = family.unet
    assert isinstance(like, UNetConfig), f"{family.name} is of another make"
    only_cross, depth = unet.only_cross, unet.depth
    if len(unet.channels) == len(like.channels):
        as_wide = [width == unet.context_dim for width in unet.channels]
        only_cross = tuple(b if same else a for a, b, same in zip(only_cross, like.only_cross, as_wide, strict=True))
        inner = zip(depth[:-1], like.depth, unet.attention, strict=False)
        depth = (*(a if attends else b for a, b, attends in inner), depth[-1])
    return replace(
        unet,
        heads=family.heads(unet.channels),
        depth=depth,
        only_cross=only_cross,
        sample_size=like.sample_size,
    )


# -- autoencoders and text encoders ----------------------------------------------------------------------------------

LDM_VAE = "encoder.down.{}.block.{}.conv1.weight"
DIFFUSERS_VAE = "encoder.down_blocks.{}.resnets.{}.conv1.weight"


def vae_sizes(shapes: Shapes, template: str, like: VAEConfig) -> VAEConfig:
    """The config of an autoencoder, with the scaling of latents and the size of another. Raises ConfigError if parts are missing."""
    ends = ("encoder.conv_in.weight", "decoder.conv_in.weight", "decoder.conv_out.weight")
    if any(name not in shapes for name in (*ends, template.format(0, 0))):
        raise ConfigError(
            "its autoencoder has no encoder, or no decoder; expected both, as a Stable Diffusion model has them"
        )
    pixels_in, latents, pixels_out = (shapes[name] for name in ends)
    levels = 0
    while template.format(levels, 0) in shapes:
        levels += 1
    return replace(
        like,
        in_channels=pixels_in[1],
        out_channels=pixels_out[0],
        latent_channels=latents[1],
        channels=tuple(shapes[template.format(level, 0)][0] for level in range(levels)),
        blocks_per_level=count(shapes, template.replace("{}", "0", 1)),
    )


OPENCLIP_LAYER = "transformer.resblocks.{}.mlp.c_fc.weight"


def openclip_sizes(shapes: Shapes, like: CLIPTextConfig) -> CLIPTextConfig:
    """The config of a text encoder as OpenCLIP names it. Raises ConfigError.

    `like` says which activation it has, whether the pooled text is projected, and how many of its layers are read.
    """
    layers = count(shapes, OPENCLIP_LAYER)
    # SD 2 reads the last layer but one. Some files leave the last one out.
    layers = min(layers, like.layers) if like.layers == OPENCLIP_H_LAYERS - 1 else layers
    projection = shapes["text_projection"][1] if like.projection_dim and "text_projection" in shapes else None
    return _text_config(
        like, shapes, "token_embedding.weight", "positional_embedding", OPENCLIP_LAYER, layers, projection
    )


def transformers_sizes(shapes: Shapes, like: CLIPTextConfig) -> CLIPTextConfig:
    """The config of a text encoder as transformers names it, with or without `text_model.`. Raises ConfigError."""
    inside = "text_model." if "text_model.embeddings.token_embedding.weight" in shapes else ""
    layer = inside + "encoder.layers.{}.mlp.fc1.weight"
    projected = like.projection_dim is not None and "text_projection.weight" in shapes
    return _text_config(
        like,
        shapes,
        f"{inside}embeddings.token_embedding.weight",
        f"{inside}embeddings.position_embedding.weight",
        layer,
        count(shapes, layer),
        shapes["text_projection.weight"][0] if projected else None,
    )


def _text_config(
    like: CLIPTextConfig,
    shapes: Shapes,
    tokens: str,
    positions: str,
    layer: str,
    layers: int,
    projection: int | None,
) -> CLIPTextConfig:
    if tokens not in shapes or positions not in shapes or layers == 0:
        raise ConfigError("its text encoder has no embeddings, or no layers; expected one of CLIP")
    vocabulary, width = shapes[tokens]
    if width % HEAD_WIDTH:
        raise ConfigError(f"its text encoder is {width} wide; expected a multiple of {HEAD_WIDTH}, as CLIP's are")
    return replace(
        like,
        vocab_size=vocabulary,
        width=width,
        layers=layers,
        heads=width // HEAD_WIDTH,
        max_length=shapes[positions][0],
        mlp_width=shapes[layer.format(0)][0],
        projection_dim=projection,
    )
