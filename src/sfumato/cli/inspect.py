"""`sfumato inspect`: what a model folder, a weights file or a picture holds."""

import json
import re
import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sfumato.bundle import bundled_model
from sfumato.cli.inspect_settings import show_definition, show_settings
from sfumato.cli.terminal import harmless, table
from sfumato.errors import ConfigError, CorruptFileError, KeyMismatchError, MissingFileError, UsageError

if TYPE_CHECKING:
    from sfumato.checkpoints import Card
    from sfumato.recipe import Recipe

WEIGHTS = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin", ".pkl")
# The format's own limit on its header; a longer one is damage, or an attempt to fill the memory.
HEADER_LIMIT = 100_000_000


def inspect(
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            help="A model folder or file, a picture, or a recipe as .json. (default: the bundled model)",
            show_default=False,
        ),
    ] = None,
    vocabulary: Annotated[
        bool, typer.Option("--vocabulary", help="List what a model can draw: its styles, and its things one a line.")
    ] = False,
    family: Annotated[
        str | None,
        typer.Option(help="What a file's tensors don't say, such as sd2 or sdxl-turbo.", show_default=False),
    ] = None,
) -> None:
    """Show what a model or a picture holds. Exits with 2 for a model that can't be opened, and says why."""
    path = path or bundled_model()
    if vocabulary:
        list_vocabulary(path)
    elif path.is_dir():
        inspect_folder(path)
    elif not path.exists():
        raise MissingFileError(f"there is no {path}; give a model folder, a weights file or a picture")
    elif path.suffix.lower() in WEIGHTS:
        from sfumato.cli.inspect_weights import inspect_weights

        inspect_weights(path, family)
    else:
        inspect_picture(path)


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightsSummary:
    """What a safetensors file says of itself."""

    tensors: dict[str, tuple[int, ...]]
    dtypes: Counter[str]
    metadata: dict[str, str]
    size: int

    @property
    def parameters(self) -> int:
        """Numbers in all tensors together."""
        return sum(map(prod, self.tensors.values()))


def read_header(path: Path) -> WeightsSummary:
    """Read the header of a safetensors file, and no tensor. Raises CorruptFileError for one that is cut or something else."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(HEADER_LIMIT, size - 8):
            raise CorruptFileError(f"{path} is not a safetensors file, or is cut; download it again")
        text = file.read(length)
    try:
        header: dict[str, Any] = json.loads(text)
        metadata = {name: str(value) for name, value in header.pop("__metadata__", {}).items()}
        tensors = {name: tuple(map(index, entry["shape"])) for name, entry in header.items()}
        dtypes = Counter(str(entry["dtype"]) for entry in header.values())
        end = max((index(entry["data_offsets"][1]) for entry in header.values()), default=0)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError) as error:
        raise CorruptFileError(f"{path} has a damaged header ({type(error).__name__}); download it again") from error
    if end != size - 8 - length:
        raise CorruptFileError(
            f"{path} is {size} bytes and its header describes {8 + length + end}; it is cut, download it again"
        )
    return WeightsSummary(tensors=tensors, dtypes=dtypes, metadata=metadata, size=size)


def read_pickle(path: Path) -> WeightsSummary:
    """What a pickled file of weights holds, by the pickle alone. Raises CorruptFileError or UnsafeFileError."""
    from sfumato.checkpoints.tensor_file import open_tensors

    with open_tensors(path) as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (an open file is no dict)
        return WeightsSummary(
            tensors={name: tuple(piece.get_shape()) for name, piece in slices.items()},
            dtypes=Counter(piece.get_dtype() for piece in slices.values()),
            metadata={},
            size=path.stat().st_size,
        )


def inspect_folder(path: Path) -> None:
    """Show a model folder's parts, and whether Sfumato opens it. Raises CheckpointError when it does not."""
    parts = _read_json(path / "model_index.json")
    rows = [("part", "class", "parameters", "dtype", "size")]
    for name, entry in parts.items():
        if isinstance(entry, list) and entry and entry[-1] is not None:
            rows.append((name, str(entry[-1]), *_weights_of(path / name)))
    print(f"{harmless(str(parts.get('_class_name', 'no pipeline class')))} in {path}\n")
    table(rows)
    scheduler = path / "scheduler" / "scheduler_config.json"
    if scheduler.exists():
        options = {key: value for key, value in _read_json(scheduler).items() if not key.startswith("_")}
        print(f"\nscheduler: {harmless(', '.join(f'{key}={value}' for key, value in options.items()))}")
    _check_opens(path)


