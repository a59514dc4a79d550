import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from sfumato.cli import training
from sfumato.cli.app import run
from sfumato.errors import OutputError

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
        ("train vae small.toml --out r", ("vae", ("small.toml", Path("r")), {"until": None}), "vae.safetensors\n"),
        (
            "train base base-64 --out r",
            ("base", ("base-64", Path("r")), {"at_checkpoint": None, "until": None}),
            "base\n",
        ),
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


class Early(datetime.datetime):
    """A clock that stands at ten past midnight."""

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> "Early":
        return cls(2026, 3, 5, 0, 10)


@pytest.mark.parametrize(
    ("clock", "expected"),
    [
        ("00:25", (5, 0, 25, 0)),
        ("12:00:30", (5, 12, 0, 30)),  # the nearer noon
        ("00:09:59", (5, 0, 9, 59)),  # just passed: not tomorrow's
        ("23:50", (4, 23, 50, 0)),
    ],
)
def test_a_time_of_day_is_the_nearest(
    calls: list[tuple[object, ...]], monkeypatch: pytest.MonkeyPatch, clock: str, expected: tuple[int, int, int, int]
) -> None:
    monkeypatch.setattr(training.datetime, "datetime", Early)
    for stage in ("vae", "base"):
        assert run(["train", stage, "small.toml", "--out", "r", "--until", clock]) == 0
    day, hour, minute, second = expected
    then = datetime.datetime.combine(datetime.date(2026, 3, day), datetime.time(hour, minute, second)).timestamp()
    assert [options["until"] for _, _, options in calls] == [then, then]  # pyright: ignore


@pytest.mark.parametrize("clock", ["25:00", "noon", "14:05Z", "14:05+02:00"])
def test_what_is_no_time_of_day_here_is_refused(
    calls: list[tuple[object, ...]], capsys: pytest.CaptureFixture[str], clock: str
) -> None:
    assert run(["train", "base", "small.toml", "--out", "r", "--until", clock]) == 2
    assert "expected HH:MM or HH:MM:SS" in " ".join(capsys.readouterr().err.split())
    assert not calls


@pytest.mark.parametrize("fails", [(), (1,), (0,), (0, 1)])
def test_model_is_written_at_each_checkpoint_and_a_failure_does_not_end_the_training(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, fails: tuple[int, ...]
) -> None:
    written: list[tuple[object, ...]] = []

    def write(run: object, out: Path, config: str, *, guidance_scale: float) -> Path:
        written.append((run, out, config, guidance_scale))
        if len(written) - 1 in fails:
            raise OutputError("no room")
        return out

    def train(config: str, out: Path, *, at_checkpoint, until: None, progress: object) -> Path:
        for step in range(2):
            at_checkpoint(step)
        return out

    monkeypatch.setattr("sfumato.training.export.write_model", write)
    monkeypatch.setattr("sfumato.training.base.train", train)
    model = tmp_path / "model"
    code = run(["train", "base", "small.toml", "--out", "r", "--export", str(model), "--guidance", "4"])
    assert written == [(step, model, "small.toml", 4.0) for step in range(2)]
    output = capsys.readouterr()
    assert output.err.count("the model was not written: no room") == len(fails)
    assert (code == 0) == (1 not in fails)  # the last one counts
    assert "r\n" in output.out


def test_guidance_of_nothing_is_guidance_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    written: list[float] = []
    monkeypatch.setattr(
        "sfumato.training.export.write_model", lambda *_, guidance_scale: written.append(guidance_scale)
    )
    monkeypatch.setattr("sfumato.training.base.train", lambda *_, at_checkpoint, **__: at_checkpoint(0))
    for options in (["--guidance", "0"], []):
        assert run(["train", "base", "c.toml", "--out", "r", "--export", str(tmp_path / "m"), *options]) == 0
    assert written == [0.0, 3.0]


def test_export_that_could_only_fail_is_refused_before_the_training(
    calls: list[tuple[object, ...]], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").touch()
    assert run(["train", "base", "small.toml", "--out", "r", "--export", str(tmp_path)]) == 2
    assert "holds no model" in " ".join(capsys.readouterr().err.split())
    assert run(["train", "base", "small.toml", "--out", "r", "--guidance", "4"]) == 2
    assert "give both" in " ".join(capsys.readouterr().err.split())
    assert not calls
