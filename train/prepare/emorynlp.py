"""EmoryNLP emotion detection (Zahiri & Choi, 2018): TV dialogue, seven emotions.

The labels are the data set's own in lower case. It has no sentiment; one follows from the
emotion: joyful, peaceful and powerful are positive, scared, mad and sad negative.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from train.prepare import meld
from train.prepare.source import Source, chosen, read_rows, split_of

SENTIMENT = {
    "neutral": "neutral",
    "joyful": "positive",
    "peaceful": "positive",
    "powerful": "positive",
    "scared": "negative",
    "mad": "negative",
    "sad": "negative",
}
LABELS = tuple(SENTIMENT)
FILES = {"train": "train.csv", "validation": "dev.csv", "test": "test.csv"}
NAMES = {**meld.NAMES, "start": "Start_Time", "end": "End_Time"}
NEEDED = ("Dialogue_ID", "Utterance_ID", "Speaker", "Utterance", "Emotion")


def read(path: Path) -> Source:
    """Read the folder that holds ``train.csv``, ``dev.csv`` and ``test.csv``.

    Several speakers of one utterance, joined with `` | ``, count as one speaker of their own.

    Raises:
        UsageError: a file or a column is missing, or a cell is faulty.
    """
    parts = []
    for split, name in FILES.items():
        file = path / name
        rows = read_rows(file, NEEDED, "en")
        emotion = chosen(rows["Emotion"], {label: label for label in LABELS}, file)
        sentiment = [None if label is None else SENTIMENT[label] for label in emotion]
        parts.append(split_of(rows, file, split, NAMES, emotion, sentiment))
    provenance = {"source": "emorynlp", "files": list(FILES.values())}
    return Source(table=pl.concat(parts), labels=LABELS, provenance=provenance)
