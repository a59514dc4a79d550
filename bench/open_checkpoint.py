"""Opening, converting and inspecting a checkpoint of Stable Diffusion 1.5's size, beside diffusers: seconds and peak memory.

The checkpoint has random weights in float16, as one file of 2.1 GB and as a folder; neither is downloaded. Each measurement is a
process of its own, after the file was read once, so that the disk is not measured. Run it with
`python bench/open_checkpoint.py --folder SOMEWHERE`; it needs 11 GB there while it runs, and leaves nothing.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from sfumato.checkpoints.components import TEXT_ENCODER, UNET, VAE
from sfumato.checkpoints.filling import entries_of
from sfumato.checkpoints.keys import KeyMap
from sfumato.checkpoints.safetensors_writer import Entry, write_safetensors
from sfumato.checkpoints.single_saving import ldm_keys
from sfumato.checkpoints.unfilled import unfilled
from sfumato.variants import FAMILIES

PEAK = "import resource; print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))"

# What is measured: a name, what is imported before the clock starts, and what runs while it does. {0} is the file, {1} the folder.
READ = ("read the file", "", "file = open('{0}', 'rb', buffering=0)\nwhile file.read(1 << 20): pass")
OURS = [
    (
        "open the file as it is",
        "from sfumato.checkpoints.single_file import open_single_file",
        "open_single_file('{0}')",
    ),
    (
        "open the file, float32",
        "import torch; from sfumato.checkpoints.single_file import open_single_file",
        "model = open_single_file('{0}', dtype=torch.float32)",
    ),
    (
        "open the folder, float32",
        "import torch; from sfumato.checkpoints import open_folder",
        "model = open_folder('{1}', dtype=torch.float32)",
    ),
    (
        "pipeline from the file, float32",
        "from sfumato import StableDiffusionPipeline",
        "pipe = StableDiffusionPipeline.from_single_file('{0}')",
    ),
    (
        "convert the file to a folder",
        "from sfumato.checkpoints.convert import open_model, save_model",
        "save_model(open_model('{0}'), '{2}/ours', layout='diffusers')",
    ),
    (
        "inspect the file",
        "from sfumato.checkpoints.description import describe_file; from sfumato.checkpoints.weights import sha256; from pathlib import Path",
        "describe_file(Path('{0}')); sha256([Path('{0}')])",
    ),
]
THEIRS = [
    (
        "open the folder, float32",
        "import torch; from diffusers import StableDiffusionPipeline",
        "pipe = StableDiffusionPipeline.from_pretrained('{1}', torch_dtype=torch.float32, safety_checker=None)",
    ),
    (
        "pipeline from the file, float32",
        "import torch; from diffusers import StableDiffusionPipeline",
        "pipe = StableDiffusionPipeline.from_single_file('{0}', config='{1}', torch_dtype=torch.float32, safety_checker=None)",
    ),
    (
        "convert the file to a folder",
        "import torch; from diffusers import StableDiffusionPipeline",
        "pipe = StableDiffusionPipeline.from_single_file('{0}', config='{1}', torch_dtype=torch.float16, safety_checker=None)\n"
        "pipe.save_pretrained('{2}/theirs')",
    ),
]


def make_checkpoint(path: Path) -> None:
    """Write a file with the tensors of Stable Diffusion 1.5, random, in float16, one at a time."""
    family = FAMILIES["sd1"]
    configs = {"unet": family.unet, "vae": family.vae, "text_encoder": family.text_encoder}
    with unfilled():
        networks = {part.name: part.build(configs[part.name]) for part in (UNET, VAE, TEXT_ENCODER)}
        model = torch.nn.ModuleDict(networks)
    keys = KeyMap.together([ldm_keys(name, network, family) for name, network in networks.items()])
    random = torch.Generator().manual_seed(0)

    def drawn(shape: tuple[int, ...]) -> torch.Tensor:
        return torch.randn(shape, generator=random).mul_(0.02).half()

    entries = [
        Entry(name=entry.name, shape=entry.shape, dtype=torch.float16, make=lambda shape=entry.shape: drawn(shape))
        for entry in entries_of(model.state_dict(), keys)
    ]
    with path.open("wb") as file:
        write_safetensors(file, entries, {"format": "pt"})


def measure(imports: str, code: str, *places: Path) -> tuple[float, float]:
    """Seconds and MiB of one process."""
    lines = ["import json, time, warnings", "warnings.simplefilter('ignore')", imports, "start = time.perf_counter()"]
    lines += [code.format(*places), "seconds = time.perf_counter() - start", PEAK]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{code} failed:\n{done.stderr}")
    seconds, peak = json.loads(done.stdout.splitlines()[-1])
    return seconds, peak


def main() -> None:
    """Make the checkpoint, measure, print a table, and remove everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="processes for each measurement")
    parser.add_argument("--folder", type=Path, default=None, help="where to write the checkpoint")
    parser.add_argument("--without-diffusers", action="store_true", help="measure Sfumato alone")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as scratch:
        file, folder = Path(scratch) / "random.safetensors", Path(scratch) / "folder"
        start = time.perf_counter()
        make_checkpoint(file)
        print(f"made {file.stat().st_size / 1e9:.2f} GB in {time.perf_counter() - start:.0f} s\n")
        from sfumato.checkpoints.convert import open_model, save_model

        save_model(open_model(file), folder, layout="diffusers")
        print(f"{'median of ' + str(arguments.runs):<14}{'':<36}{'seconds':>9}{'peak MiB':>10}")
        programs = [("", [READ]), ("sfumato", OURS), *([] if arguments.without_diffusers else [("diffusers", THEIRS)])]
        for program, tasks in programs:
            for name, imports, code in tasks:
                runs = []
                for number in range(arguments.runs):
                    out = Path(scratch) / f"out{number}"
                    out.mkdir()
                    runs.append(measure(imports, code, file, folder, out))
                    subprocess.run(["rm", "-r", str(out)], check=True)
                seconds, peak = (statistics.median(run[place] for run in runs) for place in (0, 1))
                print(f"{program:<14}{name:<36}{seconds:>9.2f}{peak:>10,.0f}", flush=True)


if __name__ == "__main__":
    main()
