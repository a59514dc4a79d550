"""Muon: momentum whose matrices are made orthogonal before they are stepped along, beside AdamW for what is no matrix."""

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

# Coefficients of the quintic that drives every singular value towards 1, chosen for speed: they end between 0.68 and 1.13.
# Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks".
_A, _B, _C = 3.4445, -4.7750, 2.0315
_ROUNDS = 5
# An orthogonal matrix times this and the root of its longer side moves as far as AdamW would. Source: Liu et al. 2025 (Moonlight),
# arXiv:2502.16982, Eq. 4.
_LIKE_ADAM = 0.2
_EPS = 1e-8
# The first and last layers and tables of embeddings turn no hidden vector into another: they stay AdamW's.
_AT_THE_ENDS = ("conv_in", "conv_out", "embedding", "position")


def orthogonalised(matrices: Tensor) -> Tensor:
    """The orthogonal matrices nearest to a stack of matrices (`n rows columns`), roughly: singular values between 0.68 and 1.13.

    The Newton-Schulz rounds run on the square Gram matrices alone, which for wide matrices is a fraction of the work.
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    gram = x @ x.mT
    one = torch.eye(gram.shape[-1], dtype=x.dtype, device=x.device)
    turn = one.expand_as(gram)
    for _ in range(_ROUNDS):
        polynomial = _A * one + _B * gram + _C * gram @ gram
        turn = polynomial @ turn
        gram = polynomial @ gram @ polynomial
    x = turn @ x
    return x.mT if tall else x


class Muon(Optimizer):
    """Muon for a module's hidden matrices and convolutions, AdamW for the rest; one learning rate serves both.

    Source: Jordan et al. 2024, with the scale of Liu et al. 2025 (arXiv:2502.16982, Eq. 4) and decoupled weight decay.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        lr: float,
        weight_decay: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
    ) -> None:
        named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
        hidden = [p for name, p in named if p.ndim >= 2 and not any(end in name for end in _AT_THE_ENDS)]
        chosen = set(hidden)
        groups: list[dict[str, Any]] = [
            {"params": hidden, "hidden": True},
            {"params": [p for _, p in named if p not in chosen], "hidden": False},
        ]
        defaults = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "betas": betas}
        super().__init__([group for group in groups if group["params"]], defaults)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take one step along the gradients that are there."""
        assert closure is None, "no one here needs the loss again"
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            for p in parameters:
                p.mul_(1 - group["lr"] * group["weight_decay"])
            if group["hidden"]:
                self._turn(parameters, group)
            else:
                self._adam(parameters, group)
        return None

    def _turn(self, parameters: Iterable[nn.Parameter], group: dict[str, Any]) -> None:
        alike: dict[torch.Size, list[tuple[nn.Parameter, Tensor]]] = {}
        for p in parameters:
            assert p.grad is not None
            state = self.state[p]
            if not state:
                state["momentum"] = torch.zeros_like(p)
            momentum = state["momentum"].mul_(group["momentum"]).add_(p.grad)
            # Nesterov's: the gradient of where momentum is about to lead. A convolution is a matrix from its window to its channels.
            update = torch.add(p.grad, momentum, alpha=group["momentum"]).flatten(1)
            alike.setdefault(update.shape, []).append((p, update))
        for shape, updates in alike.items():
            far = _LIKE_ADAM * max(shape) ** 0.5 * group["lr"]
            for (p, _), update in zip(updates, orthogonalised(torch.stack([u for _, u in updates])), strict=True):
                p.sub_(update.view(p.shape), alpha=far)

    def _adam(self, parameters: Iterable[nn.Parameter], group: dict[str, Any]) -> None:
        beta1, beta2 = group["betas"]
        for p in parameters:
            assert p.grad is not None
            state = self.state[p]
            if not state:
                state["step"] = torch.zeros(())
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)
            state["step"] += 1
            steps = int(state["step"].item())
            mean = state["exp_avg"].lerp_(p.grad, 1 - beta1)
            square = state["exp_avg_sq"].mul_(beta2).addcmul_(p.grad, p.grad, value=1 - beta2)
            root = (square / (1 - beta2**steps)).sqrt_().add_(_EPS)
            p.addcdiv_(mean, root, value=-group["lr"] / (1 - beta1**steps))
