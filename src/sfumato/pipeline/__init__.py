"""The pipeline: the engine with one customer, behind the field's public face."""

from sfumato.pipeline.autoencoder import AutoencoderKL
from sfumato.pipeline.foreign import ForeignRecipe, recipe_from
from sfumato.pipeline.nsfw_filter import NSFWFilter
from sfumato.pipeline.output import StableDiffusionPipelineOutput
from sfumato.pipeline.pipeline import DiffusionPipeline, StableDiffusionPipeline
from sfumato.pipeline.replay import ReplayResult
from sfumato.pipeline.xl import StableDiffusionXLPipeline

__all__ = [
    "AutoencoderKL",
    "DiffusionPipeline",
    "ForeignRecipe",
    "NSFWFilter",
    "ReplayResult",
    "StableDiffusionPipeline",
    "StableDiffusionPipelineOutput",
    "StableDiffusionXLPipeline",
    "recipe_from",
]
