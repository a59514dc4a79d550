"""The weights of the classifier of unsafe pictures, which come with the package: a file of 8-bit tensors → a network."""

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from sfumato.checkpoints.tensor_file import open_tensors
from sfumato.errors import CorruptFileError, MissingFileError
from sfumato.models.nsfw_classifier import NSFWClassifier

FILE = Path(__file__).with_name("nsfw_classifier.safetensors")
SHA256 = "a63998f34fd61969c93066b6714cfbba6212b5eec9b8fa06c8a2a1c10653932a"
NORM_EPS = 1e-3  # of its batch norms, as Keras has it

# Our convolution → the file's kernel, and the batch norm after it.
_OUTER = {
    "stem": ("Conv1/kernel", "bn_Conv1"),
    "blocks.0.depthwise": ("expanded_conv_depthwise/depthwise_kernel", "expanded_conv_depthwise_BN"),
    "blocks.0.project": ("expanded_conv_project/kernel", "expanded_conv_project_BN"),
    "head": ("Conv_1/kernel", "Conv_1_bn"),
}
_OF_BLOCK = {
    "expand": ("block_{}_expand/kernel", "block_{}_expand_BN"),
    "depthwise": ("block_{}_depthwise/depthwise_kernel", "block_{}_depthwise_BN"),
    "project": ("block_{}_project/kernel", "block_{}_project_BN"),
}
_DENSE = {f"dense.{place}": f"dense_{place + 1}" for place in range(3)}


def open_nsfw_classifier(path: Path = FILE) -> NSFWClassifier:
    """The classifier in float32 on the CPU, its batch norms folded into its convolutions.

    Raises MissingFileError where the file is not there, CorruptFileError for one that is not as it was published.
    """
    if not path.is_file():
        raise MissingFileError(f"{path} is missing, which comes with the package; install Sfumato again")
    if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
        raise CorruptFileError(f"{path} is not as it came with the package; install Sfumato again")
    published = read(path)
    with torch.device("meta"):
        network = NSFWClassifier()
    convolutions = dict(_OUTER)
    for block in range(1, len(network.blocks)):
        convolutions |= {
            f"blocks.{block}.{part}": (kernel.format(block), norm.format(block))
            for part, (kernel, norm) in _OF_BLOCK.items()
        }
    weights: dict[str, Tensor] = {}
    for ours, (kernel, norm) in convolutions.items():
        weights[f"{ours}.weight"], weights[f"{ours}.bias"] = folded(published, kernel, norm)
    for ours, theirs in _DENSE.items():
        weights[f"{ours}.weight"] = published.pop(f"{theirs}/kernel").T.float().contiguous()
        weights[f"{ours}.bias"] = published.pop(f"{theirs}/bias").float()
    assert not published, f"tensors without a place: {list(published)}"
    network.load_state_dict(weights, assign=True)
    return network.eval().requires_grad_(False)


def read(path: Path) -> dict[str, Tensor]:
    """The tensors by their published names, float64, each `min + scale · byte`, rounded to float32 as TensorFlow.js does."""
    with open_tensors(path) as file:
        names = sorted({*file.keys()} - {"ranges"})
        return {
            name: (file.get_tensor(name).double() * scale + least).float().double()
            for name, (least, scale) in zip(names, file.get_tensor("ranges"), strict=True)
        }


def folded(published: dict[str, Tensor], kernel: str, norm: str) -> tuple[Tensor, Tensor]:
    """Weight and bias, float32, of one convolution that does what a kernel (`h w i o`) and a batch norm after it do; takes both out.

    Source: Ioffe & Szegedy 2015, arXiv:1502.03167, algorithm 2.
    """
    weight = published.pop(kernel)
    gamma, beta, mean, variance = (
        published.pop(f"{norm}/{name}") for name in ("gamma", "beta", "moving_mean", "moving_variance")
    )
    # A kernel that filters each channel by itself is `h w channels 1`.
    weight = weight.permute(2, 3, 0, 1) if kernel.endswith("depthwise_kernel") else weight.permute(3, 2, 0, 1)
    scale = gamma / (variance + NORM_EPS).sqrt()
    return (weight * scale[:, None, None, None]).float().contiguous(), (beta - mean * scale).float()
