"""Models of SDXL: two text encoders, and a network that is told a pooled text and the sizes of pictures."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from sfumato.errors import PromptError, UnsupportedError
from sfumato.models.clip_text import CLIPTextEncoder
from sfumato.models.safety_checker import SafetyChecker
from sfumato.models.unet import UNet
from sfumato.models.vae import AutoencoderKL
from sfumato.pipeline.beside import OPTIONS, PROMPTS, ZEROS, Beside, Pair, second_texts, take_beside, told_again
from sfumato.pipeline.conditioning import stacked
from sfumato.pipeline.loading import Opened
from sfumato.pipeline.nsfw_filter import NSFWFilter
from sfumato.pipeline.parts import as_scheduler
from sfumato.pipeline.pipeline import StableDiffusionPipeline
from sfumato.pipeline.request import Text
from sfumato.pipeline.wording import Given
from sfumato.recipe import Emphasis, Recipe, SafetyMode
from sfumato.schedulers import Scheduler
from sfumato.text.tokenizer import Tokenizer
from sfumato.variants import Make

logger = logging.getLogger("sfumato")


class StableDiffusionXLPipeline(StableDiffusionPipeline):
    """Text to image with a checkpoint of Stable Diffusion XL: the base model, its distillations to few steps, or the refiner.

        pipe = StableDiffusionXLPipeline.from_single_file("sd_xl_base_1.0.safetensors").to("cuda", torch.float16)
        image = pipe("a red apple", negative_prompt="blurry").images[0]

    Beside the parts of a StableDiffusionPipeline it has `text_encoder_2` and `tokenizer_2`; the refiner has these alone.
    `force_zeros_for_empty_prompt`: where no negative prompt is given, it is a text of zeros, and not an empty one.
    The refiner draws from text as the base does, told an aesthetic score instead of the size wanted. It takes over what the base has begun
    where the base is given `denoising_end=0.8, output_type="latent"`, and it `image=latents, denoising_start=0.8`.
    Source: Podell et al. 2023, arXiv:2307.01952.
    """

    _makes: ClassVar[tuple[Make, ...]] = ("sdxl", "refiner")
    _optional = ("text_encoder", "tokenizer")
    _early: ClassVar[bool] = True
    _also_told: ClassVar[tuple[str, ...]] = OPTIONS

    force_zeros_for_empty_prompt: bool

    def __init__(
        self,
        *,
        vae: AutoencoderKL,
        text_encoder: CLIPTextEncoder | None,
        text_encoder_2: CLIPTextEncoder,
        tokenizer: Tokenizer | None,
        tokenizer_2: Tokenizer,
        unet: UNet,
        scheduler: Scheduler,
        image_encoder: None = None,
        feature_extractor: Mapping[str, Any] | None = None,
        force_zeros_for_empty_prompt: bool = True,
        add_watermarker: bool | None = None,
        safety_checker: SafetyChecker | NSFWFilter | Callable[..., Any] | None = None,
        requires_safety_checker: bool = False,
        safety_mode: SafetyMode = "block",
    ) -> None:
        if image_encoder is not None or add_watermarker:
            raise UnsupportedError(
                "image prompt adapters and invisible watermarks are not available; leave out image_encoder and add_watermarker"
            )
        words = {"text_encoder": text_encoder, "text_encoder_2": text_encoder_2}
        words |= {"tokenizer": tokenizer, "tokenizer_2": tokenizer_2}
        self._build(vae, unet, as_scheduler(scheduler), **words)
        self._judged_by(safety_checker, feature_extractor, requires_safety_checker, safety_mode)
        self.force_zeros_for_empty_prompt = bool(force_zeros_for_empty_prompt)

    @classmethod
    def _arguments(cls, opened: Opened) -> dict[str, Any]:
        zeros = opened.kept.options.get("force_zeros_for_empty_prompt", opened.family.zeros_for_empty)
        return {**opened.parts, "force_zeros_for_empty_prompt": zeros}

    def _options(self) -> dict[str, Any]:
        return {
            "force_zeros_for_empty_prompt": self.force_zeros_for_empty_prompt,
            "requires_aesthetics_score": self.family.aesthetic,
        }

    # The order of the arguments is diffusers', whose two classes differ in it.
    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        prompt: str | list[str] | None = None,
        prompt_2: str | list[str] | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int | None = None,
        *,
        negative_prompt: str | list[str] | None = None,
        negative_prompt_2: str | list[str] | None = None,
        pooled_prompt_embeds: Tensor | None = None,
        negative_pooled_prompt_embeds: Tensor | None = None,
        original_size: Pair | None = None,
        crops_coords_top_left: Pair = (0, 0),
        target_size: Pair | None = None,
        negative_original_size: Pair | None = None,
        negative_crops_coords_top_left: Pair = (0, 0),
        negative_target_size: Pair | None = None,
        aesthetic_score: float | None = None,
        negative_aesthetic_score: float | None = None,
        **options: Any,
    ) -> Any:
        """Draw pictures, as `StableDiffusionPipeline` does and with its options, and these:

        `prompt_2` and `negative_prompt_2` are for the second text encoder, which otherwise reads what the first reads; with `emphasis`
        each has its own markup, and as many parts as the first or one. Embeddings come with their pooled ones. Sizes and crops are height and width, or top and left, in pixels, of the
        picture as its training would have said them: `original_size` of the picture it was cut from, `target_size` of the one wanted,
        both the picture's own unless given. Those of the negative side are used where both its sizes are given, as in diffusers. The
        aesthetic scores, 0 to 10, are told to a refiner: 6 and 2.5 unless given.
        Raises as `StableDiffusionPipeline`, OptionError for a size or a score that can't be, PromptError for what is incomplete.
        """
        told = {
            "prompt_2": prompt_2,
            "negative_prompt_2": negative_prompt_2,
            "pooled_prompt_embeds": pooled_prompt_embeds,
            "negative_pooled_prompt_embeds": negative_pooled_prompt_embeds,
            "original_size": original_size,
            "crops_coords_top_left": crops_coords_top_left,
            "target_size": target_size,
            "negative_original_size": negative_original_size,
            "negative_crops_coords_top_left": negative_crops_coords_top_left,
            "negative_target_size": negative_target_size,
            "aesthetic_score": aesthetic_score,
            "negative_aesthetic_score": negative_aesthetic_score,
        }
        return super().__call__(
            prompt, height, width, num_inference_steps, negative_prompt=negative_prompt, **told, **options
        )

    def encode_prompt(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        prompt: str | list[str] | None,
        prompt_2: str | list[str] | None = None,
        device: torch.device | str | None = None,
        num_images_per_prompt: int = 1,
        do_classifier_free_guidance: bool = True,
        negative_prompt: str | list[str] | None = None,
        negative_prompt_2: str | list[str] | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        pooled_prompt_embeds: Tensor | None = None,
        negative_pooled_prompt_embeds: Tensor | None = None,
        lora_scale: float | None = None,
        clip_skip: int | None = None,
        emphasis: Emphasis = "none",
    ) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None]:
        """Embeddings as a call takes them: of prompts and negative prompts, `b tokens dim`, and the pooled ones of both, `b dim`.

        One row for each image, those of a prompt together; without guidance the second and the fourth are None. Each encoder's prompt is
        read as a call reads it with `emphasis`; one that changes on the way, or is in parts, is refused.
        Raises PromptError or OptionError for what can't be encoded.
        """
        told = {
            "prompt_2": prompt_2,
            "negative_prompt_2": negative_prompt_2,
            "pooled_prompt_embeds": pooled_prompt_embeds,
            "negative_pooled_prompt_embeds": negative_pooled_prompt_embeds,
        }
        rows, count = self._encoded(
            prompt, negative_prompt, (prompt_embeds, negative_prompt_embeds), num_images_per_prompt,
            do_classifier_free_guidance, lora_scale, clip_skip, told, emphasis,
        )  # fmt: skip
        device = self.device if device is None else device

        def side(name: str) -> tuple[Tensor, Tensor]:
            return stacked(rows, name, count).to(device), stacked(rows, name, count, with_pooled=True).to(device)

        context, pooled = side("cond")
        negative = side("uncond") if do_classifier_free_guidance else (None, None)
        return context, negative[0], pooled, negative[1]

    # -- the steps of a call -----------------------------------------------------------------------------------------

    def _beside(
        self, texts: tuple[Text, ...], negative: Any, embeds: Given, beside: Mapping[str, Any], size: Pair
    ) -> tuple[tuple[Text, ...], Beside | None]:
        for name, given in zip(PROMPTS, embeds, strict=True):
            if given is not None and beside.get(name) is not None:
                raise PromptError(f"both {name} and embeddings were given; pass one of them")
        config, family = self.unet.config, self.family
        numbers = 5 if family.aesthetic else 6
        told = take_beside(
            beside,
            embeds=embeds[0],
            negative_embeds=embeds[1],
            size=size,
            pooled_width=(config.sizes_width or 0) - numbers * config.size_width,
            aesthetic=family.aesthetic,
            zeros=beside.get(ZEROS, self.force_zeros_for_empty_prompt and negative is None and embeds[1] is None),
        )
        seconds = [second_texts(name, beside.get(name), len(texts)) for name in PROMPTS]
        self._say_unread(seconds, told)
        pairs = zip(texts, *seconds, strict=True)
        return tuple(replace(text, prompt_2=first, negative_2=second) for text, first, second in pairs), told

    def _say_unread(self, seconds: list[list[str | None]], told: Beside) -> None:
        """Say which second prompts nobody reads, as nobody reads them in diffusers."""
        one = len(self._encoders()) == 1
        if one and any(text is not None for texts in seconds for text in texts):
            logger.warning("this model has one text encoder: prompt_2 and negative_prompt_2 are not read")
        elif told.zeros and any(text is not None for text in seconds[1]):
            logger.warning(
                "negative_prompt_2 is not read without a negative_prompt: this model takes none for a text of zeros"
            )

    def _told_again(self, recipe: Recipe) -> Mapping[str, Any]:
        return told_again(recipe.told)
