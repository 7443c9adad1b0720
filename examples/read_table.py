"""Prints the first rows of each recording in a table, and how often each speaker shows which emotion.

    python examples/read_table.py build/demo/labels.parquet

The table is what ``annotate run`` writes, Parquet or CSV: one row an utterance.
"""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl


def emotion_shares(table: pl.DataFrame) -> pl.DataFrame:
    """One row a speaker of a recording: number of utterances, and the share (0-1) of each emotion in them."""
    counts = table.group_by("file", "speaker", "emotion").len()
    wide = counts.pivot("emotion", index=["file", "speaker"], values="len", sort_columns=True).fill_null(0)
    emotions = [name for name in wide.columns if name not in ("file", "speaker")]
    total = pl.sum_horizontal(emotions)
    shares = [pl.col(name) / total for name in emotions]
    return wide.select("file", "speaker", total.alias("utterances"), *shares).sort("file", "speaker")


def first_rows(table: pl.DataFrame, rows: int = 5) -> pl.DataFrame:
    """The first rows of each recording, with the columns that a person reads."""
    columns = ("file", "start", "end", "speaker", "text", "text_source", "emotion", "confidence")
    first = table.filter(pl.int_range(pl.len()).over("file") < rows)
    kept = first.select(c for c in columns if c in table.columns)
    texts = [pl.col("text").str.slice(0, 44)] if "text" in kept.columns else []
    return kept.with_columns(texts)


def read(path: Path) -> pl.DataFrame:
    """The table; ends the program with a sentence where it lacks the three columns needed here."""
    if not path.is_file():
        sys.exit(f"there is no table at {path}; make one: annotate run RECORDINGS --out {path}, or make demo")
    try:
        table = (pl.read_csv if path.suffix == ".csv" else pl.read_parquet)(path)
        table.select("file", "speaker", "emotion")
        return table
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        sys.exit(f"{path} is not a table that `annotate run` wrote ({reason})")


def main() -> None:
    """Reads the table named on the command line."""
    if len(sys.argv) != 2:
        sys.exit("name one table: python examples/read_table.py build/demo/labels.parquet")
    table = read(Path(sys.argv[1]))
    with pl.Config(
        tbl_rows=-1,
        tbl_cols=-1,
        tbl_width_chars=180,
        fmt_str_lengths=44,
        float_precision=2,
        tbl_hide_dataframe_shape=True,
    ):
        print(first_rows(table))
        print(emotion_shares(table))


if __name__ == "__main__":
    main()
