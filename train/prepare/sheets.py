"""Tables as people save them: text with any separator in any encoding, Excel, Parquet; every cell as text."""

from __future__ import annotations

import csv
import io
import logging
import re
import zipfile
from pathlib import Path

import polars as pl

from annotator.encodings import decode
from annotator.records import UsageError

log = logging.getLogger("annotator")

EXCEL = (".xlsx", ".xlsm", ".xls", ".xlsb", ".ods")
MOST_BYTES = 1 << 30  # of a table, and of what an Excel file unpacks to
# What R, pandas and spreadsheets write where there is no value. "None" is not here: it is a label too.
MISSING = frozenset("NA|N/A|n/a|<NA>|#N/A|#N/A N/A|#NA|NaN|nan|-NaN|-nan|NaT|NULL|null".split("|"))
_SEPARATORS = ",;\t|"
_LOOKED_AT = 64 << 10  # characters, and records, that tell the separator
_RECORDS = 100
_NO_DATE = "^1899-12-3[01][ T]"  # a time of day in Excel is one of its first day


def read_sheet(path: Path, language: str | None = None) -> pl.DataFrame:
    """A table with every cell as text and empty cells as null; lists and the like stay as they are.

    Raises:
        UsageError: the file is missing, too large, or no such table.
    """
    kind = path.suffix.lower()
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UsageError(f"{path} has more than {MOST_BYTES >> 30} GB: split it.")
        if kind == ".parquet":
            rows = pl.read_parquet(path, glob=False)
        elif kind in EXCEL:
            rows = _excel(path)
        else:
            rows = _separated(path, language)
    except FileNotFoundError as error:
        raise UsageError(f"{path} doesn't exist. Give the folder or file that holds it.") from error
    except pl.exceptions.NoDataError as error:
        raise UsageError(f"{path} is empty. Give a file with a header and rows.") from error
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UsageError(
            f"{path} can't be read: {(str(error).splitlines() or ['no reason given'])[0]}"
        ) from error
    return rows.with_columns(
        pl.col(name).cast(pl.String) for name, kind in rows.schema.items() if not kind.is_nested()
    )


def without_missing(rows: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """The table with null where a cell says that it has no value (``NA``), and how many did."""
    texts = [name for name, kind in rows.schema.items() if kind == pl.String]
    cleaned = rows.with_columns(
        pl.when(pl.col(name).str.strip_chars().is_in(list(MISSING)))
        .then(None)
        .otherwise(pl.col(name))
        .alias(name)
        for name in texts
    )
    before, after = (sum(frame[name].null_count() for name in texts) for frame in (rows, cleaned))
    return cleaned, after - before


def _separated(path: Path, language: str | None) -> pl.DataFrame:
    try:
        text, guessed = decode(path.read_bytes(), language)
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UsageError(
            f"{path}, line {line}: it is not {error.encoding.upper()}, as its mark says. Save it as UTF-8."
        ) from None
    if guessed:
        log.warning("%s is not Unicode; its encoding was guessed: look whether accents are right.", path)
    mark = re.match(r'"?sep=(.)"?\r?(?:\n|$)', text)  # a line for Excel
    if mark:
        text = text[mark.end() :]
    separator = mark[1] if mark else _separator(text)
    if not text.strip():
        raise pl.exceptions.NoDataError
    try:
        return pl.read_csv(io.BytesIO(text.encode()), separator=separator, infer_schema=False)
    except pl.exceptions.ComputeError as error:
        raise UsageError(_ragged(text, separator, path) or f"{path} can't be read: {error}") from error


def _separator(text: str) -> str:
    """What parts the cells: of the signs that part the header, the one that most rows keep to."""
    head = text[:_LOOKED_AT]
    if len(head) < len(text):
        head = head[: head.rfind("\n") + 1] or head
    best, best_rank = ",", (0.0, 0)
    for sign in _SEPARATORS:
        try:
            records = [
                r
                for r, _ in zip(csv.reader(io.StringIO(head), delimiter=sign), range(_RECORDS), strict=False)
            ]
        except csv.Error:
            continue
        records = [record for record in records if record]
        if not records or len(records[0]) < 2:
            continue
        width = len(records[0])
        rank = (sum(len(record) == width for record in records) / len(records), width)
        if rank > best_rank:
            best, best_rank = sign, rank
    return best


def _ragged(text: str, separator: str, path: Path) -> str | None:
    """Which row has more cells than the header, in a sentence; None where none has."""
    try:
        records = csv.reader(io.StringIO(text), delimiter=separator)
        header = next(records, [])
        for number, record in enumerate((record for record in records if record), start=1):
            if len(record) > len(header):
                return (
                    f"{path}, row {number} after the header has {len(record)} cells, the header "
                    f"{len(header)} (parted by {separator!r}): put text that holds it into double quotes."
                )
    except csv.Error:
        pass
    return None


def _excel(path: Path) -> pl.DataFrame:
    """The first sheet that has rows; its first row is the header."""
    import fastexcel

    raw = path.read_bytes()
    _check_unpacked(raw, path)
    try:
        book = fastexcel.read_excel(raw)
        filled = [
            (name, sheet)
            for name in book.sheet_names
            if (sheet := book.load_sheet(name, header_row=None, dtypes="string").to_polars()).height > 1
        ]
    except BaseException as error:  # a fault in its parser is a panic, which is no Exception
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"{path} can't be read as a sheet ({reason}): save it as CSV.") from error
    if not filled:
        raise pl.exceptions.NoDataError
    name, sheet = filled[0]
    if len(filled) > 1:
        log.info("sheet %s is read; not used: %s", name, ", ".join(other for other, _ in filled[1:]))
    header: list[str] = []
    for place, cell in enumerate(sheet.row(0)):
        title = (cell or "").strip() or f"column_{place + 1}"
        header.append(title if title not in header else f"{title}_{place + 1}")
    rows = sheet[1:].rename(dict(zip(sheet.columns, header, strict=True)))
    return rows.with_columns(pl.all().str.replace(_NO_DATE, ""))


def _check_unpacked(raw: bytes, path: Path) -> None:
    """Raises: UsageError for an archive that unpacks to more than a table holds."""
    if not raw.startswith(b"PK"):
        return
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    except zipfile.BadZipFile as error:
        raise UsageError(f"{path} can't be read as a sheet ({error}): save it as CSV.") from error
    if size > MOST_BYTES:
        raise UsageError(f"{path} unpacks to more than {MOST_BYTES >> 30} GB: save the table alone as CSV.")
