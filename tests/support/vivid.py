"""Tiny models on which everything shows that a network is told, so that a picture that is the same was told the same."""

import json
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file

LOUDER = {
    "attn2.to_out.0.weight": 3, "attn2.to_v.weight": 3,
    "add_embedding.linear_1.weight": 4, "add_embedding.linear_2.weight": 6,
    "time_embedding.cond_proj.weight": 24, "time_embedding.linear_1.weight": 3, "time_embedding.linear_2.weight": 3,
    "time_emb_proj.weight": 4,
}  # fmt: skip
"""What a U-Net's weights are multiplied by, by the ends of their names in diffusers."""


def vivid(folder: Path, into: Path) -> Path:
    """A copy of a tiny model's folder whose U-Net listens. With as many norm groups as channels it would hear nothing of the time."""
    shutil.copytree(folder, into)
    config = json.loads((into / "unet" / "config.json").read_text())
    (into / "unet" / "config.json").write_text(json.dumps(config | {"norm_num_groups": 8}))
    path = into / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(folder / "unet" / path.name)
    for name, tensor in weights.items():
        weights[name] = tensor * next((factor for end, factor in LOUDER.items() if name.endswith(end)), 1)
    save_file(weights, path, {"format": "pt"})
    return into
