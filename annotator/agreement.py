"""How far two labellings of the same utterances agree beyond chance, and where they don't."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from annotator.files import write_text
from annotator.records import UsageError
from annotator.spreadsheet import for_spreadsheet, from_spreadsheet
from annotator.terminal import counted

KEY = ("file", "start", "end")  # by which an utterance of one table is that of the other; times to the ms
SHOWN = 20  # differing rows on the terminal
COMPARED = ("emotion", "speaker", "text")
REMEDY = "Give tables of `annotate run`, or files of corrections that its page saved."


@dataclass(frozen=True)
class Agreement:
    """Two labellings compared; "both" are the utterances that are in both and labelled in both."""

    labels: tuple[str, ...]
    counts: NDArray[np.int64]  # (labels, labels): rows are the first table's, columns the second's
    kappa: float | None
    alpha: float | None
    matched: int  # utterances in both, labelled or not
    only: tuple[int, int]  # utterances that only one of them has
    differing: pl.DataFrame  # file, start, end, differs, then emotion, speaker and text of each

    @property
    def both(self) -> int:
        return int(self.counts.sum())

    @property
    def same(self) -> int:
        return int(np.trace(self.counts))


def confusion(a: NDArray[np.int64], b: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Counts (classes, classes): rows are ``a``, columns ``b``, both (n,) of class numbers."""
    return np.bincount(a * classes + b, minlength=classes * classes).reshape(classes, classes)


def kappa(counts: NDArray[np.int64]) -> float | None:
    """Cohen's kappa of a confusion matrix (Cohen, 1960).

    None where it has no meaning: there is nothing, or both have one and the same label only.
    """
    total = int(counts.sum())
    by_chance = int(counts.sum(0) @ counts.sum(1))
    if by_chance == total**2:
        return None
    return (total * int(np.trace(counts)) - by_chance) / (total**2 - by_chance)


def alpha(counts: NDArray[np.int64]) -> float | None:
    """Krippendorff's alpha for nominal labels of two observers without gaps (Krippendorff, 2011).

    Unlike kappa it takes both for draws from one and the same distribution. None as for :func:`kappa`.
    """
    coincidences = counts + counts.T
    of_label = coincidences.sum(0)
    values = int(of_label.sum())
    expected = values**2 - int(of_label @ of_label)
    if not expected:
        return None
    return 1 - (values - 1) * (values - int(np.trace(coincidences))) / expected


def compare(a: Path, b: Path) -> Agreement:
    """Compare two tables, CSV or Parquet.

    Raises: UsageError when one can't be read or lacks a column, or no utterance is in both.
    """
    one, other = read(a), read(b)
    joined = one.join(other, on=[*KEY, "nth"], how="inner", suffix="_b", maintain_order="left")
    if not len(joined):
        raise UsageError(f"No utterance of {a} is in {b}: they are matched by file, start and end. {REMEDY}")
    labelled = joined.drop_nulls(["emotion", "emotion_b"])
    labels = sorted({*labelled["emotion"], *labelled["emotion_b"]})
    place = {label: i for i, label in enumerate(labels)}
    numbers = [
        labelled[name].replace_strict(place, return_dtype=pl.Int64).to_numpy()
        for name in ("emotion", "emotion_b")
    ]
    counts = confusion(numbers[0], numbers[1], len(labels))
    # An empty cell says nothing, so it differs from nothing; a text is the same however it is spaced.
    plain = {name: pl.col(name) for name in (*COMPARED, *(f"{c}_b" for c in COMPARED))}
    for name in ("text", "text_b"):
        plain[name] = pl.col(name).str.replace_all(r"\s+", " ").str.strip_chars()
    unlike = [
        pl.when(plain[name] != plain[f"{name}_b"]).then(pl.lit(name)).alias(f"differs_{name}")
        for name in COMPARED
    ]
    differing = (
        joined.with_columns(pl.concat_list(unlike).list.drop_nulls().list.join(" ").alias("differs"))
        .filter(pl.col("differs") != "")
        .select(*KEY, "differs", *(column for c in COMPARED for column in (c, f"{c}_b")))
    )
    return Agreement(
        tuple(labels),
        counts,
        kappa(counts),
        alpha(counts),
        len(joined),
        (len(one) - len(joined), len(other) - len(joined)),
        differing,
    )


