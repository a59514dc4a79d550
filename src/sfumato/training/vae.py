"""`sfumato train vae`: the autoencoder that turns flat art into latents and back."""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sfumato.errors import TrainingError
from sfumato.models import AutoencoderKL, VAEConfig
from sfumato.training.config import RunConfig, expect, parse, read_config
from sfumato.training.data import ArtDataset, read_dataset
from sfumato.training.data.scenes import SceneMaker, SceneMix
from sfumato.training.data.sheet import write_sheet
from sfumato.training.device import arithmetic, device_of
from sfumato.training.loop import run_steps
from sfumato.training.pool import Order, ScenePool
from sfumato.training.run import RunFolder, plain_weights, restore, step_generator
from sfumato.training.start import MODEL, autoencoder_of, is_model, write_with
from sfumato.training.storage import load_tensors, save_tensors, taking_in, weights_sha256

FINISHED = "vae.pt"
_PART = 8  # scenes composed at a time by one process
_LOOKED_AT = 96  # pictures of a kind that are measured at a time


@dataclass(frozen=True, kw_only=True, slots=True)
class VAELoss:
    """Weights of the terms: L1 and squared error of pixels, L1 of the differences of neighbours (edges), KL a latent.

    `border` is that of the L1 error of the outermost pixels: they are few, and their neighbours outside are zeros, which no other pixel's are.
    """

    l1: float = 1.0
    squared: float = 1.0
    gradient: float = 0.5
    kl: float = 1e-4
    border: float = 0.0

    def __post_init__(self) -> None:
        for name, weight in asdict(self).items():
            expect(0 <= weight < math.inf, name, weight, "a finite number of at least 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class VAETrainConfig(RunConfig):
    """A run of the autoencoder.

    `data` is a dataset file, of whose art scenes are composed as `mix` says. A share `focus` of each batch is of the vocabulary's art,
    the rest of any. With `start_from`, another run's folder or a model's gives the weights, and with `decoder_only` the encoder stays as
    it is, so that latents made with it stay valid; the decoder then also learns to bear latents that are off by noise of std
    `latent_noise`.
    """

    data: str
    model: VAEConfig
    loss: VAELoss = VAELoss()
    focus: float = 0.5
    mix: SceneMix = field(default_factory=SceneMix)
    start_from: str | None = None
    decoder_only: bool = False
    latent_noise: float = 0.0

    def __post_init__(self) -> None:
        RunConfig.__post_init__(self)
        for name in (
            "in_channels",
            "out_channels",
            "latent_channels",
            "blocks_per_level",
            "norm_groups",
            "sample_size",
        ):
            expect(getattr(self.model, name) >= 1, f"model.{name}", getattr(self.model, name), "at least 1")
        expect(bool(self.model.channels), "model.channels", self.model.channels, "one entry per level")
        expect(
            all(width >= 1 and width % self.model.norm_groups == 0 for width in self.model.channels),
            "model.norm_groups",
            self.model.norm_groups,
            f"a divisor of each of channels, {self.model.channels}",
        )
        scaling_factor = self.model.scaling_factor
        expect(0 < scaling_factor < math.inf, "model.scaling_factor", scaling_factor, "a finite number above 0")
        expect(0 <= self.focus <= 1, "focus", self.focus, "a share from 0 to 1")
        expect(0 <= self.latent_noise < math.inf, "latent_noise", self.latent_noise, "a finite number of at least 0")
        expect(
            self.start_from is not None or not self.decoder_only,
            "decoder_only",
            self.decoder_only,
            "start_from beside it: a decoder learns nothing from an encoder that never did",
        )


def to_pixels(pictures: Tensor) -> Tensor:
    """uint8 `b h w 3` → pixels `b 3 h w` in [-1, 1], channels last in memory."""
    return pictures.permute(0, 3, 1, 2).float().div(127.5).sub(1).contiguous(memory_format=torch.channels_last)


def to_pictures(pixels: Tensor) -> Tensor:
    """Pixels `b 3 h w` in [-1, 1] → uint8 `b h w 3`."""
    return pixels.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def loss_of(output: Tensor, target: Tensor, mean: Tensor, logvar: Tensor, weights: VAELoss) -> Tensor:
    """The loss of decoded pixels and of their latents' distribution. Source of the KL term: Kingma & Welling 2013, Eq. 10."""
    error = output - target
    gradient = (error[..., 1:, :] - error[..., :-1, :]).abs().mean() + (
        error[..., :, 1:] - error[..., :, :-1]
    ).abs().mean()
    kl = 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar).mean()
    return (
        weights.l1 * error.abs().mean()
        + weights.squared * error.square().mean()
        + weights.gradient * gradient
        + weights.kl * kl
        + weights.border * _border(error).abs().mean()
    )


