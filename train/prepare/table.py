"""Any table of labelled utterances: a CSV, TSV or Parquet file, as `annotate run` writes or as you make it.

Needed columns: ``dialogue_id, utterance_id, speaker, text, emotion``. Taken where there: ``file`` (a
dialogue is then a file's dialogue), ``split``, ``start``, ``end``, ``sentiment``, and ``p_<label>``,
whose order is the order of the labels.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from annotator.records import UsageError
from train.corpus import SENTIMENTS, split_name
from train.prepare.source import Source, chosen, filled, in_order, read_rows, seconds, whole_numbers

NEEDED = ("dialogue_id", "utterance_id", "speaker", "text", "emotion")
SENTIMENT_COLUMNS = ("p_positive", "p_neutral_sentiment", "p_negative")
SHARES = {"validation": 0.1, "test": 0.1}  # of the dialogues, where the table has no split; the rest trains
# Where a table has no sentiment, that of the emotions whose name leaves no doubt. Others have none.
PLAIN: dict[str, tuple[str, ...]] = {
    "neutral": ("neutral", "neu", "calm"),
    "positive": ("joy", "joyful", "happy", "happiness", "hap", "exc", "excited", "peaceful", "love"),
    "negative": (
        "anger", "angry", "ang", "mad", "sadness", "sad", "fear", "fearful", "scared", "disgust",
        "frustration", "fru", "contempt",
    ),
}  # fmt: skip


def read(path: Path, *, labels: Sequence[str] | None = None, seed: int = 0) -> Source:
    """Read a table.

    Args:
        labels: the emotions in order; by default those of the ``p_<label>`` columns, else all that
            occur, in alphabetical order.
        seed: chooses the dialogues of validation and test where the table has no split (8 : 1 : 1).

    Raises:
        UsageError: a column is missing, a cell is faulty, or there are too few dialogues to split.
    """
    rows = read_rows(path, NEEDED)
    if labels is None:
        shown = [n[2:] for n in rows.columns if n.startswith("p_") and n not in SENTIMENT_COLUMNS]
        labels = shown or sorted({e.strip() for e in rows["emotion"].drop_nulls() if e.strip()})
    if len(labels) < 2:
        raise UsageError(
            f"{path} has the emotion {', '.join(labels) or 'of no row'} only; training needs two or more."
        )
    emotion = chosen(rows["emotion"], {label.lower(): label for label in labels}, path)
    if "sentiment" in rows.columns:
        sentiment = chosen(rows["sentiment"], {name: name for name in SENTIMENTS}, path)
    else:
        plain: dict[str, str] = {name: sentiment for sentiment, names in PLAIN.items() for name in names}
        sentiment = [plain.get((label or "").lower()) for label in emotion]
    dialogue = filled(rows["dialogue_id"], path)
    if "file" in rows.columns:
        dialogue = filled(rows["file"], path) + "#" + dialogue
    text = rows["text"].str.strip_chars()
    if path.suffix.lower() == ".csv":
        # Our own CSV puts an apostrophe before a cell that a spreadsheet would run as a formula.
        text = text.str.replace(r"^'([=+\-@\t\r])", "$1")
    times: dict[str, pl.Series] = {
        name: pl.Series([seconds(t) for t in rows[name]], dtype=pl.Float64)
        for name in ("start", "end")
        if name in rows.columns
    }
    table = pl.DataFrame(
        {
            "split": _splits(rows, dialogue, path, seed),
            "dialogue_id": dialogue,
            "utterance_id": whole_numbers(rows["utterance_id"], path),
            "speaker": filled(rows["speaker"], path),
            **times,
            "text": text,
            "emotion": pl.Series(emotion, dtype=pl.String),
            "sentiment": pl.Series(sentiment, dtype=pl.String),
        }
    )
    return Source(in_order(table), tuple(labels), {"source": "table", "files": [path.name], "seed": seed})


def _splits(rows: pl.DataFrame, dialogue: pl.Series, path: Path, seed: int) -> list[str]:
    if "split" in rows.columns:
        found = []
        for row, value in enumerate(filled(rows["split"], path), start=1):
            try:
                found.append(split_name(value))
            except UsageError as error:
                raise UsageError(f"{path}, row {row} after the header: {error}") from error
        return found
    names = sorted(set(dialogue))
    if len(names) < 3:
        raise UsageError(
            f"{path} has {len(names)} dialogues and no split column: too few to set some apart. "
            "Add a split column (train, validation, test), or more dialogues."
        )
    random.Random(seed).shuffle(names)
    split: dict[str, str] = {}
    for part, share in SHARES.items():
        for name in names[len(split) : len(split) + max(1, round(share * len(names)))]:
            split[name] = part
    return [split.get(name, "train") for name in dialogue]
