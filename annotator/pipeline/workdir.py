"""The folder of a run's finished parts and cached features: what makes a run resumable.

labels.work/
  lock, lock.shard-i-of-N      there while a run works here
  inputs.json                  content hashes by path, size, times and inode
  stages/<key>.safetensors     what single stages gave for a recording, see kept.py
  prepared/<key>.safetensors   utterances and features of a recording, before the network
  parts/<key>.parquet          rows of a recording
  failures/<key>.json          why a recording failed, and how often it was tried
  manifest[-i-of-N].json       which file has which part: the table is merged from these
  scratch/<owner>/             decoded sound of a recording in hand, and files not yet whole
  .made-by-annotate            without it nothing in the folder is deleted
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from annotator import folders, plain_json
from annotator.files import left_by_kill, write_json
from annotator.pipeline import locks
from annotator.pipeline.manifests import as_failure
from annotator.records import SetupError, UsageError

log = logging.getLogger("annotator")

HASH = re.compile(r"[0-9a-f]{64}")


def hash_json(value: Any) -> str:
    """SHA-256 of a JSON value in canonical form, hex."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


class OutputFiles(NamedTuple):
    """The files of a table."""

    table: Path
    failures: Path
    recordings: Path
    record: Path  # of the run

    @classmethod
    def beside(cls, out: Path) -> OutputFiles:
        """Those of the table ``out``."""
        return cls(
            table=out,
            failures=out.with_suffix(".failures.csv"),
            recordings=out.with_suffix(f".recordings{out.suffix}"),
            record=out.with_suffix(".run.json"),
        )


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
        for file in OutputFiles.beside(out):
            for stray in left_by_kill(file):
                stray.unlink(missing_ok=True)
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

    @property
    def stages(self) -> Path:
        return self.root / "stages"

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
            known = plain_json.read(self._inputs_file)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError):
            known = None
        sound = {}
        if isinstance(known, dict):
            sound = {name: entry for name, entry in known.items() if _is_input(entry)}
        if not isinstance(known, dict) or len(sound) < len(known):
            # A cache: what is not as a run writes it is hashed anew.
            log.warning("%s is damaged: the inputs are hashed again.", self._inputs_file)
        return sound

    def content_id(self, path: Path, stamp: Sequence[int], hash_file: Callable[[Path], str]) -> str:
        """SHA-256 of a file's content, from the cache while its stamp (see ``media.stamps``) is unchanged."""
        name = os.fsencode(path.absolute()).decode("utf-8", "backslashreplace")
        known = self._inputs.get(name)
        if known is not None and known[:-1] == list(stamp):
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
        """Why a recording failed before: ``stage``, ``error``, ``message`` and ``attempts``.

        None where nothing is noted, or what is noted is not as a run writes it: then it is tried again.
        """
        try:
            failure = plain_json.read(self.failure_file(key))
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            failure = None
        if noted := as_failure(failure):
            return noted
        log.warning("%s is damaged: that recording is tried again.", self.failure_file(key))
        return None


def _is_input(entry: Any) -> bool:
    return (
        isinstance(entry, list)
        and len(entry) == 5
        and all(isinstance(number, int) for number in entry[:-1])
        and isinstance(entry[-1], str)
        and HASH.fullmatch(entry[-1]) is not None
    )
