"""How far a run is: a bar on a terminal, a line a minute where there is none, or a function that is told."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

from tqdm import tqdm

log = logging.getLogger("annotator")

TICK_S = 0.5  # between two looks; whoever watches sees that it is alive
LINE_S = 60.0  # between two lines where there is no terminal
WIDEST = 60  # letters of what is being done


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    A recording is done when its features are there, or it has failed; the network labels them in batches.
    """

    done_s: float  # seconds of recording that are done
    total_s: float  # of all that were looked at so far: grows while the run looks through its inputs
    recordings_done: int
    recordings: int  # inputs of the run
    file: str | None  # the recording that was begun last


OnProgress = Callable[[Progress], None]


class Meter:
    """Tells of the progress of a run, until it is left.

    A thread of its own redraws the bar, so that it moves while the process loads, reads or labels.

    Args:
        recordings: inputs of the run.
        to: a function that gets every step; True: a bar, if standard error is a terminal, else lines of the
            log; False: nobody.
        doing: what is being done at the moment, in a few words.
    """

    def __init__(self, recordings: int, to: bool | OnProgress, doing: Callable[[], str]) -> None:
        self._now = Progress(0.0, 0.0, 0, recordings, None)
        self._tell = to if callable(to) else None
        self._shown = to is True
        self._doing = doing
        self._begun = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._tick, name="progress", daemon=True)

    def __enter__(self) -> Meter:
        self._bar = tqdm(
            total=0,
            disable=None if self._shown else True,  # None: only on a terminal
            bar_format="{percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s [{elapsed}<{remaining}{postfix}]",
        )
        self._begun = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._draw("")
        self._bar.close()

    def found(self, duration_s: float) -> None:
        """A recording is to come."""
        self._step(total_s=self._now.total_s + duration_s)

    def begun(self, file: str) -> None:
        """A worker has it in hand."""
        self._step(file=file)

    def done(self, duration_s: float) -> None:
        """A recording is done, or failed."""
        self._step(done_s=self._now.done_s + duration_s, recordings_done=self._now.recordings_done + 1)

    def _step(self, **changed: Any) -> None:
        self._now = replace(self._now, **changed)
        if self._tell is not None:
            self._tell(self._now)

    def _tick(self) -> None:
        told = self._begun
        while not self._ended.wait(TICK_S):
            doing = self._doing()
            if not self._bar.disable:
                self._draw(doing)
            elif self._shown and time.monotonic() - told >= LINE_S:
                told = time.monotonic()
                log.info("%s", self._line(doing))

    def _draw(self, doing: str) -> None:
        self._bar.total = self._now.total_s
        self._bar.set_postfix_str(doing[:WIDEST], refresh=False)
        self._bar.update(self._now.done_s - self._bar.n)
        self._bar.refresh()

    def _line(self, doing: str) -> str:
        done_s, total_s = self._now.done_s, self._now.total_s
        if not total_s:  # what there is is not known yet
            return doing
        spent = time.monotonic() - self._begun
        left = f", about {clock(spent * (total_s - done_s) / done_s)} left" if done_s else ""
        return f"{done_s:.0f} of {total_s:.0f} s of recordings done{left}: {doing}"


def clock(seconds: float) -> str:
    """A length of time for people, such as ``45 s``, ``12 min`` or ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
