"""Where a pipeline's weights came from, and whether they are still the ones that were opened."""

import logging
import weakref
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import nn

from sfumato.checkpoints import WeightFiles
from sfumato.errors import CheckpointError
from sfumato.models.weight_state import counting, times_written

logger = logging.getLogger("sfumato")

UNSAVED = "unsaved"


@dataclass
class Origin:
    """A model's name, as recipes record it, and the hash of its files, taken when first needed. Holds no network."""

    name: str = UNSAVED
    files: WeightFiles | None = None

    @cached_property
    def sha256(self) -> str | None:
        """The hash of the weights files; None for weights that are in no file, or whose files have changed since."""
        try:
            return None if self.files is None else self.files.sha256
        except CheckpointError as error:
            # The picture is made and must be saveable, whatever has become of the model's files.
            logger.warning("the recipe goes without the model's hash: %s", error)
            return None


@dataclass
class Source:
    """A pipeline's origin, and the networks that were opened from it, weakly: they may be replaced, moved or changed."""

    origin: Origin = field(default_factory=Origin)
    opened: Mapping[str, "weakref.ref[nn.Module]"] = field(default_factory=dict)
    changes: dict[str, int] = field(default_factory=dict)
    narrowest: torch.dtype | None = None

    @classmethod
    def of(cls, name: str, files: WeightFiles, networks: Mapping[str, nn.Module | None]) -> "Source":
        """The source of networks just opened; those that are None came from elsewhere."""
        present = {part: network for part, network in networks.items() if network is not None}
        opened = {part: weakref.ref(network) for part, network in present.items()}
        return cls(Origin(name, files), opened, {part: changes_of(network) for part, network in present.items()})

    def note_cast(self, dtype: torch.dtype) -> None:
        """Remember that the weights are, or are about to be, of this dtype: what it rounds off does not come back."""
        if dtype.itemsize < 4 and (self.narrowest is None or dtype.itemsize <= self.narrowest.itemsize):
            self.narrowest = dtype

    def rounded_to(self, dtype: torch.dtype) -> str | None:
        """The narrower dtype that weights now of `dtype` have been through, as recipes name it; None if none."""
        if self.narrowest is None or self.narrowest == dtype:
            return None
        return str(self.narrowest).removeprefix("torch.")

    def now(self, **networks: nn.Module) -> Origin:
        """The origin of these networks: the opened one if they are what it gave, else one that says what was changed, without a hash."""
        if self.origin.files is None:
            return self.origin
        changed = self.changed(**networks)
        return Origin(f"{self.origin.name} (changed: {', '.join(changed)})") if changed else self.origin

    def changed(self, **networks: nn.Module) -> list[str]:
        """Which of these networks are not those that were opened, or have been written to since."""
        changed: list[str] = []
        for part, network in networks.items():
            network = getattr(network, "_orig_mod", network)  # what torch.compile wraps is still itself
            reference = self.opened.get(part)
            if reference is None or reference() is not network or changes_of(network) != self.changes[part]:
                changed.append(part)
        return changed

    @contextmanager
    def recorded(self, **networks: nn.Module) -> Generator[None]:
        """What is done to these networks inside the block, recipes say by themselves: it makes no changed model of an unchanged one."""
        kept = networks.keys() - set(self.changed(**networks))
        try:
            with counting(*networks.values()):
                yield
        finally:
            # In place, because a copy of the pipeline has the same networks and the same source.
            self.changes.update({part: changes_of(networks[part]) for part in kept})


def changes_of(network: nn.Module) -> int:
    """How often a network's weights were written in place, as PyTorch counts; moving and casting it does not count."""
    return sum(map(times_written, network.parameters()))
