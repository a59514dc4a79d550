"""Tensors that a run keeps in files: written whole, read as data alone, and known by a hash."""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sfumato.errors import OutputError, TrainingError
from sfumato.text import Tokenizer


def save_tensors(path: Path, content: Mapping[str, Any]) -> None:
    """Write tensors and plain values to `path`, whole or not at all: a file that was there stays until the new one is complete.

    Raises OutputError when they can't be written.
    """
    partial = path.with_name(f"{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(dict(content), partial)
        partial.replace(path)
    except (OSError, RuntimeError) as error:  # torch's writer reports a full disk as a RuntimeError
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise OutputError(
            f"can't write {path}: {_first_line(error)}; what was there before is untouched: make room, or choose another folder."
        ) from error


def load_tensors(path: Path, keys: frozenset[str], *, cure: str, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read what `save_tensors` wrote; nothing in the file is executed. `cure` says in the error what to do about a bad file.

    Raises TrainingError for a file that is damaged, or lacks one of the keys: another program's.
    """
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # unpickling foreign bytes raises anything
        raise TrainingError(f"{path} can't be read ({_first_line(error)}); {cure}") from error
    if not isinstance(content, dict) or not keys <= content.keys():
        raise TrainingError(f"{path} is no file of this kind of run: it lacks {', '.join(sorted(keys))}; {cure}")
    return content


@contextlib.contextmanager
def taking_in(path: Path) -> Iterator[None]:
    """Raise TrainingError for what networks and optimizers raise inside the block when the state of `path` does not fit them."""
    try:
        yield
    except (KeyError, RuntimeError, TypeError, ValueError, AttributeError) as error:
        raise TrainingError(
            f"what {path} holds does not fit this run's config and data ({_first_line(error)}); choose another folder."
        ) from error


def weights_sha256(module: nn.Module) -> str:
    """The hexadecimal hash of a module's weights: of their names, kinds, shapes and bytes, whatever file they came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def vocabulary_sha256(tokenizer: Tokenizer) -> str:
    """The hexadecimal hash of a tokenizer's vocabulary: token ids and merges."""
    vocabulary = tokenizer.spec.vocabulary
    content = json.dumps([sorted(vocabulary.ids.items()), vocabulary.merges])
    return hashlib.sha256(content.encode()).hexdigest()


def _first_line(error: Exception) -> str:
    """What an error says, in one line: torch appends traces of its own."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__).rstrip(".;")
