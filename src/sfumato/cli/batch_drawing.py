"""The work of `sfumato batch`: what is there is left, the rest is drawn, and each picture is there whole or not at all.

A picture holds the hash of what was asked for; it is known by that, so there is no list of what is done that could be wrong.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from sfumato.cli.adapters import load_recipe_s
from sfumato.cli.batch_rows import Job, wrong_rows
from sfumato.cli.painting import Painted, Painter
from sfumato.cli.pictures import find_inputs
from sfumato.cli.progress import DrawingProgress
from sfumato.cli.replay import open_as_recorded
from sfumato.cli.terminal import in_options, say, table, warnings_said
from sfumato.cli.wanted import wanted_of
from sfumato.errors import DataError, ImageError, OptionError, OutputError, SfumatoError
from sfumato.files import as_output_error, check_writable, write_whole
from sfumato.images import read_chunk, save_image
from sfumato.recipe import Recipe

CHUNK = "sfumato-job"
"""The name of a PNG's text chunk that holds the hash of what was asked for."""
REPORT = "report.jsonl"
LOCK = ".sfumato-batch.lock"
AT_ONCE = 64
"""Pictures whose inputs are held in memory together."""


class Batch:
    """The pictures of a file, and the folder that they go to."""

    def __init__(
        self,
        file: Path,
        jobs: Sequence[Job],
        shared: Mapping[str, Any],
        folder: Path,
        *,
        overwrite: bool,
        quiet: bool,
    ) -> None:
        self.file, self.jobs, self.shared, self.folder = file, jobs, shared, folder
        self.overwrite, self.quiet = overwrite, quiet
        if (folder / REPORT).resolve() == file.resolve():
            raise OptionError(f"{file} is where the report of the batch goes; give the rows another name or place")
        self.failures: dict[str, str] = {}
        self._check()
        self.there = {job.digest for job in jobs if not overwrite and _is_of(self.path(job), job)}
        self._drawn: set[str] = set()

    def path(self, job: Job) -> Path:
        """Where its picture goes."""
        return self.folder / job.file

    def show(self) -> None:
        """Print what would be drawn."""
        rows = [("row", "", "seed", "file", "prompt")]
        for job in self.jobs:
            state = "there" if job.digest in self.there else "to draw"
            rows.append((str(job.row), state, str(job.seed), str(self.path(job)), job.prompt))
        table(rows)
        say(f"{len(self.jobs)} pictures: {len(self.there)} there already, {len(self.jobs) - len(self.there)} to draw")

    def run(self) -> bool:
        """Draw what is not there; whether some failed. Raises OutputError where the folder can't be written, or is in use."""
        left = [job for job in self.jobs if job.digest not in self.there]
        check_writable(self.folder / REPORT, overwrite=True)
        with _held(self.folder):
            try:
                with DrawingProgress(len(left), quiet=self.quiet) as progress:
                    self._draw(left, progress)
            finally:
                self._report()
        if not self.quiet:
            there = f", {len(self.there)} there already" if self.there else ""
            failed = f", {len(self.failures)} failed" if self.failures else ""
            say(f"{len(self.jobs)} pictures: {len(self._drawn)} drawn{there}{failed}")
        return bool(self.failures)

    def _check(self) -> None:
        """Raise DataError for rows that can't be drawn, as far as that can be known before a model is opened."""
        wrong: dict[int, str] = {}
        for job in self.jobs:
            if job.recipe is None and job.row not in wrong:
                try:
                    wanted_of(job.options)
                except SfumatoError as error:
                    wrong[job.row] = f"row {job.row}: {in_options(str(error))}"
        if wrong:
            raise DataError(wrong_rows(self.file, list(wrong.values())))

    def _draw(self, jobs: Sequence[Job], progress: DrawingProgress) -> None:
        asked = sorted((job for job in jobs if job.recipe is None), key=lambda job: _model(job.options))
        recorded = sorted((job for job in jobs if job.recipe is not None), key=lambda job: _model_of(job.recipe))
        shares = progress.shares()
        painter = Painter()
        for start in range(0, len(asked), AT_ONCE):
            some = asked[start : start + AT_ONCE]
            wanted = [wanted_of(job.options) for job in some]

            def listen(number: int, share: float, start: int = start) -> None:
                shares(start + number, share)

            for number, outcome in painter.paint(wanted, listen):
                self._finish(some[number], outcome, progress)
        again = _Again(self.file, self.shared)
        for number, job in enumerate(recorded, len(asked)):
            self._finish(job, again.draw(job.recipe), progress)
            shares(number, 1.0)

    def _finish(self, job: Job, outcome: Painted | SfumatoError, progress: DrawingProgress) -> None:
        try:
            if isinstance(outcome, SfumatoError):
                raise outcome
            save_image(
                outcome.image, self.path(job), outcome.recipe, overwrite=self.overwrite, chunks={CHUNK: job.digest}
            )
        except SfumatoError as error:
            self.failures[job.digest] = in_options(str(error))
            progress.note(f"row {job.row} failed: {error}")
            return
        self._drawn.add(job.digest)
        for note in outcome.notes:
            progress.note(f"row {job.row}: {note}")
        progress.saved(self.path(job))

    def _report(self) -> None:
        """Write what became of each row beside the pictures."""
        lines: list[str] = []
        for job in self.jobs:
            failure = self.failures.get(job.digest)
            done = job.digest in self.there | self._drawn
            state = "failed" if failure else "done" if done else "left"
            said: dict[str, Any] = {"row": job.row, "state": state, "file": job.file, "seed": job.seed}
            lines.append(json.dumps(said | ({"error": failure} if failure else {})))
        write_whole(self.folder / REPORT, ("\n".join(lines) + "\n").encode("utf-8"), overwrite=True)


