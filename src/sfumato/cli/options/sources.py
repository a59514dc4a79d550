"""Options of commands that draw: pictures to begin from, and larger ones."""

from pathlib import Path
from typing import Annotated

import typer

Image = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Begin from this picture; its size is drawn, unless --size says another."),
]
Strength = Annotated[
    float | None,
    typer.Option(help="How much of the image is to change, 0 to 1. (default: 0.8; under a mask 1)"),
]
Resize = Annotated[
    str | None,
    typer.Option(metavar="MODE", help="An image of other proportions: resize (stretch), crop, fill. (default: resize)"),
]
Mask = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Paint anew what is white here, and change no pixel where it is black."),
]
MaskBlur = Annotated[float | None, typer.Option(help="Soften the mask's edge by so many pixels.")]
SoftMask = Annotated[bool, typer.Option("--soft-mask", help="Paint in part what is grey in the mask.")]
MaskContent = Annotated[
    str | None,
    typer.Option(
        metavar="WHAT",
        help="What lies under the mask at first: original, fill (its surroundings), noise, nothing. (default: original)",
    ),
]
OnlyMasked = Annotated[
    int | None,
    typer.Option(
        metavar="PADDING",
        help="Paint only the masked part, with so many pixels around it, at the full size of the model or --size.",
    ),
]
Extend = Annotated[
    str | None,
    typer.Option(metavar="L,T,R,B", help="Paint margins of so many pixels around the image: left, top, right, bottom."),
]
Hires = Annotated[
    float | None,
    typer.Option(
        metavar="SCALE",
        help="Draw at the size, enlarge that much, and draw over it: a second pass with its own settings.",
    ),
]
HiresStrength = Annotated[float | None, typer.Option(help="How much the second pass changes, 0 to 1. (default: 0.7)")]
HiresSteps = Annotated[int | None, typer.Option(help="Steps of the second pass. (default: those of the first)")]
HiresSampler = Annotated[
    str | None, typer.Option(metavar="SAMPLER", help="Sampler of the second pass. (default: that of the first)")
]
HiresPrompt = Annotated[str | None, typer.Option(help="Prompt of the second pass. (default: that of the first)")]
HiresEnlarge = Annotated[
    str | None, typer.Option(metavar="WHAT", help="What is enlarged: latent or pixel. (default: latent)")
]
Upscale = Annotated[
    float | None,
    typer.Option(
        metavar="SCALE", help="Draw the image over at so many times its size, in tiles, at a strength of 0.3."
    ),
]
Tile = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Draw a picture larger than the model in overlapping tiles: pixels of a side, WxH, or 'model' for its own size.",
    ),
]
TileOverlap = Annotated[
    int | None,
    typer.Option(metavar="PIXELS", help="How far tiles overlap at least. (default: a quarter of a tile)"),
]
Seamless = Annotated[
    str | None, typer.Option(metavar="AXES", help="Draw a texture that can be laid beside itself: x, y or both.")
]
ImageGuidance = Annotated[
    float | None, typer.Option(help="How closely an edited image follows the one given, from 1 up. (default: 1.5)")
]
Depth = Annotated[
    Path | None, typer.Option(metavar="FILE", help="A depth map for models that read one: brighter is nearer.")
]
NoiseLevel = Annotated[
    int | None,
    typer.Option(help="How noisy the ×4 upscaler makes the image before it enlarges it, 0 to 350. (default: 20)"),
]
