"""An evaluation as a file (results.json) and as rows of a table."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfumato.evaluation.bars import Bar, bars_for
from sfumato.evaluation.baseline import Baseline
from sfumato.evaluation.evaluate import Distances, Drawn, Evaluation
from sfumato.evaluation.judging import MEASURES
from sfumato.evaluation.scores import Score, tally
from sfumato.files import write_whole
from sfumato.version import __version__


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One measure of one kind of prompt: our score beside real art's, the baseline's and the bar."""

    kind: str
    measure: str
    ours: Score
    real: Score | None
    before: Score | None
    bar: Bar | None

    @property
    def title(self) -> str:
        """What is measured, in words."""
        return MEASURES[self.measure]

    @property
    def ratio(self) -> float | None:
        """Our share over real art's; None where real art has none."""
        return self.ours.share / self.real.share if self.real and self.real.right else None

    @property
    def floor(self) -> float | None:
        """The least share that the baseline allows for as many pictures."""
        return None if self.before is None else self.before.floor(self.ours.of)


def lines_of(evaluation: Evaluation, baseline: Baseline | None) -> Iterator[Line]:
    """The measures in the order of the kinds, the one that has a bar first."""
    for result in evaluation.results:
        shapes = [one.picture.shape for one in result.drawn if one.picture is not None]
        bars = bars_for(shapes[0]) if shapes else {}
        for measure in (m for m in MEASURES if m in result.scores):
            yield Line(
                kind=result.kind,
                measure=measure,
                ours=result.scores[measure],
                real=result.real.get(measure),
                before=baseline.score(result.kind, measure) if baseline else None,
                bar=bars.get((result.kind, measure)),
            )


def write_results(path: Path, evaluation: Evaluation, baseline: Baseline | None, *, model: Mapping[str, Any]) -> None:
    """Write everything: what was asked, with which seeds, what was seen, and the scores. `model` says which model and settings.

    In place of a file that is there. Raises OutputError when it can't be written.
    """
    lines = list(lines_of(evaluation, baseline))
    content = {
        "sfumato": __version__,
        "model": dict(model),
        "gallery_sha256": evaluation.gallery_sha256,
        "count": evaluation.count,
        "seed": evaluation.seed,
        "kinds": {
            result.kind: {
                "scores": {line.measure: _line(line) for line in lines if line.kind == result.kind},
                "by_style": _by_style(result.drawn),
                "distances": {"ours": _distances(result.distances), "real": _distances(result.real_distances)},
                "prompts": [_drawn(one) for one in result.drawn],
            }
            for result in evaluation.results
        },
    }
    write_whole(path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode(), overwrite=True)


def _score(one: Score | None) -> dict[str, Any] | None:
    if one is None:
        return None
    low, high = one.interval
    return {"right": one.right, "of": one.of, "share": round(one.share, 4), "between": [round(low, 4), round(high, 4)]}


def _line(line: Line) -> dict[str, Any]:
    return {
        "ours": _score(line.ours),
        "real": _score(line.real),
        "ratio": None if line.ratio is None else round(line.ratio, 4),
        "baseline": _score(line.before),
        "floor": None if line.floor is None else round(line.floor, 4),
        "bar": None if line.bar is None else {"least": str(line.bar), "met": line.bar.met(line.ours, line.real)},
    }


def _by_style(drawn: Sequence[Drawn]) -> dict[str, dict[str, Any]]:
    """The scores of the prompts that name a style, style by style."""
    verdicts: dict[str, list[Mapping[str, bool]]] = {}
    for one in drawn:
        if one.case.style is not None:
            verdicts.setdefault(one.case.style, []).append(one.verdict.right)
    return {style: {m: _score(s) for m, s in tally(rights).items()} for style, rights in sorted(verdicts.items())}


def _distances(distances: Distances | None) -> dict[str, Any] | None:
    if distances is None:
        return None
    return {
        "frechet": None if distances.frechet is None else round(distances.frechet, 3),
        "discrepancy": round(distances.discrepancy, 3),
        "pictures": distances.pictures,
        "drawings": distances.drawings,
    }


def _drawn(one: Drawn) -> dict[str, Any]:
    case, verdict = one.case, one.verdict
    said: dict[str, Any] = {
        "prompt": case.prompt,
        "seed": case.seed,
        "asked": [sorted(answers) for answers in case.answers],
        "passed": verdict.passed,
        "right": verdict.right,
        "taken_for": verdict.taken_for,
    }
    if case.colour is not None:
        said["colour"] = verdict.colour
    if case.ground is not None:
        said["background"] = verdict.ground
    return said | ({"notes": one.notes} if one.notes else {})
