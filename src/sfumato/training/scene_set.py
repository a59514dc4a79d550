"""The scenes a base run learns from: composed once, encoded once, and kept in the run's folder beside their captions."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from sfumato.files import write_whole
from sfumato.models import AutoencoderKL
from sfumato.training.data.scenes import SceneMaker
from sfumato.training.latents import encode
from sfumato.training.pool import Order, ScenePool
from sfumato.training.storage import weights_sha256

_FILE = "scenes.safetensors"
_PART = 512  # scenes composed and encoded at a time: what is held as pixels stays small


@dataclass(frozen=True, slots=True)
class SceneSet:
    """Latents (`n c h w`, float16: a rounding far below their noise) and, for each, so many captions."""

    latents: Tensor
    captions: tuple[tuple[str, ...], ...]


def scene_set(
    vae: AutoencoderKL,
    maker: SceneMaker,
    count: int,
    captions: int,
    folder: Path | None,
    progress: Callable[[str], None],
    workers: int = 0,
    autoencoder: str | None = None,
) -> SceneSet:
    """The first `count` scenes of the maker as latents, with `captions` wordings each, composed by so many processes.

    Taken from the folder where a run before made them of the same art, mix and autoencoder; else made, and kept there. `autoencoder`
    names the one whose latents they are, however its weights were rounded; by default the weights do.
    """
    made_of = {
        "autoencoder": autoencoder or weights_sha256(vae),
        "dataset": maker.data.sha256,
        "mix": asdict(maker.mix),
        "seed": maker.seed,
        "scenes": [count, captions],
    }
    key = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()
    if folder is not None and (kept := _kept(folder / _FILE, key)) is not None:
        return kept
    parts: list[Tensor] = []
    texts: list[tuple[str, ...]] = []
    with ScenePool([maker], workers) as pool:
        for number, part in enumerate(pool.take(Order(first=0, count=count, captions=captions).parts(_PART))):
            parts.append(encode(vae, torch.from_numpy(part.pixels)).half().cpu())
            texts += part.captions
            if number % 20 == 0 or len(texts) == count:
                progress(f"scenes {len(texts)}/{count}")
    made = SceneSet(torch.cat(parts), tuple(texts))
    if folder is not None:
        # As bytes beside the latents: a header may not be as long as a million captions.
        written = torch.frombuffer(bytearray(json.dumps(made.captions, ensure_ascii=False).encode()), dtype=torch.uint8)
        content = save({"latents": made.latents, "captions": written}, metadata={"key": key})
        write_whole(folder / _FILE, content, overwrite=True)
    return made


def _kept(file: Path, key: str) -> SceneSet | None:
    """What the file holds, if it is whole and of this key: whatever else is there is made again."""
    try:
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
            if metadata["key"] != key:
                return None
            # The first runs on scenes wrote their captions into the header.
            written = metadata.get("captions") or opened.get_tensor("captions").numpy().tobytes()
            return SceneSet(opened.get_tensor("latents"), tuple(map(tuple, json.loads(written))))
    except (SafetensorError, OSError, KeyError, TypeError, ValueError):
        return None
