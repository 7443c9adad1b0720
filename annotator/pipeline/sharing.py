"""What machines share through a store: finished parts, failures, and the manifests of runs that have ended.

They lie there under the names that they have in a work folder, so a copy of a store is one. The work folder
stays where a run works and what it goes on from; what it could not put into the store lies there until the
next run does.
"""

from __future__ import annotations

import logging
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from annotator import media, plain_json
from annotator.files import write_json, written_whole
from annotator.pipeline.manifests import as_failure, as_manifest, read_manifest
from annotator.pipeline.parts import part_of
from annotator.pipeline.scan import Entry
from annotator.pipeline.workdir import WorkDir
from annotator.records import SetupError, UsageError
from annotator.store import Store, StoreError
from annotator.terminal import counted

log = logging.getLogger("annotator")

PART_BYTES = 64 << 20  # of a part; that of ten hours has some ten million
END_BYTES = 64 << 10  # of a part, in which its own hash lies
FAILURE_BYTES = 1 << 20
AT_ONCE = 8  # files on their way to or from a store
AGAIN_S = 60.0  # after a fault, until the store is tried again
_NAMES = {"parts": re.compile(r"[0-9a-f]{64}\.parquet"), "failures": re.compile(r"[0-9a-f]{64}\.json")}
_MANIFEST = re.compile(r"manifest(-[0-9]+-of-[0-9]+)?\.json")


def part_name(key: str) -> str:
    return f"parts/{key}.parquet"


def failure_name(key: str) -> str:
    return f"failures/{key}.json"


class Sharing:
    """What a run takes from a store and gives to it.

    Args:
        labels: of the model.
        fresh: parts that are there are not taken, and replaced.
    """

    def __init__(self, store: Store, work: WorkDir, labels: Sequence[str], fresh: bool) -> None:
        self._store, self._work, self._labels, self._fresh = store, work, labels, fresh
        self._there: dict[str, int] = {}  # names in the store, and bytes
        self._left: dict[str, str | None] = {}  # names to deliver, with the file_id of a part
        self._not_before = 0.0
        self._fault: StoreError | None = None

    def begin(self) -> None:
        """See that the store can be used, and what is in it. Raises: StoreError."""
        self._store.claim()
        for folder, name in _NAMES.items():
            found = self._store.sizes(folder)
            # One without content counts as none, and is replaced like any that is damaged.
            self._there |= {f"{folder}/{f}": size for f, size in found.items() if size and name.fullmatch(f)}
        parts = sum(name.startswith("parts/") for name in self._there)
        log.info("store: %s, with %s", self._store.url, counted(parts, "part"))

    def has_run(self, part_settings: str) -> bool:
        """Whether a run with these settings and weights has ended on some machine. Raises: StoreError."""
        content = self._store.read(self._work.manifest_file.name, plain_json.MOST_BYTES)
        try:
            return content is not None and (
                as_manifest(plain_json.loads(content))["settings_hash"] == part_settings
            )
        except ValueError:
            return False

    def fetch(self, entry: Entry) -> bool:
        """Take the part of a recording out of the store, for :meth:`found`; False where there is none.

        It writes nothing, as it runs in the scan thread. Raises: StoreError.
        """
        name = part_name(entry.part)
        if self._fresh or name not in self._there:
            return False
        content = self._store.read(name, PART_BYTES)
        assert entry.file_id is not None
        part = part_of(content, entry.part, entry.file_id, self._labels)
        if part is None:
            log.warning("%s in the store is damaged: that recording is done again.", name)
            del self._there[name]
            return False
        entry.fetched, entry.duration_s = content, float(part.facts["duration_s"])
        return True

    def failure(self, key: str) -> dict[str, Any] | None:
        """Why a recording failed elsewhere; None where nothing is noted that is as a run writes it."""
        name = failure_name(key)
        content = self._store.read(name, FAILURE_BYTES) if name in self._there else None
        try:
            return None if content is None else as_failure(plain_json.loads(content))
        except ValueError:
            return None

    def found(self, entry: Entry) -> None:
        """Keep a part that was fetched, or deliver one that an earlier run has left in the work folder.

        Of the latter another machine may have put its own, after that run was killed.
        """
        if entry.fetched is None:
            self._left[part_name(entry.part)] = entry.file_id
            return
        with written_whole(self._work.part_file(entry.part), self._work.scratch) as temporary:
            temporary.write_bytes(entry.fetched)
        entry.fetched = None

    def made(self, entry: Entry) -> None:
        """A part was made; what a run noted of a failure before is void."""
        self._left[part_name(entry.part)] = entry.file_id
        if failure_name(entry.key) in self._there:
            self._left[failure_name(entry.key)] = None

    def failed(self, entry: Entry, *, anew: bool) -> None:
        """A failure is noted in the work folder: just now, or by an earlier run."""
        name = failure_name(entry.key)
        if entry.key and (anew or name not in self._there) and self._work.failure_file(entry.key).exists():
            self._left[name] = None

    def deliver(self, *, last: bool = False) -> None:
        """Put what is finished into the store. What can't be put is tried again after a while.

        Args:
            last: do not wait until then.
        """
        if not self._left or (time.monotonic() < self._not_before and not last):
            return
        first, *others = self._left
        try:
            self._deliver(first)  # where this fails, others would each wait as long
            with ThreadPoolExecutor(AT_ONCE) as several:
                list(several.map(self._deliver, others))
            self._fault = None
        except StoreError as error:
            if self._fault is None and not last:
                log.warning("%s What is finished is put there later.", error)
            self._fault, self._not_before = error, time.monotonic() + AGAIN_S

    def _deliver(self, name: str) -> None:
        file_id = self._left[name]
        try:
            content = (self._work.root / name).read_bytes()
        except FileNotFoundError:
            if file_id is None:  # a failure that is void; a part of the store is not ours to remove
                self._store.remove(name)
                self._there.pop(name, None)
        else:
            if file_id is None or self._fresh:
                self._store.put(name, content)
            elif not self._is_same(name, content) and (
                name in self._there or not self._store.put_new(name, content)
            ):
                content = self._agree(name, content, file_id)
            self._there[name] = len(content)
        del self._left[name]

    def _is_same(self, name: str, own: bytes) -> bool:
        """Whether a part in the store is ours, by its size and its end; without fetching all of it."""
        size = self._there.get(name)
        return size == len(own) and self._store.read_end(name, size, END_BYTES) == own[-END_BYTES:]

    def _agree(self, name: str, own: bytes, file_id: str) -> bytes:
        """Another machine has put the part of a recording before: it stays, and takes the place of ours.

        Returns: what is in the store then.
        """
        path = self._work.root / name
        theirs = self._store.read(name, PART_BYTES)
        if theirs is None or part_of(theirs, path.stem, file_id, self._labels) is None:
            log.warning("%s in the store is damaged: it is replaced.", name)
            self._store.put(name, own)
            return own
        if theirs != own:
            with written_whole(path, self._work.scratch) as temporary:
                temporary.write_bytes(theirs)
        return theirs

    def end(self) -> str | None:
        """Put the manifest of the run, of which all parts are there.

        Returns: a sentence that says what the store lacks, and why; None where it has everything.
        """
        if self._fault is None:
            try:
                self._store.put(self._work.manifest_file.name, self._work.manifest_file.read_bytes())
                return None
            except StoreError as error:
                self._fault = error
        return self.lacks() or f"{self._fault} The store lacks the manifest of this run."

    def lacks(self) -> str | None:
        """A sentence that says what the store lacks, and why; None where it has all that is finished."""
        lacking = [n for n, part in self._left.items() if self._fresh or part is None or n not in self._there]
        if self._fault is None or not lacking:
            return None
        what = counted(len(lacking), "finished file")
        return f"{self._fault} {what} of this run lie in {self._work.root} only."


