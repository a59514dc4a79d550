"""`sfumato train base`: the text encoder and the U-Net, together, on latents that are encoded once."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sfumato.errors import TrainingError
from sfumato.files import write_whole
from sfumato.models import AutoencoderKL
from sfumato.text import Tokenizer
from sfumato.training.average import MovingAverage
from sfumato.training.base_config import BaseTrainConfig
from sfumato.training.config import read_config
from sfumato.training.data import ArtDataset, read_dataset
from sfumato.training.data.scenes import SceneMaker
from sfumato.training.data.sheet import write_sheet
from sfumato.training.device import arithmetic, device_of
from sfumato.training.latents import LatentStatistics, normalise, statistics_of
from sfumato.training.loop import run_steps
from sfumato.training.muon import Muon
from sfumato.training.objective import BaseModel, Batches
from sfumato.training.run import RunFolder, plain_weights
from sfumato.training.samples import draw
from sfumato.training.scene_set import SceneSet, scene_set
from sfumato.training.start import take_over
from sfumato.training.storage import taking_in, vocabulary_sha256, weights_sha256
from sfumato.training.tokens import text_config, tokenizer_for, tokens_of
from sfumato.training.vae import load_vae

# The parts of the autoencoder that latents come through.
_MAKES_LATENTS = ("encoder.", "quant_conv.")
_SCALING = "scaling.json"
# Scenes whose latents' mean and variance are brought to zero and one.
_MEASURED = 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class _Source:
    """What a base run is made of before anything is composed: the art, its scenes' maker, and the autoencoder as its own run left it."""

    data: ArtDataset
    maker: SceneMaker
    vae: AutoencoderKL
    vae_sha256: str

    def folder(self, out: Path | str, config: BaseTrainConfig) -> RunFolder:
        """The run's folder, which holds the run to art and autoencoder."""
        return RunFolder(out, config, {"autoencoder": self.vae_sha256, "dataset": self.data.sha256})


def _source(config: BaseTrainConfig) -> _Source:
    """Read what a run is made of and see that it fits. Raises TrainingError, or DataError for the data."""
    data = read_dataset(config.data)
    maker = SceneMaker(data, config.mix, config.seed)
    vae = load_vae(config.vae or config.start_from or "")
    side, channels = config.unet.sample_size * vae.scale, vae.config.latent_channels
    if data.size != side or config.unet.in_channels != channels:
        raise TrainingError(
            f"the latents of {config.data} are {channels} × {data.size / vae.scale:g} × {data.size / vae.scale:g}, the config's U-Net is "
            f"for {config.unet.in_channels} × {config.unet.sample_size} × {config.unet.sample_size}; make them agree."
        )
    return _Source(data=data, maker=maker, vae=vae, vae_sha256=weights_sha256(vae))


def _scale_latents(
    source: _Source, config: BaseTrainConfig, out: Path, device: torch.device | str = "cpu"
) -> LatentStatistics | None:
    """Bring the latents of a fresh autoencoder to unit variance; those of a model that is gone on from stay as its U-Net knows them.

    What was measured is kept in the run's folder: measured again elsewhere, it would be another number in its last digits.
    """
    if config.vae is None:
        return None
    file = out / _SCALING
    statistics = _kept_statistics(file, source.vae_sha256)
    if statistics is None:
        scenes = source.maker.scenes(0, min(config.scenes, _MEASURED))
        pictures = torch.from_numpy(np.stack([scene.pixels for scene in scenes]))
        statistics = statistics_of(source.vae.to(device), pictures)
        content = {"autoencoder": source.vae_sha256, **asdict(statistics)}
        write_whole(file, json.dumps(content, indent=2).encode(), overwrite=True)
    normalise(source.vae.to("cpu"), statistics)
    return statistics


def _kept_statistics(file: Path, vae_sha256: str) -> LatentStatistics | None:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["autoencoder"] != vae_sha256:
            return None
        return LatentStatistics(tuple(map(float, content["mean"])), tuple(map(float, content["std"])))
    except (OSError, KeyError, TypeError, ValueError):
        return None


def _compose(
    source: _Source,
    statistics: LatentStatistics | None,
    config: BaseTrainConfig,
    folder: RunFolder,
    progress: Callable[[str], None],
) -> tuple[SceneSet, Tokenizer]:
    """The run's scenes, and the tokenizer that their captions and all taught names need; both are what the run is held to."""
    known_as = source.vae_sha256 if statistics is None else f"{source.vae_sha256} {statistics}"
    scenes = scene_set(
        source.vae,
        source.maker,
        config.scenes,
        config.captions,
        folder.path,
        progress,
        workers=config.workers,
        autoencoder=known_as,
    )
    taught = {name for record in source.data.records for name in record.names}
    tokenizer = tokenizer_for({*taught, *(text for wordings in scenes.captions for text in wordings)}, config.text)
    folder.bind({"vocabulary": vocabulary_sha256(tokenizer)})
    return scenes, tokenizer


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseRun:
    """What a run leaves: the averaged models, the autoencoder and tokenizer they work with, and its config."""

    model: BaseModel
    vae: AutoencoderKL
    tokenizer: Tokenizer
    config: BaseTrainConfig
    step: int
    captions: tuple[str, ...]
    """Every caption it may have read."""


