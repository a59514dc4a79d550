"""Writing a file whole or not at all."""

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from sfumato.errors import OutputError

# Where the file system has no hard links (FAT, some network drives), `os.link` says one of these.
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EACCES})


def cache_folder() -> Path:
    """The folder for what took long to make: `SFUMATO_CACHE`, else `sfumato` in the user's cache (`XDG_CACHE_HOME`, `~/.cache`)."""
    own = os.environ.get("SFUMATO_CACHE")
    users = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(own).expanduser() if own else users / "sfumato"


def write_whole(path: Path, contents: bytes, *, overwrite: bool = False) -> None:
    """Write a file that appears at `path` complete, or not at all.

    The bytes go to a hidden file in the same folder, are forced to the disk, and take their name in one step; a file that is there stays
    as it is unless `overwrite`. Missing folders are made, and are gone again when the file could not be written.
    Raises OutputError when the file exists or can't be written.
    """
    with whole_file(path, overwrite=overwrite) as file:
        file.write(contents)


@contextlib.contextmanager
def whole_file(path: Path, *, overwrite: bool = False) -> Iterator[BinaryIO]:
    """A file to write, which appears at `path` when the block has ended, as `write_whole` says. Raises OutputError."""
    with as_output_error(path), _folders_for(path), _hidden_in(path.parent) as hidden:
        with open(hidden, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if overwrite:
            os.replace(hidden, path)
        else:
            _take_name(hidden, path)


def check_writable(path: Path, *, overwrite: bool = False) -> None:
    """Raise now, before the work, the OutputError that `write_whole` would raise after it: as far as that can be known.

    Leaves nothing behind: where folders are missing, the nearest one that is there is tried.
    """
    with as_output_error(path), _hidden_in(_nearest_folder(path.parent)) as hidden:
        hidden.touch(exist_ok=False)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not overwrite and os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))


def next_free_path(folder: Path, stem: str, suffix: str) -> Path:
    """`stem.suffix` in the folder, or `stem-2.suffix` and so on: the first that no file has."""
    path, number = folder / f"{stem}{suffix}", 1
    while os.path.lexists(path):
        number += 1
        path = folder / f"{stem}-{number}{suffix}"
    return path


@contextlib.contextmanager
def as_output_error(path: Path) -> Iterator[None]:
    """While the block writes what is to be `path`, what the system says against it becomes an OutputError that names `path`."""
    try:
        yield
    except OSError as error:
        raise _unwritable(path, error) from error


@contextlib.contextmanager
def _folders_for(path: Path) -> Iterator[None]:
    """The folders of `path` are made; those that were missing and stayed empty are gone afterwards."""
    missing = [folder for folder in (path.parent, *path.parent.parents) if not os.path.lexists(folder)]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        for folder in missing:  # the deepest first; one that holds something stays
            with contextlib.suppress(OSError):
                folder.rmdir()


@contextlib.contextmanager
def _hidden_in(folder: Path) -> Iterator[Path]:
    """A name for a hidden file in the folder; the file is gone afterwards."""
    hidden = folder / f".sfumato-{secrets.token_hex(8)}.tmp"
    try:
        yield hidden
    finally:  # an interrupt from the keyboard comes through here too
        with contextlib.suppress(OSError):
            hidden.unlink(missing_ok=True)


def _nearest_folder(folder: Path) -> Path:
    """The folder, or the first above it that is there. Raises OSError for what is no folder, or can't be one."""
    for candidate in (folder, *folder.parents):
        try:
            if stat.S_ISDIR(candidate.stat().st_mode):
                return candidate
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        except FileNotFoundError:
            if candidate.is_symlink():  # one that leads nowhere: no folder can be made in its place
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None
    return folder


def _take_name(hidden: Path, path: Path) -> None:
    """Give the finished file its name, unless another has it: in one step, whoever else is writing."""
    try:
        os.link(hidden, path)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))  # the name is ours from here on
        os.replace(hidden, path)


def _unwritable(path: Path, error: OSError) -> OutputError:
    if error.errno == errno.EEXIST and path.parent.is_dir():
        return OutputError(f"{path} exists already and is left as it is; choose another name, or ask to overwrite it")
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            reason, cure = "the disk is full", "free some space, or choose another folder"
        case errno.EROFS | errno.EACCES | errno.EPERM:
            reason, cure = f"the folder {path.parent} can't be written to", "choose another, or change its permissions"
        case errno.ENOTDIR | errno.EEXIST:
            reason, cure = f"{path.parent} is not a folder", "choose another"
        case errno.EISDIR:
            reason, cure = "it is a folder", "choose a file name"
        case errno.ENAMETOOLONG:
            reason, cure = "its name is too long", "choose a shorter one"
        case _:
            reason, cure = error.strerror or str(error), "choose another place"
    return OutputError(f"can't write {path}: {reason}; {cure}")
