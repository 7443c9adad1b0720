"""Folders that a command may empty or replace: only those that it made itself.

A folder of intermediate files is marked when it is made; without the mark nothing in it is ever deleted. A
result that is replaced as a whole (a corpus, a checkpoint) is replaced only while it holds nothing else.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from annotator.records import SetupError, UsageError

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


def keep_only(folder: Path, names: Collection[str]) -> None:
    """Delete the files of a folder that carries our mark, but those of these names; without any, all of it.

    Raises: SetupError when one can't be deleted.
    """
    try:
        for name in set(os.listdir(folder)) - {MARK, *names}:
            (folder / name).unlink()
    except OSError as error:
        raise SetupError(f"{folder} holds old files that can't be deleted: {error.strerror}.") from error
    if not names:
        remove(folder)


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
