"""Which utterances to look at first: those over which the model wavers most, or any, by chance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

MOST = 2_000  # utterances in the order; nobody judges more in one go
SAME_SPEAKER, SAME_RECORDING = 0.1, 0.02  # what an earlier choice of the same adds to the margin


def uncertain(table: pl.DataFrame, labels: Sequence[str]) -> list[int]:
    """Rows (from 0) in the order in which to look at them, ``MOST`` at most.

    First those with the least margin between the two likeliest labels (Scheffer, Decomain and Wrobel, 2001).
    So that not one hard speaker fills the list, each earlier choice counts against the next of the same
    speaker (and a little against the same recording), as if its margin were larger.
    """
    if not len(table):
        return []
    shares = pl.concat_list(f"p_{label}" for label in labels).list.sort(descending=True)
    margin = shares.list.get(0) - shares.list.get(1, null_on_oob=True).fill_null(0.0)
    rows = table.select("file", "speaker", margin.alias("cost")).with_row_index("row")
    for group, price in ((("file", "speaker"), SAME_SPEAKER), (("file",), SAME_RECORDING)):
        earlier = pl.col("cost").rank("ordinal").over(*group) - 1
        rows = rows.with_columns(pl.col("cost") + price * earlier)
    return rows.sort("cost", "row").head(MOST)["row"].to_list()


def by_chance(table: pl.DataFrame, labels: Sequence[str]) -> list[int]:
    """Rows (from 0) in an order of chance, ``MOST`` at most; the same for a table of the same length."""
    return [int(row) for row in np.random.default_rng(0).permutation(len(table))[:MOST]]
