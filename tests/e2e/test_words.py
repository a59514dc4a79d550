"""What a person is told of words that the model was never taught, and of what it can draw."""

import json
import shutil
from pathlib import Path

import pytest

from sfumato import bundled_model
from sfumato.cli.app import run
from sfumato.images import read_embedded, read_recipe
from sfumato.text.words import collect_words

OUTPUT = pytest.CaptureFixture[str]
CAPTIONS = ["a {} style", "{}, 3d style", "flat {}", "{}, noto style", "the {} in {}"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model, with the words of its captions beside it."""
    folder = tmp_path_factory.mktemp("words") / "model"
    shutil.copytree(bundled_model(), folder, ignore=shutil.ignore_patterns("words.txt"))
    things = (folder / "vocabulary.txt").read_text(encoding="utf-8").splitlines()
    styles = json.loads((folder / "sfumato.json").read_text(encoding="utf-8"))["styles"]
    (folder / "words.txt").write_text("\n".join(collect_words([*things, *styles, *CAPTIONS])) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_unknown_words_are_named_on_stderr_once(model: Path, here: Path, capsys: OUTPUT) -> None:
    common = ["--model", str(model), "--steps", "1", "--seed", "1", "--device", "cpu"]
    prompts = ["a Zorp octopuss, 3d style", "frumious red apples & a red apple's zorp-hat"]
    assert run(["generate", *prompts, "-n", "2", "--negative", "quuxy", *common]) == 0
    output = capsys.readouterr()
    assert output.err.splitlines() == [
        "note: unknown to this model: zorp, octopuss (octopus?)",
        "note: unknown to this model: quuxy",
        "note: unknown to this model: frumious, apples (apple?), zorp-hat",
    ]
    assert len(output.out.splitlines()) == 4
    picture = here / output.out.splitlines()[0]
    assert read_recipe(picture).prompt == prompts[0], "the prompt is drawn and recorded as it was given"
    assert not any("unknown to" in text for text in read_embedded(picture) if text)
    assert run(["replay", str(picture), "--model", str(model), "--device", "cpu"]) == 0
    output = capsys.readouterr()
    assert output.out == "bit-identical\n"
    assert output.err.splitlines() == [
        "note: unknown to this model: zorp, octopuss (octopus?)",
        "note: unknown to this model: quuxy",
    ]


def test_the_model_s_own_things_are_all_known(model: Path) -> None:
    from sfumato.checkpoints import Card

    card = Card.read(model)
    assert card.known_words is not None
    for thing in card.vocabulary:
        for style in card.styles:
            assert card.known_words.note_on(f"a {thing}, {style} style") is None


def test_what_a_model_can_draw_is_listed(model: Path, here: Path, capsys: OUTPUT) -> None:
    assert run(["inspect", str(model), "--vocabulary"]) == 0
    listed = capsys.readouterr().out
    styles, things, blank, *names = listed.splitlines()
    assert styles.startswith("styles: 3d, ")
    assert things == f"things: {len(names):,}"
    assert blank == ""
    assert names == (model / "vocabulary.txt").read_text(encoding="utf-8").splitlines()
    assert run(["inspect", "--vocabulary"]) == 0
    assert capsys.readouterr().out == listed, "without a path it is the bundled model"
    assert run(["inspect"]) == 0
    shown = capsys.readouterr().out
    assert f"draws: {len(names):,} things in the styles 3d, " in shown
    assert shown.endswith("opens: yes\n")
    assert run(["inspect", str(model)]) == 0
    assert "; others in a prompt are named in a note" in capsys.readouterr().out


def test_models_and_files_without_a_list_say_so(tiny_folder: Path, here: Path, capsys: OUTPUT) -> None:
    for path, why in (
        (tiny_folder, "has no vocabulary.txt: its makers don't list what it draws"),
        (here / "cat.png", "is no model folder, so it has no vocabulary"),
    ):
        assert run(["inspect", str(path), "--vocabulary"]) == 2
        output = capsys.readouterr()
        assert output.out == ""
        assert output.err == f"error: {path} {why}; leave out --vocabulary\n"


def test_a_list_can_not_steer_the_terminal(model: Path, here: Path, capsys: OUTPUT) -> None:
    hostile = here / "hostile"
    hostile.mkdir()
    shutil.copy(model / "model_index.json", hostile)
    (hostile / "vocabulary.txt").write_text("cat\x1b[2J\n")
    assert run(["inspect", str(hostile), "--vocabulary"]) == 0
    assert capsys.readouterr().out == "things: 1\n\ncat\\x1b[2J\n"
