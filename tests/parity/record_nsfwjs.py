"""Computes `nsfwjs.json`, what the npm package nsfwjs says of some pictures; run it by hand, where that is installed.

    npm install nsfwjs@4.3.0 @tensorflow/tfjs@4.22.0
    python tests/parity/record_nsfwjs.py FOLDER_WITH_NODE_MODULES

It runs the package itself, on TensorFlow.js's plain JavaScript backend. The pictures are made of formulas.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

FILE = Path(__file__).with_name("nsfwjs.json")
PROGRAM = """
const tf = require("@tensorflow/tfjs"), nsfwjs = require("nsfwjs"), fs = require("fs");
(async () => {
  await tf.setBackend("cpu");
  console.info = () => {};
  const model = await nsfwjs.load("MobileNetV2"), scores = {};
  for (const [name, h, w] of JSON.parse(process.argv[1])) {
    const bytes = new Uint8Array(fs.readFileSync(process.argv[2] + "/" + name));
    const probabilities = model.infer(tf.tensor3d(bytes, [h, w, 3], "int32"));
    scores[name] = Array.from(await probabilities.data());
  }
  console.log(JSON.stringify(scores));
})();
"""


def pictures() -> dict[str, np.ndarray]:
    """Pictures by name, `h w 3` uint8: of many sizes and shapes, and such that every kind is thought likely of one."""
    random = np.random.Generator(np.random.PCG64(0))
    found = {"black": np.zeros((64, 64, 3), np.uint8), "white 1x1": np.full((1, 1, 3), 255, np.uint8)}
    found["noise 224x224"] = random.integers(0, 256, (224, 224, 3), np.uint8)
    sizes = ((512, 512), (300, 97), (31, 500), (225, 223), (768, 1024), (64, 64), (448, 448), (150, 600))
    for height, width in sizes:
        y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
        tone, swing = random.uniform(60, 220, 3), random.uniform(10, 90, 3)
        field = np.zeros((height, width, 3))
        for _ in range(12):
            fy, fx, phase = random.normal(0, 3), random.normal(0, 3), random.uniform(0, 6)
            field += random.normal(0, 1, 3) * np.cos(6 * (fy * y + fx * x) + phase)[..., None]
        found[f"waves {height}x{width}"] = (tone + swing * np.tanh(field)).clip(0, 255).round().astype(np.uint8)
    return found


def main() -> None:
    """Ask the package about every picture and write what it says."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    known = pictures()
    with tempfile.TemporaryDirectory() as folder:
        for name, picture in known.items():
            Path(folder, name).write_bytes(picture.tobytes())
        shapes = json.dumps([[name, *picture.shape[:2]] for name, picture in known.items()])
        done = subprocess.run(
            ["node", "-e", PROGRAM, shapes, folder], cwd=sys.argv[1], capture_output=True, text=True, check=True
        )
    scores = json.loads(done.stdout.splitlines()[-1])
    FILE.write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
