"""How files name an adapter's tensors: `prefix` + the layer's name in some layout + the part's suffix. Data only.

    kohya            lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.lora_down.weight
    old diffusers    unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.down.weight
    diffusers        unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight
    peft             base_model.model.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight
    cloneofsimo      unet:0:down, numbered in the order of the layers (see `cloneofsimo`)

LyCORIS writes as kohya's scripts do. The layers' names are those of the diffusers layout or of the original one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

DialectName = Literal["kohya", "old diffusers", "diffusers", "peft", "cloneofsimo"]

# A key's end → the part it holds, in LyCORIS' words.
PARTS: Mapping[str, str] = {
    # kohya, LyCORIS
    ".lora_up.weight": "lora_up",
    ".lora_down.weight": "lora_down",
    ".lora_mid.weight": "lora_mid",
    ".alpha": "alpha",
    ".dora_scale": "dora_scale",
    **{f".{name}": name for name in ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2")},
    **{f".lokr_{name}": f"lokr_{name}" for name in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")},
    ".on_input": "on_input",
    **{f".{name}": name for name in ("diff", "diff_b", "w_norm", "b_norm")},
    # diffusers of old, then and now; peft
    "_lora.down.weight": "lora_down",
    "_lora.up.weight": "lora_up",
    ".lora.down.weight": "lora_down",
    ".lora.up.weight": "lora_up",
    ".lora_linear_layer.down.weight": "lora_down",
    ".lora_linear_layer.up.weight": "lora_up",
    ".lora_A.weight": "lora_down",
    ".lora_B.weight": "lora_up",
    ".lora_B.bias": "lora_up_bias",
    ".lora_A.default.weight": "lora_down",
    ".lora_B.default.weight": "lora_up",
    ".lora_magnitude_vector": "peft_magnitude",
    ".lora_magnitude_vector.weight": "peft_magnitude",
    ".ia3_l": "ia3_l",
}

# (IA)³ of LyCORIS calls its vector what every layer calls its weight: it is one only beside an `on_input`.
IA3_VECTOR = ".weight"

# Ends that tell of algorithms which are not implemented.
UNKNOWN: Mapping[str, str] = {
    ".oft_blocks": "OFT or BOFT",
    ".oft_diag": "OFT",
    ".oft_r": "OFT",
    ".oft_R.weight": "OFT",
    ".boft_R": "BOFT",
    ".a1.weight": "GLoRA",
    ".a2.weight": "GLoRA",
    ".b1.weight": "GLoRA",
    ".b2.weight": "GLoRA",
    ".dyn_up": "DyLoRA before it was extracted",
    ".lokr_t1": "LoKr with two cores",
    ".lora_embedding_A": "LoRA of an embedding",
    ".vera_lambda_b": "VeRA",
    ".hra_u": "HRA",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Dialect:
    """One way to name layers: by prefix, with dots or underscores between the words of their names.

    `prefixes` holds for each network what may stand before the layer's name.
    """

    name: DialectName
    separator: Literal[".", "_"]
    prefixes: Mapping[str, tuple[str, ...]]


DIALECTS: tuple[Dialect, ...] = (
    Dialect(
        name="kohya",
        separator="_",
        prefixes={
            "unet": ("lora_unet_", "lycoris_"),
            # With one text encoder it has no number, with two the first is 1; some tools number it always.
            "text_encoder": ("lora_te_", "lora_te1_"),
            "text_encoder_2": ("lora_te2_",),
        },
    ),
    Dialect(
        name="peft",
        separator=".",
        prefixes={
            "unet": ("base_model.model.", "unet.base_model.model.", "base_model.model.unet."),
            "text_encoder": ("base_model.model.", "text_encoder.base_model.model."),
            "text_encoder_2": ("text_encoder_2.base_model.model.",),
        },
    ),
    Dialect(
        name="diffusers",
        separator=".",
        prefixes={
            # Of one network alone the files of old have no prefix; the last is what the original checkpoints put there.
            "unet": ("unet.", "", "diffusion_model."),
            "text_encoder": ("text_encoder.", ""),
            "text_encoder_2": ("text_encoder_2.",),
        },
    ),
)

# What stood between an attention and its projections when processors held the weights.
PROCESSOR = ".processor"

# How old diffusers names the projections of an attention, whichever network's: then → in the layout, the U-Net's or a text encoder's.
OLD_PROJECTIONS: Mapping[str, tuple[str, str]] = {
    "to_q": ("to_q", "q_proj"),
    "to_k": ("to_k", "k_proj"),
    "to_v": ("to_v", "v_proj"),
    "to_out": ("to_out.0", "out_proj"),
}

# Words in keys that tell of another architecture than Stable Diffusion's U-Net.
FOREIGN: Mapping[str, str] = {
    "double_blocks": "Flux",
    "single_transformer_blocks": "Flux",
    "joint_blocks": "Stable Diffusion 3",
    "transformer.transformer_blocks": "a diffusion transformer (Stable Diffusion 3, Flux …)",
    "lora_transformer_": "a diffusion transformer (Stable Diffusion 3, Flux …)",
    "lora_prior_": "Stable Cascade",
    "lora_te3_": "Stable Diffusion 3",
}
