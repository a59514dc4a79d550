"""The tokenizer of a model in training: CLIP's, reduced to the words that its captions need."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from sfumato.models import CLIPTextConfig
from sfumato.text import Tokenizer
from sfumato.training.base_config import TextSizes
from sfumato.training.data import ArtDataset
from sfumato.training.data.scenes import possible_words_of


def tokens_of(tokenizer: Tokenizer, texts: Sequence[str]) -> Tensor:
    """Token ids of texts, `n max_length`."""
    return torch.tensor([tokenizer.encode(text).ids for text in texts])


def caption_tokens(tokenizer: Tokenizer, captions: Iterable[Sequence[str]]) -> Tensor:
    """Token ids of the wordings of scenes, `scenes wordings max_length`: small integers, since there may be a million."""
    return torch.tensor([[tokenizer.encode(text).ids for text in wordings] for wordings in captions], dtype=torch.int32)


def tokenizer_for(texts: Iterable[str], sizes: TextSizes) -> Tokenizer:
    """CLIP's tokenizer reduced to what these texts need, and shortened."""
    # No token reaches over a space, so a text needs what its words need; a million captions are made of a few thousand.
    words = {word for text in texts for word in text.split()}
    reduced = Tokenizer.bundled_clip().reduced(sorted(words), sizes.base_merges)
    return Tokenizer(replace(reduced.spec, max_length=sizes.max_length))


def tokenizer_of_run(data: ArtDataset, sizes: TextSizes) -> Tokenizer:
    """The tokenizer for every caption that scenes of this art may get: it is known before any is drawn."""
    return tokenizer_for(possible_words_of(data), sizes)


def text_config(sizes: TextSizes, tokenizer: Tokenizer) -> CLIPTextConfig:
    """The text encoder's config for a tokenizer."""
    return CLIPTextConfig(
        vocab_size=tokenizer.vocab_size,
        width=sizes.width,
        layers=sizes.layers,
        heads=sizes.heads,
        max_length=sizes.max_length,
        mlp_width=4 * sizes.width,
        eos_token_id=tokenizer.end_id,
    )
