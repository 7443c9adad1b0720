"""What a corpus' files hold: names, columns and the header."""

from __future__ import annotations

from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from annotator.records import SENTIMENTS

FORMAT = 1
SPLITS = ("train", "validation", "test")
UNLABELLED = -100  # the target that the losses and metrics skip

TABLE, HEADER, ENCODERS = "utterances.parquet", "corpus.json", "encoders"
REQUIRED: dict[str, type[pl.DataType]] = {
    "split": pl.String,
    "dialogue_id": pl.String,
    "utterance_id": pl.Int32,
    "speaker": pl.String,
    "emotion": pl.String,
    "sentiment": pl.String,
}
OPTIONAL: dict[str, type[pl.DataType]] = {"start": pl.Float64, "end": pl.Float64, "text": pl.String}


class SplitCount(BaseModel):
    """How much a split holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dialogues: int
    utterances: int
    labels: dict[str, int]  # utterances of each; those without a label are in none


class Header(BaseModel):
    """What ``corpus.json`` holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int
    labels: tuple[str, ...] = Field(min_length=2)
    sentiments: tuple[str, ...] = SENTIMENTS
    speakers: tuple[str, ...] | None = None  # set where a speaker means the same in every dialogue
    encoders: dict[str, dict[str, Any]] = {}  # a modality's encoder, as encode.make_encoder takes it
    fingerprints: dict[str, str] = {}  # of the encoders' weights, by modality
    widths: dict[str, int] = {}
    counts: dict[str, SplitCount] = {}  # by split
    provenance: dict[str, Any] = {}


def count(table: pl.DataFrame, labels: tuple[str, ...]) -> dict[str, SplitCount]:
    """What each split that has rows holds."""
    counts = {}
    for split in SPLITS:
        rows = table.filter(pl.col("split") == split)
        if rows.height:
            counts[split] = SplitCount(
                dialogues=rows["dialogue_id"].n_unique(),
                utterances=rows.height,
                labels={label: int((rows["emotion"] == label).sum()) for label in labels},
            )
    return counts


def spans(ids: list[str]) -> list[tuple[int, int]]:
    """First row and end of each run of equal ids.

    >>> spans(["a", "a", "b"])
    [(0, 2), (2, 3)]
    """
    starts = [row for row in range(len(ids)) if row == 0 or ids[row] != ids[row - 1]]
    return list(zip(starts, [*starts[1:], len(ids)], strict=True))
