from pathlib import Path
from types import SimpleNamespace

import pytest

from sfumato.cli.app import run

BUILT = "art-1-of-2\nart-2-of-2\nsheet.png\nart.json\n"
BUILD = {
    "size": 64,
    "vocabulary": "listed",
    "styles": None,
    "held_out": 200,
    "held_out_styles": None,
    "shard_mb": None,
    "quality": None,
    "packages": None,
    "workers": None,
}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """The training functions, replaced by ones that say how they were called."""
    seen: list[tuple[object, ...]] = []

    def record(name: str, result: object):
        def called(*args: object, **options: object) -> object:
            if (progress := options.pop("progress", None)) is not None:
                progress(f"{name} goes on")
            seen.append((name, args, options))
            return result

        return called

    report = SimpleNamespace(
        files=(Path("art-1-of-2"), Path("art-2-of-2")),
        sheets=(Path("sheet.png"),),
        report=Path("art.json"),
        licences={"MIT": 3},
        things=2,
        taught=3,
        held_out=1,
    )
    monkeypatch.setattr("sfumato.training.data.build", record("build", report))
    monkeypatch.setattr("sfumato.training.vae.train", record("vae", Path("vae.safetensors")))
    monkeypatch.setattr("sfumato.training.base.train", record("base", Path("base")))
    monkeypatch.setattr("sfumato.training.export.export", record("export", Path("model")))
    return seen


@pytest.mark.parametrize(
    ("arguments", "expected", "printed"),
    [
        ("data build --out d", ("build", (Path("d"),), BUILD), BUILT),
        (
            "data build --out d --size 256 --vocabulary all --style 3d --style noto --held-out 7 --held-out-style noto --shard-mb 15 "
            "--quality 90 --packages p --workers 2",
            (
                "build",
                (Path("d"),),
                {
                    "size": 256,
                    "vocabulary": "all",
                    "styles": ("3d", "noto"),
                    "held_out": 7,
                    "held_out_styles": ("noto",),
                    "shard_mb": 15.0,
                    "quality": 90,
                    "packages": Path("p"),
                    "workers": 2,
                },
            ),
            BUILT,
        ),
        ("train vae small.toml --out r", ("vae", ("small.toml", Path("r")), {}), "vae.safetensors\n"),
        ("train base base-64 --out r", ("base", ("base-64", Path("r")), {}), "base\n"),
        (
            "train export base-64 --run r --out m --decoder v --steps 8 --guidance 2",
            (
                "export",
                ("base-64", Path("r"), Path("m")),
                {"decoder_run": Path("v"), "steps": 8, "guidance_scale": 2.0},
            ),
            "model\n",
        ),
    ],
)
def test_each_command_reaches_its_function(
    calls: list[tuple[object, ...]],
    capsys: pytest.CaptureFixture[str],
    arguments: str,
    expected: tuple[object, ...],
    printed: str,
) -> None:
    assert run(arguments.split()) == 0
    assert calls == [expected]
    output = capsys.readouterr()
    assert output.out == printed
    assert output.err.splitlines()[:1] in ([], [f"{expected[0]} goes on"])


def test_build_tells_what_it_counted(calls: list[tuple[object, ...]], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "build"]) == 0
    said = capsys.readouterr().err
    assert "MIT: 3 pictures" in said
    assert "2 things, 3 pictures taught, 1 pairs of thing and style held out" in said


@pytest.mark.parametrize(
    "options", ["--size 32", "--size wide", "--held-out -1", "--shard-mb 0", "--quality 101", "--workers 0"]
)
def test_impossible_options_of_build_are_refused(
    calls: list[tuple[object, ...]], capsys: pytest.CaptureFixture[str], options: str
) -> None:
    assert run(["data", "build", *options.split()]) == 2
    assert options.split()[0] in capsys.readouterr().err
    assert not calls
