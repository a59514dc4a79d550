"""Muon: momentum whose matrices are made orthogonal before they are stepped along, beside AdamW for what is no matrix."""

from collections.abc import Callable, Sequence
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

# Coefficients of the quintic that drives every singular value towards 1, chosen for speed: they end between 0.68 and 1.13.
# Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks".
_A, _B, _C = 3.4445, -4.7750, 2.0315
_ROUNDS = 5
# From so many columns a row on, rounds on Gram matrices in float32 take less time than rounds on the matrices in bfloat16.
_WIDE = 4
# An orthogonal matrix times this and the root of its longer side moves as far as AdamW would. Source: Liu et al. 2025 (Moonlight),
# arXiv:2502.16982, Eq. 4.
_LIKE_ADAM = 0.2
_EPS = 1e-8
# The first and last layers and tables of embeddings turn no hidden vector into another: they stay AdamW's.
_AT_THE_ENDS = ("conv_in", "conv_out", "embedding", "position")


def orthogonalised(matrices: Tensor, *, in_bfloat16: bool = False) -> Tensor:
    """The orthogonal matrices nearest to a stack of matrices (`n rows columns`), roughly: singular values between 0.68 and 1.13.

    The Newton-Schulz rounds run on the square Gram matrices alone, which for wide matrices is a fraction of the work. `in_bfloat16`, those
    of matrices not so wide run on themselves, rounded; Gram matrices square what rounding does, and are never rounded.
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    if in_bfloat16 and x.shape[-1] <= _WIDE * x.shape[-2]:
        x = _rounds(x.bfloat16()).to(matrices.dtype)
    else:
        x = _rounds_on_gram(x) @ x
    return x.mT if tall else x


def _rounds(x: Tensor) -> Tensor:
    """As published: each round multiplies x by a polynomial of its Gram matrix."""
    for _ in range(_ROUNDS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=_B, alpha=_C), x, beta=_A)
    return x


def _rounds_on_gram(x: Tensor) -> Tensor:
    """The product of all rounds' polynomials, which turns x: each round's Gram matrix is made of the one before."""
    gram = x @ x.mT
    one = torch.eye(gram.shape[-1], dtype=x.dtype, device=x.device)
    turn = one
    for done in range(_ROUNDS):
        polynomial = _A * one + torch.baddbmm(gram, gram, gram, beta=_B, alpha=_C)
        # The first round has nothing to turn yet, and after the last no Gram matrix is asked for.
        turn = polynomial @ turn if done else polynomial
        if done < _ROUNDS - 1:
            gram = polynomial @ gram @ polynomial
    return turn


class Muon(Optimizer):
    """Muon for a module's hidden matrices and convolutions, AdamW for the rest; one learning rate serves both.

    `in_bfloat16` the matrices are turned in bfloat16 where that is faster; weights, momenta and AdamW's part stay as they are.

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
        in_bfloat16: bool = False,
    ) -> None:
        self.in_bfloat16 = in_bfloat16
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
            if not parameters:
                continue
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
            if group["hidden"]:
                self._turn(parameters, group)
            else:
                self._adam(parameters, group)
        return None

    def _states(self, parameters: Sequence[nn.Parameter], name: str) -> list[Tensor]:
        """What is remembered of each parameter under a name; zeros at first."""
        for p in parameters:
            if name not in self.state[p]:
                self.state[p][name] = torch.zeros_like(p)
        return [self.state[p][name] for p in parameters]

    def _turn(self, parameters: Sequence[nn.Parameter], group: dict[str, Any]) -> None:
        gradients, momenta = [_gradient(p) for p in parameters], self._states(parameters, "momentum")
        torch._foreach_mul_(momenta, group["momentum"])
        torch._foreach_add_(momenta, gradients)
        # Nesterov's: the gradient of where momentum is about to lead. A convolution is a matrix from its window to its channels.
        updates = torch._foreach_add(gradients, momenta, alpha=group["momentum"])
        alike: dict[torch.Size, list[tuple[nn.Parameter, Tensor]]] = {}
        for p, update in zip(parameters, updates, strict=True):
            matrix = update.flatten(1)
            alike.setdefault(matrix.shape, []).append((p, matrix))
        for shape, pairs in alike.items():
            far = _LIKE_ADAM * max(shape) ** 0.5 * group["lr"]
            stack = torch.stack([matrix for _, matrix in pairs])
            turned = orthogonalised(stack, in_bfloat16=self.in_bfloat16).unbind()
            parts = [matrix.view(p.shape) for (p, _), matrix in zip(pairs, turned, strict=True)]
            torch._foreach_add_([p for p, _ in pairs], parts, alpha=-far)

    def _adam(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        beta1, beta2 = group["betas"]
        gradients = [_gradient(p) for p in parameters]
        means, squares = self._states(parameters, "exp_avg"), self._states(parameters, "exp_avg_sq")
        torch._foreach_lerp_(means, gradients, 1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - beta2)
        # All step together, so the first one's count serves for all, whether it has a gradient or not.
        counted = self.state[group["params"][0]]
        counted["step"] = counted.get("step", torch.zeros(())) + 1
        steps = int(counted["step"].item())
        roots = torch._foreach_div(squares, 1 - beta2**steps)
        torch._foreach_sqrt_(roots)
        torch._foreach_add_(roots, _EPS)
        torch._foreach_addcdiv_([*parameters], means, roots, -group["lr"] / (1 - beta1**steps))


def _gradient(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad
