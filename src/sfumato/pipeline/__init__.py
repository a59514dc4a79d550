"""The pipeline: the engine with one customer, behind the field's public face. Names are loaded when they are first used."""

from typing import TYPE_CHECKING

from sfumato.naming import loads_when_asked

if TYPE_CHECKING:
    from sfumato.pipeline.autoencoder import AutoencoderKL
    from sfumato.pipeline.enlarging import hires_fix
    from sfumato.pipeline.foreign import ForeignRecipe, recipe_from
    from sfumato.pipeline.image_pipelines import (
        AutoPipelineForImage2Image,
        AutoPipelineForInpainting,
        AutoPipelineForText2Image,
        StableDiffusionImg2ImgPipeline,
        StableDiffusionInpaintPipeline,
        StableDiffusionXLImg2ImgPipeline,
        StableDiffusionXLInpaintPipeline,
    )
    from sfumato.pipeline.nsfw_filter import NSFWFilter
    from sfumato.pipeline.output import StableDiffusionPipelineOutput
    from sfumato.pipeline.pag import (
        StableDiffusionPAGImg2ImgPipeline,
        StableDiffusionPAGInpaintPipeline,
        StableDiffusionPAGPipeline,
        StableDiffusionXLPAGImg2ImgPipeline,
        StableDiffusionXLPAGInpaintPipeline,
        StableDiffusionXLPAGPipeline,
    )
    from sfumato.pipeline.pipeline import DiffusionPipeline, StableDiffusionPipeline
    from sfumato.pipeline.replay import ReplayResult
    from sfumato.pipeline.tiled_upscaling import tiled_upscale
    from sfumato.pipeline.upscaling_pipelines import (
        StableDiffusionLatentUpscalePipeline,
        StableDiffusionUpscalePipeline,
    )
    from sfumato.pipeline.xl import StableDiffusionXLPipeline

_HOMES = {
    "sfumato.pipeline.autoencoder": ("AutoencoderKL",),
    "sfumato.pipeline.enlarging": ("hires_fix",),
    "sfumato.pipeline.foreign": (
        "ForeignRecipe",
        "recipe_from",
    ),
    "sfumato.pipeline.image_pipelines": (
        "AutoPipelineForImage2Image",
        "AutoPipelineForInpainting",
        "AutoPipelineForText2Image",
        "StableDiffusionImg2ImgPipeline",
        "StableDiffusionInpaintPipeline",
        "StableDiffusionXLImg2ImgPipeline",
        "StableDiffusionXLInpaintPipeline",
    ),
    "sfumato.pipeline.nsfw_filter": ("NSFWFilter",),
    "sfumato.pipeline.output": ("StableDiffusionPipelineOutput",),
    "sfumato.pipeline.pag": (
        "StableDiffusionPAGImg2ImgPipeline",
        "StableDiffusionPAGInpaintPipeline",
        "StableDiffusionPAGPipeline",
        "StableDiffusionXLPAGImg2ImgPipeline",
        "StableDiffusionXLPAGInpaintPipeline",
        "StableDiffusionXLPAGPipeline",
    ),
    "sfumato.pipeline.pipeline": (
        "DiffusionPipeline",
        "StableDiffusionPipeline",
    ),
    "sfumato.pipeline.replay": ("ReplayResult",),
    "sfumato.pipeline.tiled_upscaling": ("tiled_upscale",),
    "sfumato.pipeline.upscaling_pipelines": (
        "StableDiffusionLatentUpscalePipeline",
        "StableDiffusionUpscalePipeline",
    ),
    "sfumato.pipeline.xl": ("StableDiffusionXLPipeline",),
}

__all__ = [
    "AutoPipelineForImage2Image",
    "AutoPipelineForInpainting",
    "AutoPipelineForText2Image",
    "AutoencoderKL",
    "DiffusionPipeline",
    "ForeignRecipe",
    "NSFWFilter",
    "ReplayResult",
    "StableDiffusionImg2ImgPipeline",
    "StableDiffusionInpaintPipeline",
    "StableDiffusionLatentUpscalePipeline",
    "StableDiffusionPAGImg2ImgPipeline",
    "StableDiffusionPAGInpaintPipeline",
    "StableDiffusionPAGPipeline",
    "StableDiffusionPipeline",
    "StableDiffusionPipelineOutput",
    "StableDiffusionUpscalePipeline",
    "StableDiffusionXLImg2ImgPipeline",
    "StableDiffusionXLInpaintPipeline",
    "StableDiffusionXLPAGImg2ImgPipeline",
    "StableDiffusionXLPAGInpaintPipeline",
    "StableDiffusionXLPAGPipeline",
    "StableDiffusionXLPipeline",
    "hires_fix",
    "recipe_from",
    "tiled_upscale",
]

__getattr__ = loads_when_asked(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted(__all__)
