"""Numbers in a checkpoint that are none: NaN, which a merge or a training run gone wrong leaves, and infinity, which rounding does."""

import torch
from torch import Tensor

from sfumato.checkpoints.tensor_file import TensorFile

SMALL = 1 << 16
"""Elements of a tensor that is looked at whenever it is opened: biases and norms, which go bad with the rest, cost milliseconds."""
CHUNK = 1 << 20


def nonfinite(tensor: Tensor) -> tuple[int, int]:
    """How many elements of a tensor are NaN, and how many infinite. Reads all of it, once if there are none."""
    numbers = torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
    if not numbers.is_floating_point() or not numbers.numel():
        return 0, 0
    if numbers.dtype.itemsize == 1:
        numbers = numbers.to(torch.float16)
    if all(bool(bound.isfinite()) for bound in numbers.aminmax()):
        return 0, 0
    # In parts: the masks of a whole tensor would take as much memory again.
    flat = numbers.reshape(-1)
    parts = [flat[start : start + CHUNK] for start in range(0, flat.numel(), CHUNK)]
    return sum(int(part.isnan().sum()) for part in parts), sum(int(part.isinf().sum()) for part in parts)


def count_nonfinite(file: TensorFile) -> dict[str, tuple[int, int]]:
    """The tensors of an open file that hold NaN or infinity, each with how many of both. Reads the whole file."""
    counts = {name: nonfinite(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118 (an open file is no dict)
    return {name: count for name, count in counts.items() if any(count)}
