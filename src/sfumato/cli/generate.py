"""`sfumato generate`: prompts in, pictures out."""

import secrets
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sfumato.cli.adapters import load_adapters, parse_embedding, parse_lora
from sfumato.cli.canvas import canvas_options
from sfumato.cli.fast import fast_options
from sfumato.cli.guidance import guidance_options
from sfumato.cli.outputs import Shot, plan_outputs
from sfumato.cli.parsing import parse_grid, parse_size
from sfumato.cli.pictures import picture_options, second_pass
from sfumato.cli.terminal import say
from sfumato.cli.wording import EMPHASIS_HELP, Worded
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
    prompts: Annotated[
        list[str] | None, typer.Argument(metavar="PROMPT…", help="What to draw; several prompts make one picture each.")
    ] = None,
    number: Annotated[int, typer.Option("-n", "--number", help="Pictures for each prompt.")] = 1,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the first picture; the next ones count up. Drawn and said if not given.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps. (default: the model's)")] = None,
    guidance: Annotated[
        float | None, typer.Option(help="How closely to follow the prompt; 1 is no guidance. (default: the model's)")
    ] = None,
    guidance_rescale: Annotated[
        float | None, typer.Option(help="Take back so much of what guidance adds to contrast, 0 to 1. (default: 0)")
    ] = None,
    guidance_interval: Annotated[
        str | None, typer.Option(metavar="START,END", help="Guide only this share of the steps, such as 0.2,0.8.")
    ] = None,
    pag_scale: Annotated[
        float | None, typer.Option(help="Perturbed-attention guidance, for firmer shapes; usual: 3. (default: 0)")
    ] = None,
    pag_adaptive: Annotated[
        float | None, typer.Option(help="How much of --pag-scale is gone with each of the network's 1000 timesteps.")
    ] = None,
    pag_layers: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Which attention to perturb: mid, down_blocks.1, …; repeat. (default: mid)"),
    ] = None,
    freeu: Annotated[
        str | None, typer.Option(metavar="S1,S2,B1,B2", help="FreeU's factors, such as 0.9,0.2,1.2,1.4.")
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(
            help="By any name that AUTOMATIC1111, k-diffusion or diffusers have for it, such as euler, 'DPM++ 2M Karras', UniPC; "
            "`sfumato samplers` lists them. (default: the model's)"
        ),
    ] = None,
    spacing: Annotated[
        str | None,
        typer.Option(
            "--schedule",
            "--spacing",
            help="Which noise levels to visit: karras, exponential, beta, trailing, …; `sfumato samplers --schedules` lists them. "
            "(default: the model's, or the sampler's own)",
        ),
    ] = None,
    size: Annotated[
        str | None, typer.Option(metavar="WxH", help="Width and height in pixels. (default: the model's)")
    ] = None,
    rng: Annotated[
        str | None,
        typer.Option(
            help="Whose noise a seed gives: cpu (diffusers on a CPU, ComfyUI), nv (CUDA, the A1111 web UI), or nv:CARD, such as nv:t4. "
            "(default: cpu)"
        ),
    ] = None,
    variation_seed: Annotated[
        int | None, typer.Option(help="Vary the picture of --seed towards this one's; the next ones count up.")
    ] = None,
    variation_strength: Annotated[
        float | None, typer.Option(help="How far to vary, 0 to 1. (default: 0.1 with --variation-seed)")
    ] = None,
    seed_resize: Annotated[
        str | None, typer.Option(metavar="WxH", help="Begin from the noise that the seed has at this size.")
    ] = None,
    ensd: Annotated[
        int | None, typer.Option(help="Added to the seed for the noise of later steps (eta noise seed delta).")
    ] = None,
    negative: Annotated[str | None, typer.Option(help="What to keep out of the picture.")] = None,
    image: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Begin from this picture; its size is drawn, unless --size says another."),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(help="How much of the image is to change, 0 to 1. (default: 0.8; under a mask 1)"),
    ] = None,
    resize: Annotated[
        str | None,
        typer.Option(
            metavar="MODE", help="An image of other proportions: resize (stretch), crop, fill. (default: resize)"
        ),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Paint anew what is white here, and change no pixel where it is black."),
    ] = None,
    mask_blur: Annotated[float | None, typer.Option(help="Soften the mask's edge by so many pixels.")] = None,
    soft_mask: Annotated[bool, typer.Option("--soft-mask", help="Paint in part what is grey in the mask.")] = False,
    mask_content: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT",
            help="What lies under the mask at first: original, fill (its surroundings), noise, nothing. (default: original)",
        ),
    ] = None,
    only_masked: Annotated[
        int | None,
        typer.Option(
            metavar="PADDING",
            help="Paint only the masked part, with so many pixels around it, at the full size of the model or --size.",
        ),
    ] = None,
    extend: Annotated[
        str | None,
        typer.Option(
            metavar="L,T,R,B", help="Paint margins of so many pixels around the image: left, top, right, bottom."
        ),
    ] = None,
    hires: Annotated[
        float | None,
        typer.Option(
            metavar="SCALE",
            help="Draw at the size, enlarge that much, and draw over it: a second pass with its own settings.",
        ),
    ] = None,
    hires_strength: Annotated[
        float | None, typer.Option(help="How much the second pass changes, 0 to 1. (default: 0.7)")
    ] = None,
    hires_steps: Annotated[
        int | None, typer.Option(help="Steps of the second pass. (default: those of the first)")
    ] = None,
    hires_sampler: Annotated[
        str | None, typer.Option(metavar="SAMPLER", help="Sampler of the second pass. (default: that of the first)")
    ] = None,
    hires_prompt: Annotated[
        str | None, typer.Option(help="Prompt of the second pass. (default: that of the first)")
    ] = None,
    hires_enlarge: Annotated[
        str | None, typer.Option(metavar="WHAT", help="What is enlarged: latent or pixel. (default: latent)")
    ] = None,
    upscale: Annotated[
        float | None,
        typer.Option(
            metavar="SCALE", help="Draw the image over at so many times its size, in tiles, at a strength of 0.3."
        ),
    ] = None,
    tile: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Draw a picture larger than the model in overlapping tiles: pixels of a side, WxH, or 'model' for its own size.",
        ),
    ] = None,
    tile_overlap: Annotated[
        int | None,
        typer.Option(metavar="PIXELS", help="How far tiles overlap at least. (default: a quarter of a tile)"),
    ] = None,
    seamless: Annotated[
        str | None, typer.Option(metavar="AXES", help="Draw a texture that can be laid beside itself: x, y or both.")
    ] = None,
    image_guidance: Annotated[
        float | None, typer.Option(help="How closely an edited image follows the one given, from 1 up. (default: 1.5)")
    ] = None,
    depth: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A depth map for models that read one: brighter is nearer.")
    ] = None,
    noise_level: Annotated[
        int | None,
        typer.Option(help="How noisy the ×4 upscaler makes the image before it enlarges it, 0 to 350. (default: 20)"),
    ] = None,
    eta: Annotated[
        float,
        typer.Option(help="Noise renewed at each step, 0 to 1, for DDIM and others that can do with more or less."),
    ] = 0.0,
    fast: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME[:VALUE]]",
            help="Spare work at the cost of some likeness: cache, merge, adaptive, interval, each with a value if you like; alone, what is "
            "sound together. Repeat for several.",
        ),
    ] = None,
    clip_skip: Annotated[int | None, typer.Option(help="Last layers of the text encoder to leave out.")] = None,
    emphasis: Annotated[str | None, typer.Option(help=f"{EMPHASIS_HELP} (default: a1111)", show_default=False)] = None,
    compat: Annotated[
        str | None,
        typer.Option(
            metavar="PROGRAM",
            help="Draw as a1111 or diffusers would: noise, emphasis, schedule and rounding. Other options go before it.",
        ),
    ] = None,
    style: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Words of a style around the prompts. Repeat for several.")
    ] = None,
    styles: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The table of styles. (default: styles.csv)")
    ] = None,
    wildcards: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Lists for __name__ in prompts, as .txt files.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Model folder, model file (.safetensors, .ckpt) or hub id. (default: the bundled model)"),
    ] = None,
    variant: Annotated[str | None, typer.Option(help="Which weights of the model, such as fp16.")] = None,
    lora: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE[:WEIGHT[:TEXT_WEIGHT]]",
            help="Add a LoRA or its kin, with a weight (1) for U-Net and text. Repeat for several.",
        ),
    ] = None,
    embedding: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE[:WORD]", help="Add an embedding, which prompts call by WORD. Repeat for several."),
    ] = None,
    vae_tiny: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Decode by this tiny autoencoder, such as TAESD's decoder, and not by the model's own."
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1 or mps. (default: an accelerator if there is one)")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="float32, float16, bfloat16. (default: float32 on a CPU, float16 elsewhere)")
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="The most memory to take on a CPU: 2GB, 600MB, or min for as little as possible. Slower, and the same picture.",
        ),
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="Compute the U-Net in int8 on a CPU: faster, and close to the same picture.")
    ] = False,
    int8_scales: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Scales for --int8; made by drawing some of the prompts first, where there is no such file. (default: those that come with "
            "the model, or else each input's own)",
        ),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(help="What evaluates the networks: eager, compile, openvino, graphs, or auto. (default: eager)"),
    ] = None,
    safety: Annotated[
        str | None,
        typer.Option(
            metavar="MODE",
            help="Pictures that look unsafe: block (black instead), blur, flag (only say so), or off (don't look). The model's own safety "
            "checker looks, or the filter that comes with Sfumato. (default: block by the model's own; flag where it has none; off for "
            "the bundled model)",
        ),
    ] = None,
    safety_threshold: Annotated[
        float | None,
        typer.Option(help="Score from which Sfumato's filter calls a picture unsafe, 0 to 1. (default: 0.5)"),
    ] = None,
    no_safety: Annotated[bool, typer.Option("--no-safety", help="The same as --safety off.")] = False,
    out: Annotated[
        str | None, typer.Option(metavar="PATH", help="A file (.png, .webp, .jpg) or a folder. (default: outputs/)")
    ] = None,
    grid: Annotated[
        str | None, typer.Option(metavar="RxC", help="Also save all pictures as one, in rows and columns.")
    ] = None,
    animate: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also save the denoising as a .gif or .webp.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress bar; only notes, errors and paths.")
    ] = False,
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
    if no_safety and safety not in (None, "off"):
        raise OptionError(f"--no-safety and --safety {safety} contradict each other; leave one of them out")
    safety = "off" if no_safety else safety
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
        from sfumato.diffusion.noise_rules import Rng
        from sfumato.diffusion.samplers import find_sampler_and_spacing, find_spacing
        from sfumato.pipeline import NSFWFilter

        for named in (sampler, hires_sampler):
            if named is not None:
                find_sampler_and_spacing(named)  # a wrong name is said before a large model is opened
        if spacing is not None:
            find_spacing(spacing)
        if rng is not None:
            Rng.parse(rng)
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
