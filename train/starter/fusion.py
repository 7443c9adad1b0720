"""A trimodal corpus made of several: MELD's dialogues with voices and faces of the utterance's emotion.

No open corpus has text, voice and face in conversation. Here every speaker of a dialogue gets one voice
(an actor of the speech corpora), and every utterance a clip of that voice and faces of FER2013, six in ten
of them with its label. The pairing is made, not recorded: it teaches the network how modalities add up and
what to do when one is missing, and nothing about how people really sound and look together.

Half of the voices are scored by a model that has heard nothing of their corpus, and tell less: so a user's
voices are heard, whom no model knows.

Training has each dialogue four times: as it is; with word errors as a recogniser makes them; in one
conversation with the others of its episode, since recordings are longer than scenes; and with one or two
of its speakers only. Beside them are recordings of voices alone, mostly of neutral turns, some in one
mood, some in all.
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
from annotator.encode.face import FaceNet, face_features, load_face_net
from annotator.encode.text import TextEncoder
from annotator.encode.voice import VoiceScores
from annotator.labels import SENTIMENT_OF_KIND
from annotator.records import Features, UsageError
from train.adapter.dialogues import Garble
from train.corpus import Corpus, write_corpus
from train.prepare.meld import LABELS as MELD_LABELS
from train.starter.faces import FaceSplits
from train.starter.voice import Voices, turn_scores
from train.starter.voice.fit import labels_of
from train.starter.voice.moods import draw

# Recordings lack a voice seldom, a face often.
VOICE_PRESENT, FACE_PRESENT = 0.9, 0.7
# Acted clips always show their label; people often say emotional words in a plain voice or with a plain
# face. Without this the network believes a flat voice more than any words.
TELLING = 0.6  # share of voices and faces that carry the utterance's label
STRANGE = 0.6  # share of the speakers whose voice the model has heard nothing like
STRANGE_TELLING = 0.25
NEUTRAL_CLASS = MELD_LABELS.index("neutral")
NEUTRAL = 0.7  # of the others, the share that is neutral; the rest shows any emotion
FACES_A_TURN = 4  # at most; a run pools the frames of an utterance
SPLITS = ("train", "validation", "test")
KINDS = ("as it is", "misheard", "episode", "few speakers")  # of training dialogues
MONOLOGUES = 0.3  # of the dialogues with few speakers
FEWEST_LINES = 3  # of a dialogue that has lost speakers
# Recordings of voices alone: how many for each dialogue of a split, and of which kinds.
ACTED = 1.2
ACTED_KINDS = {"mostly neutral": 0.5, "one": 0.25, "all": 0.25}
STRANGE_KINDS = {"neutral": 0.5, "mostly neutral": 0.4, "all": 0.1}  # as people talk
LONGEST_ACTED = 40  # turns


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
    text: TextEncoder,
    text_spec: Mapping[str, Any],
    voices: Voices,
    scores: Mapping[str, VoiceScores],
    strangers: Mapping[str, VoiceScores],
    faces: dict[str, FacePool],
    weights: Path,
    out: Path,
    *,
    audio_spec: Mapping[str, Any],
    face_spec: Mapping[str, Any],
    seed: int = 0,
) -> Corpus:
    """Write the made corpus to ``out``: MELD's rows with voices and faces drawn by label, and voices alone.

    Args:
        meld: the dialogues.
        text: what encodes the texts, by ``text_spec``.
        scores: of each voice, from models that have not heard it.
        strangers: the same, from models that have not heard its corpus.
        weights: the folder of the encoders' files.
    """
    rng = np.random.default_rng(seed)
    tables = [rewritten(meld.table, "train", kind, rng) for kind in KINDS]
    tables += [rewritten(meld.table, split, KINDS[0], rng) for split in SPLITS[1:]]
    table = pl.concat(tables)
    both = (scores, strangers)
    acted, heard = acted_recordings(table, voices, both, rng)
    audio = draw_voices(table, voices, both, rng)
    face = draw_faces(table, faces, load_face_net(weights / str(face_spec["weights"])), rng)
    unique = table["text"].unique(maintain_order=True).to_list()
    place = {line: i for i, line in enumerate(unique)}
    vectors = text.encode_texts(unique)[[place[line] for line in table["text"]]]
    specs = {"text": dict(text_spec), "audio": dict(audio_spec), "face": dict(face_spec)}
    return write_corpus(
        out,
        pl.concat([table, acted]),
        meld.labels,
        {
            "text": _beside(Features(vectors, np.ones(len(table), np.bool_)), len(acted)),
            "audio": _joined(audio, Features(heard, np.ones(len(acted), np.bool_))),
            "face": _beside(face, len(acted)),
        },
        encoders=specs,
        fingerprints={m: make_encoder(m, spec, weights, "cpu").fingerprint for m, spec in specs.items()},
        weights=weights,
        provenance={
            "source": "MELD with voices of RAVDESS, EmoDB and nEMO and faces of FER2013 drawn by label",
            "pairing": "made, not recorded",
            "seed": seed,
        },
    )


def _joined(one: Features, other: Features) -> Features:
    return Features(np.concatenate([one.values, other.values]), np.concatenate([one.present, other.present]))


def _beside(known: Features, count: int) -> Features:
    """The features, and as many rows without any as there are voices alone."""
    nothing = np.zeros((count, known.values.shape[1]), np.float32)
    return _joined(known, Features(nothing, np.zeros(count, np.bool_)))


def rewritten(table: pl.DataFrame, split: str, kind: str, rng: np.random.Generator) -> pl.DataFrame:
    """The dialogues of a split in one of ``KINDS``."""
    part = table.filter(pl.col("split") == split)
    if kind == "as it is":
        return part
    if kind == "misheard":
        words = sorted({word for line in part["text"] for word in line.split()})
        garble = Garble(words, 1.0, rng)
        heard = [
            line
            for d in part.partition_by("dialogue_id", maintain_order=True)
            for line in garble(d["text"].to_list())
        ]
        return part.with_columns(pl.Series("text", heard), pl.col("dialogue_id") + " misheard")
    if kind == "episode":
        named = pl.format("{} season {} episode {}", pl.lit(split), "season", "episode")
        ordered = part.with_columns(named.alias("dialogue_id")).sort(
            "dialogue_id", "start", maintain_order=True
        )
        return ordered.with_columns(
            pl.int_range(pl.len(), dtype=pl.Int32).over("dialogue_id").alias("utterance_id")
        )
    kept = []
    for dialogue in part.partition_by("dialogue_id", maintain_order=True):
        often = dialogue["speaker"].value_counts(sort=True)["speaker"].to_list()
        few = dialogue.filter(pl.col("speaker").is_in(often[: 1 if rng.random() < MONOLOGUES else 2]))
        if len(few) >= FEWEST_LINES:
            kept.append(few.with_columns(pl.int_range(pl.len(), dtype=pl.Int32).alias("utterance_id")))
    return pl.concat(kept).with_columns(pl.col("dialogue_id") + " few")


def acted_recordings(
    table: pl.DataFrame,
    voices: Voices,
    scores: tuple[Mapping[str, VoiceScores], Mapping[str, VoiceScores]],
    rng: np.random.Generator,
) -> tuple[pl.DataFrame, NDArray[np.float32]]:
    """Recordings of one or two voices without text, for training: a table like the others, and the scores.

    Args:
        scores: of each voice, by a model that knows its corpus and by one that doesn't.
    """
    known = voices.rows("train")
    keys = np.array([voices.recordings[row] for row in known.tolist()])
    recorded = sorted(set(keys.tolist()))
    scenes = table.filter(pl.col("split") == "train", ~pl.col("dialogue_id").str.contains(" "))
    rows: list[dict[str, Any]] = []
    clips: list[int] = []
    strange: list[bool] = []
    for number in range(round(ACTED * scenes["dialogue_id"].n_unique())):
        unheard = bool(rng.random() < STRANGE)
        kinds = STRANGE_KINDS if unheard else ACTED_KINDS
        kind = str(rng.choice(list(kinds), p=list(kinds.values())))
        turns: list[tuple[str, int]] = []
        for who in range(1 + int(rng.random() < 0.5)):
            own = known[keys == str(rng.choice(recorded))]
            classes = labels_of(voices, own)
            if kind == "neutral":
                own, classes = own[classes == NEUTRAL_CLASS], classes[classes == NEUTRAL_CLASS]
            drawn = rng.permutation(draw("all" if kind == "neutral" else kind, own, classes, rng))
            turns += [(f"SPEAKER_{who:02}", int(row)) for row in drawn[:LONGEST_ACTED]]
        for place, turn in enumerate(rng.permutation(len(turns)).tolist()):
            who_speaks, row = turns[turn]
            rows.append(
                {
                    "split": "train",
                    "dialogue_id": f"train voices {number}",
                    "utterance_id": place,
                    "speaker": who_speaks,
                    "emotion": voices.labels[row],
                    "sentiment": SENTIMENT_OF_KIND[voices.labels[row]],
                }
            )
            clips.append(row)
            strange.append(unheard)
    made = pl.DataFrame(rows, schema=table.schema)
    names = [f"{d} {s}" for d, s in made.select("dialogue_id", "speaker").iter_rows()]
    return made, scored(voices, np.array(clips, np.int64), names, scores, np.array(strange))


def scored(
    voices: Voices,
    clips: NDArray[np.int64],
    who: Sequence[str],
    scores: tuple[Mapping[str, VoiceScores], Mapping[str, VoiceScores]],
    strange: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """Scores of turns, of those that are ``strange`` (n,) by the second models."""
    known, unknown = (
        turn_scores(voices, np.where(of, clips, -1), who, s)
        for of, s in zip((~strange, strange), scores, strict=True)
    )
    return np.where(strange[:, None], unknown, known)


def shown(
    emotions: Sequence[str], rng: np.random.Generator, telling: Sequence[float] | None = None
) -> list[str]:
    """What a voice or a face shows of the utterances' emotions: often those, else mostly none.

    Args:
        telling: how often, for each utterance; ``TELLING`` by default.
    """

    def one(emotion: str, often: float) -> str:
        if rng.random() < often:
            return emotion
        return "neutral" if rng.random() < NEUTRAL else MELD_LABELS[int(rng.integers(len(MELD_LABELS)))]

    often = telling if telling is not None else [TELLING] * len(emotions)
    return [one(*pair) for pair in zip(emotions, often, strict=True)]


def draw_voices(
    table: pl.DataFrame,
    voices: Voices,
    scores: tuple[Mapping[str, VoiceScores], Mapping[str, VoiceScores]],
    rng: np.random.Generator,
) -> Features:
    """A voice and a channel for every speaker of an episode, and a clip of it with each utterance's emotion.

    A speaker's manner is known from all of their turns in the episode, as in a recording of it.
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
    kind = pl.col("dialogue_id").str.extract(r" (.*)$").fill_null("").alias("kind")
    who = [
        " ".join(map(str, row))
        for row in table.select("split", kind, "season", "episode", "speaker").iter_rows()
    ]
    stranger = {name: bool(rng.random() < STRANGE) for name in dict.fromkeys(who)}
    strange = np.array([stranger[name] for name in who])
    telling = np.where(strange, STRANGE_TELLING, TELLING).tolist()
    for i, emotion in enumerate(shown(table["emotion"].to_list(), rng, telling)):
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
    return Features(scored(voices, clips, who, scores, strange), present)


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
