"""How much a file from a stranger may claim: turns, words and cues, and how many at the same moment.

What is built of them takes time in proportion to their number times how many there are at a moment, so both
are bounded before anything is built.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

MOST_TURNS = 100_000  # of a recording; ten hours of talk have about 10,000
MOST_WORDS = 1_000_000  # of a recording; ten hours of talk have about 100,000
MOST_CUES = 200_000  # of a subtitle file
CUE_CHARACTERS = 100_000  # of one cue: an hour of talk
TURNS_AT_ONCE, WORDS_AT_ONCE = 200, 500
LATEST_S = 1e6  # a time of eleven days is no time in a recording
_LEAST_S = 1.0  # short ones count this long, so that a heap of them is one as well


def crowd(spans: Iterable[tuple[float, float]], most: int) -> float | None:
    """The moment from which on more than ``most`` spans lie over each other; None where there is none.

    Args:
        spans: start and end in seconds, in order of start.
    """
    ends: list[float] = []
    for start, end in spans:
        while ends and ends[0] <= start:
            heapq.heappop(ends)
        heapq.heappush(ends, max(end, start + _LEAST_S))
        if len(ends) > most:
            return start
    return None
