"""In which order contenders run: ours and a peer side by side, so that what else the machine does meets both alike."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from bench.measures import Pair


@dataclass(frozen=True, slots=True)
class Turn:
    """One run of one contender, beside that of its pair's other."""

    round: int
    pair: int
    contender: str


def turns(pairs: Sequence[Pair], rounds: int) -> Iterator[Turn]:
    """Every turn. Ours goes first in one round and second in the next: a machine that grows warm or busy favours neither."""
    for number in range(rounds):
        for place, pair in enumerate(pairs):
            both = [one for one in (pair.ours, pair.peer) if one is not None]
            for contender in both if number % 2 == 0 else reversed(both):
                yield Turn(number, place, contender)


def wanted(turn: Turn, pairs: Sequence[Pair], missing: Collection[str]) -> bool:
    """Whether to take a turn, some contenders being `missing`: one that is left alone runs in its first pair, if it has no whole one."""
    if turn.contender in missing:
        return False
    mine = [place for place, pair in enumerate(pairs) if turn.contender in (pair.ours, pair.peer)]
    whole = [place for place in mine if pairs[place].ours not in missing and pairs[place].peer not in missing]
    return turn.pair in (whole or mine[:1])
