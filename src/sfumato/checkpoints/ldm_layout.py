"""How the code of latent diffusion names the tensors of each network, in single files: `input_blocks.4.1.norm.weight`.

Source: CompVis' latent-diffusion and Stability's generative-models, whose modules these are; the files people share follow them.
"""

from collections.abc import Iterable

from sfumato.checkpoints.diffusers_layout import spatial_transformer
from sfumato.checkpoints.keys import KeyMap, Table, under
from sfumato.errors import UnsupportedError
from sfumato.models import AnyUNetConfig, LatentUpscalerConfig, UNetConfig, VAEConfig
from sfumato.variants import Make

UNET_PREFIX = "model.diffusion_model"
VAE_PREFIX = "first_stage_model"
EMA_PREFIX = "model_ema"
TEXT_PREFIXES: dict[Make, dict[str, str]] = {
    "sd1": {"text_encoder": "cond_stage_model.transformer"},
    "sd2": {"text_encoder": "cond_stage_model.model"},
    "upscaler": {"text_encoder": "cond_stage_model.model"},
    "sdxl": {
        "text_encoder": "conditioner.embedders.0.transformer",
        "text_encoder_2": "conditioner.embedders.1.model",
    },
    "refiner": {"text_encoder_2": "conditioner.embedders.0.model"},
}
"""Where the text encoders of a family lie: under `model`, they are named as OpenCLIP does, under `transformer` as transformers does."""

RESNET: Table = (
    ("in_layers.0", "norm1"),
    ("in_layers.2", "conv1"),
    ("emb_layers.1", "time_proj"),
    ("out_layers.0", "norm2"),
    ("out_layers.3", "conv2"),
    ("skip_connection", "shortcut"),
)

UNET_ENDS: Table = (
    ("input_blocks.0.0", "conv_in"),
    ("time_embed.0", "time_embedding.linear1"),
    ("time_embed.2", "time_embedding.linear2"),
    ("out.0", "norm_out"),
    ("out.2", "conv_out"),
)

# What only some families are told: the names of tensors that others have not.
UNET_TOLD: Table = (
    ("label_emb.0.0", "size_embedding.linear1"),
    ("label_emb.0.2", "size_embedding.linear2"),
    ("label_emb", "noise_embedding"),
    ("time_embed.cond_proj", "guidance_embedding"),
)

VAE_RESNET: Table = (
    ("norm1", "norm1"),
    ("conv1", "conv1"),
    ("norm2", "norm2"),
    ("conv2", "conv2"),
    ("nin_shortcut", "shortcut"),
)

VAE_ENDS: Table = (
    ("encoder.conv_in", "encoder.conv_in"),
    ("encoder.norm_out", "encoder.norm_out"),
    ("encoder.conv_out", "encoder.conv_out"),
    ("quant_conv", "quant_conv"),
    ("post_quant_conv", "post_quant_conv"),
    ("decoder.conv_in", "decoder.conv_in"),
    ("decoder.norm_out", "decoder.norm_out"),
    ("decoder.conv_out", "decoder.conv_out"),
)

