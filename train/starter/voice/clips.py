"""Open emotional speech as vectors, through the encoder that a run uses.

Livingstone & Russo, "The Ryerson Audio-Visual Database of Emotional Speech and Song (RAVDESS)", PLoS ONE
13(5), 2018; Burkhardt et al., "A Database of German Emotional Speech", Interspeech 2005; Christop, "nEMO:
Dataset of Emotional Speech in Polish", LREC-COLING 2024. To test only: Latif et al., "Cross Lingual Speech
Emotion Recognition: Urdu vs. Western Languages", FIT 2018; Pichora-Fuller & Dupuis, "Toronto emotional
speech set (TESS)", 2020.
"""

from __future__ import annotations

import hashlib
import inspect
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

from annotator.encode import make_encoder
from annotator.encode.audio import AudioEncoder, trimmed
from annotator.files import written_whole
from annotator.records import RATE_HZ
from train.starter.voice import channel
from train.starter.voice.channel import Samples, draw_channel, through

# The corpora's names -> MELD's. EmoDB's boredom has no counterpart.
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
    "surprise": "surprise",
}
LEARNED = {
    "ravdess": "actor",
    "emodb": "speaker",
    "nemo": "speaker",
}  # with the column that names the speaker
TESTED = {"urdu": "speaker", "tess": "speaker"}  # nothing is learned from these
COPIES = 4  # of every clip to learn from, each through a channel, beside the clean one
SHORT_COPY = 4  # the copy whose clips are cut as short as turns often are
SHORT_S = (0.5, 1.8)
TURNS = 20  # of a speaker in one made recording, which share a channel


