"""How a mouth moves, and how much that speaks for its owner talking."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from annotator.records import FaceTracks

MAX_GAP_S = 1.0  # observations further apart say nothing of movement
MOTION_FLOOR = 0.05  # deviations of grey: what compression changes in a face that holds still
MAX_SHIFT_PX = 4.0  # of a crop: a face moves no further inside its box from one observation to the next

# Logarithm of the activity on made scenes at eight frames a second: listeners 0.12 +- 0.15, talkers
# 0.69 +- 0.36 (at four: 0.18 +- 0.18 and 0.57 +- 0.32). Evidence is linear about the middle and
# bounded, so that no odd frame outweighs the others.
MIDDLE, SLOPE, BOUNDS = 0.35, 4.0, (-1.0, 1.5)
INDEPENDENT_S = 0.25  # mouths keep their pace for a syllable: frames closer than this share one vote


def mouth_activity(tracks: FaceTracks) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """How much more the mouth changes than the upper face since the observation before.

    The upper face is laid onto itself first (phase correlation, Kuglin & Hines 1975), since a
    box that jitters by a pixel changes a picture more than lips do. The ratio cancels what
    still moves both: the head, the light.

    Returns: activity ``(k,)``, 1 where nothing moves or nothing is known, such as a track's
    first observation and still pictures; and whether the face moves at all ``(k,)``.
    """
    activity = np.ones(len(tracks.times), np.float32)
    moves = np.zeros(len(tracks.times), np.bool_)
    order = np.lexsort((tracks.times, tracks.tracks))
    before: NDArray[np.float32] | None = None
    for place, row in enumerate(order):
        now = _standard(tracks.crops[row])
        last = order[place - 1]
        if (
            before is not None
            and tracks.tracks[last] == tracks.tracks[row]
            and tracks.times[row] - tracks.times[last] <= MAX_GAP_S
        ):
            change = np.abs(now - _laid_onto(before, now))
            side = len(change)
            mouth = float(change[side * 2 // 3 : -2, side // 4 : side * 3 // 4].mean())
            # The median: lids that blink and brows that rise are a small part of the upper face.
            rest = float(np.median(change[side // 12 : side * 2 // 3, side // 8 : -side // 8]))
            activity[row] = (mouth + MOTION_FLOOR) / (rest + MOTION_FLOOR)
            moves[row] = max(mouth, rest) > MOTION_FLOOR
        before = now
    return activity, moves


def talking(activity: NDArray[np.float32], moves: NDArray[np.bool_], spacing_s: float) -> NDArray[np.float32]:
    """Log-likelihood ratio of each observation ``(k,)`` that its owner talks; 0 where nothing moves."""
    votes = np.clip(SLOPE * (np.log(activity) - MIDDLE), *BOUNDS)
    share = min(1.0, spacing_s / INDEPENDENT_S)
    evidence: NDArray[np.float32] = np.where(moves, share * votes, 0).astype(np.float32)
    return evidence


def _standard(crop: NDArray[np.uint8]) -> NDArray[np.float32]:
    x = crop.astype(np.float32)
    x -= x.mean()
    x /= max(float(x.std()), 1.0)
    return x


def _laid_onto(before: NDArray[np.float32], now: NDArray[np.float32]) -> NDArray[np.float32]:
    """The earlier crop, shifted so that the eyes and brow lie where they are now."""
    import cv2

    upper = len(now) * 2 // 3
    window = cv2.createHanningWindow((now.shape[1], upper), cv2.CV_32F)
    (right, down), _ = cv2.phaseCorrelate(before[:upper] * window, now[:upper] * window)
    if not max(abs(right), abs(down)) <= MAX_SHIFT_PX:
        return before
    shift = np.array([[1, 0, right], [0, 1, down]], np.float32)
    laid: NDArray[np.float32] = cv2.warpAffine(
        before, shift, now.shape[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return laid
