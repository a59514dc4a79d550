"""Options of commands that draw: what is asked for in words and numbers."""

from pathlib import Path
from typing import Annotated

import typer

from sfumato.cli.wording import EMPHASIS_HELP

Prompts = Annotated[
    list[str] | None, typer.Argument(metavar="PROMPT…", help="What to draw; several prompts make one picture each.")
]
Number = Annotated[int, typer.Option("-n", "--number", help="Pictures for each prompt.")]
Seed = Annotated[
    int | None, typer.Option(help="Seed of the first picture; the next ones count up. Drawn and said if not given.")
]
Steps = Annotated[int | None, typer.Option(help="Denoising steps. (default: the model's)")]
Guidance = Annotated[
    float | None, typer.Option(help="How closely to follow the prompt; 1 is no guidance. (default: the model's)")
]
GuidanceRescale = Annotated[
    float | None, typer.Option(help="Take back so much of what guidance adds to contrast, 0 to 1. (default: 0)")
]
GuidanceInterval = Annotated[
    str | None, typer.Option(metavar="START,END", help="Guide only this share of the steps, such as 0.2,0.8.")
]
PagScale = Annotated[
    float | None, typer.Option(help="Perturbed-attention guidance, for firmer shapes; usual: 3. (default: 0)")
]
PagAdaptive = Annotated[
    float | None, typer.Option(help="How much of --pag-scale is gone with each of the network's 1000 timesteps.")
]
PagLayers = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="Which attention to perturb: mid, down_blocks.1, …; repeat. (default: mid)"),
]
Freeu = Annotated[str | None, typer.Option(metavar="S1,S2,B1,B2", help="FreeU's factors, such as 0.9,0.2,1.2,1.4.")]
Sampler = Annotated[
    str | None,
    typer.Option(
        help="By any name that AUTOMATIC1111, k-diffusion or diffusers have for it, such as euler, 'DPM++ 2M Karras', UniPC; "
        "`sfumato samplers` lists them. (default: the model's)"
    ),
]
Spacing = Annotated[
    str | None,
    typer.Option(
        "--schedule",
        "--spacing",
        help="Which noise levels to visit: karras, exponential, beta, trailing, …; `sfumato samplers --schedules` lists them. "
        "(default: the model's, or the sampler's own)",
    ),
]
Size = Annotated[str | None, typer.Option(metavar="WxH", help="Width and height in pixels. (default: the model's)")]
Rng = Annotated[
    str | None,
    typer.Option(
        help="Whose noise a seed gives: cpu (diffusers on a CPU, ComfyUI), nv (CUDA, the A1111 web UI), or nv:CARD, such as nv:t4. "
        "(default: cpu)"
    ),
]
VariationSeed = Annotated[
    int | None, typer.Option(help="Vary the picture of --seed towards this one's; the next ones count up.")
]
VariationStrength = Annotated[
    float | None, typer.Option(help="How far to vary, 0 to 1. (default: 0.1 with --variation-seed)")
]
SeedResize = Annotated[
    str | None, typer.Option(metavar="WxH", help="Begin from the noise that the seed has at this size.")
]
Ensd = Annotated[
    int | None, typer.Option(help="Added to the seed for the noise of later steps (eta noise seed delta).")
]
Negative = Annotated[str | None, typer.Option(help="What to keep out of the picture.")]
Eta = Annotated[
    float,
    typer.Option(help="Noise renewed at each step, 0 to 1, for DDIM and others that can do with more or less."),
]
Fast = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[NAME[:VALUE]]",
        help="Spare work at the cost of some likeness: cache, merge, adaptive, interval, each with a value if you like; alone, what is "
        "sound together. Repeat for several.",
    ),
]
ClipSkip = Annotated[int | None, typer.Option(help="Last layers of the text encoder to leave out.")]
Emphasis = Annotated[str | None, typer.Option(help=f"{EMPHASIS_HELP} (default: a1111)", show_default=False)]
Compat = Annotated[
    str | None,
    typer.Option(
        metavar="PROGRAM",
        help="Draw as a1111 or diffusers would: noise, emphasis, schedule and rounding. Other options go before it.",
    ),
]
Style = Annotated[
    list[str] | None, typer.Option(metavar="NAME", help="Words of a style around the prompts. Repeat for several.")
]
Styles = Annotated[Path | None, typer.Option(metavar="FILE", help="The table of styles. (default: styles.csv)")]
Wildcards = Annotated[Path | None, typer.Option(metavar="FOLDER", help="Lists for __name__ in prompts, as .txt files.")]
