"""Where engines keep what took long to make, for the next process."""

import hashlib
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

import torch
from torch import nn

from sfumato.files import cache_folder


def engines_folder() -> Path:
    """The folder for what engines have made, in the cache."""
    return cache_folder() / "engines"


def weights_hash(network: nn.Module, *beside: object) -> str:
    """A hash of a network's layers, sizes and weights, and of whatever else decides what is made of it."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(repr((type(network).__name__, getattr(network, "config", None), *beside)).encode())
    for name, tensor in network.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


@contextmanager
def whole_folder(path: Path) -> Generator[Path]:
    """A folder to fill, which appears at `path` when the block has ended, or not at all; one that is there meanwhile stays.

    Raises OSError where it can't be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden = Path(mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        yield hidden
        if not path.exists():
            try:
                hidden.rename(path)
            except OSError:
                if not path.exists():  # else another process was first
                    raise
    finally:
        rmtree(hidden, ignore_errors=True)
