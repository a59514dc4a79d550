from pathlib import Path
from types import SimpleNamespace

import pytest

from sfumato.cli.app import run


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

    report = SimpleNamespace(dataset=Path("art.safetensors"), sheet=Path("sheet.png"))
    monkeypatch.setattr("sfumato.training.data.build", record("build", report))
    monkeypatch.setattr("sfumato.training.vae.train", record("vae", Path("vae.safetensors")))
    monkeypatch.setattr("sfumato.training.base.train", record("base", Path("base")))
    monkeypatch.setattr("sfumato.training.export.export", record("export", Path("model")))
    return seen


@pytest.mark.parametrize(
    ("arguments", "expected", "printed"),
    [
        (
            "data build --out d --size 32",
            ("build", (Path("d"),), {"size": 32, "packages": None}),
            "art.safetensors\nsheet.png\n",
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
    assert output.err in ("", f"{expected[0]} goes on\n")
