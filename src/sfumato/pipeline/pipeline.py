"""The public face: `StableDiffusionPipeline`, in the names and habits of the field."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from sfumato.adapters import NO_ADAPTERS, ActiveAdapters
from sfumato.adapters.inversions import Inversions
from sfumato.adapters.loaded import LoadedAdapters
from sfumato.checkpoints import Card
from sfumato.diffusion.noise import NoiseSource
from sfumato.engine import Event
from sfumato.errors import OptionError, UnsupportedError, UsageError
from sfumato.models.clip_text import CLIPTextEncoder
from sfumato.models.safety_checker import SafetyChecker
from sfumato.models.unet import UNet
from sfumato.models.vae import AutoencoderKL
from sfumato.pipeline.adapter_recipe import uses_of
from sfumato.pipeline.adapting import Adapting
from sfumato.pipeline.callbacks import StepCallback, legacy_callback
from sfumato.pipeline.called_adapters import called_adapters
from sfumato.pipeline.conditioning import PromptEncoder, conditioned
from sfumato.pipeline.decoding import Decoder
from sfumato.pipeline.face import Face
from sfumato.pipeline.inverting import Inverting
from sfumato.pipeline.loading import open_parts, save_parts
from sfumato.pipeline.nsfw_filter import NSFWFilter
from sfumato.pipeline.output import StableDiffusionPipelineOutput
from sfumato.pipeline.parts import as_scheduler, check_fit
from sfumato.pipeline.placement import parse_target
from sfumato.pipeline.randomness import Generators, Seed, advance, seeds_of
from sfumato.pipeline.replay import ReplayResult, autocast_as, replay
from sfumato.pipeline.request import (
    Request,
    check_clip_skip,
    check_count,
    check_embeds,
    check_number,
    check_prompts,
    check_size,
    check_tensor,
    whole,
)
from sfumato.pipeline.result import name_of, result_of
from sfumato.pipeline.safety import SafetyFilter
from sfumato.pipeline.safety_choice import judge_of
from sfumato.pipeline.source import Source
from sfumato.pipeline.switches import Switches
from sfumato.pipeline.text_to_image import Parts, latent_shape, run, unit_noise
from sfumato.recipe import Emphasis, Recipe, SafetyMode
from sfumato.schedulers import Scheduler, scheduler_from_config
from sfumato.text.prompts import check_emphasis
from sfumato.text.tokenizer import Tokenizer

logger = logging.getLogger("sfumato")

OUTPUT_TYPES = ("pil", "np", "pt", "latent")


class StableDiffusionPipeline(Switches, Adapting, Inverting, Face):
    """Text to image with a Stable Diffusion checkpoint.

        pipe = StableDiffusionPipeline.from_pretrained("path/or/hub-id").to("cuda")
        image = pipe("a red apple", num_inference_steps=30).images[0]

    Every part is an attribute and can be replaced: `unet`, `vae`, `text_encoder`, `tokenizer`, `scheduler`,
    `safety_checker` (None turns it off; an `NSFWFilter`, or a function `(images, clip_input) → (images, flags)`, stands in for it), and
    a scheduler may be one of diffusers'. `safety_mode` says what becomes of flagged pictures: "block", "blur" or "flag". `defaults` are the settings that the model's makers recommend, and
    `card` is all they say of it: `card.vocabulary`, what it can draw, and `card.styles`.
    """

    def __init__(
        self,
        *,
        vae: AutoencoderKL,
        text_encoder: CLIPTextEncoder,
        tokenizer: Tokenizer,
        unet: UNet,
        scheduler: Scheduler,
        safety_checker: SafetyChecker | NSFWFilter | Callable[..., Any] | None = None,
        feature_extractor: Mapping[str, Any] | None = None,
        requires_safety_checker: bool = True,
        safety_mode: SafetyMode = "block",
    ) -> None:
        self.vae = vae  # every part is checked as it is put in: see Face
        self.text_encoder = text_encoder
        self.tokenizer = tokenizer
        self.unet = unet
        # As diffusers repairs configs older than two of their options; a scheduler that is put in later is taken as it is.
        self.scheduler = as_scheduler(scheduler).in_pipeline()
        self.safety_checker = safety_checker
        self.safety_mode = safety_mode
        self.feature_extractor = feature_extractor
        self.requires_safety_checker = requires_safety_checker
        self.card = Card()
        self.defaults: dict[str, Any] = {}
        self.source = Source()
        self._adapters = LoadedAdapters()
        self._inversions = Inversions()
        self._progress: dict[str, Any] = {}
        check_fit(self.unet, self.vae, self.text_encoder)

    # -- opening and saving ------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], **options: Any
    ) -> "StableDiffusionPipeline":
        """Open a model folder in the diffusers layout, or a model of the hub by its id.

        Options: `torch_dtype` or `dtype` ("auto" keeps the file's), `revision`, `variant`, `token` or `use_auth_token`,
        `local_files_only`, `cache_dir`, and any part to use instead of the folder's: `unet`, `vae`, `text_encoder`,
        `tokenizer`, `scheduler`, `feature_extractor`, `safety_checker` (None: off). Float32 unless told otherwise.

        `safety` is what becomes of pictures that look unsafe: "off" (nobody looks), "block", "blur" or "flag" (it is only said). The model's
        own safety checker judges, where it has none the filter that comes with Sfumato, from `safety_threshold` (0.5) on. Unset, a
        model's own checker blocks, and a model without one has none, as in diffusers.

        Raises CheckpointError for a model that can't be opened, UnsupportedError for an option that is not honoured.
        """
        opened = open_parts(pretrained_model_name_or_path, options)
        pipe = cls(**opened.parts)
        pipe.card, pipe.defaults, pipe.source = opened.card, opened.card.defaults, opened.source
        pipe.source.note_cast(pipe.dtype)
        return pipe

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        safe_serialization: bool = True,
        variant: str | None = None,
        *,
        overwrite: bool = True,
        **options: Any,
    ) -> None:
        """Write the model as a folder in the diffusers layout, which diffusers opens too, and its card beside it.

        A folder that holds a model and nothing else is replaced, whole or not at all, unless `overwrite` is off.
        Raises OutputError, or UnsupportedError for an option that is not honoured.
        """
        options["safe_serialization"] = safe_serialization
        if (beside := self._adapters.active()).weighted:
            names = ", ".join(one.adapter.name for one in beside.weighted)
            logger.warning(
                "the model is saved without the adapters that run beside it (%s); fuse_lora() merges them", names
            )
        # What was said of the model that was opened need not be true of a changed one; how to draw with it is.
        card = (self.card if self._is_as_opened() else Card()).with_defaults(self.defaults)
        save_parts(self.components, card, Path(save_directory), variant=variant, overwrite=overwrite, options=options)

    def to(self, *where: str | torch.device | torch.dtype, **named: Any) -> Self:
        """Move to a device, a dtype or both, in any order: `.to("cuda")`, `.to("cuda", torch.float16)`. Returns self."""
        device, dtype = parse_target(*where, **named)
        self.source.note_cast(self.dtype)
        for part in self._networks().values():
            part.to(device=device, dtype=dtype)
        if dtype is not None:
            self._adapters.cast(dtype)
        self.source.note_cast(self.dtype)
        return self

    # -- making pictures ---------------------------------------------------------------------------------------------

    def __call__(
        self,
        prompt: str | list[str] | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int | None = None,
        *,
        guidance_scale: float | None = None,
        negative_prompt: str | list[str] | None = None,
        num_images_per_prompt: int = 1,
        eta: float = 0.0,
        generator: Generators = None,
        latents: Tensor | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[..., Mapping[str, Any] | None] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        clip_skip: int | None = None,
        emphasis: Emphasis = "none",
        cross_attention_kwargs: Mapping[str, Any] | None = None,
        adapters: Mapping[str, Any] | None = None,
        seeds: Sequence[int] | None = None,
        exact: bool = False,
        on_event: Callable[[Event], None] | None = None,
        **others: Any,
    ) -> Any:
        """Draw `num_images_per_prompt` pictures for each prompt.

        Sizes are pixels; unset, they are the model's own. Steps and guidance are 50 and 7.5 unless the model's makers recommend others
        (`defaults`). `emphasis` says in whose words the prompts are written ("a1111", "a1111_no_norm", "comfy", "compel"); unset, they are
        plain, as in diffusers. Noise comes from `generator` (one, or one an image), else from `seeds` (one an image), else from torch's
        global generator; it is always drawn on the CPU. `latents` are unit noise to start from instead. `cross_attention_kwargs={"scale": s}`
        scales the adapters of this call; `adapters`, such as {"name": 0.8}, are used for it instead of those that `set_adapters` chose.
        `exact` evaluates each image by itself on an accelerator too. `on_event` hears the engine's events. A step callback is called once
        a step: PLMS's first, which evaluates the second timestep to correct itself, is two in diffusers.

        Returns a StableDiffusionPipelineOutput, or `(images, nsfw_content_detected)` with `return_dict=False`.
        Raises UsageError for what can't be drawn as asked, and an image's own error when no image could be made.
        """
        on_step_end, tensor_inputs = self._callback(others, callback_on_step_end, callback_on_step_end_tensor_inputs)
        if output_type not in OUTPUT_TYPES:
            raise OptionError(f"output_type must be one of {', '.join(OUTPUT_TYPES)}, not {output_type!r}")
        request = self._request(
            prompt, negative_prompt, prompt_embeds, negative_prompt_embeds, height, width,
            num_inference_steps, guidance_scale, num_images_per_prompt, eta, clip_skip, emphasis,
        )  # fmt: skip
        check_tensor("latents", latents)
        called = called_adapters(request.texts, request.emphasis, self._adapters)
        active = self._active_adapters(cross_attention_kwargs, adapters, called)
        self._begin(request)
        seeds_used = self._seeds(seeds, generator, len(request.texts) * request.images_per_prompt)
        result, sources = self._draw(
            request, seeds_used, embeds=(prompt_embeds, negative_prompt_embeds), latents=latents, output_type=output_type,
            exact=exact, on_step_end=on_step_end, tensor_inputs=tensor_inputs, on_event=on_event, adapters=active,
        )  # fmt: skip
        if seeds is None:
            advance(generator, sources)
        return result if return_dict else result.to_tuple()

    def replay(self, recipe: Recipe) -> ReplayResult:
        """Make a recipe's image again and say whether it is bit-identical, and if not, what differs."""
        return replay(recipe, lambda seed: self._draw_recipe(recipe, seed))

    # -- the steps of a call -----------------------------------------------------------------------------------------

    def _draw(
        self,
        request: Request,
        seeds: Sequence[Seed],
        *,
        embeds: tuple[Tensor | None, Tensor | None] = (None, None),
        latents: Tensor | None = None,
        output_type: str = "pil",
        exact: bool = False,
        on_step_end: Callable[..., Mapping[str, Any] | None] | None = None,
        tensor_inputs: Sequence[str] = (),
        on_event: Callable[[Event], None] | None = None,
        adapters: ActiveAdapters = NO_ADAPTERS,
    ) -> tuple[StableDiffusionPipelineOutput, list[NoiseSource]]:
        """Carry out a checked request; also returns the noise sources, where the drawing has left them."""
        notes = self._settle_precision()
        parts = self._parts(adapters, exact=exact)
        encode = PromptEncoder(self.tokenizer, self.text_encoder, self._known_words(adapters), adapters)
        rows = [row for row in conditioned(request, encode, *embeds) for _ in range(request.images_per_prompt)]
        guided = any("uncond" in row.first for row in rows)

        shape = latent_shape(request, parts)
        sources = [seed.source(shape) for seed in seeds]
        draws = [source.draw for source in sources]
        noises = unit_noise(latents, draws, shape)

        on_round = None
        if on_step_end is not None:
            on_round = StepCallback(
                self, on_step_end, tensor_inputs, scheduler=self.scheduler, steps=request.steps, rows=[row.first for row in rows]
            )  # fmt: skip
        self._interrupt = False
        outcomes = run(
            request, parts, rows, noises, draws, latents_only=output_type == "latent",
            bar=self.progress_bar(total=request.steps), on_round=on_round, on_event=on_event, interrupted=lambda: self._interrupt,
        )  # fmt: skip
        texts = [text for each in request.texts for text in (each.prompt, each.negative if guided else None)]
        uses = uses_of(adapters, self._merged(), self._embeddings_in(texts))
        unrecorded = [
            why
            for why, true in (
                ("it began from latents that its caller supplied", latents is not None),
                ("its prompt was given as embeddings", embeds[0] is not None),
                ("its negative prompt was given as embeddings", guided and embeds[1] is not None),
                ("a callback changed its latents", on_round is not None and on_round.changed),
                ("it used adapters that lie in no file", any(thing.files is None for _, thing in uses)),
                ("the run was interrupted", self._interrupt),
            )
            if true
        ]
        networks: dict[str, torch.nn.Module] = {"unet": self.unet, "vae": self.vae, "text_encoder": self.text_encoder}
        dtypes = {part: next(network.parameters()).dtype for part, network in networks.items()}
        result = result_of(
            request, parts, outcomes, [None] * len(seeds) if latents is not None else seeds, self.source.now(**networks),
            output_type=output_type,
            dtypes={part: name_of(dtype) for part, dtype in dtypes.items() if dtype != dtypes["unet"]},
            weights_dtype=self.source.rounded_to(dtypes["unet"]), uses=uses, unrecorded=unrecorded, notes=[*notes, *encode.notes],
        )  # fmt: skip
        return result, sources

    def _draw_recipe(self, recipe: Recipe, seed: Seed) -> StableDiffusionPipelineOutput:
        """The one picture of a recipe, with its own scheduler and switches, its rows evaluated alone."""
        again = copy(self)
        again.scheduler = scheduler_from_config(recipe.scheduler)
        again._tiled = recipe.vae_tiling
        again.safety_checker = judge_of(recipe, self.safety_checker)
        again.safety_mode = recipe.safety_mode or "block"
        request = again._request(
            recipe.prompt, recipe.negative_prompt, None, None, recipe.height, recipe.width,
            recipe.steps, recipe.guidance_scale, 1, recipe.eta, recipe.clip_skip, recipe.emphasis,
        )  # fmt: skip
        sliced = self.unet.attention_slicing
        self.unet.set_attention_slicing(recipe.attention_slicing)
        try:
            with autocast_as(recipe.autocast, self.device.type), self._adapters_of(recipe) as adapters:
                return again._draw(request, [seed], exact=True, adapters=adapters)[0]
        finally:
            self.unet.set_attention_slicing(sliced)

    def _settle_precision(self) -> list[str]:
        """Widen float16 weights that are still on a CPU when a picture is asked for, and say so.

        It changes no value of theirs; a CPU multiplies float16 matrices hundreds of times slower than float32 ones.
        """
        if self.device.type != "cpu" or self.dtype != torch.float16:
            return []
        self.to(torch.float32)
        return ["float16 weights were widened to float32, because float16 arithmetic is far slower on a CPU"]

    def _request(
        self, prompt: Any, negative: Any, embeds: Tensor | None, negative_embeds: Tensor | None, height: Any, width: Any,
        steps: Any, guidance_scale: Any, images: Any, eta: Any, clip_skip: Any, emphasis: Any,
    ) -> Request:  # fmt: skip
        check_fit(self.unet, self.vae, self.text_encoder)
        texts = check_prompts(prompt, negative, embeds, negative_embeds)
        own = self.unet.config.sample_size * self.vae.scale
        height = self.defaults.get("height", own) if height is None else height
        width = self.defaults.get("width", own) if width is None else width
        height, width = check_size(height, width, self.vae.scale)
        guidance = self.defaults.get("guidance_scale", 7.5) if guidance_scale is None else guidance_scale
        guidance = check_number("guidance_scale", guidance, least=0.0)
        tokens = self.tokenizer.max_length if guidance > 1 else None
        check_embeds(texts, embeds, negative_embeds, self.unet.config.context_dim, tokens)
        usual = self.defaults.get("num_inference_steps", 50)
        return Request(
            texts=texts,
            images_per_prompt=check_count("num_images_per_prompt", images),
            height=height,
            width=width,
            steps=check_count(
                "num_inference_steps", usual if steps is None else steps, most=self.scheduler.noise_schedule.steps
            ),
            guidance_scale=guidance,
            eta=check_number("eta", eta, least=0.0, most=1.0),
            clip_skip=check_clip_skip(clip_skip, self.text_encoder.config.layers),
            emphasis=check_emphasis(emphasis),
        )

    def _parts(self, adapters: ActiveAdapters, *, exact: bool) -> Parts:
        safety = None
        if self.safety_checker is not None:
            safety = SafetyFilter(self.safety_checker, self.feature_extractor, self.safety_mode)
        return Parts(
            unet=self.unet,
            decoder=Decoder(self.vae, tiled=self.vae.use_tiling if self._tiled is None else self._tiled),
            vae_scale=self.vae.scale,
            scheduler=self.scheduler,
            safety=safety,
            attention_slicing=self.unet.attention_slicing,
            exact=exact,
            adapters=adapters,
        )

    @staticmethod
    def _seeds(seeds: Sequence[int] | None, generator: Generators, images: int) -> list[Seed]:
        if seeds is None:
            return seeds_of(generator, images)
        if generator is not None:
            raise OptionError("both generator and seeds were given; pass one of them")
        seeds = [one] if (one := whole(seeds)) is not None else seeds
        if not hasattr(seeds, "__len__"):
            raise OptionError(f"seeds must be a list of whole numbers, one for each image, not {seeds!r}")
        if len(seeds) != images:
            raise OptionError(f"{len(seeds)} seeds for {images} images; pass one for each image")
        return [Seed(seed=check_count("seed", seed, least=0, most=2**64 - 1)) for seed in seeds]

    @staticmethod
    def _callback(
        others: dict[str, Any], on_step_end: Callable[..., Any] | None, names: Sequence[str]
    ) -> tuple[Callable[..., Any] | None, Sequence[str]]:
        """The step callback, also from the older `callback`; refuses every other option that was not understood."""
        legacy, every = others.pop("callback", None), others.pop("callback_steps", 1)
        for name, value in others.items():
            if value is not None and (name, value) not in (("guidance_rescale", 0.0),):
                raise UnsupportedError(f"the option {name}={value!r} is not available in this pipeline; leave it out")
        if legacy is None:
            return on_step_end, names
        if on_step_end is not None:
            raise UsageError("both callback and callback_on_step_end were given; pass one of them")
        return legacy_callback(legacy, check_count("callback_steps", every)), ("latents",)


DiffusionPipeline = StableDiffusionPipeline
"""diffusers' name for a pipeline whose class the model decides on; here there is one."""
