"""The scenes a base run learns from: composed once, encoded once, and kept in the run's folder beside their captions."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from sfumato.files import write_whole
from sfumato.models import AutoencoderKL
from sfumato.training.data.scenes import COMPOSING, SceneMaker, possible_words_of
from sfumato.training.latents import encode
from sfumato.training.pool import Composed, Order, ScenePool
from sfumato.training.storage import weights_sha256

_FILE = "scenes.safetensors"
_PART = 512  # scenes composed and encoded at a time: what is held as pixels stays small


@dataclass(frozen=True, slots=True)
class SceneSet:
    """Latents (`n c h w`, float16: a rounding far below their noise) and, for each, so many captions.

    `halves` are the latents of the same pictures at half their side, for a run that begins with them.
    """

    latents: Tensor
    captions: tuple[tuple[str, ...], ...]
    halves: Tensor | None = None


def compose_scenes(
    maker: SceneMaker, count: int, captions: int, workers: int, progress: Callable[[str], None]
) -> Iterator[Composed]:
    """The first `count` scenes of the maker with `captions` wordings each, composed by so many processes, a part at a time.

    Raises TrainingError when a process died, OutputError when there is no room for what they share.
    """
    done = 0
    with ScenePool([maker], workers) as pool:
        for number, part in enumerate(pool.take(Order(first=0, count=count, captions=captions).parts(_PART))):
            done += len(part.captions)
            if number % 20 == 0 or done == count:
                progress(f"scenes {done}/{count}")
            yield part


def scene_set(
    vae: AutoencoderKL,
    maker: SceneMaker,
    count: int,
    captions: int,
    folder: Path | None,
    progress: Callable[[str], None],
    workers: int = 0,
    autoencoder: str | None = None,
    halved: bool = False,
    composed: Iterable[Composed] | None = None,
) -> SceneSet:
    """The first `count` scenes of the maker as latents, with `captions` wordings each, composed by so many processes.

    Taken from the folder where a run before made them of the same art, mix and autoencoder; else made, and kept there. `autoencoder`
    names the one whose latents they are, however its weights were rounded; by default the weights do. `halved` asks for the latents of
    half the side as well; `composed` are the scenes, where they have been composed before. Raises as `compose_scenes` does.
    """
    made_of = {
        "composing": COMPOSING,
        "autoencoder": autoencoder or weights_sha256(vae),
        "dataset": maker.data.sha256,
        "mix": asdict(maker.mix),
        "seed": maker.seed,
        "scenes": [count, captions],
        # Captions of another grammar are other captions.
        "words": hashlib.sha256(" ".join(sorted(possible_words_of(maker.data))).encode()).hexdigest(),
        **({"halved": True} if halved else {}),
    }
    key = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()
    if folder is not None and (kept := _kept(folder / _FILE, key)) is not None:
        return kept
    latents: list[Tensor] = []
    halves: list[Tensor] = []
    texts: list[tuple[str, ...]] = []
    # Many pictures are the same, art as it was drawn: each is encoded once, and has a number by its bytes.
    numbers: dict[bytes, int] = {}
    order: list[int] = []
    for part in composed or compose_scenes(maker, count, captions, workers, progress):
        known = len(numbers)
        keys = [hashlib.sha256(picture.tobytes()).digest() for picture in part.pixels]
        order += [numbers.setdefault(key, len(numbers)) for key in keys]
        if len(numbers) > known:
            new = [keys.index(key) for key in list(numbers)[known:]]
            pictures = torch.from_numpy(part.pixels[new]).to(vae.device)
            latents.append(encode(vae, pictures).half().cpu())
            if halved:
                halves.append(encode(vae, half_the_side(pictures)).half().cpu())
        texts += part.captions
    made = SceneSet(torch.cat(latents)[order], tuple(texts), torch.cat(halves)[order] if halved else None)
    if folder is not None:
        # As bytes beside the latents: a header may not be as long as a million captions.
        written = torch.frombuffer(bytearray(json.dumps(made.captions, ensure_ascii=False).encode()), dtype=torch.uint8)
        tensors = {"latents": made.latents, "captions": written}
        if made.halves is not None:
            tensors["halves"] = made.halves
        write_whole(folder / _FILE, save(tensors, metadata={"key": key}), overwrite=True)
    return made


def half_the_side(pictures: Tensor) -> Tensor:
    """Pictures (uint8 `n h w 3`, of even sides) at half their side, each pixel the mean of four."""
    count, height, width, _ = pictures.shape
    fours = pictures.view(count, height // 2, 2, width // 2, 2, 3).float()
    return fours.mean((2, 4)).round().to(torch.uint8)


def _kept(file: Path, key: str) -> SceneSet | None:
    """What the file holds, if it is whole and of this key: whatever else is there is made again."""
    try:
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
            if metadata["key"] != key:
                return None
            # The first runs on scenes wrote their captions into the header.
            written = metadata.get("captions") or opened.get_tensor("captions").numpy().tobytes()
            halves = opened.get_tensor("halves") if "halves" in opened.keys() else None  # noqa: SIM118 - it is no mapping
            return SceneSet(opened.get_tensor("latents"), tuple(map(tuple, json.loads(written))), halves)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError):
        return None
