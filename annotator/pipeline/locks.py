"""Locks between runs: files under flock, which the kernel frees when their holder dies.

A lock file says who holds it, one line a process. The last holder takes it away; what a killed one left
behind is taken over by the next.
"""

from __future__ import annotations

import fcntl
import os
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from annotator.records import SetupError

_HOLDER = re.compile(r"process (\d+) on (\S+)")


@contextmanager
def held(path: Path, place: Path, shard: tuple[int, int] | None = None) -> Iterator[None]:
    """Hold ``place`` for a run alone, or for one of its shards beside the others, by the lock file ``path``.

    Raises: SetupError that says who holds it, or that it can't be locked.
    """
    with ExitStack() as stack:
        if shard is None:
            stack.enter_context(_locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB, place))
        else:
            own = path.with_name(f"{path.name}.shard-{shard[0]}-of-{shard[1]}")
            stack.enter_context(_locked(path, fcntl.LOCK_SH | fcntl.LOCK_NB, place))
            stack.enter_context(_locked(own, fcntl.LOCK_EX | fcntl.LOCK_NB, place))
        yield


@contextmanager
def waited_for(path: Path, place: Path) -> Iterator[None]:
    """Hold ``place`` alone by the lock file ``path``, as soon as whoever has it is done."""
    with _locked(path, fcntl.LOCK_EX, place):
        yield


@contextmanager
def _locked(path: Path, how: int, place: Path) -> Iterator[None]:
    handle = _take(path, how, place)
    try:
        yield
    finally:
        try:
            # Who shares the lock keeps its file. Who opened it meanwhile sees that it is gone.
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(path, handle):
                path.unlink()
        except OSError:
            pass  # an empty file under a freed lock harms nobody
        os.close(handle)


def _take(path: Path, how: int, place: Path) -> int:
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Not through a link: what it points to would be overwritten.
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
            handle = os.open(path, flags, 0o666)
        except OSError as error:
            raise SetupError(
                f"The lock {path} can't be made: {error.strerror}. Choose another place, or mend this one."
            ) from error
        try:
            fcntl.flock(handle, how)
            if not _is_at(path, handle):  # its last holder took it away while we opened it
                os.close(handle)
                continue
            if not how & fcntl.LOCK_SH:
                os.ftruncate(handle, 0)
            os.write(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
            return handle
        except BlockingIOError:
            holders = " and ".join(_holders(handle)) or "another run"
            os.close(handle)
            raise SetupError(
                f"{place} is in use by {holders}. Wait for it, stop it, or give this run another --out "
                "and --work-dir."
            ) from None
        except OSError as error:
            os.close(handle)
            raise SetupError(
                f"{path.parent} can't be locked ({error.strerror}): choose a place on a local disk."
            ) from error


def _is_at(path: Path, handle: int) -> bool:
    """Whether the open file still is the one at ``path``."""
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(handle))
    except FileNotFoundError:
        return False


def _holders(handle: int) -> list[str]:
    """Who wrote themselves into a lock file, without those known to be dead."""
    lines = os.pread(handle, 4096, 0).decode("utf-8", "replace").splitlines()
    return [line for line in dict.fromkeys(lines) if line.isprintable() and not _is_dead(line)]


def _is_dead(line: str) -> bool:
    match = _HOLDER.fullmatch(line)
    if match is None or match[2] != socket.gethostname():
        return False
    try:
        os.kill(int(match[1]), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        pass
    return False
