"""How each speaker sounds from minute to minute, with intervals that respect how sure the labels are.

    python examples/analytics/emotion_by_minute.py build/demo/labels.parquet joy

A minute's share of an emotion is the mean of ``p_<emotion>`` over its utterances: soft counts, in which a
label told with 0.4 counts 0.4. Drawing utterances anew with replacement, and each one's label by its
probabilities, is drawing n labels of which each is the emotion with that mean. So the interval is that of a
share among n draws (Wilson, 1927), at 90 %: it holds for few utterances, too, and unsure labels widen it.
It tells of chance, not of what the model gets wrong by habit.

Utterances that rest on nothing (flag ``no_evidence``) count for nothing: a minute with no others has no
share.
"""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl

from annotator import AnnotateError, read_table

Z = 1.645  # standard deviations either side of the mean that hold 90 % of a normal distribution


def by_minute(table: pl.DataFrame, emotion: str) -> pl.DataFrame:
    """One row a recording, speaker and minute (by the start of an utterance).

    Returns: ``utterances`` (all), ``share`` of the emotion (0-1), and its interval from ``low`` to
    ``high``; the last three null where no utterance rests on evidence.
    """
    told = ~pl.col("quality").list.contains("no_evidence")
    n, mean = pl.col("n"), pl.col("share")
    middle = (mean + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * (mean * (1 - mean) / n + Z**2 / (4 * n**2)).sqrt()
    return (
        table.with_columns(minute=(pl.col("start") // 60).cast(pl.Int64))
        .group_by("file", "speaker", "minute")
        .agg(
            pl.len().alias("utterances"),
            told.sum().alias("n"),
            pl.col(f"p_{emotion}").filter(told).mean().clip(0, 1).alias("share"),
        )
        .with_columns(low=(middle - half).clip(0, 1), high=(middle + half).clip(0, 1))
        .drop("n")
        .sort("file", "speaker", "minute")
    )


def main(path: Path, emotion: str) -> None:
    """Prints the minutes of a table."""
    try:
        table, _ = read_table(path)
    except AnnotateError as error:
        sys.exit(str(error))
    if f"p_{emotion}" not in table.columns:
        sys.exit(f"{path} has no column p_{emotion}: name one of its labels, such as {table['emotion'][0]}")
    with pl.Config(tbl_rows=-1, tbl_width_chars=120, float_precision=2, tbl_hide_dataframe_shape=True):
        print(by_minute(table, emotion))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("name a table and an emotion: emotion_by_minute.py labels.parquet joy")
    main(Path(sys.argv[1]), sys.argv[2])
