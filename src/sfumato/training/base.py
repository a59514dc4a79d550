"""`sfumato train base`: the text encoder and the U-Net, together, on latents that are encoded once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.errors import TrainingError
from sfumato.models import AutoencoderKL, CLIPTextConfig, CLIPTextEncoder, UNet, UNetConfig
from sfumato.text import Tokenizer
from sfumato.training.average import MovingAverage
from sfumato.training.base_config import BaseTrainConfig, TextSizes
from sfumato.training.config import read_config
from sfumato.training.data import ArtDataset, read_dataset
from sfumato.training.data.sheet import write_sheet
from sfumato.training.latents import encode, normalise
from sfumato.training.loop import run_steps
from sfumato.training.run import RunFolder, plain_weights, shuffled, step_generator
from sfumato.training.samples import draw
from sfumato.training.storage import taking_in, vocabulary_sha256, weights_sha256
from sfumato.training.vae import load_vae

# The parts of the autoencoder that latents come through.
_MAKES_LATENTS = ("encoder.", "quant_conv.")


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


@dataclass(frozen=True, kw_only=True, slots=True)
class _Inputs:
    """What a base run learns from: dataset, rows of it, autoencoder as its run left it, tokenizer."""

    data: ArtDataset
    rows: Sequence[int]
    vae: AutoencoderKL
    tokenizer: Tokenizer

    @property
    def pictures(self) -> Tensor:
        """The art taught, uint8 `n h w 3`."""
        return torch.from_numpy(self.data.pixels[list(self.rows)])

    def folder(self, out: Path | str, config: BaseTrainConfig) -> RunFolder:
        """The run's folder, which holds the run to these inputs."""
        hashes = {
            "autoencoder": weights_sha256(self.vae),
            "dataset": self.data.sha256,
            "vocabulary": vocabulary_sha256(self.tokenizer),
        }
        return RunFolder(out, config, hashes)


def _inputs(config: BaseTrainConfig) -> _Inputs:
    """Read what a run learns from, and see that it fits. Raises TrainingError, or DataError for the data."""
    data = read_dataset(config.data)
    rows = data.where(split="train", captioned=True).tolist()
    if not rows:
        raise TrainingError(f"{config.data} has no captioned pictures; build the data again: sfumato data build.")
    vae = load_vae(config.vae)
    side, channels = config.unet.sample_size * vae.scale, vae.config.latent_channels
    if data.size != side or config.unet.in_channels != channels:
        raise TrainingError(
            f"the latents of {config.data} are {channels} × {data.size / vae.scale:g} × {data.size / vae.scale:g}, the config's U-Net is "
            f"for {config.unet.in_channels} × {config.unet.sample_size} × {config.unet.sample_size}; make them agree."
        )
    return _Inputs(data=data, rows=rows, vae=vae, tokenizer=tokenizer_for(data, config.text))


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseRun:
    """What a run leaves: the averaged models, the autoencoder and tokenizer they work with, and its config."""

    model: BaseModel
    vae: AutoencoderKL
    tokenizer: Tokenizer
    config: BaseTrainConfig
    step: int


def load_base(config_path: Path | str, out: Path | str, *, decoder_run: Path | str | None = None) -> BaseRun:
    """The averaged models of a run's last checkpoint; the autoencoder is that of `decoder_run`, if given, which trained its decoder further.

    Raises TrainingError when it has no checkpoint, one of another config or other inputs, or when the decoder's run changed the encoder;
    DataError for the data.
    """
    config = read_config(config_path, BaseTrainConfig)
    if not RunFolder(out, config).checkpoint.exists():
        raise TrainingError(f"no checkpoint in {out}; train it first: sfumato train base CONFIG.")
    inputs = _inputs(config)
    folder = inputs.folder(out, config)
    state = folder.load()
    assert state is not None
    model = BaseModel(config.unet, text_config(config.text, inputs.tokenizer))
    with taking_in(folder.checkpoint):
        model.load_state_dict(state["average"])
    vae = inputs.vae if decoder_run is None else _with_decoder(inputs.vae, decoder_run)
    normalise(vae, inputs.pictures)
    return BaseRun(model=model.eval(), vae=vae, tokenizer=inputs.tokenizer, config=config, step=state["step"])


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
    if config.threads:
        torch.set_num_threads(config.threads)
    inputs = _inputs(config)
    folder = inputs.folder(out, config)
    state = folder.begin()
    vae, tokenizer = inputs.vae, inputs.tokenizer
    normalise(vae, inputs.pictures)
    batches = _Batches(inputs.data, encode(vae, inputs.pictures), inputs.rows, tokenizer, config)

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
    if state:
        with taking_in(folder.checkpoint):
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
    if not config.prompts:
        return {}
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
