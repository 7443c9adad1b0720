"""The faults of a corpus, each as a sentence that names the file, the row and the remedy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

from annotator.records import SENTIMENTS, Features, UsageError
from train.corpus.format import HEADER, REQUIRED, SPLITS, TABLE, Header, count, spans

CHECKED_ROWS = 8192  # of a feature file at a time, so that a check needs little memory


def check(folder: Path, header: Header, table: pl.DataFrame, features: Mapping[str, Features]) -> None:
    """Raise a UsageError for the first fault of a corpus."""
    where = folder / TABLE
    for name, kind in REQUIRED.items():
        if name not in table.columns:
            raise UsageError(f"{where} has no column {name!r}. Prepare the corpus again.")
        if table.schema[name] != kind:
            raise UsageError(
                f"{where}: the column {name!r} is {table.schema[name]}, not {kind}. Prepare it again."
            )
    if not table.height:
        raise UsageError(f"{where} has no rows. Prepare the corpus again from files that hold utterances.")
    for name in ("split", "dialogue_id", "utterance_id", "speaker"):
        _refuse(table[name], table[name].is_null(), where, "fill it in the source")
    for name, allowed in (("split", SPLITS), ("emotion", header.labels), ("sentiment", SENTIMENTS)):
        unknown = table[name].is_not_null() & ~table[name].is_in(list(allowed))
        _refuse(table[name], unknown, where, f"it must be one of {', '.join(allowed)}: correct the source")
    _check_dialogues(table, where)
    if header.speakers is not None:
        unknown = ~table["speaker"].is_in(list(header.speakers))
        _refuse(table["speaker"], unknown, where, f"it must be one of {', '.join(header.speakers)}")
    for split in header.counts:
        rows = table.filter(pl.col("split") == split)
        if not rows.height:
            raise UsageError(
                f"{where}: the {split} split is empty though {HEADER} counts it. Prepare it again."
            )
        if rows["emotion"].null_count() == rows["sentiment"].null_count() == rows.height:
            raise UsageError(
                f"{where}: no utterance of the {split} split has a label. Label some, or leave it out."
            )
    if header.counts != count(table, header.labels):
        raise UsageError(f"{where} doesn't hold the counts that {HEADER} gives. Prepare the corpus again.")
    for modality, vectors in features.items():
        _check_features(folder, modality, vectors, table.height, header.widths[modality])


def _check_dialogues(table: pl.DataFrame, where: Path) -> None:
    """A dialogue is in one split, its rows stand together and its utterances are in order."""
    firsts: dict[str, int] = {}
    ids, splits = table["dialogue_id"].to_list(), table["split"].to_list()
    numbers = table["utterance_id"].to_list()
    for first, end in spans(ids):
        name = ids[first]
        earlier = firsts.setdefault(name, first)
        for row in range(first, end):
            if splits[row] != splits[earlier]:
                raise UsageError(
                    f"{where}, row {row + 1}: the dialogue {name!r} is in {splits[row]}, and in "
                    f"{splits[earlier]} (row {earlier + 1}). Keep a dialogue in one split, "
                    "or give the two different ids."
                )
        if earlier != first:
            raise UsageError(
                f"{where}, row {first + 1}: the dialogue {name!r} goes on after another one began "
                f"(it started in row {earlier + 1}). Sort the rows by dialogue and utterance."
            )
        for row in range(first + 1, end):
            if numbers[row] <= numbers[row - 1]:
                raise UsageError(
                    f"{where}, row {row + 1}: utterance {numbers[row]} of the dialogue {name!r} follows "
                    f"utterance {numbers[row - 1]}. Give each utterance its own number, in order."
                )


def _check_features(folder: Path, modality: str, features: Features, rows: int, width: int) -> None:
    file = folder / f"{modality}.npy"
    values, present = features.values, features.present
    if values.ndim != 2 or values.dtype != np.float32:
        raise UsageError(
            f"{file} is {values.dtype} {values.shape}, not float32 (rows, width). Prepare it again."
        )
    if values.shape[1] != width:
        raise UsageError(
            f"{file} has features of width {values.shape[1]}, {HEADER} says {width}. "
            "Encode all rows with the same encoder: prepare the corpus again."
        )
    if len(values) != rows:
        raise UsageError(f"{file} has {len(values)} rows, {TABLE} has {rows}. Prepare the corpus again.")
    if present.shape != (rows,) or present.dtype != np.bool_:
        raise UsageError(
            f"{folder / f'{modality}_present.npy'} isn't one truth value a row. Prepare it again."
        )
    for first in range(0, rows, CHECKED_ROWS):
        finite = np.isfinite(values[first : first + CHECKED_ROWS]).all(axis=1)
        if not finite.all():
            row = first + int(np.argmin(finite))
            raise UsageError(
                f"{file}, row {row + 1}: the features hold NaN or infinity. Repair the row in the source, "
                "or leave it out, and prepare the corpus again."
            )


def _refuse(column: pl.Series, faulty: pl.Series, where: Path, remedy: str) -> None:
    row = faulty.arg_max() if faulty.any() else None
    if row is not None:
        value = "empty" if column[row] is None else repr(column[row])
        raise UsageError(f"{where}, row {row + 1}: {column.name} is {value}; {remedy}.")
