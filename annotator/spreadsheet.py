"""What CSV does to a table, and back: lists joined, and text that a spreadsheet would run escaped."""

from __future__ import annotations

import polars as pl

from annotator.records import MODALITIES

# A spreadsheet takes a cell that begins with one of these for a formula.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
# A cell that begins like this was escaped; the apostrophe is not the text's.
ESCAPED_FORMULA = r"\A'([=+\-@\t\r])"


def for_spreadsheet(table: pl.DataFrame) -> pl.DataFrame:
    """Lists joined by ``;``, and text cells that a spreadsheet would run as a formula escaped by ``'``.

    Columns of records (the words of an utterance) are left out: a cell has no place for them.
    """
    records = [n for n, kind in table.schema.items() if isinstance(kind, pl.List) and kind.inner.is_nested()]
    table = table.drop(records)
    joined = [pl.col(n).list.join(";").alias(n) for n, kind in table.schema.items() if kind == pl.List]
    table = table.with_columns(joined) if joined else table
    starts = pl.any_horizontal
    escaped = [
        pl.when(starts([pl.col(name).str.starts_with(s) for s in FORMULA_STARTS]))
        .then(pl.concat_str(pl.lit("'"), pl.col(name)))
        .otherwise(pl.col(name))
        .alias(name)
        for name, kind in table.schema.items()
        if kind == pl.String
    ]
    return table.with_columns(escaped) if escaped else table


def from_spreadsheet(table: pl.DataFrame) -> pl.DataFrame:
    """Undo what CSV does to the table: apostrophes before formulas, lists joined by ``;``, flags as words."""
    table = table.with_columns(pl.all().str.replace(ESCAPED_FORMULA, "$1"))
    truth = {"true": True, "false": False}
    flags = [f"has_{m}" for m in MODALITIES if f"has_{m}" in table.columns]
    table = table.with_columns(
        # What is neither true nor false becomes null, which `checked` refuses.
        pl.col(name).str.to_lowercase().replace_strict(truth, default=None, return_dtype=pl.Boolean())
        for name in flags
    )
    if "quality" in table.columns:
        table = table.with_columns(pl.col("quality").fill_null("").str.split(";"))
    return table
