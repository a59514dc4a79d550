"""Each picture gets the noise nearest to it, and all the noise is given."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from sfumato.training.immiscible import nearest_noise


@given(st.integers(1, 40), st.integers(0, 2**31))
def test_noise_is_only_put_in_another_order(count, seed):
    generator = torch.Generator().manual_seed(seed)
    latents, noise = (torch.randn(count, 2, 3, 3, generator=generator) for _ in range(2))
    assigned = nearest_noise(latents, noise)
    assert sorted(map(tuple, assigned.flatten(1).tolist())) == sorted(map(tuple, noise.flatten(1).tolist()))
    assert (latents - assigned).square().sum() <= (latents - noise).square().sum() + 1e-4 or count > 1


@pytest.mark.parametrize("count", [2, 16, 64, 256])
def test_total_distance_is_near_the_least(count):
    generator = torch.Generator().manual_seed(count)
    latents, noise = (torch.randn(count, 4, 8, 8, generator=generator) for _ in range(2))

    def total(order: torch.Tensor) -> float:
        return (latents - order).square().sum().item()

    squares = torch.cdist(latents.flatten(1), noise.flatten(1)).square().numpy()
    rows, columns = linear_sum_assignment(squares)
    least, plain = squares[rows, columns].sum(), total(noise)
    gained = (plain - total(nearest_noise(latents, noise))) / (plain - least)
    assert gained > 0.9


def test_noise_of_a_batch_of_equals_is_all_given():
    latents = torch.ones(8, 1, 2, 2)
    noise = torch.arange(8.0)[:, None, None, None].expand(8, 1, 2, 2)
    assert sorted(nearest_noise(latents, noise)[:, 0, 0, 0].tolist()) == list(range(8))
