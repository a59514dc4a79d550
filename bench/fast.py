"""What each fast option costs and gains: the table in docs/fast.md.

Cost, on the bundled model: how far the finished pictures are from those that are drawn without it (PSNR; with `--eval N`, what
`sfumato eval` finds right of N prompts of each kind). Gain: how much of the work is left, counted in the questions that those runs put to
the network, each with the multiplications that it takes of Stable Diffusion 1.5; and of the processor's time, on a network of that size
with random weights. Nothing is downloaded. Some minutes on an idle machine; `python bench/fast.py --prompts 24`.
"""

import argparse
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from sfumato import StableDiffusionPipeline
from sfumato.bundle import bundled_model
from sfumato.models import AutoencoderKL, TinyAutoencoder, TinyVAEConfig, UNet, UNetConfig, VAEConfig
from sfumato.models.deep_features import DeepFeatures
from sfumato.pipeline.fast_options import TOGETHER

DOCUMENT = Path(__file__).parents[1] / "docs" / "fast.md"
BEGIN, END = "<!-- the table: python bench/fast.py -->", "<!-- end of the table -->"

OPTIONS: dict[str, dict[str, Any]] = {
    "cache:2": {"cache": 2},
    "cache:3": {"cache": 3},
    "cache:5": {"cache": 5},
    "cache:2 cache_depth:0": {"cache": 2, "cache_depth": 0},
    "cache:2 cache_depth:2": {"cache": 2, "cache_depth": 2},
    "merge:0.25": {"merge": 0.25},
    "merge:0.5": {"merge": 0.5},
    "merge:0.75": {"merge": 0.75},
    "adaptive:0.98": {"adaptive": 0.98},
    "adaptive:0.99": {"adaptive": 0.99},
    "adaptive:0.995": {"adaptive": 0.995},
    "interval:0-0.8": {"interval": (0.0, 0.8)},
    "interval:0-0.6": {"interval": (0.0, 0.6)},
    "interval:0.2-1": {"interval": (0.2, 1.0)},
    "alone": dict(TOGETHER),
}


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One way in which a network is evaluated: so many rows, of its inside only what was kept (at a depth), some positions merged."""

    rows: int
    kept: int | None = None
    merge: float = 0.0


Pattern: TypeAlias = Counter[Evaluation]
"""How often a run evaluates its network in which way."""


@contextmanager
def counting(unet: UNet) -> Iterator[Pattern]:
    """The evaluations of a network inside the block."""
    pattern: Pattern = Counter()

    def heard(_: nn.Module, given: tuple[Any, ...], said: dict[str, Any]) -> None:
        deep, merging = said.get("deep"), said.get("merging")
        kept = deep.depth if deep is not None and deep.features is not None else None
        pattern[Evaluation(rows=len(given[0]), kept=kept, merge=0.0 if merging is None else merging.share)] += 1

    hook = unet.register_forward_pre_hook(heard, with_kwargs=True)
    try:
        yield pattern
    finally:
        hook.remove()


def evaluate(unet: UNet, side: int, way: Evaluation) -> Callable[[], Tensor]:
    """That evaluation of Stable Diffusion 1.5, for a picture of that side, ready to be done."""
    device = unet.device
    generator = None if device.type == "meta" else torch.Generator().manual_seed(0)
    x = torch.randn(way.rows, 4, side // 8, side // 8, generator=generator, device=device)
    keys_values = unet.keys_values(torch.randn(way.rows, 77, 768, generator=generator, device=device))
    merging = unet.merging_positions(way.merge) if way.merge else None
    deep = None if way.kept is None else DeepFeatures(way.kept)
    if deep is not None:
        unet(x, 500.0, keys_values, merging=merging, deep=deep)
    return lambda: unet(x, 500.0, keys_values, merging=merging, deep=deep)


def work(do: Callable[[], object]) -> int:
    """Multiplications and additions of what is computed on the meta device, which computes nothing."""
    with FlopCounterMode(display=False) as counter:
        do()
    return counter.get_total_flops()


def seconds(things: Mapping[Any, Callable[[], object]], runs: int) -> dict[Any, float]:
    """Processor time of each, the median of some runs that take turns."""
    taken: dict[Any, list[float]] = {name: [] for name in things}
    for _ in range(runs):
        for name, do in things.items():
            start = time.process_time()
            do()
            taken[name].append(time.process_time() - start)
    return {name: median(times) for name, times in taken.items()}


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """Decibels between two pictures of 8 bits; infinite for the same one."""
    error = np.mean((one.astype(np.float64) - other.astype(np.float64)) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def said_as(decibels: float) -> str:
    """Decibels in words."""
    return f"{decibels:.1f} dB" if np.isfinite(decibels) else "the same"


def prompts_of(pipe: StableDiffusionPipeline, count: int) -> list[str]:
    """Things and styles that the model was taught, spread over its lists."""
    things, styles = list(pipe.card.vocabulary), list(pipe.card.styles)
    chosen = [things[place * len(things) // count] for place in range(count)]
    return [f"{thing}, {styles[place % len(styles)]} style" if styles else thing for place, thing in enumerate(chosen)]


def drawn(pipe: StableDiffusionPipeline, prompts: Sequence[str], **options: Any) -> tuple[list[np.ndarray], Pattern]:
    """A picture of each prompt, each from a seed of its own, and how the network was evaluated for them."""
    with counting(pipe.unet) as pattern:
        images = [pipe(prompt, seeds=[seed], **options).images[0] for seed, prompt in enumerate(prompts)]
    return [np.asarray(image) for image in images], pattern


def right(pipe: StableDiffusionPipeline, count: int, **options: Any) -> float:
    """The share of what `sfumato eval` looks for that is right."""
    from sfumato.evaluation import Repertoire, load_classifier, read_gallery
    from sfumato.evaluation import evaluate as judged
    from sfumato.evaluation.drawing import Drawing

    gallery = read_gallery()
    repertoire = Repertoire(gallery.entries).of_model(pipe.card.styles or None, pipe.card.vocabulary or None)
    result = judged(Drawing(pipe, options), gallery, load_classifier(), repertoire, count=count)
    scores = [score for one in result.results for score in one.scores.values()]
    return sum(score.right for score in scores) / sum(score.of for score in scores)


def share(pattern: Pattern, plain: Pattern, of: Mapping[Evaluation, float]) -> str:
    """How much of a plain run's work is left, as a percentage."""
    left, whole = (sum(of[way] * count for way, count in each.items()) for each in (pattern, plain))
    return f"{left / whole:.0%}"


