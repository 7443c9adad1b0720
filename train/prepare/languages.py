"""The language of each dialogue of a corpus: told by a column, else by its words."""

from __future__ import annotations

import polars as pl

from annotator.languages import iso_639_1, language_of


def dialogue_languages(table: pl.DataFrame) -> dict[str, str | None]:
    """ISO 639-1 by dialogue; one whose words leave it open has that of all the words together.

    Args:
        table: with ``dialogue_id`` and ``text``, and maybe ``language``.
    """
    told = pl.col("language") if "language" in table.columns else pl.lit(None, pl.String)
    dialogues = table.group_by("dialogue_id", maintain_order=True).agg(
        told.drop_nulls().first().alias("told"), pl.col("text").drop_nulls().alias("texts")
    )
    found: dict[str, str | None] = {}
    for dialogue, language, texts in dialogues.iter_rows():
        found[dialogue] = iso_639_1(language) or language_of(texts)
    if None in found.values():
        # Evenly from all of it: a corpus begins anywhere.
        texts = table["text"].drop_nulls()
        overall = language_of(texts.gather_every(max(1, len(texts) // 100)))
        found = {dialogue: language or overall for dialogue, language in found.items()}
    return found
