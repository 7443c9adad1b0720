"""What SIGINT and SIGTERM mean to a run."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

log = logging.getLogger("annotator")


@dataclass
class Stop:
    """The first SIGINT or SIGTERM asks to stop after what is in hand; the second stops at once."""

    signal: int | None = None
    waiting_for: Callable[[], str] = lambda: "what is in hand"

    @contextmanager
    def listening(self) -> Iterator[None]:
        before: dict[signal.Signals, Any] = {}
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread may handle signals; a server that runs us has handlers of its own
            return

        def restore() -> None:
            for number, handler in before.items():
                signal.signal(number, handler)

        def on_signal(number: int, _frame: FrameType | None) -> None:
            self.signal = number
            restore()
            log.warning("Stopping after %s; once more stops at once.", self.waiting_for())

        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, on_signal)
        try:
            yield
        finally:
            restore()
