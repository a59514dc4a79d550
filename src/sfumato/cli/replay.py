"""`sfumato replay`: make a picture again from the recipe it carries, and judge whether it is the same."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sfumato.errors import DownloadError, MissingFileError, OptionError

if TYPE_CHECKING:
    from sfumato.metadata import Settings
    from sfumato.pipeline import StableDiffusionPipeline
    from sfumato.recipe import Recipe

EXIT_DIFFERS = 1


def replay(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="A picture that Sfumato or another program saved, or a recipe as .json."),
    ],
    model: Annotated[
        str | None,
        typer.Option(help="Model folder, model file or hub id. (default: the recipe's, if it is on this machine)"),
    ] = None,
    variant: Annotated[str | None, typer.Option(help="Which weights of the model, such as fp16.")] = None,
    lora: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="A LoRA of the recipe's. (default: found by its name, here or beside FILE)"),
    ] = None,
    embedding: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="An embedding of the recipe's. (default: found by its name too)"),
    ] = None,
    vae_tiny: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The tiny autoencoder that decoded it. (default: found by its name too)"),
    ] = None,
    given: Annotated[
        list[Path] | None,
        typer.Option(
            "--input", metavar="FILE", help="A picture that it was made from. (default: found by its name too)"
        ),
    ] = None,
    int8_scales: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Scales of a picture drawn in int8. (default: those that come with the model)"
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or mps. (default: the recipe's)")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Save the new picture here. (default: it is not saved)")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that exists.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Make a picture again and say whether it is bit-identical, and if not, what differs. Exits with 1 if it is another.

    Of a picture of AUTOMATIC1111's web UI, ComfyUI, InvokeAI or NovelAI, draws what its settings say, and says what they could not carry over.
    """
    from sfumato.cli.adapters import load_recipe_s
    from sfumato.cli.fast import load_recipe_s_tiny_vae
    from sfumato.cli.pictures import find_inputs
    from sfumato.cli.progress import DrawingProgress
    from sfumato.cli.terminal import warnings_said
    from sfumato.files import check_writable
    from sfumato.images import FORMATS, format_of, pixels_sha256_of, read_recipe, save_image

    settings = _foreign(file)
    if out is not None:
        format_of(out, FORMATS)
        check_writable(out, overwrite=overwrite)
    if settings is not None and vae_tiny is not None:
        raise OptionError("--vae-tiny is for a recipe's picture, and this is another program's; leave it out")
    if settings is not None:
        from sfumato.cli.replay_foreign import replay_foreign

        replay_foreign(
            settings, file, model=model, variant=variant, loras=lora or (), embeddings=embedding or (),
            device=device, out=out, overwrite=overwrite, quiet=quiet,
        )  # fmt: skip
        return
    recipe = read_recipe(file)
    inputs = find_inputs(recipe, file, given or ())
    with DrawingProgress(1, quiet=quiet):
        pipe = open_as_recorded(recipe, file, model=model, variant=variant, device=device)
        load_recipe_s(pipe, recipe, file, lora or (), embedding or ())
        load_recipe_s_tiny_vae(pipe, recipe, file, vae_tiny)
        if int8_scales is not None:
            pipe.quantize(scales=int8_scales)
        with warnings_said():
            result = pipe.replay(recipe, inputs)
    if out is not None:
        save_image(result.image, out, result.recipe, overwrite=overwrite)
        print(out)
    altered = file.suffix.lower() != ".json" and pixels_sha256_of(file) != recipe.pixels_sha256
    if recipe.pixels_sha256 is None:
        print("made again; the recipe does not say what came out, so nothing can be compared")
    elif result.identical and not altered:
        print("bit-identical")
    elif result.identical:
        print(
            "the recipe's picture came out again, bit for bit, but this file's pixels were changed since, or saved with loss"
        )
    else:
        print(
            "not the same picture"
            if result.differences
            else "not the same picture, and nothing is known to differ in what made it"
        )
    for difference in result.differences:
        print(f"differs: {difference}")
    if recipe.pixels_sha256 is not None and (altered or not result.identical):
        raise typer.Exit(EXIT_DIFFERS)


def _foreign(file: Path) -> "Settings | None":
    """What another program left in a picture that has no recipe; None for one that has, or has nothing."""
    from sfumato.images import read_embedded
    from sfumato.metadata import find_settings

    if file.suffix.lower() == ".json" or read_embedded(file)[0] is not None:
        return None
    return find_settings(file)


def open_as_recorded(
    recipe: "Recipe", file: Path, *, model: str | None, variant: str | None, device: str | None
) -> "StableDiffusionPipeline":
    """The model that was asked for, or else the recipe's: for a picture that somebody sent, the network is not touched."""
    from sfumato.cli.opening import has_device, open_model, usual_device
    from sfumato.pipeline.placement import parse_dtype

    try:
        pipe = open_model(
            model or model_of(recipe, file),
            # Where its device is missing the picture is made all the same, and the device is among what differs.
            device=device or (recipe.device if has_device(recipe.device) else usual_device()),
            # Rounded as they were then, and widened again: what a narrower dtype rounded off does not come back.
            dtype=recipe.weights_dtype or recipe.dtype,
            variant=variant,
            safety="off" if recipe.safety == "off" else None,
            download=model is not None,
        )
    except DownloadError as error:
        if model is not None:
            raise
        raise MissingFileError(
            f"{file} was made with {recipe.model}, which is not on this machine; pass --model {recipe.model} to allow the "
            "download, or --model PATH"
        ) from error
    for part, dtype in (
        (pipe.unet, None),
        (pipe.vae, recipe.vae_dtype),
        (pipe.text_encoder, recipe.text_encoder_dtype),
        (pipe.text_encoder_2, recipe.text_encoder_dtype),
    ):
        if part is not None:  # a refiner has the second text encoder alone, most models the first
            part.to(parse_dtype(dtype or recipe.dtype))
    return pipe


def model_of(recipe: "Recipe", file: Path) -> str | Path | None:
    """The model that a recipe names: None for the bundled one, a hub id, or the folder or file of that name here or beside the picture.

    Raises MissingFileError when there is none. A path is not followed: only its last part is looked for.
    """
    from sfumato.checkpoints.hub import is_hub_id
    from sfumato.pipeline.loading import BUNDLED

    if recipe.model == BUNDLED:
        return None
    if "/" in recipe.model and is_hub_id(recipe.model):
        return recipe.model
    name = recipe.model.replace("\\", "/").rpartition("/")[2]
    for folder in (Path(), file.parent):
        if name not in ("", ".", "..") and "\0" not in name and (folder / name).exists():
            return folder / name
    raise MissingFileError(
        f"{file} was made with the model {name!r}, and no such folder or file is here or beside the picture; pass --model PATH"
    )
