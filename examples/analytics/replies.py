"""Which emotion follows whose: a matrix of replies, and which of its counts chance does not explain.

    python examples/analytics/replies.py build/demo/labels.parquet

Counted are neighbouring utterances of a conversation. Each count is compared with those of shuffles in
which every speaker keeps the emotions of a conversation, but not their order; marked are cells of which at
most one in twenty is marked by chance. The page of ``annotate report`` shows the same.
"""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl

from annotator import AnnotateError, read_table
from annotator.read import labels_of
from annotator.report.patterns import Follows, follows


def matrix(found: Follows, labels: list[str]) -> pl.DataFrame:
    """One row an emotion, one column the emotion that follows: count, mean over the shuffles, and mark."""
    rows = []
    for i, label in enumerate(labels):
        row = {"emotion": label}
        for j, after in enumerate(labels):
            mark = " more" if found.more[i][j] else " less" if found.less[i][j] else ""
            row[after] = f"{found.counts[i][j]} ({found.expected[i][j]:.1f}){mark}"
        rows.append(row)
    return pl.DataFrame(rows)


def main(path: Path) -> None:
    """Prints the matrices of a table."""
    try:
        table, _ = read_table(path)
    except AnnotateError as error:
        sys.exit(str(error))
    labels = labels_of(table.columns)
    matrices, shuffles = follows(table, labels)
    print(f"Counts (mean of {shuffles} shuffles); rows: the emotion before, columns: the one that follows")
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=180, tbl_hide_dataframe_shape=True,
                   tbl_hide_column_data_types=True):  # fmt: skip
        for who, found in matrices.items():
            print(f"\nafter {who}")
            print(matrix(found, labels))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("name one table: replies.py labels.parquet")
    main(Path(sys.argv[1]))
