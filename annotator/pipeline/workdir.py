"""The folder of a run's finished parts and cached features: what makes a run resumable.

labels.work/
  lock, lock.shard-i-of-N      held while a run works here (flock: freed by the kernel when it dies)
  inputs.json                  content hashes by path, size, times and inode
  prepared/<key>.safetensors   utterances and features of a recording, before the network
  parts/<key>.parquet          rows of a recording
  failures/<key>.json          why a recording failed, and how often it was tried
  manifest[-i-of-N].json       which file has which part: the table is merged from these
  tmp/<owner>/                 decoded sound while a recording is in hand
"""

from __future__ import annotations

import fcntl
import glob
import hashlib
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from annotator.records import SetupError
from annotator.table import write_json


def hash_json(value: Any) -> str:
    """SHA-256 of a JSON value in canonical form, hex."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


class WorkDir:
    """Paths and bookkeeping below one work folder, for one run or one shard of it."""

    def __init__(self, root: Path, shard: tuple[int, int] | None = None) -> None:
        self.root = root
        self.shard = shard
        self._suffix = f"-{shard[0]}-of-{shard[1]}" if shard else ""
        self._inputs_file = root / f"inputs{self._suffix}.json"
        self._inputs: dict[str, list[Any]] = {}

    @property
    def manifest_file(self) -> Path:
        return self.root / f"manifest{self._suffix}.json"

    @property
    def scratch(self) -> Path:
        return self.root / "tmp" / (f"shard{self._suffix}" if self.shard else "whole")

    def prepared_file(self, key: str) -> Path:
        return self.root / "prepared" / f"{key}.safetensors"

    def part_file(self, key: str) -> Path:
        return self.root / "parts" / f"{key}.parquet"

    def failure_file(self, key: str) -> Path:
        return self.root / "failures" / f"{key}.json"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder: a run alone, or shards side by side.

        Raises: SetupError that says who holds it.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SetupError(f"The work folder {self.root} can't be made: {error.strerror}.") from error
        with ExitStack() as stack:
            if self.shard:
                stack.enter_context(_flock(self.root / "lock", shared=True))
                stack.enter_context(_flock(self.root / f"lock.shard{self._suffix}", shared=False))
            else:
                stack.enter_context(_flock(self.root / "lock", shared=False))
            # What a killed run left behind; nobody else uses it while we hold the lock.
            shutil.rmtree(self.scratch, ignore_errors=True)
            if not self.shard:
                shutil.rmtree(self.root / "tmp", ignore_errors=True)
                for stray in [*self.root.rglob(".*.tmp")]:
                    stray.unlink(missing_ok=True)
            try:
                self.scratch.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise SetupError(f"{self.scratch} can't be made: {error.strerror}.") from error
            self._inputs = self._read_inputs()
            try:
                yield
            finally:
                shutil.rmtree(self.scratch, ignore_errors=True)
                with suppress(OSError):  # another shard's scratch is in it, or that shard was faster
                    (self.root / "tmp").rmdir()

    @contextmanager
    def merging(self, out: Path) -> Iterator[None]:
        """Wait for and hold the right to merge parts into the table ``out`` (shards may share one)."""
        with open(self.root / "lock.merge", "a+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            for stray in out.parent.glob(f".{glob.escape(out.stem)}.*.tmp"):
                stray.unlink(missing_ok=True)  # of a run that was killed while it wrote
            yield

    def _read_inputs(self) -> dict[str, list[Any]]:
        try:
            known: dict[str, list[Any]] = json.loads(self._inputs_file.read_text("utf-8"))
        except (OSError, ValueError):
            return {}  # a cache: hashed anew
        return known

    def content_id(self, path: Path, hash_file: Callable[[Path], str]) -> str:
        """SHA-256 of a file's content, from the cache while size, times and inode are unchanged."""
        stat = path.stat()
        # The change time can't be set by a program, so an edit that restores the old
        # modification time is seen as well.
        stamp = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
        name = os.fsencode(path.absolute()).decode("utf-8", "backslashreplace")
        known = self._inputs.get(name)
        if known is not None and known[:-1] == stamp:
            return str(known[-1])
        digest = hash_file(path)
        self._inputs[name] = [*stamp, digest]
        return digest

    def save_inputs(self) -> None:
        write_json(self._inputs_file, dict(self._inputs))  # a copy: the scan goes on meanwhile

    def read_failure(self, key: str) -> dict[str, Any] | None:
        try:
            failure: dict[str, Any] = json.loads(self.failure_file(key).read_text("utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        return failure


@contextmanager
def _flock(path: Path, *, shared: bool) -> Iterator[IO[str]]:
    try:
        file = open(path, "a+", encoding="utf-8")
    except OSError as error:
        raise SetupError(f"The lock {path} can't be opened: {error.strerror}.") from error
    with file:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as error:
            if not isinstance(error, BlockingIOError):
                raise SetupError(
                    f"{path.parent} can't be locked ({error.strerror}): give a --work-dir on a local disk."
                ) from error
            file.seek(0)
            holder = file.read().strip() or "another run"
            raise SetupError(
                f"{holder} is working in {path.parent}. Wait for it, stop it, "
                "or give this run another --out or --work-dir."
            ) from None
        if not shared:
            file.seek(0)
            file.truncate()
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
        yield file
