"""DDIM with CFG++: guided towards the prompt, noised again as if there were none."""

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from sfumato.diffusion.conversation import Noise, Query, Sampling, Step
from sfumato.diffusion.spacing import relabel

# AUTOMATIC1111's: guidance scales up to 12.5 are the paper's from 0 to 1.
SHARE = 1 / 12.5


def ddim_cfgpp(
    x: Tensor,
    sigmas: Sequence[float],
    *,
    eta: float = 0.0,
    s_noise: float = 1.0,
    noise: Noise | None = None,
    targets: Sequence[float] | None = None,
    share: float = SHARE,
) -> Sampling:
    """First order, one evaluation a step, of which it needs the unconditioned estimate too; deterministic at eta = 0.

    The guidance scale times `share` is the paper's lambda. `noise` is drawn once a step where eta > 0. `targets` are the levels
    aimed at, where they are not the next ones visited.
    Source: Chung et al. 2024, arXiv:2406.08070, Algorithm 2, divided by sqrt(alpha); eta as in Song et al. 2021, arXiv:2010.02502, Eq. 16.
    """
    assert noise is not None or eta == 0, "eta > 0 needs a noise source"
    for (sigma, sigma_next), target in zip(pairwise(sigmas), targets or sigmas[1:], strict=True):
        guided, unconditioned = yield Query(x, sigma, unconditioned=True)
        denoised = unconditioned + share * (guided - unconditioned)  # between the two, not past the conditioned one
        up = eta * target * math.sqrt(1 - (target / sigma) ** 2)
        x = denoised + math.sqrt(target**2 - up**2) * (x - unconditioned) / sigma  # the unconditioned noise
        if noise is not None and eta > 0:
            x = x + (s_noise * up) * noise()
        x = yield Step(relabel(x, target, sigma_next), sigma_next, denoised)
    return x
