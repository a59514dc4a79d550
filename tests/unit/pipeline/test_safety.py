"""The filter that comes with Sfumato: sizes, thresholds, what becomes of flagged pictures, and where it is said."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sfumato
from sfumato import NSFWFilter
from sfumato.errors import OptionError, UnknownNameError, UnsupportedError, UsageError
from sfumato.infotext import infotext
from sfumato.models.nsfw_classifier import KINDS
from sfumato.pipeline import nsfw_filter
from sfumato.pipeline.nsfw_filter import prepared
from sfumato.pipeline.safety import SafetyFilter, blurred
from sfumato.recipe import Recipe

opened = sfumato.StableDiffusionPipeline.from_pretrained
RUN: dict[str, Any] = {"num_inference_steps": 1, "seeds": [1]}


@pytest.fixture
def pipe(tiny_folder: Path) -> Any:
    return quiet(opened(tiny_folder))


def quiet(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


# -- the filter ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (64, 64), (224, 224), (97, 300), (1500, 40), (2048, 2048)])
def test_pictures_of_any_size_are_judged(size: tuple[int, int]) -> None:
    scores = NSFWFilter().scores(noise(*size))
    assert list(scores) == ["nsfw", *KINDS]
    assert math.isclose(sum(scores[kind] for kind in KINDS), 1, rel_tol=1e-5)
    assert math.isclose(scores["nsfw"], scores["hentai"] + scores["porn"] + scores["sexy"], rel_tol=1e-9)


def test_a_picture_is_squeezed_between_its_corners() -> None:
    picture = noise(300, 97)
    pixels = prepared(picture)
    assert pixels.shape == (3, 224, 224)
    for y in (0, -1):
        for x in (0, -1):
            np.testing.assert_allclose(pixels[:, y, x], picture[y, x] / 255, atol=1e-5)
    same = noise(224, 224)
    np.testing.assert_allclose(prepared(same).permute(1, 2, 0), same / 255, atol=1e-6)


def test_autocast_changes_no_score() -> None:
    picture = noise(64, 64)
    alone = NSFWFilter().scores(picture)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert NSFWFilter().scores(picture) == alone


@pytest.mark.parametrize(
    ("threshold", "score", "flagged"),
    [(0.5, 0.499, False), (0.5, 0.5, True), (0, 0.0, True), (1, 0.999, False), (1, 1.0, True), (0.5, math.nan, True)],
)
def test_the_threshold_is_the_lowest_score_flagged(threshold: float, score: float, flagged: bool) -> None:
    assert NSFWFilter(threshold).flags({"nsfw": score}) == flagged


@pytest.mark.parametrize("threshold", [-0.1, 1.1, math.nan, math.inf, "high", None, True])
def test_a_threshold_is_from_0_to_1(threshold: Any) -> None:
    with pytest.raises(OptionError, match="safety_threshold must be"):
        NSFWFilter(threshold)


@pytest.mark.parametrize("size", [(8, 8), (64, 64), (1, 50), (512, 300), (61, 1000)])
def test_a_blurred_picture_keeps_its_size_and_no_more_than_patches(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    pixels = torch.rand(3, *size) * 2 - 1
    shown = blurred(pixels)
    assert shown.shape == pixels.shape
    assert shown.abs().max() <= 1
    if min(size) >= 64:  # what is finer than a patch is gone
        assert shown.std() < 0.3 * pixels.std()
        assert (shown[:, 1:] - shown[:, :-1]).abs().max() < 0.1


# -- in a pipeline ------------------------------------------------------------------------------------------------------


def test_a_model_without_a_checker_is_judged_when_asked(tiny_folder: Path) -> None:
    plain = quiet(opened(tiny_folder))("a fox", **RUN)
    assert (plain.nsfw_content_detected, plain.safety_scores) == (None, None)
    pipe = quiet(opened(tiny_folder, safety="block"))
    assert pipe.safety_checker == NSFWFilter(0.5)
    result = pipe("a fox", **RUN)
    assert result.nsfw_content_detected == [False]
    (scores,) = result.safety_scores
    recipe = result.images[0].recipe
    assert recipe.safety_scores == scores
    assert (recipe.safety, recipe.safety_by, recipe.safety_mode, recipe.safety_threshold) == (
        "passed",
        "filter",
        "block",
        0.5,
    )
    assert scores["nsfw"] == round(NSFWFilter().scores(np.asarray(result.images[0]))["nsfw"], 4)
    assert np.array_equal(result.images[0], plain.images[0])
    assert f"Safety: passed, NSFW score: {scores['nsfw']}" in infotext(recipe)


@pytest.mark.parametrize(
    ("mode", "word", "said"),
    [
        ("block", "blocked", "it was replaced by a black one"),
        ("blur", "blurred", "it was blurred"),
        ("flag", "flagged", "it is left as it is"),
    ],
)
def test_what_becomes_of_a_flagged_picture(tiny_folder: Path, mode: str, word: str, said: str) -> None:
    plain = np.asarray(quiet(opened(tiny_folder))("a fox", **RUN).images[0])
    result = quiet(opened(tiny_folder, safety=mode, safety_threshold=0))("a fox", **RUN)
    shown = np.asarray(result.images[0])
    assert result.nsfw_content_detected == [True]
    assert (shown.max() == 0, np.array_equal(shown, plain)) == (mode == "block", mode == "flag")
    if mode == "blur":
        assert 0 < shown.std() < plain.std()
    recipe = result.images[0].recipe
    assert (recipe.safety, recipe.safety_mode) == ("flagged", mode)
    assert f"Safety: {word}" in infotext(recipe)
    (note,) = result.notes
    assert said in note
    assert f"scores this picture {NSFWFilter().scores(plain)['nsfw']:.3f}" in note
    assert "its threshold is 0;" in note


def test_replay_judges_as_it_was_judged(tiny_folder: Path) -> None:
    plain, other = quiet(opened(tiny_folder)), quiet(opened(tiny_folder, safety="blur", safety_threshold=0.2))
    made = [plain("a fox", **RUN).images[0].recipe]
    for mode, threshold in (("block", 0), ("blur", 0), ("flag", 1)):
        made.append(
            quiet(opened(tiny_folder, safety=mode, safety_threshold=threshold))("a fox", **RUN).images[0].recipe
        )
    assert len({recipe.pixels_sha256 for recipe in made}) == 3
    for pipe, recipe in zip((other, plain, plain, other), made, strict=True):
        again = pipe.replay(Recipe.from_json(recipe.to_json()))
        assert (again.identical, again.differences) == (True, [])
        assert again.recipe == recipe


def test_a_picture_has_the_same_scores_alone_and_in_company(tiny_folder: Path) -> None:
    pipe = quiet(opened(tiny_folder, safety="flag"))
    together = pipe(["a fox"] * 3, num_inference_steps=1, seeds=[1, 2, 3]).safety_scores
    assert len({scores["nsfw"] for scores in together}) == 3
    for seed, scores in zip((1, 2, 3), together, strict=True):
        assert pipe("a fox", num_inference_steps=1, seeds=[seed]).safety_scores == [scores]


@pytest.mark.parametrize("output_type", ["np", "pt"])
def test_arrays_and_tensors_are_kept_back_too(tiny_folder: Path, output_type: str) -> None:
    pipe = quiet(opened(tiny_folder, safety="block", safety_threshold=0))
    result = pipe("a fox", **RUN, output_type=output_type)
    assert float(result.images.max()) == 0
    assert result.nsfw_content_detected == [True]


def test_scores_that_are_not_numbers_block(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = nsfw_filter.open_nsfw_classifier()
    with torch.no_grad():
        broken.stem.bias.fill_(torch.nan)
    monkeypatch.setattr(nsfw_filter, "classifier", lambda: broken)
    result = quiet(opened(tiny_folder, safety="block", safety_threshold=1))("a fox", **RUN)
    assert result.nsfw_content_detected == [True]
    assert np.asarray(result.images[0]).max() == 0
    assert "not finite, which counts as unsafe; it was replaced by a black one" in result.notes[0]
    recipe = json.loads(result.images[0].recipe.to_json())
    assert (recipe["safety"], recipe["safety_scores"]) == ("flagged", {})


def test_the_filter_stays_where_it_is(pipe: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pipe.safety_checker = NSFWFilter(0.9)
    pipe.to(torch.bfloat16)
    assert {tensor.dtype for tensor in nsfw_filter.classifier().parameters()} == {torch.float32}
    assert "safety_checker" in pipe.components
    pipe.save_pretrained(tmp_path / "saved")
    assert opened(tmp_path / "saved").safety_checker is None
    assert caplog.text == ""


# -- a model's own checker ----------------------------------------------------------------------------------------------


def test_a_models_own_checker_judges_first(
    tiny_folder_with_checker: Path, tiny_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pipe = quiet(opened(tiny_folder_with_checker, safety="blur", safety_threshold=0.1))
    assert "thresholds of its own; safety_threshold is not used" in caplog.text
    result = pipe(["a fox"] * 8, num_inference_steps=1, seeds=list(range(8)))
    plain = quiet(opened(tiny_folder))(["a fox"] * 8, num_inference_steps=1, seeds=list(range(8))).images
    assert set(result.nsfw_content_detected) == {True, False}
    for image, before, bad, scores in zip(
        result.images, plain, result.nsfw_content_detected, result.safety_scores, strict=True
    ):
        assert np.array_equal(image, before) != bad
        assert (scores["concept"] > 0) == bad
        assert (image.recipe.safety_by, image.recipe.safety_threshold) == ("model", None)
        assert "NSFW score" not in infotext(image.recipe)
    pipe.safety_checker = NSFWFilter(0)
    pipe.safety_mode = "block"
    assert np.asarray(pipe("a fox", **RUN).images[0]).max() == 0


def test_off_is_off(tiny_folder_with_checker: Path, caplog: pytest.LogCaptureFixture) -> None:
    pipe = quiet(opened(tiny_folder_with_checker, safety="off"))
    assert pipe.safety_checker is None
    assert "pictures are not filtered" in caplog.text
    assert pipe("a fox", **RUN).nsfw_content_detected is None


# -- what can't be done -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"safety": "blok"}, UnknownNameError, "did you mean block"),
        ({"safety": True}, UnknownNameError, "safety mode"),
        ({"safety": "flag", "safety_threshold": 2}, OptionError, "from 0 to 1"),
        ({"safety_threshold": 0.5}, UsageError, "only with safety="),
        ({"safety": "off", "safety_threshold": 0.5}, UsageError, "only with safety="),
        ({"safety": "block", "safety_checker": None}, UsageError, "contradict"),
        ({"safety": "off", "safety_checker": NSFWFilter()}, UsageError, "contradict"),
        ({"safety_checker": 0.5}, UnsupportedError, "an NSFWFilter"),
    ],
)
def test_contradictions_and_wrong_values_are_said(
    tiny_folder: Path, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as raised:
        opened(tiny_folder, **options)
    assert "\n" not in str(raised.value)


def test_a_wrong_mode_is_refused_when_it_is_put_in(pipe: Any) -> None:
    with pytest.raises(UnknownNameError, match="safety mode"):
        pipe.safety_mode = "off"


def test_the_judge_of_a_wrong_mode_shows_nothing_by_chance() -> None:
    pixels = torch.rand(3, 8, 8)
    assert torch.equal(SafetyFilter(NSFWFilter(), mode="flag").keep_back(pixels), pixels)
    assert SafetyFilter(NSFWFilter()).keep_back(pixels).max() == -1, "block unless told otherwise"
