"""A whole evaluation, with real art, noise and nothing in the place of a model; the baseline; what is written."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from sfumato.errors import BaselineError, DataError, NumericalError, OptionError
from sfumato.evaluation import (
    KINDS,
    Baseline,
    Evaluation,
    Repertoire,
    cases_of,
    evaluate,
    read_baseline,
    write_baseline,
)
from sfumato.evaluation.bars import INTERIM, REAL, Bar, bars_for
from sfumato.evaluation.drawing import Drawing
from sfumato.evaluation.evaluate import distances_to_held_out
from sfumato.evaluation.real_art import compose
from sfumato.evaluation.results import lines_of, write_results
from sfumato.evaluation.scores import Score, tally
from sfumato.evaluation.sheets import seen_in, write_sheet


@pytest.fixture(scope="module")
def repertoire(gallery) -> Repertoire:
    return Repertoire(gallery.entries)


@pytest.fixture(scope="module")
def painter(gallery, art, repertoire):
    """Draws what real art there is; prompts with "frame" fail."""
    cases = {(c.prompt, c.seed): c for kind in KINDS for c in cases_of(kind, repertoire, 4, 0)}

    def draw(prompts, seeds):
        asked = [cases[pair] for pair in zip(prompts, seeds, strict=True)]
        pictures = [compose(case, [art.pixels[gallery.row(*pair)] for pair in case.art]) for case in asked]
        failed = ["frame" in prompt for prompt in prompts]
        return (
            [None if bad else picture for picture, bad in zip(pictures, failed, strict=True)],
            [["it failed"] if bad else [] for bad in failed],
        )

    return draw


@pytest.fixture(scope="module")
def result(painter, gallery, classifier, repertoire) -> Evaluation:
    return evaluate(painter, gallery, classifier, repertoire, count=4, at_once=3)


def test_real_art_reaches_what_real_art_reaches(result):
    assert [one.kind for one in result.results] == list(KINDS)
    for one in result.results:
        for drawn in one.drawn:
            failed = "frame" in drawn.case.prompt
            assert drawn.notes == (("it failed",) if failed else ())
            assert not (failed and any(drawn.verdict.right.values()))
        if one.kind in ("trained", "held_out", "phrasings") and all(d.picture is not None for d in one.drawn):
            styled = [d for d in one.drawn if d.case.style]
            assert len(styled) == one.scores["style"].of == one.scores["style"].right


def test_noise_reaches_nothing(gallery, classifier, repertoire):
    rng = np.random.default_rng(0)

    def noise(prompts, seeds):
        return [rng.integers(0, 256, (32, 32, 3), np.uint8) for _ in prompts], [[] for _ in prompts]

    found = evaluate(noise, gallery, classifier, repertoire, count=6, kinds=("colours", "backgrounds"))
    assert found.results[0].scores["colour"].share <= 0.34
    assert found.results[1].scores["background"].share <= 0.34


def test_progress_counts_pictures(painter, gallery, classifier, repertoire):
    heard = []
    evaluate(
        painter, gallery, classifier, repertoire, count=2, kinds=("trained", "backgrounds"), progress=lambda *n: heard.append(n)
    )  # fmt: skip
    assert heard == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_what_can_t_be_asked_is_told(painter, gallery, classifier, repertoire):
    with pytest.raises(OptionError, match="expected 1 or more prompts"):
        evaluate(painter, gallery, classifier, repertoire, count=0)
    with pytest.raises(OptionError, match="knows no thing or style of the gallery"):
        evaluate(painter, gallery, classifier, repertoire.of_model(["oil"], None))


def test_held_out_art_is_near_itself(gallery):
    held_out = gallery.descriptors[gallery.where(lambda e: e.split == "held_out")]
    found = distances_to_held_out(gallery, held_out)
    assert found is not None
    assert found.frechet is None, "two drawings have no covariance"
    assert (found.pictures, found.drawings) == (2, 2)
    assert distances_to_held_out(gallery, held_out[:1]) is None


# -- scores and bars -------------------------------------------------------------------------------------------------


def test_a_floor_lies_two_deviations_under():
    assert Score(80, 100).floor(100) == pytest.approx(0.8 - 2 * (81 / 102 * 21 / 102 * 0.02) ** 0.5)
    assert Score(100, 100).floor(100) == pytest.approx(1 - 2 * (101 / 102 * 1 / 102 * 0.02) ** 0.5)
    assert Score(80, 100).floor(10) < Score(80, 100).floor(100)
    assert Score(0, 100).floor(100) == Score(5, 10).floor(0) == Score().floor(10) == 0
    assert tally([{"a": True}, {"a": False, "b": True}]) == {"a": Score(1, 2), "b": Score(1, 1)}


def test_an_interval_holds_the_true_share_nineteen_times_of_twenty():
    assert Score(0, 24).interval == (0.0, pytest.approx(0.138, abs=1e-3))
    assert Score(24, 24).interval == (pytest.approx(0.862, abs=1e-3), 1.0)
    assert Score(14, 24).interval == pytest.approx((0.388, 0.755), abs=1e-3)
    assert Score().interval == (0.0, 1.0)
    for share, count in ((0.5, 24), (0.8, 48), (0.95, 100)):
        intervals = [Score(int(n), count).interval for n in np.random.default_rng(1).binomial(count, share, 4000)]
        assert 0.92 < np.mean([low <= share <= high for low, high in intervals]) < 0.98


def test_equal_models_seldom_fall_under_the_floor():
    rng = np.random.default_rng(0)
    before, now = rng.binomial(100, 0.8, (2, 5000))
    under = [n / 100 < Score(int(b), 100).floor(100) for b, n in zip(before, now, strict=True)]
    assert 0.01 < np.mean(under) < 0.04


def test_bars_are_those_of_the_model_s_size():
    assert bars_for((64, 64, 3)) is INTERIM
    assert bars_for((256, 256, 3)) is REAL
    bar = Bar(0.9, of_real=True)
    assert bar.met(Score(72, 100), Score(80, 100))
    assert not bar.met(Score(71, 100), Score(80, 100))
    assert (str(bar), str(Bar(0.7))) == ("0.90 × real", "0.70")


# -- the baseline ----------------------------------------------------------------------------------------------------


def test_a_baseline_is_the_same_after_it_was_written(result, tmp_path):
    baseline = Baseline.of(result, "abc")
    path = write_baseline(baseline, tmp_path / "baseline.json")
    assert read_baseline(path) == baseline
    assert read_baseline(tmp_path / "none.json") is None
    baseline.check(result)


def test_a_model_under_its_baseline_is_told(result):
    better = Baseline.of(result, "abc")
    scores = {**better.scores, "colours": {**better.scores["colours"], "colour": Score(4000, 4000)}}
    worse = [
        replace(one, scores={**one.scores, "colour": Score(10, 100)}) if one.kind == "colours" else one
        for one in result.results
    ]
    fallen = replace(result, results=tuple(worse))
    with pytest.raises(BaselineError, match=r"colours colour 0\.10 \(baseline 1\.00, floor 1\.00\)") as raised:
        replace(better, scores=scores).check(fallen)
    assert "--write-baseline" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_baseline_of_another_gallery_says_nothing(result):
    with pytest.raises(BaselineError, match="another gallery"):
        replace(Baseline.of(result, "abc"), gallery_sha256="other").check(result)


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 9}', '{"format": 1}'])
def test_a_damaged_baseline_is_told(tmp_path, text):
    (tmp_path / "baseline.json").write_text(text)
    with pytest.raises(DataError, match=r"baseline\.json .*sfumato eval --write-baseline"):
        read_baseline(tmp_path / "baseline.json")


# -- what is written -------------------------------------------------------------------------------------------------


def test_the_results_hold_every_prompt_and_score(result, tmp_path):
    write_results(tmp_path / "results.json", result, Baseline.of(result, "abc"), model={"name": "painter"})
    content = json.loads((tmp_path / "results.json").read_text())
    assert list(content["kinds"]) == list(KINDS)
    colours = content["kinds"]["colours"]
    score = next(one for one in result.results if one.kind == "colours").scores["colour"]
    assert colours["scores"]["colour"]["ours"] == {
        "right": score.right, "of": 4, "share": score.share, "between": [round(end, 4) for end in score.interval],
    }  # fmt: skip
    assert colours["scores"]["colour"]["bar"]["least"] == "0.80"
    assert colours["scores"]["top1"]["bar"] is None
    assert [one["prompt"] for one in colours["prompts"]] == [
        one.case.prompt for kind in result.results if kind.kind == "colours" for one in kind.drawn
    ]
    styled = [one for kind in result.results if kind.kind == "colours" for one in kind.drawn if one.case.style]
    assert sum(scores["colour"]["of"] for scores in colours["by_style"].values()) == len(styled) == 2
    assert {"seed", "asked", "passed", "right", "taken_for", "colour"} <= set(colours["prompts"][0])


def test_the_lines_set_ours_beside_real_art(result):
    lines = list(lines_of(result, None))
    trained = next(line for line in lines if (line.kind, line.measure) == ("trained", "top1"))
    assert trained.real is not None
    assert trained.ratio == pytest.approx(trained.ours.share / trained.real.share)
    assert trained.floor is None
    assert {line.kind for line in lines} == set(KINDS)


def test_a_sheet_frames_what_failed_in_red(result, tmp_path):
    drawn = next(one.drawn for one in result.results if any(d.picture is None for d in one.drawn))
    write_sheet(tmp_path / "sheet.png", drawn, columns=2)
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    for place, one in enumerate(drawn):
        corner = sheet[8 + place // 2 * 198, 8 + place % 2 * 138]
        assert (corner.tolist() == [205, 30, 30]) == (not one.verdict.passed)
    assert {seen_in(one) for one in drawn if one.picture is None} == {"could not be made"}


# -- a pipeline as what draws ----------------------------------------------------------------------------------------


class Pipe:
    def __call__(self, prompts, *, seeds, output_type, **settings):
        if prompts == ["nan"]:
            raise NumericalError("NaN at step 1")
        assert (output_type, settings) == ("pil", {"guidance_scale": 2.0})
        self.images = [None if prompt == "bad" else Image.new("RGBA", (8, 8), "red") for prompt in prompts]
        self.notes = ["image 2 failed: NaN", "words were cut"]
        return self


def test_pictures_come_with_their_notes():
    draw = Drawing(Pipe(), {"guidance_scale": 2.0})  # type: ignore[arg-type]
    pictures, notes = draw(["good", "bad"], [1, 2])
    assert pictures[0].tolist()[0][0] == [255, 0, 0]
    assert pictures[1] is None
    assert notes == [["words were cut"], ["image 2 failed: NaN", "words were cut"]]
    assert draw(["nan"], [1]) == ([None], [["NaN at step 1"]])
