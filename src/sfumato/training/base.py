"""`sfumato train base`: the text encoder and the U-Net, together, on latents that are encoded once."""

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sfumato.errors import TrainingError
from sfumato.files import write_whole
from sfumato.models import AutoencoderKL
from sfumato.text import Tokenizer
from sfumato.training.ahead import Ahead, Awaited, make_ready
from sfumato.training.base_config import BaseTrainConfig
from sfumato.training.config import read_config
from sfumato.training.data import ArtDataset, read_dataset
from sfumato.training.data.scenes import SceneMaker
from sfumato.training.data.sheet import write_sheet
from sfumato.training.device import device_of
from sfumato.training.latents import LatentStatistics, normalise, statistics_of
from sfumato.training.learner import Learner
from sfumato.training.loop import run_steps
from sfumato.training.objective import BaseModel, Batches
from sfumato.training.pool import Composed, Order, compose
from sfumato.training.run import RunFolder, is_under_way
from sfumato.training.samples import draw
from sfumato.training.scene_set import SceneSet, scene_set
from sfumato.training.storage import taking_in, vocabulary_sha256, weights_sha256
from sfumato.training.tokens import text_config, tokenizer_of_run, tokens_of
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


def _source(config: BaseTrainConfig, maker: SceneMaker) -> _Source:
    """What a run is made of, seen to fit. Raises TrainingError."""
    data = maker.data
    vae = load_vae(config.vae or config.start_from or "")
    side, channels = config.unet.sample_size * vae.scale, vae.config.latent_channels
    if data.size != side or config.unet.in_channels != channels:
        raise TrainingError(
            f"the latents of {config.data} are {channels} × {data.size / vae.scale:g} × {data.size / vae.scale:g}, the config's U-Net is "
            f"for {config.unet.in_channels} × {config.unet.sample_size} × {config.unet.sample_size}; make them agree."
        )
    return _Source(data=data, maker=maker, vae=vae, vae_sha256=weights_sha256(vae))


