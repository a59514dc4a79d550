"""Textual inversion at a pipeline, under the names and habits of diffusers."""

import logging
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sfumato.errors import OptionError, UnsupportedError

if TYPE_CHECKING:
    from sfumato.adapters.embeddings import Embedding
    from sfumato.adapters.inversions import Inversions
    from sfumato.pipeline.source import Source
    from sfumato.text.tokenizer import Tokenizer

logger = logging.getLogger("sfumato")

TOKENIZERS: Mapping[str, str] = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"}
"""Which tokenizer each text encoder reads from."""

Given = str | os.PathLike[str] | Mapping[str, Tensor] | Tensor


class Inverting:
    """`load_textual_inversion` and its reverse. Mixed into the pipeline, which owns the parts."""

    source: "Source"
    _inversions: "Inversions"

    def load_textual_inversion(
        self,
        pretrained_model_name_or_path: Given | Sequence[Given],
        token: str | Sequence[str | None] | None = None,
        tokenizer: Any = None,
        text_encoder: Any = None,
        **options: Any,
    ) -> list[str]:
        """Load embeddings: files, folders, hub ids, or tensors. Returns the words that stand for them in prompts from now on.

        The word is `token`, else the one in the file, else the file's name. Where a prompt has it, it gets all the embedding's vectors.
        Vectors are for every text encoder of the pipeline, a pair for two, or for the one that `text_encoder` or `tokenizer` is.
        Raises AdapterError for a file that does not fit, or a word that is there already or has a meaning, and as `adapter_file`.
        """
        one = isinstance(pretrained_model_name_or_path, str | os.PathLike | Mapping | Tensor)
        sources = [pretrained_model_name_or_path] if one else list(pretrained_model_name_or_path)
        tokens = [token] * len(sources) if token is None or isinstance(token, str) else list(token)
        if len(tokens) != len(sources) or (isinstance(token, str) and len(sources) > 1):
            raise OptionError(f"{len(tokens)} tokens for {len(sources)} embeddings; give one for each")
        encoders = self._text_encoders()
        meant = self._meant(tokenizer, text_encoder)
        embeddings = [
            embedding
            for each, word in zip(sources, tokens, strict=True)
            for embedding in opened(each, word, meant, options)
        ]
        with self.source.recorded(**encoders):
            self._take(self._inversions.load(embeddings, self._tokenizers(), encoders))
        words = [embedding.token.lower() for embedding in embeddings]
        for embedding, word in zip(embeddings, words, strict=True):
            counts = {len(rows) for rows in embedding.vectors.values()}
            logger.info("%s: the word %s stands for %s vectors", embedding.file, word, " and ".join(map(str, counts)))
        return words

    def unload_textual_inversion(
        self, tokens: str | Sequence[str] | None = None, tokenizer: Any = None, text_encoder: Any = None
    ) -> None:
        """Take words out again, by default all; with the last one, tokenizer and text encoder are what they were, bit by bit."""
        del tokenizer, text_encoder
        encoders = self._text_encoders()
        with self.source.recorded(**encoders):
            self._take(
                self._inversions.unload([tokens] if isinstance(tokens, str) else tokens, self._tokenizers(), encoders)
            )

    # -- for the pipeline's own calls ----------------------------------------------------------------------------------

    def _text_encoders(self) -> dict[str, torch.nn.Module]:
        return {name: part for name in TOKENIZERS if (part := self.__dict__.get(name)) is not None}

    def _meant(self, tokenizer: Any, text_encoder: Any) -> dict[str, torch.nn.Module]:
        """The text encoders that these parts of the pipeline say, all where neither is given. Raises UnsupportedError for parts of another."""
        meant = self._text_encoders()
        for option, given in (("tokenizer", tokenizer), ("text_encoder", text_encoder)):
            own = {name: TOKENIZERS[name] if option == "tokenizer" else name for name in meant}
            meant = {name: meant[name] for name in meant if given is None or self.__dict__.get(own[name]) is given}
        if not meant:
            raise UnsupportedError(
                "embeddings are loaded for this pipeline's own text encoders: pass text_encoder=pipe.text_encoder and its tokenizer, or neither"
            )
        return meant

    def _tokenizers(self) -> "dict[str, Tokenizer]":
        return {name: self.__dict__[TOKENIZERS[name]] for name in self._text_encoders()}

    def _take(self, tokenizers: "Mapping[str, Tokenizer]") -> None:
        for encoder, tokenizer in tokenizers.items():
            setattr(self, TOKENIZERS[encoder], tokenizer)

    def _embeddings_in(self, texts: Sequence[str | None]) -> "list[Embedding]":
        """The loaded embeddings whose word is in one of these texts."""
        if not self._inversions.embeddings:
            return []
        tokenizers = self._tokenizers()
        ids = {
            name: {number for text in texts if text for number in tokenizer.token_ids(text)}
            for name, tokenizer in tokenizers.items()
        }
        return [
            one
            for one in self._inversions.embeddings
            if any(tokenizers[name].token_ids(one.token)[0] in ids[name] for name in one.vectors if name in ids)
        ]


def opened(
    given: Given, token: str | None, encoders: Mapping[str, torch.nn.Module], options: Mapping[str, Any]
) -> "list[Embedding]":
    """The embeddings of one file, or of tensors."""
    from sfumato.adapters.embeddings import embeddings_of, open_embeddings
    from sfumato.pipeline.adapter_files import EMBEDDING_NAMES, adapter_file

    if isinstance(given, Tensor):
        given = {"tensor": given}
        if token is None:
            raise OptionError("an embedding given as a tensor has no name; pass token=…")
    if isinstance(given, Mapping):
        return embeddings_of(given, encoders, "(tensors, not a file)", token)
    return open_embeddings(adapter_file(given, EMBEDDING_NAMES, options), encoders, token)
