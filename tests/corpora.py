"""A small corpus with a planted signal in each modality, for the tests of training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from annotator.records import SENTIMENTS, Features
from train.corpus import SPLITS, Corpus, write_corpus

LABELS = ("calm", "glad", "upset")
WIDTHS = {"text": 8, "audio": 6, "face": 5}


def synthetic_rows(dialogues: tuple[int, int, int], seed: int = 0) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for split, count in zip(SPLITS, dialogues, strict=True):
        for dialogue in range(count):
            for utterance in range(int(random.integers(1, 9))):
                label = int(random.integers(len(LABELS)))
                rows.append(
                    {
                        "split": split,
                        "dialogue_id": f"{split}-{dialogue}",
                        "utterance_id": utterance,
                        "speaker": f"S{random.integers(3)}",
                        "start": float(utterance),
                        "end": utterance + 0.5,
                        "text": f"words {utterance}",
                        "emotion": LABELS[label],
                        "sentiment": SENTIMENTS[(1, 0, 2)[label]],
                    }
                )
    return pl.DataFrame(rows)


def synthetic_features(
    rows: pl.DataFrame,
    modalities: tuple[str, ...] = ("text", "audio", "face"),
    strength: float = 1.0,
    seed: int = 0,
    presence: float = 0.9,
) -> dict[str, Features]:
    random = np.random.default_rng(seed)
    code = np.array([LABELS.index(label) for label in rows["emotion"]])
    found = {}
    for modality in modalities:
        planted = random.normal(size=(len(LABELS), WIDTHS[modality]))
        values = strength * planted[code] + random.normal(size=(len(code), WIDTHS[modality]))
        found[modality] = Features(values.astype(np.float32), random.random(len(code)) < presence)
    return found


def synthetic_corpus(
    folder: Path,
    dialogues: tuple[int, int, int] = (24, 8, 12),
    modalities: tuple[str, ...] = ("text", "audio", "face"),
    strength: float = 1.0,
    presence: float = 0.9,
) -> Corpus:
    rows = synthetic_rows(dialogues)
    features = synthetic_features(rows, modalities, strength, presence=presence)
    encoders = {modality: {"name": f"planted-{modality}"} for modality in modalities}
    return write_corpus(folder, rows, LABELS, features, encoders=encoders, provenance={"source": "synthetic"})
