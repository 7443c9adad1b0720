"""Speakers of a long recording that was heard in blocks: which of one block is which of another.

Two blocks share a stretch of sound. Who speaks at the same times in it is the same speaker; the others are
compared by their voices, bottom-up, and no two speakers of one block ever become one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from annotator.records import Turn

SAME_VOICE = 0.5  # cosine distance of mean embeddings up to which two speakers are one
SHARED_S = 2.0  # speech in common, in seconds, that is enough to tell by ...
SHARED_SHARE = 0.5  # ... if it is this much of what the less talkative of the two says there


@dataclass(frozen=True)
class Heard:
    """What was found in one block, times from the start of the recording.

    Args:
        start, end: of the block, seconds.
        turns: with the block's own names of speakers; they may overlap.
        alone: the same with one speaker at a time.
        voices: embedding of each name; a name without one is told by the shared stretch alone.
    """

    start: float
    end: float
    turns: Sequence[Turn]
    alone: Sequence[Turn]
    voices: dict[str, NDArray[np.float32]]


def link(blocks: Sequence[Heard], least: int, most: int | None) -> tuple[list[Turn], list[Turn]]:
    """Turns of the whole recording, overlapping and one at a time, with one name for each speaker.

    Each block counts up to the middle of the stretch that it shares with the next.

    Args:
        blocks: in order of time.
        least, most: bounds on the number of speakers. Where no two may be joined, there can be more.
    """
    person = _persons(blocks, least, most)
    edges = [
        blocks[0].start,
        *((a.end + b.start) / 2 for a, b in zip(blocks, blocks[1:], strict=False)),
        blocks[-1].end,
    ]
    whole: tuple[list[Turn], list[Turn]] = ([], [])
    for number, block in enumerate(blocks):
        low, high = edges[number], edges[number + 1]
        for out, turns in zip(whole, (block.turns, block.alone), strict=True):
            for turn in turns:
                start, end = max(turn.start, low), min(turn.end, high)
                if end > start:
                    out.append(Turn(start, end, person[number, turn.speaker]))
    return _joined(whole[0]), _joined(whole[1])


def _persons(blocks: Sequence[Heard], least: int, most: int | None) -> dict[tuple[int, str], str]:
    """A name for each speaker of each block."""
    names = [(k, name) for k, b in enumerate(blocks) for name in sorted({t.speaker for t in b.turns})]
    n = len(names)
    distance = np.full((n, n), np.inf)
    for i, (k, name) in enumerate(names):
        for j, (other, another) in enumerate(names[:i]):
            if k != other:
                distance[i, j] = distance[j, i] = _distance(blocks, (k, name), (other, another))
    members = {i: [i] for i in range(n)}

    def apart(a: int, b: int) -> float:
        return float(np.mean(distance[np.ix_(members[a], members[b])]))  # infinite within a block

    while len(members) > least:
        keys = sorted(members)
        pairs = [(apart(a, b), a, b) for i, a in enumerate(keys) for b in keys[i + 1 :]]
        best = min(pairs, default=(np.inf, 0, 0))
        too_many = most is not None and len(members) > most
        if not best[0] <= SAME_VOICE and not (too_many and np.isfinite(best[0])):
            break
        members[best[1]] += members.pop(best[2])
    return {names[i]: f"{key:06d}" for key, group in members.items() for i in group}


def _distance(blocks: Sequence[Heard], one: tuple[int, str], other: tuple[int, str]) -> float:
    """Cosine distance of two speakers; 0 when the stretch that their blocks share shows them to be one."""
    a, b = sorted((one, other))
    if b[0] == a[0] + 1:
        low, high = blocks[b[0]].start, blocks[a[0]].end
        spans = [
            [(max(t.start, low), min(t.end, high)) for t in blocks[k].alone if t.speaker == name]
            for k, name in (a, b)
        ]
        said = [sum(max(0.0, end - start) for start, end in part) for part in spans]
        both = sum(max(0.0, min(e, f) - max(s, t)) for s, e in spans[0] for t, f in spans[1])
        if both >= SHARED_S and both >= SHARED_SHARE * min(said):
            return 0.0
    x, y = (blocks[k].voices.get(name) for k, name in (a, b))
    if x is None or y is None:
        return 1.0
    norms = float(np.linalg.norm(x) * np.linalg.norm(y))
    return 1.0 - float(x @ y) / norms if norms > 0 else 1.0


def _joined(turns: list[Turn]) -> list[Turn]:
    """Turns of one speaker that touch, as at the border of two blocks, become one."""
    out: list[Turn] = []
    last: dict[str, int] = {}
    for turn in sorted(turns):
        at = last.get(turn.speaker)
        if at is not None and turn.start - out[at].end < 1e-6:
            out[at] = Turn(out[at].start, max(out[at].end, turn.end), turn.speaker)
        else:
            last[turn.speaker] = len(out)
            out.append(turn)
    return sorted(out)
