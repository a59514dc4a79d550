import errno
import os
import threading
from pathlib import Path

import pytest

from sfumato.errors import OutputError
from sfumato.files import check_writable, next_free_path, write_whole


def test_written_whole_with_the_folders_it_needs(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file.bin"
    write_whole(path, b"contents")
    assert path.read_bytes() == b"contents"
    assert os.listdir(path.parent) == ["file.bin"]


def test_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    write_whole(tmp_path / "ours", b"")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_never_overwritten_unless_asked(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, b"first")
    with pytest.raises(OutputError, match="exists already and is left as it is"):
        write_whole(path, b"second")
    assert path.read_bytes() == b"first"
    write_whole(path, b"third", overwrite=True)
    assert path.read_bytes() == b"third"
    assert os.listdir(tmp_path) == ["file"]


def test_a_dangling_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match="exists already"):
        write_whole(tmp_path / "link", b"")
    assert not (tmp_path / "elsewhere").exists()


def test_of_many_writers_one_wins(tmp_path: Path) -> None:
    path, start, outcomes = tmp_path / "file", threading.Barrier(8), []

    def write(number: int) -> None:
        start.wait()
        try:
            write_whole(path, str(number).encode() * 1000)
            outcomes.append(number)
        except OutputError:
            pass

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 1
    assert path.read_bytes() == str(outcomes[0]).encode() * 1000
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool) -> None:
    def no_link(*args: object) -> None:
        raise OSError(errno.ENOTSUP, "not supported")

    monkeypatch.setattr(os, "link", no_link)
    write_whole(tmp_path / "file", b"contents", overwrite=overwrite)
    assert (tmp_path / "file").read_bytes() == b"contents"
    with pytest.raises(OutputError, match="exists already"):
        write_whole(tmp_path / "file", b"other")
    assert (tmp_path / "file").read_bytes() == b"contents"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "the disk is full; free some space"),
        (errno.EROFS, "can't be written to; choose another"),
        (errno.EACCES, "can't be written to; choose another"),
        (errno.EIO, "Input/output error; choose another place"),
    ],
)
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_what_the_disk_refuses_is_said_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, message: str, call: str
) -> None:
    def refuse(*args: object) -> None:
        raise OSError(number, os.strerror(number))

    (tmp_path / "file").write_bytes(b"before")
    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(OutputError, match=message) as raised:
        write_whole(tmp_path / "file", b"after", overwrite=True)
    assert "\n" not in str(raised.value)
    assert os.listdir(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"before"


def test_an_interrupt_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "file", b"contents")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("plain/file", "plain is not a folder"),
        ("plain/deep/file", "not a folder"),
        ("x" * 300, "name is too long"),
    ],
)
def test_impossible_places(tmp_path: Path, place: str, message: str) -> None:
    (tmp_path / "plain").write_bytes(b"")
    with pytest.raises(OutputError, match=message):
        write_whole(tmp_path / place, b"")
    assert os.listdir(tmp_path) == ["plain"]


def test_a_folder_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for overwrite, message in ((False, "exists already"), (True, "it is a folder")):
        with pytest.raises(OutputError, match=message):
            write_whole(tmp_path / "folder", b"", overwrite=overwrite)
    assert os.listdir(tmp_path) == ["folder"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that nobody can write to")
def test_a_read_only_file_system(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="can't write /proc/self/picture"):
        write_whole(Path("/proc/self/picture.png"), b"")


def test_what_can_be_known_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "file"
    check_writable(path)
    assert os.listdir(tmp_path) == [], "looking leaves nothing behind"
    write_whole(path, b"contents")
    with pytest.raises(OutputError, match="exists already"):
        check_writable(path)
    check_writable(path, overwrite=True)
    assert path.read_bytes() == b"contents"
    with pytest.raises(OutputError, match="it is a folder"):
        check_writable(tmp_path / "new", overwrite=True)
    with pytest.raises(OutputError, match="is not a folder"):
        check_writable(path / "below")

    def read_only(*args: object, **options: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "touch", read_only)
    with pytest.raises(OutputError, match="can't be written to"):
        check_writable(tmp_path / "other")
    assert os.listdir(tmp_path) == ["new"]


def test_folders_that_stayed_empty_are_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "mine").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        for place in ("new/deep/file", "mine/file"):
            with pytest.raises(OutputError, match="the disk is full"):
                write_whole(tmp_path / place, b"")
    with pytest.raises(OutputError, match="too long"):
        write_whole(tmp_path / "new" / ("x" * 300) / "file", b"")
    assert os.listdir(tmp_path) == ["mine"]
    assert os.listdir(tmp_path / "mine") == []
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputError, match="is not a folder"):
        check_writable(tmp_path / "dangling" / "file")


def test_next_free_path(tmp_path: Path) -> None:
    found = []
    for _ in range(3):
        found.append(next_free_path(tmp_path, "apple", ".png"))
        found[-1].touch()
    assert [path.name for path in found] == ["apple.png", "apple-2.png", "apple-3.png"]
    assert next_free_path(tmp_path / "new", "apple", ".png") == tmp_path / "new" / "apple.png"
