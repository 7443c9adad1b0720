"""Read a table that a run wrote, Parquet or CSV, and refuse what is not one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from annotator import bounds
from annotator.records import MODALITIES, SENTIMENT_COLUMNS, SENTIMENTS, UsageError
from annotator.spreadsheet import from_spreadsheet

# The column of words: one record a word, times in seconds of the recording.
WORDS = pl.List(
    pl.Struct({"start": pl.Float64(), "end": pl.Float64(), "text": pl.String(), "confidence": pl.Float32()})
)
# Of a run's table, in their order; the columns of probabilities follow on ``confidence``.
COLUMNS: dict[str, pl.DataType] = {
    "file": pl.String(),
    "file_id": pl.String(),
    "dialogue_id": pl.Int32(),
    "utterance_id": pl.Int32(),
    "start": pl.Float64(),
    "end": pl.Float64(),
    "speaker": pl.String(),
    "speaker_confidence": pl.Float64(),
    "overlap": pl.Float64(),
    "text": pl.String(),
    "words": WORDS,
    "text_source": pl.String(),
    "language": pl.String(),
    "asr_confidence": pl.Float64(),
    "emotion": pl.String(),
    "confidence": pl.Float64(),
    "sentiment": pl.String(),
    **{column: pl.Float64() for column in SENTIMENT_COLUMNS.values()},
    "plausible": pl.List(pl.String()),
    **{
        f"{modality}_{what}": kind
        for modality in MODALITIES
        for what, kind in (("emotion", pl.String()), ("confidence", pl.Float64()))
    },
    **{f"has_{modality}": pl.Boolean() for modality in MODALITIES},
    "face_coverage": pl.Float64(),
    "quality": pl.List(pl.String()),
    "model": pl.String(),
}
MOST_LABELS = 100
LEAST_ROW_BYTES = 4  # of a row on disk, of which the probabilities alone take more
MOST_TEXT_BYTES = 4 << 20  # of a cell; a day of talk has less
MOST_TEXTS_BYTES = 4 << 30  # of all cells of a column, as they are read
ALONE = tuple(f"{modality}_{what}" for modality in MODALITIES for what in ("emotion", "confidence"))
# Neither pages nor exports need them.
BESIDE = (
    *("file_id", "utterance_id", "speaker_confidence", "overlap", "text_source", "language"),
    *("asr_confidence", "face_coverage"),
)
MAY_BE_NULL = ("text", "words", "quality", "plausible", *ALONE, *BESIDE)
MAY_LACK = ("words", "plausible", *ALONE, *BESIDE)  # CSV files, tables of earlier versions and of other tools
REMEDY = "Give the .parquet or .csv file that `annotate run INPUT --out FILE` wrote."


def read_table(path: str | Path) -> tuple[pl.DataFrame, dict[str, str]]:
    """The rows of a table file, and what its metadata say of the run (nothing in a CSV file).

    Args:
        path: what `annotate run` wrote, ``.parquet`` or ``.csv``. The endings decide.

    Returns:
        The rows, sorted by file and start, with the columns of docs/table.md in their order and types, but
        numbers as 64-bit floats; ``start`` and ``end`` in seconds, probabilities 0-1. CSV comes back as
        Parquet would: lists are lists, an empty cell is null. A column that the file lacks is null; others
        are left out. The facts are ``settings`` and ``versions`` (JSON) and ``conversation-annotator`` (its
        version).

    Raises: UsageError when the file is missing, can't be read or is not such a table.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in (".parquet", ".csv"):
        raise UsageError(f"{path} is neither a .parquet nor a .csv file. {REMEDY}")
    if not path.is_file():
        raise UsageError(f"{path} is not there, or not a file. {REMEDY}")
    facts: dict[str, str] = {}
    try:
        if kind == ".csv":
            table = from_spreadsheet(pl.read_csv(path, infer_schema=False, glob=False))
        else:
            rows, size = (
                pl.scan_parquet(path, glob=False).select(pl.len()).collect().item(),
                path.stat().st_size,
            )
            if rows > size / LEAST_ROW_BYTES:
                raise UsageError(
                    f"{path} claims {rows:,} rows in {size:,} bytes, which no run writes. {REMEDY}"
                )
            with open(path, "rb") as file:  # as a path, one with [ or * would be a pattern
                names = list(pl.read_parquet_schema(file))
            labels = [f"p_{label}" for label in labels_of(names)]
            columns = [name for name in names if name in COLUMNS or name in labels]
            table = pl.read_parquet(path, glob=False, columns=columns)
            known = ("conversation-annotator", "settings", "versions")
            metadata = pl.read_parquet_metadata(path)
            facts = {name: metadata[name] for name in known if name in metadata}
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"{path} can't be read as a {kind} table ({reason}). {REMEDY}") from error
    return checked(table, str(path)), facts


