"""What starting a sampler takes: an eta in range, and noise from where it is to come."""

from collections.abc import Sequence

from sfumato.diffusion.conversation import Noise, NoisePath, NoisePathFrom
from sfumato.errors import OptionError


def check_eta(eta: float) -> None:
    """Raise OptionError for an eta outside 0 … 1."""
    if not 0 <= eta <= 1:
        raise OptionError(f"eta {eta} is out of range; give 0 (deterministic) to 1 (as DDPM).")


def path_or_noise(
    path: NoisePathFrom | None, sigmas: Sequence[float], noise: Noise, seed: int | None = None
) -> NoisePath:
    """The noise of steps between levels: a path over those above 0, or, where there is none, drawn for each step by itself."""
    low, high = (sigmas[-1] or sigmas[-2]), sigmas[0]
    return (lambda *_: noise()) if path is None or low == high else path(low, high, seed)
