"""Tiled upscaling: a picture enlarged, and drawn over at a low strength through windows, so that the model adds detail at its own size.

It is image to image on a larger canvas, and nothing else: the recipe says so, names the small picture, and replays with it.
"""

from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from sfumato.errors import OptionError, SizeError
from sfumato.pipeline.enlarging import MOST, words_pipeline
from sfumato.pipeline.pictures import Pictures
from sfumato.pipeline.request import check_number, check_size

if TYPE_CHECKING:
    from sfumato.pipeline.output import StableDiffusionPipelineOutput
    from sfumato.pipeline.pipeline import StableDiffusionPipeline

Enlarge: TypeAlias = Literal["pixel", "latent"]
"""What is enlarged: the picture, by Lanczos's filter, or its latents, between which is interpolated."""

STRENGTH = 0.3
"""More, and windows begin to draw pictures of their own."""


def tiled_upscale(
    pipe: "StableDiffusionPipeline",
    image: Any,
    prompt: str | list[str],
    *,
    scale: float = 2.0,
    strength: float | None = None,
    tile: Any = "model",
    enlarge: Enlarge | None = None,
    **options: Any,
) -> "StableDiffusionPipelineOutput":
    """Draw pictures over at `scale` times their size, which is cut to a multiple of 8.

    `strength` is how much of them is to change, 0.3 unless given; `tile` is as in `CanvasOptions`, and `tile_overlap` may be among the other
    options, which are those of a call. Latents are enlarged as latents, pictures by `enlarge`, "pixel" unless given.
    Raises OptionError for a scale that is not from 1 to 16, and for options that say another size, SizeError for a picture that is
    too small, and as a call.
    """
    scale = check_scale(scale)
    if enlarge is not None and enlarge not in get_args(Enlarge):
        raise OptionError(f"enlarge must be one of {', '.join(get_args(Enlarge))}, not {enlarge!r}")
    for name, own in (("width", "scale"), ("height", "scale"), ("extend", "scale"), ("resize_mode", "enlarge")):
        if options.pop(name, None) is not None:
            raise OptionError(f"{own} says what becomes of the picture's size; leave out {name}, or call the pipeline")
    pictures = Pictures.of("image", image)
    width, height = enlarged_size(pictures.size, scale * (pipe.vae.scale if pictures.is_latent() else 1))
    if enlarge == "latent" or pictures.is_latent():
        options["resize_mode"] = "latent"
    height, width = check_size(height, width, pipe.vae.scale)
    return words_pipeline(pipe)(
        prompt,
        image=pictures,
        width=width,
        height=height,
        strength=STRENGTH if strength is None else strength,
        tile=tile,
        **options,
    )


def check_scale(scale: object) -> float:
    """The scale. Raises OptionError unless it is a number from 1 to 16."""
    return check_number("scale", scale, least=1.0, most=MOST)


def enlarged_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """Width and height `scale` times as large, cut to multiples of 8. Raises SizeError where nothing would be left."""
    width, height = (int(side * scale) // 8 * 8 for side in size)
    if not min(width, height):
        raise SizeError(f"image is {size[0]}x{size[1]}; it must have 8 pixels a side at least when it is enlarged")
    return width, height
