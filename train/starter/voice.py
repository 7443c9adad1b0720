"""Voice features for the starter bundle: RAVDESS and EmoDB through the encoder that a run uses.

Livingstone & Russo, "The Ryerson Audio-Visual Database of Emotional Speech and Song (RAVDESS)",
PLoS ONE 13(5), 2018; Burkhardt et al., "A Database of German Emotional Speech", Interspeech 2005.
"""

from __future__ import annotations

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
AUGMENTED_COPIES = 2  # of every training clip, beside the clean one
QUIET_DB = -35.0  # below the loudest frame: silence around the sentence, which no utterance of a run has
FRAME = 400  # samples, 25 ms


@dataclass(frozen=True)
class Voices:
    """Clips as vectors, with what they are of."""

    values: NDArray[np.float32]  # (n, d)
    labels: tuple[str, ...]  # MELD's names
    speakers: tuple[str, ...]  # such as "ravdess-07"
    splits: tuple[str, ...]  # train, validation, test: by speaker
    clean: NDArray[np.bool_]  # (n,) False for augmented copies

    def rows(self, split: str, *, clean: bool = False) -> NDArray[np.int64]:
        """Rows of a split; of its clean clips only if asked."""
        keep = np.array([s == split for s in self.splits]) & (self.clean | (not clean))
        return np.flatnonzero(keep)


def clips(speech: Path, limit: int | None = None) -> Iterator[tuple[str, str, str, NDArray[np.float32]]]:
    """(label, speaker, split, samples) of every clip with a label of MELD's; ``limit`` per corpus."""
    for corpus, by in (("ravdess", "actor"), ("emodb", "speaker")):
        table = pl.read_csv(speech / f"{corpus}.csv", schema_overrides={by: pl.String})
        table = table.filter(pl.col("emotion").is_in(list(TO_MELD)))
        if limit is not None:
            table = table.sample(min(limit, len(table)), seed=0, shuffle=True)
        for row in table.iter_rows(named=True):
            samples, rate = soundfile.read(speech / row["file"], dtype="float32")
            if rate != RATE_HZ:
                raise ValueError(f"{row['file']} has {rate} Hz, expected {RATE_HZ}")
            split = {"dev": "validation"}.get(row["split"], row["split"])
            yield TO_MELD[row["emotion"]], f"{corpus}-{row[by]}", split, trimmed(samples)


def trimmed(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """The clip without the silence at its ends, as the utterances of a run are cut."""
    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
    level = 10 * np.log10(np.mean(frames**2, axis=1) + 1e-12)
    loud = np.flatnonzero(level > level.max() + QUIET_DB)
    first, last = max(loud[0] - 4, 0), min(loud[-1] + 5, len(frames))
    return samples[first * FRAME : last * FRAME]


def through_a_channel(samples: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """The clip as another microphone and room would give it: level, noise, band limit, echo."""
    x = samples.astype(np.float64)
    if rng.random() < 0.4:  # a room: exponentially decaying noise as impulse response
        length = int(rng.uniform(0.1, 0.4) * RATE_HZ)
        tail = rng.standard_normal(length) * np.exp(-6.9 * np.arange(length) / length)
        tail *= rng.uniform(0.1, 0.4) / np.sqrt(np.sum(tail**2))
        tail[0] = 1.0
        x = np.convolve(x, tail)[: len(x)]
    spectrum = np.fft.rfft(x)
    hertz = np.fft.rfftfreq(len(x), 1 / RATE_HZ)
    low, high = rng.uniform(0, 200), rng.choice([3400.0, 5000.0, 7000.0, 8000.0], p=[0.2, 0.2, 0.2, 0.4])
    spectrum[(hertz < low) | (hertz > high)] *= 0.03
    tilt = rng.uniform(-4, 4)  # dB an octave, around 1 kHz
    spectrum *= 10 ** (tilt * np.log2(np.maximum(hertz, 50) / 1000) / 20)
    x = np.fft.irfft(spectrum, len(x))
    rms = np.sqrt(np.mean(x**2)) + 1e-9
    noise = np.cumsum(rng.standard_normal(len(x))) if rng.random() < 0.5 else rng.standard_normal(len(x))
    noise = noise - noise.mean()
    x += noise / (np.std(noise) + 1e-9) * rms * 10 ** (-rng.uniform(12, 40) / 20)
    x *= 10 ** (rng.uniform(-36, -14) / 20) / rms
    return np.clip(x, -1, 1).astype(np.float32)


def encode_clip(encoder: Encoder, samples: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """The vector of one clip through a run's own encoder: one utterance in a recording of that length."""
    audio = Audio(np.round(np.clip(samples, -1, 32767 / 32768) * 32768).astype(np.int16))
    whole = Utterance(0, 0, 0.0, audio.duration_s, "SPEAKER_00", 0.0)
    features = encoder(Evidence(audio, None), [whole])
    return features.values[0] if features.present[0] else None


def load_voices(speech: Path, work: Path, spec: Mapping[str, Any], limit: int | None = None) -> Voices:
    """Encode all clips, or read them from ``work/voice.safetensors`` where they are encoded already.

    Args:
        speech: the folder of ``ravdess.csv`` and ``emodb.csv``.
        spec: of the audio encoder.
        limit: use this many clips of each corpus only (a quick run).
    """
    cache = work / "voice.safetensors"
    index = work / "voice.parquet"
    if not (cache.exists() and index.exists()):
        encoder = make_encoder("audio", spec, None, "cpu")
        rng = np.random.default_rng(0)
        values, rows = [], []
        for label, speaker, split, samples in tqdm(clips(speech, limit), desc="voices", disable=None):
            copies = [samples]
            if split == "train":
                copies += [through_a_channel(samples, rng) for _ in range(AUGMENTED_COPIES)]
            for number, copy in enumerate(copies):
                vector = encode_clip(encoder, copy)
                if vector is not None:
                    values.append(vector)
                    rows.append({"label": label, "speaker": speaker, "split": split, "clean": number == 0})
        with written_whole(index) as temporary:
            pl.DataFrame(rows).write_parquet(temporary)
        with written_whole(cache) as temporary:
            save_file({"values": np.stack(values)}, temporary)
    table = pl.read_parquet(index)
    return Voices(
        load_file(cache)["values"],
        tuple(table["label"]),
        tuple(table["speaker"]),
        tuple(table["split"]),
        table["clean"].to_numpy(),
    )
