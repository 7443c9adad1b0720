"""What CSV does to a table, and back: lists joined, and text that a spreadsheet would run escaped."""

from __future__ import annotations

import polars as pl

from annotator.records import MODALITIES

# A spreadsheet takes a cell that begins with one of these for a formula; some in East Asia also the wide
# forms. A cell is also what stands behind a semicolon, a tab or a line break: where lists are written with
# semicolons, a file with commas is cut at them, quotes or not.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
# One apostrophe goes before it, and before those that are there: so each text has one form, and comes back.
_FORMULA = r"('*[=+\-@\x{ff1d}\x{ff0b}\x{ff0d}\x{ff20}])"
_BLANK = r"('*[\t\r\n])"


def escaped(column: pl.Expr) -> pl.Expr:
    """Text that no spreadsheet runs."""
    return column.str.replace_all(rf"(\A|[;\t\r\n]){_FORMULA}", "${1}'${2}").str.replace(
        rf"\A{_BLANK}", "'${1}"
    )


def unescaped(column: pl.Expr) -> pl.Expr:
    """The inverse of :func:`escaped`."""
    return column.str.replace(rf"\A'{_BLANK}", "${1}").str.replace_all(
        rf"(\A|[;\t\r\n])'{_FORMULA}", "${1}${2}"
    )


def unescaped_text(text: str) -> str:
    """As :func:`unescaped`, of one text."""
    return str(pl.DataFrame({"text": [text]}).select(unescaped(pl.col("text"))).item())


def for_spreadsheet(table: pl.DataFrame) -> pl.DataFrame:
    """Lists joined by ``;``, and text cells that a spreadsheet would run as a formula escaped by ``'``.

    Columns of records (the words of an utterance) are left out: a cell has no place for them.
    """
    records = [n for n, kind in table.schema.items() if isinstance(kind, pl.List) and kind.inner.is_nested()]
    table = table.drop(records)
    joined = [pl.col(n).list.join(";").alias(n) for n, kind in table.schema.items() if kind == pl.List]
    table = table.with_columns(joined) if joined else table
    texts = [name for name, kind in table.schema.items() if kind == pl.String]
    return table.with_columns(escaped(pl.col(texts))) if texts else table


def from_spreadsheet(table: pl.DataFrame) -> pl.DataFrame:
    """Undo what CSV does to the table: apostrophes before formulas, lists joined by ``;``, flags as words."""
    table = table.with_columns(unescaped(pl.all()))
    truth = {"true": True, "false": False}
    flags = [f"has_{m}" for m in MODALITIES if f"has_{m}" in table.columns]
    table = table.with_columns(
        # What is neither true nor false becomes null, which `checked` refuses.
        pl.col(name).str.to_lowercase().replace_strict(truth, default=None, return_dtype=pl.Boolean())
        for name in flags
    )
    lists = [pl.col(name).str.split(";") for name in ("quality", "plausible") if name in table.columns]
    return table.with_columns(lists)
