"""What a pipeline makes of the words of a call: checked texts, and the contexts that the network reads."""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from sfumato.pipeline.face import Face

if TYPE_CHECKING:
    from sfumato.adapters import ActiveAdapters
    from sfumato.adapters.loaded import LoadedAdapters
    from sfumato.engine import Conditioning
    from sfumato.pipeline.beside import Beside, Pair
    from sfumato.pipeline.conditioning import Embeds, PromptEncoder
    from sfumato.pipeline.prompt_rows import Rows
    from sfumato.pipeline.request import Request, Text
    from sfumato.recipe import Emphasis

logger = logging.getLogger("sfumato")

Given = tuple[Tensor | None, Tensor | None]
"""Embeddings of the caller's, for prompts and for negative prompts."""


class Wording(Face):
    """From words or embeddings to conditionings, for one text encoder. Mixed into the pipeline, which owns the parts."""

    _adapters: "LoadedAdapters"

    _early: ClassVar[bool] = False
    """Whether contexts are taken before the text encoders' last layer and final norm."""

    _also_told: ClassVar[tuple[str, ...]] = ()
    """Options of a call for what the network is told beside the prompts."""

    def encode_prompt(
        self,
        prompt: str | list[str] | None,
        device: torch.device | str | None = None,
        num_images_per_prompt: int = 1,
        do_classifier_free_guidance: bool = True,
        negative_prompt: str | list[str] | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        lora_scale: float | None = None,
        clip_skip: int | None = None,
        emphasis: "Emphasis" = "none",
    ) -> tuple[Tensor | None, ...]:
        """The embeddings of prompts and of negative prompts, `b tokens dim` each, as a call takes them.

        One row for each image, those of a prompt together; without guidance the second is None. Prompts are read as a call reads them with
        `emphasis`; one that changes on the way, or is in parts, is refused. Raises PromptError or OptionError for what can't be encoded.
        """
        from sfumato.pipeline.conditioning import stacked

        rows, count = self._encoded(
            prompt, negative_prompt, (prompt_embeds, negative_prompt_embeds), num_images_per_prompt,
            do_classifier_free_guidance, lora_scale, clip_skip, {}, emphasis,
        )  # fmt: skip
        device = self.device if device is None else device
        negative = stacked(rows, "uncond", count).to(device) if do_classifier_free_guidance else None
        return stacked(rows, "cond", count).to(device), negative

    def _texts(
        self, prompt: Any, negative: Any, embeds: Given, beside: Mapping[str, Any], size: "Pair", *, guided: bool
    ) -> "tuple[tuple[Text, ...], Beside | None]":
        """One Text a prompt, and what is told beside them. Raises PromptError or OptionError."""
        from sfumato.pipeline.request import check_embeds, check_prompts

        texts = check_prompts(prompt, negative, *embeds)
        texts, told = self._beside(texts, negative, embeds, beside, size)
        meet = guided and not (told is not None and told.zeros)
        tokens = self._readers()[0].tokenizer.max_length if meet else None
        check_embeds(texts, *embeds, self.unet.config.context_dim, tokens)
        return texts, told

    def _beside(
        self, texts: "tuple[Text, ...]", negative: Any, embeds: Given, beside: Mapping[str, Any], size: "Pair"
    ) -> "tuple[tuple[Text, ...], Beside | None]":
        """The texts with their second ones, and what is told beside them: nothing, in most families."""
        del negative, embeds, beside, size
        return texts, None

    def _skipped(self, value: object) -> int | None:
        """How many of the text encoders' last layers to leave out. Raises OptionError unless each has one left."""
        from sfumato.pipeline.request import check_clip_skip

        return check_clip_skip(value, min(encoder.config.layers for encoder in self._encoders().values()))

    def _rows(self, request: "Request", embeds: Given, adapters: "ActiveAdapters") -> "tuple[list[Rows], list[str]]":
        """The rows of each text of a request, and what has to be said about them."""
        from sfumato.pipeline.conditioning import conditioned

        noise_level = None if request.workflow is None else request.workflow.noise_level
        encode = self._prompt_encoder(request.beside, request.guidance_scale, adapters, noise_level)
        return conditioned(request, encode, given_embeds(embeds, request.beside)), encode.notes

    def _prompt_encoder(
        self, beside: "Beside | None", guidance_scale: float, adapters: "ActiveAdapters", noise_level: int | None = None
    ) -> "PromptEncoder":
        from sfumato.models import LatentUpscalerConfig
        from sfumato.pipeline.beside import told_of
        from sfumato.pipeline.conditioning import PromptEncoder

        config = self.unet.config
        return PromptEncoder(
            self._readers(),
            self._known_words(adapters),
            adapters,
            early=self._early,
            # The latent upscaler was trained on the last layer as it is; only the pooled text is normed.
            normed=not self._early and not isinstance(config, LatentUpscalerConfig),
            telling=lambda pooled, negative: told_of(
                config, beside, guidance_scale, pooled, negative=negative, noise_level=noise_level
            ),
        )

    def _encoded(
        self, prompt: Any, negative: Any, embeds: Given, images: object, guided: bool, lora_scale: float | None,
        clip_skip: object, beside: Mapping[str, Any], emphasis: object,
    ) -> "tuple[list[dict[str, Conditioning]], int]":  # fmt: skip
        """The conditionings of prompts, for `encode_prompt`, and how many images of each; what has to be said goes to the log."""
        from sfumato.pipeline.called_adapters import called_adapters
        from sfumato.pipeline.conditioning import steady
        from sfumato.pipeline.request import check_count
        from sfumato.text.prompts import check_emphasis

        texts, told = self._texts(prompt, negative, embeds, beside, (1, 1), guided=guided)
        count = check_count("num_images_per_prompt", images)
        mode = check_emphasis(emphasis)
        scale = None if lora_scale is None else {"scale": lora_scale}
        adapters = self._active_adapters(scale, None, called_adapters(texts, mode, self._adapters))
        encode = self._prompt_encoder(told, 1.0, adapters)
        rows = steady(
            texts, encode, given_embeds(embeds, told), mode, clip_skip=self._skipped(clip_skip), guided=guided,
            zeros=told is not None and told.zeros,
        )  # fmt: skip
        for note in encode.notes:
            logger.warning("%s", note)
        return rows, count


def given_embeds(embeds: Given, beside: "Beside | None") -> "Embeds":
    """The caller's embeddings with their pooled ones."""
    from sfumato.pipeline.conditioning import Embeds

    return Embeds(
        prompt=embeds[0],
        negative=embeds[1],
        pooled=None if beside is None else beside.pooled,
        negative_pooled=None if beside is None else beside.negative_pooled,
    )
