"""Memory and time of decoding a large picture whole and in tiles, and how far the two pictures are apart.

Each is a process of its own, with a random autoencoder of Stable Diffusion 1's size. Nothing is downloaded.
`python bench/tiled_decode.py --side 1024`.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

MEASURE = """
import resource, sys, time
import numpy as np
import torch
from sfumato.models import AutoencoderKL, VAEConfig
how, side, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
torch.manual_seed(0)
vae = AutoencoderKL(VAEConfig()).eval().requires_grad_(False)
latents = torch.randn(1, 4, side // 8, side // 8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
start = time.process_time()
pixels = {"whole": vae.decode_whole, "tiled": vae.decode_tiled}[how](latents)
seconds = time.process_time() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
np.save(path, pixels.numpy())
print(f"{how:<6} peak {peak:8.0f} MiB ({peak - before:6.0f} above the {before:.0f} that the model takes), processor time {seconds:6.0f} s")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=1024, help="height and width of the picture in pixels")
    side = parser.parse_args().side
    with tempfile.TemporaryDirectory() as folder:
        made: list[np.ndarray] = []
        for how in ("tiled", "whole"):
            path = Path(folder) / f"{how}.npy"
            command = [sys.executable, "-W", "ignore", "-c", MEASURE, how, str(side), str(path)]
            print(subprocess.run(command, check=True, capture_output=True, text=True).stdout, end="", flush=True)
            made.append(np.load(path))
    apart = np.abs(made[0] - made[1])
    print(
        f"apart by at most {apart.max():.1e} of values up to {np.abs(made[1]).max():.2f}: {apart.max() * 127.5:.1e} of 255 steps"
    )


if __name__ == "__main__":
    main()
