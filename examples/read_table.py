"""Prints how often each speaker of each recording shows which emotion.

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


def read(path: Path) -> pl.DataFrame:
    """The three columns needed here; ends the program with a sentence where that can't be."""
    if not path.is_file():
        sys.exit(f"there is no table at {path}; make one: annotate run RECORDINGS --out {path}, or make demo")
    scan = pl.scan_csv if path.suffix == ".csv" else pl.scan_parquet
    try:
        return scan(path).select("file", "speaker", "emotion").collect()
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        sys.exit(f"{path} is not a table that `annotate run` wrote ({reason})")


def main() -> None:
    """Reads the table named on the command line."""
    if len(sys.argv) != 2:
        sys.exit("name one table: python examples/read_table.py build/demo/labels.parquet")
    shares = emotion_shares(read(Path(sys.argv[1])))
    with pl.Config(
        tbl_rows=-1, tbl_cols=-1, tbl_width_chars=160, float_precision=2, tbl_hide_dataframe_shape=True
    ):
        print(shares)


if __name__ == "__main__":
    main()