def _scale_latents(
    source: _Source,
    config: BaseTrainConfig,
    out: Path,
    device: torch.device | str = "cpu",
    composed: Sequence[Composed] = (),
) -> LatentStatistics | None:
    """Bring the latents of a fresh autoencoder to unit variance; those of a model that is gone on from stay as its U-Net knows them.

    They are measured on the first scenes, which may have been `composed` before. What was measured is kept in the run's folder: measured
    again elsewhere, it would be another number in its last digits.
    """
    if config.vae is None:
        return None
    file = out / _SCALING
    statistics = _kept_statistics(file, source.vae_sha256)
    if statistics is None:
        scenes = composed or [compose(source.maker, Order(first=0, count=min(config.scenes, _MEASURED)))]
        few = islice(scenes, -(-_MEASURED // len(scenes[0].pixels)))
        pictures = np.concatenate([part.pixels for part in few])[:_MEASURED]
        statistics = statistics_of(source.vae.to(device), torch.from_numpy(pictures))
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


def _scenes(
    source: _Source,
    statistics: LatentStatistics | None,
    config: BaseTrainConfig,
    folder: RunFolder,
    progress: Callable[[str], None],
    composed: deque[Composed] | None = None,
) -> SceneSet:
    """The run's scenes, as latents; of `composed`, where they have been composed before, which is emptied."""
    known_as = source.vae_sha256 if statistics is None else f"{source.vae_sha256} {statistics}"
    return scene_set(
        source.vae,
        source.maker,
        config.scenes,
        config.captions,
        folder.path,
        progress,
        workers=config.workers,
        autoencoder=known_as,
        halved=config.halved > 0,
        composed=None if composed is None else _taken_out(composed),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Prepared:
    """What the steps are taken with: scenes, their captions' tokens where they were made ahead, and what learns, compiled where it should be."""

    scenes: SceneSet
    tokenizer: Tokenizer
    tokens: Tensor | None
    learner: Learner


def _prepared(
    source: _Source,
    statistics: LatentStatistics | None,
    config: BaseTrainConfig,
    folder: RunFolder,
    state: Mapping[str, Any] | None,
    device: torch.device,
    progress: Callable[[str], None],
    ahead: Ahead | None,
) -> _Prepared:
    """What a run needs, made, or taken from what was made ahead. Raises TrainingError when the folder's run had another vocabulary."""
    scenes = _scenes(source, statistics, config, folder, progress, ahead.composed if ahead else None)
    tokenizer = ahead.tokenizer if ahead else tokenizer_of_run(source.data, config.text)
    folder.bind({"vocabulary": vocabulary_sha256(tokenizer)})
    if ahead:
        return _Prepared(scenes=scenes, tokenizer=tokenizer, tokens=ahead.tokens, learner=ahead.learner)
    learner = Learner(config, tokenizer, device, state, folder.checkpoint)
    learner.warm_up(folder.share(learner.first), progress)
    return _Prepared(scenes=scenes, tokenizer=tokenizer, tokens=None, learner=learner)


def _taken_out(parts: deque[Composed]) -> Iterator[Composed]:
    while parts:
        yield parts.popleft()


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseRun:
    """What a run leaves: the averaged models, the autoencoder and tokenizer they work with, its config and its art."""

    model: BaseModel
    vae: AutoencoderKL
    tokenizer: Tokenizer
    config: BaseTrainConfig
    step: int
    data: ArtDataset


def load_base(config_path: Path | str, out: Path | str, *, decoder_run: Path | str | None = None) -> BaseRun:
    """The averaged models of a run's last checkpoint; the autoencoder is that of `decoder_run`, if given, which trained its decoder further.

    Raises TrainingError when it has no checkpoint, one of another config or other inputs, or when the decoder's run changed the encoder;
    DataError for the data.
    """
    config = read_config(config_path, BaseTrainConfig)
    if not RunFolder(out, config).checkpoint.exists():
        raise TrainingError(f"no checkpoint in {out}; train it first: sfumato train base CONFIG.")
    source = _source(config, SceneMaker(read_dataset(config.data), config.mix, config.seed))
    folder = RunFolder(out, config, {"autoencoder": source.vae_sha256, "dataset": source.data.sha256})
    state = folder.load()
    assert state is not None
    later = None if decoder_run is None else _with_decoder(source.vae, decoder_run)
    statistics = _scale_latents(source, config, folder.path)
    if later is not None and statistics is not None:
        normalise(later, statistics)
    tokenizer = tokenizer_of_run(source.data, config.text)
    folder.bind({"vocabulary": vocabulary_sha256(tokenizer)})
    model = BaseModel(config.unet, text_config(config.text, tokenizer))
    with taking_in(folder.checkpoint):
        model.load_state_dict(state["average"])
    return BaseRun(
        model=model.eval(),
        vae=later or source.vae,
        tokenizer=tokenizer,
        config=config,
        step=state["step"],
        data=source.data,
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


def train(
    config_path: Path | str,
    out: Path | str,
    *,
    at_checkpoint: Callable[[BaseRun], None] | None = None,
    until: float | None = None,
    progress: Callable[[str], None] = print,
) -> Path:
    """Train text encoder and U-Net as the config says, in the run folder `out`, going on from its last checkpoint if it has one.

    Leaves the checkpoint, `log.jsonl` and sheets of the config's prompts there; returns the folder, for `export`. `at_checkpoint` is given
    the run as it is, each time it is saved and at its end; `until` is the time when it ends (see `RunFolder`). Where the autoencoder is being
    trained by another process at the moment, scenes are composed and the networks compiled meanwhile, and its end is waited for.
    Raises TrainingError for a config or folder that can't be used or a loss that is not finite, DataError for the data, OutputError when
    the folder can't be written to.
    """
    config = read_config(config_path, BaseTrainConfig)
    device = device_of(config)
    data = read_dataset(config.data)
    maker = SceneMaker(data, config.mix, config.seed)
    awaited = Awaited(config.vae) if config.vae is not None and is_under_way(config.vae) else None
    source = None if awaited else _source(config, maker)
    folder = RunFolder(out, config, {"dataset": data.sha256}, until)
    with folder.begun() as state:
        ahead = None
        if awaited:
            ahead = None if state else make_ready(config, maker, device, progress)
            awaited.wait(progress)
        source = source or _source(config, maker)
        folder.bind({"autoencoder": source.vae_sha256})
        statistics = _scale_latents(source, config, folder.path, device, ahead.composed if ahead else ())
        vae = source.vae.to(device)
        prepared = _prepared(source, statistics, config, folder, state, device, progress, ahead)
        tokenizer, learner = prepared.tokenizer, prepared.learner
        batches = Batches(prepared.scenes, tokenizer, config, device, prepared.tokens)
        del ahead, prepared

        def saved(step: int) -> None:
            if at_checkpoint is not None:
                run = {"vae": vae, "tokenizer": tokenizer, "config": config, "data": data}
                at_checkpoint(BaseRun(model=learner.averaged(), step=step, **run))

        run_steps(
            folder,
            learner.optimizer,
            first=learner.first,
            loss_at=lambda step: learner.loss(batches(step, folder.share(step))),
            after_step=lambda step: learner.average.update(learner.model, step),
            state=learner.checkpoint,
            saved=saved,
            show=lambda done: _show(learner, vae, folder.path / "sheets" / f"{done:06d}.png"),
            progress=progress,
        )
    return folder.path


def _show(learner: Learner, vae: AutoencoderKL, sheet: Path) -> dict[str, float]:
    """Draw the config's prompts with the averaged weights, to be looked at: nothing is measured."""
    config, tokenizer = learner.config, learner.tokenizer
    if not config.prompts:
        return {}
    model = learner.averaged(vae.device)
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
