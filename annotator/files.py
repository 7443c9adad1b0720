"""Files and folders that are there whole or not at all.

They are written under another name on the same disk, synced and renamed, and then the folder around them is
synced: neither a kill nor a power cut leaves half of one under its final name.
"""

from __future__ import annotations

import ctypes
import glob
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
from safetensors import SafetensorError

from annotator import plain_json
from annotator.records import SetupError

REMEDY = "Free some space or choose another place; the same command goes on from what is finished"
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of linux/fs.h and fcntl.h
_RANDOM_DIGITS = 16  # hex, in the name of a temporary file
_MODE = 0o777  # of a new folder, before the user's umask


class Unwritable(SetupError):
    """A file or folder can't be written: the disk is full, or the place is not ours to write to."""


@contextmanager
def written_whole(path: Path, scratch: Path | None = None) -> Iterator[Path]:
    """A temporary file that becomes ``path`` when the body ends well, and vanishes when it doesn't.

    Args:
        scratch: where the temporary file lies, on the same disk; beside ``path`` by default.

    Raises: Unwritable.
    """
    temporary = (scratch or path.parent) / _temporary_name(path)
    with _one_sentence(path, REMEDY):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            made = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            mode = os.fstat(made).st_mode  # what the user's umask gives
            os.close(made)
            yield temporary
            temporary.chmod(mode)  # safetensors makes files that nobody else could read
            rename(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def written_folder(out: Path, *, anew: bool = True, remedy: str = REMEDY) -> Iterator[Path]:
    """A temporary folder that becomes ``out`` when the body ends well, and vanishes when it doesn't.

    Args:
        anew: ``out`` must not be there, or be empty; otherwise it is replaced, if it is there.
        remedy: what to do where it can't be written, without the full stop.

    Raises: Unwritable, also where ``anew`` does not hold.
    """
    temporary = out.parent / _temporary_name(out)
    with _one_sentence(out, remedy):
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            temporary.mkdir(_MODE)
            yield temporary
            if anew:
                sync_tree(temporary)
                os.replace(temporary, out)
                sync(out.parent)
            else:
                replace_folder(temporary, out)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def left_by_kill(path: Path) -> list[Path]:
    """Temporary files of ``path`` beside it: of whoever is writing it now, or was killed while writing it."""
    pattern = f".{glob.escape(path.name)}.{'[0-9a-f]' * _RANDOM_DIGITS}.tmp"
    return [file for file in path.parent.glob(pattern) if not file.is_dir()]


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, where they are not there. Raises: Unwritable."""
    with _one_sentence(folder, REMEDY):
        folder.mkdir(parents=True, exist_ok=True)


def write_text(path: Path, text: str, scratch: Path | None = None) -> None:
    """Write UTF-8 whole or not at all; ``scratch`` and errors as for :func:`written_whole`."""
    with written_whole(path, scratch) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any, scratch: Path | None = None) -> None:
    """Write JSON whole or not at all; ``scratch`` and errors as for :func:`written_whole`."""
    text = json.dumps(plain_json.finite(value), indent=1, sort_keys=True, allow_nan=False)
    write_text(path, text + "\n", scratch)


def rename(made: Path, path: Path) -> None:
    """Give a finished file its name, in the place of an earlier one. Raises: OSError."""
    sync(made)
    os.replace(made, path)
    sync(path.parent)


def replace_folder(made: Path, out: Path) -> None:
    """Give a finished folder its name, in the place of an earlier one: at every moment one of them is there.

    Where the kernel can't exchange two folders at once there is a moment between two renames in which the old
    one is hidden beside it; a fault at that moment puts it back, and so does the next call after a kill.

    Raises: OSError; the old one is in its place then.
    """
    sync_tree(made)
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
    sync(out.parent)
    _delete(earlier)


def sync_tree(folder: Path) -> None:
    """Have a folder and all that is in it on the disk. Raises: OSError."""
    for path in folder.rglob("*"):
        if not path.is_symlink():
            sync(path)
    sync(folder)


def sync(path: Path) -> None:
    """Have a file's content, or a folder's names, on the disk. Raises: OSError."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _one_sentence(path: Path, remedy: str) -> Iterator[None]:
    """Faults of the disk as one sentence."""
    try:
        yield
    except (OSError, SafetensorError, pl.exceptions.PolarsError) as error:
        # The libraries that write for us wrap a full disk in errors of their own.
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise Unwritable(f"{path} can't be written: {reason}. {remedy}.") from error


def _temporary_name(path: Path) -> str:
    """A name that nobody can foretell, so that nobody can have put a link there."""
    return f".{path.name}.{secrets.token_hex(_RANDOM_DIGITS // 2)}.tmp"


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
