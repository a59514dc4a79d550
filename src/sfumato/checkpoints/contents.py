"""What a single file holds: which networks, under which prefixes, in which layout. Told from the names of its tensors alone."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sfumato.checkpoints.keys import few
from sfumato.errors import ConfigError

Layout = Literal["ldm", "diffusers", "openclip", "transformers"]

# A tensor that each network has in each layout, and no other network has.
SIGNS: dict[str, tuple[tuple[Layout, str], ...]] = {
    "unet": (
        ("ldm", "input_blocks.0.0.weight"),
        ("diffusers", "down_blocks.0.resnets.0.time_emb_proj.weight"),
        # the latent upscaler's, which is told the time in its norms
        ("diffusers", "down_blocks.0.resnets.0.norm1.linear.weight"),
    ),
    "vae": (
        ("ldm", "decoder.up.0.block.0.conv1.weight"),
        ("diffusers", "decoder.up_blocks.0.resnets.0.conv1.weight"),
        ("ldm", "encoder.down.0.block.0.conv1.weight"),
        ("diffusers", "encoder.down_blocks.0.resnets.0.conv1.weight"),
    ),
    "text_encoder": (
        ("openclip", "transformer.resblocks.0.ln_1.weight"),
        ("transformers", "text_model.embeddings.token_embedding.weight"),
        ("transformers", "embeddings.token_embedding.weight"),
    ),
}
# Where a network may lie, in the order they are looked for; files of one network have it under no prefix.
PREFIXES: tuple[tuple[str, str], ...] = (
    ("unet", "model.diffusion_model"),
    ("unet", "diffusion_model"),
    ("unet", ""),
    ("vae", "first_stage_model"),
    ("vae", "vae"),
    ("vae", ""),
    ("text_encoder", "cond_stage_model.transformer"),
    ("text_encoder", "cond_stage_model.model"),
    ("text_encoder", "cond_stage_model"),
    ("text_encoder", "conditioner.embedders.0.transformer"),
    # The refiner's only text encoder is SDXL's second.
    ("text_encoder_2", "conditioner.embedders.0.model"),
    ("text_encoder_2", "conditioner.embedders.1.model"),
    ("text_encoder_2", "conditioner.embedders.1.transformer"),
    ("text_encoder", ""),
)
EMA = "model_ema.diffusion_model"

# What else people keep in such files, by what occurs in the names of its tensors.
FOREIGN: tuple[tuple[str, str], ...] = (
    ("control_model.", "a ControlNet, which Sfumato does not use yet"),
    ("controlnet_cond_embedding.", "a ControlNet, which Sfumato does not use yet"),
    ("input_hint_block.", "a ControlNet, which Sfumato does not use yet"),
    ("motion_modules.", "a motion module of AnimateDiff, which Sfumato does not use"),
    ("ip_adapter.", "an image prompt adapter, which Sfumato does not use yet"),
    ("noise_augmentor.", "Stable unCLIP, which begins from a picture's embedding; Sfumato does not draw with it"),
    ("edm_vpred.", "CosXL, whose noise Sfumato's samplers do not know"),
    ("edm_mean", "Playground 2.5, whose noise Sfumato's samplers do not know"),
    ("double_blocks.", "a model of Flux's kind, which is no Stable Diffusion 1, 2 or XL"),
    ("joint_blocks.", "Stable Diffusion 3, which is built in another way than 1, 2 and XL"),
    ("clip_txt_mapper.", "Stable Cascade, which is built in another way than Stable Diffusion 1, 2 and XL"),
    ("time_stack.", "a video model, which Sfumato does not use"),
    ("lora_", "an adapter (LoRA): open the model it is for, and load_lora_weights(…)"),
    ("lora.", "an adapter (LoRA): open the model it is for, and load_lora_weights(…)"),
    ("hada_", "an adapter (LoHa): open the model it is for, and load_lora_weights(…)"),
    ("lokr_", "an adapter (LoKr): open the model it is for, and load_lora_weights(…)"),
    ("string_to_param", "a textual inversion: open the model it is for, and load_textual_inversion(…)"),
    ("emb_params", "a textual inversion: open the model it is for, and load_textual_inversion(…)"),
)  # fmt: skip


# Files that are opened in another way, by tensors that only they have: TAESD numbers its layers, and its decoder begins with one that
# has no weights. TAESDXL's are the same.
TINY: tuple[tuple[frozenset[str], str], ...] = (
    (frozenset({"1.weight", "3.conv.0.weight"}), "the decoder of a tiny autoencoder (TAESD or TAESDXL)"),
    (frozenset({"0.weight", "1.conv.0.weight"}), "the encoder of a tiny autoencoder (TAESD or TAESDXL)"),
    (frozenset({"decoder.layers.0.weight", "encoder.layers.0.weight"}), "a tiny autoencoder, as diffusers names it"),
)


@dataclass(frozen=True, slots=True)
class Part:
    """Where in a file a network lies, and how it is named there."""

    prefix: str
    layout: Layout

    def inside(self, shapes: Mapping[str, Sequence[int]]) -> dict[str, Sequence[int]]:
        """The shapes of its tensors, without the prefix."""
        start = f"{self.prefix}." if self.prefix else ""
        return {name.removeprefix(start): shape for name, shape in shapes.items() if name.startswith(start)}


@dataclass(frozen=True, slots=True)
class Contents:
    """The networks of a file by name, and whether it has averages of its U-Net over training."""

    parts: Mapping[str, Part]
    averaged: bool

    @property
    def layout(self) -> str:
        """The layout of the file as a whole: "ldm", or "diffusers" for a network as diffusers or transformers name it."""
        kinds = {part.layout for part in self.parts.values()}
        return "ldm" if kinds & {"ldm", "openclip"} or len(self.parts) > 1 else "diffusers"


def contents_of(names: Collection[str]) -> Contents:
    """The networks in a file with tensors of these names. Raises ConfigError, with what it is instead, if there is none."""
    for sign, what in FOREIGN:
        if any(sign in name for name in names):
            raise ConfigError(f"it holds {what}")
    known = frozenset(names)
    for signs, what in TINY:
        if signs <= known:
            raise ConfigError(f"it holds {what}; sfumato.checkpoints.tiny_layout.open_tiny_files opens it")
    parts: dict[str, Part] = {}
    for network, prefix in PREFIXES:
        signs = SIGNS[network.removesuffix("_2")]
        start = f"{prefix}." if prefix else ""
        found: Layout | None = next((layout for layout, sign in signs if start + sign in known), None)
        if found is not None and network not in parts and (prefix or not parts):
            parts[network] = Part(prefix, found)
    averaged = any(name.startswith(EMA) for name in names)
    if not parts:
        if averaged:
            raise ConfigError("it holds only averages of training (model_ema), and no network; expected both")
        raise ConfigError(
            f"it holds no network of Stable Diffusion: {len(names)} tensors ({few(names)}); expected a U-Net, an autoencoder or a text encoder"
        )
    return Contents(parts, averaged)
