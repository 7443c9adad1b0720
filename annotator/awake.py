"""Time as a limit counts it: without what a process spent stopped.

Ctrl-Z, a frozen container and a sleeping laptop stop a run, and nobody is to blame for it. The clock of the
system goes on meanwhile, so time is added up in steps, and a step that took much longer than it should counts
as that long only.
"""

from __future__ import annotations

import time

STEP_S = 1.0  # how long whoever waits may wait before looking at the clock again


class Awake:
    """Seconds since it was made, as far as they were looked at.

    Args:
        longest_step_s: the most that counts between two looks.
    """

    def __init__(self, longest_step_s: float = 5 * STEP_S) -> None:
        self._longest_step_s = longest_step_s
        self._seconds = 0.0
        self._last = time.monotonic()

    def seconds(self) -> float:
        """What has passed until now."""
        now = time.monotonic()
        self._seconds += min(now - self._last, self._longest_step_s)
        self._last = now
        return self._seconds
