"""The names by which people call a pipeline that begins from a picture. All are the one pipeline; only what they need and assume differs."""

import os
from importlib import import_module
from typing import Any, ClassVar, NoReturn

from sfumato.errors import UnsupportedError, UsageError
from sfumato.pipeline.pipeline import StableDiffusionPipeline
from sfumato.pipeline.workflow import STRENGTH
from sfumato.pipeline.xl import StableDiffusionXLPipeline


class StableDiffusionImg2ImgPipeline(StableDiffusionPipeline):
    """Image to image: a picture drawn over, as far as `strength` says.

    pipe = StableDiffusionImg2ImgPipeline.from_pretrained("path/or/hub-id")
    image = pipe("a red apple", image=Image.open("sketch.png"), strength=0.6).images[0]
    """

    _strength: ClassVar[float] = STRENGTH

    # The order of the arguments is diffusers', whose classes differ in it.
    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        prompt: str | list[str] | None = None,
        image: Any = None,
        strength: float | None = None,
        num_inference_steps: int | None = None,
        **options: Any,
    ) -> Any:
        """Draw over `image`: a picture (PIL, array, tensor), or latents; one for all, or one for each.

        `strength` is the share of the steps that are taken: near 0 hardly anything changes, at 1 hardly anything is left. The size is the
        picture's own, cut to a multiple of 8, unless `height` and `width` say another; `resize_mode` is then "resize", "crop" or "fill".
        The other options are those of `StableDiffusionPipeline`. Raises UsageError where there is no image, and as that.
        """
        _need(self, image=image)
        options["strength"] = _strength(self, strength, options)
        return super().__call__(prompt, num_inference_steps=num_inference_steps, image=image, **options)


class StableDiffusionXLImg2ImgPipeline(StableDiffusionImg2ImgPipeline, StableDiffusionXLPipeline):
    """Image to image with a model of SDXL; its refiner goes on from another's latents: `image=latents, denoising_start=0.8`."""

    _strength: ClassVar[float] = 0.3

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        prompt: str | list[str] | None = None,
        prompt_2: str | list[str] | None = None,
        image: Any = None,
        strength: float | None = None,
        num_inference_steps: int | None = None,
        **options: Any,
    ) -> Any:
        """Draw over `image`, as `StableDiffusionImg2ImgPipeline` does, with the options of `StableDiffusionXLPipeline`.

        `denoising_start` is the share of the noise schedule that another model has been through already, with `denoising_end`.
        """
        return super().__call__(prompt, image, strength, num_inference_steps, prompt_2=prompt_2, **options)


class StableDiffusionInpaintPipeline(StableDiffusionPipeline):
    """Painting a part of a picture anew, with any model: those made for it, which read picture and mask, and all others.

    pipe = StableDiffusionInpaintPipeline.from_pretrained("path/or/hub-id")
    image = pipe("a hat", image=photo, mask_image=mask, paste_back=True).images[0]
    """

    _strength: ClassVar[float] = 1.0

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        prompt: str | list[str] | None = None,
        image: Any = None,
        mask_image: Any = None,
        masked_image_latents: None = None,
        height: int | None = None,
        width: int | None = None,
        padding_mask_crop: int | None = None,
        strength: float | None = None,
        num_inference_steps: int | None = None,
        **options: Any,
    ) -> Any:
        """Paint anew what is white in `mask_image`. Sizes are the model's own unless given, as in diffusers.

        `padding_mask_crop` paints the masked part alone, with so many pixels around it, at the full size, and pastes it back; `paste_back`
        lays the picture back without that: where the mask is black, no pixel changes. `mask_blur` softens the mask's edge, `soft_mask` paints what
        is grey in part, and `mask_content` is what lies under the mask at first: "original", "fill" (its surroundings), "noise", "nothing".
        The other options are those of `StableDiffusionPipeline`. Raises UsageError where picture or mask is missing, and as that.
        """
        _need(self, image=image, mask_image=mask_image)
        if masked_image_latents is not None:
            raise UnsupportedError("masked_image_latents are made of image and mask_image here; leave them out")
        own = self.unet.config.sample_size * self.vae.scale
        return super().__call__(
            prompt,
            height=own if height is None else height,
            width=own if width is None else width,
            num_inference_steps=num_inference_steps,
            image=image,
            mask_image=mask_image,
            padding_mask_crop=padding_mask_crop,
            strength=self._strength if strength is None else strength,
            **options,
        )


