"""`sfumato train wordings`: what a model reads in a plain caption, it learns to read in every wording of it. The U-Net stays as it is.

What the U-Net makes of a text is all that counts: what its attentions answer to its own queries, and the vector it adds to the time
embedding. The text encoder learns to give for "clip art of my favourite owl, flat style" what it gave for "an owl, flat style". No
picture is drawn for that, so a second of two cores teaches hundreds of wordings. Source: Hinton et al. 2015, arXiv:1503.02531, a
teacher's answers as targets; here teacher and pupil are one model, and read two texts.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sfumato.checkpoints import Card, open_folder, save_folder
from sfumato.errors import TrainingError
from sfumato.models import AutoencoderKL, CLIPTextEncoder, UNet
from sfumato.models.attention import attend
from sfumato.models.unet import KeysValues
from sfumato.schedulers import scheduler_from_config
from sfumato.text import Tokenizer
from sfumato.text.words import collect_words
from sfumato.training.average import MovingAverage
from sfumato.training.config import RunConfig, expect, read_config
from sfumato.training.data import read_dataset
from sfumato.training.data.scenes import SceneMaker, SceneMix, possible_words_of
from sfumato.training.device import device_of
from sfumato.training.latents import encode
from sfumato.training.loop import run_steps
from sfumato.training.muon import Muon
from sfumato.training.run import RunFolder, plain_weights, shuffled, step_generator
from sfumato.training.storage import taking_in, weights_sha256
from sfumato.training.tokens import tokens_of

# Scenes whose pictures are encoded to ask the U-Net what its queries are, and queries of each layer that are kept.
_ASKED, _KEPT = 96, 4096
# Scenes that measure how far it is, and wordings of each; they are other scenes than those that are learned.
_MEASURED, _WORDINGS = 64, 8
_TIMESTEPS = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class WordingsConfig(RunConfig):
    """A run of a model's text encoder: `start_from`, a model folder, read as it is by its own U-Net.

    Of the art in `data`, `scenes` are composed as `mix` says, each with `captions` pairs of a wording and the plain one. A batch is of
    pairs, and so are `images`. A step asks with so many `queries` of each layer.
    """

    data: str
    start_from: str
    scenes: int = 8000
    captions: int = 32
    queries: int = 64
    mix: SceneMix = field(default_factory=SceneMix)
    average_decay: float = 0.998

    def __post_init__(self) -> None:
        RunConfig.__post_init__(self)
        for name in ("scenes", "captions", "queries"):
            expect(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        expect(0 <= self.average_decay < 1, "average_decay", self.average_decay, "at least 0 and below 1")


class Reader:
    """How a U-Net reads a text: the answers of its attentions to `queries`, `n channels` of each layer, and its pooled text."""

    def __init__(self, unet: UNet, queries: list[Tensor]) -> None:
        self.unet = unet
        self.queries = queries

    def __call__(self, context: Tensor, chosen: Tensor) -> list[Tensor]:
        """What is read in texts `b n width`, as `b m channels` of each layer for the `m` queries chosen, and the pooled text at the end."""
        told: KeysValues = self.unet.keys_values(context)
        read: list[Tensor] = []
        for layer, queries, (keys, values) in zip(self.unet.cross_attentions(), self.queries, told.layers, strict=True):
            asked = (
                queries[chosen].unflatten(-1, (layer.heads, -1)).transpose(0, 1)[None].expand(len(context), -1, -1, -1)
            )
            answered = attend(asked, keys, values).transpose(1, 2).flatten(2)
            read.append(layer.to_out(answered))
        return read if told.after is None else [*read, told.after[:, None]]


def distance(read: list[Tensor], wanted: list[Tensor]) -> Tensor:
    """How far apart two readings are, for each text `b`: mean squared differences, 1 being what two captions of the batch differ by."""
    apart = [
        (one - other).square().mean((1, 2)) / (other - other.mean(0, keepdim=True)).square().mean().clamp_min(1e-12)
        for one, other in zip(read, wanted, strict=True)
    ]
    return torch.stack(apart).mean(0)


@torch.no_grad()
def queries_of(
    unet: UNet, latents: Tensor, contexts: Tensor, alphas_cumprod: Tensor, generator: torch.Generator
) -> list[Tensor]:
    """What each attention to the text asks while noise of every level is taken from latents `b c h w`: `n channels` for each layer."""
    found: list[list[Tensor]] = []
    each = -(-_KEPT // len(latents))

    def keep(place: int) -> Callable[[nn.Module, Any, Tensor], None]:
        def look(_module: nn.Module, _inputs: Any, asked: Tensor) -> None:
            rows = torch.randint(asked.shape[1], (each,), generator=generator)
            found[place].append(asked[0, rows.to(asked.device)].float())

        return look

    with ExitStack() as hooks:
        for place, layer in enumerate(unet.cross_attentions()):
            found.append([])
            hooks.enter_context(_removed_after(layer.to_q.register_forward_hook(keep(place))))
        for number, latent in enumerate(latents):
            # Evenly over the levels, the noisiest first.
            timestep = round((_TIMESTEPS - 1) * (1 - number / len(latents)))
            signal = alphas_cumprod[timestep].to(latent)
            noise = torch.randn(latent.shape, generator=generator).to(latent)
            noisy = signal.sqrt() * latent + (1 - signal).sqrt() * noise
            unet(noisy[None], float(timestep), contexts[number][None])
    return [torch.cat(rows) for rows in found]


@contextmanager
def _removed_after(handle: Any) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


@dataclass(frozen=True, slots=True)
class Pairs:
    """Token ids of wordings and of the plain ones, `n length` each."""

    said: Tensor
    plain: Tensor

    @classmethod
    def of(cls, maker: SceneMaker, first: int, count: int, captions: int, tokenizer: Tokenizer) -> "Pairs":
        """Those of scenes `first` to `first + count`."""
        texts: list[tuple[str, str]] = []
        for number in range(first, first + count):
            chance = maker.chance(number)
            texts += maker.pairs(maker.compose(chance), captions, chance)
        said, plain = zip(*texts, strict=True)
        return cls(tokens_of(tokenizer, said).int(), tokens_of(tokenizer, plain).int())

    def rows(self, rows: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
        """Some of them, on a device."""
        return self.said[rows].long().to(device), self.plain[rows].long().to(device)


def train(
    config_path: Path | str,
    out: Path | str,
    *,
    until: float | None = None,
    progress: Callable[[str], None] = print,
) -> Path:
    """Teach a model's text encoder as the config says, in the run folder `out`, going on from its last checkpoint if it has one.

    Leaves the checkpoint and `log.jsonl` there, and the whole model, in float16, in `model`, whose path it returns. `until` is as in `RunFolder`.
    Raises TrainingError for a config or folder that can't be used, a model whose U-Net reads no text of its own, or a loss that is not finite;
    DataError for the data; OutputError when the folder can't be written to; and as `open_folder` does.
    """
    config = read_config(config_path, WordingsConfig)
    device = device_of(config)
    data = read_dataset(config.data)
    model = open_folder(config.start_from, dtype=torch.float32)
    unet, vae, teacher = model.unet, model.vae, model.text_encoder
    if (
        not isinstance(unet, UNet)
        or not isinstance(vae, AutoencoderKL)
        or teacher is None
        or model.tokenizers.keys() != {"tokenizer"}
    ):
        raise TrainingError(
            f"{config.start_from} is no model of one text encoder, U-Net and autoencoder; name another in start_from."
        )
    tokenizer = Tokenizer.from_folder(model.tokenizer_dir)
    inputs = {"dataset": data.sha256, "text encoder": weights_sha256(teacher), "U-Net": weights_sha256(unet)}
    folder = RunFolder(out, config, inputs, until)
    maker = SceneMaker(data, config.mix, config.seed)
    with folder.begun() as state:
        unet.to(device).eval().requires_grad_(False)
        teacher.to(device).eval().requires_grad_(False)
        reader = _reader(unet, vae.to(device), teacher, maker, tokenizer, model.scheduler_config, config.seed)
        progress(f"composing {config.scenes} scenes")
        pairs = Pairs.of(maker, 0, config.scenes, config.captions, tokenizer)
        measured = Pairs.of(maker, config.scenes, _MEASURED, _WORDINGS, tokenizer)
        pupil = copy.deepcopy(teacher).requires_grad_(True)
        average = MovingAverage(pupil, config.average_decay)
        optimizer = Muon(pupil, lr=config.learning_rate.peak, weight_decay=config.weight_decay)
        first = 0
        if state:
            with taking_in(folder.checkpoint):
                pupil.load_state_dict(state["weights"])
                average.load(state["average"])
                optimizer.load_state_dict(state["optimizer"])
            first = state["step"]

        def loss_at(step: int) -> Tensor:
            rows = shuffled(len(pairs.said), step * config.batch, config.batch, config.seed)
            said, plain = pairs.rows(rows, device)
            generator = step_generator(config.seed, step, "queries")
            chosen = torch.randint(len(reader.queries[0]), (config.queries,), generator=generator)
            with torch.no_grad():
                wanted = reader(teacher(plain).hidden, chosen)
            return distance(reader(pupil(said).hidden, chosen), wanted).mean()

        def show(_done: int) -> dict[str, float]:
            return _measured(reader, teacher, _averaged(pupil, average), measured, device)

        if not state:
            progress("  ".join(f"{name} {value:.4g}" for name, value in show(0).items()))
        run_steps(
            folder,
            optimizer,
            first=first,
            loss_at=loss_at,
            after_step=lambda step: average.update(pupil, step),
            state=lambda: {"weights": plain_weights(pupil), "average": average.plain_weights()},
            show=show,
            progress=progress,
        )
        card = Card.read(Path(model.path))
        taught = collect_words({*card.words, *possible_words_of(data)})
        save_folder(
            folder.path / "model",
            unet=unet,
            vae=vae,
            text_encoder=_averaged(pupil, average).cpu(),
            tokenizer_files=model.tokenizer_dir,
            scheduler_config=model.scheduler_config,
            dtype=torch.float16,
            extra_files=replace(card, words=taught).files(),
            overwrite=True,
        )
    return folder.path / "model"


def _reader(
    unet: UNet,
    vae: AutoencoderKL,
    text_encoder: CLIPTextEncoder,
    maker: SceneMaker,
    tokenizer: Tokenizer,
    scheduler: Any,
    seed: int,
) -> Reader:
    scenes = list(maker.scenes(0, _ASKED))
    pictures = torch.from_numpy(np.stack([scene.pixels for scene in scenes]))
    texts = [scene.captions(1, maker.chance(number))[0] for number, scene in enumerate(scenes)]
    with torch.no_grad():
        contexts = text_encoder(tokens_of(tokenizer, texts).to(unet.device)).hidden
    alphas_cumprod = scheduler_from_config(scheduler).noise_schedule.alphas_cumprod
    generator = step_generator(seed, 0, "asked")
    return Reader(unet, queries_of(unet, encode(vae, pictures, batch=8), contexts, alphas_cumprod, generator))


def _averaged(pupil: CLIPTextEncoder, average: MovingAverage) -> CLIPTextEncoder:
    network = copy.deepcopy(pupil).requires_grad_(False)
    network.load_state_dict(average.weights)
    return network.eval()


@torch.no_grad()
def _measured(
    reader: Reader, teacher: CLIPTextEncoder, pupil: CLIPTextEncoder, pairs: Pairs, device: torch.device
) -> dict[str, float]:
    """How far other wordings are read from plain ones, where they differ, and how far plain ones from what they were read as before."""
    said, plain = pairs.rows(torch.arange(len(pairs.said)), device)
    chosen = torch.arange(0, len(reader.queries[0]), 64)
    wanted = reader(teacher(plain).hidden, chosen)
    differ = (said != plain).any(1)
    other = distance(reader(pupil(said).hidden, chosen), wanted)[differ]
    same = distance(reader(pupil(plain).hidden, chosen), wanted)
    return {"wordings_apart": float(other.mean()), "plain_apart": float(same.mean())}
