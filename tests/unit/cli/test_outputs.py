import os
from pathlib import Path

import pytest

from sfumato.cli.outputs import Shot, plan_outputs
from sfumato.errors import OptionError, OutputError

APPLE, CAT = Shot(prompt="A red apple, 3D style!", seed=7), Shot(prompt="cat", seed=8)


def names(paths: tuple[Path, ...]) -> list[str]:
    return [path.name for path in paths]


def test_the_usual_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outputs = plan_outputs([APPLE, CAT], None, grid=True, animate=None, overwrite=False)
    assert outputs.pictures == (Path("outputs/a-red-apple-3d-style-7.png"), Path("outputs/cat-8.png"))
    assert outputs.grid == Path("outputs/a-red-apple-3d-style-7-grid.png")
    assert outputs.animations == ()
    assert os.listdir(tmp_path) == [], "the folder is made when the first picture is saved"


@pytest.mark.parametrize("out", ["new", "new/", "v1.5/", "here.png"])
def test_a_folder(tmp_path: Path, out: str) -> None:
    (tmp_path / "here.png").mkdir()
    outputs = plan_outputs([CAT], f"{tmp_path}/{out}", grid=False, animate=None, overwrite=False)
    assert outputs.pictures == (tmp_path / out / "cat-8.png",)


def test_in_a_folder_files_are_stepped_around(tmp_path: Path) -> None:
    (tmp_path / "cat-8.png").touch()
    assert names(plan_outputs([CAT], str(tmp_path), grid=False, animate=None, overwrite=False).pictures) == [
        "cat-8-2.png"
    ]
    assert names(plan_outputs([CAT], str(tmp_path), grid=False, animate=None, overwrite=True).pictures) == ["cat-8.png"]


def test_files_are_numbered_when_there_are_several(tmp_path: Path) -> None:
    outputs = plan_outputs(
        [APPLE, CAT], str(tmp_path / "a.webp"), grid=True, animate=tmp_path / "a.gif", overwrite=False
    )
    assert names(outputs.pictures) == ["a-1.webp", "a-2.webp"]
    assert names(outputs.animations) == ["a-1.gif", "a-2.gif"]
    assert outputs.grid == tmp_path / "a-grid.webp"
    outputs = plan_outputs([CAT], str(tmp_path / "a.png"), grid=False, animate=tmp_path / "b.webp", overwrite=False)
    assert (names(outputs.pictures), names(outputs.animations)) == (["a.png"], ["b.webp"])


def test_what_exists_is_said_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "a-2.png").touch()
    with pytest.raises(OutputError, match=r"a-2\.png exists already"):
        plan_outputs([APPLE, CAT], str(tmp_path / "a.png"), grid=False, animate=None, overwrite=False)
    plan_outputs([APPLE, CAT], str(tmp_path / "a.png"), grid=False, animate=None, overwrite=True)
    with pytest.raises(OutputError, match="is not a folder"):
        plan_outputs([CAT], f"{tmp_path}/a-2.png/", grid=False, animate=None, overwrite=False)


def test_one_name_for_two_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="written twice"):
        plan_outputs([CAT], str(tmp_path / "a.webp"), grid=False, animate=tmp_path / "a.webp", overwrite=False)


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("../../etc/passwd", "etc-passwd-1.png"),
        ("🍎", "picture-1.png"),
        ("東京の猫", "東京の猫-1.png"),
        ("a\0b\nc", "a-b-c-1.png"),
        ("x" * 400, f"{'x' * 48}-1.png"),
        (
            "one two three four five six seven eight nine ten eleven",
            "one-two-three-four-five-six-seven-eight-nine-1.png",
        ),
    ],
)
def test_prompts_make_harmless_names(tmp_path: Path, prompt: str, name: str) -> None:
    outputs = plan_outputs([Shot(prompt=prompt, seed=1)], str(tmp_path), grid=False, animate=None, overwrite=False)
    assert outputs.pictures == (tmp_path / name,)
