"""How diffusers and transformers name the tensors of each network, for a folder of components."""

from sfumato.checkpoints.keys import KeyMap, Table, repeat, under
from sfumato.models import CLIPTextConfig, SafetyCheckerConfig, UNetConfig, VAEConfig

RESNET: Table = (
    ("norm1", "norm1"),
    ("conv1", "conv1"),
    ("time_emb_proj", "time_proj"),
    ("norm2", "norm2"),
    ("conv2", "conv2"),
    ("conv_shortcut", "shortcut"),
)

ATTENTION: Table = (
    ("to_q", "to_q"),
    ("to_k", "to_k"),
    ("to_v", "to_v"),
    ("to_out.0", "to_out"),
)

TRANSFORMER_BLOCK: Table = (
    ("norm1", "norm1"),
    *under("attn1", "self_attention", ATTENTION),
    ("norm2", "norm2"),
    *under("attn2", "cross_attention", ATTENTION),
    ("norm3", "norm3"),
    ("ff.net.0.proj", "feed_forward.proj_in"),
    ("ff.net.2", "feed_forward.proj_out"),
)

UNET_ENDS: Table = (
    ("conv_in", "conv_in"),
    ("time_embedding.linear_1", "time_embedding.linear1"),
    ("time_embedding.linear_2", "time_embedding.linear2"),
    ("conv_norm_out", "norm_out"),
    ("conv_out", "conv_out"),
)

# What only some families are told: the names of tensors that others have not.
UNET_TOLD: Table = (
    ("add_embedding.linear_1", "size_embedding.linear1"),
    ("add_embedding.linear_2", "size_embedding.linear2"),
    ("add_embedding.norm1", "text_embedding.norm_in"),
    ("add_embedding.pool.positional_embedding", "text_embedding.position"),
    ("add_embedding.pool.q_proj", "text_embedding.to_q"),
    ("add_embedding.pool.k_proj", "text_embedding.to_k"),
    ("add_embedding.pool.v_proj", "text_embedding.to_v"),
    ("add_embedding.proj", "text_embedding.proj"),
    ("add_embedding.norm2", "text_embedding.norm_out"),
    ("class_embedding", "noise_embedding"),
    ("time_embedding.cond_proj", "guidance_embedding"),
)

VAE_ENDS: Table = (
    ("encoder.conv_in", "encoder.conv_in"),
    ("encoder.conv_norm_out", "encoder.norm_out"),
    ("encoder.conv_out", "encoder.conv_out"),
    ("quant_conv", "quant_conv"),
    ("post_quant_conv", "post_quant_conv"),
    ("decoder.conv_in", "decoder.conv_in"),
    ("decoder.conv_norm_out", "decoder.norm_out"),
    ("decoder.conv_out", "decoder.conv_out"),
)

VAE_MIDDLE: Table = (
    *under("resnets.0", "0", RESNET),
    ("attentions.0.group_norm", "1.norm"),
    *under("attentions.0", "1", ATTENTION),
    *under("resnets.1", "2", RESNET),
)

# Before diffusers 0.13 the attention of the autoencoder was a class of its own.
VAE_MIDDLE_OLD: Table = (
    ("attentions.0.query", "1.to_q"),
    ("attentions.0.key", "1.to_k"),
    ("attentions.0.value", "1.to_v"),
    ("attentions.0.proj_attn", "1.to_out"),
)

CLIP_LAYER: Table = (
    ("layer_norm1", "norm1"),
    ("self_attn.q_proj", "to_q"),
    ("self_attn.k_proj", "to_k"),
    ("self_attn.v_proj", "to_v"),
    ("self_attn.out_proj", "to_out"),
    ("layer_norm2", "norm2"),
    ("mlp.fc1", "mlp_in"),
    ("mlp.fc2", "mlp_out"),
)


def unet_keys(config: UNetConfig) -> KeyMap:
    """Names of UNet2DConditionModel, which counts levels and blocks where we have one flat list."""
    last = len(config.channels) - 1
    table = UNET_ENDS + UNET_TOLD

    at = 0
    for level in range(last + 1):
        for block in range(config.blocks_per_level):
            table += unet_block(config, level, f"down_blocks.{level}", block, f"down.{at}")
            at += 1
        if level < last:
            table += ((f"down_blocks.{level}.downsamplers.0.conv", f"down.{at}.conv"),)
            at += 1

    table += under("mid_block.resnets.0", "middle.0.resnet", RESNET)
    table += under("mid_block.attentions.0", "middle.0.attention", spatial_transformer(config.depth[last]))
    table += under("mid_block.resnets.1", "middle.1.resnet", RESNET)

    at = 0
    for level in range(last, -1, -1):
        # They count the levels of the way up from the innermost.
        theirs = f"up_blocks.{last - level}"
        for block in range(config.blocks_per_level + 1):
            table += unet_block(config, level, theirs, block, f"up.{at}")
            at += 1
        if level > 0:
            table += ((f"{theirs}.upsamplers.0.conv", f"up.{at}.conv"),)
            at += 1

    return KeyMap(table)