VAE_ATTENTION: Table = (("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("proj_out", "to_out"))

VAE_MIDDLE: Table = (
    *under("block_1", "0", VAE_RESNET),
    ("attn_1.norm", "1.norm"),
    *under("attn_1", "1", VAE_ATTENTION),
    *under("block_2", "2", VAE_RESNET),
)

# What trainers and programs leave in such files beside the networks. None of it is needed: schedules are made from the config.
LEFTOVERS: tuple[str, ...] = (
    # the noise schedule, as tables
    "betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod", "sqrt_recip_alphas_cumprod", "sqrt_recipm1_alphas_cumprod", "posterior_variance",
    "posterior_log_variance_clipped", "posterior_mean_coef1", "posterior_mean_coef2", "lvlb_weights", "denoiser.sigmas",
    # of training: what was learned or counted beside the networks
    "logvar", "scale_factor", "global_step", "first_stage_model.loss.", "first_stage_model.model_ema.",
    "embedding_manager.",
    # of CLIP beside its text encoder: for comparing texts with pictures
    "cond_stage_model.logit_scale", "conditioner.embedders.0.logit_scale", "conditioner.embedders.0.text_projection",
    # marks that programs read and which are read as such: v-prediction, and a schedule that ends in pure noise
    "v_pred", "ztsnr",
    # the network that estimates depth for SD 2's depth model, and the ×4 upscaler's schedule of its noisy picture
    "depth_model.", "low_scale_model.",
)  # fmt: skip


def ldm_unet_keys(config: AnyUNetConfig) -> KeyMap:
    """Names of the U-Net, which counts blocks as we do, and puts what is in one block under numbers.

    Raises UnsupportedError for the latent upscaler's, which that code has not.
    """
    if isinstance(config, LatentUpscalerConfig):
        raise UnsupportedError(
            "the layout of single files has no names for the latent ×2 upscaler's network; save it as a folder (layout diffusers)"
        )
    last = len(config.channels) - 1
    table = UNET_ENDS + UNET_TOLD

    at = 0
    for level in range(last + 1):
        for _ in range(config.blocks_per_level):
            table += unet_block(config, level, f"input_blocks.{at + 1}", f"down.{at}")
            at += 1
        if level < last:
            table += ((f"input_blocks.{at + 1}.0.op", f"down.{at}.conv"),)
            at += 1

    table += under("middle_block.0", "middle.0.resnet", RESNET)
    table += under("middle_block.1", "middle.0.attention", spatial_transformer(config.depth[last]))
    table += under("middle_block.2", "middle.1.resnet", RESNET)

    at = block = 0
    for level in range(last, -1, -1):
        for _ in range(config.blocks_per_level + 1):
            table += unet_block(config, level, f"output_blocks.{block}", f"up.{at}")
            at, block = at + 1, block + 1
        if level > 0:
            # The enlargement is not a block of its own, but the end of the one before it.
            place = 2 if config.attention[level] else 1
            table += ((f"output_blocks.{block - 1}.{place}.conv", f"up.{at}.conv"),)
            at += 1

    return KeyMap(table)


def unet_block(config: UNetConfig, level: int, theirs: str, ours: str) -> Table:
    """One of our blocks: a resnet and, where the level attends, a spatial transformer, whose insides diffusers names alike."""
    table = under(f"{theirs}.0", f"{ours}.resnet", RESNET)
    if config.attention[level]:
        table += under(f"{theirs}.1", f"{ours}.attention", spatial_transformer(config.depth[level]))
    return table


def ldm_vae_keys(config: VAEConfig) -> KeyMap:
    """Names of the autoencoder, which counts levels from the outermost, on the way up too. Its attention is of 1 × 1 convolutions."""
    last = len(config.channels) - 1
    table = VAE_ENDS

    at = 0
    for level in range(last + 1):
        for block in range(config.blocks_per_level):
            table += under(f"encoder.down.{level}.block.{block}", f"encoder.down.{at}", VAE_RESNET)
            at += 1
        if level < last:
            table += ((f"encoder.down.{level}.downsample.conv", f"encoder.down.{at}.conv"),)
            at += 1

    at = 0
    for level in range(last, -1, -1):
        for block in range(config.blocks_per_level + 1):
            table += under(f"decoder.up.{level}.block.{block}", f"decoder.up.{at}", VAE_RESNET)
            at += 1
        if level > 0:
            table += ((f"decoder.up.{level}.upsample.conv", f"decoder.up.{at}.conv"),)
            at += 1

    return KeyMap(
        table + under("encoder.mid", "encoder.middle", VAE_MIDDLE) + under("decoder.mid", "decoder.middle", VAE_MIDDLE),
        leftovers=frozenset({"loss.", "model_ema."}),
        pointwise=frozenset(
            f"{half}.mid.attn_1.{theirs}.weight" for half in ("encoder", "decoder") for theirs, _ in VAE_ATTENTION
        ),
    )


def ema_keys(unet: KeyMap, names: Iterable[str]) -> KeyMap:
    """Names of the U-Net's average over training, beside the U-Net in training checkpoints: a parameter's name without its dots.

    `unet` are the names in the same layout, `names` ours of all tensors.
    """

    def flattened(name: str) -> str:
        return "diffusion_model" + unet.to_theirs(name).replace(".", "")

    return KeyMap(tuple((flattened(name), name) for name in names), leftovers=frozenset({"decay", "num_updates"}))
