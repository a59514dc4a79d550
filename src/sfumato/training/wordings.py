"""`sfumato train wordings`: what a model reads in a plain caption, it learns to read in every wording of it. The U-Net stays as it is.

What the U-Net makes of a text is all that counts: what its attentions answer to its own queries, and the vector it adds to the time
embedding. The text encoder learns to give for "clip art of my favourite owl, flat style" what it gave for "an owl, flat style". No
picture is drawn for that, so a second of two cores teaches a hundred wordings. Source: Romero et al. 2015 (FitNets), arXiv:1412.6550, section 2.2, where
a student learns what lies inside its teacher; here both are one model, and read two texts.
"""

import copy
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sfumato.checkpoints import Card, open_folder
from sfumato.checkpoints.card import WORDS
from sfumato.diffusion.noise_schedule import NoiseSchedule
from sfumato.errors import TrainingError
from sfumato.files import write_whole
from sfumato.models import AutoencoderKL, CLIPTextEncoder, UNet
from sfumato.schedulers import scheduler_from_config
from sfumato.text import Tokenizer
from sfumato.text.words import collect_words
from sfumato.training.average import MovingAverage
from sfumato.training.config import RunConfig, expect, read_config
from sfumato.training.data import read_dataset
from sfumato.training.data.captions import possible_words
from sfumato.training.data.scenes import SceneMaker, SceneMix
from sfumato.training.device import device_of
from sfumato.training.latents import encode
from sfumato.training.loop import run_steps
from sfumato.training.muon import Muon
from sfumato.training.run import RunFolder, plain_weights, restore, shuffled, step_generator
from sfumato.training.start import MODEL, write_with
from sfumato.training.storage import weights_sha256
from sfumato.training.tokens import tokens_of

# Scenes whose pictures are encoded to ask the U-Net what its queries are, and queries of each layer that are kept.
_ASKED, _KEPT = 96, 4096
# Scenes that measure how far it is, and wordings of each; they are other scenes than those that are learned.
_MEASURED, _WORDINGS = 64, 8
# One pair in so many is of the empty prompt, which guidance needs as it was, and one of the plain wording with itself.
_EMPTY, _PLAIN = 16, 8


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
        expect(self.batch >= 2, "batch", self.batch, "at least 2: distances are measured by how captions differ")
        for name, only in (("precision", "float32"), ("compile", False), ("workers", 0)):
            expect(
                getattr(self, name) == only, name, getattr(self, name), f"{only!r}, which is all that such a run has"
            )
        expect(0 <= self.average_decay < 1, "average_decay", self.average_decay, "at least 0 and below 1")


class Reader:
    """How a U-Net reads a text: the answers of its attentions to `queries`, `n channels` of each layer, and its pooled text."""

    def __init__(self, unet: UNet, queries: list[Tensor]) -> None:
        self.unet = unet
        self.queries = queries

    def __call__(self, context: Tensor, chosen: Tensor) -> list[Tensor]:
        """What is read in texts `b n width`, as `b m channels` of each layer for the `m` queries chosen, and the pooled text at the end."""
        told = self.unet.keys_values(context)
        read: list[Tensor] = []
        for layer, queries, (keys, values) in zip(self.unet.cross_attentions(), self.queries, told.layers, strict=True):
            asked = queries[chosen][None].expand(len(context), -1, -1)
            read.append(layer.answer(asked, (keys, values)))
        return read if told.after is None else [*read, told.after[:, None]]


def distance(read: list[Tensor], wanted: list[Tensor]) -> Tensor:
    """How far apart two readings are, for each text `b`: mean squared differences over the variance of those wanted, layer by layer.

    What a caption of the batch is from another of them is 2, by the mean.
    """
    apart = [
        (one - other).square().mean((1, 2)) / (other - other.mean(0, keepdim=True)).square().mean().clamp_min(1e-12)
        for one, other in zip(read, wanted, strict=True)
    ]
    return torch.stack(apart).mean(0)


