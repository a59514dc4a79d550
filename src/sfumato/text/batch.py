"""Tokens in the form that transformers' tokenizers give them, for code that feeds a text encoder itself."""

from collections.abc import Sequence
from typing import Any, Protocol

from sfumato.errors import OptionError, PromptError, UnsupportedError


class TokenBatch(dict[str, Any]):
    """`input_ids` and `attention_mask` (1 for a token, 0 for padding), as attributes and as keys: lists, arrays or tensors."""

    @property
    def input_ids(self) -> Any:
        """Ids, one row a text; a plain row for a single text in lists."""
        return self["input_ids"]

    @property
    def attention_mask(self) -> Any:
        """1 where a token is, start and end included, and 0 where padding is."""
        return self["attention_mask"]

    def to(self, device: Any) -> "TokenBatch":
        """The same on another device; tensors only."""
        return TokenBatch({name: value.to(device) for name, value in self.items()})


class Frame(Protocol):
    """What a tokenizer puts around a text: as many ids as the model reads, the first and last, and those that fill up."""

    @property
    def max_length(self) -> int: ...  # noqa: D102
    @property
    def start_id(self) -> int: ...  # noqa: D102
    @property
    def end_id(self) -> int: ...  # noqa: D102
    @property
    def pad_id(self) -> int: ...  # noqa: D102


class Reader(Frame, Protocol):
    """What is needed of a tokenizer."""

    def token_ids(self, text: str) -> list[int]: ...  # noqa: D102


def batch_of(
    tokenizer: Reader,
    text: str | Sequence[str],
    *,
    padding: bool | str = False,
    truncation: bool = False,
    max_length: int | None = None,
    return_tensors: str | None = None,
    add_special_tokens: bool = True,
    **others: Any,
) -> TokenBatch:
    """The ids of one text or of several, between start and end tokens.

    `padding` fills rows to the longest (True, "longest") or to `max_length` ("max_length"), `truncation` cuts them there; it is the
    model's length unless given. `return_tensors` is "pt", "np" or None for lists.
    Raises PromptError for what is no text, OptionError for options out of range, UnsupportedError for unknown ones.
    """
    for name, value in others.items():
        if value not in (None, False) and (name, value) != ("return_attention_mask", True):
            raise UnsupportedError(f"the tokenizer does not know the option {name}={value!r}; leave it out")
    texts = [text] if isinstance(text, str) else list(text)
    if not texts or not all(isinstance(each, str) for each in texts):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise PromptError("the tokenizer reads a string or a list of strings")
    length, ends = tokenizer.max_length if max_length is None else max_length, 2 if add_special_tokens else 0
    if length <= ends:
        raise OptionError(f"max_length is {length}; expected more than {ends}")
    if padding not in (False, True, "longest", "max_length", "do_not_pad") or return_tensors not in (None, "pt", "np"):
        raise OptionError(
            f'padding is {padding!r} and return_tensors {return_tensors!r}; expected "longest" or "max_length", and "pt" or "np"'
        )

    rows = [tokenizer.token_ids(each) for each in texts]
    rows = [row[: length - ends] if truncation else row for row in rows]
    if add_special_tokens:
        rows = [[tokenizer.start_id, *row, tokenizer.end_id] for row in rows]
    filled = {"max_length": length, "longest": (longest := max(map(len, rows))), True: longest}.get(padding, 0)
    masks = [[1] * len(row) + [0] * (filled - len(row)) for row in rows]
    rows = [row + [tokenizer.pad_id] * (filled - len(row)) for row in rows]
    if return_tensors is None:
        single = isinstance(text, str)
        return TokenBatch(input_ids=rows[0] if single else rows, attention_mask=masks[0] if single else masks)
    if len({len(row) for row in rows}) > 1:
        raise OptionError("rows of different lengths make no tensor; pass padding=True, or return_tensors=None")
    return TokenBatch(input_ids=_tensor(rows, return_tensors), attention_mask=_tensor(masks, return_tensors))


def _tensor(rows: list[list[int]], kind: str) -> Any:
    # Imported here: whoever only reads text should not wait for them.
    if kind == "np":
        import numpy as np

        return np.array(rows, dtype=np.int64)
    import torch

    return torch.tensor(rows, dtype=torch.long)
