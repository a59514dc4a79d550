"""int8 on the bundled model: the scales that come with it, its pictures beside float32's, and what each layer does to them.

`python bench/int8.py calibrate` draws 32 prompts and writes their scales beside the model's weights: run it whenever these change.
`python bench/int8.py pictures` draws 100 others in float32 and in int8 with the same seeds, and prints how near they are, in decibels.
`python bench/int8.py layers` draws a few with one group of layers in int8 at a time, or with `--each` one layer.
`sfumato eval --int8` takes the scores.
"""

import argparse
import random
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from sfumato import StableDiffusionPipeline, bundled_model
from sfumato.models.quantising import Quantisation, dynamic, quantise

CALIBRATION, PICTURES, BAR = "calibration", "pictures", 30.0
COLOURS = ("red", "blue", "yellow", "green", "purple")
GROUPS = ("conv1", "conv2", "shortcut", ".conv", "attention.proj_in", "attention.proj_out", "self_attention", "cross_attention", "feed_forward.proj_in",
          "feed_forward.proj_out")  # fmt: skip


def prompts_of(pipe: StableDiffusionPipeline, purpose: str, count: int) -> list[str]:
    """Some prompts of every kind that the model has learned, the same each time, and others for each purpose."""
    chance = random.Random(purpose)
    names = sorted(pipe.card.vocabulary)
    ways = ("{a}, {style} style", "{a} on a {colour} background", "a {colour} {a}", "{a} and {b}", "{a}")
    return [
        ways[number % len(ways)].format(
            a=chance.choice(names),
            b=chance.choice(names),
            style=chance.choice(pipe.card.styles),
            colour=chance.choice(COLOURS),
        )
        for number in range(count)
    ]


def opened(model: str | None) -> StableDiffusionPipeline:
    pipe = StableDiffusionPipeline.from_pretrained(model or bundled_model(), torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def drawn(pipe: StableDiffusionPipeline, prompts: Sequence[str], first: int = 0) -> tuple[list[np.ndarray], float]:
    """The pictures, each with a seed of its own, and the seconds of processor time."""
    start = time.process_time()
    made = [
        np.asarray(pipe(prompt, seeds=[seed]).images[0], dtype=np.float64) for seed, prompt in enumerate(prompts, first)
    ]
    return made, time.process_time() - start


def nearness(one: np.ndarray, other: np.ndarray) -> float:
    """Peak signal to noise between two pictures, in decibels; 99 for equal ones."""
    error = ((one - other) ** 2).mean()
    return 99.0 if error == 0 else float(10 * np.log10(255**2 / error))


def line(name: str, values: Sequence[float], seconds: float) -> str:
    ordered = sorted(values)
    tenth = ordered[len(ordered) // 10]
    return f"{name:<28}{statistics.median(values):>8.1f}{tenth:>8.1f}{ordered[0]:>8.1f}{seconds:>9.1f}"


HEAD = f"{'dB to float32':<28}{'median':>8}{'tenth':>8}{'least':>8}{'cpu, s':>9}"


def calibrate(pipe: StableDiffusionPipeline, count: int) -> None:
    pipe.quantize(prompts_of(pipe, CALIBRATION, count), seeds=[0])
    path = Path(bundled_model()) / "unet" / "int8.json"
    pipe.save_quantization(path, overwrite=True)
    print(path)


def pictures(pipe: StableDiffusionPipeline, count: int, *, also_dynamic: bool) -> None:
    ways = {"static": pipe.quantize(), "dynamic": dynamic(pipe.unet)}
    if not ways["static"].weights:
        raise SystemExit("the scales beside the weights were taken with others; run python bench/int8.py calibrate")
    if not also_dynamic:
        del ways["dynamic"]
    prompts = prompts_of(pipe, PICTURES, count)
    values: dict[str, list[float]] = {name: [] for name in ways}
    seconds = dict.fromkeys(("float32", *ways), 0.0)
    for start in range(0, count, 10):
        pipe.dequantize()
        plain, spent = drawn(pipe, prompts[start : start + 10], first=start)
        seconds["float32"] += spent
        for name, way in ways.items():
            quantise(pipe.unet, way)
            made, spent = drawn(pipe, prompts[start : start + 10], first=start)
            seconds[name] += spent
            values[name] += [nearness(one, other) for one, other in zip(plain, made, strict=True)]
            print(
                f"{min(start + 10, count)} drawn, {name}: median {statistics.median(values[name]):.1f} dB", flush=True
            )
    print(HEAD)
    print(f"{'float32':<28}{'':>24}{seconds['float32']:>9.1f}")
    for name in ways:
        print(line(name, values[name], seconds[name]))
    met = all(statistics.median(each) >= BAR for each in values.values())
    print(f"bar: a median of {BAR:g} dB over {count} prompts: {'met' if met else 'MISSED'}")


def layers(pipe: StableDiffusionPipeline, count: int, *, each: bool) -> None:
    prompts = prompts_of(pipe, PICTURES, count)
    plain, _ = drawn(pipe, prompts)
    whole = pipe.quantize()
    groups = (
        list(whole.layers) if each else [group for group in GROUPS if any(is_of(group, name) for name in whole.layers)]
    )
    print(HEAD)
    for group in ("all", *groups):
        chosen = {
            name: scale
            for name, scale in whole.layers.items()
            if group in ("all", name) or (not each and is_of(group, name))
        }
        quantise(pipe.unet, Quantisation(layers=chosen, weights=whole.weights, prompts=whole.prompts))
        made, seconds = drawn(pipe, prompts)
        values = [nearness(one, other) for one, other in zip(plain, made, strict=True)]
        print(line(f"{group} ({len(chosen)})" if not each else group, values, seconds), flush=True)


def is_of(group: str, name: str) -> bool:
    return name.endswith(group) or f"{group}." in name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("calibrate", "pictures", "layers"))
    parser.add_argument("--count", type=int, help="prompts (default: 32, 100 and 8)")
    parser.add_argument("--each", action="store_true", help="every layer by itself")
    parser.add_argument("--dynamic", action="store_true", help="also with scales taken from each input")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--model", help="another model than the bundled one, whose pictures are of such prompts")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    pipe = opened(arguments.model)
    count = arguments.count or {"calibrate": 32, "pictures": 100, "layers": 8}[arguments.what]
    if arguments.what == "calibrate":
        calibrate(pipe, count)
    elif arguments.what == "pictures":
        pictures(pipe, count, also_dynamic=arguments.dynamic)
    else:
        layers(pipe, count, each=arguments.each)


if __name__ == "__main__":
    main()
