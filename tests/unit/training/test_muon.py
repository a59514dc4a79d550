"""Muon: matrices turned, the rest as AdamW would step, and a state that picks up where it was."""

import copy
import math

import pytest
import torch
from torch import nn

from sfumato.training.muon import Muon, orthogonalised


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 5, 40), (2, 40, 5)])
def test_singular_values_are_brought_near_one(shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    turned = orthogonalised(matrices)
    values = torch.linalg.svdvals(turned)
    assert values.max() < 1.2
    # A square matrix has a few tiny singular values, which five rounds bring up only part of the way.
    assert values.median() > 0.6
    # The same directions: U and V stay, only the singular values move.
    u, _, vt = torch.linalg.svd(matrices, full_matrices=False)
    inner = u.mT @ turned @ vt.mT
    assert torch.allclose(inner, torch.diag_embed(torch.diagonal(inner, dim1=-2, dim2=-1)), atol=2e-3)


@pytest.mark.parametrize("shape", [(2, 24, 24), (2, 24, 60), (2, 60, 24)])
@pytest.mark.parametrize("smallest", [0.5, 1e-4])
def test_rounding_to_bfloat16_turns_them_hardly_less(shape, smallest):
    g = torch.Generator().manual_seed(2)
    short = min(shape[1:])
    u, v = (torch.linalg.qr(torch.randn(shape[0], side, short, generator=g)).Q for side in shape[1:])
    # Gradients' singular values reach over many powers of ten: what rounds badly shows in the small ones.
    matrices = u * torch.logspace(0, math.log10(smallest), short) @ v.mT
    exact, rounded = orthogonalised(matrices), orthogonalised(matrices, in_bfloat16=True)
    assert rounded.dtype == matrices.dtype
    assert torch.linalg.svdvals(rounded).max() < 1.25
    assert torch.cosine_similarity(exact.flatten(1), rounded.flatten(1)).min() > 0.98


def test_rounds_on_gram_matrices_are_the_published_ones():
    x = torch.randn(2, 6, 20, generator=torch.Generator().manual_seed(1))
    published = x / x.norm(dim=(-2, -1), keepdim=True)
    for _ in range(5):
        gram = published @ published.mT
        published = 3.4445 * published + (-4.7750 * gram + 2.0315 * gram @ gram) @ published
    assert torch.allclose(orthogonalised(x), published, atol=1e-4)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(2, 4, 1)
        self.hidden = nn.Conv2d(4, 4, 3, padding=1)
        self.linear = nn.Linear(4, 3)


def step(optimizer: torch.optim.Optimizer, module: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimizer.step()


def test_what_is_no_hidden_matrix_steps_as_adamw_does():
    torch.manual_seed(0)
    module, other = Small(), Small()
    other.load_state_dict(module.state_dict())
    ours = Muon(module, lr=0.01, weight_decay=0.1)
    theirs = torch.optim.AdamW(other.parameters(), lr=0.01, weight_decay=0.1, betas=(0.9, 0.99))
    for seed in range(5):
        step(ours, module, seed)
        step(theirs, other, seed)
    for name, parameter in module.named_parameters():
        same = torch.allclose(parameter, dict(other.named_parameters())[name], atol=1e-6)
        assert same == (name not in {"hidden.weight", "linear.weight"}), name


def test_a_turned_matrix_moves_as_far_as_published():
    module = Small()
    before = module.linear.weight.detach().clone()
    step(Muon(module, lr=0.01, weight_decay=0.0), module, 3)
    moved = torch.linalg.svdvals(module.linear.weight.detach() - before) / (0.01 * 0.2 * 4**0.5)
    assert 0.5 < moved.min() <= moved.max() < 1.2


def test_state_that_counted_the_steps_of_every_parameter_goes_on():
    torch.manual_seed(0)
    module, again = Small(), Small()
    optimizer, later = (Muon(m, lr=0.01, weight_decay=0.1) for m in (module, again))
    for seed in range(3):
        step(optimizer, module, seed)
    again.load_state_dict(module.state_dict())
    old = copy.deepcopy(optimizer.state_dict())
    for state in old["state"].values():
        if "exp_avg" in state:
            state["step"] = torch.tensor(3.0)
    later.load_state_dict(old)
    for each, of in ((optimizer, module), (later, again)):
        step(each, of, 3)
    assert all(torch.equal(t, again.state_dict()[n]) for n, t in module.state_dict().items())


def test_its_state_goes_on_where_it_was():
    torch.manual_seed(0)
    module = Small()
    optimizer = Muon(module, lr=0.01, weight_decay=0.1)
    step(optimizer, module, 0)
    weights, state = {n: t.clone() for n, t in module.state_dict().items()}, copy.deepcopy(optimizer.state_dict())
    again = Small()
    again.load_state_dict(weights)
    later = Muon(again, lr=0.01, weight_decay=0.1)
    later.load_state_dict(state)
    step(optimizer, module, 1)
    step(later, again, 1)
    assert all(torch.equal(t, again.state_dict()[n]) for n, t in module.state_dict().items())


def test_it_learns():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1))
    x = torch.randn(64, 4)
    y = (x[:, :1] * x[:, 1:2]).detach()
    optimizer = Muon(module, lr=0.02, weight_decay=0.0)
    losses = []
    for _ in range(200):
        loss = (module(x) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
