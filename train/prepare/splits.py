"""Train, validation and test where a corpus names none: no dialogue, and if it can be no person, in two."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

SHARES = {"validation": 0.1, "test": 0.1}  # of the utterances; the rest trains
DRAWS = 200  # of which the one with the most even labels is taken
DIARIZED = re.compile(r"(?:SPEAKER|CHANNEL)_\d+")  # such a name means nothing outside its recording
MOST = 0.8  # share of all utterances in one group of people from which they can't be kept apart

By = Literal["speaker", "dialogue"]


def person(speaker: str, recording: str) -> str:
    """Who a speaker is: the name, or for diarized names the name in its recording."""
    return f"{recording}\n{speaker}" if DIARIZED.fullmatch(speaker) else speaker


def groups_of(dialogues: Sequence[str], people: Sequence[str]) -> dict[str, int]:
    """Dialogue -> group; dialogues that share a person, also by way of others, are in one.

    >>> groups_of(["a", "b", "c"], ["x", "x", "y"])
    {'a': 0, 'b': 0, 'c': 1}
    """
    root: dict[str, str] = {}

    def find(node: str) -> str:
        while root.setdefault(node, node) != node:
            root[node] = root[root[node]]
            node = root[node]
        return node

    for dialogue, who in zip(dialogues, people, strict=True):
        a, b = find(f"d\n{dialogue}"), find(f"p\n{who}")
        root[a] = b
    numbers: dict[str, int] = {}
    return {d: numbers.setdefault(find(f"d\n{d}"), len(numbers)) for d in dict.fromkeys(dialogues)}


def made_splits(
    dialogues: Sequence[str],
    people: Sequence[str],
    labels: Sequence[str | None],
    seed: int,
    by: By | None = None,
) -> tuple[list[str], By] | None:
    """The split of each row, and what is kept apart; None with too few dialogues (or people) for three.

    Groups are drawn at random, many times; taken is the draw whose splits come nearest to their shares
    and to the labels of the whole, and leave training without none of them.

    Args:
        by: keep apart people or dialogues; people where that can be, when None.
    """
    if by != "dialogue":
        grouped = groups_of(dialogues, people)
        sizes = np.bincount([grouped[d] for d in dialogues])
        if len(sizes) >= 3 and (by == "speaker" or sizes.max() <= MOST * sizes.sum()):
            return _draw(dialogues, grouped, labels, seed), "speaker"
        if by == "speaker":
            return None
    each = {d: i for i, d in enumerate(dict.fromkeys(dialogues))}
    return (_draw(dialogues, each, labels, seed), "dialogue") if len(each) >= 3 else None


def _draw(
    dialogues: Sequence[str], group: dict[str, int], labels: Sequence[str | None], seed: int
) -> list[str]:
    of_row = np.array([group[d] for d in dialogues])
    names = sorted({label for label in labels if label is not None})
    code = {label: i for i, label in enumerate(names)}
    count = np.zeros((of_row.max() + 1, len(names) + 1))  # the last for rows without a label
    of_label = np.array([len(names) if label is None else code[label] for label in labels])
    np.add.at(count, (of_row, of_label), 1)
    size, total = count.sum(1), count.sum()
    label_counts = count[:, : len(names)]
    whole = label_counts.sum(0) / max(label_counts.sum(), 1)
    random = np.random.default_rng(seed)
    best: tuple[float, NDArray[np.int64]] | None = None
    for _ in range(DRAWS):
        order = random.permutation(len(count))
        sums = np.cumsum(size[order])
        # Whole groups until the share is reached; at least one each, and one left to train.
        first = min(1 + int(np.searchsorted(sums, SHARES["validation"] * total * 0.999)), len(order) - 2)
        reached = sums[first - 1] + SHARES["test"] * total * 0.999
        second = min(max(first + 1, 1 + int(np.searchsorted(sums, reached))), len(order) - 1)
        cost = 0.0
        parts = (order[second:], order[:first], order[first:second])
        for number, part in enumerate(parts):
            share = (1 - sum(SHARES.values()), *SHARES.values())[number]
            counts = label_counts[part].sum(0)
            cost += abs(size[part].sum() / total - share)
            cost += float(np.abs(counts / max(counts.sum(), 1) - whole).sum()) / 2
            # A label that training lacks can't be learnt; one that the others lack is only not measured.
            cost += int(((counts == 0) & (whole > 0)).sum()) * (0.2 if number else 10)
        if best is None or cost < best[0]:
            place = np.zeros(len(count), np.int64)
            place[parts[1]], place[parts[2]] = 1, 2
            best = (cost, place)
    assert best is not None
    return [("train", "validation", "test")[best[1][g]] for g in of_row]
