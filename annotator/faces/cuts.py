"""Where one shot ends and the next begins, found by what the pictures show."""

from __future__ import annotations

from array import array

import numpy as np
from numpy.typing import NDArray

# A cut changes the picture by this many hundredths of its contrast, and by so many times what the pictures
# just before and after it change by: moves of people and camera go on, a cut is over at once. (As in
# PySceneDetect's AdaptiveDetector, but on standardised pictures: dark ones count like bright ones, and a
# lamp that is switched is none. Measured against it in docs/results/faces.md.)
MIN_CHANGE, MIN_RATIO = 16.0, 3.0
AROUND = 2  # pictures before and after that a change is compared with
MIN_CONTRAST = 8.0  # grey levels of 255; the noise of a black picture is not stretched beyond it


class CutDetector:
    """Finds cuts in small pictures that come one by one, 12 a second or more.

    Memory: 16 bytes a picture.
    """

    def __init__(self) -> None:
        self._times = array("d")
        self._changes = array("d")  # from the picture before; 0 for the first
        self._last: NDArray[np.float32] | None = None

    def add(self, time_s: float, picture: NDArray[np.uint8]) -> None:
        """Look at the next picture.

        Args:
            time_s: presentation time, later than that of the picture before.
            picture: ``(h, w, 3)`` RGB, all of one size, such as 36 x 64.
        """
        now = picture.astype(np.float32)
        now -= now.mean((0, 1), keepdims=True)
        now *= 100 / max(float(now.std()), MIN_CONTRAST)
        change = 0.0 if self._last is None else float(np.abs(now - self._last).mean())
        self._times.append(time_s)
        self._changes.append(change)
        self._last = now

    def cuts(self) -> list[float]:
        """The times of the first pictures of new shots, seconds, in order."""
        changes = np.asarray(self._changes)
        times = []
        for i in np.flatnonzero(changes > MIN_CHANGE):
            around = np.r_[changes[max(1, i - AROUND) : i], changes[i + 1 : i + 1 + AROUND]]
            if len(around) == 0 or changes[i] > MIN_RATIO * around.mean():
                times.append(self._times[i])
        return times