def _border(pixels: Tensor) -> Tensor:
    """The outermost pixels of pictures, the corners twice: `b 3 n`."""
    return torch.cat([pixels[..., 0, :], pixels[..., -1, :], pixels[..., 0], pixels[..., -1]], dim=-1)


@torch.no_grad()
def reconstruct(vae: AutoencoderKL, pictures: Tensor, batch: int = 64) -> Tensor:
    """Pictures (uint8 `n h w 3`) through the autoencoder and back."""
    return torch.cat([to_pictures(vae(to_pixels(part.to(vae.device)))[0]).cpu() for part in pictures.split(batch)])


def psnr(pictures: Tensor, others: Tensor) -> float:
    """Mean over pictures of the peak signal-to-noise ratio, in dB, of uint8 pictures."""
    squared = (pictures.float() - others.float()).square().flatten(1).mean(1).clamp_min(1e-3)
    return (10 * torch.log10(255.0**2 / squared)).mean().item()


class _Batches:
    """Pictures (uint8 `b h w 3`) of the steps: scenes, a share of them of the vocabulary's art, the rest of any training art.

    Never the same scene twice. Raises TrainingError when there is no such art.
    """

    def __init__(self, data: ArtDataset, config: VAETrainConfig) -> None:
        self.config = config
        rows = data.where(split="train").tolist()
        if not rows or (config.focus > 0 and not len(data.where(split="train", taught=True))):
            raise TrainingError(f"{config.data} has no pictures to train on; build the data again: sfumato data build.")
        any_art = SceneMaker(data, config.mix, config.seed, tuple(rows))
        self.makers = (SceneMaker(data, config.mix, config.seed) if config.focus > 0 else any_art, any_art)

    def orders(self, step: int) -> list[Order]:
        """What is to be composed for a step."""
        batch = self.config.batch
        first, focused = step * batch, round(batch * self.config.focus)
        shares = (
            Order(first=first, count=focused, maker=0),
            Order(first=first + focused, count=batch - focused, maker=1),
        )
        return [part for share in shares for part in share.parts(_PART)]

    def since(self, step: int, pool: ScenePool) -> Iterator[Tensor]:
        """The batches of that step and all that follow."""
        composed = pool.take(order for later in count(step) for order in self.orders(later))
        for later in count(step):
            yield torch.from_numpy(np.concatenate([next(composed).pixels for _ in self.orders(later)]))


class _Step(nn.Module):
    """Forward pass and loss as one module, so that they compile as one."""

    def __init__(self, vae: AutoencoderKL, config: VAETrainConfig) -> None:
        super().__init__()
        self.vae = vae
        self.config = config

    def forward(self, pixels: Tensor, noise: Tensor) -> Tensor:
        if self.config.decoder_only:
            with torch.no_grad():
                distribution = self.vae.encode(pixels)
            output = self.vae.decode(distribution.mode() + self.config.latent_noise * noise)
        else:
            output, distribution = self.vae(pixels, noise)
        mean, logvar = distribution.mean.float(), distribution.logvar.float()
        return loss_of(output.float(), pixels, mean, logvar, self.config.loss)


def load_vae(run: Path | str) -> AutoencoderKL:
    """The autoencoder that a finished run left in its folder, or that of a model folder.

    Raises TrainingError when there is none, or a damaged one; for a model folder as `open_folder` does.
    """
    if is_model(run):
        return autoencoder_of(run)
    file = Path(run) / FINISHED
    if not file.exists():
        raise TrainingError(f"no trained autoencoder in {run}; train it first: sfumato train vae CONFIG.")
    state = load_tensors(
        file, frozenset({"model", "weights"}), cure="have the finished run write it again: sfumato train vae CONFIG."
    )
    with taking_in(file):
        vae = AutoencoderKL(parse(state["model"], VAEConfig, str(file)))
        vae.load_state_dict(state["weights"])
    return vae.eval()


