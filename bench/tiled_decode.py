"""Memory and time of decoding a large picture whole and in tiles, and how far the two pictures are apart.

Each is a process of its own, with a random autoencoder of Stable Diffusion 1's size. Nothing is downloaded.
`python bench/tiled_decode.py --side 1024`; with `--count` nothing is computed: the tensors that are there at once are counted.
"""

import argparse
import subprocess
import sys
import tempfile
import weakref
from pathlib import Path
from typing import Any

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


def count(how: str, side: int) -> tuple[float, float]:
    """MiB of tensors, the weights not among them, that are there at once at most, and thousand millions of products in convolutions."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves
    from torch.utils.flop_counter import FlopCounterMode

    from sfumato.models import AutoencoderKL, VAEConfig

    class Counted(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.alive, self.peak, self.known = 0, 0, weakref.WeakSet[Any]()

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            for tensor in tree_leaves(out):
                if isinstance(tensor, torch.Tensor) and (storage := tensor.untyped_storage()) not in self.known:
                    self.known.add(storage)
                    self.alive += storage.nbytes()
                    self.peak = max(self.peak, self.alive)
                    weakref.finalize(storage, self.forget, storage.nbytes())
            return out

        def forget(self, size: int) -> None:
            self.alive -= size

    with FakeTensorMode(), torch.no_grad():
        vae = AutoencoderKL(VAEConfig()).eval()
        latents = torch.zeros(1, 4, side // 8, side // 8)
        decode = {"whole": vae.decode_whole, "tiled": vae.decode_tiled}[how]
        with Counted() as counted, FlopCounterMode(display=False) as products:
            pixels = decode(latents)
        assert pixels.shape == (1, 3, side, side)
    return counted.peak / 2**20, products.get_total_flops() / 2e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=1024, help="height and width of the picture in pixels")
    parser.add_argument("--count", action="store_true", help="count tensors, and compute nothing")
    arguments = parser.parse_args()
    side = arguments.side
    if arguments.count:
        for how in ("tiled", "whole"):
            peak, products = count(how, side)
            print(f"{how:<6} {peak:8.0f} MiB of tensors at once, {products:8.0f} thousand million products")
        return
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
