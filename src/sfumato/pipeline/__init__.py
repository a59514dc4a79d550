"""The pipeline: the engine with one customer, behind the field's public face."""

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
from sfumato.pipeline.xl import StableDiffusionXLPipeline

# Last: each adds itself to the classes that StableDiffusionPipeline opens, in this order.
from sfumato.pipeline.upscaling_pipelines import (  # isort: skip
    StableDiffusionLatentUpscalePipeline,
    StableDiffusionUpscalePipeline,
)

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
