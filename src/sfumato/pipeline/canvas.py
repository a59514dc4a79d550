"""What a picture is drawn on: through windows, where it is larger than a model composes or memory holds, and without edges, where it wraps."""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast, get_args

from sfumato.engine import Windows
from sfumato.errors import OptionError, SizeError, UnsupportedError
from sfumato.models.convolution import NOWHERE, Axes
from sfumato.models.unet import UNet
from sfumato.pipeline.parts import unwrapped
from sfumato.pipeline.request import MULTIPLE, Request, check_count, whole
from sfumato.recipe import Recipe, Seamless

if TYPE_CHECKING:
    from sfumato.pipeline.pipeline import StableDiffusionPipeline

AXES: dict[str, Axes] = {"x": frozenset({-1}), "y": frozenset({-2}), "both": frozenset({-1, -2})}

NAMES = ("tile", "tile_overlap", "seamless")


@dataclass(frozen=True, kw_only=True, slots=True)
class Canvas:
    """A checked canvas: windows of `tile`, width and height in pixels, or None for one that holds all; and along which axes it wraps."""

    tile: tuple[int, int] | None = None
    tile_overlap: int = 0
    seamless: Seamless | None = None

    @property
    def axes(self) -> Axes:
        """The axes along which it wraps, as the networks have them."""
        return NOWHERE if self.seamless is None else AXES[self.seamless]

    def windows(self, vae_scale: int) -> Windows | None:
        """The windows in latents."""
        if self.tile is None:
            return None
        width, height, overlap = (pixels // vae_scale for pixels in (*self.tile, self.tile_overlap))
        return Windows(height=height, width=width, overlap=overlap)

    def recorded(self) -> dict[str, Any]:
        """The fields of a recipe that say it."""
        return {"tile": self.tile, "tile_overlap": self.tile_overlap, "seamless": self.seamless}


PLAIN = Canvas()


@dataclass(frozen=True, kw_only=True, slots=True)
class CanvasOptions:
    """The options of a call for its canvas, as they were given.

    tile          windows of that size, whose answers are averaged where they overlap: pixels of a side, (width, height), or "model" for the
                  size that the model was made for
    tile_overlap  by how many pixels they overlap at least; a quarter of their smaller side unless given
    seamless      along which axes the picture can be laid beside itself: "x", "y" or "both"
    """

    tile: Any = None
    tile_overlap: Any = None
    seamless: Any = None

    @classmethod
    def taken_from(cls, options: dict[str, Any]) -> "CanvasOptions":
        """The options for the canvas, taken out of all of a call's."""
        return cls(**{name: options.pop(name) for name in NAMES if name in options})

    @classmethod
    def of(cls, recipe: Recipe) -> "CanvasOptions":
        """What a recipe's call asked for."""
        overlap = None if recipe.tile is None else recipe.tile_overlap
        return cls(tile=recipe.tile, tile_overlap=overlap, seamless=recipe.seamless)

    def on(self, request: Request, pipe: "StableDiffusionPipeline") -> Request:
        """The request with its canvas.

        Raises OptionError for what can't be, SizeError for a tile that can't be drawn or a side that can't wrap, UnsupportedError for a
        model that knows no wrapping.
        """
        canvas = Canvas(**self._windows(pipe), seamless=self._seamless(request, pipe))
        return replace(request, canvas=canvas)

    def _windows(self, pipe: "StableDiffusionPipeline") -> dict[str, Any]:
        if self.tile is None:
            if self.tile_overlap is not None:
                raise OptionError(
                    "tile_overlap says by how much tiles overlap, and there are none; pass tile=… as well"
                )
            return {}
        own = pipe.unet.config.sample_size * pipe.vae.scale
        side = own if self.tile == "model" else whole(self.tile)
        tile: Any = self.tile if side is None else (side, side)
        multiple = math.lcm(MULTIPLE, pipe.vae.scale)
        if isinstance(tile, str) or not isinstance(tile, list | tuple) or len(tile) != 2:
            raise OptionError(f'tile must be pixels of a side, (width, height), or "model", not {self.tile!r}')
        sides = [whole(given) for given in tile]
        if any(given is None or given < multiple or given % multiple for given in sides):
            raise SizeError(
                f"a tile's sides must be positive multiples of {multiple} pixels, not {tile[0]!r} and {tile[1]!r}"
            )
        width, height = (cast("int", given) for given in sides)
        least = min(width, height)
        overlap = least // 4 // multiple * multiple if self.tile_overlap is None else self.tile_overlap
        overlap = check_count("tile_overlap", overlap, least=0, most=least - multiple)
        if overlap % multiple:
            raise OptionError(f"tile_overlap must be a multiple of {multiple} pixels, not {overlap}")
        return {"tile": (width, height), "tile_overlap": overlap}

    def _seamless(self, request: Request, pipe: "StableDiffusionPipeline") -> Seamless | None:
        if self.seamless in (None, False):
            return None
        if self.seamless not in get_args(Seamless):
            raise OptionError(f"seamless must be one of {', '.join(get_args(Seamless))}, not {self.seamless!r}")
        if request.workflow is not None and request.workflow.box is not None:
            raise OptionError(
                "with padding_mask_crop only a part is painted, which does not wrap; leave out one of them"
            )
        check_wraps(self.seamless, pipe, request.width, request.height)
        return self.seamless


def check_wraps(seamless: Seamless, pipe: "StableDiffusionPipeline", width: int, height: int) -> None:
    """Raise SizeError for a side that can't wrap, UnsupportedError for a model that knows no wrapping."""
    network = unwrapped(pipe.unet)
    if not isinstance(network, UNet):
        raise UnsupportedError(f"a {type(network).__name__} can't draw seamless pictures; leave out seamless")
    # What is halved on the way down must meet itself at the seam.
    multiple = math.lcm(MULTIPLE, pipe.vae.scale * 2 ** (len(network.config.channels) - 1))
    for name, dim, side in (("width", -1, width), ("height", -2, height)):
        if dim in AXES[seamless] and side % multiple:
            near = max(multiple, round(side / multiple) * multiple)
            raise SizeError(
                f"to wrap, the {name} must be a multiple of {multiple} with this model, not {side}; try {near}"
            )


def canvas_of(request: Request) -> Canvas:
    """The request's canvas: a plain one where nothing is said."""
    return PLAIN if request.canvas is None else request.canvas
