"""The measures that a run takes to spare memory, and the next ones, should memory run out after all."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from sfumato.allocator import give_back, give_back_at_once
from sfumato.engine.memory.plan import WORDS, Measures, ladder_of
from sfumato.engine.memory.process import is_out_of_memory

Answer = TypeVar("Answer")


class Economy:
    """How sparing a run is. One object serves a run from its first step to its picture; `notes` say what became of it.

    `leaving` lets go of what the last stage alone needed.
    """

    def __init__(
        self,
        measures: Measures | None = None,
        ladder: Sequence[Measures] = ladder_of(stored=False),
        leaving: Callable[[], None] | None = None,
    ) -> None:
        self.measures = measures or ladder[0]
        self.notes: list[str] = []
        self.went_down = False
        """Whether memory ran out: what was evaluated before need not agree in the last bit with what was after."""
        self._ladder = ladder
        self._leaving = leaving
        if self.measures.at_once:
            give_back_at_once()

    def evaluated(self, evaluate: Callable[[slice], Tensor], rows: int) -> Tensor:
        """The network's answer for so many rows, of which `evaluate` answers some: together, or one after the other where rows are taken apart."""
        if not self.measures.rows_apart or rows == 1:
            return evaluate(slice(0, rows))
        return torch.cat([evaluate(slice(i, i + 1)) for i in range(rows)])

    def trying(self, attempt: Callable[[], Answer]) -> Answer:
        """What `attempt` gives, which is made again with the next measures each time that memory runs out.

        Raises what it raises when no measures are left, and every other error at once.
        """
        while True:
            try:
                return attempt()
            except (RuntimeError, MemoryError) as error:
                if not self.down(error):
                    raise

    def next_stage(self) -> None:
        """Give back what the last stage of a run has left free, before one that takes other sizes."""
        if self._leaving is not None:
            self._leaving()
        give_back()

    def down(self, error: BaseException) -> bool:
        """Take the next measures, if an error says that memory ran out and any are left, and note it; whether they were taken."""
        if not is_out_of_memory(error):
            return False
        before = self.measures
        further = next((step for step in self._ladder if _more(step, before)), None)
        if further is None:
            return False
        taken = {name: getattr(before, name) or getattr(further, name) for name in WORDS}
        self.measures, self.went_down = Measures(**taken), True
        added = [words for name, words in WORDS.items() if taken[name] and not getattr(before, name)]
        self.notes.append(f"memory ran out; from then on {' and '.join(added)}")
        if self.measures.at_once:
            give_back_at_once()
        give_back()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return True


def _more(step: Measures, than: Measures) -> bool:
    """Whether a step does something that is not done yet."""
    return any(getattr(step, name) and not getattr(than, name) for name in WORDS)
