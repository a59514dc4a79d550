"""`sfumato replay` of a picture that another program drew: what its settings say, drawn, and what they can't bring."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sfumato.errors import MissingFileError

if TYPE_CHECKING:
    from sfumato.metadata import Settings
    from sfumato.recipe import Recipe


def replay_foreign(
    settings: "Settings",
    file: Path,
    *,
    model: str | None,
    variant: str | None,
    loras: Sequence[Path],
    embeddings: Sequence[Path],
    device: str | None,
    out: Path | None,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Draw what the settings say, on the model given, and print why it can't be the same picture to the bit.

    Raises MissingFileError without a model: another program's name for one says neither where it lies nor that it is the same.
    """
    from sfumato.cli.adapters import Lora, load_adapters
    from sfumato.cli.inspect_settings import show_omissions
    from sfumato.cli.opening import judged_by_default, open_model
    from sfumato.cli.progress import DrawingProgress
    from sfumato.cli.terminal import harmless, warnings_said
    from sfumato.images import save_image
    from sfumato.pipeline import NSFWFilter, recipe_from

    named = f" with {settings.model!r}" if settings.model else ""
    if model is None:
        raise MissingFileError(
            f"{file} was drawn by {settings.program}{named}; pass --model, a folder or hub id of that model"
        )
    with DrawingProgress(1, quiet=quiet):
        pipe = open_model(model, device=device, variant=variant)
        judged_by_default(pipe, NSFWFilter(), said=False)
        load_adapters(
            pipe,
            [Lora(path) for path in (*loras, *_beside(settings, file, loras))],
            [(path, None) for path in embeddings],
        )
        found = recipe_from(settings, pipe)
        with warnings_said():
            result = pipe.replay(found.recipe)
    if out is not None:
        save_image(result.image, out, result.recipe, overwrite=overwrite)
        print(out)
    print(f"drawn from what {settings.program} left in the file; it can't be bit-identical to that picture:")
    print("  computed by another program, on a device and in a precision that the file does not tell")
    print(f"  {harmless(_models(settings, result.recipe))}")
    show_omissions(found.omissions)
    distance = _distance(file, result.recipe, result.image)
    if distance is not None:
        print(f"mean difference between the two pictures: {distance:.1f} of 255")


def _beside(settings: "Settings", file: Path, given: Sequence[Path]) -> list[Path]:
    """The LoRAs that are named and lie here or beside the picture, all but those that are given. No path in the file is followed."""
    have = {path.stem.lower() for path in given}
    found: list[Path] = []
    for lora in settings.loras:
        name = f"{lora.name.strip()}.safetensors"
        if lora.name.strip().lower() in have or "/" in name or "\\" in name or "\0" in name or len(name) > 200:
            continue
        places = [place for place in (Path(name), file.parent / name) if place.is_file()]
        if places and places[0] not in found:
            found.append(places[0])
    return found


def _models(settings: "Settings", made: "Recipe") -> str:
    """What is known of the two models."""
    now = f"{made.model} ({(made.model_sha256 or 'unknown')[:10]})"
    if settings.model is None and settings.model_hash is None:
        return f"its model is not told; drawn with {now}"
    then = f"{settings.model or 'not named'} ({settings.model_hash or 'no hash'})"
    if settings.model_hash and (made.model_sha256 or "").startswith(settings.model_hash.lower()):
        return f"the model is the same by its hash: {then}, here {now}"
    return f"the model was {then}, here it is {now}"


def _distance(file: Path, made: "Recipe", image: object) -> float | None:
    """How far apart two pictures of one size are, a channel on average, of 255; None for two sizes."""
    import numpy as np

    from sfumato.images import opened

    with opened(file) as original:
        if original.size != (made.width, made.height):
            return None
        there = np.asarray(original.convert("RGB"), np.float64)
    return float(np.abs(there - np.asarray(image, np.float64)).mean())
