"""`sfumato inspect` of a file of tensors: what it holds, which model that is, and whether it can be opened."""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfumato.cli.terminal import harmless, table
from sfumato.errors import KeyMismatchError

if TYPE_CHECKING:
    from sfumato.checkpoints.description import FileDescription
    from sfumato.checkpoints.families import Detected

# Of names that are amiss, this many of each kind are listed.
LISTED = 20
GIB = 2**30


def inspect_weights(path: Path, family: str | None = None) -> None:
    """Show a file of tensors. Raises CheckpointError for one that can't be opened, KeyMismatchError for a model that does not fit."""
    from sfumato.checkpoints.description import describe_file
    from sfumato.checkpoints.weights import sha256, short_hashes

    digest = sha256([path])
    new, old = short_hashes(path, digest)
    found = describe_file(path, family=family)
    rows = [
        ("file", str(path)),
        ("size", f"{found.size / 1e6:,.1f} MB"),
        ("tensors", f"{len(found.shapes):,}"),
        ("parameters", f"{found.parameters:,}"),
        ("dtypes", ", ".join(f"{name} ({count})" for name, count in found.dtypes.most_common())),
        ("sha256", digest),
        ("short hash", f"{new}, and {old} as older programs have it"),
        *((f"metadata {name}", _one_line(value)) for name, value in sorted(found.metadata.items()) if not ours(name)),
        *(
            [("brings along", ", ".join(brought))]
            if (brought := sorted(filter(None, map(ours, found.metadata))))
            else []
        ),
        *((f"beside {name}", _one_line(value)) for name, value in found.others.items()),
    ]
    table(rows)
    if found.nonfinite:
        print(f"\n{len(found.nonfinite)} tensors hold NaN or infinity; what the model draws will be damaged")
        for name, (nan, infinite) in list(found.nonfinite.items())[:LISTED]:
            print(f"  {harmless(name)}: {nan:,} NaN, {infinite:,} infinite")
    print()
    show_parts(found)
    if found.plan is None or found.survey is None:
        print(f"\nno model: {harmless(found.reason)}")
        return
    plan = found.plan
    print()
    show_family(plan.detected)
    print(f"layout: {plan.contents.layout}")
    if plan.contents.averaged:
        print("averages of training (EMA): its U-Net's, left alone unless extract_ema=True or --ema asks for them")
    print(f"memory: {memory(sum(map(prod, found.survey.expected.values())))}")
    from sfumato.checkpoints.stored_tensor import DTYPES

    half = all(DTYPES[name].itemsize < 4 for name in found.dtypes if name in DTYPES and DTYPES[name].is_floating_point)
    configs = {name: network.config for name, network in plan.networks.items()}
    show_drawing(configs, {name: _numbers(found, name) * half for name in configs})
    if found.survey.leftovers:
        print(f"left over, as it should be: {len(found.survey.leftovers):,} tensors")
    if amiss := found.survey.amiss:
        show_amiss(amiss)
        counted = ", ".join(f"{len(names)} tensors {kind}" for kind, names in amiss.items())
        raise KeyMismatchError(f"{path} can't be opened as {plan.family.title}: {counted}")
    missing = [part for part in ("unet", "vae", *plan.family.text_encoders) if part not in plan.networks]
    print("opens: yes" + (f"; it has no {' and no '.join(missing)}" if missing else ""))


def show_amiss(amiss: Mapping[str, Sequence[str]], where: str = "") -> None:
    """Print what does not fit, by kind, the first names of each."""
    for kind, names in amiss.items():
        print(f"\n{where}{len(names)} tensors {kind}")
        for name in names[:LISTED]:
            print(f"  {harmless(name)}")
        if len(names) > LISTED:
            print(f"  and {len(names) - LISTED} more")


def show_misfits(folder: Path, variant: str | None) -> None:
    """Print what does not fit in the weights of a model folder's networks, each against its config."""
    from sfumato.checkpoints.folder import COMPONENTS
    from sfumato.checkpoints.index import read_index
    from sfumato.checkpoints.weights import has_weights

    index = read_index(folder)
    for part in COMPONENTS:
        place = folder / part.name
        if part.name in index.kinds and place.is_dir():
            there = variant if has_weights(place, part.stem, variant) else None
            show_amiss(part.survey(place, variant=there, kind=index.kinds[part.name]).amiss, f"{part.name}: ")


def ours(name: str) -> str:
    """The path of a small file that Sfumato put into the metadata under this name; empty for what others put there."""
    from sfumato.checkpoints.brought import PREFIX

    return name.removeprefix(PREFIX) if name.startswith(PREFIX) else ""


def show_parts(found: "FileDescription") -> None:
    """The networks of a model with their sizes; of any other file, its tensors by the first part of their names."""
    sizes: Counter[str] = Counter()
    if found.plan is not None:
        prefixes = {name: part.prefix for name, part in found.plan.contents.parts.items()}
        for tensor, shape in found.shapes.items():
            part = next((n for n, p in prefixes.items() if not p or tensor.startswith(f"{p}.")), "other tensors")
            sizes[part] += prod(shape)
    else:
        for tensor, shape in found.shapes.items():
            sizes[tensor.split(".")[0]] += prod(shape)
    table([("part", "parameters"), *((name, f"{count:,}") for name, count in sizes.items())])


def show_family(detected: "Detected") -> None:
    """Print the family, what shows it, and what it needs beside a prompt."""
    family = detected.family
    print(f"family: {family.title} ({family.name})")
    for reason in detected.reasons:
        print(f"  {reason}")
    if family.needs:
        print(f"needs: {family.needs}; Sfumato opens and converts it, and draws with it in a later version")


def _numbers(found: "FileDescription", part: str) -> int:
    """How many numbers a network of a file has."""
    assert found.survey is not None, "a file of no model has no networks"
    return sum(prod(shape) for name, shape in found.survey.expected.items() if name.startswith(f"{part}."))


def show_drawing(configs: Mapping[str, Any], narrow: Mapping[str, int]) -> None:
    """Print what a picture of the model's own size takes on a CPU, as it is usually drawn and as sparingly as can be.

    `configs` are those of the networks, by name; `narrow`, how many numbers each has in half precision, which can stay in the file.
    """
    from sfumato.engine.memory import LADDER, PROCESS, in_words, predict
    from sfumato.models import UNetConfig, VAEConfig
    from sfumato.pipeline.sparing import HELD_FROM, sizes_of

    unet, vae = configs.get("unet"), configs.get("vae")
    if not isinstance(unet, UNetConfig) or not isinstance(vae, VAEConfig):
        return
    widened = 4 * sum(narrow.values())
    usual = LADDER[1] if widened >= HELD_FROM else LADDER[0]
    sizes = sizes_of(configs, unet.sample_size, unet.sample_size, widened=widened)
    pixels = unet.sample_size * 2 ** (len(vae.channels) - 1)
    print(
        f"drawing {pixels} × {pixels} on a CPU, beside the mapped file: {in_words(predict(sizes, usual, PROCESS).peak)}",
        end="",
    )
    print(f"; {in_words(predict(sizes, LADDER[-1], PROCESS).peak)} with --memory min")


def memory(numbers: int) -> str:
    """What so many weights take, in words."""
    return f"{numbers * 2 / GIB:.2f} GiB for the weights in float16, {numbers * 4 / GIB:.2f} GiB in float32"


def _one_line(value: object) -> str:
    text = str(value).replace("\n", "\\n")
    return text if len(text) <= 200 else f"{text[:200]}… ({len(text):,} letters)"
