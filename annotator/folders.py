"""Folders that a command may empty or replace: only those that it made itself.

A folder of intermediate files is marked when it is made; without the mark nothing in it is ever deleted. A
result that is replaced as a whole (a corpus, a checkpoint) is replaced only while it holds nothing else.
"""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from annotator.records import SetupError, UsageError

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of linux/fs.h and fcntl.h
MARK = ".made-by-annotate"
MARK_TEXT = (
    "Intermediate files of conversation-annotator. The folder is deleted by the command that made it.\n"
)


def claim(folder: Path, purpose: str) -> None:
    """Make ``folder`` one of ours, or see that it is: new, empty, or marked.

    Args:
        purpose: what it is, for the message, such as ``the work folder``.

    Raises:
        UsageError: it holds something and has no mark, or is no folder.
        SetupError: it can't be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # One listing, so that another shard that is just marking the folder is not taken for a stranger.
        names = os.listdir(folder)
        if names and MARK not in names:
            raise UsageError(
                f"{folder} is to be {purpose}, but it holds other files ({sorted(names)[0]!r}, for one), and "
                "nothing of them may be lost. Name a new or empty folder, or move this one out of the way."
            )
        if not names:
            (folder / MARK).write_text(MARK_TEXT, "ascii")
    except (FileExistsError, NotADirectoryError):
        raise UsageError(f"{folder} is to be {purpose}, but it is a file. Name another place.") from None
    except OSError as error:
        raise SetupError(f"{folder} can't be made: {error.strerror}.") from error


@contextmanager
def claimed(folder: Path, purpose: str) -> Iterator[None]:
    """As :func:`claim`; if nothing is put into the folder, it goes at the end."""
    claim(folder, purpose)
    try:
        yield
    finally:
        if folder.is_dir() and os.listdir(folder) == [MARK]:
            remove(folder)


def remove(folder: Path) -> None:
    """Delete a folder that carries our mark, with all that is in it; any other is left alone."""
    if not folder.is_symlink() and (folder / MARK).is_file():
        shutil.rmtree(folder, ignore_errors=True)


def replace(made: Path, out: Path) -> None:
    """Move a finished folder to its place, in that of an earlier one: at every moment one of them is there.

    Where the kernel can't exchange two folders at once there is a moment between two renames in which the old
    one is hidden beside it; a fault at that moment puts it back, and so does the next call after a kill.

    Raises: OSError; the old one is in its place then.
    """
    earlier = out.with_name(f".{out.name}.replaced-by-annotate")
    if earlier.is_dir():  # a run was killed between the two renames, or before it could clean up
        if out.exists():
            _delete(earlier)
        else:
            os.rename(earlier, out)
    if not out.exists():
        os.rename(made, out)
    elif _exchange(made, out):
        os.rename(made, earlier)
    else:
        os.rename(out, earlier)
        try:
            os.rename(made, out)
        except BaseException:
            os.rename(earlier, out)
            raise
    _sync(out.parent)
    _delete(earlier)


def _delete(folder: Path) -> None:
    if folder.is_symlink():
        folder.unlink()
    else:
        shutil.rmtree(folder, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Give two folders each other's names at once; False where the system can't."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        return False
    names = os.fsencode(one), os.fsencode(other)
    return bool(rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def check_replaceable(out: Path, kind: str, is_part: Callable[[str], bool], header: str) -> None:
    """Refuse to replace what is no result of ours, or holds more than such a result.

    Args:
        kind: what the result is, such as ``corpus``.
        is_part: whether a name directly below ``out`` belongs to such a result.
        header: the file that every such result has.

    Raises:
        UsageError: ``out`` is a file, another folder, or holds files that are not of the result.
    """
    if not out.exists() and not out.is_symlink():
        return
    if not out.is_dir():
        raise UsageError(f"{out} exists and is no {kind}: nothing was written. Choose another place.")
    names = sorted(os.listdir(out))
    if names and header not in names:
        raise UsageError(f"{out} exists and is no {kind}: nothing was written. Choose another place.")
    foreign = [name for name in names if not is_part(name)]
    if foreign:
        raise UsageError(
            f"{out} holds more than a {kind} ({foreign[0]!r}, for one), which replacing it would delete: "
            "nothing was written. Move that away, or choose another place."
        )
