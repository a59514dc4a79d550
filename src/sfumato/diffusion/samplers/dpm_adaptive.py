"""DPM-Solver with steps of its own choosing: as long as two orders agree."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sfumato.diffusion.conversation import Noise, Query, Sampling, Step
from sfumato.diffusion.samplers.ancestral import ancestral_split
from sfumato.diffusion.samplers.dpm_fast import last_positive
from sfumato.diffusion.samplers.dpm_solver import third_order


def dpm_adaptive(
    x: Tensor,
    sigmas: Sequence[float],
    *,
    noise: Noise | None = None,
    eta: float = 0.0,
    s_noise: float = 1.0,
    rtol: float = 0.05,
    atol: float = 0.0078,
    first_step: float = 0.05,
    accept_safety: float = 0.81,
) -> Sampling:
    """DPM-Solver-23: third order, three evaluations a step taken or refused, as many steps as it needs; deterministic unless `eta` renews noise.

    Goes from the first of `sigmas` to the last above 0, whatever lies between, and from there in one step to a 0 after it. A step is taken where second and third order differ by
    no more than about `atol` + `rtol` |x|; the first one tried is `first_step` long in log sigma. Only steps taken are offered.
    Source: Lu et al. 2022, arXiv:2206.00927, appendix C (DPM-Solver-23); step sizes and `eta` as in K. Crowson's k-diffusion,
    sample_dpm_adaptive: an integral controller (Hairer & Wanner, Solving Ordinary Differential Equations II, section IV.2) with a limiter.
    """
    assert noise is not None or eta == 0, "eta > 0 needs a noise source"
    sigma, end = sigmas[0], last_positive(sigmas)
    h, order, before = first_step, 1.5 if eta else 3, x
    denoised = yield Query(x, sigma)
    while sigma > end:
        sigma_next = sigma * math.exp(-h)
        if sigma_next < end * (1 + 1e-5):  # what would be left is not worth a step
            sigma_next = end
        down = max(end, ancestral_split(sigma, sigma_next, eta)[0])
        high, low = yield from third_order(x, (x - denoised) / sigma, sigma, down)
        allowed = torch.clamp(rtol * torch.maximum(low.abs(), before.abs()), min=atol)
        error = math.sqrt(float(torch.mean(((low - high) / allowed) ** 2)))
        factor = 1 + math.atan((1 / (error + 1e-8)) ** (1 / order) - 1)
        h *= factor
        if factor < accept_safety:
            continue
        x, before = high, low
        if noise is not None and eta > 0:
            x = x + (s_noise * math.sqrt(sigma_next**2 - down**2)) * noise()
        sigma = sigma_next
        x = yield Step(x, sigma, denoised)
        if sigma > end or sigmas[-1] == 0:
            denoised = yield Query(x, sigma)
    if sigmas[-1] == 0:
        x = yield Step(denoised, 0.0, denoised)
    return x