def corpus_of(speaker: str) -> str:
    """The corpus of a speaker: ``ravdess`` of ``ravdess-07``."""
    return speaker.partition("-")[0]


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
    seconds: NDArray[np.float64]  # (n,) without the silence around them
    features: str = "whisper"  # name of the encoder that made the values
    digest: str = ""  # of all that they follow from

    def rows(self, split: str, *, clean: bool = False) -> NDArray[np.int64]:
        """Rows of a split of the corpora to learn from; of its clean clips only if asked."""
        learned = np.array([corpus_of(name) in LEARNED for name in self.speakers])
        keep = learned & np.array([s == split for s in self.splits]) & (self.clean | (not clean))
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
        speech: the folder of ``ravdess.csv`` and the others.
        work: gets a folder of vectors, a file for each made recording.
        spec: of the audio encoder.
        limit: use about this many clips of each corpus only, and one channel (a quick run).
    """
    table = clip_table(speech, limit)
    encoder = make_encoder("audio", spec, None, "cpu")
    assert isinstance(encoder, AudioEncoder)
    # Of all that a vector follows from: other clips or other channels are other vectors.
    made_of = [encoder.fingerprint, table.write_csv(), str((COPIES, SHORT_COPY, SHORT_S, TURNS))]
    made_of.append(inspect.getsource(channel))
    digest = hashlib.sha256("\n".join(made_of).encode()).hexdigest()[:16]
    folder = work / f"voice-{digest}"
    made = list(recordings(table, COPIES if limit is None else 1))
    values, rows, seconds = [], [], []
    for recording in tqdm(made, desc="voices", disable=None):
        file = folder / f"{recording.key}.safetensors"
        if not file.exists():
            encode_recording(recording, table["file"], speech, encoder, file)
        stored = load_file(file)
        values.append(stored["values"][stored["present"]])
        rows.append(stored["rows"][stored["present"]])
        seconds.append(stored["seconds"][stored["present"]])
    chosen = table[np.concatenate(rows)]
    counts = [len(r) for r in rows]
    return Voices(
        np.concatenate(values),
        tuple(chosen["label"]),
        tuple(chosen["speaker"]),
        tuple(chosen["sex"]),
        tuple(chosen["split"]),
        tuple(np.repeat([r.key for r in made], counts).tolist()),
        np.repeat([r.clean for r in made], counts),
        np.concatenate(seconds),
        encoder.name,
        digest,
    )


def clip_table(speech: Path, limit: int | None = None) -> pl.DataFrame:
    """``file, corpus, speaker, sex, split, label`` of the clips with a label of MELD's.

    Args:
        limit: about so many of each corpus.
    """
    tables = []
    for corpus, by in (LEARNED | TESTED).items():
        table = pl.read_csv(speech / f"{corpus}.csv", infer_schema=False)
        table = table.filter(pl.col("emotion").is_in(list(TO_MELD)))
        if limit is not None:  # some of each speaker and emotion, so that no split lacks one
            groups = table.select(by, "emotion").n_unique()
            table = table.filter(pl.int_range(pl.len()).over(by, "emotion") < max(1, limit // groups))
        tables.append(
            table.select(
                "file",
                pl.lit(corpus).alias("corpus"),
                pl.format("{}-{}", pl.lit(corpus), pl.col(by).str.zfill(2)).alias("speaker"),
                "sex",
                pl.col("split").replace({"dev": "validation"}),
                pl.col("emotion").replace_strict(TO_MELD).alias("label"),
            )
        )
    return pl.concat(tables)


def recordings(table: pl.DataFrame, copies: int) -> Iterator[Recording]:
    """The clean clips by speaker, then each copy of them in recordings of about ``TURNS`` turns."""
    speakers = table["speaker"].to_numpy()
    learned = set(table.filter(pl.col("corpus").is_in(list(LEARNED)))["speaker"])
    for copy in range(copies + 1):
        for speaker in sorted(learned if copy else set(speakers)):
            rows = np.flatnonzero(speakers == speaker)
            if copy:
                rng = np.random.default_rng([copy, zlib.crc32(speaker.encode())])
                rows = rng.permutation(rows)
            parts = np.array_split(rows, max(1, round(len(rows) / TURNS)) if copy else 1)
            for number, part in enumerate(parts):
                yield Recording(f"{copy}-{speaker}-{number}", copy == 0, np.sort(part))


def encode_recording(
    recording: Recording, files: pl.Series, speech: Path, encoder: AudioEncoder, target: Path
) -> None:
    """Write ``rows`` of the table, their ``values`` ``(n, d)``, ``seconds``, and which are ``present``."""
    clips = [trimmed(read_clip(speech / files[int(row)])) for row in recording.rows]
    if not recording.clean:
        rng = np.random.default_rng(zlib.crc32(recording.key.encode()))
        clips = through(draw_channel(rng), clips, rng)
        if recording.key.startswith(f"{SHORT_COPY}-"):
            clips = [cut_short(clip, rng.uniform(*SHORT_S), rng.random()) for clip in clips]
    values = np.zeros((len(clips), encoder.width), np.float32)
    seconds = np.zeros(len(clips))
    present = np.zeros(len(clips), np.bool_)
    for i, clip in enumerate(clips):
        # As a file would hold it, and as a run finds it.
        clip = np.round(np.clip(clip, -1, 32767 / 32768) * 32768).astype(np.float32)
        clip = trimmed(clip / np.float32(32768))
        vector = encoder.features(clip)
        if vector is not None:
            values[i], seconds[i], present[i] = vector, len(clip) / RATE_HZ, True
    arrays: dict[str, NDArray[Any]] = {"rows": recording.rows, "values": values}
    arrays |= {"seconds": seconds, "present": present}
    with written_whole(target) as temporary:
        save_file(arrays, temporary)


def cut_short(clip: Samples, seconds: float, place: float) -> Samples:
    """So many seconds of a clip; ``place`` from 0 (its start) to 1 (its end)."""
    length = int(seconds * RATE_HZ)
    start = int(max(0, len(clip) - length) * place)
    return clip[start : start + length]


def read_clip(file: Path) -> Samples:
    """The samples of a clip ``(n,)``. Raises: ValueError when it is not at 16 kHz."""
    samples, rate = soundfile.read(file, dtype="float32")
    if rate != RATE_HZ:
        raise ValueError(f"{file} has {rate} Hz, expected {RATE_HZ}")
    transformed: Samples = samples
    return transformed
