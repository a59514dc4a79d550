"""`sfumato train base`: the text encoder and the U-Net, together, on latents that are encoded once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.diffusion.noise_schedule import NoiseSchedule
from sfumato.errors import TrainingError
from sfumato.models import AutoencoderKL, CLIPTextConfig, CLIPTextEncoder, UNet, UNetConfig
from sfumato.text import Tokenizer
from sfumato.training.average import MovingAverage
from sfumato.training.config import RunConfig, read_config
from sfumato.training.data import ArtDataset, read_dataset
from sfumato.training.data.sheet import write_sheet
from sfumato.training.latents import encode, normalise
from sfumato.training.loop import run_steps
from sfumato.training.run import RunFolder, plain_weights, shuffled, step_generator
from sfumato.training.samples import draw
from sfumato.training.vae import load_vae


@dataclass(frozen=True, kw_only=True, slots=True)
class TextSizes:
    """The text encoder and its tokenizer: CLIP's shape, smaller; `base_merges` of CLIP's merges are kept besides those captions need."""

    width: int = 192
    layers: int = 2
    heads: int = 6
    max_length: int = 24
    base_merges: int = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class NoiseLevels:
    """The noise schedule, and how often each of its levels is trained.

    log sigma is drawn from a normal distribution, which in rectified flow's time sigma / (1 + sigma) is the logit-normal of Esser et al.
    2024 (arXiv:2403.03206, section 3.1), and rounded to the nearest timestep; a share `uniform` of timesteps is drawn evenly.
    With beta_end 0.02 the last level is sigma = 65.93: starting from pure noise there leaves white grounds white.
    """

    kind: str = "scaled_linear"
    beta_start: float = 0.00085
    beta_end: float = 0.02
    log_mean: float = 0.3
    log_std: float = 1.1
    uniform: float = 0.2

    def schedule(self) -> NoiseSchedule:
        """The noise schedule. Raises UnknownNameError or ScheduleError."""
        return NoiseSchedule(beta_start=self.beta_start, beta_end=self.beta_end, kind=self.kind)  # type: ignore[arg-type]

    def draw(self, count: int, sigmas: Tensor, generator: torch.Generator) -> Tensor:
        """Whole timesteps for a batch; `sigmas` is the schedule's table."""
        wanted = torch.randn(count, generator=generator).mul(self.log_std).add(self.log_mean)
        logs = sigmas.log().float()
        nearest = torch.searchsorted((logs[1:] + logs[:-1]) / 2, wanted)
        evenly = torch.randint(len(sigmas), (count,), generator=generator)
        return torch.where(torch.rand(count, generator=generator) < self.uniform, evenly, nearest)


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseTrainConfig(RunConfig):
    """A run of text encoder and U-Net. `data` is a dataset file, `vae` the run folder of the autoencoder, `prompts` the sheet's."""

    data: str
    vae: str
    unet: UNetConfig
    text: TextSizes = TextSizes()
    noise: NoiseLevels = NoiseLevels()
    guidance_dropout: float = 0.1
    average_decay: float = 0.998
    scheduler: str = "DPMSolverMultistepScheduler"
    prompts: tuple[str, ...] = ("a red apple, 3d style", "cat face", "pizza", "rocket")
    prompt_steps: int = 20
    prompt_guidance: float = 3.0

    def scheduler_config(self) -> dict[str, Any]:
        """What `scheduler_config.json` says: the training noise, v-prediction, and a run from the noisiest level down."""
        return {
            "_class_name": self.scheduler,
            "num_train_timesteps": 1000,
            "beta_start": self.noise.beta_start,
            "beta_end": self.noise.beta_end,
            "beta_schedule": self.noise.kind,
            "prediction_type": "v_prediction",
            "timestep_spacing": "trailing",
            "steps_offset": 0,
        }


class BaseModel(nn.Module):
    """The text encoder and the U-Net that reads it, as one module: one optimizer, one average."""

    def __init__(self, unet: UNetConfig, text: CLIPTextConfig) -> None:
        super().__init__()
        self.text_encoder = CLIPTextEncoder(text)
        self.unet = UNet(unet)

    def forward(self, latents: Tensor, noise: Tensor, signal: Tensor, timesteps: Tensor, tokens: Tensor) -> Tensor:
        """The loss of a batch: squared error of v. `signal` is alphas_cumprod at the timesteps. Source: Salimans & Ho 2022, appendix D."""
        a, s = signal.sqrt()[:, None, None, None], (1 - signal).sqrt()[:, None, None, None]
        v = self.unet(a * latents + s * noise, timesteps, self.text_encoder(tokens).hidden)
        return F.mse_loss(v, a * noise - s * latents)