@torch.no_grad()
def queries_of(
    unet: UNet, latents: Tensor, contexts: Tensor, schedule: NoiseSchedule, generator: torch.Generator
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
            hooks.enter_context(layer.to_q.register_forward_hook(keep(place)))
        for number, latent in enumerate(latents):
            # Evenly over the levels, the noisiest first.
            timestep = round((schedule.steps - 1) * (1 - number / len(latents)))
            noise = torch.randn(latent.shape, generator=generator).to(latent)
            unet(schedule.noisy(latent, noise, timestep)[None], float(timestep), contexts[number][None])
    return [torch.cat(rows) for rows in found]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Token ids of wordings and of the plain ones, `n length` each."""

    said: Tensor
    plain: Tensor

    @classmethod
    def of(cls, maker: SceneMaker, first: int, count: int, captions: int, tokenizer: Tokenizer) -> "Pairs":
        """Those of scenes `first` to `first + count`, in which the empty prompt and plain wordings are themselves now and then."""
        texts: list[tuple[str, str]] = []
        for number in range(first, first + count):
            chance = maker.chance(number)
            texts += maker.pairs(maker.compose(chance), captions, chance)
        texts[::_PLAIN] = [(plain, plain) for _, plain in texts[::_PLAIN]]
        texts[1::_EMPTY] = [("", "") for _ in texts[1::_EMPTY]]
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

    Leaves the checkpoint and `log.jsonl` there, and the whole model in `model`, whose path it returns: the text encoder learned, in the
    precision that it had, and every other part as it was. `until` is as in `RunFolder`.
    Raises TrainingError for a config or folder that can't be used, a model that draws from more than one text, or art of another size than
    its pictures; DataError for the data; OutputError when the folder can't be written to; and as `open_folder` does.
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
        or len(model.tokenizers) != 1
    ):
        raise TrainingError(
            f"{config.start_from} is no model of one text encoder, U-Net and autoencoder; name another in start_from."
        )
    side = unet.config.sample_size * vae.scale
    if (data.size, unet.config.in_channels) != (side, vae.config.latent_channels):
        raise TrainingError(
            f"{config.start_from} draws {side} × {side} from latents of {unet.config.in_channels} channels, the art of {config.data} is "
            f"{data.size} × {data.size}, and its latents have {vae.config.latent_channels} channels; make them agree."
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
        student = copy.deepcopy(teacher).requires_grad_(True)
        average = MovingAverage(student, config.average_decay)
        optimizer = Muon(student, lr=config.learning_rate.peak, weight_decay=config.weight_decay)
        first = restore(state, folder.checkpoint, student, optimizer, average) if state else 0

        def loss_at(step: int) -> Tensor:
            rows = shuffled(len(pairs.said), step * config.batch, config.batch, config.seed)
            said, plain = pairs.rows(rows, device)
            generator = step_generator(config.seed, step, "queries")
            chosen = torch.randint(len(reader.queries[0]), (config.queries,), generator=generator)
            with torch.no_grad():
                wanted = reader(teacher(plain).hidden, chosen)
            return distance(reader(student(said).hidden, chosen), wanted).mean()

        def show(_done: int) -> dict[str, float]:
            return _measured(reader, teacher, _averaged(student, average), measured, device)

        if not state:
            progress("  ".join(f"{name} {value:.4g}" for name, value in show(0).items()))
        run_steps(
            folder,
            optimizer,
            first=first,
            loss_at=loss_at,
            after_step=lambda step: average.update(student, step),
            state=lambda: {"weights": plain_weights(student), "average": average.plain_weights()},
            show=show,
            progress=progress,
        )
        # What the grammar says around names is what was learned; a name that it did not know is still read as it was.
        learned = possible_words((), (), ())
        _write(_averaged(student, average), config.start_from, folder.path / MODEL, learned)
    return folder.path / MODEL


def _write(text_encoder: CLIPTextEncoder, model: str, out: Path, words: Iterable[str]) -> None:
    """The model with another text encoder, as a folder of its own; to the words that it says it knows, where it does, come these."""
    write_with(model, out, text_encoder=text_encoder)
    card = Card.read(out)
    if card.words:
        known = replace(card, words=collect_words({*card.words, *words})).files()[WORDS]
        write_whole(out / WORDS, known, overwrite=True)


def _reader(
    unet: UNet,
    vae: AutoencoderKL,
    text_encoder: CLIPTextEncoder,
    maker: SceneMaker,
    tokenizer: Tokenizer,
    scheduler: Any,
    seed: int,
) -> Reader:
    chances = [maker.chance(number) for number in range(_ASKED)]
    scenes = [maker.compose(chance) for chance in chances]
    pictures = torch.from_numpy(np.stack([scene.pixels for scene in scenes]))
    texts = [maker.captions(scene, 1, chance)[0] for scene, chance in zip(scenes, chances, strict=True)]
    with torch.no_grad():
        contexts = text_encoder(tokens_of(tokenizer, texts).to(unet.device)).hidden
    schedule = scheduler_from_config(scheduler).noise_schedule
    generator = step_generator(seed, 0, "asked")
    return Reader(unet, queries_of(unet, encode(vae, pictures, batch=8), contexts, schedule, generator))


def _averaged(student: CLIPTextEncoder, average: MovingAverage) -> CLIPTextEncoder:
    network = copy.deepcopy(student).requires_grad_(False)
    network.load_state_dict(average.weights)
    return network.eval()


@torch.no_grad()
def _measured(
    reader: Reader, teacher: CLIPTextEncoder, student: CLIPTextEncoder, pairs: Pairs, device: torch.device
) -> dict[str, float]:
    """How far other wordings are read from plain ones, where they differ, and how far plain ones, and the empty prompt, from before."""
    said, plain = pairs.rows(torch.arange(len(pairs.said)), device)
    chosen = torch.arange(0, len(reader.queries[0]), 64)
    wanted = reader(teacher(plain).hidden, chosen)
    differ, empty = (said != plain).any(1), (plain == plain[1]).all(1)
    other = distance(reader(student(said).hidden, chosen), wanted)
    same = distance(reader(student(plain).hidden, chosen), wanted)
    parts = {"wordings": other[differ], "plain": same[~empty], "empty": same[empty]}
    return {f"{name}_apart": float(part.mean()) for name, part in parts.items()}
