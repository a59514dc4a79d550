"""`--lora` and `--embedding`: adapters for the model that a command works with."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sfumato.errors import MissingFileError

if TYPE_CHECKING:
    from sfumato.pipeline import StableDiffusionPipeline
    from sfumato.recipe import Recipe

NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)"
# The shortest file that leaves only numbers behind it; a colon in a path (C:\…) leaves more.
LORA = re.compile(rf"(.+?)(?::({NUMBER}))?(?::({NUMBER}))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Lora:
    """A file of a LoRA or its kin, and how much of it the U-Net and the text encoders get."""

    path: Path
    weight: float = 1.0
    text_weight: float = 1.0


def parse_lora(text: str) -> Lora:
    """`FILE`, `FILE:WEIGHT` or `FILE:WEIGHT:TEXT_WEIGHT`; unset, the weights are 1, and that of the text is the other. Raises MissingFileError."""
    if Path(text).expanduser().exists():
        return Lora(Path(text).expanduser())
    match = LORA.fullmatch(text)
    path = Path(match[1] if match else text).expanduser()
    if match is None or not path.exists():
        raise MissingFileError(
            f"there is no file {str(path)!r}; --lora takes FILE, FILE:WEIGHT or FILE:WEIGHT:TEXT_WEIGHT"
        )
    weight = float(match[2] or 1.0)
    return Lora(path, weight, weight if match[3] is None else float(match[3]))


def parse_embedding(text: str) -> tuple[Path, str | None]:
    """`FILE` or `FILE:WORD`, the word that stands for it in prompts. Raises MissingFileError."""
    path = Path(text).expanduser()
    if path.exists():
        return path, None
    file, _, word = text.rpartition(":")
    path = Path(file).expanduser()
    if not file or not word or not path.exists():
        raise MissingFileError(f"there is no file {text!r}; --embedding takes FILE or FILE:WORD")
    return path, word


def load_adapters(
    pipe: "StableDiffusionPipeline", loras: Sequence[Lora], embeddings: Sequence[tuple[Path, str | None]]
) -> None:
    """Load adapters into a pipeline, and use the LoRAs together with their weights; what has to be said of them is said.

    Raises AdapterError for one that does not fit or is damaged.
    """
    from sfumato.cli.terminal import say_note, warnings_said

    weights: dict[str, dict[str, float]] = {}
    with warnings_said():
        for lora in loras:
            name = free(lora.path.stem, weights)
            pipe.load_lora_weights(lora.path, adapter_name=name)
            text = {"text_encoder": lora.text_weight, "text_encoder_2": lora.text_weight}
            weights[name] = {"unet": lora.weight, **text}
        if weights:
            pipe.set_adapters(list(weights), list(weights.values()))
        for path, word in embeddings:
            words = pipe.load_textual_inversion(path, token=word)
            if word is None:
                say_note(f"{path.name} is written {' or '.join(words)} in a prompt")


def free(name: str, taken: dict[str, dict[str, float]]) -> str:
    """The name, with a number if another file has it."""
    names = [name, *(f"{name} {number}" for number in range(2, len(taken) + 2))]
    return next(each for each in names if each not in taken)


def load_recipe_s(
    pipe: "StableDiffusionPipeline", recipe: "Recipe", picture: Path, loras: Sequence[Path], embeddings: Sequence[Path]
) -> None:
    """Load the adapters that a recipe names: from the files given, or else by name from here or from beside the picture.

    Raises MissingFileError for one that is nowhere. A path in a recipe is not followed: only its last part is looked for.
    """
    given = {path.name: path for path in (*loras, *embeddings)}
    wanted: list[Lora] = [Lora(path) for path in loras]
    words: list[tuple[Path, str | None]] = []
    for used in recipe.adapters:
        name = used.file.replace("\\", "/").rpartition("/")[2]
        places = [given.get(name), Path(name), picture.parent / name]
        sound = name not in ("", ".", "..") and "\0" not in name
        path = next((place for place in places if sound and place is not None and place.is_file()), None)
        spare = embeddings if used.token is not None else loras
        if path is None and len(spare) == 1:
            path = spare[0]  # under another name; its hash tells whether it is the same
        if path is None:
            option = "--lora" if used.token is None else "--embedding"
            raise MissingFileError(
                f"{picture} was made with {name!r} (sha256 {(used.sha256 or 'unknown')[:10]}), and no such file is here or beside the "
                f"picture; pass {option} FILE"
            )
        if used.token is not None:
            words.append((path, used.token))
        elif path not in loras and all(path != lora.path for lora in wanted):
            wanted.append(Lora(path))
    load_adapters(pipe, wanted, words)
