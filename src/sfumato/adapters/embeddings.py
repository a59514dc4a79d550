"""Textual inversion: vectors that stand in a text encoder's table for a token of their own, from the files people share.

    AUTOMATIC1111    .pt with string_to_param and a name; .safetensors with emb_params
    SDXL             clip_l and clip_g, a pair for the two text encoders
    diffusers        learned_embeds, one tensor under the token; or several tokens
    cloneofsimo      the same beside a LoRA, marked <embed> in the metadata

Source: Gal et al. 2022, arXiv:2208.01618, section 4.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from sfumato.adapters.family import BY_CONTEXT
from sfumato.adapters.layouts import unwrapped
from sfumato.adapters.parts import finite
from sfumato.checkpoints import WeightFiles
from sfumato.checkpoints.folder import changed
from sfumato.checkpoints.tensor_file import open_tensors, reading
from sfumato.errors import AdapterError, MissingFileError
from sfumato.models import CLIPTextEncoder

A1111 = "string_to_param."
EMBED = "<embed>"
# The vectors of a pair, by the text encoder they are for.
PAIRS: tuple[Mapping[str, str], ...] = (
    {"clip_l": "text_encoder", "clip_g": "text_encoder_2"},
    {"text_encoders_0": "text_encoder", "text_encoders_1": "text_encoder_2"},
)
# Names that tell nothing of the token: the file's own name does, then.
NAMELESS = frozenset({"emb_params", "tensor", "*"})

MOST_VECTORS, MOST_TOKENS, MOST_LETTERS = 1000, 100, 200
"""Of one token, of one file, of a token's name. A prompt has room for 75 vectors, and each token's takes a tokenizer of its own to add."""

BY_WIDTH: Mapping[tuple[int, ...], str] = {
    **{(width,): family for width, family in BY_CONTEXT.items() if width in (768, 1024)},
    (768, 1280): BY_CONTEXT[2048],
}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Embedding:
    """Vectors that a token stands for, `n width` for each text encoder that it was loaded for, by its name in a pipeline."""

    token: str
    vectors: Mapping[str, Tensor]
    file: str
    files: WeightFiles | None = None

    @property
    def sha256(self) -> str | None:
        """The hash of its file; see `Adapter.sha256`."""
        return None if self.files is None else self.files.sha256


def open_embeddings(path: Path, encoders: Mapping[str, nn.Module], token: str | None = None) -> list[Embedding]:
    """Open a file of textual inversion for a pipeline's text encoders; mostly it holds one token.

    The token is the one given, else the one in the file, else the file's name. Raises MissingFileError, CorruptFileError, or
    AdapterError for a file that is none, is damaged, is for another family, or holds several tokens and one name was given.
    """
    if not path.is_file():
        raise MissingFileError(f"there is no file {path}; expected an embedding, such as a .safetensors or .pt")
    files = WeightFiles(path.parent, ((path, changed(path)),))
    with open_tensors(path) as file, reading(path):
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (an open file is no dict)
        metadata, others = file.metadata(), file.others
    if any(value == EMBED for value in metadata.values()):
        tensors = {key: tensor for key, tensor in tensors.items() if metadata.get(key) == EMBED}
    name = others.get("name")
    return embeddings_of(tensors, encoders, path.name, token, name if isinstance(name, str) else None, files=files)


def embeddings_of(
    tensors: Mapping[str, Tensor],
    encoders: Mapping[str, nn.Module],
    file: str,
    token: str | None = None,
    name: str | None = None,
    *,
    files: WeightFiles | None = None,
) -> list[Embedding]:
    """The embeddings that these tensors make, as `open_embeddings`; `name` is what the file calls itself."""
    by_token = sorted_by_token(tensors, file, token or name or Path(file).stem)
    if not by_token:
        raise AdapterError(
            f"{file} holds no embedding; expected emb_params, clip_l and clip_g, or a token with its vectors"
        )
    if token is not None and len(by_token) > 1:
        raise AdapterError(
            f"{file} holds {len(by_token)} tokens ({', '.join(sorted(by_token))}); leave out the token, to load all"
        )
    if len(by_token) > MOST_TOKENS:
        raise AdapterError(f"{file} holds {len(by_token):,} tokens; expected at most {MOST_TOKENS}, split the file")
    found: list[Embedding] = []
    for own, vectors in by_token.items():
        check_token(file, token or own)
        if len(vectors) == 1 and len(encoders) == 1:
            vectors = dict(zip(encoders, vectors.values(), strict=True))
        check(file, vectors, encoders)
        found.append(Embedding(token=token or own, vectors=vectors, file=file, files=files))
    return found


def sorted_by_token(tensors: Mapping[str, Tensor], file: str, name: str) -> dict[str, dict[str, Tensor]]:
    """For each token its vectors by text encoder; `name` is the token of a file that gives none."""
    for pair in PAIRS:
        if any(key in tensors for key in pair):
            if missing := [key for key in pair if key not in tensors]:
                raise AdapterError(
                    f"{file} has {', '.join(sorted(tensors))} but no {missing[0]}; the pair is incomplete"
                )
            return {name: {encoder: as_rows(tensors[key], key, file) for key, encoder in pair.items()}}
    first = {key.removeprefix(A1111): tensor for key, tensor in tensors.items() if key.startswith(A1111)} or tensors
    return {
        name if key in NAMELESS or len(first) < len(tensors) else key: {"text_encoder": as_rows(tensor, key, file)}
        for key, tensor in first.items()
        if tensor.is_floating_point()
    }


def as_rows(tensor: Tensor, key: str, file: str) -> Tensor:
    """Vectors as `n width`. Raises AdapterError for other shapes, and for NaN or infinity."""
    rows = tensor[None] if tensor.ndim == 1 else tensor
    if rows.ndim != 2 or 0 in rows.shape:
        raise AdapterError(f"{file}: {key} is {list(tensor.shape)}; expected vectors, [n, width], of a token")
    if len(rows) > MOST_VECTORS:
        raise AdapterError(
            f"{file}: {key} is {len(rows):,} vectors; expected at most {MOST_VECTORS:,}, and a prompt has room for 75"
        )
    if not finite(rows):
        raise AdapterError(f"{file}: {key} holds NaN or infinity; the file is damaged, or its training failed")
    return rows


def check_token(file: str, token: str) -> None:
    """Raise AdapterError for a token that nobody can write: too long, or of letters that don't show."""
    if len(token) > MOST_LETTERS or not token.isprintable():
        shown = ascii(token[:40]) + ("…" if len(token) > 40 else "")
        raise AdapterError(
            f"{file} holds an embedding for {shown}, of {len(token):,} letters; expected at most {MOST_LETTERS}, all of which can be "
            "written; give it another token"
        )


def check(file: str, vectors: Mapping[str, Tensor], encoders: Mapping[str, nn.Module]) -> None:
    """Raise AdapterError unless there are vectors of the right width for each text encoder."""
    own = {name: width_of(encoder) for name, encoder in encoders.items()}
    given = {name: rows.shape[1] for name, rows in vectors.items()}
    if given == own:
        return
    made_for, this = (BY_WIDTH.get(tuple(widths.values())) for widths in (given, own))
    raise AdapterError(
        f"{file} does not fit this model: its vectors are {said(given)} wide{f' ({made_for})' if made_for else ''}, and this model's text "
        f"{'encoders' if len(own) > 1 else 'encoder'} {said(own)}{f' ({this})' if this else ''}; use it with a model of its own family"
    )


def width_of(encoder: nn.Module) -> int:
    """The width of a text encoder's vectors."""
    network = unwrapped(encoder)
    assert isinstance(network, CLIPTextEncoder), "text encoders are of one kind"
    return network.config.width


def said(widths: Mapping[str, int]) -> str:
    """Widths, for a message."""
    return " and ".join(map(str, widths.values()))
