"""The pictures that a command is given: opened, and those that a recipe names found again."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfumato.cli.parsing import parse_margins
from sfumato.errors import MissingFileError, OptionError

if TYPE_CHECKING:
    from PIL import Image

    from sfumato.recipe import Recipe


def open_picture(path: Path) -> "Image.Image":
    """The picture in a file, turned as its camera held it, knowing the file's name. Raises ImageError."""
    from PIL import ImageOps

    from sfumato.images import opened
    from sfumato.pipeline.pictures import FILE

    with opened(path) as image:
        whole = ImageOps.exif_transpose(image)
        whole.load()
    whole.info[FILE] = path.name
    return whole


def picture_options(
    *,
    image: Path | None,
    strength: float | None,
    resize: str | None,
    mask: Path | None,
    mask_blur: float | None,
    soft_mask: bool,
    mask_content: str | None,
    only_masked: int | None,
    extend: str | None,
    image_guidance: float | None,
    depth: Path | None,
    noise_level: int | None,
) -> dict[str, Any]:
    """The options of a call for what the command was given; where there is a mask, the picture is laid back around it.

    Raises OptionError for options that need a picture or a mask that is not there, ImageError for a file that can't be read.
    """
    of_picture = {
        "--strength": strength,
        "--extend": extend,
        "--resize": resize,
        "--mask": mask,
        "--image-guidance": image_guidance,
        "--depth": depth,
        "--noise-level": noise_level,
    }
    of_mask = {
        "--mask-blur": mask_blur, "--soft-mask": soft_mask or None, "--mask-content": mask_content, "--only-masked": only_masked,
    }  # fmt: skip
    for options, missing in ((of_picture, "--image"), (of_mask, "--mask")):
        said = [name for name, value in options.items() if value is not None]
        if said and (image if missing == "--image" else mask) is None:
            raise OptionError(f"{said[0]} needs {missing} FILE, which is not given")
    if image is None:
        return {}
    options: dict[str, Any] = {
        "image": open_picture(image),
        "strength": strength,
        "resize_mode": resize,
        "mask_image": None if mask is None else open_picture(mask),
        "mask_blur": mask_blur,
        "soft_mask": soft_mask or None,
        "mask_content": mask_content,
        "padding_mask_crop": only_masked,
        "paste_back": True if mask is not None else None,
        "extend": None if extend is None else parse_margins(extend),
        "image_guidance_scale": image_guidance,
        "depth_map": None if depth is None else open_picture(depth),
        "noise_level": noise_level,
    }
    return {name: value for name, value in options.items() if value is not None}


def second_pass(**options: Any) -> dict[str, Any]:
    """The options of `hires_fix` that the command was given; nothing without a scale. Raises OptionError for others without it."""
    said = {name: value for name, value in options.items() if value is not None}
    if said and "scale" not in said:
        option = next(iter(said)).removeprefix("second_")
        raise OptionError(f"--hires-{option} needs --hires SCALE, which is not given")
    return said


def find_inputs(recipe: "Recipe", picture: Path, given: Sequence[Path]) -> "dict[str, Image.Image]":
    """The pictures that a recipe was made from, by its names for them: among the files given, here, or beside the picture.

    Which is which, their hashes say; one file for one picture is taken whatever it holds, and the difference told. A path in a recipe
    is not followed: only its last part is looked for. Raises MissingFileError that names all that are missing.
    """
    from sfumato.pipeline.workflow import missing_of

    found: dict[str, Image.Image] = {}
    opened = [open_picture(path) for path in given]
    # Those that were made on the way are made again.
    wanted = {
        role: record for role, record in recipe.inputs.items() if not (isinstance(record, dict) and "recipe" in record)
    }
    for role, record in wanted.items():
        record = record if isinstance(record, dict) else {}
        name = str(record.get("file", "")).replace("\\", "/").rpartition("/")[2]
        sound = name not in ("", ".", "..") and "\0" not in name
        places = [place for place in (Path(name), picture.parent / name) if sound and place.is_file()]
        candidates = [*opened, *(open_picture(place) for place in places)]
        match = next((one for one in candidates if _hash(one) == record.get("sha256")), None)
        if match is None and len(given) == len(wanted) == 1:
            match = opened[0]
        if match is not None:
            found[role] = match
    if missing := [role for role in wanted if role not in found]:
        raise MissingFileError(
            f"{picture} was made from other pictures, and these are neither here nor beside it: {missing_of(recipe, missing)}; "
            "pass --input FILE for each"
        )
    return found


def _hash(image: "Image.Image") -> str:
    import numpy as np

    from sfumato.recipe import pixels_sha256

    return pixels_sha256(np.asarray(image.convert("RGB")))