def read(path: Path) -> pl.DataFrame:
    """File, start, end (s, to the ms), emotion, speaker and text of a table's rows, and which of those at the
    same time each is (``nth``); empty cells are null.

    Raises: UsageError when it can't be read or lacks a column.
    """
    kind = path.suffix.lower()
    if kind not in (".csv", ".parquet"):
        raise UsageError(f"{path} is neither a .parquet nor a .csv file. {REMEDY}")
    if not path.is_file():
        raise UsageError(f"{path} is not there, or not a file. {REMEDY}")
    wanted = (*KEY, *COMPARED)
    try:
        if kind == ".csv":
            table = from_spreadsheet(pl.read_csv(path, infer_schema=False, glob=False))
        else:
            with open(path, "rb") as file:  # as a path, one with [ or * would be a pattern
                columns = [name for name in pl.read_parquet_schema(file) if name in wanted]
            table = pl.read_parquet(path, glob=False, columns=columns)
        missing = [name for name in wanted if name not in table.columns]
        if missing:
            raise UsageError(f"{path} lacks {', '.join(missing)}. {REMEDY}")
        table = table.select(
            "file",
            *(pl.col(name).cast(pl.Float64).round(3) for name in ("start", "end")),
            *(pl.col(name).cast(pl.String).replace("", None) for name in COMPARED),
        )
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"{path} can't be read as a {kind} table ({reason}). {REMEDY}") from error
    return table.with_columns(pl.int_range(pl.len()).over(*KEY).alias("nth"))


def described(agreement: Agreement) -> list[str]:
    """The comparison as lines for people."""

    def figure(value: float | None) -> str:
        return "none: there is one label only" if value is None else f"{value:.3f}"

    one, other = agreement.only
    lines = [
        f"{counted(agreement.matched, 'utterance')} in both, {one} only in the first, "
        f"{other} only in the second",
        f"{agreement.both} labelled in both: {agreement.same} alike"
        + (f" ({agreement.same / agreement.both:.1%})" if agreement.both else ""),
    ]
    if agreement.both:
        lines += [
            f"Cohen's kappa         {figure(agreement.kappa)}",
            f"Krippendorff's alpha  {figure(agreement.alpha)}",
            "",
            "labels of the first (rows) and of the second (columns)",
        ]
        wide = max(6, *(len(label) + 1 for label in agreement.labels), len(str(agreement.counts.max())) + 1)
        lines.append(" " * wide + "".join(f"{label:>{wide}}" for label in agreement.labels))
        for label, row in zip(agreement.labels, agreement.counts.tolist(), strict=True):
            lines.append(f"{label:<{wide}}" + "".join(f"{count:>{wide}}" for count in row))
    return lines


def differences(agreement: Agreement) -> list[str]:
    """The first rows that differ as lines for people."""
    lines = []
    for row in agreement.differing.head(SHOWN).iter_rows(named=True):
        said = "; ".join(f"{c}: {row[c] or '–'} / {row[f'{c}_b'] or '–'}" for c in row["differs"].split(" "))
        lines.append(f"{row['file']} {row['start']:.2f}–{row['end']:.2f}  {said}")
    if len(agreement.differing) > SHOWN:
        lines.append(f"... and {len(agreement.differing) - SHOWN} more: --out FILE.csv writes them all")
    return lines


def write_differences(agreement: Agreement, out: Path) -> None:
    """Write the rows that differ as CSV.

    Raises: UsageError when ``out`` is no name for it; SetupError when it can't be written.
    """
    if out.suffix.lower() != ".csv":
        raise UsageError(f"{out} is no name for a table of differences: let it end with .csv.")
    write_text(out, for_spreadsheet(agreement.differing).write_csv())
