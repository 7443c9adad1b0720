"""Tables as a run writes them, made by hand."""

from __future__ import annotations

from typing import Any

import polars as pl

from annotator.records import MODALITIES
from annotator.table import schema

LABELS = ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger")


def utterance(**given: Any) -> dict[str, Any]:
    """One row: joy, said in the first two seconds, unless told otherwise."""
    emotion = given.get("emotion", "joy")
    row: dict[str, Any] = {
        "file": "talk.mp4",
        "file_id": "0" * 64,
        "dialogue_id": 0,
        "utterance_id": 0,
        "start": 0.0,
        "end": 2.0,
        "speaker": "SPEAKER_00",
        "speaker_confidence": 0.9,
        "overlap": 0.0,
        "text": "So good to see you.",
        "text_source": "sidecar",
        "language": "en",
        "asr_confidence": None,
        "emotion": emotion,
        "confidence": 0.7,
        **{f"p_{label}": 0.7 if label == emotion else 0.05 for label in LABELS},
        "sentiment": "positive",
        "p_positive": 0.8,
        "p_neutral_sentiment": 0.1,
        "p_negative": 0.1,
        "plausible": None,
        **{f"{modality}_{what}": None for modality in MODALITIES for what in ("emotion", "confidence")},
        "has_text": True,
        "has_audio": True,
        "has_face": False,
        "face_coverage": None,
        "quality": [],
        "model": "starter 0.1.0",
    }
    return row | given


def table_of(*rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=schema(LABELS))
