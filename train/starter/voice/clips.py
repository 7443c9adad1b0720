"""Acted speech as vectors: RAVDESS and EmoDB through the encoder that a run uses.

Livingstone & Russo, "The Ryerson Audio-Visual Database of Emotional Speech and Song (RAVDESS)",
PLoS ONE 13(5), 2018; Burkhardt et al., "A Database of German Emotional Speech", Interspeech 2005.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import soundfile
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from tqdm import tqdm

from annotator.encode import Encoder, make_encoder
from annotator.records import RATE_HZ, Audio, Evidence, Utterance
from annotator.table import written_whole
from train.starter.voice.channel import Samples, draw_channel, through

# RAVDESS' and EmoDB's names -> MELD's. EmoDB's boredom has no counterpart.
TO_MELD = {
    "neutral": "neutral",
    "calm": "neutral",
    "happy": "joy",
    "happiness": "joy",
    "sad": "sadness",
    "sadness": "sadness",
    "angry": "anger",
    "anger": "anger",
    "fearful": "fear",
    "fear": "fear",
    "disgust": "disgust",
    "surprised": "surprise",
}
COPIES = 4  # of every clip, each through a channel, beside the clean one
TURNS = 20  # of a speaker in one made recording, which share a channel
QUIET_DB = -35.0  # below the loudest frame: silence around the sentence, which no utterance of a run has
FRAME = 400  # samples, 25 ms


@dataclass(frozen=True)
class Voices:
    """Clips as vectors, with what they are of."""

    values: NDArray[np.float32]  # (n, d)
    labels: tuple[str, ...]  # MELD's names
    speakers: tuple[str, ...]  # such as "ravdess-07"
    sexes: tuple[str, ...]
    splits: tuple[str, ...]  # train, validation, test: by speaker
    recordings: tuple[str, ...]  # clips of one speaker with one key came through the same channel
    clean: NDArray[np.bool_]  # (n,) False for what came through a made channel

    def rows(self, split: str, *, clean: bool = False) -> NDArray[np.int64]:
        """Rows of a split; of its clean clips only if asked."""
        keep = np.array([s == split for s in self.splits]) & (self.clean | (not clean))
        return np.flatnonzero(keep)


@dataclass(frozen=True)
class Recording:
    """Some clips of a speaker that go through one channel."""

    key: str  # such as "2-ravdess-07-1": copy, speaker, part
    clean: bool
    rows: NDArray[np.int64]  # of the table of clips


def load_voices(speech: Path, work: Path, spec: Mapping[str, Any], limit: int | None = None) -> Voices:
    """Encode all clips, clean and through channels; those that are in ``work`` already are read.

    Args:
        speech: the folder of ``ravdess.csv`` and ``emodb.csv``.
        work: gets a folder of vectors, a file for each made recording.
        spec: of the audio encoder.
        limit: use about this many clips of each corpus only, and one channel (a quick run).
    """
    table = clip_table(speech, limit)
    encoder = make_encoder("audio", spec, None, "cpu")
    folder = work / f"voice-{encoder.fingerprint}{'' if limit is None else f'-{limit}'}"
    made = list(recordings(table, COPIES if limit is None else 1))
    values, rows = [], []
    for recording in tqdm(made, desc="voices", disable=None):
        file = folder / f"{recording.key}.safetensors"
        if not file.exists():
            encode_recording(recording, table["file"], speech, encoder, file)
        stored = load_file(file)
        values.append(stored["values"][stored["present"]])
        rows.append(stored["rows"][stored["present"]])
    found = table[np.concatenate(rows)]
    counts = [len(r) for r in rows]
    return Voices(
        np.concatenate(values),
        tuple(found["label"]),
        tuple(found["speaker"]),
        tuple(found["sex"]),
        tuple(found["split"]),
        tuple(np.repeat([r.key for r in made], counts).tolist()),
        np.repeat([r.clean for r in made], counts),
    )


def clip_table(speech: Path, limit: int | None = None) -> pl.DataFrame:
    """``file, speaker, sex, split, label`` of clips with a label of MELD's, about ``limit`` a corpus."""
    tables = []
    for corpus, by in (("ravdess", "actor"), ("emodb", "speaker")):
        table = pl.read_csv(speech / f"{corpus}.csv", schema_overrides={by: pl.Int32})
        table = table.filter(pl.col("emotion").is_in(list(TO_MELD)))
        if limit is not None:  # some of each speaker and emotion, so that no split lacks one
            groups = table.select(by, "emotion").n_unique()
            table = table.filter(pl.int_range(pl.len()).over(by, "emotion") < max(1, limit // groups))
        number = pl.col(by).cast(pl.String).str.zfill(2)
        tables.append(
            table.select(
                "file",
                pl.format("{}-{}", pl.lit(corpus), number).alias("speaker"),
                "sex",
                pl.col("split").replace({"dev": "validation"}),
                pl.col("emotion").replace_strict(TO_MELD).alias("label"),
            )
        )
    return pl.concat(tables)


def recordings(table: pl.DataFrame, copies: int) -> Iterator[Recording]:
    """The clean clips by speaker, then each copy of them in recordings of about ``TURNS`` turns."""
    speakers = table["speaker"].to_numpy()
    for copy in range(copies + 1):
        for speaker in sorted(set(speakers), reverse=True):
            rows = np.flatnonzero(speakers == speaker)
            if copy:
                rng = np.random.default_rng([copy, zlib.crc32(speaker.encode())])
                rows = rng.permutation(rows)
            parts = np.array_split(rows, max(1, round(len(rows) / TURNS)) if copy else 1)
            for number, part in enumerate(parts):
                yield Recording(f"{copy}-{speaker}-{number}", copy == 0, np.sort(part))


def encode_recording(
    recording: Recording, files: pl.Series, speech: Path, encoder: Encoder, target: Path
) -> None:
    """Write ``rows`` of the table, their ``values`` ``(n, d)`` and which are ``present``."""
    clips = [read_clip(speech / files[int(row)]) for row in recording.rows]
    if not recording.clean:
        rng = np.random.default_rng(zlib.crc32(recording.key.encode()))
        clips = through(draw_channel(rng), clips, rng)
    values = np.zeros((len(clips), encoder.width), np.float32)
    present = np.zeros(len(clips), np.bool_)
    for i, clip in enumerate(clips):
        vector = encode_clip(encoder, clip)
        if vector is not None:
            values[i], present[i] = vector, True
    with written_whole(target) as temporary:
        save_file({"rows": recording.rows, "values": values, "present": present}, temporary)


def read_clip(file: Path) -> Samples:
    """The clip without the silence around it. Raises: ValueError when it is not at 16 kHz."""
    samples, rate = soundfile.read(file, dtype="float32")
    if rate != RATE_HZ:
        raise ValueError(f"{file} has {rate} Hz, expected {RATE_HZ}")
    return trimmed(samples)


def trimmed(samples: Samples) -> Samples:
    """The clip without the silence at its ends, as the utterances of a run are cut."""
    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
    level = 10 * np.log10(np.mean(frames**2, axis=1) + 1e-12)
    loud = np.flatnonzero(level > level.max() + QUIET_DB)
    first, last = max(loud[0] - 4, 0), min(loud[-1] + 5, len(frames))
    return samples[first * FRAME : last * FRAME]


def encode_clip(encoder: Encoder, samples: Samples) -> NDArray[np.float32] | None:
    """The vector of one clip through a run's own encoder: one utterance in a recording of that length."""
    audio = Audio(np.round(np.clip(samples, -1, 32767 / 32768) * 32768).astype(np.int16))
    whole = Utterance(0, 0, 0.0, audio.duration_s, "SPEAKER_00", 0.0)
    features = encoder(Evidence(audio, None), [whole])
    return features.values[0] if features.present[0] else None
