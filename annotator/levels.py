"""How loud a recording is, and where speech that goes on for too long is best cut. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from annotator.records import RATE_HZ, Audio

STEP_S = 0.01
_HOP = round(STEP_S * RATE_HZ)
_BLOCK = 6000 * _HOP  # samples that are measured at a time: a minute
_SPREAD = 5  # steps on either side that a level is averaged over: a click between words is no speech
_PAUSE_SHARE = 0.35  # of the way from the quiet to the loud parts: what is below is a pause

CLIPPED_SHARE = 1e-3  # of samples at full scale, from which speech sounds distorted

Levels = NDArray[np.float32]


def sound_levels(audio: Audio) -> Levels:
    """Level of each whole 10 ms, dB of full scale (n,); digital silence is -120."""
    count = len(audio.samples) // _HOP
    found = np.empty(count, np.float32)
    for start in range(0, count * _HOP, _BLOCK):
        block = np.asarray(audio.samples[start : min(start + _BLOCK, count * _HOP)], np.float32) / 32768
        power = (block.reshape(-1, _HOP) ** 2).mean(axis=1)
        found[start // _HOP : start // _HOP + len(power)] = 10 * np.log10(power + 1e-12)
    return found


def cut_times(
    start: float,
    end: float,
    levels: Levels | None,
    longest_s: float,
    shortest_s: float,
    words: Sequence[tuple[float, float]] = (),
) -> list[float]:
    """Where to cut what lasts from ``start`` to ``end`` so that no part is longer than ``longest_s``.

    Each cut is in the middle of the longest pause within reach, and at the quietest place where there is no
    pause. Without sound, nothing is heard of a cut: the parts are then of one length.

    Args:
        levels: of the recording, see ``sound_levels``; None where there is no sound.
        shortest_s: no part is shorter.
        words: start and end of known words, in order; they count as loud throughout.

    Returns: times between ``start`` and ``end``, in order; none if it is not too long.
    """
    if end - start <= longest_s + 1e-9:
        return []
    if levels is None:
        parts = math.ceil((end - start) / longest_s - 1e-9)
        return [start + (end - start) * k / parts for k in range(1, parts)]
    first = math.floor(start / STEP_S)
    heard = _smooth(levels, first, math.ceil(end / STEP_S))
    for a, b in words:
        heard[max(0, round(a / STEP_S) - first) : max(0, round(b / STEP_S) - first)] = np.inf
    cuts: list[float] = []
    while end - start > longest_s + 1e-9:
        # Not below two fifths, so that what remains is soon short enough; the rest is long enough to stand.
        latest = min(start + longest_s, end - shortest_s)
        earliest = min(latest, start + max(shortest_s, 0.4 * longest_s))
        low, high = round(earliest / STEP_S) - first, round(latest / STEP_S) - first
        at = (low + _quietest(heard[low : high + 1]) + first + 0.5) * STEP_S
        start = min(max(at, earliest), latest)
        cuts.append(start)
    return cuts


def _smooth(levels: Levels, first: int, last: int) -> NDArray[np.float64]:
    """Mean levels around each step from ``first`` to ``last``; what is outside the recording is silent."""
    low, high = first - _SPREAD, last + _SPREAD + 1
    inside = levels[max(0, low) : max(0, high)]
    padded = np.full(high - low, -120.0)
    padded[max(0, -low) : max(0, -low) + len(inside)] = inside
    return np.convolve(padded, np.full(2 * _SPREAD + 1, 1 / (2 * _SPREAD + 1)), mode="valid")


def _quietest(heard: NDArray[np.float64]) -> int:
    """The middle of the longest pause, else the quietest step. (n,), n >= 1"""
    known = heard[np.isfinite(heard)]
    if len(known) == 0:
        return len(heard) - 1
    quiet, loud = np.percentile(known, [2, 80])
    below = heard <= quiet + _PAUSE_SHARE * (loud - quiet)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], below.astype(np.int8), [0]])))
    lengths = edges[1::2] - edges[::2]
    longest = int(lengths.argmax())
    return int(edges[2 * longest] + lengths[longest] // 2)
