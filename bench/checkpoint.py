"""The checkpoint that everyone is measured with: Stable Diffusion 1.5's networks with random weights in float16, 2.1 GB.

Speed and memory don't depend on what the numbers are. It lies there twice: as one file in the layout of latent diffusion, and as a folder
in that of diffusers. `python -m bench.checkpoint FILE FOLDER` makes both.
"""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The same model as a file and as a folder."""

    file: Path
    folder: Path


def checkpoint(cache: Path) -> Checkpoint:
    """The checkpoint in the cache, made if it isn't there: by a process of its own, for its memory would be counted as its children's."""
    made = Checkpoint(cache / "sd15-random-fp16.safetensors", cache / "sd15-random-fp16")
    whole = cache / "sd15-random-fp16.whole"
    if not whole.exists():
        cache.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "bench.checkpoint", made.file, made.folder], cwd=ROOT, check=True)
        whole.touch()
    return made


def make_checkpoint(path: Path, folder: Path) -> None:
    """Write a file with the tensors of Stable Diffusion 1.5, random, in float16, one at a time; then the same as a folder."""
    import torch

    from sfumato.checkpoints.components import TEXT_ENCODER, UNET, VAE
    from sfumato.checkpoints.convert import open_model, save_model
    from sfumato.checkpoints.filling import entries_of
    from sfumato.checkpoints.keys import KeyMap
    from sfumato.checkpoints.safetensors_writer import Entry, write_safetensors
    from sfumato.checkpoints.single_saving import ldm_keys
    from sfumato.checkpoints.unfilled import unfilled
    from sfumato.variants import FAMILIES

    family = FAMILIES["sd1"]
    configs = {"unet": family.unet, "vae": family.vae, "text_encoder": family.text_encoder}
    with unfilled():
        networks = {part.name: part.build(configs[part.name]) for part in (UNET, VAE, TEXT_ENCODER)}
        model = torch.nn.ModuleDict(networks)
    keys = KeyMap.together([ldm_keys(name, network, family) for name, network in networks.items()])
    # Numbers of one block over and over: to draw a billion takes longer than all that is measured. Each tensor begins elsewhere in it, or
    # those of one shape would be the same, and OpenVINO would keep one of them.
    block = torch.randn(1 << 20, generator=torch.Generator().manual_seed(0)).mul_(0.02).half()

    def drawn(shape: tuple[int, ...], number: int) -> torch.Tensor:
        count = torch.Size(shape).numel()
        return block.roll(-number).repeat(-(-count // len(block)))[:count].view(shape)

    entries = [
        Entry(name=e.name, shape=e.shape, dtype=torch.float16, make=lambda e=e, number=number: drawn(e.shape, number))
        for number, e in enumerate(entries_of(model.state_dict(), keys))
    ]
    with path.open("wb") as file:
        write_safetensors(file, entries, {"format": "pt"})
    save_model(open_model(path), folder, layout="diffusers")


if __name__ == "__main__":
    make_checkpoint(*map(Path, sys.argv[1:]))
