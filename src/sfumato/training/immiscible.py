"""Immiscible noise: each picture of a batch learns with the noise nearest to it, so that their paths through the noise cross less.

Source: Li et al. 2024, arXiv:2406.12303, algorithm 1 (an assignment of the batch's noise to its pictures with the least total distance).
"""

import torch
from torch import Tensor

# Enough for most of a batch of some hundreds to be settled; who is still without noise then gets one of those left.
_ROUNDS = 64
# A bid overtops the second choice by this share of the values' spread: larger settles sooner, smaller comes nearer to the best.
_STEP = 0.02


@torch.no_grad()
def nearest_noise(latents: Tensor, noise: Tensor) -> Tensor:
    """The noise (`n c h w`, like the latents) in an order that brings each near its latents: a permutation, so the noise stays Gaussian.

    An auction of a fixed number of rounds, which any device runs without waiting for an answer: near the least total distance, not always
    at it. Source: Bertsekas 1988, "The auction algorithm", section 1.
    """
    # |x - n|² = |x|² + |n|² - 2 x·n, and the squares are in every assignment.
    value = latents.flatten(1).float() @ noise.flatten(1).float().T
    return noise[_auction(value)]


def _auction(value: Tensor) -> Tensor:
    """For each row its column, all different, so that the sum of their values is near its largest."""
    count = len(value)
    rows = torch.arange(count, device=value.device)
    step = _STEP * (value.amax() - value.amin())
    price = value.new_zeros(count)
    # owner[c] is the row that holds column c, count where none does; one place more takes the bids of those who make none.
    owner = torch.full((count,), count, device=value.device)
    if count == 1:
        return rows
    for _ in range(_ROUNDS):
        bids = torch.ones(count + 1, dtype=torch.bool, device=value.device).index_fill(0, owner, False)[:count]
        worth = (value - price).topk(2, dim=1)
        (best, second), wanted = worth.values.unbind(1), worth.indices[:, 0]
        offer = torch.where(bids, price[wanted] + best - second + step, -torch.inf)
        highest = torch.full_like(price, -torch.inf).scatter_reduce(0, wanted, offer, "amax")
        # Of equal offers for a column, that of the last row wins.
        wins = bids & (offer == highest[wanted])
        winner = torch.full_like(owner, -1).scatter_reduce(0, wanted, torch.where(wins, rows, -1), "amax")
        sold = winner >= 0
        owner = torch.where(sold, winner, owner)
        price = torch.where(sold, highest, price)
    column = torch.full((count + 1,), -1, device=value.device).scatter(0, owner, rows)[:count]
    # The rows still without a column, in their order, take the columns without an owner, in theirs.
    free = torch.argsort((owner < count).int(), stable=True)
    without = column < 0
    return torch.where(without, free[without.cumsum(0).sub(1).clamp_min(0)], column)
