"""What a person sees of a run while it goes on: a bar on a terminal, a line a minute where there is none."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType

from tqdm import tqdm

log = logging.getLogger("annotator")

TICK_S = 0.5  # between two looks; whoever watches sees that it is alive
LINE_S = 60.0  # between two lines where there is no terminal
WIDEST = 60  # letters of what is being done


class Progress:
    """Shows seconds of recording that are done, the time left, and what is being done, until it is left.

    A thread of its own redraws, so that it moves while the process loads, reads or labels.

    Args:
        shown: nothing at all where false.
        doing: what is being done at the moment, in a few words.
    """

    def __init__(self, shown: bool, doing: Callable[[], str]) -> None:
        self._shown, self._doing = shown, doing
        self._total_s = self._done_s = 0.0
        self._begun = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._tick, name="progress", daemon=True)

    def __enter__(self) -> Progress:
        self._bar = tqdm(
            total=0,
            disable=None if self._shown else True,  # None: only on a terminal
            bar_format="{percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s [{elapsed}<{remaining}{postfix}]",
        )
        self._begun = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._draw("")
        self._bar.close()

    def expect(self, seconds: float) -> None:
        """Another recording of this length was found."""
        self._total_s += seconds

    def add(self, seconds: float) -> None:
        """A recording of this length is done."""
        self._done_s += seconds

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
        self._bar.total = self._total_s
        self._bar.set_postfix_str(doing[:WIDEST], refresh=False)
        self._bar.update(self._done_s - self._bar.n)
        self._bar.refresh()

    def _line(self, doing: str) -> str:
        spent = time.monotonic() - self._begun
        left = ""
        if self._done_s:
            left = f", about {clock(spent * (self._total_s - self._done_s) / self._done_s)} left"
        return f"{self._done_s:.0f} of {self._total_s:.0f} s of recordings done{left}: {doing}"


def clock(seconds: float) -> str:
    """A length of time for people, such as ``45 s``, ``12 min`` or ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
