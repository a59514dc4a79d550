"""Whatever a file holds, opening it gives an adapter that can be used, or one AdapterError of one line."""

from typing import Any

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from sfumato.adapters import ActiveAdapters, Merger, Weighted, adapter_of
from sfumato.adapters.dialects import PARTS, UNKNOWN
from sfumato.adapters.embeddings import embeddings_of
from sfumato.adapters.parts import ALGORITHMS
from sfumato.errors import AdapterError

LAYERS = [
    "lora_unet_conv_in", "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k", "lora_unet_conv_norm_out",
    "unet.mid_block.resnets.0.conv1", "base_model.model.mid_block.attentions.0.transformer_blocks.0.ff.net.2",
    "lora_te_text_model_encoder_layers_0_mlp_fc1", "text_encoder.text_model.embeddings.token_embedding",
    "lora_te_text_model_embeddings_position_embedding", "lora_unet_nowhere", "unet:0", "",
]  # fmt: skip
ENDS = [*PARTS, *list(UNKNOWN)[:2], ".weight", ".up", ":up", ":down", ""]
SIZES = st.sampled_from([1, 2, 3, 4, 8, 16, 32])


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    shape = draw(st.lists(SIZES, max_size=4).map(lambda sizes: sizes if len(sizes) < 4 else [*sizes[:2], 3, 3]))
    dtype = draw(
        st.sampled_from(
            [
                torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2,
                torch.complex64, torch.int64, torch.uint8, torch.bool,
            ]
        )
    )  # fmt: skip
    value = draw(st.sampled_from([0.0, 0.5, 1.0, 1.0, 1.0, -3.0, torch.inf]))
    return torch.full(shape, value).to(dtype) if dtype.is_floating_point else torch.ones(shape, dtype=dtype)


@st.composite
def files(draw: st.DrawFn) -> dict[str, Tensor]:
    """Layers with what belongs to an algorithm, in random shapes, and some more."""
    found: dict[str, Tensor] = {}
    for layer in draw(st.lists(st.sampled_from(LAYERS), max_size=3, unique=True)):
        needed, optional, _ = ALGORITHMS[draw(st.sampled_from(list(ALGORITHMS)))]
        chosen = [
            *needed,
            *draw(st.lists(st.sampled_from([*optional, "alpha", "dora_scale", "peft_magnitude"]), max_size=2)),
        ]
        for part in chosen:
            ends = [end for end, name in PARTS.items() if name == part] or [".weight"]
            found[layer + draw(st.sampled_from(ends))] = draw(tensors())
    found.update(
        draw(
            st.dictionaries(
                st.builds(str.__add__, st.sampled_from(LAYERS), st.sampled_from(ENDS)), tensors(), max_size=2
            )
        )
    )
    return found


def one_line(error: AdapterError) -> None:
    assert "\n" not in str(error)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files())
def test_an_adapter_or_an_error(shared: Any, given_tensors: dict[str, Tensor]) -> None:
    try:
        adapter = adapter_of(given_tensors, shared.networks, "x")
    except AdapterError as error:
        one_line(error)
        return
    active = ActiveAdapters((Weighted(adapter, {"unet": 0.5, "text_encoder": 0.5}),))
    with active.beside("unet", shared.unet), active.beside("text_encoder", shared.text):
        shared.answers()
    for name in adapter.changes:
        merger = Merger()
        try:
            merger.merge(shared.networks[name], name, [(adapter, 1.0)])
        except AdapterError as error:
            one_line(error)
        merger.restore(shared.networks[name])


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.sampled_from(["emb_params", "clip_l", "clip_g", "string_to_param.*", "<a>", "b", "tensor"]),
        tensors(),
        max_size=3,
    )
)
def test_embeddings_or_an_error(shared: Any, given_tensors: dict[str, Tensor]) -> None:
    try:
        found = embeddings_of(given_tensors, {"text_encoder": shared.text}, "x.pt")
    except AdapterError as error:
        one_line(error)
        return
    assert found
    assert all(one.vectors["text_encoder"].shape[1] == 16 for one in found)
