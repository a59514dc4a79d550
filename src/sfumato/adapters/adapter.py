"""An opened adapter: the changes it makes to a model's layers, and what became of every key of its file."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from sfumato.adapters.algorithms import Change
from sfumato.checkpoints import WeightFiles
from sfumato.checkpoints.keys import few

IN_MEMORY = "(tensors, not a file)"


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What became of an adapter's keys.

    matched     how many layers of each network it changes
    algorithms  how many layers by each algorithm; a DoRA counts as one
    dialects    how the file names its layers
    unmatched   keys that name no layer of the model, or nothing that can be changed
    misfits     for each layer that has another shape, what the file has and what the model has
    no_alpha    layers with a rank and no alpha, which is then taken to be the rank
    doubled     keys that say again, in another dialect, what another key has said
    """

    matched: Mapping[str, int]
    algorithms: Mapping[str, int] = field(default_factory=dict[str, int])
    dialects: tuple[str, ...] = ()
    unmatched: tuple[str, ...] = ()
    misfits: tuple[str, ...] = ()
    no_alpha: int = 0
    doubled: tuple[str, ...] = ()

    def __str__(self) -> str:
        """In one line: "kohya, LoRA: 192 layers of unet, 72 of text_encoder"."""
        layers = ", ".join(
            f"{count} {'layers ' if i == 0 else ''}of {network}"
            for i, (network, count) in enumerate(self.matched.items())
        )
        kinds = ", ".join(name for name, _ in Counter(self.algorithms).most_common())
        return "; ".join([f"{' and '.join(self.dialects)}, {kinds}: {layers}", *self.notes])

    @property
    def notes(self) -> list[str]:
        """What its user has to be told: keys that have no effect, and what was supposed."""
        notes: list[str] = []
        if self.unmatched:
            notes.append(
                f"{len(self.unmatched)} keys match nothing of this model and have no effect ({few(self.unmatched)})"
            )
        if self.misfits:
            notes.append(
                f"{len(self.misfits)} layers are of another shape and are left as they are ({few(self.misfits, 2)})"
            )
        if self.no_alpha:
            notes.append(f"{self.no_alpha} layers have no alpha; it is taken to be the rank")
        if self.doubled:
            notes.append(f"{len(self.doubled)} keys repeat others ({few(self.doubled)})")
        return notes


@dataclass(frozen=True, kw_only=True, slots=True, eq=False, weakref_slot=True)
class Adapter:
    """Changes to the layers of a model's networks, under a name.

    `changes` holds, for each network by its name in a pipeline, each changed layer by its name in the network. `file` is the name of the
    file it came from, and `files` that file, to be hashed when needed; None where it came from none.
    """

    name: str
    file: str
    changes: Mapping[str, Mapping[str, Change]]
    report: Report
    files: WeightFiles | None = None

    @property
    def sha256(self) -> str | None:
        """The hash of its file, read when first asked; None without a file. Raises CheckpointError if that has changed since."""
        return None if self.files is None else self.files.sha256
