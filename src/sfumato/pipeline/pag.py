"""diffusers' names for pipelines with perturbed-attention guidance. All are the one pipeline; only the scale they assume differs."""

import os
from collections.abc import Sequence
from typing import Any, ClassVar, Self

from sfumato.pipeline.image_pipelines import (
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
)
from sfumato.pipeline.opening import Opening
from sfumato.pipeline.pipeline import StableDiffusionPipeline
from sfumato.pipeline.xl import StableDiffusionXLPipeline

Layers = str | Sequence[str]

MIDDLE = "mid"


class _Perturbing(StableDiffusionPipeline):
    """A pipeline whose calls have a `pag_scale` of 3 unless they say another. `pag_applied_layers` are as `set_pag_applied_layers` takes them."""

    _pag_scale: ClassVar[float] = 3.0

    def __init__(self, *, pag_applied_layers: Layers = MIDDLE, **parts: Any) -> None:
        super().__init__(**parts)
        self.set_pag_applied_layers(pag_applied_layers)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *,
        pag_applied_layers: Layers = MIDDLE,
        **options: Any,
    ) -> Self:
        """Open a model, as `StableDiffusionPipeline.from_pretrained` does."""
        return super().from_pretrained(pretrained_model_name_or_path, **options)._applying(pag_applied_layers)

    @classmethod
    def from_single_file(
        cls,
        pretrained_model_link_or_path: str | os.PathLike[str],
        *,
        pag_applied_layers: Layers = MIDDLE,
        **options: Any,
    ) -> Self:
        """Open a model in one file, as `StableDiffusionPipeline.from_single_file` does."""
        return super().from_single_file(pretrained_model_link_or_path, **options)._applying(pag_applied_layers)

    @classmethod
    def from_pipe(cls, pipeline: Opening, *, pag_applied_layers: Layers | None = None, **parts: Any) -> Self:
        """The model of another pipeline, drawing in this way; with its layers, unless others are given."""
        shared = super().from_pipe(pipeline, **parts)
        return shared if pag_applied_layers is None else shared._applying(pag_applied_layers)

    def _applying(self, layers: Layers) -> Self:
        self.set_pag_applied_layers(layers)
        return self


class StableDiffusionPAGPipeline(_Perturbing):
    """Text to image with perturbed-attention guidance.

    pipe = StableDiffusionPAGPipeline.from_pretrained("path/or/hub-id", pag_applied_layers=["mid"])
    image = pipe("a red apple", pag_scale=3.0).images[0]
    """


class StableDiffusionXLPAGPipeline(StableDiffusionPAGPipeline, StableDiffusionXLPipeline):
    """Text to image with perturbed-attention guidance, with a model of SDXL."""


class StableDiffusionPAGImg2ImgPipeline(_Perturbing, StableDiffusionImg2ImgPipeline):
    """Image to image with perturbed-attention guidance."""


class StableDiffusionXLPAGImg2ImgPipeline(StableDiffusionPAGImg2ImgPipeline, StableDiffusionXLImg2ImgPipeline):
    """Image to image with perturbed-attention guidance, with a model of SDXL."""


class StableDiffusionPAGInpaintPipeline(_Perturbing, StableDiffusionInpaintPipeline):
    """Painting a part of a picture anew with perturbed-attention guidance."""


class StableDiffusionXLPAGInpaintPipeline(StableDiffusionPAGInpaintPipeline, StableDiffusionXLInpaintPipeline):
    """Painting a part of a picture anew with perturbed-attention guidance, with a model of SDXL."""


# Subclasses, so that the model's family can decide on the class, as everywhere.
StableDiffusionPAGPipeline._others = (StableDiffusionXLPAGPipeline.__name__,)
StableDiffusionPAGImg2ImgPipeline._others = (StableDiffusionXLPAGImg2ImgPipeline.__name__,)
StableDiffusionPAGInpaintPipeline._others = (StableDiffusionXLPAGInpaintPipeline.__name__,)
