"""Options of commands that draw: which model, where and how it runs, and what becomes of the pictures."""

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[
    str | None,
    typer.Option(help="Model folder, model file (.safetensors, .ckpt) or hub id. (default: the bundled model)"),
]
Variant = Annotated[str | None, typer.Option(help="Which weights of the model, such as fp16.")]
Lora = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FILE[:WEIGHT[:TEXT_WEIGHT]]",
        help="Add a LoRA or its kin, with a weight (1) for U-Net and text. Repeat for several.",
    ),
]
Embedding = Annotated[
    list[str] | None,
    typer.Option(metavar="FILE[:WORD]", help="Add an embedding, which prompts call by WORD. Repeat for several."),
]
VaeTiny = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Decode by this tiny autoencoder, such as TAESD's decoder, and not by the model's own."
    ),
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 or mps. (default: an accelerator if there is one)")]
Dtype = Annotated[
    str | None, typer.Option(help="float32, float16, bfloat16. (default: float32 on a CPU, float16 elsewhere)")
]
Memory = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="The most memory to take on a CPU: 2GB, 600MB, or min for as little as possible. Slower, and the same picture.",
    ),
]
Int8 = Annotated[
    bool, typer.Option("--int8", help="Compute the U-Net in int8 on a CPU: faster, and close to the same picture.")
]
Int8Scales = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Scales for --int8; made by drawing some of the prompts first, where there is no such file. (default: those that come with "
        "the model, or else each input's own)",
    ),
]
Engine = Annotated[
    str | None,
    typer.Option(help="What evaluates the networks: eager, compile, openvino, graphs, or auto. (default: eager)"),
]
Safety = Annotated[
    str | None,
    typer.Option(
        metavar="MODE",
        help="Pictures that look unsafe: block (black instead), blur, flag (only say so), or off (don't look). The model's own safety "
        "checker looks, or the filter that comes with Sfumato. (default: block by the model's own; flag where it has none; off for "
        "the bundled model)",
    ),
]
SafetyThreshold = Annotated[
    float | None,
    typer.Option(help="Score from which Sfumato's filter calls a picture unsafe, 0 to 1. (default: 0.5)"),
]
NoSafety = Annotated[bool, typer.Option("--no-safety", help="The same as --safety off.")]
Out = Annotated[
    str | None, typer.Option(metavar="PATH", help="A file (.png, .webp, .jpg) or a folder. (default: outputs/)")
]
Grid = Annotated[str | None, typer.Option(metavar="RxC", help="Also save all pictures as one, in rows and columns.")]
Animate = Annotated[Path | None, typer.Option(metavar="FILE", help="Also save the denoising as a .gif or .webp.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar; only notes, errors and paths.")]
