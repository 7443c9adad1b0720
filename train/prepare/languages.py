"""The language of each dialogue of a corpus: told by a column, else by its words."""

from __future__ import annotations

import polars as pl

from annotator.languages import iso_639_1, language_of


def dialogue_languages(table: pl.DataFrame) -> dict[str, str | None]:
    """ISO 639-1 by dialogue; one whose words leave it open has that of all the words together.

    Args:
        table: with ``dialogue_id`` and ``text``, and maybe ``language``.
    """
    column = pl.col("language") if "language" in table.columns else pl.lit(None, pl.String)
    dialogues = table.group_by("dialogue_id", maintain_order=True).agg(
        column.drop_nulls().first().alias("language"), pl.col("text").drop_nulls().alias("texts")
    )
    languages: dict[str, str | None] = {}
    for dialogue, language, texts in dialogues.iter_rows():
        languages[dialogue] = iso_639_1(language) or language_of(texts)
    if None in languages.values():
        # Evenly from all of it: a corpus begins anywhere.
        texts = table["text"].drop_nulls()
        overall = language_of(texts.gather_every(max(1, len(texts) // 100)))
        languages = {dialogue: language or overall for dialogue, language in languages.items()}
    return languages
