"""`sfumato generate`: prompts in, pictures out."""

import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import typer

from sfumato.cli.adapters import load_adapters, parse_embedding, parse_lora
from sfumato.cli.canvas import canvas_options
from sfumato.cli.fast import fast_options
from sfumato.cli.guidance import guidance_options
from sfumato.cli.options import asking, running, sources
from sfumato.cli.outputs import Shot, plan_outputs
from sfumato.cli.parsing import parse_grid, parse_size
from sfumato.cli.pictures import picture_options, second_pass
from sfumato.cli.terminal import say
from sfumato.cli.wording import Worded
from sfumato.errors import OptionError, PromptError

if TYPE_CHECKING:
    from sfumato.schedulers import Scheduler

# Some pictures are saved, others failed, which was said.
EXIT_SOME_FAILED = 2
# Seeds drawn here are short enough to be read out and typed again; any up to 2**64 - 1 can be given.
DRAWN_SEEDS = 2**32
# A little, so that a variation is one; the web UI has no default but 0, which changes nothing.
USUAL_VARIATION = 0.1


def generate(
    prompts: asking.Prompts = None,
    number: asking.Number = 1,
    seed: asking.Seed = None,
    steps: asking.Steps = None,
    guidance: asking.Guidance = None,
    guidance_rescale: asking.GuidanceRescale = None,
    guidance_interval: asking.GuidanceInterval = None,
    pag_scale: asking.PagScale = None,
    pag_adaptive: asking.PagAdaptive = None,
    pag_layers: asking.PagLayers = None,
    freeu: asking.Freeu = None,
    sampler: asking.Sampler = None,
    spacing: asking.Spacing = None,
    size: asking.Size = None,
    rng: asking.Rng = None,
    variation_seed: asking.VariationSeed = None,
    variation_strength: asking.VariationStrength = None,
    seed_resize: asking.SeedResize = None,
    ensd: asking.Ensd = None,
    negative: asking.Negative = None,
    image: sources.Image = None,
    strength: sources.Strength = None,
    resize: sources.Resize = None,
    mask: sources.Mask = None,
    mask_blur: sources.MaskBlur = None,
    soft_mask: sources.SoftMask = False,
    mask_content: sources.MaskContent = None,
    only_masked: sources.OnlyMasked = None,
    extend: sources.Extend = None,
    hires: sources.Hires = None,
    hires_strength: sources.HiresStrength = None,
    hires_steps: sources.HiresSteps = None,
    hires_sampler: sources.HiresSampler = None,
    hires_prompt: sources.HiresPrompt = None,
    hires_enlarge: sources.HiresEnlarge = None,
    upscale: sources.Upscale = None,
    tile: sources.Tile = None,
    tile_overlap: sources.TileOverlap = None,
    seamless: sources.Seamless = None,
    image_guidance: sources.ImageGuidance = None,
    depth: sources.Depth = None,
    noise_level: sources.NoiseLevel = None,
    eta: asking.Eta = 0.0,
    fast: asking.Fast = None,
    clip_skip: asking.ClipSkip = None,
    emphasis: asking.Emphasis = None,
    compat: asking.Compat = None,
    style: asking.Style = None,
    styles: asking.Styles = None,
    wildcards: asking.Wildcards = None,
    model: running.Model = None,
    variant: running.Variant = None,
    lora: running.Lora = None,
    embedding: running.Embedding = None,
    vae_tiny: running.VaeTiny = None,
    device: running.Device = None,
    dtype: running.Dtype = None,
    memory: running.Memory = None,
    int8: running.Int8 = False,
    int8_scales: running.Int8Scales = None,
    engine: running.Engine = None,
    safety: running.Safety = None,
    safety_threshold: running.SafetyThreshold = None,
    no_safety: running.NoSafety = False,
    out: running.Out = None,
    grid: running.Grid = None,
    animate: running.Animate = None,
    overwrite: running.Overwrite = False,
    quiet: running.Quiet = False,
) -> None:
    """Draw pictures from prompts. Prints the path of each on stdout."""
    from sfumato.text.prompts import check_emphasis

    shape = parse_grid(grid) if grid else None
    noise, spared = plan_noise(rng, variation_seed, variation_strength, seed_resize, ensd), fast_options(fast)
    mode = check_emphasis(emphasis or emphasis_as(compat))
    worded = Worded.of(mode, style, styles, wildcards)
    shots = [
        replace(shot, prompt=worded.prompt(shot.prompt, shot.seed))
        for shot in plan_shots(
            prompts or [""] * (guidance == 0),
            number,
            seed,
            shape,
            variation=variation_seed,
            held=bool(noise["subseed_strength"]),
            needed=guidance != 0,
        )
    ]
    width, height = parse_size(size) if size else (None, None)
    safety = safety_said(safety, no_safety=no_safety)
    outputs = plan_outputs(shots, out, grid=shape is not None, animate=animate, overwrite=overwrite)
    pictures = picture_options(
        image=image, strength=strength, resize=resize, mask=mask, mask_blur=mask_blur, soft_mask=soft_mask,
        mask_content=mask_content, only_masked=only_masked, extend=extend, image_guidance=image_guidance, depth=depth,
        noise_level=noise_level,
    )  # fmt: skip
    canvas = canvas_options(
        pictures, upscale=upscale, size=size, tile=tile, tile_overlap=tile_overlap, seamless=seamless
    )
    guided = guidance_options(
        rescale=guidance_rescale, interval=guidance_interval, pag_scale=pag_scale, pag_adaptive=pag_adaptive,
        pag_layers=pag_layers, freeu=freeu,
    )  # fmt: skip
    second = second_pass(
        scale=hires,
        strength=hires_strength,
        second_steps=hires_steps,
        second_sampler=hires_sampler,
        second_prompt=None if hires_prompt is None else worded.prompt(hires_prompt, shots[0].seed),
        enlarge=hires_enlarge,
    )
    if second and (pictures or animate is not None):
        raise OptionError(
            f"--hires draws twice, and takes no {'--image' if pictures else '--animate'}; leave one of them out"
        )
    loras, embeddings = [parse_lora(text) for text in lora or ()], [parse_embedding(text) for text in embedding or ()]
    from sfumato.cli.progress import DrawingProgress

    with DrawingProgress(len(shots), quiet=quiet) as progress:
        from sfumato.cli.drawing import Drawing  # torch comes with it, while the bar is there already
        from sfumato.cli.int8 import use_int8
        from sfumato.cli.opening import judged_by_default, open_model
        from sfumato.pipeline import NSFWFilter

        check_names(
            (sampler, hires_sampler), spacing, rng, compat
        )  # a wrong one is said before a large model is opened
        judge = NSFWFilter() if safety_threshold is None else NSFWFilter(safety_threshold)  # so is a wrong threshold
        threshold = None if safety is None else safety_threshold
        pipe = open_model(
            model, device=device, dtype=dtype, variant=variant, safety=safety, safety_threshold=threshold, memory=memory
        )
        if safety is None:
            judged_by_default(pipe, judge, said=safety_threshold is not None)
        pipe.set_engine(engine or "eager")
        load_adapters(pipe, loras, embeddings)
        if vae_tiny is not None:
            pipe.load_tiny_vae(vae_tiny)
        pipe.scheduler = choose_scheduler(pipe.scheduler, sampler, spacing, compat)
        settings = {
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
            **spared,
        }
        if int8 or int8_scales is not None:
            use_int8(pipe, int8_scales, [shot.prompt for shot in shots], settings, shots[0].seed)
        drawing = Drawing(pipe, shots, outputs, progress, overwrite=overwrite, second=second)
        if memory is not None:
            drawing.foretell(width, height, image=bool(pictures))
        drawing.run(settings)
        if outputs.grid and shape:
            drawing.save_grid(shape, outputs.grid)
    if seed is None and not quiet:  # said last: a run that can't be has none
        say(f"seed {shots[0].seed} (drawn at random; --seed {shots[0].seed} draws the same again)")
    if drawing.failed:
        raise typer.Exit(EXIT_SOME_FAILED)


