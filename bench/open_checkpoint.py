"""Opening, converting and inspecting a checkpoint of Stable Diffusion 1.5's size, beside diffusers: time, processor time, peak memory.

The checkpoint has random weights in float16, as one file of 2.1 GB and as a folder; neither is downloaded. Each measurement is a
process of its own, the programs in turn, after the file was read once, so that the disk is not measured. On a busy machine the
processor's seconds say more than the clock's, and ratios more than either. Run it with
`python -m bench.open_checkpoint --folder SOMEWHERE`; it needs 7 GB there while it runs, and leaves nothing.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ALLOWED = 300
"""MB above the weights that opening a model may take."""
TIMES = 2.0
"""How often the file could be read in the time that opening it takes."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is measured: `code`, after `imports`. {0} is the file, {1} the folder, {2} a folder to write into.

    weights  bytes for each number that is in memory when it is done; None where nothing is opened
    """

    program: str
    name: str
    imports: str = ""
    code: str
    weights: int | None = None


OPEN_FILE = "from sfumato.checkpoints.single_file import open_single_file"
DIFFUSERS = "import torch; from diffusers import StableDiffusionPipeline"
TASKS = (
    Task(
        program="",
        name="read the file into memory",
        code="contents = open('{0}', 'rb').read()",
    ),
    Task(
        program="sfumato",
        name="open the file as it is",
        imports=OPEN_FILE,
        code="model = open_single_file('{0}'); model.tokenizer()",
        weights=2,
    ),
    Task(
        program="sfumato",
        name="open the file in float32",
        imports=f"import torch; {OPEN_FILE}",
        code="model = open_single_file('{0}', dtype=torch.float32); model.tokenizer()",
        weights=4,
    ),
    Task(
        program="diffusers",
        name="open the file in float32",
        imports=DIFFUSERS,
        code="pipe = StableDiffusionPipeline.from_single_file('{0}', config='{1}', torch_dtype=torch.float32, safety_checker=None)",
        weights=4,
    ),
    Task(
        program="sfumato",
        name="open the folder in float32",
        imports="import torch; from sfumato import StableDiffusionPipeline",
        code="pipe = StableDiffusionPipeline.from_pretrained('{1}', torch_dtype=torch.float32)",
        weights=4,
    ),
    Task(
        program="diffusers",
        name="open the folder in float32",
        imports=DIFFUSERS,
        code="pipe = StableDiffusionPipeline.from_pretrained('{1}', torch_dtype=torch.float32, safety_checker=None)",
        weights=4,
    ),
    Task(
        program="sfumato",
        name="convert the file to a folder",
        imports="from sfumato.checkpoints.convert import open_model, save_model",
        code="save_model(open_model('{0}'), '{2}/made', layout='diffusers')",
    ),
    Task(
        program="diffusers",
        name="convert the file to a folder",
        imports=DIFFUSERS,
        code="pipe = StableDiffusionPipeline.from_single_file('{0}', config='{1}', torch_dtype=torch.float16, safety_checker=None)\n"
        "pipe.save_pretrained('{2}/made')",
    ),
    Task(
        program="sfumato",
        name="inspect the file, with its hash",
        imports="from pathlib import Path; from sfumato.checkpoints.description import describe_file; from sfumato.checkpoints.weights import sha256",
        code="describe_file(Path('{0}')); sha256([Path('{0}')])",
    ),
    Task(
        program="",
        name="hash the file",
        imports="import hashlib",
        code="hashlib.file_digest(open('{0}', 'rb'), 'sha256')",
    ),
)


@dataclass(frozen=True, slots=True)
class Run:
    """Seconds by the clock and of the processor, and the most memory resident, in MB."""

    seconds: float
    processor: float
    peak: float


def measure(task: Task, *places: Path) -> Run:
    """Run a task in a process of its own."""
    lines = [
        "import json, resource, time, warnings",
        "warnings.simplefilter('ignore')",
        task.imports,
        "start, cpu = time.perf_counter(), time.process_time()",
        task.code.format(*places),
        "seconds, cpu = time.perf_counter() - start, time.process_time() - cpu",
        "print(json.dumps([seconds, cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6]))",
    ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{task.code} failed:\n{done.stderr}")
    return Run(*json.loads(done.stdout.splitlines()[-1]))


def median(runs: list[Run]) -> Run:
    """The median of each figure."""
    return Run(*(statistics.median(getattr(run, name) for run in runs) for name in ("seconds", "processor", "peak")))


def main() -> None:
    """Make the checkpoint, measure, print a table, and remove everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="processes for each measurement")
    parser.add_argument("--folder", type=Path, default=None, help="where to write the checkpoint")
    parser.add_argument("--without-diffusers", action="store_true", help="measure Sfumato alone")
    arguments = parser.parse_args()
    tasks = [task for task in TASKS if not (arguments.without_diffusers and task.program == "diffusers")]
    with tempfile.TemporaryDirectory(dir=arguments.folder) as scratch:
        file, folder, out = (Path(scratch) / name for name in ("random.safetensors", "folder", "out"))
        # In a process of its own: the memory that one has used is counted as its children's too.
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "bench.checkpoint", file, folder], cwd=Path(__file__).parents[1], check=True
        )
        numbers = file.stat().st_size // 2
        print(f"made {file.stat().st_size / 1e9:.2f} GB twice in {time.perf_counter() - start:.0f} s", flush=True)
        runs: dict[Task, list[Run]] = {task: [] for task in tasks}
        for _ in range(arguments.runs):
            for task in tasks:
                out.mkdir()
                runs[task].append(measure(task, file, folder, out))
                shutil.rmtree(out)
    report({task: median(measured) for task, measured in runs.items()}, numbers, arguments.runs)


def report(medians: dict[Task, Run], numbers: int, count: int) -> None:
    """Print the medians, each beside reading the file and beside diffusers, and how the bars were met."""
    reading = next(run for task, run in medians.items() if task.name == "read the file into memory")
    theirs = {task.name: run for task, run in medians.items() if task.program == "diffusers"}
    print(f"\n| median of {count} | | seconds | processor | × reading | × diffusers | peak MB | above the weights |")
    print("|---|---|---|---|---|---|---|---|")
    for task, run in medians.items():
        beside = theirs.get(task.name) if task.program == "sfumato" else None
        ratio = f"{run.seconds / beside.seconds:.2f}" if beside else ""
        above = f"{run.peak - numbers * task.weights / 1e6:+,.0f}" if task.weights else ""
        print(
            f"| {task.program} | {task.name} | {run.seconds:.2f} | {run.processor:.2f} "
            f"| {run.processor / reading.processor:.2f} | {ratio} | {run.peak:,.0f} | {above} |"
        )
    for task, run in medians.items():
        if task.program == "sfumato" and task.weights is not None:
            times, above = run.processor / reading.processor, run.peak - numbers * task.weights / 1e6
            met = times <= TIMES and above <= ALLOWED
            print(
                f"{task.name}: {'within' if met else 'NOT within'} {TIMES} × reading and {ALLOWED} MB above the weights"
            )


if __name__ == "__main__":
    main()
