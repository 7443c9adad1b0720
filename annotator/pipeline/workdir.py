"""The folder of a run's finished parts and cached features: what makes a run resumable.

labels.work/
  lock, lock.shard-i-of-N      there while a run works here
  inputs.json                  content hashes by path, size, times and inode
  prepared/<key>.safetensors   utterances and features of a recording, before the network
  parts/<key>.parquet          rows of a recording
  failures/<key>.json          why a recording failed, and how often it was tried
  manifest[-i-of-N].json       which file has which part: the table is merged from these
  scratch/<owner>/             decoded sound of a recording in hand, and files not yet whole
  .made-by-annotate            without it nothing in the folder is deleted
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from annotator import folders
from annotator.pipeline import locks
from annotator.records import SetupError, UsageError
from annotator.table import write_json


def hash_json(value: Any) -> str:
    """SHA-256 of a JSON value in canonical form, hex."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


@contextmanager
def output_held(out: Path, shard: tuple[int, int] | None = None) -> Iterator[None]:
    """Hold the table ``out`` and the files beside it: a run alone, or shards side by side.

    Raises: SetupError that says who holds it.
    """
    with locks.held(_out_lock(out), out, shard):
        yield


@contextmanager
def output_merging(out: Path) -> Iterator[None]:
    """Wait for and hold the right to write ``out``, which shards may share."""
    lock = _out_lock(out)
    with locks.waited_for(lock.with_name(f"{lock.name}.merge"), out):
        for stray in out.parent.glob(f".{glob.escape(out.stem)}.*.tmp"):
            stray.unlink(missing_ok=True)  # of a run that was killed while it wrote
        yield


def _out_lock(out: Path) -> Path:
    return out.with_name(f".{out.stem}.lock")  # labels.csv and labels.parquet share their other files


class WorkDir:
    """Paths and bookkeeping below one work folder, for one run or one shard of it."""

    def __init__(self, root: Path, shard: tuple[int, int] | None = None) -> None:
        self.root = root
        self.shard = shard
        self._suffix = f"-{shard[0]}-of-{shard[1]}" if shard else ""
        self._inputs_file = root / f"inputs{self._suffix}.json"
        self._inputs: dict[str, list[Any]] = {}
        self._saved = 0  # how many of them were written

    @property
    def manifest_file(self) -> Path:
        return self.root / f"manifest{self._suffix}.json"

    @property
    def scratch(self) -> Path:
        return self._all_scratch / (f"shard{self._suffix}" if self.shard else "whole")

    @property
    def _all_scratch(self) -> Path:
        return self.root / "scratch"

    def prepared_file(self, key: str) -> Path:
        return self.root / "prepared" / f"{key}.safetensors"

    def part_file(self, key: str) -> Path:
        return self.root / "parts" / f"{key}.parquet"

    def failure_file(self, key: str) -> Path:
        return self.root / "failures" / f"{key}.json"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder: a run alone, or shards side by side.

        Raises: UsageError when it is not ours; SetupError that says who holds it.
        """
        folders.claim(self.root, "the work folder")
        if self._all_scratch.is_symlink():
            raise UsageError(f"{self._all_scratch} is a link, which a run never makes: remove it.")
        with locks.held(self.root / "lock", self.root, self.shard):
            # What a killed run left behind; nobody else uses it while we hold the lock.
            shutil.rmtree(self.scratch if self.shard else self._all_scratch, ignore_errors=True)
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
                    self._all_scratch.rmdir()

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

    def save_inputs(self, final: bool = True) -> None:
        """Write the cache of hashes; before the end only once it has grown by a third.

        Else a run of many recordings would write all of them again after each batch.
        """
        if final or len(self._inputs) >= 4 / 3 * self._saved:
            self._saved = len(self._inputs)
            self.write_json(self._inputs_file, dict(self._inputs))  # a copy: the scan goes on meanwhile

    def write_json(self, path: Path, value: Any) -> None:
        """Write a file of this folder whole or not at all, leaving nothing else behind."""
        write_json(path, value, self.scratch)

    def read_failure(self, key: str) -> dict[str, Any] | None:
        try:
            failure: dict[str, Any] = json.loads(self.failure_file(key).read_text("utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        return failure