class _Batches:
    """Batch of a step: latents, noise, timesteps and tokens, every picture once a pass, each time under one of its captions, drawn anew."""

    def __init__(
        self, data: ArtDataset, latents: Tensor, rows: Sequence[int], tokenizer: Tokenizer, config: BaseTrainConfig
    ) -> None:
        self.config = config
        self.latents = latents
        captions = [data.records[i].captions for i in rows]
        self.tokens = {text: tokens_of(tokenizer, [text])[0] for text in {"", *(c for some in captions for c in some)}}
        self.captions = captions
        schedule = config.noise.schedule()
        self.alphas_cumprod, self.sigmas = schedule.alphas_cumprod, schedule.sigmas

    def __call__(self, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        config = self.config
        generator = step_generator(config.seed, step, "batch")
        rows = shuffled(len(self.captions), step * config.batch, config.batch, config.seed)
        chance = torch.rand((2, config.batch), generator=generator)
        texts = [
            "" if drop < config.guidance_dropout else self.captions[row][int(pick * len(self.captions[row]))]
            for row, drop, pick in zip(rows.tolist(), chance[0].tolist(), chance[1].tolist(), strict=True)
        ]
        timesteps = config.noise.draw(config.batch, self.sigmas, generator)
        latents = self.latents[rows]
        noise = torch.randn(latents.shape, generator=generator)
        signal = self.alphas_cumprod[timesteps]
        return latents, noise, signal, timesteps.float(), torch.stack([self.tokens[text] for text in texts])


def tokens_of(tokenizer: Tokenizer, texts: Sequence[str]) -> Tensor:
    """Token ids of texts, `n max_length`."""
    return torch.tensor([tokenizer.encode(text).ids for text in texts])


def tokenizer_for(data: ArtDataset, sizes: TextSizes) -> Tokenizer:
    """CLIP's tokenizer reduced to what the captions need, and shortened."""
    texts = sorted({caption for record in data.records for caption in record.captions})
    reduced = Tokenizer.bundled_clip().reduced(texts, sizes.base_merges)
    return Tokenizer(replace(reduced.spec, max_length=sizes.max_length))


def text_config(sizes: TextSizes, tokenizer: Tokenizer) -> CLIPTextConfig:
    """The text encoder's config for a tokenizer."""
    return CLIPTextConfig(
        vocab_size=tokenizer.vocab_size,
        width=sizes.width,
        layers=sizes.layers,
        heads=sizes.heads,
        max_length=sizes.max_length,
        mlp_width=4 * sizes.width,
        eos_token_id=tokenizer.end_id,
    )


def normalised_vae(run: Path | str, data: ArtDataset) -> AutoencoderKL:
    """The autoencoder of a run, its latents brought to unit variance over the art taught: what a base run learns on."""
    vae = load_vae(run)
    normalise(vae, torch.from_numpy(data.pixels[data.where(split="train", captioned=True)]))
    return vae


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseRun:
    """What a run leaves: the averaged models, the autoencoder and tokenizer they work with, and its config."""

    model: BaseModel
    vae: AutoencoderKL
    tokenizer: Tokenizer
    config: BaseTrainConfig
    step: int


def load_base(config_path: Path | str, out: Path | str) -> BaseRun:
    """The averaged models of a run's last checkpoint. Raises TrainingError when it has none."""
    config = read_config(config_path, BaseTrainConfig)
    state = RunFolder(out, config).load()
    if state is None:
        raise TrainingError(f"no checkpoint in {out}; train it first: sfumato train base CONFIG.")
    data = read_dataset(config.data)
    tokenizer = tokenizer_for(data, config.text)
    model = BaseModel(config.unet, text_config(config.text, tokenizer))
    model.load_state_dict(state["average"])
    return BaseRun(
        model=model.eval(), vae=normalised_vae(config.vae, data), tokenizer=tokenizer, config=config, step=state["step"]
    )


def train(config_path: Path | str, out: Path | str, *, progress: Callable[[str], None] = print) -> Path:
    """Train text encoder and U-Net as the config says, in the run folder `out`, going on from its last checkpoint if it has one.

    Leaves the checkpoint, `log.jsonl` and sheets of the config's prompts there; returns the folder, for `export`.
    Raises TrainingError for a config or folder that can't be used or a loss that is not finite, DataError for the data.
    """
    config = read_config(config_path, BaseTrainConfig)
    if config.threads:
        torch.set_num_threads(config.threads)
    data = read_dataset(config.data)
    rows = data.where(split="train", captioned=True)
    if not len(rows):
        raise TrainingError(f"{config.data} has no captioned pictures; build the data again: sfumato data build.")
    folder = RunFolder(out, config)
    vae, tokenizer = normalised_vae(config.vae, data), tokenizer_for(data, config.text)
    batches = _Batches(data, encode(vae, torch.from_numpy(data.pixels[rows])), rows.tolist(), tokenizer, config)

    torch.manual_seed(config.seed)
    model = BaseModel(config.unet, text_config(config.text, tokenizer)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = MovingAverage(model, config.average_decay)
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=config.learning_rate.peak,
        weight_decay=config.weight_decay,
        betas=(0.9, 0.99),
        fused=True,
    )
    first = 0
    if state := folder.load():
        model.load_state_dict(state["weights"])
        average.load(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    compute = torch.compile(model, dynamic=False) if config.compile else model

    run_steps(
        folder,
        optimizer,
        first=first,
        loss_at=lambda step: compute(*batches(step)),
        after_step=lambda step: average.update(model, step),
        state=lambda: {"weights": plain_weights(model), "average": average.weights},
        show=lambda done: _show(config, average, vae, tokenizer, folder.path / "sheets" / f"{done:06d}.png"),
        progress=progress,
    )
    return folder.path


def _show(
    config: BaseTrainConfig, average: MovingAverage, vae: AutoencoderKL, tokenizer: Tokenizer, sheet: Path
) -> dict[str, float]:
    """Draw the config's prompts with the averaged weights, to be looked at: nothing is measured."""
    model = BaseModel(config.unet, text_config(config.text, tokenizer)).eval()
    model.load_state_dict(average.weights)
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