def unet_block(config: UNetConfig, level: int, theirs: str, block: int, ours: str) -> Table:
    """One of our blocks: an entry of their list of resnets and, where the level attends, one of their list of attentions."""
    table = under(f"{theirs}.resnets.{block}", f"{ours}.resnet", RESNET)
    if config.attention[level]:
        table += under(f"{theirs}.attentions.{block}", f"{ours}.attention", spatial_transformer(config.depth[level]))
    return table


def spatial_transformer(depth: int) -> Table:
    """Names of Transformer2DModel with so many blocks."""
    blocks = repeat(depth, "transformer_blocks.{}", "blocks.{}", TRANSFORMER_BLOCK)
    return (("norm", "norm"), ("proj_in", "proj_in"), *blocks, ("proj_out", "proj_out"))


def vae_keys(config: VAEConfig) -> KeyMap:
    """Names of AutoencoderKL, in today's and in the older way."""
    last = len(config.channels) - 1
    table = VAE_ENDS

    at = 0
    for level in range(last + 1):
        for block in range(config.blocks_per_level):
            table += under(f"encoder.down_blocks.{level}.resnets.{block}", f"encoder.down.{at}", RESNET)
            at += 1
        if level < last:
            table += ((f"encoder.down_blocks.{level}.downsamplers.0.conv", f"encoder.down.{at}.conv"),)
            at += 1

    at = 0
    for level in range(last, -1, -1):
        theirs = f"decoder.up_blocks.{last - level}"
        for block in range(config.blocks_per_level + 1):
            table += under(f"{theirs}.resnets.{block}", f"decoder.up.{at}", RESNET)
            at += 1
        if level > 0:
            table += ((f"{theirs}.upsamplers.0.conv", f"decoder.up.{at}.conv"),)
            at += 1

    return KeyMap(
        table + both_middles(VAE_MIDDLE),
        also_read=both_middles(VAE_MIDDLE_OLD),
    )


def both_middles(table: Table) -> Table:
    """The table for the encoder's middle and for the decoder's."""
    return under("encoder.mid_block", "encoder.middle", table) + under("decoder.mid_block", "decoder.middle", table)


def text_keys(config: CLIPTextConfig) -> KeyMap:
    """Names of CLIPTextModel and CLIPTextModelWithProjection.

    Written with the `text_model.` that every release of transformers reads; version 5 may leave it out. A whole CLIPModel, of which
    this is one half, may lie in a text encoder's folder: its other half is left over.
    """
    table: Table = (
        ("embeddings.token_embedding", "token_embedding"),
        ("embeddings.position_embedding", "position_embedding"),
        *repeat(config.layers, "encoder.layers.{}", "layers.{}", CLIP_LAYER),
        ("final_layer_norm", "final_norm"),
    )
    return KeyMap(
        (*under("text_model", "", table), ("text_projection", "projection")),
        also_read=table,
        leftovers=frozenset(
            {"text_model.embeddings.position_ids", "embeddings.position_ids"}
            | {"vision_model.", "visual_projection.", "logit_scale"}
            | ({"text_projection."} if config.projection_dim is None else set[str]())
        ),
    )


def safety_keys(config: SafetyCheckerConfig) -> KeyMap:
    """Names of StableDiffusionSafetyChecker.

    Written with the double `vision_model.` that every release of transformers reads; version 5 writes it once.
    """
    vision: Table = (
        ("embeddings.class_embedding", "class_embedding"),
        ("embeddings.patch_embedding", "patch_embedding"),
        ("embeddings.position_embedding", "position_embedding"),
        ("pre_layrnorm", "norm_in"),
        *repeat(config.vision.layers, "encoder.layers.{}", "layers.{}", CLIP_LAYER),
        ("post_layernorm", "norm_out"),
    )
    return KeyMap(
        (
            *under("vision_model.vision_model", "vision", vision),
            ("visual_projection", "projection"),
            ("concept_embeds", "concepts"),
            ("concept_embeds_weights", "thresholds"),
            ("special_care_embeds", "special_concepts"),
            ("special_care_embeds_weights", "special_thresholds"),
        ),
        also_read=under("vision_model", "vision", vision),
        leftovers=frozenset(
            {"vision_model.vision_model.embeddings.position_ids", "vision_model.embeddings.position_ids"}
        ),
    )
