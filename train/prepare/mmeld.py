"""M-MELD (Ghosh et al. 2022): MELD's labels beside the series' subtitles in other languages.

Files are named by language and split, ``fr_train.csv``. Two thirds to nine tenths of MELD's utterances have a
subtitle; the numbers are MELD's. MELD's own utterances are read too, from the same folder or where they lie.
Dialogues of all languages stand in one table, with a column for the language.
"""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl

from annotator.languages import iso_639_1
from annotator.records import UsageError
from train.prepare import meld
from train.prepare.prosody import SPLITS
from train.prepare.source import Source

NAMES = {**meld.NAMES, "text": "Text"}
NEEDED = ("Dialogue_ID", "Utterance_ID", "Speaker", "Emotion", "Sentiment", "Text")


def read(path: Path, *, english: Path | None = None) -> Source:
    """Read the folder that holds ``fr_train.csv``, ``fr_dev.csv``, ``fr_test.csv`` and so on.

    Args:
        english: MELD's folder, where that is another one.

    Raises:
        UsageError: there is no language, a file or a column is missing, or a cell is faulty.
    """
    languages = languages_in(path)
    if not languages:
        raise UsageError(
            f"{path} has no language: its files are named by language and split, such as fr_train.csv."
        )
    parts: list[pl.DataFrame] = []
    files: list[str] = []
    english = english or path
    if (english / meld.FILES["train"]).is_file():
        parts.append(_of_language(meld.read(english).table, "en"))
        files += meld.FILES.values()
    for language in languages:
        for split, ending in SPLITS.items():
            file = path / f"{language}_{ending}.csv"
            parts.append(_of_language(meld.read_split(file, split, NAMES, NEEDED, language), language))
            files.append(file.name)
    return Source(table=pl.concat(parts), labels=meld.LABELS, provenance={"source": "mmeld", "files": files})


def languages_in(path: Path) -> list[str]:
    """Languages that a folder has a training split of, ISO 639-1."""
    names = (re.fullmatch(r"([a-z]{2})_train\.csv", file.name) for file in path.glob("*_train.csv"))
    return sorted(name[1] for name in names if name is not None and iso_639_1(name[1]) == name[1])


def _of_language(table: pl.DataFrame, language: str) -> pl.DataFrame:
    return table.with_columns(
        pl.lit(f"{language}-").add(pl.col("dialogue_id")).alias("dialogue_id"),
        pl.lit(language).alias("language"),
    )