def list_vocabulary(path: Path) -> None:
    """Print what a model's makers list that it can draw. Raises UsageError where there is no such list, ConfigError for a damaged one."""
    from sfumato.checkpoints import Card
    from sfumato.checkpoints.card import VOCABULARY

    if not (path / "model_index.json").is_file():
        raise UsageError(f"{path} is no model folder, so it has no vocabulary; leave out --vocabulary")
    card = Card.read(path)
    if not card.vocabulary:
        raise UsageError(f"{path} has no {VOCABULARY}: its makers don't list what it draws; leave out --vocabulary")
    if card.styles:
        print(f"styles: {harmless(', '.join(card.styles))}")
    print(f"things: {len(card.vocabulary):,}\n")
    for thing in card.vocabulary:
        print(harmless(thing))


def _show_card(card: "Card") -> None:
    if card.defaults:
        print(f"recommended: {', '.join(f'{name}={value}' for name, value in card.defaults.items())}")
    if card.vocabulary:
        styles = f" in the styles {harmless(', '.join(card.styles))}" if card.styles else ""
        print(f"draws: {len(card.vocabulary):,} things{styles}; --vocabulary lists them")
    if card.words:
        print(f"words: {len(card.words):,}; others in a prompt are named in a note")


def _check_opens(path: Path) -> None:
    """Open the model as a pipeline would: every key and shape is checked. Prints what names it in recipes."""
    from sfumato.checkpoints import Card, open_folder
    from sfumato.cli.inspect_weights import memory, show_drawing, show_family, show_misfits
    from sfumato.schedulers import scheduler_from_config
    from sfumato.text import Tokenizer

    variant = _only_variant(path / "unet")
    try:
        folder = open_folder(path, variant=variant)
    except KeyMismatchError:
        show_misfits(path, variant)
        raise
    tokenizers = [Tokenizer.from_folder(place) for place in folder.tokenizers.values() if isinstance(place, Path)]
    scheduler = scheduler_from_config(folder.scheduler_config)
    show_family(folder.detected)
    print("layout: diffusers")
    print(
        f"sampler: {scheduler.sampler}, {scheduler.spacing} spacing; tokens: {tokenizers[0].vocab_size:,}, {tokenizers[0].max_length} a prompt"
    )
    numbers = sum(parameter.numel() for network in folder.networks.values() for parameter in network.parameters())
    print(f"memory: {memory(numbers)}")
    each = {
        name: [p.numel() * (p.dtype.itemsize < 4) for p in one.parameters()] for name, one in folder.networks.items()
    }
    show_drawing(
        {name: one.config for name, one in folder.networks.items()}, {name: sum(c) for name, c in each.items()}
    )
    if folder.unread:
        print(f"left alone: {', '.join(folder.unread)}")
    _show_card(Card.read(path))
    print(f"sha256: {folder.sha256}")
    print("opens: yes" + (f", with --variant {variant}" if variant else ""))


