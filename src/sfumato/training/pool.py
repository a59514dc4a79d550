"""Scenes composed by processes of their own, ahead of what takes them: a GPU learns from more in a second than one core composes.

A scene is the same by its number whoever composes it, so how many processes there are changes nothing but the time. They need no torch:
the art goes to them as one file that they map into memory, and what comes back is pixels and captions.
"""

import contextlib
import multiprocessing
import os
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sfumato.errors import OutputError, TrainingError
from sfumato.training.data.pack import ArtDataset, Record
from sfumato.training.data.scenes import SceneMaker, SceneMix

if TYPE_CHECKING:
    from numpy.typing import NDArray

_AHEAD = 4  # orders under way for each process
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """Scenes `first` to `first + count` of a pool's maker number `maker`, with so many captions each."""

    first: int
    count: int
    maker: int = 0
    captions: int = 0

    def parts(self, size: int) -> "list[Order]":
        """The same scenes in orders of at most so many."""
        starts = range(self.first, self.first + self.count, size)
        ends = (min(start + size, self.first + self.count) for start in starts)
        return [
            Order(first=start, count=end - start, maker=self.maker, captions=self.captions)
            for start, end in zip(starts, ends, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class Composed:
    """Pictures (`count size size 3`, uint8) and the captions of each."""

    pixels: "NDArray[np.uint8]"
    captions: tuple[tuple[str, ...], ...]


def compose(maker: SceneMaker, order: Order) -> Composed:
    """The scenes of an order, composed here and now."""
    pixels: list[NDArray[np.uint8]] = []
    captions: list[tuple[str, ...]] = []
    for number in range(order.first, order.first + order.count):
        chance = maker.chance(number)
        scene = maker.compose(chance)
        pixels.append(scene.pixels)
        captions.append(maker.captions(scene, order.captions, chance))
    return Composed(np.stack(pixels), tuple(captions))


class ScenePool:
    """Composes scenes of one dataset, in order, in `workers` processes (0: in this one, when they are taken). Use it in a `with`.

    Raises OutputError on entering when there is no room for the file that the processes share.
    """

    def __init__(self, makers: Sequence[SceneMaker], workers: int) -> None:
        self.makers = makers
        self.workers = workers
        self._open = contextlib.ExitStack()
        self._executor: ProcessPoolExecutor | None = None

    def __enter__(self) -> "ScenePool":
        if self.workers:
            with contextlib.ExitStack() as opening:
                try:
                    folder = Path(opening.enter_context(tempfile.TemporaryDirectory(prefix="sfumato-scenes-")))
                    np.save(folder / "art.npy", self.makers[0].data.pixels)
                except OSError as error:
                    raise OutputError(
                        f"the art can't be put where {self.workers} processes read it: {error}; make room in the folder for temporary "
                        "files (TMPDIR names another), or set workers = 0."
                    ) from error
                described = [(maker.mix, maker.seed, maker.rows) for maker in self.makers]
                executor = opening.enter_context(
                    ProcessPoolExecutor(
                        self.workers,
                        # A fresh process each: a copy of this one would hold locks of threads and a GPU that it does not have.
                        mp_context=multiprocessing.get_context("spawn"),
                        initializer=_begin,
                        initargs=(folder / "art.npy", self.makers[0].data.records, described),
                    )
                )
                with _one_thread_each():
                    for _ in range(self.workers):  # they are made as work comes in, and inherit what is set then
                        executor.submit(_nothing)
                self._executor = executor
                self._open = opening.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)
            self._executor = None
        self._open.close()

    def take(self, orders: Iterable[Order]) -> Iterator[Composed]:
        """What was ordered, in order; orders may be without end. Raises TrainingError when a process died."""
        if self._executor is None:
            for order in orders:
                yield compose(self.makers[order.maker], order)
            return
        waiting = iter(orders)
        under_way: deque[Future[Composed]] = deque()
        try:
            while True:
                room = _AHEAD * self.workers - len(under_way)
                under_way.extend(self._executor.submit(_work, order) for order in islice(waiting, room))
                if not under_way:
                    return
                yield under_way.popleft().result()
        except BrokenProcessPool as error:
            raise TrainingError(
                f"one of the {self.workers} processes that compose scenes died, for want of memory perhaps; set fewer workers in the config."
            ) from error
        finally:
            for future in under_way:
                future.cancel()


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes that are made inside the block have numpy's library of matrices compute in one thread: there is one of them for each core."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _nothing() -> None: ...


# Of a process of the pool: what it composes with.
_makers: list[SceneMaker] = []


def _begin(
    art: Path, records: tuple[Record, ...], described: list[tuple[SceneMix, int, tuple[int, ...] | None]]
) -> None:
    data = ArtDataset(np.load(art, mmap_mode="r"), records)
    _makers[:] = [SceneMaker(data, mix, seed, rows) for mix, seed, rows in described]


def _work(order: Order) -> Composed:
    return compose(_makers[order.maker], order)
