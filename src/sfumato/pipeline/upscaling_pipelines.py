"""The names by which people call models that enlarge a picture."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from sfumato.adapters import ActiveAdapters
from sfumato.errors import UnsupportedError
from sfumato.models.clip_text import CLIPTextEncoder
from sfumato.models.unet import UNet
from sfumato.models.vae import AutoencoderKL
from sfumato.pipeline.beside import POOLED, Beside, Pair, take_beside
from sfumato.pipeline.conditioning import stacked
from sfumato.pipeline.loading import Kept, Opened
from sfumato.pipeline.parts import as_scheduler
from sfumato.pipeline.pipeline import StableDiffusionPipeline
from sfumato.pipeline.prompt_rows import Rows
from sfumato.pipeline.request import Request, Text, check_count
from sfumato.pipeline.wording import Given
from sfumato.recipe import Emphasis
from sfumato.schedulers import Scheduler, scheduler_from_config
from sfumato.text.tokenizer import Tokenizer
from sfumato.variants import UPSCALER, Make

WHOLE_PIXELS = 1024 * 1024
"""The largest picture that is decoded whole unless something else is said. Its widest layer, 256 channels of float32, takes a gigabyte;
that of one of 2048 × 2048 takes four, beside an attention over a quarter of a million latents."""


class StableDiffusionUpscalePipeline(StableDiffusionPipeline):
    """Enlarging a picture four times with the ×4 upscaler of Stable Diffusion.

        pipe = StableDiffusionUpscalePipeline.from_pretrained("stabilityai/stable-diffusion-x4-upscaler")
        image = pipe("a white cat", image=small).images[0]

    It is shown the small picture with a little noise in it, `noise_level` of `low_res_scheduler`, of which `max_noise_level` is the most.
    Pictures of more than WHOLE_PIXELS are decoded in tiles, unless `disable_vae_tiling()` was called.
    """

    _makes: ClassVar[tuple[Make, ...]] = ("upscaler",)

    def __init__(
        self,
        *,
        vae: AutoencoderKL,
        text_encoder: CLIPTextEncoder,
        tokenizer: Tokenizer,
        unet: UNet,
        low_res_scheduler: Scheduler,
        scheduler: Scheduler,
        safety_checker: Any = None,
        feature_extractor: Mapping[str, Any] | None = None,
        watermarker: None = None,
        max_noise_level: int = int(UPSCALER.options["max_noise_level"]),
        requires_safety_checker: bool = False,
        safety_mode: Any = "block",
    ) -> None:
        if watermarker is not None:
            raise UnsupportedError("invisible watermarks are not available; leave out watermarker")
        self._build(vae, unet, as_scheduler(scheduler), text_encoder=text_encoder, tokenizer=tokenizer)
        self._judged_by(safety_checker, feature_extractor, requires_safety_checker, safety_mode)
        most = check_count("max_noise_level", max_noise_level, least=0)
        self._kept = Kept({"max_noise_level": most}, dict(as_scheduler(low_res_scheduler).config))

    @classmethod
    def _arguments(cls, opened: Opened) -> dict[str, Any]:
        noise = opened.kept.low_res_scheduler or opened.family.low_res_scheduler or {}
        options = {name: value for name, value in opened.kept.options.items() if name == "max_noise_level"}
        return {**super()._arguments(opened), "low_res_scheduler": scheduler_from_config(noise), **options}

    @property
    def low_res_scheduler(self) -> Scheduler:
        """The noise schedule by which the small picture is made noisy. It comes with the model."""
        return scheduler_from_config(self._kept.low_res_scheduler or UPSCALER.low_res_scheduler or {})

    @low_res_scheduler.setter
    def low_res_scheduler(self, value: object) -> None:
        # A recipe names the model and not this, so it must not change under it.
        del value
        raise UnsupportedError(
            "low_res_scheduler comes with the model and stays; StableDiffusionUpscalePipeline(…, low_res_scheduler=…) makes another pipeline"
        )

    @property
    def components(self) -> dict[str, Any]:
        """Every part by name, as the constructor takes them."""
        return {**super().components, "low_res_scheduler": self.low_res_scheduler}

    def _options(self) -> dict[str, Any]:
        return {"max_noise_level": self._kept.options.get("max_noise_level", UPSCALER.options["max_noise_level"])}

    # The order of the arguments is diffusers', whose classes differ in it.
    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        prompt: str | list[str] | None = None,
        image: Any = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        noise_level: int | None = None,
        negative_prompt: str | list[str] | None = None,
        **options: Any,
    ) -> Any:
        """Enlarge `image`: a picture (PIL, array, tensor), or one for each prompt.

        `noise_level` (20) is how much noise is laid over it before it is read: with more, more is invented. Unset, steps and guidance are
        75 and 9. The size is four times the picture's, which is cut to a multiple of 4; where `height` and `width` say another, the
        picture is first brought to a quarter of that. The other options are those of `StableDiffusionPipeline`, and it raises as that.
        """
        return super().__call__(
            prompt,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            negative_prompt=negative_prompt,
            image=image,
            noise_level=noise_level,
            **options,
        )

    def enable_vae_tiling(self) -> None:
        """Decode large pictures in overlapping tiles, of whatever size they are."""
        super().enable_vae_tiling()
        self._tiled = None

    def disable_vae_tiling(self) -> None:
        """Decode pictures whole, of whatever size they are."""
        super().disable_vae_tiling()
        self._tiled = False

    def _draw(self, request: Request, *given: Any, **options: Any) -> Any:
        if self._tiled is None and request.height * request.width > WHOLE_PIXELS:
            self._tiled = True
            try:
                return super()._draw(request, *given, **options)
            finally:
                self._tiled = None
        return super()._draw(request, *given, **options)


class StableDiffusionLatentUpscalePipeline(StableDiffusionPipeline):
    """Enlarging a picture, or the latents of one, twice, with the latent upscaler of Stable Diffusion.

        latents = pipe("a red apple", output_type="latent").images
        upscaler = StableDiffusionLatentUpscalePipeline.from_pretrained("stabilityai/sd-x2-latent-upscaler")
        image = upscaler("a red apple", image=latents, guidance_scale=0).images[0]

    Beside the prompt it reads the pooled text, so embeddings come with their pooled ones.
    """

    _makes: ClassVar[tuple[Make, ...]] = ("latent-upscaler",)
    _also_told: ClassVar[tuple[str, ...]] = POOLED

    def __init__(
        self,
        *,
        vae: AutoencoderKL,
        text_encoder: CLIPTextEncoder,
        tokenizer: Tokenizer,
        unet: Any,
        scheduler: Scheduler,
        safety_checker: Any = None,
        feature_extractor: Mapping[str, Any] | None = None,
        requires_safety_checker: bool = False,
        safety_mode: Any = "block",
    ) -> None:
        self._build(vae, unet, as_scheduler(scheduler), text_encoder=text_encoder, tokenizer=tokenizer)
        self._judged_by(safety_checker, feature_extractor, requires_safety_checker, safety_mode)

    # The order of the arguments is diffusers', whose classes differ in it.
    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        prompt: str | list[str] | None = None,
        image: Any = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        negative_prompt: str | list[str] | None = None,
        **options: Any,
    ) -> Any:
        """Enlarge `image`: a picture (PIL, array, tensor), or latents as `output_type="latent"` gives them; one for all, or one for each.

        Unset, steps and guidance are 20 and 0, as its makers have them; at a guidance of 0 no prompt is read, which is said. The size is
        twice the picture's, cut to what the network can halve; where `height` and `width` say another, the picture is first brought to half
        of that. The other options are those of `StableDiffusionPipeline`, and it raises as that.
        """
        return super().__call__(
            prompt,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            negative_prompt=negative_prompt,
            image=image,
            **options,
        )

    def encode_prompt(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        prompt: str | list[str] | None,
        device: torch.device | str | None = None,
        do_classifier_free_guidance: bool = True,
        negative_prompt: str | list[str] | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        pooled_prompt_embeds: Tensor | None = None,
        negative_pooled_prompt_embeds: Tensor | None = None,
        emphasis: Emphasis = "none",
    ) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None]:
        """Embeddings as a call takes them: of prompts and negative prompts, `b tokens dim`, and the pooled ones of both, `b dim`.

        Without guidance the second and the fourth are None; `emphasis` as in `StableDiffusionPipeline`. Raises PromptError or OptionError for what can't be encoded.
        """
        told = {
            "pooled_prompt_embeds": pooled_prompt_embeds,
            "negative_pooled_prompt_embeds": negative_pooled_prompt_embeds,
        }
        given = (prompt_embeds, negative_prompt_embeds)
        rows, count = self._encoded(
            prompt, negative_prompt, given, 1, do_classifier_free_guidance, None, None, told, emphasis
        )
        device = self.device if device is None else device

        def side(name: str) -> tuple[Tensor, Tensor]:
            return stacked(rows, name, count).to(device), stacked(rows, name, count, with_pooled=True).to(device)

        context, pooled = side("cond")
        negative = side("uncond") if do_classifier_free_guidance else (None, None)
        return context, negative[0], pooled, negative[1]

    # -- the steps of a call -----------------------------------------------------------------------------------------

    def _rows(self, request: Request, embeds: Given, adapters: ActiveAdapters) -> tuple[list[Rows], list[str]]:
        """The rows of each text; without any guidance those of an empty one, as in diffusers, which is said where there was another."""
        if request.guidance_scale != 0:
            return super()._rows(request, embeds, adapters)
        texts = tuple(replace(text, prompt=None if text.prompt is None else "") for text in request.texts)
        rows, notes = super()._rows(replace(request, texts=texts), embeds, adapters)
        unread = any(text.prompt for text in request.texts)
        said = "at a guidance scale of 0 the latent upscaler reads no prompt; give 1 or more to have it read"
        return rows, [said, *notes] if unread else notes

    def _beside(
        self, texts: tuple[Text, ...], negative: Any, embeds: Given, beside: Mapping[str, Any], size: Pair
    ) -> tuple[tuple[Text, ...], Beside | None]:
        del negative
        told = take_beside(
            beside, embeds=embeds[0], negative_embeds=embeds[1], size=size, pooled_width=self.unet.config.context_dim,
            aesthetic=False, zeros=False,
        )  # fmt: skip
        return texts, told
