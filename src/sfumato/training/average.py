"""The exponential moving average of weights: what is exported is the average, not the last step."""

import torch
from torch import Tensor, nn


class MovingAverage:
    """An average of a module's weights, `decay` of it kept at each step; shorter at first, so that early weights are soon forgotten.

    Source: Polyak & Juditsky 1992; the warm-up `(1 + n) / (10 + n)` is that of TensorFlow's ExponentialMovingAverage (`num_updates`).
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights: dict[str, Tensor] = {
            name: tensor.detach().clone() for name, tensor in module.state_dict().items()
        }

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Take in the module's weights after `step` steps."""
        keep = min(self.decay, (1 + step) / (10 + step))
        current = module.state_dict()
        torch._foreach_lerp_(list(self.weights.values()), [current[name] for name in self.weights], 1 - keep)

    def plain_weights(self) -> dict[str, Tensor]:
        """The average as it is loaded again: on the CPU, in the default memory format."""
        return {name: tensor.cpu().contiguous() for name, tensor in self.weights.items()}

    def load(self, weights: dict[str, Tensor]) -> None:
        """Go on from a saved average."""
        for name, tensor in self.weights.items():
            tensor.copy_(weights[name])
