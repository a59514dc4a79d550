"""The ancestral step: further down than the next level, and up to it again with fresh noise."""

import math


def ancestral_split(sigma: float, sigma_next: float, eta: float = 1.0) -> tuple[float, float]:
    """The level to step down to from `sigma`, and the std of the noise that leads up to `sigma_next`: down² + up² = sigma_next².

    At `eta` 1 the noise is that of DDPM's posterior, at 0 there is none.
    Source: Ho et al. 2020, arXiv:2006.11239, Eq. 7; eta as in Song et al. 2021, arXiv:2010.02502, Eq. 16; K. Crowson's k-diffusion.
    """
    up = min(sigma_next, eta * sigma_next * math.sqrt(1 - (sigma_next / sigma) ** 2))
    return math.sqrt(sigma_next**2 - up**2), up
