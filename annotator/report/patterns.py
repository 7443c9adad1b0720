"""What can be seen only in many utterances: whose emotion follows whose, and whether modalities agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import false_discovery_control

from annotator.agreement import confusion, kappa
from annotator.records import MODALITIES

SHUFFLES = 1_000
MOST_DRAWN = 20_000_000  # labels drawn in all shuffles together; a large table gets fewer shuffles
FEWEST_SHUFFLES = 200
SPEAKERS, FEWEST = 4, 20  # who are told one by one; and answers to them at least
NUMBERED = r"^(SPEAKER|CHANNEL)_\d+$"  # such a name means nothing outside its recording
LEVEL = 0.05  # share of marked cells that may be marked by chance


@dataclass(frozen=True)
class Follows:
    """After which emotion (rows) comes which (columns), between neighbouring utterances of a conversation."""

    counts: list[list[int]]
    expected: list[list[float]]  # mean over the shuffles
    more: list[list[bool]]  # surely more often than shuffled
    less: list[list[bool]]


@dataclass(frozen=True)
class Pair:
    """Agreement of two modalities over the utterances that have both."""

    one: str
    other: str
    utterances: int
    same: float  # share, 0-1
    kappa: float | None


def follows(table: pl.DataFrame, labels: Sequence[str]) -> tuple[dict[str, Follows], int]:
    """What follows the emotion of another speaker, of the same one, and of each of the ``SPEAKERS`` that are
    answered most (who are the same people in all recordings); and how many shuffles tell.

    A count is compared with those of shuffles in which each speaker keeps the emotions of a conversation, but
    not their order: a conversation that is all anger is no sign of anger that answers anger. Marked are cells
    of which at most ``LEVEL`` are false discoveries (Benjamini and Hochberg, 1995; p-values of both sides,
    doubled).

    Args:
        table: rows as :func:`annotator.read.read_table` gives them, sorted by file and start.
        labels: of the table, in the order of the matrices.
    """
    n = len(labels)
    place = {label: i for i, label in enumerate(labels)}
    emotion = table["emotion"].replace_strict(place, return_dtype=pl.Int64).to_numpy()
    group = (
        table.select(pl.struct("file", "dialogue_id", "speaker").rank("dense"))
        .to_series()
        .to_numpy()
        .astype(np.int64)
    )
    near = table.select(
        (pl.col("file") == pl.col("file").shift()) & (pl.col("dialogue_id") == pl.col("dialogue_id").shift())
    )
    here = np.flatnonzero(near.to_series().fill_null(False).to_numpy())
    same = group[here] == group[here - 1]
    found: dict[str, Follows] = {}
    places = {"another speaker": here[~same], "the same speaker": here[same]}
    before = table["speaker"].gather(here[~same] - 1)
    if table["file"].n_unique() > 1:
        before = before.filter(~before.str.contains(NUMBERED))  # who is who holds in one recording only
    for name in before.value_counts(sort=True, name="n").filter(pl.col("n") >= FEWEST)["speaker"][:SPEAKERS]:
        own = (table["speaker"] == name).to_numpy()
        places[name] = here[~same & own[here - 1]]

    def counted(of: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.stack([confusion(of[at - 1], of[at], n) for at in places.values()])  # (2, n, n)

    seen = counted(emotion)
    shuffles = min(SHUFFLES, max(FEWEST_SHUFFLES, MOST_DRAWN // max(len(table), 1)))
    random = np.random.default_rng(0)
    in_groups = np.argsort(group, kind="stable")
    of_groups, sorted_group = emotion[in_groups], group[in_groups]
    total, at_least, at_most = np.zeros(seen.shape), np.zeros(seen.shape), np.zeros(seen.shape)
    for _ in range(shuffles):
        shuffled = np.empty_like(emotion)
        # Sorted by speaker and then by chance: each speaker's own emotions in another order.
        shuffled[in_groups] = of_groups[np.argsort(sorted_group + random.random(len(group)))]
        drawn = counted(shuffled)
        total += drawn
        at_least += drawn >= seen
        at_most += drawn <= seen
    p = np.minimum(1.0, 2 * (1 + np.minimum(at_least, at_most)) / (1 + shuffles))
    sure = false_discovery_control(p.ravel()).reshape(p.shape) <= LEVEL
    expected = total / shuffles
    for i, name in enumerate(places):
        found[name] = Follows(
            seen[i].tolist(),
            expected[i].tolist(),
            (sure[i] & (seen[i] > expected[i])).tolist(),
            (sure[i] & (seen[i] < expected[i])).tolist(),
        )
    return found, shuffles


def modalities(table: pl.DataFrame, labels: Sequence[str]) -> list[Pair]:
    """How far what each two modalities say alone agrees; none where the table doesn't tell."""
    place = {label: i for i, label in enumerate(labels)}
    pairs = []
    for one, other in combinations(MODALITIES, 2):
        both = table.select(
            pl.col(f"{m}_emotion").replace_strict(place, default=None, return_dtype=pl.Int64)
            for m in (one, other)
        ).drop_nulls()
        if len(both):
            a, b = both.to_numpy().T
            pairs.append(
                Pair(one, other, len(both), float((a == b).mean()), kappa(confusion(a, b, len(labels))))
            )
    return pairs
