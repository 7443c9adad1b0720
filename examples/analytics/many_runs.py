"""One query over all tables in a folder, Parquet and CSV: how the runs differ.

    python examples/analytics/many_runs.py build

DuckDB reads the files itself and streams them, so that they may be larger than memory. Runs with different
labels go together: a run that does not know a label has no mean for it (null, not zero).
"""

from __future__ import annotations

import sys
from pathlib import Path

import duckdb
import polars as pl

NEEDED = {"file", "start", "end", "model", "emotion", "confidence", "sentiment"}
# COLUMNS takes all columns that the lambda says yes to: the labels' probabilities, whatever the labels.
COARSE = "('p_positive', 'p_neutral_sentiment', 'p_negative')"
PROBABILITIES = f"COLUMNS(lambda name: starts_with(name, 'p_') AND name NOT IN {COARSE})"
ROWS = f'SELECT filename, file, start, "end", model, confidence, {PROBABILITIES} FROM '
READ = {
    ".parquet": ROWS + "read_parquet($parquet, union_by_name = true, filename = true)",
    ".csv": ROWS + "read_csv($csv, union_by_name = true, filename = true)",
}
QUERY = """
SELECT
    filename AS run,
    any_value(model) AS model,
    count(DISTINCT file) AS recordings,
    count(*) AS utterances,
    round(sum("end" - start) / 60, 1) AS speech_min,
    avg(confidence) AS confidence,
    avg(COLUMNS('^p_'))
FROM ({rows})
GROUP BY run
ORDER BY run
"""


def tables(folder: Path) -> list[Path]:
    """The tables of runs below a folder, told by their columns; parts in work folders are none."""
    found = []
    for path in sorted([*folder.rglob("*.parquet"), *folder.rglob("*.csv")]):
        if any(parent.suffix == ".work" for parent in path.relative_to(folder).parents):
            continue
        scan = pl.scan_csv if path.suffix == ".csv" else pl.scan_parquet
        try:
            columns = scan(path, glob=False).collect_schema().names()
        except pl.exceptions.PolarsError:
            continue  # some other file of that ending
        if NEEDED <= set(columns):
            found.append(path)
    return found


def compared(paths: list[Path]) -> pl.DataFrame:
    """One row a table: counts, minutes of speech, mean confidence, mean probability of each label."""
    given = {kind[1:]: [str(path) for path in paths if path.suffix == kind] for kind in READ}
    given = {kind: names for kind, names in given.items() if names}
    rows = " UNION ALL BY NAME ".join(READ[f".{kind}"] for kind in given)
    answer = duckdb.sql(QUERY.format(rows=rows), params=given)
    assert answer is not None  # a SELECT has one
    found: pl.DataFrame = answer.pl()
    return found


def main(folder: Path) -> None:
    """Prints how the tables below a folder differ."""
    paths = tables(folder)
    if not paths:
        sys.exit(f"there is no table of a run below {folder}; make one: make demo")
    with pl.Config(
        tbl_rows=-1,
        tbl_cols=-1,
        tbl_width_chars=180,
        fmt_str_lengths=60,
        float_precision=2,
        tbl_hide_dataframe_shape=True,
    ):
        print(compared(paths))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("name a folder of tables: many_runs.py build")
    main(Path(sys.argv[1]))