class _Again:
    """Draws recipes, with one model open at a time."""

    def __init__(self, file: Path, shared: Mapping[str, Any]) -> None:
        self._file, self._shared = file, shared
        self._key: object = None
        self._pipe: Any = None

    def draw(self, recipe: Recipe | None) -> Painted | SfumatoError:
        assert recipe is not None
        try:
            inputs: dict[str, Image.Image] = find_inputs(recipe, self._file, ())
            pipe = self._opened(recipe)
            with warnings_said():
                result = pipe.replay(recipe, inputs)
        except SfumatoError as error:
            return error
        return Painted(result.image, result.recipe, ())

    def _opened(self, recipe: Recipe) -> Any:
        key = _model_of(recipe)
        if key != self._key:
            self._key = self._pipe = None
            options = {name: self._shared.get(name) for name in ("model", "variant", "device")}
            self._pipe = open_as_recorded(recipe, self._file, **options)
            given = {name: [Path(text) for text in self._shared.get(name) or ()] for name in ("lora", "embedding")}
            load_recipe_s(self._pipe, recipe, self._file, given["lora"], given["embedding"])
            self._key = key
        return self._pipe


def _model(options: Mapping[str, Any]) -> str:
    """What a model is opened with, so that rows of one model come together."""
    return json.dumps(
        [options.get(name) for name in ("model", "variant", "device", "dtype", "engine", "embedding")], default=str
    )


def _model_of(recipe: Recipe | None) -> str:
    assert recipe is not None
    adapters = [(one.file, one.sha256, one.token) for one in recipe.adapters]
    return json.dumps(
        [recipe.model, recipe.dtype, recipe.vae_dtype, recipe.text_encoder_dtype, recipe.weights_dtype, recipe.safety, adapters]
    )  # fmt: skip


def _is_of(path: Path, job: Job) -> bool:
    """Whether a picture is what a job asks for. Raises OutputError for a file of that name that is something else."""
    if not path.exists():
        return False
    try:
        held = read_chunk(path, CHUNK)
    except ImageError:
        held = None
    if held != job.digest:
        raise OutputError(f"{path} is there and is not the picture of row {job.row}; move it away, or pass --overwrite")
    return True


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """The folder is this batch's for as long as the block lasts; what an earlier one left unfinished is gone.

    Raises OutputError while another batch draws into it. The lock ends with its process, however that ends.
    """
    with as_output_error(folder):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK, os.O_CREAT | os.O_WRONLY)
    try:
        if not _is_free(descriptor):
            raise OutputError(f"another batch is drawing into {folder}; wait for it, or choose another folder")
        for unfinished in folder.glob(".sfumato-*.tmp"):
            unfinished.unlink(missing_ok=True)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                (folder / LOCK).unlink()
    finally:
        os.close(descriptor)


def _is_free(descriptor: int) -> bool:
    """Lock an open file against other processes, where the system has such locks; whether it was free."""
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
