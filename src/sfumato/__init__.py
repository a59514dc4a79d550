"""Sfumato: Stable Diffusion, built from its parts.

    from sfumato import StableDiffusionPipeline, bundled_model

    pipe = StableDiffusionPipeline.from_pretrained(bundled_model())
    pipe("a red apple, 3d style").images[0].save("apple.png")

Names are loaded when they are first used, so that `import sfumato` itself costs nothing.
"""

import re
from importlib import import_module
from typing import TYPE_CHECKING, Any

from sfumato.bundle import bundled_model
from sfumato.naming import loads_when_asked
from sfumato.version import __version__

if TYPE_CHECKING:
    from sfumato.images import image_grid
    from sfumato.pipeline import (
        AutoencoderKL,
        AutoPipelineForImage2Image,
        AutoPipelineForInpainting,
        AutoPipelineForText2Image,
        DiffusionPipeline,
        NSFWFilter,
        ReplayResult,
        StableDiffusionImg2ImgPipeline,
        StableDiffusionInpaintPipeline,
        StableDiffusionLatentUpscalePipeline,
        StableDiffusionPAGImg2ImgPipeline,
        StableDiffusionPAGInpaintPipeline,
        StableDiffusionPAGPipeline,
        StableDiffusionPipeline,
        StableDiffusionPipelineOutput,
        StableDiffusionUpscalePipeline,
        StableDiffusionXLImg2ImgPipeline,
        StableDiffusionXLInpaintPipeline,
        StableDiffusionXLPAGImg2ImgPipeline,
        StableDiffusionXLPAGInpaintPipeline,
        StableDiffusionXLPAGPipeline,
        StableDiffusionXLPipeline,
        hires_fix,
        tiled_upscale,
    )
    from sfumato.recipe import Recipe
    from sfumato.schedulers import (
        DDIMScheduler,
        DDPMScheduler,
        DEISMultistepScheduler,
        DPMSolverMultistepScheduler,
        DPMSolverSDEScheduler,
        DPMSolverSinglestepScheduler,
        EDMDPMSolverMultistepScheduler,
        EDMEulerScheduler,
        EulerAncestralDiscreteScheduler,
        EulerDiscreteScheduler,
        HeunDiscreteScheduler,
        KDiffusionScheduler,
        KDPM2AncestralDiscreteScheduler,
        KDPM2DiscreteScheduler,
        LCMScheduler,
        LMSDiscreteScheduler,
        PNDMScheduler,
        SASolverScheduler,
        TCDScheduler,
        UniPCMultistepScheduler,
    )

_HOMES = {
    "sfumato.images": ("image_grid",),
    "sfumato.pipeline": (
        "AutoPipelineForImage2Image",
        "AutoPipelineForInpainting",
        "AutoPipelineForText2Image",
        "AutoencoderKL",
        "DiffusionPipeline",
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
        "tiled_upscale",
    ),
    "sfumato.recipe": ("Recipe",),
    "sfumato.schedulers": (
        "DDIMScheduler",
        "DDPMScheduler",
        "DEISMultistepScheduler",
        "DPMSolverMultistepScheduler",
        "DPMSolverSDEScheduler",
        "DPMSolverSinglestepScheduler",
        "EDMDPMSolverMultistepScheduler",
        "EDMEulerScheduler",
        "EulerAncestralDiscreteScheduler",
        "EulerDiscreteScheduler",
        "HeunDiscreteScheduler",
        "KDPM2AncestralDiscreteScheduler",
        "KDPM2DiscreteScheduler",
        "KDiffusionScheduler",
        "LCMScheduler",
        "LMSDiscreteScheduler",
        "PNDMScheduler",
        "SASolverScheduler",
        "TCDScheduler",
        "UniPCMultistepScheduler",
    ),
}

__all__ = [
    "AutoPipelineForImage2Image",
    "AutoPipelineForInpainting",
    "AutoPipelineForText2Image",
    "AutoencoderKL",
    "DDIMScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSDEScheduler",
    "DPMSolverSinglestepScheduler",
    "DiffusionPipeline",
    "EDMDPMSolverMultistepScheduler",
    "EDMEulerScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "KDiffusionScheduler",
    "LCMScheduler",
    "LMSDiscreteScheduler",
    "NSFWFilter",
    "PNDMScheduler",
    "Recipe",
    "ReplayResult",
    "SASolverScheduler",
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
    "TCDScheduler",
    "UniPCMultistepScheduler",
    "__version__",
    "bundled_model",
    "hires_fix",
    "image_grid",
    "tiled_upscale",
]

_load = loads_when_asked(__name__, _HOMES)


def __getattr__(name: str) -> Any:
    if name in __all__:
        return _load(name)
    if re.search("Scheduler$|Pipeline|Model$|^Autoencoder|^CLIP", name):
        import_module("sfumato.pipeline.absent").refuse_name(name, __all__)
    raise AttributeError(f"module 'sfumato' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
