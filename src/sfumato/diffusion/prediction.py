"""Between a network's answer and the denoised latents.

A network of a variance-preserving noise schedule is shown `x / sqrt(1 + sigma**2)` and predicts the noise, the clean latents, or a
mixture of both. Samplers know nothing of that: they ask for the denoised x.
"""

import math
from typing import Literal, TypeAlias

from torch import Tensor

PredictionType: TypeAlias = Literal["epsilon", "v_prediction", "sample"]
"""What a network predicts: the noise; `v = (noise - sigma * x0) / sqrt(1 + sigma**2)`; or x0 itself."""


Answer: TypeAlias = PredictionType | Literal["minus_v"]
"""What a network answers: what those of latent diffusion predict, or -v, which is Karras' F for data of variance 1."""


def network_scale(sigma: float) -> float:
    """What x is multiplied by before the network sees it, so that its variance is the one of training.

    Source: Karras et al. 2022, arXiv:2206.00364, Table 1 (VP), c_in.
    """
    return 1.0 / math.sqrt(1.0 + sigma * sigma)


def denoised_from(output: Tensor, x: Tensor, sigma: float, prediction: Answer) -> Tensor:
    """The network's answer `output` about `x` at `sigma`, as an estimate of x0; all of one shape, in float32.

    Source: Karras et al. 2022, arXiv:2206.00364, Eq. 7 with Table 1 (VP); Salimans & Ho 2022, arXiv:2202.00512, appendix D (v).
    """
    match prediction:
        case "epsilon":
            return x - sigma * output
        case "v_prediction":
            return x / (1.0 + sigma * sigma) - (sigma * network_scale(sigma)) * output
        case "minus_v":  # Table 1 (EDM): c_skip x + c_out F
            return x / (1.0 + sigma * sigma) + (sigma * network_scale(sigma)) * output
        case "sample":
            return output


def output_for(denoised: Tensor, x: Tensor, sigma: float, prediction: PredictionType) -> Tensor:
    """The network's answer that says `denoised` about `x` at `sigma` > 0: `denoised_from` the other way round."""
    match prediction:
        case "epsilon":
            return (x - denoised) / sigma
        case "v_prediction":
            return (x / (1.0 + sigma * sigma) - denoised) / (sigma * network_scale(sigma))
        case "sample":
            return denoised
