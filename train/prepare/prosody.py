"""Prosody of MELD's utterances, as measured with Praat on the published clips: a voice without the sound.

Eight numbers an utterance (Wu et al., "Beyond Silent Letters", Findings of NAACL 2025), for those who have
no clips. They stand beside themselves less the mean over the speaker's utterances in the dialogue, since a
pitch says little before one knows the voice.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from annotator.records import Features, UsageError
from train.prepare.source import read_rows

KEY = ("split", "Dialogue_ID", "Utterance_ID")
MEASURES = (
    "duration",  # s; its logarithm is taken, a few published clips last minutes
    "avg_intensity",  # dB
    "intensity_variation",  # dB
    "avg_pitch",  # Hz
    "pitch_std",  # Hz
    "pitch_range",  # Hz
    "articulation_rate",  # syllables/s
    "mean_hnr",  # dB
)
WIDTH = 2 * len(MEASURES)
SPLITS = {"train": "train", "validation": "dev", "test": "test"}
SHORTEST_S = 0.05
ENCODER = {"name": "prosody"}


def read_prosody(file: Path, table: pl.DataFrame) -> Features:
    """Features (n, 16) of a corpus' rows; an utterance of which nothing was measured is absent.

    A single measure that is missing, such as the pitch of a whisper, takes the mean of the training split.

    Args:
        file: a CSV keyed by ``split`` (train, dev, test), ``Dialogue_ID`` and ``Utterance_ID``.
        table: with ``split``, ``dialogue_id``, ``speaker``, and the source's ids.

    Raises:
        UsageError: a column is missing or a cell is no number.
    """
    rows = read_rows(file, (*KEY, *MEASURES))
    try:
        numbers = rows.select(pl.col(*KEY), pl.col(*MEASURES).cast(pl.Float64))
    except pl.exceptions.PolarsError as error:
        raise UsageError(f"{file} has a cell that is no number: {error}") from error
    keys = table.select(
        pl.col("split").replace_strict(SPLITS).alias(KEY[0]),
        pl.col("source_dialogue_id").cast(pl.String).alias(KEY[1]),
        pl.col("source_utterance_id").cast(pl.String).alias(KEY[2]),
    )
    matched = keys.join(numbers, on=KEY, how="left", maintain_order="left", validate="m:1")
    values = matched.select(pl.col(*MEASURES).fill_null(float("nan"))).to_numpy()
    values[:, 0] = np.log(np.maximum(values[:, 0], SHORTEST_S))
    present = np.isfinite(values).any(1)
    training = (table["split"] == "train").to_numpy()
    measured = np.where(np.isfinite(values), values, np.nan)
    means = np.array([np.mean(c[training & np.isfinite(c)]) for c in measured.T])
    filled = np.where(np.isfinite(values), values, means)

    speakers = table.select(pl.struct("dialogue_id", "speaker").rank("dense")).to_series().to_numpy() - 1
    counts = np.bincount(speakers, present)
    sums = np.stack([np.bincount(speakers, c * present) for c in filled.T], 1)
    speaker_means = sums / np.maximum(counts, 1)[:, None]
    joined = np.concatenate((filled, filled - speaker_means[speakers]), 1).astype(np.float32)
    joined[~present] = 0
    return Features(joined, present)
