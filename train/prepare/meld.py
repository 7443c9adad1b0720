"""MELD (Poria et al., ACL 2019): TV dialogue, seven emotions, three sentiments; the official CSV files.

The sentiment comes from the data set's own column: surprise is positive about as often as it is
negative, so no map from emotion to sentiment exists.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from train.corpus import SENTIMENTS
from train.prepare.source import Source, chosen, read_rows, split_of

LABELS = ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger")
FILES = {"train": "train_sent_emo.csv", "validation": "dev_sent_emo.csv", "test": "test_sent_emo.csv"}
NAMES = {
    "dialogue_id": "Dialogue_ID",
    "utterance_id": "Utterance_ID",
    "speaker": "Speaker",
    "text": "Utterance",
    "start": "StartTime",
    "end": "EndTime",
    "season": "Season",
    "episode": "Episode",
}
NEEDED = ("Dialogue_ID", "Utterance_ID", "Speaker", "Utterance", "Emotion", "Sentiment")


def read(path: Path) -> Source:
    """Read the folder that holds ``train_sent_emo.csv``, ``dev_sent_emo.csv``, ``test_sent_emo.csv``.

    Raises:
        UsageError: a file or a column is missing, or a cell is faulty.
    """
    parts = []
    for split, name in FILES.items():
        file = path / name
        rows = read_rows(file, NEEDED)
        emotion = chosen(rows["Emotion"], {label: label for label in LABELS}, file)
        sentiment = chosen(rows["Sentiment"], {label: label for label in SENTIMENTS}, file)
        parts.append(split_of(rows, file, split, NAMES, emotion, sentiment))
    provenance = {"source": "meld", "files": list(FILES.values())}
    return Source(table=pl.concat(parts), labels=LABELS, provenance=provenance)
