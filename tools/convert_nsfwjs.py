"""Make `src/sfumato/checkpoints/nsfw_classifier.safetensors` from the npm package nsfwjs 4.3.0, as `npm pack nsfwjs@4.3.0` fetches it.

    python tools/convert_nsfwjs.py path/to/nsfwjs-4.3.0.tgz

The package (MIT licence, Copyright (c) 2019 Infinite Red, Inc.) has MobileNetV2 weights of nsfw_model (MIT licence, Copyright (c) 2020 The
nsfw_model Developers) in two JavaScript files: one holds all tensors, of 8 bits, as one base64 text; the other lists their names, shapes and
ranges. Both are read as text and no JavaScript is run. Every byte is kept as it was published, under its name. A tensor's values are
`min + scale · byte`; the two numbers are its row of the tensor `ranges`, whose rows are in the order of the names. The same input makes the same bytes.
"""

import base64
import hashlib
import math
import re
import sys
import tarfile
from pathlib import Path

import numpy as np
from safetensors.numpy import save

FILES = {
    "package/dist/models/mobilenet_v2/model.min.js": "c32f104fd562b08cdff5ed69dfe1209643afa47e792fb12751d2949aa61a397a",
    "package/dist/models/mobilenet_v2/group1-shard1of1.min.js": "ef2e0a63f7d2c4960b37b024b669313f65d3c45cd59e9042636c55b39de53517",
}
ENTRY = re.compile(
    r'\{name:"([^"]+)",shape:\[([\d,]*)\],dtype:"float32",quantization:\{min:([-+.\de]+),scale:([-+.\de]+),dtype:"uint8"\}\}'
)
TARGET = Path(__file__).parents[1] / "src" / "sfumato" / "checkpoints" / "nsfw_classifier.safetensors"


def convert(model: str, shard: str) -> bytes:
    """The safetensors file of the two JavaScript files. Raises ValueError where tensors and bytes don't match."""
    (text,) = re.findall(r'"([A-Za-z0-9+/=]{100000,})"', shard)
    published = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
    tensors: dict[str, np.ndarray] = {}
    ranges: dict[str, tuple[float, float]] = {}
    place = 0
    for name, sides, least, scale in ENTRY.findall(model):
        shape = tuple(map(int, sides.split(",")))
        tensors[name] = published[place : place + math.prod(shape)].reshape(shape)
        ranges[name] = (float(least), float(scale))
        place += math.prod(shape)
    if place != len(published) or len(tensors) != model.count("quantization:"):
        raise ValueError(f"{len(tensors)} tensors describe {place} bytes, and there are {len(published)}")
    tensors["ranges"] = np.array([ranges[name] for name in sorted(tensors)])
    return save(tensors)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    texts: list[str] = []
    with tarfile.open(sys.argv[1]) as package:
        for name, digest in FILES.items():
            member = package.extractfile(name)
            assert member is not None
            contents = member.read()
            if (found := hashlib.sha256(contents).hexdigest()) != digest:
                sys.exit(f"{name} is not that of nsfwjs 4.3.0: sha256 {found}, expected {digest}")
            texts.append(contents.decode("utf-8"))
    TARGET.write_bytes(convert(*texts))
    print(f"{TARGET}: sha256 {hashlib.sha256(TARGET.read_bytes()).hexdigest()}")
