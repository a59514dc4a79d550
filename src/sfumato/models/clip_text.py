"""CLIP's text encoder: tokens in, context out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from sfumato.errors import OptionError
from sfumato.models.clip_transformer import Activation, CLIPLayer
from sfumato.models.linear import Linear
from sfumato.models.network import NamedConfig, Network

if TYPE_CHECKING:
    from jaxtyping import Bool, Int

# Configs written before the end token was recorded rightly say 2; there the end token is the highest id of a row.
LEGACY_EOS_TOKEN_ID = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class CLIPTextConfig(NamedConfig):
    """Sizes of a text encoder; the defaults are those of CLIP ViT-L/14, Stable Diffusion 1's.

    With a `projection_dim`, the pooled vector is projected to it.
    """

    vocab_size: int = 49408
    width: int = 768
    layers: int = 12
    heads: int = 12
    max_length: int = 77
    mlp_width: int = 3072
    activation: Activation = "quick_gelu"
    eos_token_id: int = 49407
    projection_dim: int | None = None
    norm_eps: float = 1e-5

    field_names: ClassVar[Mapping[str, str]] = {
        "hidden_size": "width",
        "num_hidden_layers": "layers",
        "num_attention_heads": "heads",
        "max_position_embeddings": "max_length",
        "intermediate_size": "mlp_width",
        "hidden_act": "activation",
        "layer_norm_eps": "norm_eps",
    }


class TextEncoding(NamedTuple):
    """What a text encoder makes of a batch of texts."""

    hidden: Tensor
    """One vector per token, after the final norm unless that was left out: `b n width`."""
    pooled: Tensor
    """One vector per text, that of its end token in the last layer: `b width`, or `b projection_dim`."""

    @property
    def last_hidden_state(self) -> Tensor:
        """`hidden`, by its name in transformers."""
        return self.hidden

    @property
    def pooler_output(self) -> Tensor:
        """`pooled`, by its name in transformers."""
        return self.pooled


class CLIPTextEncoder(Network):
    """A causal transformer over tokens. Source: Radford et al. 2021, arXiv:2103.00020, section 2.4."""

    layers: nn.ModuleList

    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.width)
        self.position_embedding = nn.Embedding(config.max_length, config.width)
        self.layers = nn.ModuleList(
            CLIPLayer(
                width=config.width,
                heads=config.heads,
                mlp_width=config.mlp_width,
                activation=config.activation,
                causal=True,
                eps=config.norm_eps,
            )
            for _ in range(config.layers)
        )
        self.final_norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.projection = (
            Linear(config.width, config.projection_dim, bias=False) if config.projection_dim is not None else None
        )
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.position_embedding.weight, std=0.01)

    def forward(
        self,
        tokens: Int[Tensor, "b n"],
        clip_skip: int | None = None,
        *,
        normed: bool = True,
        seen: Bool[Tensor, "b n"] | None = None,
    ) -> TextEncoding:
        """Encode token ids; `clip_skip` k takes the hidden states from before the last k layers, not `normed` without the final norm.

        No token sees one that is not `seen`; the first one has to be. Unless given, all are.
        Raises OptionError unless 0 <= clip_skip <= the number of layers, and for more tokens than the encoder has positions.
        """
        skip = clip_skip or 0
        if not 0 <= skip <= len(self.layers):
            raise OptionError(
                f"clip_skip is {clip_skip}; this text encoder has {len(self.layers)} layers, so give 0 to {len(self.layers)}"
            )
        if tokens.shape[1] > self.config.max_length:
            raise OptionError(
                f"{tokens.shape[1]} tokens given; this text encoder reads at most {self.config.max_length} at a time"
            )

        x = self.token_embedding(tokens) + self.position_embedding.weight[: tokens.shape[1]]
        states = [x]
        visible = None
        if seen is not None:
            length = tokens.shape[1]
            visible = seen[:, None, None, :] & torch.ones(length, length, dtype=torch.bool, device=x.device).tril()
        for layer in self.layers:
            states.append(layer(states[-1], visible))

        pooled = self.final_norm(states[-1])[
            torch.arange(len(tokens), device=tokens.device), self._end_positions(tokens)
        ]
        return TextEncoding(
            hidden=self.final_norm(states[-1 - skip]) if normed else states[-1 - skip],
            pooled=pooled if self.projection is None else self.projection(pooled),
        )

    def _end_positions(self, tokens: Tensor) -> Tensor:
        if self.config.eos_token_id == LEGACY_EOS_TOKEN_ID:
            return tokens.argmax(dim=-1)
        return (tokens == self.config.eos_token_id).int().argmax(dim=-1)