def tiny_row(side: int, runs: int) -> str:
    """What a tiny autoencoder's decoding takes beside a whole one's."""
    sizes: dict[str, Callable[[], AutoencoderKL | TinyAutoencoder]] = {
        "whole": lambda: AutoencoderKL(VAEConfig()),
        "tiny": lambda: TinyAutoencoder(TinyVAEConfig(), encoder=False),
    }
    with torch.device("meta"):
        counted = {
            name: work(lambda make=make: make().decode(torch.empty(1, 4, side // 8, side // 8)))
            for name, make in sizes.items()
        }
    line = f"A decoding at {side}²: {counted['tiny'] / counted['whole']:.1%} of the multiplications"
    if runs:
        latents = torch.randn(1, 4, side // 8, side // 8)
        networks = {name: make().eval().requires_grad_(False) for name, make in sizes.items()}
        with torch.no_grad():
            taken = seconds({name: lambda net=net: net.decode(latents) for name, net in networks.items()}, runs)
        line += f", {taken['tiny']:.2f} s of the processor beside {taken['whole']:.2f} s ({taken['tiny'] / taken['whole']:.1%})"
    return f"{line}."


def written(lines: Sequence[str]) -> None:
    """Put the table in its place in the document."""
    before, rest = DOCUMENT.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    DOCUMENT.write_text("\n".join([before + BEGIN, *lines, END]) + after, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=24)
    parser.add_argument("--steps", type=int, help="of the bundled model's runs; its own if not given")
    parser.add_argument("--side", type=int, default=256, help="of the picture whose evaluations are timed")
    parser.add_argument("--runs", type=int, default=3, help="of each that is timed; 0 times nothing")
    parser.add_argument("--eval", type=int, default=0, metavar="N", help="prompts of each kind that are judged as well")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="*", metavar="OPTION", help="some of the options; the document stays as it is")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    logging.getLogger("sfumato").setLevel(logging.ERROR)

    pipe = StableDiffusionPipeline.from_pretrained(bundled_model())
    pipe.set_progress_bar_config(disable=True)
    settings = {} if asked.steps is None else {"num_inference_steps": asked.steps}
    prompts = prompts_of(pipe, asked.prompts)
    start = time.perf_counter()
    expected, plain = drawn(pipe, prompts, **settings)
    print(f"{len(prompts)} pictures without any in {time.perf_counter() - start:.0f} s", flush=True)
    apart: dict[str, list[float]] = {}
    patterns: dict[str, Pattern] = {}
    scores = {"": right(pipe, asked.eval, **settings)} if asked.eval else {}
    for name, values in OPTIONS.items():
        if asked.only and name not in asked.only:
            continue
        images, patterns[name] = drawn(pipe, prompts, fast=values, **settings)
        apart[name] = [psnr(one, other) for one, other in zip(expected, images, strict=True)]
        if asked.eval:
            scores[name] = right(pipe, asked.eval, fast=values, **settings)
        print(f"{name}: {median(apart[name]):.1f} dB, {dict(patterns[name])}", flush=True)

    ways = list({way: None for each in (plain, *patterns.values()) for way in each})
    with torch.device("meta"):
        sd = UNet(UNetConfig())
    counted = {side: {way: work(evaluate(sd, side, way)) for way in ways} for side in (256, 512)}
    timed: dict[Evaluation, float] = {}
    if asked.runs:
        sd = sd.to_empty(device="cpu").eval().requires_grad_(False).to(memory_format=torch.channels_last)
        for parameter in sd.parameters():
            parameter.uniform_(-0.02, 0.02)
        with torch.no_grad():
            timed = seconds({way: evaluate(sd, asked.side, way) for way in ways}, asked.runs)

    titles = ["`--fast`", "PSNR, median", "least", "work at 256²", "at 512²"]
    titles += [f"time at {asked.side}²"] * bool(timed) + ["`sfumato eval`"] * bool(scores)
    table = [titles, ["---"] + ["--:"] * (len(titles) - 1)]
    for name, pattern in patterns.items():
        decibels = apart[name]
        row = [
            f"`{name}`" if name != "alone" else "alone",
            *(said_as(each) for each in (median(decibels), min(decibels))),
        ]
        row += [share(pattern, plain, counted[side]) for side in (256, 512)]
        row += [share(pattern, plain, timed)] if timed else []
        row += [f"{scores[name]:.1%}"] if scores else []
        table.append(row)
    per_step = (
        f" A whole evaluation of two rows took {timed[Evaluation(rows=2)]:.2f} s of the processor." if timed else ""
    )
    steps = sum(plain.values()) // len(prompts)
    said = (
        f"{len(prompts)} prompts, {steps} evaluations each; model {(pipe.source.origin.sha256 or 'unknown')[:10]}; "
        f"threads: {asked.threads}.{per_step}" + (f" `sfumato eval` without any: {scores['']:.1%}." if scores else "")
    )
    lines = [*("| " + " | ".join(row) + " |" for row in table), "", said, "", tiny_row(asked.side, asked.runs)]
    print("\n".join(lines))
    if not asked.only:
        written(lines)


if __name__ == "__main__":
    main()
