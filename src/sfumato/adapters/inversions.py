"""The embeddings of a pipeline: tokens in its tokenizers, vectors in its text encoders' tables, and both as they were."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import nn

from sfumato.adapters.embeddings import Embedding
from sfumato.adapters.layouts import unwrapped
from sfumato.errors import AdapterError, OptionError
from sfumato.models import CLIPTextEncoder
from sfumato.models.held import widen
from sfumato.text.tokenizer import Tokenizer


@dataclass(slots=True)
class Plain:
    """A tokenizer and its text encoder's table before any embedding, and the tokenizer that took its place."""

    tokenizer: Tokenizer
    table: nn.Parameter
    vocab_size: int
    eos_token_id: int
    current: Tokenizer


@dataclass(slots=True)
class Inversions:
    """What is loaded, in order; ids follow it. `plain` has what each text encoder was without."""

    embeddings: list[Embedding] = field(default_factory=list[Embedding])
    plain: dict[str, Plain] = field(default_factory=dict[str, Plain])

    def load(
        self, embeddings: Sequence[Embedding], tokenizers: Mapping[str, Tokenizer], encoders: Mapping[str, nn.Module]
    ) -> dict[str, Tokenizer]:
        """Add embeddings; both mappings go by the text encoder's name. Returns the tokenizers that know their tokens.

        Nothing is changed when one is refused. Raises AdapterError for a token that is there already, or is a word.
        """
        return self._set([*self.embeddings, *embeddings], tokenizers, encoders)

    def unload(
        self, tokens: Sequence[str] | None, tokenizers: Mapping[str, Tokenizer], encoders: Mapping[str, nn.Module]
    ) -> dict[str, Tokenizer]:
        """Take tokens out again, by default all; with the last one, tokenizers and tables are what they were. Raises OptionError for others."""
        known = {embedding.token.lower() for embedding in self.embeddings}
        gone = known if tokens is None else {token.lower() for token in tokens}
        if unknown := sorted(gone - known):
            raise OptionError(f"no embedding {unknown[0]!r} is loaded; loaded are {', '.join(sorted(known)) or 'none'}")
        return self._set([one for one in self.embeddings if one.token.lower() not in gone], tokenizers, encoders)

    def _set(
        self, embeddings: list[Embedding], tokenizers: Mapping[str, Tokenizer], encoders: Mapping[str, nn.Module]
    ) -> dict[str, Tokenizer]:
        networks = {
            name: encoder for name in encoders if isinstance(encoder := unwrapped(encoders[name]), CLIPTextEncoder)
        }
        plain = {name: self._plain(name, tokenizers[name], encoder) for name, encoder in networks.items()}
        new: dict[str, Tokenizer] = {}
        for name in networks:
            tokenizer = plain[name].tokenizer
            for embedding in embeddings:
                if name not in embedding.vectors:
                    continue  # it was loaded for the other text encoder alone
                try:
                    tokenizer = tokenizer.with_token(embedding.token, len(embedding.vectors[name]))
                except OptionError as error:
                    raise AdapterError(f"{embedding.file} can't be loaded: {error} (token=…)") from error
            new[name] = tokenizer
        for name, encoder in networks.items():
            vectors = [embedding.vectors[name] for embedding in embeddings if name in embedding.vectors]
            put_rows(encoder, plain[name], new[name], vectors)
            plain[name].current = new[name]
        self.embeddings = embeddings
        self.plain = plain if embeddings else {}
        return new

    def _plain(self, name: str, tokenizer: Tokenizer, encoder: CLIPTextEncoder) -> Plain:
        """What this text encoder is without embeddings; as it is now, if it or its tokenizer was replaced since they were loaded."""
        known = self.plain.get(name)
        if (
            known is not None
            and known.current is tokenizer
            and encoder.token_embedding.num_embeddings == encoder.config.vocab_size
        ):
            return known
        widen(encoder.token_embedding)  # a table that is stored in float16 would round the vectors
        config, table = encoder.config, encoder.token_embedding.weight
        assert isinstance(table, nn.Parameter), "a layer's weight is a parameter"
        if len(table) < tokenizer.vocab_size:
            raise AdapterError(
                f"this model's tokenizer has {tokenizer.vocab_size} tokens and its {name} vectors for {len(table)}; take both from one model"
            )
        return Plain(tokenizer, table, config.vocab_size, config.eos_token_id, tokenizer)


def put_rows(encoder: CLIPTextEncoder, plain: Plain, tokenizer: Tokenizer, vectors: Sequence[torch.Tensor]) -> None:
    """Make the encoder's table the plain one with these vectors at the ids that the tokenizer has beyond the plain one's."""
    current = encoder.token_embedding.weight
    table = plain.table
    if (table.device, table.dtype) != (current.device, current.dtype):
        table = nn.Parameter(table.detach().to(current.device, current.dtype), requires_grad=table.requires_grad)
    if vectors:
        rows = torch.cat([vector.to(table.device, table.dtype) for vector in vectors])
        # A table may have rows for ids that the tokenizer does not have; the new ones come first among them.
        first = plain.tokenizer.vocab_size
        whole = torch.cat([table.detach()[:first], rows, table.detach()[first + len(rows) :]])
        table = nn.Parameter(whole, requires_grad=plain.table.requires_grad)
    encoder.token_embedding.weight = table
    encoder.token_embedding.num_embeddings = len(table)
    # Old configs name no end token, which is then the highest id of a text: no longer, with ids above it.
    encoder.config = replace(
        encoder.config, vocab_size=len(table), eos_token_id=tokenizer.end_id if vectors else plain.eos_token_id
    )
