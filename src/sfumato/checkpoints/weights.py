"""Where the weights of a component lie: which files, in which variant, as safetensors or pickles."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from sfumato.checkpoints.options import read_json
from sfumato.checkpoints.tensor_file import TensorFile as TensorFile
from sfumato.checkpoints.tensor_file import open_tensors as open_tensors
from sfumato.errors import CorruptFileError, MissingFileError


def has_weights(folder: Path, stem: str, variant: str | None) -> bool:
    """Whether a component has weights of that variant (None: of none), as safetensors or pickled."""
    return any((folder / name).is_file() for name in (*names(stem, variant), *names(stem, variant, pickled=True)))


def names(stem: str, variant: str | None, *, pickled: bool = False) -> tuple[str, str]:
    """What the weights of a component are called: the file, and the index of its shards."""
    infix = f".{variant}" if variant else ""
    # transformers had another name for its pickles than it has for its safetensors; diffusers has one for both.
    stem, kind = ("pytorch_model" if stem == "model" else stem, "bin") if pickled else (stem, "safetensors")
    return f"{stem}{infix}.{kind}", f"{stem}.{kind}.index{infix}.json"


def find_weights(folder: Path, stem: str, variant: str | None) -> list[Path]:
    """The files of a component's weights: one, or the shards that an index names; safetensors if there are, else pickles.

    Raises MissingFileError if there are none of that variant.
    """
    for pickled in (False, True):
        whole, index = (folder / name for name in names(stem, variant, pickled=pickled))
        if whole.is_file():
            return [whole]
        if index.is_file():
            return shards(index)

    whole = folder / names(stem, variant)[0]
    if others := sorted(variants(folder, stem)):
        raise MissingFileError(
            f"{whole} is missing, but there are variants; pass variant={' or '.join(map(repr, others))}"
        )
    if variant and has_weights(folder, stem, None):
        raise MissingFileError(f"{whole} is missing, but there are weights without a variant; pass variant=None")
    raise MissingFileError(f"{whole} is missing; expected the weights of this component as safetensors")


def variants(folder: Path, stem: str) -> set[str]:
    """The variants that a component has weights of."""
    patterns = [names(stem, "*", pickled=pickled)[0] for pickled in (False, True)]
    return {
        path.name.removeprefix(f"{pattern.split('.')[0]}.").split(".")[0].split("-")[0]
        for pattern in patterns
        for path in folder.glob(pattern)
    }


def shards(index: Path) -> list[Path]:
    """The files that an index of shards names. Raises CorruptFileError if it names none, or files outside its folder."""
    places: object = read_json(index).get("weight_map")
    values = list(cast("dict[str, object]", places).values()) if isinstance(places, dict) else []
    names = {name for name in values if isinstance(name, str) and Path(name).name == name and name.isprintable()}
    if not names or not all(name in names for name in values):
        raise CorruptFileError(f"{index} has no weight_map from tensors to files beside it; download the model again")
    files = [index.parent / name for name in sorted(names)]
    for file in files:
        if not file.is_file():
            raise MissingFileError(
                f"{file} is missing, one of {len(files)} that {index.name} names; download the model again"
            )
    return files


def sha256(files: Sequence[Path]) -> str:
    """Hexadecimal digest of the files' bytes, one after another."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def short_hashes(path: Path, digest: str) -> tuple[str, str]:
    """The two short names that AUTOMATIC1111's web UI has for a model file: of its digest, and the older one, of one stretch of it.

    Source: its `modules/sd_models.py`: 64 KiB from 1 MiB on.
    """
    with path.open("rb") as file:
        file.seek(0x100000)
        old = hashlib.sha256(file.read(0x10000)).hexdigest()
    return digest[:10], old[:8]