def load_base(config_path: Path | str, out: Path | str, *, decoder_run: Path | str | None = None) -> BaseRun:
    """The averaged models of a run's last checkpoint; the autoencoder is that of `decoder_run`, if given, which trained its decoder further.

    Raises TrainingError when it has no checkpoint, one of another config or other inputs, or when the decoder's run changed the encoder;
    DataError for the data.
    """
    config = read_config(config_path, BaseTrainConfig)
    if not RunFolder(out, config).checkpoint.exists():
        raise TrainingError(f"no checkpoint in {out}; train it first: sfumato train base CONFIG.")
    source = _source(config)
    folder = source.folder(out, config)
    state = folder.load()
    assert state is not None
    later = None if decoder_run is None else _with_decoder(source.vae, decoder_run)
    statistics = _scale_latents(source, config, folder.path)
    if later is not None and statistics is not None:
        normalise(later, statistics)
    scenes, tokenizer = _compose(source, statistics, config, folder, print)
    model = BaseModel(config.unet, text_config(config.text, tokenizer))
    with taking_in(folder.checkpoint):
        model.load_state_dict(state["average"])
    captions = tuple(sorted({text for wordings in scenes.captions for text in wordings}))
    return BaseRun(
        model=model.eval(),
        vae=later or source.vae,
        tokenizer=tokenizer,
        config=config,
        step=state["step"],
        captions=captions,
    )


def _with_decoder(vae: AutoencoderKL, decoder_run: Path | str) -> AutoencoderKL:
    """The autoencoder of a later run, once it is known to make the same latents. Raises TrainingError if it does not."""
    later = load_vae(decoder_run)
    ours, theirs = ({n: w for n, w in v.state_dict().items() if n.startswith(_MAKES_LATENTS)} for v in (vae, later))
    if ours.keys() != theirs.keys() or not all(torch.equal(ours[name], theirs[name]) for name in ours):
        raise TrainingError(
            f"the autoencoder in {decoder_run} makes other latents than those the U-Net learned; give a run with decoder_only = true that "
            "started from the base run's."
        )
    return later


def train(config_path: Path | str, out: Path | str, *, progress: Callable[[str], None] = print) -> Path:
    """Train text encoder and U-Net as the config says, in the run folder `out`, going on from its last checkpoint if it has one.

    Leaves the checkpoint, `log.jsonl` and sheets of the config's prompts there; returns the folder, for `export`.
    Raises TrainingError for a config or folder that can't be used or a loss that is not finite, DataError for the data, OutputError when
    the folder can't be written to.
    """
    config = read_config(config_path, BaseTrainConfig)
    device = device_of(config)
    source = _source(config)
    folder = source.folder(out, config)
    state = folder.begin()
    statistics = _scale_latents(source, config, folder.path, device)
    vae = source.vae.to(device)
    scenes, tokenizer = _compose(source, statistics, config, folder, progress)
    batches = Batches(scenes, tokenizer, config, device)

    torch.manual_seed(config.seed)
    model = BaseModel(config.unet, text_config(config.text, tokenizer), config.min_snr)
    if config.start_from is not None and not state:
        take_over(config.start_from, model.unet, model.text_encoder, tokenizer)
    model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = MovingAverage(model, config.average_decay)
    rate, weight_decay = config.learning_rate.peak, config.weight_decay
    optimizer = (
        Muon(model, lr=rate, weight_decay=weight_decay)
        if config.optimizer == "muon"
        else torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=weight_decay, betas=(0.9, 0.99), fused=True)
    )
    first = 0
    if state:
        with taking_in(folder.checkpoint):
            model.load_state_dict(state["weights"])
            average.load(state["average"])
            optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    compute = torch.compile(model, dynamic=False) if config.compile else model

    def loss_at(step: int) -> Tensor:
        batch = batches(step, folder.share(step))
        with arithmetic(config, device):
            return compute(*batch)

    run_steps(
        folder,
        optimizer,
        first=first,
        loss_at=loss_at,
        after_step=lambda step: average.update(model, step),
        state=lambda: {"weights": plain_weights(model), "average": average.plain_weights()},
        show=lambda done: _show(config, average, vae, tokenizer, folder.path / "sheets" / f"{done:06d}.png"),
        progress=progress,
    )
    return folder.path


def _show(
    config: BaseTrainConfig, average: MovingAverage, vae: AutoencoderKL, tokenizer: Tokenizer, sheet: Path
) -> dict[str, float]:
    """Draw the config's prompts with the averaged weights, to be looked at: nothing is measured."""
    if not config.prompts:
        return {}
    model = BaseModel(config.unet, text_config(config.text, tokenizer)).eval()
    model.load_state_dict(average.weights)
    model.to(vae.device)
    pictures = draw(
        model.unet,
        model.text_encoder,
        vae,
        tokens_of(tokenizer, config.prompts),
        tokens_of(tokenizer, [""]),
        scheduler=config.scheduler_config(),
        steps=config.prompt_steps,
        guidance_scale=config.prompt_guidance,
    )
    write_sheet(sheet, list(pictures.numpy()), config.prompts, columns=8, zoom=2)
    return {}
