"""Fewer and smaller evaluations for nearly the same picture: what a run may spare, and what it remembers from one question to the next."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.diffusion.guidance import Row, is_perturbed
from sfumato.errors import OptionError
from sfumato.models.deep_features import DeepFeatures
from sfumato.models.merging import MOST

MOST_QUESTIONS = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class FastOptions:
    """What a run may spare; unset, nothing. Each changes the picture.

    cache        the whole network is evaluated at every so many questions of the sampler; between them only its outermost blocks are, and
                 what lies inside is taken from the last time; 1 is always
    cache_depth  how many layers of the way down are among those: 0 is the first convolution, and one block of the way up, alone
    merge        the share of positions that are merged before the self-attentions of the largest maps, 0 to 0.75
    adaptive     guidance ends once the answers with the prompt and without it are as alike as this, as a cosine; None for never

    Raises OptionError for values that can't be.
    Sources: Ma et al. 2023, arXiv:2312.00858 (cache, at even distances); Bolya & Hoffman 2023, arXiv:2303.17604 (merge); Castillo et al.
    2023, arXiv:2312.12487 (adaptive).
    """

    cache: int = 1
    cache_depth: int = 1
    merge: float = 0.0
    adaptive: float | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.cache <= MOST_QUESTIONS:
            raise OptionError(f"fast cache is {self.cache}; give a whole number from 1 (never) up, such as 2")
        if self.cache_depth < 0:
            raise OptionError(f"fast cache_depth is {self.cache_depth}; give a whole number from 0 up")
        if not 0 <= self.merge <= MOST:
            raise OptionError(f"fast merge is {self.merge}; give a share from 0 (none) to {MOST}")
        if self.adaptive is not None and not -1 <= self.adaptive <= 1:
            raise OptionError(f"fast adaptive is {self.adaptive}; give a cosine from -1 to 1, such as 0.99")

    @property
    def caches(self) -> bool:
        """Whether what lies inside the network is kept."""
        return self.cache > 1


NOTHING_SPARED = FastOptions()


class Remembered:
    """What a run remembers from question to question, so that it can spare something.

    An answer that is asked for again changes nothing: what it brought is noted, and counts once the run goes on by it.
    """

    def __init__(self, options: FastOptions) -> None:
        self.options = options
        self.ended = False
        self._questions = 0
        self._likeness = -math.inf
        self._deep: dict[Row, Tensor] = {}

    def alike(self, rows: Sequence[Row]) -> Hashable:
        """What runs must have in common to be evaluated in one batch, if these are the rows of this one."""
        depth = self.options.cache_depth if self.options.caches else None
        return self.options.merge, depth, self.spares(rows)

    def spares(self, rows: Sequence[Row]) -> bool:
        """Whether the inside of the network is not evaluated for these rows now."""
        options = self.options
        return options.caches and self._questions % options.cache > 0 and all(row in self._deep for row in rows)

    def deep(self, rows: Sequence[Row]) -> DeepFeatures | None:
        """What `UNet.forward` takes: with what is remembered of the rows, or with room for it; None where nothing is kept."""
        if not self.options.caches:
            return None
        known = torch.stack([self._deep[row] for row in rows]) if self.spares(rows) else None
        return DeepFeatures(self.options.cache_depth, known)

    def keep(self, rows: Sequence[Row], features: Tensor) -> None:
        """Remember what the inside of the network made of these rows, `b c h w`."""
        self._deep |= dict(zip(rows, features, strict=True))

    def compare(self, x: Tensor, sigma: float, denoised: Mapping[Row, Tensor]) -> None:
        """Note how alike the answers are with the prompt and without it, given as estimates of x0: the least of all rows but "uncond".

        They are compared as v (Salimans & Ho 2022, arXiv:2202.00512, appendix D), which is the picture where x is nearly all noise, and the
        noise where it is nearly none. As noise they would be alike at the first steps, whatever the prompt.
        """
        if self.options.adaptive is None or "uncond" not in denoised:
            return
        answers = {
            name: (x - (1 + sigma * sigma) * x0).flatten() for name, x0 in denoised.items() if not is_perturbed(name)
        }
        plain = answers.pop("uncond")
        self._likeness = min(float(torch.cosine_similarity(plain, other, dim=0)) for other in answers.values())

    def went_on(self) -> None:
        """A question was answered."""
        self._questions += 1
        self.ended |= self.options.adaptive is not None and self._likeness >= self.options.adaptive

    def forget(self) -> None:
        """The prompt became another: what was remembered is of the old one."""
        self._deep.clear()
        self._likeness, self.ended = -math.inf, False


def joined(parts: Sequence[DeepFeatures | None]) -> DeepFeatures | None:
    """Those of several runs in one batch; the runs are alike."""
    known = [part for part in parts if part is not None]
    if not known:
        return None
    features = [part.features for part in known if part.features is not None]
    return DeepFeatures(known[0].depth, torch.cat(features) if features else None)
