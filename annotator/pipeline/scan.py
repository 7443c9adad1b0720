"""An input on its way through a run, and the thread in which inputs are looked at before they are needed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from annotator.records import Media, RecordingError


@dataclass
class Entry:
    """An input on its way through a run."""

    file: str
    path: Path
    failure: RecordingError | None = None
    attempts: int = 1
    file_id: str | None = None
    key: str = ""  # of its prepared form
    part: str = ""  # of its rows
    beside: list[Any] = field(default_factory=list)  # what of the files beside it shapes its rows
    fetched: bytes | None = None  # its part out of a store, until it is written
    media: Media | None = None  # None also when the part is there already
    stamps: Mapping[Path, Sequence[int]] = field(default_factory=dict)  # when it was hashed, see media.stamps
    duration_s: float = 0.0  # as declared; 0 when unknown
    is_new_failure: bool = False  # found in this run, not read from an earlier one


class Scan:
    """Does one thing after the other in a thread that nobody waits for when a run is stopped.

    An executor's thread would be joined at the interpreter's end, however long the file that it hashes.
    """

    def __init__(self, do: Callable[[Entry], None]) -> None:
        self._do = do
        self._waiting: SimpleQueue[tuple[Entry, Future[None]] | None] = SimpleQueue()
        threading.Thread(target=self._work, name="scan", daemon=True).start()

    def submit(self, entry: Entry) -> Future[None]:
        future: Future[None] = Future()
        self._waiting.put((entry, future))
        return future

    def end(self) -> None:
        """Let the thread go once it has done what it was given."""
        self._waiting.put(None)

    def _work(self) -> None:
        while (item := self._waiting.get()) is not None:
            entry, future = item
            try:
                self._do(entry)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(None)
