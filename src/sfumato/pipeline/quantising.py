"""A pipeline whose U-Net is computed in int8: switched on and off, calibrated, recorded and made again."""

import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sfumato.errors import MissingFileError, OptionError, RecipeError, UnsupportedError

if TYPE_CHECKING:
    from sfumato.models.quantising import Quantisation
    from sfumato.models.unet import UNet
    from sfumato.pipeline.source import Source
    from sfumato.recipe import Recipe

SCALES = "int8.json"
"""What scales that come with a model are called; they lie beside the weights of its U-Net."""


class Quantising:
    """`quantize` and `dequantize`. Mixed into the pipeline, which owns the parts."""

    unet: "UNet"
    source: "Source"
    _settle_precision: Any

    def quantize(
        self,
        prompts: str | Sequence[str] | None = None,
        *,
        scales: str | os.PathLike[str] | None = None,
        keep: Sequence[str] = (),
        **settings: Any,
    ) -> "Quantisation":
        """Compute the U-Net's convolutions, linear layers and attention in int8 on a CPU from now on: faster, and close to the same picture.

        The scales of what goes into each layer come from drawing `prompts` once, with `settings` as a call takes them (`seeds`,
        `num_inference_steps` …), or from a file that `save_quantization` wrote; with neither, from the file `int8.json` beside the U-Net's
        weights, as the bundled model has it, or else from each input as it comes, which takes longer. `keep` leaves layers in float,
        by a part of their names ("products" for attention). Weights stay as they are: LoRA, saving and `dequantize` work as ever.

        Returns what the U-Net is now computed by. Raises UnsupportedError where int8 can't be computed, MissingFileError or ConfigError for
        a file that is not there or holds no scales, OptionError for scales of other weights.
        """
        from sfumato.models.int8 import check_supported
        from sfumato.models.quantising import fingerprint, quantise, without

        check_supported()
        if prompts is not None and scales is not None:
            raise OptionError("prompts take scales anew and a file holds them; leave one of the two out")
        if settings and prompts is None:
            raise OptionError(f"{next(iter(settings))} says how prompts are drawn, and there are none; pass prompts=…")
        self._settle_precision()
        check_placed(self.unet)
        if prompts is not None:
            made = self._calibrated([prompts] if isinstance(prompts, str) else list(prompts), settings)
        elif scales is not None:
            made = read_scales(Path(scales))
            if made.weights != fingerprint(self.unet):
                raise OptionError(
                    f"the scales in {os.fspath(scales)} were taken with other weights than the U-Net has; take them again, with "
                    "pipe.quantize(prompts=…)"
                )
        else:
            made = self._usual()
        made = without(made, keep)
        quantise(self.unet, made)
        return made

    def dequantize(self) -> None:
        """Compute the U-Net in float again, with the weights as they are."""
        from sfumato.models.quantising import dequantise

        dequantise(self.unet)

    def save_quantization(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the scales by which the U-Net is computed, as JSON. Raises OptionError where there are none, OutputError."""
        from sfumato.files import write_whole
        from sfumato.models.quantising import quantisation_of

        made = quantisation_of(self.unet)
        if made is None or made.weights is None:
            raise OptionError("there are no scales to save; take them first, with pipe.quantize(prompts=…)")
        write_whole(Path(path), made.to_json().encode(), overwrite=overwrite)

    def _usual(self) -> "Quantisation":
        """The scales that come with the model, if they are for these weights; else none."""
        from sfumato.models.quantising import dynamic, fingerprint

        beside = self._scales_beside()
        if beside is not None and beside.is_file():
            made = read_scales(beside)
            if made.weights == fingerprint(self.unet):
                return made
        return dynamic(self.unet)

    def _scales_beside(self) -> Path | None:
        """Where scales that come with the model would lie; None for a model that is in no folder."""
        files = self.source.origin.files
        return None if files is None or not files.folder.is_dir() else files.folder / "unet" / SCALES

    def _calibrated(self, prompts: Sequence[str], settings: dict[str, Any]) -> "Quantisation":
        from sfumato.models.quantising import Quantisation, attentions_of, fingerprint, observing

        if not prompts:
            raise OptionError("there are no prompts to take scales from; give some of those that will be drawn")
        if not {"seeds", "generator"} & settings.keys():
            settings = {**settings, "seeds": [0]}  # the same scales each time, and torch's own generator left as it was
        with observing(self.unet) as taken:
            for prompt in prompts:  # one at a time: as it will be drawn, and in no more memory
                self(prompt, output_type="latent", **settings)  # pyright: ignore[reportCallIssue] - the pipeline is called
        products = frozenset(attentions_of(self.unet))
        return Quantisation(layers=taken, products=products, weights=fingerprint(self.unet), prompts=len(prompts))

    def _int8_notes(self) -> list[str]:
        """What has to be said of a picture that is about to be drawn. Raises UnsupportedError where the U-Net is in int8 and can't be."""
        from sfumato import native
        from sfumato.models.quantising import fingerprint, quantisation_of

        made = quantisation_of(self.unet)
        if made is None:
            return []
        check_placed(self.unet)
        how = f"scales from {made.prompts} prompts" if made.weights else "scales taken from each input"
        notes = [f"the U-Net is computed in int8 ({how}), which comes close to the picture of float32 and is not it"]
        if made.products and (why := native.why_not_in_bytes()) is not None:
            notes.append(f"its attention is computed in float32, which takes longer: {why}")
        if made.weights not in (None, fingerprint(self.unet)):
            notes.append(
                "the int8 scales were taken with other weights than the U-Net has now, which may go beyond them; "
                "pipe.quantize(prompts=…) takes them again"
            )
        return notes

    @contextmanager
    def _int8_of(self, recipe: "Recipe") -> Generator[None]:
        """Inside the block, the U-Net is computed as the recipe says. Raises RecipeError for scales that are not at hand."""
        from sfumato.models.quantising import quantisation_of

        before = quantisation_of(self.unet)
        wanted = self._wanted(recipe, before)
        if wanted is before:
            yield
            return
        try:
            _computed_by(self.unet, wanted)
            yield
        finally:
            _computed_by(self.unet, before)

    def _wanted(self, recipe: "Recipe", now: "Quantisation | None") -> "Quantisation | None":
        from sfumato.models.int8 import check_supported
        from sfumato.models.quantising import dynamic, possible, without

        if recipe.int8 is None:
            return None
        check_supported()
        check_placed(self.unet)
        for made in (*(() if now is None else (now,)), self._usual(), dynamic(self.unet)):
            # As they are, and as they were computed where there was no kernel for products.
            for each in (made, without(made, ["products"]) if made.products else made):
                if recipe.int8 in (each.name, possible(each).name):
                    return each
        raise RecipeError(
            f"this image was drawn in int8 by scales ({recipe.int8}) that are not at hand; call "
            "pipe.quantize(scales=FILE) with the file that holds them (sfumato replay: --int8-scales FILE), and with the same keep=… if some "
            "layers were left in float"
        )


def _computed_by(unet: "UNet", quantisation: "Quantisation | None") -> None:
    from sfumato.models.quantising import dequantise, quantise

    if quantisation is None:
        dequantise(unet)
    else:
        quantise(unet, quantisation)


def check_placed(unet: "UNet") -> None:
    """Raise UnsupportedError unless the U-Net is where int8 can be computed: on a CPU, in float32, not compiled."""
    from sfumato.models.quantising import layers_of

    layers_of(unet)
    if unet.device.type != "cpu" or unet.dtype != torch.float32:
        raise UnsupportedError(
            f"int8 is computed on a CPU beside float32, and the U-Net is {unet.dtype} on {unet.device.type}".replace(
                "torch.", ""
            )
            + '; move it, by pipe.to("cpu", torch.float32) or --device cpu, or leave int8 out (pipe.dequantize())'
        )


def read_scales(path: Path) -> "Quantisation":
    """The scales in a file. Raises MissingFileError, or ConfigError for what holds none."""
    from sfumato.models.quantising import Quantisation

    try:
        return Quantisation.from_json(path.read_bytes(), str(path))
    except OSError as error:
        raise MissingFileError(
            f"{path} can't be read ({error.strerror}); give a file that save_quantization wrote"
        ) from error
