"""How far two annotators agree, and on which emotions: two people, or a person and the model.

    python examples/analytics/two_annotators.py labels.parquet corrections.csv

Takes what ``annotate agree`` takes: tables of runs, or the corrections that a page saved. Utterances are
matched by recording and times. An utterance that one of them left without a label is not compared.
"""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl

from annotator import AnnotateError
from annotator.agreement import Agreement, compare


def of_labels(found: Agreement) -> pl.DataFrame:
    """One row an emotion: how often each said it and both did, and the share (0-1) of both among either's.

    The share is Cicchetti and Feinstein's positive agreement (1990), 2 x both / (first + second): the F1 of
    either against the other.
    """
    first, second, both = found.counts.sum(1), found.counts.sum(0), found.counts.diagonal()
    counts = pl.DataFrame({"emotion": found.labels, "first": first, "second": second, "both": both})
    return counts.with_columns(agreement=2 * pl.col("both") / (pl.col("first") + pl.col("second")))


def main(one: Path, other: Path) -> None:
    """Prints the agreement of two files."""
    try:
        found = compare(one, other)
    except AnnotateError as error:
        sys.exit(str(error))
    print(
        f"{found.matched} utterances in both files, {found.both} with both labels, {found.same} of them alike"
    )
    for name, value in (("Cohen's kappa", found.kappa), ("Krippendorff's alpha", found.alpha)):
        print(f"{name}: {'none, there is one label only' if value is None else f'{value:.2f}'}")
    with pl.Config(tbl_rows=-1, float_precision=2, tbl_hide_dataframe_shape=True):
        print(of_labels(found))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("name two files: two_annotators.py labels.parquet corrections.csv")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