def inspect_picture(path: Path) -> None:
    """Show a picture's recipe, or the settings that another program left, and whether its pixels are still those of the recipe."""
    from sfumato.images import parse_recipes, pixels_sha256_of, read_embedded, read_recipe
    from sfumato.metadata import find_settings

    if path.suffix.lower() == ".json":
        _show_recipe(read_recipe(path))
        return
    if path.suffix.lower() in (".html", ".htm"):
        show_definition(path)
        return
    recipe, _ = read_embedded(path)
    if recipe is not None and recipe.startswith("["):
        show_definition(path)
        _show_grid(parse_recipes(recipe))
        return
    if recipe is not None:
        (shown,) = parse_recipes(recipe)
        _show_recipe(shown)
        if shown.pixels_sha256 is not None:
            same = pixels_sha256_of(path) == shown.pixels_sha256
            print(f"\npixels: {'as they were made' if same else 'changed since they were made, or saved with loss'}")
        return
    settings = find_settings(path)
    if settings is None:
        read_recipe(path)  # says that there is none
        return
    show_settings(settings)


def _show_grid(recipes: Sequence["Recipe"]) -> None:
    print(f"a grid of {len(recipes)} pictures")
    for number, recipe in enumerate(recipes, start=1):
        print(f"\npicture {number}")
        _show_recipe(recipe)


def _show_recipe(recipe: "Recipe") -> None:
    values = json.loads(recipe.to_json())
    values["noise_state"] = values["noise_state"] and "…"  # thousands of letters for no reader
    rows = [(name.replace("_", " "), _one_line(value)) for name, value in values.items() if value not in (None, "", {})]
    table(rows)


def _one_line(value: object) -> str:
    """A value on one line: text as it is, with line ends written out; the rest as JSON."""
    return value.replace("\n", "\\n") if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _weights_of(folder: Path) -> tuple[str, str, str]:
    """Parameters, dtype and size of a component's weights, one variant's where it has several; blanks where it has none."""
    variants = _variants(folder)
    if not variants:
        return ("", "" if folder.is_dir() else "missing", "")
    shown = None if None in variants else next(iter(variants))
    summaries = [read_header(file) if file.suffix == ".safetensors" else read_pickle(file) for file in variants[shown]]
    dtypes = sorted({dtype for summary in summaries for dtype in summary.dtypes})
    others = "".join(f"; also as {name}" for name in variants if name is not None and name != shown)
    return (
        f"{sum(summary.parameters for summary in summaries):,}",
        ", ".join(dtypes) + others,
        _megabytes(sum(summary.size for summary in summaries)),
    )


def _only_variant(folder: Path) -> str | None:
    """The variant of a component that has weights of one variant only, and none without."""
    variants = _variants(folder)
    return next(iter(variants)) if len(variants) == 1 else None


# A weights file's name: "model.safetensors", "model.fp16.safetensors", and shards of either with the variant on either side.
_WEIGHTS = r"[^.]+?(-\d{5}-of-\d{5})?(\.(?P<variant>[^.]+?))?(-\d{5}-of-\d{5})?\."


def _variants(folder: Path) -> dict[str | None, list[Path]]:
    """A component's weights files by variant, in the order of their names; None is the one without a name.

    Pickles (.bin) are those of variants that there are no safetensors of, as it is when the model is opened.
    """
    variants: dict[str | None, list[Path]] = {}
    for suffix in ("safetensors", "bin"):
        found: dict[str | None, list[Path]] = {}
        for file in sorted(folder.glob(f"*.{suffix}")):
            if match := re.fullmatch(_WEIGHTS + suffix, file.name):
                found.setdefault(match["variant"], []).append(file)
        variants |= {name: files for name, files in found.items() if name not in variants}
    return variants


def _read_json(path: Path) -> dict[str, Any]:
    try:
        contents = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingFileError(f"there is no {path}; expected a model folder in the diffusers layout") from error
    except (OSError, ValueError, RecursionError) as error:
        raise CorruptFileError(f"{path} can't be read as JSON ({error}); download it again") from error
    if not isinstance(contents, dict):
        raise ConfigError(f"{path} is not a JSON object")
    return contents


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