@contextmanager
def spooled(url: str) -> Iterator[Path]:
    """What runs have left in a store, as a work folder of this machine to merge from; it goes at the end.

    Raises: UsageError when no run with this store has ended; SetupError when a part is missing or damaged, or
    the temporary folder has no room.
    """
    store = Store(url)
    names = [name for name in store.sizes() if _MANIFEST.fullmatch(name)]
    if not names:
        raise UsageError(
            f"{store.url} holds no finished run (no manifest): give the --store of `annotate run`, after it "
            "has ended."
        )
    with ExitStack() as around:
        where = "the temporary folder"
        try:
            where = tempfile.gettempdir()
            folder = Path(around.enter_context(tempfile.TemporaryDirectory(prefix="annotate-store-")))
            _spool(store, names, folder)
        except OSError as error:
            raise SetupError(
                f"What {store.url} holds can't be put into {where}: {error.strerror}. Free as much space "
                "there as the store takes, or name another folder in the environment variable TMPDIR."
            ) from error
        yield folder


def _spool(store: Store, names: Sequence[str], folder: Path) -> None:
    """Fetch manifests by name, and the parts that they name."""
    (folder / "parts").mkdir()
    for name in names:
        (folder / name).write_bytes(store.read(name, plain_json.MOST_BYTES) or b"")
        manifest = read_manifest(folder / name)
        if manifest is not None:  # else the merge says that it is none
            _spool_parts(store, manifest, folder)
            write_json(folder / name, manifest)


def _spool_parts(store: Store, manifest: dict[str, Any], folder: Path) -> None:
    """Fetch the parts that a manifest names, and have it name the hashes of what was found.

    Machines that did the same recording have one key for its part, since that is the hash of all that shapes
    the rows; the part itself is the first one's, and tells other seconds than the manifest's.
    """

    sizes = store.sizes("parts")

    def fetch(line: dict[str, Any]) -> None:
        name = part_name(line["part"])
        content = store.read(name, PART_BYTES) if sizes.get(Path(name).name) else None
        part = part_of(content, line["part"], line["file_id"], manifest["labels"])
        if content is None or part is None:
            raise SetupError(
                f"The part of {media.escaped(line['file'])} in {store.url} is missing or damaged: run the "
                "command that made it again."
            )
        (folder / name).write_bytes(content)
        line["sha256"] = part.sha256

    with ThreadPoolExecutor(AT_ONCE) as several:
        list(several.map(fetch, [line for line in manifest["files"] if line["part"] is not None]))
