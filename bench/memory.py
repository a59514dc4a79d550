"""What a run takes in memory, predicted and measured: a checkpoint of Stable Diffusion 1.5's size, under several budgets.

Anonymous memory (RssAnon) is the process's own; weights that are read through the file's map are not part of it, and of RSS they are. Both are
polled from outside, so that nothing is missed while the process computes. Run it with `python bench/memory.py --folder SOMEWHERE`, which needs
5 GB there, or on a model of yours with `--model`. Memory does not depend on the number of steps, so one will do.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DRAW = """
import json, logging, sys, warnings
warnings.simplefilter("ignore")
logging.disable(logging.WARNING)
import torch
from sfumato import StableDiffusionPipeline
model, memory, size, steps, output = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
from sfumato import EulerDiscreteScheduler
options = {} if memory is None else {"memory": memory}
pipe = StableDiffusionPipeline.from_pretrained(model, safety="off", **options)
pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
pipe.set_progress_bar_config(disable=True)
_, predicted = pipe.predict_memory(size, size)
print(json.dumps({"peak": predicted.peak, "stages": {name: predicted.of(name) for name in predicted.stages}}), flush=True)
result = pipe("a red apple on a table", num_inference_steps=steps, height=size, width=size, seeds=[1], output_type=output)
print(json.dumps([note for note in result.notes if "memory" in note]))
"""


@dataclass(frozen=True, slots=True)
class Peak:
    """The most that a process had, in bytes, and how long it ran, in seconds."""

    anonymous: int
    resident: int
    seconds: float


def watched(command: list[str]) -> tuple[Peak, list[str]]:
    """Run a command and poll its memory; its peak, and the lines that it printed. Exits if it fails."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    most = {"RssAnon": 0, "VmRSS": 0}
    while process.poll() is None:
        try:
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        except OSError:
            break
        for line in lines:
            name = line.partition(":")[0]
            if name in most:
                most[name] = max(most[name], int(line.split()[1]) * 1024)
        time.sleep(0.004)
    printed = process.communicate()[0].splitlines()
    if process.returncode:
        raise SystemExit(f"the run failed with {process.returncode}")
    return Peak(most["RssAnon"], most["VmRSS"], time.perf_counter() - start), printed


def measure(
    model: Path, memory: Any, size: int, steps: int, output: str = "pil"
) -> tuple[Peak, dict[str, Any], list[str]]:
    """Draw one picture in a process of its own: its peak, what was predicted, and the notes on memory."""
    command = [sys.executable, "-c", DRAW, str(model), json.dumps(memory), str(size), str(steps), output]
    peak, printed = watched(command)
    return peak, json.loads(printed[0]), json.loads(printed[1])


def main() -> None:
    """Measure each budget at each size and print a table as it grows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--model", type=Path, default=None, help="a model on this machine (default: a random one, made)"
    )
    parser.add_argument("--folder", type=Path, default=None, help="where to make the random one")
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--budgets", nargs="+", default=["none", "2GB", "1GB", "min"])
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--latents", action="store_true", help="leave out the decoding")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as scratch:
        model = arguments.model
        if model is None:
            from open_checkpoint import make_checkpoint

            model = Path(scratch) / "random.safetensors"
            make_checkpoint(model, Path(scratch) / "folder")
        print(
            "| pixels | memory | predicted MB | measured MB | ratio | peak RSS MB | s |\n|---|---|---|---|---|---|---|"
        )
        for size in arguments.sizes:
            for budget in arguments.budgets:
                memory = None if budget == "none" else budget
                peak, predicted, notes = measure(
                    model, memory, size, arguments.steps, "latent" if arguments.latents else "pil"
                )
                expected = predicted["stages"]["unet"] if arguments.latents else predicted["peak"]
                print(
                    f"| {size} | {budget} | {expected / 1e6:,.0f} | {peak.anonymous / 1e6:,.0f} | {expected / peak.anonymous:.2f} "
                    f"| {peak.resident / 1e6:,.0f} | {peak.seconds:,.0f} |",
                    flush=True,
                )
                for note in notes:
                    print(f"  {note}", file=sys.stderr)


if __name__ == "__main__":
    main()
