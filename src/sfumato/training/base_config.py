"""What a base run's config says: sizes of text encoder and U-Net, noise levels, and what its sheets show."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from sfumato.diffusion.noise_schedule import NoiseSchedule, ScheduleKind
from sfumato.errors import UnknownNameError
from sfumato.models import UNetConfig
from sfumato.schedulers import SCHEDULERS
from sfumato.training.config import RunConfig, expect
from sfumato.training.data.scenes import SceneMix


@dataclass(frozen=True, kw_only=True, slots=True)
class TextSizes:
    """The text encoder and its tokenizer: CLIP's shape, smaller; `base_merges` of CLIP's merges are kept besides those captions need."""

    width: int = 192
    layers: int = 2
    heads: int = 6
    max_length: int = 24
    base_merges: int = 1000

    def __post_init__(self) -> None:
        for name in ("width", "layers", "heads"):
            expect(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        expect(self.width % self.heads == 0, "heads", self.heads, f"a divisor of width, {self.width}")
        expect(self.max_length >= 3, "max_length", self.max_length, "at least 3: a start, a word and an end")
        expect(self.base_merges >= 0, "base_merges", self.base_merges, "at least 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class NoiseLevels:
    """The noise schedule, and how often each of its levels is trained.

    log sigma is drawn from a normal distribution, which in rectified flow's time sigma / (1 + sigma) is the logit-normal of Esser et al.
    2024 (arXiv:2403.03206, section 3.1), and rounded to the nearest timestep; a share `uniform` of timesteps is drawn evenly.
    Captions are learned where the noise is high, edges where it is low: with `log_mean_end` the mean moves there evenly over the run.
    With beta_end 0.02 the last level is sigma = 65.93: starting from pure noise there leaves white grounds white.
    """

    kind: ScheduleKind = "scaled_linear"
    beta_start: float = 0.00085
    beta_end: float = 0.02
    log_mean: float = 0.3
    log_mean_end: float | None = None
    log_std: float = 1.1
    uniform: float = 0.2

    def __post_init__(self) -> None:
        self.schedule()
        for name in ("log_mean", "log_mean_end"):
            value = getattr(self, name)
            expect(value is None or math.isfinite(value), name, value, "a finite number")
        expect(0 <= self.log_std < math.inf, "log_std", self.log_std, "a finite number of at least 0")
        expect(0 <= self.uniform <= 1, "uniform", self.uniform, "a share from 0 to 1")

    def schedule(self) -> NoiseSchedule:
        """The noise schedule. Raises UnknownNameError or ScheduleError."""
        return NoiseSchedule(beta_start=self.beta_start, beta_end=self.beta_end, kind=self.kind)

    def draw(
        self, count: int, sigmas: Tensor, generator: torch.Generator, done: float = 0.0, *, halved: bool = False
    ) -> Tensor:
        """Whole timesteps for a batch, on the generator's device, where `sigmas`, the schedule's table, lies; `done`: the run's share behind it.

        A picture of half the side (`halved`) has a fourth of the latents to average noise away with: for it, log sigma's mean is lower by log 2.
        """
        end = self.log_mean if self.log_mean_end is None else self.log_mean_end
        mean = self.log_mean + (end - self.log_mean) * done - (math.log(2) if halved else 0.0)
        device = generator.device
        wanted = torch.randn(count, generator=generator, device=device).mul(self.log_std).add(mean)
        logs = sigmas.log().float()
        nearest = torch.searchsorted((logs[1:] + logs[:-1]) / 2, wanted)
        evenly = torch.randint(len(sigmas), (count,), generator=generator, device=device)
        return torch.where(torch.rand(count, generator=generator, device=device) < self.uniform, evenly, nearest)


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseTrainConfig(RunConfig):
    """A run of text encoder and U-Net.

    `data` is a dataset file, of whose art `scenes` pictures are composed as `mix` says, each with `captions` wordings. `vae` is the run
    folder of the autoencoder; with `start_from`, a model folder, the run goes on from that model, autoencoder included.
    For the first `halved` share of the run, what captions mean is learned on pictures of half the side, four times as many a step: as much
    work, and counted as one. A run that is made longer while its share is above `halved` may go back to them. Source: Rombach et al. 2022, whose
    model learned at 256 px before 512.
    `graphs` records the network's part of a step as a CUDA graph, where the processor is slower at starting kernels than the GPU at them.
    `optimizer` "muon" learned faster here and costs a third more time a step (`muon`).
    `min_snr` is the gamma of min-SNR weighting, and `immiscible` gives each picture of a batch the noise nearest to it (see `objective`
    and `immiscible`). `prompts` are the sheet's.
    """

    data: str
    unet: UNetConfig
    vae: str | None = None
    start_from: str | None = None
    scenes: int = 20000
    captions: int = 4
    halved: float = 0.0
    graphs: bool = False
    mix: SceneMix = field(default_factory=SceneMix)
    text: TextSizes = TextSizes()
    noise: NoiseLevels = NoiseLevels()
    min_snr: float | None = None
    immiscible: bool = False
    optimizer: Literal["adamw", "muon"] = "adamw"
    guidance_dropout: float = 0.1
    average_decay: float = 0.998
    scheduler: str = "DPMSolverMultistepScheduler"
    prompts: tuple[str, ...] = ("a red apple, 3d style", "cat face", "pizza", "rocket")
    prompt_steps: int = 20
    prompt_guidance: float = 3.0

    def __post_init__(self) -> None:
        RunConfig.__post_init__(self)
        check_unet(self.unet)
        expect(
            (self.vae is None) != (self.start_from is None), "vae", self.vae, "a run folder, or start_from in its place"
        )
        for name in ("scenes", "captions"):
            expect(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        expect(0 <= self.halved <= 1, "halved", self.halved, "a share from 0 to 1")
        smaller = 2 ** len(self.unet.channels)
        expect(
            not self.halved or self.unet.sample_size % smaller == 0,
            "halved",
            self.halved,
            f"0 for a U-Net of unet.sample_size {self.unet.sample_size}: half of it must be a multiple of {smaller // 2}",
        )
        dim, width = self.unet.context_dim, self.text.width
        expect(
            dim == width, "unet.context_dim", dim, f"text.width, {width}: the U-Net reads what the text encoder writes"
        )
        expect(
            self.min_snr is None or 0 < self.min_snr < math.inf,
            "min_snr",
            self.min_snr,
            "a finite number above 0, as 5",
        )
        expect(0 <= self.guidance_dropout <= 1, "guidance_dropout", self.guidance_dropout, "a share from 0 to 1")
        expect(0 <= self.average_decay < 1, "average_decay", self.average_decay, "at least 0 and below 1")
        if self.scheduler not in SCHEDULERS:
            raise UnknownNameError("scheduler", self.scheduler, SCHEDULERS)
        expect(1 <= self.prompt_steps <= 1000, "prompt_steps", self.prompt_steps, "1 to 1000")
        expect(
            0 <= self.prompt_guidance < math.inf,
            "prompt_guidance",
            self.prompt_guidance,
            "a finite number of at least 0",
        )

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


def check_unet(config: UNetConfig) -> None:
    """Raise TrainingError for sizes of which no U-Net can be made."""
    for name in ("in_channels", "out_channels", "blocks_per_level", "context_dim", "norm_groups", "sample_size"):
        expect(getattr(config, name) >= 1, f"unet.{name}", getattr(config, name), "at least 1")
    expect(min(config.channels) >= 1, "unet.channels", config.channels, "at least 1 each")
    expect(
        all(width % config.norm_groups == 0 for width in config.channels),
        "unet.norm_groups",
        config.norm_groups,
        f"a divisor of each of channels, {config.channels}",
    )
    # The middle attends too, with the innermost level's heads.
    attending = [*(level for level, attends in enumerate(config.attention) if attends), len(config.channels) - 1]
    expect(
        all(config.heads[i] >= 1 and config.channels[i] % config.heads[i] == 0 for i in attending),
        "unet.heads",
        config.heads,
        f"a divisor of each level's channels, {config.channels}",
    )
    expect(min(config.depth) >= 1, "unet.depth", config.depth, "at least 1 each")
    smaller = 2 ** (len(config.channels) - 1)
    expect(config.sample_size % smaller == 0, "unet.sample_size", config.sample_size, f"a multiple of {smaller}")
    expect(config.out_channels == config.in_channels, "unet.out_channels", config.out_channels, "in_channels")