def read_recordings(path: Path) -> dict[str, dict[str, Any]]:
    """The table of recordings beside a table of utterances, by file: ``duration_s``, ``rate_hz``,
    ``channels`` and ``flags`` of those that were annotated; nothing where there is no such table.

    Raises: UsageError when there is one that can't be read.
    """
    beside = path.with_suffix(f".recordings{path.suffix}")
    if not beside.is_file():
        return {}
    try:
        if path.suffix.lower() == ".csv":
            rows = from_spreadsheet(pl.read_csv(beside, infer_schema=False, glob=False))
            rows = rows.with_columns(pl.col("flags").fill_null("").str.split(";"))
        else:
            rows = pl.read_parquet(beside, glob=False)
        rows = rows.filter(pl.col("status") == "annotated").select(
            pl.col("file").cast(pl.String),
            pl.col("duration_s").cast(pl.Float64),
            pl.col("rate_hz", "channels").cast(pl.Int32),
            pl.col("flags").cast(pl.List(pl.String)),
        )
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"{beside} can't be read ({reason}): remove it, or run again.") from error
    return {row.pop("file"): row for row in rows.to_dicts()}


def labels_of(columns: list[str]) -> list[str]:
    """The model's labels: ``p_<label>`` columns between ``confidence`` and ``sentiment``, in their order."""
    if "confidence" not in columns or "sentiment" not in columns:
        return []
    between = columns[columns.index("confidence") + 1 : columns.index("sentiment")]
    return [name.removeprefix("p_") for name in between if name.startswith("p_")]


def checked(table: pl.DataFrame, name: str) -> pl.DataFrame:
    """The columns of a run's table, in their types, sorted by file and start.

    Raises: UsageError when columns are missing or hold what such a table never holds.
    """

    def refuse(why: str) -> UsageError:
        return UsageError(f"{name} is not a table of `annotate run`: {why}. {REMEDY}")

    missing = [column for column in COLUMNS if column not in table.columns and column not in MAY_LACK]
    if missing:
        raise refuse(f"it lacks the {'column' if len(missing) == 1 else 'columns'} {', '.join(missing)}")
    labels = labels_of(table.columns)
    if not labels:
        raise refuse("it has no p_<label> columns between confidence and sentiment")
    if len(labels) > MOST_LABELS:
        raise refuse(f"it has {len(labels)} labels, more than the {MOST_LABELS} that can be shown")
    kinds: dict[str, pl.DataType] = {}
    for column, kind in COLUMNS.items():
        kinds[column] = kind
        if column == "confidence":
            kinds |= {f"p_{label}": pl.Float64() for label in labels}
    table = table.with_columns(
        pl.lit(None, COLUMNS[column]).alias(column) for column in MAY_LACK if column not in table.columns
    )
    cast = []
    for column, kind in kinds.items():
        try:
            cast.append(table.get_column(column).cast(kind))
        except pl.exceptions.PolarsError as error:
            raise refuse(f"the column {column} holds something else than it should") from error
    table = pl.DataFrame(cast)
    for column, kind in kinds.items():
        if kind == pl.String():
            sizes = table[column].str.len_bytes()
            if (sizes.max() or 0) > MOST_TEXT_BYTES or sizes.sum() > MOST_TEXTS_BYTES:  # type: ignore[operator]
                raise refuse(f"the column {column} has more text than anybody says")
    numbers = [column for column, kind in kinds.items() if kind == pl.Float64()]
    shares = [column for column in numbers if column not in ("start", "end")]
    for column in kinds:
        if column not in MAY_BE_NULL and table[column].has_nulls():
            raise refuse(f"the column {column} has empty or unreadable cells")
    for column in numbers:
        if not table[column].is_finite().all():
            raise refuse(f"the column {column} has values that are no numbers")
    for column in shares:
        # A little room, because probabilities went through 32 bits and perhaps through a spreadsheet.
        if not table[column].is_between(-1e-3, 1 + 1e-3).all():
            raise refuse(f"the column {column} has values that are no probabilities")
    if not ((table["start"] >= 0) & (table["end"] >= table["start"])).all():
        raise refuse("some utterances end before they start, or start before 0")
    if not (table["end"] < bounds.LATEST_S).all():
        raise refuse("some utterances end after more than eleven days")
    emotions = ("emotion", *(f"{modality}_emotion" for modality in MODALITIES))
    for column, allowed in (*((name, labels) for name in emotions), ("sentiment", list(SENTIMENTS))):
        odd = table.filter(~pl.col(column).is_in(allowed)).get_column(column)
        if len(odd):
            raise refuse(f"the {column} {odd[0]!r} is none of {', '.join(allowed)}")
    if not table["plausible"].explode().drop_nulls().is_in(labels).all():
        raise refuse("plausible has other labels than the p_<label> columns")
    quality = pl.col("quality").fill_null([]).list.eval(pl.element().filter(pl.element().fill_null("") != ""))
    return table.with_columns(quality).sort("file", "start", "dialogue_id", maintain_order=True)
