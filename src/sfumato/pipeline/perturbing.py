"""Which self-attentions of a U-Net are perturbed: named as diffusers names them, in whole or in part."""

import re
from collections.abc import Sequence

from sfumato.checkpoints.diffusers_layout import unet_keys
from sfumato.errors import OptionError, UnsupportedError
from sfumato.models.unet import UNet
from sfumato.pipeline.parts import unwrapped

# What a pattern may hold. They come with recipes, too, and a pattern of few choices and repetitions can't take long on names this short.
_PATTERN = re.compile(r"(?:[\w|()^$\-.\[\]]|\\\.|\.\*)+")
_MOST_CHARACTERS, _MOST_CHOICES, _MOST_REPETITIONS = 200, 8, 2


def perturbed_layers(unet: UNet, patterns: Sequence[str]) -> tuple[str, ...]:
    """Our names of the self-attentions that diffusers' names for them match: "mid", "down_blocks.1", "up_blocks.(0|1).attentions.0".

    Raises OptionError for a pattern that is none, or that matches no self-attention of this U-Net, UnsupportedError for another network.
    """
    if not isinstance(unwrapped(unet), UNet):
        raise UnsupportedError("perturbed-attention guidance is not for the latent upscaler; leave out pag_scale")
    keys = unet_keys(unet.config)
    names = {
        ours: keys.to_theirs(f"{ours}.to_q.weight").removesuffix(".to_q.weight") for ours in unet.self_attentions()
    }
    chosen: set[str] = set()
    for pattern in patterns:
        found = {ours for ours, theirs in names.items() if _compiled(pattern).search(theirs)}
        if not found:
            places = sorted(
                {".".join(theirs.split(".")[: 1 if theirs.startswith("mid") else 2]) for theirs in names.values()}
            )
            raise OptionError(
                f"pag_applied_layers: {pattern!r} is in the name of no self-attention; this model has them in {', '.join(places)}"
            )
        chosen |= found
    return tuple(name for name in names if name in chosen)


def _compiled(pattern: str) -> re.Pattern[str]:
    """The pattern, ready to search. Raises OptionError for one that is none, or could take long."""
    short = len(pattern) <= _MOST_CHARACTERS and pattern.count("|") <= _MOST_CHOICES
    try:
        if short and pattern.count("*") <= _MOST_REPETITIONS and _PATTERN.fullmatch(pattern):
            return re.compile(pattern)
    except re.error:
        pass
    raise OptionError(
        f"pag_applied_layers: {pattern[:60]!r} names no layers; give parts of diffusers' names, such as 'mid' or 'down_blocks.(1|2)'"
    )
