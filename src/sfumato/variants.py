"""The families of Stable Diffusion models, as data: sizes of the networks, text encoders, schedule, and what each needs to draw.

The word is *family*, because `variant` already says which weights of a model are meant ("fp16"). Families differ by `replace`.
Sizes are those of the released models; a smaller model of the same make belongs to the same family.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

from sfumato.diffusion.prediction import PredictionType
from sfumato.errors import ConfigError
from sfumato.models import AnyUNetConfig, CLIPTextConfig, LatentUpscalerConfig, UNetConfig, VAEConfig
from sfumato.text.vocabulary import END_TOKEN

Make = Literal["sd1", "sd2", "sdxl", "refiner", "upscaler", "latent-upscaler"]
"""How a U-Net is built, whatever it reads beside the latents."""

PAD_OPENCLIP = "!"
"""OpenCLIP fills a prompt up with id 0, which is the letter "!" of CLIP's vocabulary."""

LATENT_SCHEDULE: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "steps_offset": 1,
}
PNDM = {"_class_name": "PNDMScheduler", "skip_prk_steps": True, "set_alpha_to_one": False, **LATENT_SCHEDULE}
DDIM = {"_class_name": "DDIMScheduler", "clip_sample": False, "set_alpha_to_one": False, **LATENT_SCHEDULE}
NOISY_PICTURE = {
    "_class_name": "DDPMScheduler",
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
}
EULER = {"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "leading", **LATENT_SCHEDULE}


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """What all models of one family have in common.

    name, title          for options, and for people
    make                 how its U-Net is built
    unet, vae            sizes of the released networks
    text_encoder         and text_encoder_2: None where the family hasn't that one
    open_clip            which of the two are OpenCLIP's, and named by it in single files
    head_width           channels of one attention head; None where the number of heads is fixed instead
    padding              what each tokenizer fills a prompt up with
    scheduler            the config that its models come with
    size                 height and width, in pixels, of the pictures it was trained on
    pipeline             the class by which diffusers opens it
    needs                what it needs beside a prompt, in words; empty if nothing
    steps, guidance      what its makers recommend
    options              of its pipeline, as an index names them, and their defaults
    low_res_scheduler    the config of the schedule by which the upscaler makes its picture noisy
    """

    name: str
    title: str
    make: Make
    unet: AnyUNetConfig = field(repr=False)
    vae: VAEConfig = field(repr=False)
    text_encoder: CLIPTextConfig | None = field(repr=False)
    text_encoder_2: CLIPTextConfig | None = field(default=None, repr=False)
    open_clip: tuple[str, ...] = ()
    head_width: int | None = None
    padding: Mapping[str, str] = field(repr=False)
    scheduler: Mapping[str, Any] = field(repr=False)
    size: int = 512
    pipeline: str
    needs: str = ""
    steps: int = 50
    guidance: float = 7.5
    options: Mapping[str, bool | int] = field(repr=False)
    low_res_scheduler: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def zeros_for_empty(self) -> bool:
        """Whether no negative prompt is a text of zeros, instead of an empty text."""
        return bool(self.options.get("force_zeros_for_empty_prompt", False))

    @property
    def aesthetic(self) -> bool:
        """Whether the fifth number that the U-Net is told is an aesthetic score, instead of the size wanted."""
        return bool(self.options.get("requires_aesthetics_score", False))

    @property
    def prediction(self) -> PredictionType:
        """What the U-Net predicts."""
        said = self.scheduler.get("prediction_type", "epsilon")
        # The older name of it, which the latent upscaler's config has kept.
        return cast("PredictionType", "sample" if said == "original_sample" else said)

    @property
    def text_encoders(self) -> dict[str, CLIPTextConfig]:
        """Its text encoders by the names they have in a folder."""
        both = {"text_encoder": self.text_encoder, "text_encoder_2": self.text_encoder_2}
        return {name: config for name, config in both.items() if config is not None}

    def heads(self, channels: tuple[int, ...]) -> tuple[int, ...]:
        """Heads of attention by level, for a U-Net of this family with these channels. Raises ConfigError where they don't divide."""
        rule = f"{self.unet.heads[0]} heads" if self.head_width is None else f"heads {self.head_width} wide"
        divisor = self.unet.heads[0] if self.head_width is None else self.head_width
        if any(width % divisor for width in channels):
            raise ConfigError(f"{self.title} has {rule}, which don't divide a U-Net of {list(channels)} channels")
        return tuple(divisor if self.head_width is None else width // divisor for width in channels)


# -- text to image ---------------------------------------------------------------------------------------------------

SD1 = Family(
    name="sd1",
    title="Stable Diffusion 1",
    make="sd1",
    unet=UNetConfig(),
    vae=VAEConfig(),
    text_encoder=CLIPTextConfig(),
    padding={"tokenizer": END_TOKEN},
    scheduler=PNDM | {"prediction_type": "epsilon"},
    pipeline="StableDiffusionPipeline",
    options={"requires_safety_checker": False},
)

# OpenCLIP ViT-H/14 has 24 layers, of which SD 2 reads the last but one.
OPENCLIP_H = CLIPTextConfig(width=1024, layers=23, heads=16, mlp_width=4096, activation="gelu")
OPENCLIP_H_LAYERS = 24

SD2 = replace(
    SD1,
    name="sd2",
    title="Stable Diffusion 2, base",
    make="sd2",
    unet=replace(SD1.unet, heads=(5, 10, 20, 20), context_dim=1024, linear_projection=True),
    text_encoder=OPENCLIP_H,
    open_clip=("text_encoder",),
    head_width=64,
    padding={"tokenizer": PAD_OPENCLIP},
)
SD2_V = replace(
    SD2,
    name="sd2-v",
    title="Stable Diffusion 2, 768",
    unet=replace(SD2.unet, sample_size=96),
    vae=replace(SD2.vae, sample_size=768),
    scheduler=DDIM | {"prediction_type": "v_prediction"},
    size=768,
)

SDXL = Family(
    name="sdxl",
    title="Stable Diffusion XL",
    make="sdxl",
    unet=UNetConfig(
        channels=(320, 640, 1280),
        attention=(False, True, True),
        heads=(5, 10, 20),
        depth=(1, 2, 10),
        context_dim=2048,
        linear_projection=True,
        sample_size=128,
        sizes_width=2816,
    ),
    vae=replace(SD1.vae, scaling_factor=0.13025, sample_size=1024),
    text_encoder=SD1.text_encoder,
    # OpenCLIP ViT-bigG/14.
    text_encoder_2=CLIPTextConfig(
        width=1280, layers=32, heads=20, mlp_width=5120, activation="gelu", projection_dim=1280
    ),
    open_clip=("text_encoder_2",),
    head_width=64,
    padding={"tokenizer": END_TOKEN, "tokenizer_2": PAD_OPENCLIP},
    scheduler=EULER | {"prediction_type": "epsilon"},
    size=1024,
    pipeline="StableDiffusionXLPipeline",
    guidance=5.0,
    options={"force_zeros_for_empty_prompt": True},
)
REFINER = replace(
    SDXL,
    name="sdxl-refiner",
    title="Stable Diffusion XL, refiner",
    make="refiner",
    unet=replace(
        SDXL.unet,
        channels=(384, 768, 1536, 1536),
        attention=(False, True, True, False),
        heads=(6, 12, 24, 24),
        depth=(4, 4, 4, 4),
        only_cross=(),
        context_dim=1280,
        sizes_width=2560,
    ),
    text_encoder=None,
    padding={"tokenizer_2": PAD_OPENCLIP},
    pipeline="StableDiffusionXLImg2ImgPipeline",
    options={"force_zeros_for_empty_prompt": False, "requires_aesthetics_score": True},
)

# -- few steps -------------------------------------------------------------------------------------------------------

SD_TURBO = replace(
    SD2,
    name="sd-turbo",
    title="Stable Diffusion Turbo, few steps",
    scheduler=EULER | {"timestep_spacing": "trailing", "prediction_type": "epsilon"},
    steps=1,
    guidance=0.0,
)
SDXL_TURBO = replace(
    SDXL,
    name="sdxl-turbo",
    title="Stable Diffusion XL, few steps",
    unet=replace(SDXL.unet, sample_size=64),
    scheduler=EULER
    | {"_class_name": "EulerAncestralDiscreteScheduler", "timestep_spacing": "trailing", "prediction_type": "epsilon"},
    size=512,
    steps=1,
    guidance=0.0,
)
LCM = replace(
    SD1,
    name="lcm",
    title="Latent Consistency Model of Stable Diffusion 1, few steps",
    unet=replace(SD1.unet, guidance_width=256),
    scheduler=DDIM | {"_class_name": "LCMScheduler", "original_inference_steps": 50, "prediction_type": "epsilon"},
    size=768,
    pipeline="LatentConsistencyModelPipeline",
    steps=4,
    guidance=8.5,
)
LCM_SDXL = replace(
    SDXL,
    name="lcm-sdxl",
    title="Latent Consistency Model of Stable Diffusion XL, few steps",
    unet=replace(SDXL.unet, guidance_width=256),
    scheduler=LCM.scheduler,
    steps=4,
    guidance=8.0,
)

# -- those that need a picture ---------------------------------------------------------------------------------------

MASKED = "a picture and a mask of what to paint anew"
INSTRUCTED = "a picture to change as the prompt says"
ENLARGED = "a picture to enlarge"

SD1_INPAINT = replace(
    SD1,
    name="sd1-inpaint",
    title="Stable Diffusion 1, inpainting",
    unet=replace(SD1.unet, in_channels=9),
    pipeline="StableDiffusionInpaintPipeline",
    needs=MASKED,
)
SD2_INPAINT = replace(
    SD2,
    name="sd2-inpaint",
    title="Stable Diffusion 2, inpainting",
    unet=replace(SD2.unet, in_channels=9),
    pipeline="StableDiffusionInpaintPipeline",
    needs=MASKED,
)
SDXL_INPAINT = replace(
    SDXL,
    name="sdxl-inpaint",
    title="Stable Diffusion XL, inpainting",
    unet=replace(SDXL.unet, in_channels=9),
    pipeline="StableDiffusionXLInpaintPipeline",
    options={"force_zeros_for_empty_prompt": True, "requires_aesthetics_score": False},
    needs=MASKED,
)
INSTRUCT = replace(
    SD1,
    name="instruct-pix2pix",
    title="InstructPix2Pix",
    unet=replace(SD1.unet, in_channels=8),
    pipeline="StableDiffusionInstructPix2PixPipeline",
    needs=INSTRUCTED,
    steps=100,
)
SDXL_INSTRUCT = replace(
    SDXL,
    name="sdxl-instruct-pix2pix",
    title="InstructPix2Pix of Stable Diffusion XL",
    unet=replace(SDXL.unet, in_channels=8, sample_size=96),
    size=768,
    pipeline="StableDiffusionXLInstructPix2PixPipeline",
    needs=INSTRUCTED,
)
DEPTH = replace(
    SD2,
    name="sd2-depth",
    title="Stable Diffusion 2, depth",
    unet=replace(SD2.unet, in_channels=5),
    pipeline="StableDiffusionDepth2ImgPipeline",
    options={},
    needs="a depth map, or a picture to estimate one from",
)
UPSCALER = replace(
    SD2,
    name="x4-upscaler",
    title="Stable Diffusion ×4 upscaler",
    make="upscaler",
    unet=UNetConfig(
        in_channels=7,
        channels=(256, 512, 512, 1024),
        attention=(False, True, True, True),
        heads=(8, 8, 8, 8),
        context_dim=1024,
        linear_projection=True,
        sample_size=128,
        only_cross=(True, True, True, False),
        noise_levels=1000,
    ),
    vae=replace(SD1.vae, channels=(128, 256, 512), scaling_factor=0.08333, sample_size=256),
    head_width=None,
    scheduler=DDIM | {"beta_start": 0.0001, "beta_end": 0.02, "prediction_type": "v_prediction"},
    pipeline="StableDiffusionUpscalePipeline",
    options={"max_noise_level": 350},
    low_res_scheduler=NOISY_PICTURE,
    needs=ENLARGED,
    steps=75,
    guidance=9.0,
)
LATENT_UPSCALER = replace(
    SD1,
    name="x2-latent-upscaler",
    title="Stable Diffusion latent ×2 upscaler",
    make="latent-upscaler",
    unet=LatentUpscalerConfig(),
    head_width=64,
    scheduler={"_class_name": "EulerDiscreteScheduler", "prediction_type": "original_sample", **LATENT_SCHEDULE},
    size=1024,
    pipeline="StableDiffusionLatentUpscalePipeline",
    options={},
    needs=ENLARGED,
    steps=20,
    guidance=0.0,
)

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        SD1, SD1_INPAINT, INSTRUCT, LCM,
        SD2, SD2_V, SD_TURBO, SD2_INPAINT, DEPTH, UPSCALER, LATENT_UPSCALER,
        SDXL, SDXL_TURBO, LCM_SDXL, SDXL_INPAINT, SDXL_INSTRUCT, REFINER,
    )
}  # fmt: skip