class StableDiffusionXLInpaintPipeline(StableDiffusionInpaintPipeline, StableDiffusionXLPipeline):
    """Painting a part of a picture anew, with a model of SDXL."""

    _strength: ClassVar[float] = 0.9999

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        prompt: str | list[str] | None = None,
        prompt_2: str | list[str] | None = None,
        image: Any = None,
        mask_image: Any = None,
        masked_image_latents: None = None,
        **options: Any,
    ) -> Any:
        """Paint anew what is white in `mask_image`, as `StableDiffusionInpaintPipeline`, with the options of `StableDiffusionXLPipeline`."""
        return super().__call__(prompt, image, mask_image, masked_image_latents, prompt_2=prompt_2, **options)


StableDiffusionImg2ImgPipeline._others = (StableDiffusionXLImg2ImgPipeline.__name__,)
StableDiffusionInpaintPipeline._others = (StableDiffusionXLInpaintPipeline.__name__,)


class _Auto:
    """A name that stands for the class that a model's family decides on. Not made by itself."""

    _kind: ClassVar[type[StableDiffusionPipeline]]
    _perturbing: ClassVar[str]
    """The same with perturbed-attention guidance, by its name in `sfumato.pipeline`: loaded when it is asked for."""

    def __init__(self) -> None:
        self._refuse()

    def _refuse(self) -> NoReturn:
        name = type(self).__name__
        raise UsageError(f"{name} is not made by itself; {name}.from_pretrained(…) or .from_pipe(…) gives a pipeline")

    @classmethod
    def from_pretrained(
        cls, pretrained_model_or_path: str | os.PathLike[str], *, enable_pag: bool = False, **options: Any
    ) -> StableDiffusionPipeline:
        """The pipeline for a model folder, hub id or file, as its own class's `from_pretrained`."""
        return cls._class(perturbing=enable_pag).from_pretrained(pretrained_model_or_path, **options)

    @classmethod
    def from_pipe(
        cls, pipeline: StableDiffusionPipeline, *, enable_pag: bool | None = None, **parts: Any
    ) -> StableDiffusionPipeline:
        """The same model, drawing in this way; see `StableDiffusionPipeline.from_pipe`. With perturbed-attention guidance if it had that."""
        keeps = pipeline._pag_scale > 0 if enable_pag is None else enable_pag
        return cls._class(perturbing=keeps).from_pipe(pipeline, **parts)

    @classmethod
    def _class(cls, *, perturbing: bool) -> type[StableDiffusionPipeline]:
        return getattr(import_module("sfumato.pipeline"), cls._perturbing) if perturbing else cls._kind


class AutoPipelineForText2Image(_Auto):
    """Pipelines that draw from words."""

    _kind = StableDiffusionPipeline
    _perturbing = "StableDiffusionPAGPipeline"


class AutoPipelineForImage2Image(_Auto):
    """Pipelines that draw over a picture."""

    _kind = StableDiffusionImg2ImgPipeline
    _perturbing = "StableDiffusionPAGImg2ImgPipeline"


class AutoPipelineForInpainting(_Auto):
    """Pipelines that paint a part of a picture anew."""

    _kind = StableDiffusionInpaintPipeline
    _perturbing = "StableDiffusionPAGInpaintPipeline"


def _need(pipe: StableDiffusionPipeline, **given: Any) -> None:
    if absent := [name for name, value in given.items() if value is None]:
        raise UsageError(
            f"{type(pipe).__name__} begins from a picture; pass {' and '.join(f'{name}=…' for name in absent)}"
        )


def _strength(pipe: StableDiffusionImg2ImgPipeline, strength: float | None, options: dict[str, Any]) -> float | None:
    """The strength of a call; none where another model has left the picture at a level of its own, or it is edited as a whole."""
    if strength is not None or options.get("denoising_start") is not None or pipe.unet.config.in_channels == 8:
        return strength
    return pipe._strength