def safety_said(safety: str | None, *, no_safety: bool) -> str | None:
    """What becomes of pictures that look unsafe, of the two options that say it. Raises OptionError where they contradict each other."""
    if no_safety and safety not in (None, "off"):
        raise OptionError(f"--no-safety and --safety {safety} contradict each other; leave one of them out")
    return "off" if no_safety else safety


def check_names(samplers: Sequence[str | None], spacing: str | None, rng: str | None, compat: str | None) -> None:
    """Raise UnknownNameError for a name that there is not, OptionError for noise that there is not."""
    from sfumato.diffusion.noise_rules import Rng
    from sfumato.diffusion.samplers import find_sampler_and_spacing, find_spacing
    from sfumato.pipeline.compat import check_compat

    for sampler in filter(None, samplers):
        find_sampler_and_spacing(sampler)
    if spacing is not None:
        find_spacing(spacing)
    if rng is not None:
        Rng.parse(rng)
    if compat is not None:
        check_compat(compat)


def emphasis_as(compat: str | None) -> str:
    """In whose words prompts are written where nobody says: the program's that is to be followed, else the web UI's. Raises UnknownNameError."""
    if compat is None:
        return "a1111"
    from sfumato.pipeline.compat import HABITS, check_compat

    return HABITS[check_compat(compat)].emphasis


