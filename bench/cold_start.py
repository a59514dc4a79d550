"""Process start to first image, beside diffusers, with the bundled model.

Each measurement is a process of its own; the two programs take turns, and medians and their ratio are printed. Nothing is
downloaded. Run it with `make bench`, or `python bench/cold_start.py --runs 5 --steps 20`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

PROGRAMS = ("sfumato", "diffusers")

MEASURE = """
import json, resource, sys, time
start = time.perf_counter()
program, steps = sys.argv[1], int(sys.argv[2])
if program == "sfumato":
    from sfumato import StableDiffusionPipeline
else:
    from diffusers import StableDiffusionPipeline
imported = time.perf_counter()
from sfumato import bundled_model
import torch
options = {"safety_checker": None} if program == "diffusers" else {}
pipe = StableDiffusionPipeline.from_pretrained(bundled_model(), torch_dtype=torch.float32, **options)
pipe.set_progress_bar_config(disable=True)
loaded = time.perf_counter()
draw = lambda seed: pipe("a red apple, 3d style", num_inference_steps=steps, generator=torch.Generator().manual_seed(seed))
draw(0)
first = time.perf_counter()
draw(1)
second = time.perf_counter()
print(json.dumps({
    "import, s": imported - start,
    "load, s": loaded - imported,
    "start to first image, s": first - start,
    "next image, s": second - first,
    "peak RSS, MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
}))
"""


def measure(program: str, steps: int) -> dict[str, float]:
    """One process of one program: seconds and MiB by name."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", MEASURE, program, str(steps)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{program} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Take turns, print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="processes for each program")
    parser.add_argument("--steps", type=int, default=20, help="denoising steps an image")
    arguments = parser.parse_args()
    runs: dict[str, list[dict[str, float]]] = {program: [] for program in PROGRAMS}
    for program in PROGRAMS:
        measure(program, 1)  # the files are in the page cache for both
    for _ in range(arguments.runs):
        for program in PROGRAMS:
            runs[program].append(measure(program, arguments.steps))
    print(f"{'median of ' + str(arguments.runs):<26}{'sfumato':>10}{'diffusers':>11}{'ratio':>8}")
    for name in runs["sfumato"][0]:
        ours, theirs = (statistics.median(run[name] for run in runs[program]) for program in PROGRAMS)
        print(f"{name:<26}{ours:>10.2f}{theirs:>11.2f}{ours / theirs:>8.2f}")


if __name__ == "__main__":
    main()
