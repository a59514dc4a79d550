"""One picture that is asked for in the options of `sfumato generate`: which model draws it, and by which call."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfumato.cli.adapters import Lora, parse_embedding, parse_lora
from sfumato.cli.canvas import canvas_options
from sfumato.cli.fast import fast_options
from sfumato.cli.fields import fields
from sfumato.cli.generate import check_names, emphasis_as, plan_noise, safety_said
from sfumato.cli.guidance import guidance_options
from sfumato.cli.parsing import parse_size
from sfumato.cli.pictures import picture_options, second_pass
from sfumato.cli.wording import Worded
from sfumato.errors import MissingFileError, OptionError, PromptError


@dataclass(frozen=True, kw_only=True, slots=True)
class Opens:
    """What a model is opened with; pictures that agree in it are drawn by one."""

    model: str | None
    variant: str | None
    device: str | None
    dtype: str | None
    engine: str | None
    safety: str | None
    safety_threshold: float | None
    memory: str | None
    int8: bool
    int8_scales: Path | None
    embeddings: tuple[tuple[Path, str | None], ...]
    vae_tiny: Path | None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Wanted:
    """A picture to draw. `call` are the options of a pipeline's call, `second` those of a second pass, if there is one."""

    opens: Opens
    loras: tuple[Lora, ...]
    sampler: str | None
    spacing: str | None
    compat: str | None
    call: Mapping[str, Any]
    second: Mapping[str, Any]

    @property
    def seed(self) -> int:
        """The seed of its noise."""
        return self.call["seeds"][0]


