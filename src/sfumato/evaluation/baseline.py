"""The committed baseline: what the bundled model scored when its weights came in, so that nothing makes it worse unseen."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from sfumato.errors import BaselineError, DataError
from sfumato.evaluation.evaluate import Evaluation
from sfumato.evaluation.scores import Score
from sfumato.files import write_whole

_FORMAT = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Baseline:
    """Scores by kind and measure, of which model, with which gallery."""

    model_sha256: str
    gallery_sha256: str
    count: int
    seed: int
    scores: Mapping[str, Mapping[str, Score]]

    @classmethod
    def of(cls, evaluation: Evaluation, model_sha256: str) -> "Baseline":
        """The baseline that this evaluation sets."""
        return cls(
            model_sha256=model_sha256,
            gallery_sha256=evaluation.gallery_sha256,
            count=evaluation.count,
            seed=evaluation.seed,
            scores=evaluation.scores(),
        )

    def score(self, kind: str, measure: str) -> Score | None:
        """The score of a measure; None where it was not taken."""
        return self.scores.get(kind, {}).get(measure)

    def check(self, evaluation: Evaluation) -> None:
        """Raise BaselineError where a score lies under its floor, or for a gallery that the baseline was not measured with.

        A floor lies two standard deviations of two binomial counts under the baseline's score, for as many pictures as were drawn now; see
        `Score.floor`.
        """
        if self.gallery_sha256 != evaluation.gallery_sha256:
            raise BaselineError(
                "the baseline was measured with another gallery and says nothing of this one; measure it again: "
                "sfumato eval --write-baseline"
            )
        under = [
            f"{kind} {measure} {score.share:.2f} (baseline {before.share:.2f}, floor {before.floor(score.of):.2f})"
            for kind, scores in evaluation.scores().items()
            for measure, score in scores.items()
            if (before := self.score(kind, measure)) and score.share < before.floor(score.of)
        ]
        if under:
            raise BaselineError(
                f"the bundled model scores under its baseline: {'; '.join(under)}; put the weights right, or, if this is "
                "how it shall be, measure the baseline again: sfumato eval --write-baseline"
            )


def default_baseline_path() -> Path:
    """Where the baseline of the package lies."""
    return Path(str(files("sfumato.evaluation").joinpath("baseline.json")))


def read_baseline(path: Path | None = None) -> Baseline | None:
    """The baseline of a file (the package's own when no path is given); None where there is none. Raises DataError for a damaged one."""
    path = path or default_baseline_path()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != _FORMAT:
            raise DataError(
                f"{path} is of format {content['format']}, expected {_FORMAT}; measure it again: sfumato eval --write-baseline"
            )
        return Baseline(
            model_sha256=content["model_sha256"],
            gallery_sha256=content["gallery_sha256"],
            count=content["count"],
            seed=content["seed"],
            scores={
                kind: {measure: Score(**score) for measure, score in scores.items()}
                for kind, scores in content["scores"].items()
            },
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is no baseline or is damaged ({error}); measure it again: sfumato eval --write-baseline"
        ) from error


def write_baseline(baseline: Baseline, path: Path | None = None) -> Path:
    """Write a baseline (the package's own when no path is given), in place of one that is there; its path. Raises OutputError."""
    path = path or default_baseline_path()
    content = {
        "format": _FORMAT,
        "model_sha256": baseline.model_sha256,
        "gallery_sha256": baseline.gallery_sha256,
        "count": baseline.count,
        "seed": baseline.seed,
        "scores": {
            kind: {measure: {"right": s.right, "of": s.of} for measure, s in scores.items()}
            for kind, scores in baseline.scores.items()
        },
    }
    write_whole(path, (json.dumps(content, indent=2) + "\n").encode(), overwrite=True)
    return path
