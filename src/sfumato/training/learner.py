"""What a base run trains: the networks, their average and their optimizer, on a device, compiled where the config says so."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sfumato.text import Tokenizer
from sfumato.training.average import MovingAverage
from sfumato.training.base_config import BaseTrainConfig
from sfumato.training.device import arithmetic
from sfumato.training.muon import Muon
from sfumato.training.objective import BaseModel, Batch
from sfumato.training.run import plain_weights
from sfumato.training.start import take_over
from sfumato.training.storage import taking_in
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
            Muon(self.model, lr=rate, weight_decay=weight_decay)
            if config.optimizer == "muon"
            else torch.optim.AdamW(
                self.model.parameters(), lr=rate, weight_decay=weight_decay, betas=(0.9, 0.99), fused=True
            )
        )
        self.first = 0
        if state and checkpoint:
            with taking_in(checkpoint):
                self.model.load_state_dict(state["weights"])
                self.average.load(state["average"])
                self.optimizer.load_state_dict(state["optimizer"])
            self.first = state["step"]
        self._compute = torch.compile(self.model, dynamic=False) if config.compile else self.model

    def loss(self, batch: Batch) -> Tensor:
        """The loss of a batch."""
        with arithmetic(self.config, self.device):
            return self._compute(*batch)

    def warm_up(self) -> None:
        """Have the compiler do its work for every size of batch the run will meet; nothing is learned."""
        if not self.config.compile:
            return
        empty = tokens_of(self.tokenizer, [""]).to(self.device)
        side = self.config.unet.sample_size
        for count, length in ((4 * self.config.batch, side // 2), (self.config.batch, side)):
            if length == side or self.config.halved:
                latents = torch.zeros((count, self.config.unet.in_channels, length, length), device=self.device)
                half = torch.full((count,), 0.5, device=self.device)
                self.loss((latents, latents, half, 1000 * half, empty.expand(count, -1).contiguous())).backward()
        self.optimizer.zero_grad(set_to_none=True)

    def checkpoint(self) -> dict[str, Any]:
        """What a checkpoint holds of it, besides the optimizer."""
        return {"weights": plain_weights(self.model), "average": self.average.plain_weights()}

    def averaged(self, device: torch.device | str = "cpu") -> BaseModel:
        """The networks with the average of their weights, which is what is drawn with and exported."""
        model = BaseModel(self.config.unet, text_config(self.config.text, self.tokenizer)).eval()
        model.load_state_dict(self.average.weights)
        return model.to(device)
