"""The pipeline: the engine with one customer, behind the field's public face."""

from sfumato.pipeline.output import StableDiffusionPipelineOutput
from sfumato.pipeline.pipeline import StableDiffusionPipeline
from sfumato.pipeline.replay import ReplayResult

__all__ = ["ReplayResult", "StableDiffusionPipeline", "StableDiffusionPipelineOutput"]
