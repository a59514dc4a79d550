"""Which runs' questions share one batch of the network."""

from collections.abc import Hashable, Iterable, Iterator

from sfumato.engine.job import Run


def batches(runs: Iterable[Run], max_rows: int) -> Iterator[list[Run]]:
    """Runs grouped so that each group is one batch of at most `max_rows` rows, in order of arrival.

    Rows can share a batch when their latents have one shape, their contexts one length, and the network is changed for them in the same way:
    by the same adapters and FreeU, perturbed, where it is, in the same layers, and widened in the same parts; and when it sees them through the
    same windows and wraps along the same axes. A run whose own rows exceed the limit gets a batch to itself: guidance's rows of one image are
    never torn apart here.
    """
    groups: dict[Hashable, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.alike, []).append(run)
    for group in groups.values():
        batch: list[Run] = []
        rows = 0
        for run in group:
            count = len(run.guidance.rows())
            if batch and rows + count > max_rows:
                yield batch
                batch, rows = [], 0
            batch.append(run)
            rows += count
        yield batch
