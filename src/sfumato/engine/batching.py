"""Which runs' questions share one batch of the network."""

from collections.abc import Iterable, Iterator

from sfumato.engine.denoiser import pending_query
from sfumato.engine.job import Run


def batches(runs: Iterable[Run], max_rows: int) -> Iterator[list[Run]]:
    """Runs grouped so that each group is one batch of at most `max_rows` rows, in order of arrival.

    Rows can share a batch when their latents have one shape, their contexts one length, and the same adapters change the network, of which the same parts are widened. A run whose own rows exceed
    the limit gets a batch to itself: guidance's rows of one image are never torn apart here.
    """
    groups: dict[tuple[object, ...], list[Run]] = {}
    for run in runs:
        lengths = tuple({conditioning.context.shape for conditioning in run.job.conditionings.values()})
        groups.setdefault((pending_query(run).x.shape, lengths, run.job.adapters, run.widened), []).append(run)
    for group in groups.values():
        batch: list[Run] = []
        rows = 0
        for run in group:
            count = len(run.job.guidance.rows())
            if batch and rows + count > max_rows:
                yield batch
                batch, rows = [], 0
            batch.append(run)
            rows += count
        yield batch