def wanted_of(options: Mapping[str, Any]) -> Wanted:
    """The picture that options of `sfumato generate` ask for, by their names in Python; `prompt` and `seed` are among them.

    Everything is checked that can be before a model is opened, and the pictures that it begins from are. Raises UsageError for options
    that can't be, ImageError and MissingFileError for files that can't be read.
    """
    known = fields()
    unknown = options.keys() - known.keys()
    assert not unknown, f"no options of sfumato generate: {unknown}"
    left = {name: options.get(name, field.default) for name, field in known.items()}

    def take(*names: str) -> list[Any]:
        return [left.pop(name) for name in names]

    prompt, seed, steps, guidance, negative, eta, clip_skip = take(
        "prompt", "seed", "steps", "guidance", "negative", "eta", "clip_skip"
    )
    if not prompt.strip() and guidance != 0:
        raise PromptError("no prompt; say what to draw")
    emphasis, compat, style, styles, wildcards = take("emphasis", "compat", "style", "styles", "wildcards")
    mode = _emphasis(emphasis, compat)
    worded = Worded.of(mode, style, styles, wildcards)
    rng, variation, variation_strength, resize, ensd = take(
        "rng", "variation_seed", "variation_strength", "seed_resize", "ensd"
    )
    noise = plan_noise(rng, variation, variation_strength, resize, ensd)
    sampler, spacing, size = take("sampler", "spacing", "size")
    width, height = parse_size(size) if size else (None, None)
    no_safety, safety, threshold = take("no_safety", "safety", "safety_threshold")
    safety = safety_said(safety, no_safety=no_safety)
    given = (
        "image", "strength", "resize", "mask", "mask_blur", "soft_mask", "mask_content", "only_masked", "extend", "image_guidance", "depth",
        "noise_level",
    )  # fmt: skip
    pictures = picture_options(**dict(zip(given, take(*given), strict=True)))
    on_canvas = "upscale", "tile", "tile_overlap", "seamless"
    canvas = canvas_options(pictures, size=size, **dict(zip(on_canvas, take(*on_canvas), strict=True)))
    rescale, interval, pag_scale, pag_adaptive, pag_layers, freeu = take(
        "guidance_rescale", "guidance_interval", "pag_scale", "pag_adaptive", "pag_layers", "freeu"
    )
    guided = guidance_options(
        rescale=rescale, interval=interval, pag_scale=pag_scale, pag_adaptive=pag_adaptive, pag_layers=pag_layers, freeu=freeu
    )  # fmt: skip
    scale, second_strength, second_steps, second_sampler, second_prompt, enlarge = take(
        "hires", "hires_strength", "hires_steps", "hires_sampler", "hires_prompt", "hires_enlarge"
    )
    second = second_pass(
        scale=scale,
        strength=second_strength,
        second_steps=second_steps,
        second_sampler=second_sampler,
        second_prompt=None if second_prompt is None else worded.prompt(second_prompt, seed),
        enlarge=enlarge,
    )
    if second and pictures:
        raise OptionError("--hires draws twice, and takes no --image; leave one of them out")
    model, variant, device, dtype, engine, memory = take("model", "variant", "device", "dtype", "engine", "memory")
    loras, embeddings, fast, vae_tiny = take("lora", "embedding", "fast", "vae_tiny")
    int8, int8_scales = take("int8", "int8_scales")
    if int8_scales is not None and not int8_scales.is_file():
        raise MissingFileError(f"there are no scales {str(int8_scales)!r}; `sfumato generate --int8-scales` makes them")
    # An option that is added to `generate` is to be taken here as well: nothing that was asked for is left undone.
    assert not left, f"options of sfumato generate that wanted_of does not know: {', '.join(left)}"
    used = [parse_lora(text) for text in loras or ()]
    if len({lora.path for lora in used}) < len(used):
        raise OptionError(
            "a LoRA is given twice for one picture; give it once, with the weight that both make together"
        )
    check_names((sampler, second_sampler), spacing, rng, compat)
    _check_sizes(width, height)
    _check_model(model)
    return Wanted(
        opens=Opens(
            model=model,
            variant=variant,
            device=device,
            dtype=dtype,
            engine=engine,
            int8=int8 or int8_scales is not None,
            int8_scales=int8_scales,
            safety=safety,
            safety_threshold=threshold,
            memory=memory,
            embeddings=tuple(parse_embedding(text) for text in embeddings or ()),
            vae_tiny=vae_tiny,
        ),
        loras=tuple(used),
        sampler=sampler,
        spacing=spacing,
        compat=compat,
        call={
            "prompt": worded.prompt(prompt, seed),
            "seeds": [seed],
            "subseed": variation,
            "height": height,
            "width": width,
            "num_inference_steps": steps,
            "guidance_scale": guidance,
            "negative_prompt": worded.negative(negative),
            "eta": eta,
            "clip_skip": clip_skip,
            "emphasis": mode,
            "compat": compat,
            **noise,
            **guided,
            **pictures,
            **canvas,
            **fast_options(fast),
        },
        second=second,
    )


def names_of(loras: Sequence[Lora], names: Mapping[Path, str]) -> dict[str, dict[str, float]]:
    """The adapters of a call: each LoRA by the name under which it is loaded, with its weights."""
    return {
        names[lora.path]: {
            "unet": lora.weight, "text_encoder": lora.text_weight, "text_encoder_2": lora.text_weight,
        }
        for lora in loras
    }  # fmt: skip


def _emphasis(emphasis: str | None, compat: str | None) -> Any:
    from sfumato.text.prompts import check_emphasis

    return check_emphasis(emphasis or emphasis_as(compat))


def _check_sizes(width: int | None, height: int | None) -> None:
    if width is not None and height is not None:
        from sfumato.pipeline.request import MULTIPLE, check_size

        check_size(height, width, MULTIPLE)


def _check_model(model: str | None) -> None:
    """Raise MissingFileError for what is neither here nor the id of a model of the hub."""
    from sfumato.checkpoints.hub import is_hub_id

    if model is not None and not Path(model).expanduser().exists() and not is_hub_id(model):
        raise MissingFileError(f"there is no model {model!r}; give a folder, a model file or a hub id")
