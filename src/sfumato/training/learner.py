"""What a base run trains: the networks, their average and their optimizer, on a device, compiled where the config says so."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.errors import TrainingError
from sfumato.text import Tokenizer
from sfumato.training.average import MovingAverage
from sfumato.training.base_config import BaseTrainConfig
from sfumato.training.device import arithmetic
from sfumato.training.muon import Muon
from sfumato.training.objective import BaseModel, Batch
from sfumato.training.run import plain_weights, restore
from sfumato.training.start import take_over
from sfumato.training.tokens import text_config, tokens_of


class Learner:
    """Text encoder and U-Net of a run at its beginning, or with `state` where its checkpoint (at `checkpoint`) left them.

    Raises TrainingError for a checkpoint or a model to start from that doesn't fit the config.
    """

    def __init__(
        self,
        config: BaseTrainConfig,
        tokenizer: Tokenizer,
        device: torch.device,
        state: Mapping[str, Any] | None = None,
        checkpoint: Path | None = None,
    ) -> None:
        self.config, self.tokenizer, self.device = config, tokenizer, device
        torch.manual_seed(config.seed)
        model = BaseModel(config.unet, text_config(config.text, tokenizer), config.min_snr)
        if config.start_from is not None and not state:
            take_over(config.start_from, model.unet, model.text_encoder, tokenizer)
        self.model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = MovingAverage(self.model, config.average_decay)
        rate, weight_decay = config.learning_rate.peak, config.weight_decay
        self.optimizer = (
            Muon(self.model, lr=rate, weight_decay=weight_decay, in_bfloat16=config.precision == "bfloat16")
            if config.optimizer == "muon"
            else torch.optim.AdamW(
                self.model.parameters(), lr=rate, weight_decay=weight_decay, betas=(0.9, 0.99), fused=True
            )
        )
        self.first = 0
        if state and checkpoint:
            self.first = restore(state, checkpoint, self.model, self.optimizer, self.average)
        self._compute = torch.compile(self.model, dynamic=False) if config.compile else self.model
        # The networks' way there and back as a recorded graph, by the number of pictures in a batch.
        self._graphs: dict[int, Callable[..., Tensor]] = {}

    def loss(self, batch: Batch) -> Tensor:
        """The loss of a batch. Where it was recorded, the next batch's takes its place."""
        if graph := self._graphs.get(len(batch[0])):
            return graph(*batch)
        with arithmetic(self.config, self.device):
            return self._compute(*batch)

    def warm_up(self, done: float = 0.0, progress: Callable[[str], None] = print) -> None:
        """Have compiler and recorder do their work for every size of batch that a run with the share `done` behind it will meet.

        Nothing is learned. Raises TrainingError when a step can't be recorded.
        """
        config, side = self.config, self.config.unet.sample_size
        if config.graphs and not self._records:
            progress(f"graphs are recorded on CUDA devices alone, and this run is on the device {self.device.type}")
        if not (config.compile or self._records):
            return
        small, full = (4 * config.batch, side // 2), (config.batch, side)
        for count, length in ((small,) if done < config.halved else ()) + ((full,) if config.halved < 1 else ()):
            blank = self._blank(count, length)
            self.loss(blank).backward()
            self.optimizer.zero_grad(set_to_none=True)
            if self._records:
                self._graphs[count] = self._recorded(blank)
                self.optimizer.zero_grad(set_to_none=True)

    @property
    def _records(self) -> bool:
        return self.config.graphs and self.device.type == "cuda"

    def _recorded(self, blank: Batch) -> Callable[..., Tensor]:
        step = _Recordable(self._compute, self.model, self.config, self.device)
        try:
            graph: Any = torch.cuda.make_graphed_callables(step, blank, allow_unused_input=True)
        except RuntimeError as error:
            raise TrainingError(
                f"the step of {len(blank[0])} pictures can't be recorded as a CUDA graph ({error}); set graphs = false in the config."
            ) from error
        return graph

    def _blank(self, count: int, length: int) -> Batch:
        """A batch like those of the run: no two of its tensors are one, or the compiler would take that for granted."""
        shape = (count, self.config.unet.in_channels, length, length)
        tokens = tokens_of(self.tokenizer, [""]).to(self.device).expand(count, -1).contiguous()
        latents, noise = torch.zeros(shape, device=self.device), torch.zeros(shape, device=self.device)
        signal, timesteps = (torch.full((count,), value, device=self.device) for value in (0.5, 500.0))
        return latents, noise, signal, timesteps, tokens

    def checkpoint(self) -> dict[str, Any]:
        """What a checkpoint holds of it, besides the optimizer."""
        return {"weights": plain_weights(self.model), "average": self.average.plain_weights()}

    def averaged(self, device: torch.device | str = "cpu") -> BaseModel:
        """The networks with the average of their weights, which is what is drawn with and exported."""
        model = BaseModel(self.config.unet, text_config(self.config.text, self.tokenizer)).eval()
        model.load_state_dict(self.average.weights)
        return model.to(device)


class _Recordable(nn.Module):
    """A batch's loss, in the config's arithmetic, as a module that CUDA graphs are recorded of. Its parameters are the model's."""

    def __init__(
        self, compute: Callable[..., Tensor], model: BaseModel, config: BaseTrainConfig, device: torch.device
    ) -> None:
        super().__init__()
        self.model = model
        self._how = (compute, config, device)

    def forward(self, *batch: Tensor) -> Tensor:
        compute, config, device = self._how
        with arithmetic(config, device):
            return compute(*batch)
