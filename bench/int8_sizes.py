"""int8 at the sizes of Stable Diffusion 1.5, with random weights: how wrong each layer is, how long a step takes, and attention.

`python bench/int8_sizes.py layers` prints each shape's relative error, and milliseconds of the processor in float32 and in int8.
`python bench/int8_sizes.py step --size 256` times a U-Net step of two rows, float32, static and dynamic int8 taking turns.
`python bench/int8_sizes.py attention` sets our kernels for attention, float32 and int8, beside PyTorch's.
Threads are PyTorch's own, or `--threads`.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from sfumato import native
from sfumato.engine import reusing_memory
from sfumato.models.convolution import Conv2d
from sfumato.models.int8 import Int8, Scale, check_supported
from sfumato.models.linear import Linear
from sfumato.models.quantising import Quantisation, dequantise, dynamic, layers_of, observing, quantise
from sfumato.models.unet import UNet, UNetConfig

# Two rows at 512²: channels in and out, kernel, side of the map; tokens, width in and out.
CONVOLUTIONS = [
    (320, 320, 3, 64),
    (640, 320, 3, 64),
    (960, 320, 1, 64),
    (640, 640, 3, 32),
    (1280, 1280, 3, 16),
    (2560, 1280, 3, 8),
]
LINEARS = [(8192, 320, 320), (8192, 320, 2560), (8192, 1280, 320), (2048, 640, 5120), (512, 1280, 10240)]
HEADS = 8
# Queries, keys and channels of a head.
ATTENTIONS = [(4096, 4096, 40), (1024, 1024, 80), (1024, 1024, 40), (256, 256, 160), (4096, 77, 40), (1024, 77, 80)]


def best(work: Callable[[], object], runs: int) -> float:
    """Milliseconds of the processor, of all threads together, the least of some runs after one: what others run beside it counts little."""
    work()
    times: list[float] = []
    for _ in range(runs):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return 1000 * min(times)


def error(answer: Tensor, exact: Tensor) -> float:
    return ((answer - exact).norm() / exact.norm()).item()


def layers(runs: int) -> None:
    print(f"{'layer':<34}{'error':>8}{'float32':>10}{'int8':>8}   ms   GOP/s")
    for channels, outputs, kernel, side in CONVOLUTIONS:
        x = F.silu(torch.randn(2, channels, side, side)).to(memory_format=torch.channels_last)
        layer = Conv2d(channels, outputs, kernel, padding=kernel // 2).to(memory_format=torch.channels_last)
        row(
            f"convolution {kernel}×{kernel} {channels}→{outputs}, {side}²",
            layer,
            x,
            2 * x[:, 0].numel() * layer.weight.numel(),
            runs,
        )
    for tokens, width, outputs in LINEARS:
        layer = Linear(width, outputs)
        row(
            f"linear {width}→{outputs}, {tokens}",
            layer,
            torch.randn(tokens, width),
            2 * tokens * layer.weight.numel(),
            runs,
        )


def row(name: str, layer: Conv2d | Linear, x: Tensor, operations: int, runs: int) -> None:
    exact, plain = layer(x), best(lambda: layer(x), runs)
    layer.int8 = Int8(Scale.of(float(x.min()), float(x.max())))
    wrong, taken = error(layer(x), exact), best(lambda: layer(x), runs)
    print(f"{name:<34}{wrong:>8.2%}{plain:>10.1f}{taken:>8.1f}{operations / taken / 1e6:>13.0f}", flush=True)


def step(size: int, runs: int) -> None:
    torch.manual_seed(0)
    unet = UNet(UNetConfig()).eval()
    for name, layer in layers_of(unet).items():
        if name.endswith(("conv2", "proj_out", "to_out")):  # zeroed layers would make the answer trivial
            torch.nn.init.normal_(layer.weight, std=0.5 / math.sqrt(layer.weight[0].numel()))
    torch.nn.init.normal_(unet.conv_out.weight, std=0.02)
    x = torch.randn(2, 4, size // 8, size // 8).to(memory_format=torch.channels_last)
    text = unet.keys_values(torch.randn(2, 77, 768))
    with reusing_memory():
        exact = unet(x, 500.0, text)
        with observing(unet) as scales:
            unet(x, 500.0, text)
        ways = {"float32": None, "int8": Quantisation(layers=scales), "int8, dynamic": dynamic(unet)}
        times: dict[str, list[float]] = {name: [] for name in ways}
        processor: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(runs):
            for name, way in ways.items():
                if way is None:
                    dequantise(unet)
                else:
                    quantise(unet, way)
                    wrong = error(unet(x, 500.0, text), exact)  # packs the weights
                start, spent = time.perf_counter(), time.process_time()
                unet(x, 500.0, text)
                times[name].append(time.perf_counter() - start)
                processor[name].append(time.process_time() - spent)
                if way is not None:
                    print(f"{name}: relative error {wrong:.2%}")
    # On a machine that others use too, the processor's time says more than the clock's.
    whole, all_spent = (statistics.median(each["float32"]) for each in (times, processor))
    for name in ways:
        taken, spent = (statistics.median(each[name]) for each in (times, processor))
        print(
            f"{name:<16}{taken:>8.2f} s a step at {size}², {taken / whole:.2f} of float32; {spent:.2f} s of the processor, {spent / all_spent:.2f}"
        )


def attention(runs: int) -> None:
    """Attention of two rows at the sizes of 512² and 256², to themselves and to the text: PyTorch's, and the kernels in C."""
    print(f"{'queries × keys × channels':<30}{'PyTorch':>9}{'bfloat16':>10}{'ours':>8}{'int8':>8}   ms   error of int8")
    for queries, keys, width in ATTENTIONS:
        q, k, v = (torch.randn(2, positions, HEADS, width).transpose(1, 2) for positions in (queries, keys, keys))
        half = [t.bfloat16() for t in (q, k, v)]
        ways: tuple[Callable[[], Tensor], ...] = (
            lambda q=q, k=k, v=v: F.scaled_dot_product_attention(q, k, v),
            lambda half=half: F.scaled_dot_product_attention(*half),
            lambda q=q, k=k, v=v: native.attention(q, k, v),
            lambda q=q, k=k, v=v: native.attention(q, k, v, in_bytes=True),
        )
        wrong = error(ways[-1](), ways[0]())
        times = [best(way, runs) for way in ways]
        name = f"{queries} × {keys} × {width}"
        print(f"{name:<30}{times[0]:>9.1f}{times[1]:>10.1f}{times[2]:>8.1f}{times[3]:>8.1f}{wrong:>14.2%}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("layers", "step", "attention"))
    parser.add_argument("--size", type=int, default=512, help="pixels of a step's picture")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    check_supported()
    torch.manual_seed(0)
    with torch.no_grad():
        if arguments.what == "step":
            step(arguments.size, arguments.runs)
        else:
            {"layers": layers, "attention": attention}[arguments.what](arguments.runs)


if __name__ == "__main__":
    main()
