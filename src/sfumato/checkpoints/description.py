"""What can be said of a model file without opening it as a model: what it holds, what that is, and how well it fits."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from sfumato.checkpoints.filling import Survey, survey
from sfumato.checkpoints.finite import count_nonfinite
from sfumato.checkpoints.flatten import Scalar
from sfumato.checkpoints.single_file import Plan, plan_single_file
from sfumato.checkpoints.tensor_file import open_tensors
from sfumato.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class FileDescription:
    """What a file of tensors holds.

    shapes      of its tensors, by name
    dtypes      how many tensors there are of each, as safetensors names them
    metadata    what it says of itself
    others      what a pickle holds beside tensors
    nonfinite   tensors that hold NaN or infinity, with how many of each
    plan        how it would be opened as a model; None if it is none
    reason      why it is none, in words
    survey      how it fits what it was taken for
    """

    size: int
    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Counter[str]
    metadata: Mapping[str, str]
    others: Mapping[str, Scalar]
    nonfinite: Mapping[str, tuple[int, int]]
    plan: Plan | None = None
    reason: str = ""
    survey: Survey | None = None

    @property
    def parameters(self) -> int:
        """Numbers in all tensors together."""
        return sum(map(prod, self.shapes.values()))


def describe_file(path: Path, *, family: str | None = None) -> FileDescription:
    """Describe a file of tensors; reads all of it. Raises as `open_tensors`, and OptionError for a family that there isn't."""
    with open_tensors(path) as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (an open file is no dict)
        shapes = {name: tuple(piece.get_shape()) for name, piece in slices.items()}
        dtypes = Counter(piece.get_dtype() for piece in slices.values())
        metadata, others = file.metadata(), dict(file.others)
        bad = count_nonfinite(file)
    plan, reason, found = None, "", None
    try:
        plan = plan_single_file(path, family=family)
        network, keys = plan.unfilled(list(plan.networks))
        found = survey(network, [path], keys)
    except ConfigError as error:
        reason = str(error).removeprefix(f"{path}: ")
    return FileDescription(
        size=path.stat().st_size,
        shapes=shapes,
        dtypes=dtypes,
        metadata=metadata,
        others=others,
        nonfinite=bad,
        plan=plan,
        reason=reason,
        survey=found,
    )
