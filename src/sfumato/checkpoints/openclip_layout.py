"""How OpenCLIP names and stores the tensors of a text encoder: SD 2's, and SDXL's second, in single files."""

from collections.abc import Sequence

from sfumato.checkpoints.keys import KeyMap, Table, join, repeat
from sfumato.models import CLIPTextConfig

LAYER: Table = (
    ("ln_1", "norm1"),
    ("attn.out_proj", "to_out"),
    ("ln_2", "norm2"),
    ("mlp.c_fc", "mlp_in"),
    ("mlp.c_proj", "mlp_out"),
)
QUERIES_KEYS_VALUES = ("to_q", "to_k", "to_v")


def openclip_text_keys(config: CLIPTextConfig, unread_layers: Sequence[int] = ()) -> KeyMap:
    """Names of OpenCLIP's text tower: queries, keys and values in one tensor, and a projection with rows and columns exchanged.

    `unread_layers` are layers of the file that come after those of `config`: SD 2 reads the last but one, so the last is left over.
    """
    table: Table = (
        ("token_embedding", "token_embedding"),
        ("positional_embedding", "position_embedding.weight"),
        *repeat(config.layers, "transformer.resblocks.{}", "layers.{}", LAYER),
        ("ln_final", "final_norm"),
    )
    projected = config.projection_dim is not None
    return KeyMap(
        table + ((("text_projection", "projection.weight"),) if projected else ()),
        leftovers=frozenset(
            # The picture's half of the whole model, where it lies in the same file.
            {"logit_scale", "attn_mask", "visual.", *(f"transformer.resblocks.{layer}." for layer in unread_layers)}
            | (set[str]() if projected else {"text_projection"})
        ),
        fused=tuple(
            (
                f"transformer.resblocks.{layer}.attn.in_proj_{kind}",
                tuple(join(f"layers.{layer}.{part}", kind) for part in QUERIES_KEYS_VALUES),
            )
            for layer in range(config.layers)
            for kind in ("weight", "bias")
        ),
        transposed=frozenset({"text_projection"}),
    )
