"""The public face: `StableDiffusionPipeline`, in the names and habits of the field.

Importing it loads this face and what it is mixed from, and nothing that opens a model or draws: their methods import what they need, since
all of it together takes as long as half of torch. What they name in annotations is imported for type checkers alone.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from sfumato.errors import OptionError, RecipeError
from sfumato.pipeline.adapting import Adapting
from sfumato.pipeline.compat import rounding_of, with_compat
from sfumato.pipeline.evaluating import Evaluating
from sfumato.pipeline.guiding import Guiding
from sfumato.pipeline.inverting import Inverting
from sfumato.pipeline.opening import Opening
from sfumato.pipeline.quantising import Quantising
from sfumato.pipeline.sparing import Sparing, settle_weights
from sfumato.pipeline.switches import Switches
from sfumato.pipeline.tiny_decoding import TinyDecoding
from sfumato.pipeline.wording import Wording

if TYPE_CHECKING:
    from sfumato.diffusion.noise import NoiseSource
    from sfumato.engine import Event
    from sfumato.models.clip_text import CLIPTextEncoder
    from sfumato.models.safety_checker import SafetyChecker
    from sfumato.models.unet import UNet
    from sfumato.models.vae import AutoencoderKL
    from sfumato.pipeline.nsfw_filter import NSFWFilter
    from sfumato.pipeline.output import StableDiffusionPipelineOutput
    from sfumato.pipeline.randomness import Generators, Seed
    from sfumato.pipeline.replay import ReplayResult
    from sfumato.pipeline.request import Request
    from sfumato.pipeline.workflow import Asked
    from sfumato.recipe import Emphasis, Recipe, SafetyMode
    from sfumato.schedulers import Scheduler
    from sfumato.text.tokenizer import Tokenizer
    from sfumato.variants import Make

logger = logging.getLogger("sfumato")

OUTPUT_TYPES = ("pil", "np", "pt", "latent")


class StableDiffusionPipeline(
    Opening, Wording, Guiding, Switches, Evaluating, Adapting, Inverting, TinyDecoding, Sparing, Quantising
):
    """Text to image with a Stable Diffusion checkpoint.

        pipe = StableDiffusionPipeline.from_pretrained("path/or/hub-id").to("cuda")
        image = pipe("a red apple", num_inference_steps=30).images[0]

    Every part is an attribute and can be replaced: `unet`, `vae`, `text_encoder`, `tokenizer`, `scheduler`,
    `safety_checker` (None turns it off; an `NSFWFilter`, or a function `(images, clip_input) → (images, flags)`, stands in for it), and
    a scheduler may be one of diffusers'. `safety_mode` says what becomes of flagged pictures: "block", "blur" or "flag". `defaults` are the settings that the model's makers recommend, and
    `card` is all they say of it: `card.vocabulary`, what it can draw, and `card.styles`. `family` says what kind of model it is, and what
    it needs beside a prompt.
    """

    _makes: "ClassVar[tuple[Make, ...]]" = ("sd1", "sd2")
    _others = ("StableDiffusionXLPipeline", "StableDiffusionUpscalePipeline", "StableDiffusionLatentUpscalePipeline")

    # By itself where it is None; `draw_together` puts in another way.
    _carry_out: Callable[..., Any] | None = None

    def __init__(
        self,
        *,
        vae: "AutoencoderKL",
        text_encoder: "CLIPTextEncoder",
        tokenizer: "Tokenizer",
        unet: "UNet",
        scheduler: "Scheduler",
        safety_checker: "SafetyChecker | NSFWFilter | Callable[..., Any] | None" = None,
        feature_extractor: Mapping[str, Any] | None = None,
        requires_safety_checker: bool = True,
        safety_mode: "SafetyMode" = "block",
    ) -> None:
        from sfumato.pipeline.parts import as_scheduler

        # As diffusers repairs configs older than two of their options; a scheduler that is put in later is taken as it is.
        self._build(vae, unet, as_scheduler(scheduler).in_pipeline(), text_encoder=text_encoder, tokenizer=tokenizer)
        self._judged_by(safety_checker, feature_extractor, requires_safety_checker, safety_mode)

    def _build(self, vae: Any, unet: Any, scheduler: Any, **words: Any) -> None:
        """Take the parts, each of which is checked as it is put in (see Face); `words` are text encoders and tokenizers."""
        from sfumato.adapters.inversions import Inversions
        from sfumato.adapters.loaded import LoadedAdapters
        from sfumato.checkpoints import Card
        from sfumato.pipeline.loading import Kept
        from sfumato.pipeline.parts import check_fit
        from sfumato.pipeline.source import Source

        self.vae, self.unet, self.scheduler = vae, unet, scheduler
        for name, part in words.items():
            setattr(self, name, part)
        self.card, self.defaults, self.source, self._kept = Card(), {}, Source(), Kept()
        self._came_with = (self.scheduler.prediction_type, self.scheduler.spacing)
        self._adapters, self._inversions = LoadedAdapters(), Inversions()
        self._progress: dict[str, Any] = {}
        check_fit(self.unet, self.vae, self._encoders())

    def _judged_by(self, checker: Any, feature_extractor: Any, required: bool, mode: "SafetyMode") -> None:
        self.safety_checker, self.feature_extractor = checker, feature_extractor
        self.requires_safety_checker, self.safety_mode = required, mode

    # -- making pictures ---------------------------------------------------------------------------------------------

    @with_compat
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
        generator: "Generators" = None,
        latents: Tensor | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[..., Mapping[str, Any] | None] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        clip_skip: int | None = None,
        emphasis: "Emphasis" = "none",
        cross_attention_kwargs: Mapping[str, Any] | None = None,
        adapters: Mapping[str, Any] | None = None,
        seeds: Sequence[int] | None = None,
        exact: bool = False,
        on_event: "Callable[[Event], None] | None" = None,
        **others: Any,
    ) -> Any:
        """Draw `num_images_per_prompt` pictures for each prompt.

        Sizes are pixels; unset, they are the model's own. Steps and guidance are those that the model's makers recommend (`defaults`),
        or else those of its family: 50 and 7.5, of SDXL 50 and 5. `emphasis` says in whose words the prompts are written ("a1111",
        "a1111_no_norm", "comfy", "compel"); unset, they are plain, as in diffusers. Noise comes from `generator` (one, or one an image),
        else from `seeds` (one an image), else from torch's global generator; it is always drawn on the CPU: as torch's CPU generator does,
        or with `rng="nv"`, or a generator of CUDA's, as CUDA's. `subseed`, `subseed_strength`, `seed_resize` and `eta_noise_seed_delta`
        are as in `NoiseRules`. `guidance_rescale`, `guidance_interval`, `pag_scale`, `pag_adaptive_scale`, `pag_applied_layers` and `freeu` are
        as in `GuidanceOptions`, `tile`, `tile_overlap` and `seamless` as in `CanvasOptions`, `fast` as in `FastOptions`. `compat` ("a1111", "diffusers") makes the picture
        as that program would: see `pipeline.compat`. `latents` are unit noise to start from instead. `cross_attention_kwargs={"scale": s}` scales the adapters
        of this call; `adapters`, such as {"name": 0.8}, are used for it instead of those that `set_adapters` chose. `exact` evaluates each
        image by itself on an accelerator too. `on_event` hears the engine's events.
        A step callback is called once a step: PLMS's first, which evaluates the second timestep to correct itself, is two in diffusers.

        Returns a StableDiffusionPipelineOutput, or `(images, nsfw_content_detected)` with `return_dict=False`.
        Raises UsageError for what can't be drawn as asked, and an image's own error when no image could be made.
        """
        from sfumato.pipeline.callbacks import callback_of
        from sfumato.pipeline.called_adapters import called_adapters
        from sfumato.pipeline.canvas import CanvasOptions
        from sfumato.pipeline.fast_options import take_fast
        from sfumato.pipeline.noise_options import NoiseOptions
        from sfumato.pipeline.randomness import advance, seeds_for
        from sfumato.pipeline.request import check_tensor
        from sfumato.pipeline.workflow import Asked

        noise = NoiseOptions.taken_from(others)
        fast, guidance = take_fast(others), self._guidance_options(others)
        told = {name: others.pop(name) for name in self._also_told if name in others}
        asked, canvas, rounding = Asked.taken_from(others), CanvasOptions.taken_from(others), rounding_of(others)
        on_step_end, tensor_inputs = callback_of(others, callback_on_step_end, callback_on_step_end_tensor_inputs)
        if output_type not in OUTPUT_TYPES:
            raise OptionError(f"output_type must be one of {', '.join(OUTPUT_TYPES)}, not {output_type!r}")
        request = self._request(
            prompt, negative_prompt, prompt_embeds, negative_prompt_embeds, height, width,
            num_inference_steps, guidance_scale, num_images_per_prompt, eta, clip_skip, emphasis, told, asked,
        )  # fmt: skip
        request = canvas.on(replace(request, guidance=guidance, rounding=rounding, fast=fast), self)
        check_tensor("latents", latents)
        called = called_adapters(request.texts, request.emphasis, self._adapters)
        active = self._active_adapters(cross_attention_kwargs, adapters, called)
        self._begin(request)
        seeds_used = noise.of(seeds_for(seeds, generator, len(request.texts) * request.images_per_prompt))
        result, sources = self._draw(
            request, seeds_used, embeds=(prompt_embeds, negative_prompt_embeds), latents=latents, output_type=output_type,
            exact=exact, on_step_end=on_step_end, tensor_inputs=tensor_inputs, on_event=on_event, adapters=active,
        )  # fmt: skip
        if seeds is None:
            advance(generator, sources)
        return result if return_dict else result.to_tuple()

    def replay(self, recipe: "Recipe", inputs: Mapping[str, Any] | None = None) -> "ReplayResult":
        """Make a recipe's image again and say whether it is bit-identical, and if not, what differs.

        `inputs` are the pictures that it was made from, by the names in `recipe.inputs`. Raises RecipeError for one that is missing.
        """

        from sfumato.pipeline.drawing import draw_recipe
        from sfumato.pipeline.enlarging import made_again
        from sfumato.pipeline.replay import replay, seed_of
        from sfumato.pipeline.workflow import asked_again

        def latents_of(first: "Recipe") -> Tensor:
            return draw_recipe(self, first, seed_of(first), asked_again(first, {}), output_type="latent").images

        asked = asked_again(recipe, {**(inputs or {}), **made_again(self, recipe, latents_of)})
        return replay(recipe, lambda seed: draw_recipe(self, recipe, seed, asked))

    # -- the steps of a call -----------------------------------------------------------------------------------------

    def _draw(
        self, request: "Request", seeds: "Sequence[Seed]", **options: Any
    ) -> "tuple[StableDiffusionPipelineOutput, list[NoiseSource]]":
        """Carry out a checked request; also returns the noise sources, where the drawing has left them."""
        from sfumato.engine import reusing_memory
        from sfumato.pipeline.drawing import drawing
        from sfumato.pipeline.together import alone

        # What a budget allows is not kept for later.
        with reusing_memory() if self.memory is None else nullcontext():
            return (self._carry_out or alone)(drawing(self, request, seeds, **options))

    def _told_again(self, recipe: "Recipe") -> Mapping[str, Any]:
        """What the network was told beside the prompts of a recipe, as options of a call. Raises RecipeError for what is not for it."""
        if recipe.told:
            raise RecipeError(
                f"the recipe says {', '.join(recipe.told)}, which models of SDXL are told, and this is one of {self.family.title}; "
                "replay it with its own model"
            )
        return {}

    def _settle_precision(self) -> list[str]:
        """Widen float16 weights that are still on a CPU when a picture is asked for, and say so.

        It changes no value of theirs; a CPU multiplies float16 matrices hundreds of times slower than float32 ones.
        """
        if self.device.type != "cpu" or self.dtype != torch.float16:
            return []
        self.source.note_cast(torch.float16)
        settle_weights(self._networks(), torch.float32, self.memory)
        self._adapters.cast(torch.float32)
        return ["float16 weights were widened to float32, because float16 arithmetic is far slower on a CPU"]

    def _request(
        self, prompt: Any, negative: Any, embeds: Tensor | None, negative_embeds: Tensor | None, height: Any, width: Any,
        steps: Any, guidance_scale: Any, images: Any, eta: Any, clip_skip: Any, emphasis: Any, beside: Mapping[str, Any], asked: "Asked",
    ) -> "Request":  # fmt: skip
        from sfumato.pipeline.parts import check_fit
        from sfumato.pipeline.request import Request, check_count, check_number, check_size
        from sfumato.pipeline.upscaling import enlargement_of
        from sfumato.text.prompts import check_emphasis

        family = self.family
        check_fit(self.unet, self.vae, self._encoders())
        own = self.unet.config.sample_size * self.vae.scale
        usual = self.defaults.get("height", own), self.defaults.get("width", own)
        enlargement = enlargement_of(self.unet.config, self.vae.scale, self._kept.options, self._kept.low_res_scheduler)
        height, width = check_size(*asked.size(height, width, usual, self.vae.scale, enlargement), enlargement.multiple)
        guidance = self.defaults.get("guidance_scale", family.guidance) if guidance_scale is None else guidance_scale
        guidance = check_number("guidance_scale", guidance, least=0.0)
        # A network that was distilled with guidance is told the scale, and answers as if guided (Meng et al. 2023, arXiv:2210.03142).
        guided = (guidance > 1 and self.unet.config.guidance_width is None) or self.scheduler.unconditioned
        texts, told = self._texts(prompt, negative, (embeds, negative_embeds), beside, (height, width), guided=guided)
        images = check_count("num_images_per_prompt", images)
        workflow = asked.checked(family, height, width, len(texts) * images, enlargement)
        usual = self.defaults.get("num_inference_steps", family.steps)
        return Request(
            texts=texts,
            images_per_prompt=images,
            height=height,
            width=width,
            steps=check_count(
                "num_inference_steps", usual if steps is None else steps, most=self.scheduler.noise_schedule.steps
            ),
            guidance_scale=guidance,
            guided=guided,
            eta=check_number("eta", eta, least=0.0, most=1.0),
            clip_skip=self._skipped(clip_skip),
            emphasis=check_emphasis(emphasis),
            beside=told,
            workflow=workflow,
        )


DiffusionPipeline = StableDiffusionPipeline
"""diffusers' name for a pipeline whose class the model decides on."""