def choose_scheduler(base: "Scheduler", sampler: str | None, spacing: str | None, compat: str | None) -> "Scheduler":
    """The model's scheduler with another sampler or schedule, in the form of the program that is to be followed, if any.

    Raises UnknownNameError, UnsupportedError.
    """
    from sfumato.pipeline.compat import check_compat, scheduler_as
    from sfumato.schedulers import scheduler_for

    if compat is None:
        return scheduler_for(base=base, sampler=sampler, spacing=spacing)
    return scheduler_as(check_compat(compat), base=base, sampler=sampler, spacing=spacing)


def plan_noise(
    rng: str | None, variation_seed: int | None, strength: float | None, resize: str | None, ensd: int | None
) -> dict[str, Any]:
    """The options on noise as a call takes them, all but the subseeds. Raises OptionError for ones that can't be."""
    if variation_seed is None and strength:
        raise OptionError("--variation-strength was given without --variation-seed, the seed to vary towards")
    if variation_seed is not None and not 0 <= variation_seed < 2**64:
        raise OptionError(f"the variation seed is {variation_seed}; expected a whole number from 0 to {2**64 - 1}")
    usual = 0.0 if variation_seed is None else USUAL_VARIATION
    return {
        "rng": rng,
        "subseed_strength": usual if strength is None else strength,
        "seed_resize": parse_size(resize) if resize else None,
        "eta_noise_seed_delta": ensd,
    }


def plan_shots(
    prompts: Sequence[str],
    number: int,
    seed: int | None,
    grid: tuple[int, int] | None,
    *,
    variation: int | None = None,
    held: bool = False,
    needed: bool = True,
) -> list[Shot]:
    """Every picture to draw, in order, `number` a prompt; where only a grid is asked for, as many as fill it.

    Seeds count up; where pictures vary one (`held`), its stays and the variation seeds count up, as in AUTOMATIC1111's web UI.
    A prompt is `needed` but at a guidance of 0, where some models read none.
    Raises PromptError for no prompt or an empty one, OptionError for numbers that can't be, or pictures that don't fill the grid.
    """
    if not prompts or (needed and not all(prompt.strip() for prompt in prompts)):
        raise PromptError('no prompt; say what to draw, such as: sfumato generate "a red apple, 3d style"')
    if number < 1:
        raise OptionError(f"-n is {number}; expected 1 or more pictures")
    if seed is not None and not 0 <= seed < 2**64:
        raise OptionError(f"the seed is {seed}; expected a whole number from 0 to {2**64 - 1}")
    if grid is not None:
        rows, columns = grid
        if number == 1 and rows * columns % len(prompts) == 0:
            number = rows * columns // len(prompts)
        if number * len(prompts) != rows * columns:
            raise OptionError(
                f"a grid of {rows}x{columns} takes {rows * columns} pictures, and {len(prompts)} prompts × {number} make "
                f"{number * len(prompts)}; change -n or --grid"
            )
    first = secrets.randbelow(DRAWN_SEEDS) if seed is None else seed
    wanted = [prompt for prompt in prompts for _ in range(number)]
    return [
        Shot(
            prompt=prompt,
            seed=(first + (0 if held else place)) % 2**64,
            variation=None if variation is None else (variation + place) % 2**64,
        )
        for place, prompt in enumerate(wanted)
    ]
