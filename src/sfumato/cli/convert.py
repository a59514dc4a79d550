"""`sfumato convert` and `sfumato merge`: models from one layout to another, and several made into one."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sfumato.cli.terminal import say_note, warnings_said
from sfumato.errors import OptionError

if TYPE_CHECKING:
    import torch

    from sfumato.checkpoints.convert import Layout


class LayoutName(StrEnum):
    """How the tensors of a saved model are named."""

    DIFFUSERS = "diffusers"
    LDM = "ldm"


class MethodName(StrEnum):
    """How models are merged."""

    WEIGHTED_SUM = "weighted-sum"
    ADD_DIFFERENCE = "add-difference"


LayoutOption = Annotated[
    LayoutName | None,
    typer.Option(
        help="diffusers, a folder, or ldm, one file. (default: by the name: ldm if it ends in .safetensors)",
        show_default=False,
    ),
]
DtypeOption = Annotated[
    str | None, typer.Option(help="float32, float16 or bfloat16. (default: as it is)", show_default=False)
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace a model that exists.")]


def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A model folder, or a model file.", show_default=False)],
    target: Annotated[
        Path, typer.Argument(metavar="OUT", help="The folder or .safetensors file to write.", show_default=False)
    ],
    layout: LayoutOption = None,
    dtype: DtypeOption = None,
    variant: Annotated[
        str | None, typer.Option(help="Which of a folder's weights to read, such as fp16.", show_default=False)
    ] = None,
    family: Annotated[
        str | None,
        typer.Option(help="What a file's tensors don't say, such as sd2 or sdxl-turbo.", show_default=False),
    ] = None,
    ema: Annotated[
        bool, typer.Option("--ema", help="Take the U-Net's average over training, from a file that has both.")
    ] = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Write a model in another layout or dtype, one tensor at a time. Prints the path on stdout."""
    chosen = layout_for(target, layout)
    wanted = dtype_of(dtype)
    from sfumato.checkpoints.convert import open_model, save_model

    with warnings_said():
        model = open_model(source, variant=variant, family=family, averaged=ema)
        for reason in model.detected.reasons if family is None and not source.is_dir() else ():
            if "taken for" in reason:
                say_note(f"{model.family.title}: {reason}; --family says otherwise")
        lost = save_model(model, target, layout=chosen, dtype=wanted, overwrite=overwrite)
    say_lost(lost)
    print(target)


def merge(
    models: Annotated[
        list[Path],
        typer.Argument(metavar="A B [C] OUT", help="Two or three models, and the one to write.", show_default=False),
    ],
    weight: Annotated[float, typer.Option(help="How much of B, or of what B has beyond C; 0 is A alone.")] = 0.5,
    method: Annotated[
        MethodName, typer.Option(help="weighted-sum: (1 - weight) A + weight B. add-difference: A + weight (B - C).")
    ] = MethodName.WEIGHTED_SUM,
    layout: LayoutOption = None,
    dtype: DtypeOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Merge models, one tensor at a time. What is no weight (schedule, tokenizer) is A's. Prints the path on stdout."""
    inputs = 3 if method is MethodName.ADD_DIFFERENCE else 2
    if len(models) != inputs + 1:
        letters = " ".join("ABC"[:inputs])
        raise OptionError(
            f"{method} takes {inputs} models and the one to write, {letters} OUT; {len(models)} paths were given"
        )
    *sources, target = models
    chosen = layout_for(target, layout)
    wanted = dtype_of(dtype)
    from sfumato.checkpoints.convert import open_model
    from sfumato.checkpoints.merge import merge_models

    with warnings_said():
        a, b, *rest = [open_model(source) for source in sources]
        lost = merge_models(
            a, b, rest[0] if rest else None, target, weight=weight, method=method.value, layout=chosen, dtype=wanted,
            overwrite=overwrite,
        )  # fmt: skip
    say_lost(lost)
    print(target)


def layout_for(target: Path, layout: LayoutName | None) -> "Layout":
    """The layout that is asked for, or that the name to write suggests. Raises OptionError where the two contradict each other."""
    by_name = LayoutName.LDM if target.suffix == ".safetensors" else LayoutName.DIFFUSERS
    if layout is LayoutName.LDM and by_name is not LayoutName.LDM:
        raise OptionError(f"the layout ldm is one file, and {target} does not end in .safetensors; name it so")
    if layout is LayoutName.DIFFUSERS and by_name is LayoutName.LDM:
        raise OptionError(f"the layout diffusers is a folder, and {target} is named like a file; give a folder's name")
    return by_name.value


def dtype_of(name: str | None) -> "torch.dtype | None":
    """The dtype of a name; None for none. Raises OptionError."""
    if name is None:
        return None
    from sfumato.pipeline.placement import check_dtype

    return check_dtype(name)


def say_lost(parts: tuple[str, ...]) -> None:
    """Say which parts the layout has no place for."""
    if parts:
        say_note(f"one file has no place for {', '.join(parts)}: left out")
