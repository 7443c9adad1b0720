"""Where the seconds of a run go: measured here for every stage, whether anybody asks or not."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Spent:
    """Seconds on the clock, and of processors: more of these where several worked at once."""

    wall: float = 0.0
    processor: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.wall + other.wall, self.processor + other.processor)

    def __sub__(self, other: Spent) -> Spent:
        return Spent(self.wall - other.wall, self.processor - other.processor)


@dataclass(frozen=True)
class Shift:
    """What a worker has done so far."""

    loading: Spent  # from its start until its tools were made
    busy: Spent = Spent()  # with recordings, those that failed too
    waited_s: float = 0.0  # for a next recording; not what came after its last
    recordings: int = 0


def of_process() -> float:
    """Processor seconds of this process, all its threads, and of its children that have ended."""
    return time.process_time() + _of_children()


def of_thread() -> float:
    """Processor seconds of the calling thread, and of this process's children that have ended."""
    return time.thread_time() + _of_children()


def _of_children() -> float:
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime


class Stopwatch:
    """What each stage spends. A second belongs to the innermost stage that is open.

    Of several threads each needs its own.

    Args:
        processor: the processor seconds so far: :func:`of_process`, :func:`of_thread` or the like.
        on_stage: told of each stage that begins, but not of those within another.
    """

    def __init__(
        self,
        processor: Callable[[], float] = of_process,
        on_stage: Callable[[str], None] | None = None,
    ) -> None:
        self._processor, self._on_stage = processor, on_stage
        self._open: list[str] = []
        self._since = Spent()
        self.spent: dict[str, Spent] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """The body is this stage's."""
        self._charge()
        if self._on_stage is not None and not self._open:
            self._on_stage(name)
        self._open.append(name)
        self.spent.setdefault(name, Spent())
        try:
            yield
        finally:
            self._charge()
            self._open.pop()

    def add(self, spent: Mapping[str, Spent]) -> None:
        """Add what others have spent."""
        for name, more in spent.items():
            self.spent[name] = self.spent.get(name, Spent()) + more

    @property
    def wall(self) -> dict[str, float]:
        """Seconds on the clock, by stage."""
        return {name: spent.wall for name, spent in self.spent.items()}

    def _charge(self) -> None:
        # That of processes of one machine agrees, so that a worker can tell how long ago it was started.
        now = Spent(time.monotonic(), self._processor())
        if self._open:
            self.spent[self._open[-1]] += now - self._since
        self._since = now
