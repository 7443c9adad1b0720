"""A trimodal corpus made of three: MELD's dialogues with voices and faces of the utterance's emotion.

No open corpus has text, voice and face in conversation. Here every speaker of a dialogue gets one voice (an
actor of RAVDESS or EmoDB), and every utterance a clip of that voice and faces of FER2013, six in ten of
them with its label. The pairing is made, not recorded: it teaches the network how modalities add up and
what to do when one is missing, and nothing about how people really sound and look together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from annotator.encode import make_encoder
from annotator.encode.audio import VoiceScores
from annotator.encode.face import FaceNet, face_features, load_face_net
from annotator.records import Features, UsageError
from train.corpus import Corpus, write_corpus
from train.starter.faces import MELD_LABELS, FaceSplits
from train.starter.voice import Voices, turn_scores

# Recordings lack a voice seldom, a face often.
VOICE_PRESENT, FACE_PRESENT = 0.9, 0.7
# Acted clips always show their label; people often say emotional words in a plain voice or with a plain
# face. Without this the network believes a flat voice more than any words.
TELLING = 0.6  # share of voices and faces that carry the utterance's label
NEUTRAL = 0.7  # of the others, the share that is neutral; the rest shows any emotion
FACES_A_TURN = 4  # at most; a run pools the frames of an utterance
DRAWS = 2  # copies of each training dialogue, each with other voices and faces
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class FacePool:
    """Grey crops and labels (in MELD's order) that a split draws from; the network has not seen them."""

    crops: NDArray[np.uint8]
    labels: NDArray[np.int64]


def face_pools(splits: FaceSplits) -> dict[str, FacePool]:
    """Training and validation draw from the faces set aside in training, the test from the test set.

    Faces that the network has learned by heart would look more telling than faces are.
    """
    crops, labels = splits.dev
    odd = np.arange(len(labels)) % 4 == 3
    return {
        "train": FacePool(crops[~odd], labels[~odd]),
        "validation": FacePool(crops[odd], labels[odd]),
        "test": FacePool(*splits.test),
    }


def made_pairs(
    meld: Corpus,
    voices: Voices,
    scores: Mapping[str, VoiceScores],
    faces: dict[str, FacePool],
    weights: Path,
    out: Path,
    *,
    audio_spec: Mapping[str, Any],
    face_spec: Mapping[str, Any],
    seed: int = 0,
) -> Corpus:
    """Write the made corpus to ``out``: MELD's rows with voice and face features drawn by label.

    Args:
        meld: with text features.
        scores: of each voice, from classifiers that have not heard it.
        weights: the folder of the encoders' files.
    """
    rng = np.random.default_rng(seed)
    text = meld.features["text"]
    tables, row_numbers, recordings = [], [], []
    for split in SPLITS:
        for copy in range(DRAWS if split == "train" else 1):
            part = meld.table.with_row_index("row").filter(pl.col("split") == split)
            row_numbers.append(part["row"].to_numpy())
            named = pl.col("dialogue_id") + (f"-{copy}" if copy else "")
            tables.append(part.drop("row").with_columns(named))
            recordings += [f"{split} {s} {e} {copy}" for s, e in part.select("season", "episode").iter_rows()]
    table = pl.concat(tables)
    rows = np.concatenate(row_numbers)

    specs = {"audio": dict(audio_spec), "face": dict(face_spec)}
    made = {m: make_encoder(m, spec, weights, "cpu").fingerprint for m, spec in specs.items()}
    net = load_face_net(weights / str(face_spec["weights"]))
    features = {
        "text": Features(text.values[rows], text.present[rows]),
        "audio": draw_voices(table, recordings, voices, scores, rng),
        "face": draw_faces(table, faces, net, rng),
    }
    return write_corpus(
        out,
        table,
        meld.labels,
        features,
        encoders={**meld.header.encoders, **specs},
        fingerprints={**meld.header.fingerprints, **made},
        weights=weights,
        provenance={
            "source": "MELD with voices of RAVDESS and EmoDB and faces of FER2013 drawn by label",
            "pairing": "made, not recorded",
            "seed": seed,
        },
    )


def shown(emotions: Sequence[str], rng: np.random.Generator) -> list[str]:
    """What a voice or a face shows of the utterances' emotions: often those, else mostly none."""

    def one(emotion: str) -> str:
        if rng.random() < TELLING:
            return emotion
        return "neutral" if rng.random() < NEUTRAL else MELD_LABELS[int(rng.integers(len(MELD_LABELS)))]

    return [one(emotion) for emotion in emotions]


def draw_voices(
    table: pl.DataFrame,
    recordings: Sequence[str],
    voices: Voices,
    scores: Mapping[str, VoiceScores],
    rng: np.random.Generator,
) -> Features:
    """A voice and a channel for every speaker of an episode, and a clip of it with each utterance's emotion.

    Args:
        recordings: (n,) the episode of each row, as a recording would hold it: a speaker's manner is
            known from all of their turns in it.
    """
    by: dict[tuple[str, str], list[int]] = {}  # (made recording, emotion) -> clips
    made: dict[str, set[str]] = {}
    for split in SPLITS:
        for row in voices.rows(split):
            by.setdefault((voices.recordings[row], voices.labels[row]), []).append(int(row))
            made.setdefault(split, set()).add(voices.recordings[row])
    known = {split: sorted(keys) for split, keys in made.items()}
    chosen: dict[str, str] = {}
    clips = np.full(len(table), -1, np.int64)
    present = rng.random(len(table)) < VOICE_PRESENT
    who = [f"{recording} {speaker}" for recording, speaker in zip(recordings, table["speaker"], strict=True)]
    for i, emotion in enumerate(shown(table["emotion"].to_list(), rng)):
        split = table["split"][i]
        if who[i] not in chosen:
            chosen[who[i]] = str(rng.choice(known[split]))
        # EmoDB has no surprise, and a made recording may lack an emotion: another voice speaks then.
        candidates = by.get((chosen[who[i]], emotion))
        if candidates is None:
            others = [key for key in known[split] if (key, emotion) in by]
            if not others:
                raise UsageError(f"No {split} voice has {emotion}: use more of the speech corpora.")
            candidates = by[str(rng.choice(others)), emotion]
        if present[i]:
            clips[i] = rng.choice(candidates)
    return Features(turn_scores(voices, clips, who, scores), present)


def draw_faces(
    table: pl.DataFrame, faces: dict[str, FacePool], net: FaceNet, rng: np.random.Generator
) -> Features:
    """The mean of one to four faces with the emotion of each utterance, or none."""
    # An utterance's feature is the mean over its crops, so every crop is encoded once.
    vectors = {split: face_features(net, list(pool.crops[:, None])) for split, pool in faces.items()}
    rows_of = {
        (split, label): np.flatnonzero(pool.labels == label)
        for split, pool in faces.items()
        for label in range(len(MELD_LABELS))
    }
    values = np.zeros((len(table), net.width), np.float32)
    present = rng.random(len(table)) < FACE_PRESENT
    shown_emotions = shown(table["emotion"].to_list(), rng)
    for i, row in enumerate(table.iter_rows(named=True)):
        if present[i]:
            candidates = rows_of[row["split"], MELD_LABELS.index(shown_emotions[i])]
            chosen = rng.choice(candidates, int(rng.integers(1, FACES_A_TURN + 1)))
            values[i] = vectors[row["split"]][chosen].mean(0)
    return Features(values, present)