def train(
    config_path: Path | str,
    out: Path | str,
    *,
    until: float | None = None,
    progress: Callable[[str], None] = print,
) -> Path:
    """Train an autoencoder as the config says, in the run folder `out`, going on from its last checkpoint if it has one.

    `until` is the time when it ends (see `RunFolder`).

    Leaves `vae.pt`, `log.jsonl` and sheets (art above its reconstruction) there and returns the path of `vae.pt`; where a model's decoder was
    trained alone, the model with it in the folder `model` as well.
    Raises TrainingError for a config or folder that can't be used or a loss that is not finite, DataError for the data, OutputError when
    the folder can't be written to.
    """
    config = read_config(config_path, VAETrainConfig)
    device = device_of(config)
    data = read_dataset(config.data)
    batches = _Batches(data, config)
    torch.manual_seed(config.seed)
    inputs = {"dataset": data.sha256}
    if config.start_from:
        vae = _started_from(config.start_from, config.model)
        inputs["autoencoder"] = weights_sha256(vae)
    else:
        vae = AutoencoderKL(config.model)
    if data.size % vae.scale:
        raise TrainingError(
            f"{config.data} has pictures of {data.size} px, expected a multiple of {vae.scale}; mend it."
        )
    folder = RunFolder(out, config, inputs, until)
    with folder.begun() as state:  # until its autoencoder is written: who waits for it then finds it
        vae = vae.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        if config.decoder_only:
            vae.encoder.requires_grad_(False)
            vae.quant_conv.requires_grad_(False)
        optimizer = torch.optim.AdamW(
            [p for p in vae.parameters() if p.requires_grad],
            lr=config.learning_rate.peak,
            weight_decay=config.weight_decay,
            betas=(0.9, 0.99),
            fused=device.type == "cuda",
        )

        first = restore(state, folder.checkpoint, vae, optimizer) if state else 0
        step_module = _Step(vae, config)
        compute = torch.compile(step_module, dynamic=False) if config.compile else step_module
        latent_shape = (config.batch, vae.config.latent_channels, data.size // vae.scale, data.size // vae.scale)

        def loss_of_pictures(pictures: Tensor, noise: Tensor) -> Tensor:
            with arithmetic(config, device):
                return compute(to_pixels(pictures.to(device)), noise)

        if config.compile and folder.share(first) < 1:  # before the run's time is counted
            blank = torch.zeros((config.batch, data.size, data.size, 3), dtype=torch.uint8)
            loss_of_pictures(blank, torch.zeros(latent_shape, device=device)).backward()
            optimizer.zero_grad(set_to_none=True)

        with ScenePool(batches.makers, config.workers) as pool:
            pictures = batches.since(first, pool)

            def loss_at(step: int) -> Tensor:
                generator = step_generator(config.seed, step, "noise", device)
                noise = torch.randn(latent_shape, generator=generator, device=device)
                return loss_of_pictures(next(pictures), noise)

            run_steps(
                folder,
                optimizer,
                first=first,
                loss_at=loss_at,
                state=lambda: {"weights": plain_weights(vae)},
                show=lambda done: _show(vae, data, folder.path / "sheets" / f"{done:06d}.png"),
                progress=progress,
            )
        finished = folder.path / FINISHED
        save_tensors(finished, {"model": asdict(vae.config), "weights": plain_weights(vae)})
        if config.decoder_only and config.start_from and is_model(config.start_from):
            write_with(config.start_from, folder.path / MODEL, vae=load_vae(folder.path))
        return finished


def _started_from(run: str, model: VAEConfig) -> AutoencoderKL:
    vae = load_vae(run)
    theirs, ours = asdict(vae.config), asdict(model)
    if differing := sorted(name for name in ours if theirs[name] != ours[name]):
        raise TrainingError(
            f"the autoencoder in {run} is not the config's [model]: {', '.join(differing)} differ; make them agree."
        )
    return vae


def _show(vae: AutoencoderKL, data: ArtDataset, sheet: Path, columns: int = 24) -> dict[str, float]:
    """Write art above its reconstruction, and measure both kinds of art."""
    vae.eval()
    scores: dict[str, float] = {}
    pages: list[np.ndarray] = []
    held_out, taught = data.where(split="held_out"), data.where(split="train", taught=True)
    kinds = {"held_out": data.on_white(_spread(held_out)), "taught": data.on_white(_spread(taught))}
    if len(held_out):
        scenes = SceneMaker(data, SceneMix(plain=0), rows=tuple(held_out.tolist())).scenes(0, _LOOKED_AT)
        kinds["scenes"] = np.stack([scene.pixels for scene in scenes])
    for name, pictures in kinds.items():
        if not len(pictures):
            continue
        art = torch.from_numpy(pictures)
        remade = reconstruct(vae, art)
        scores[f"psnr_{name}"] = psnr(art, remade)
        chosen = _spread(np.arange(len(art)), columns).tolist()
        pages += [art[i].numpy() for i in chosen] + [remade[i].numpy() for i in chosen]
        columns = len(chosen)
    write_sheet(sheet, pages, columns=columns)
    vae.train()
    return scores


def _spread(rows: np.ndarray, count: int = _LOOKED_AT) -> np.ndarray:
    """At most so many of the rows, evenly spread."""
    return rows[:: -(-len(rows) // count)] if len(rows) else rows
