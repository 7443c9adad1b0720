"""IEMOCAP (Busso et al., 2008): acted dyads, six emotions, in the folder layout of its licensed release.

Sessions 1 to 4 train, session 5 tests; 12 training dialogues chosen by a seed are the validation set.
Utterances with other labels, or on which the raters disagree, are left out, as in published work.
"""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import polars as pl

from annotator.records import UsageError
from train.prepare.source import Recordings, Source, in_order

SENTIMENT = {
    "hap": "positive",
    "sad": "negative",
    "neu": "neutral",
    "ang": "negative",
    "exc": "positive",
    "fru": "negative",
}
LABELS = tuple(SENTIMENT)
SESSIONS = 5
VALIDATION_DIALOGUES = 12
LABEL = re.compile(r"^\[(\d+\.\d+) - (\d+\.\d+)\]\t(Ses\w+)\t(\w+)\t")
LINE = re.compile(r"^(Ses\w+) \[[\d.]+-[\d.]+\]:\s*(.*)$")


def read(path: Path, *, media: Path | None = None, seed: int = 0, keep_unlabelled: bool = False) -> Source:
    """Read ``Session1`` to ``Session5``, each with ``dialog/EmoEvaluation`` and ``dialog/transcriptions``.

    Args:
        media: the release, for its recordings: whole dialogues, ``dialog/avi/DivX`` or else
            ``dialog/wav``; or single sentences, ``sentences/wav``, where there are no dialogues.
        keep_unlabelled: keep utterances with another label as context, without a target.

    Raises:
        UsageError: a session, a transcript or a recording is missing, or a session has no labelled
            utterance.
    """
    rows: list[dict[str, Any]] = []
    for session in range(1, SESSIONS + 1):
        folder = path / f"Session{session}" / "dialog"
        files = sorted(file for file in folder.glob("EmoEvaluation/Ses*.txt") if file.is_file())
        if not files:
            raise UsageError(
                f"{folder / 'EmoEvaluation'} holds no Ses*.txt. Give the folder of the release that holds "
                f"Session1 to Session{SESSIONS}."
            )
        for file in files:
            rows += _dialogue(file, folder / "transcriptions" / file.name, session, keep_unlabelled)
    pool = sorted({row["dialogue_id"] for row in rows if row["split"] == "train"})
    count = min(VALIDATION_DIALOGUES, max(1, len(pool) // 10))
    validation = set(random.Random(seed).sample(pool, count)) if pool else set()
    for row in rows:
        if row["dialogue_id"] in validation:
            row["split"] = "validation"
    rows.sort(key=lambda row: ("train", "validation", "test").index(row["split"]))  # stable
    table = pl.DataFrame(rows, schema_overrides={"emotion": pl.String, "sentiment": pl.String})
    provenance = {"source": "iemocap", "seed": seed, "keep_unlabelled": keep_unlabelled}
    ordered = in_order(table)
    if media is None:
        return Source(ordered, LABELS, provenance, speakers=("F", "M"))
    recordings = find_recordings(ordered, media)
    recording = ordered["dialogue_id"] if not recordings.whole else ordered["source_name"]
    return Source(
        ordered.with_columns(recording.alias("recording")),
        LABELS,
        provenance,
        speakers=("F", "M"),
        recordings=recordings,
    )


def find_recordings(table: pl.DataFrame, media: Path) -> Recordings:
    """Recordings of whole dialogues, else of single sentences, by the names of the release.

    Raises:
        UsageError: neither are complete; the message names some that are missing.
    """
    dialogues = table["dialogue_id"].unique(maintain_order=True).to_list()
    missing: list[str] = []
    for pattern in ("dialog/avi/DivX/{}.avi", "dialog/wav/{}.wav"):
        paths = {name: media / f"Session{name[4]}" / pattern.format(name) for name in dialogues}
        absent = [str(path) for path in paths.values() if not path.is_file()]
        if not absent:
            return Recordings(paths, whole=False)
        missing = missing or absent
    sentences = {
        name: media / f"Session{name[4]}" / "sentences" / "wav" / dialogue / f"{name}.wav"
        for name, dialogue in table.select("source_name", "dialogue_id").iter_rows()
    }
    if all(path.is_file() for path in sentences.values()):
        return Recordings(sentences, whole=True)
    raise UsageError(
        f"{media} lacks recordings: neither dialog/avi/DivX, dialog/wav nor sentences/wav of its sessions is "
        f"complete; there is no {', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''}."
    )


def _dialogue(labels: Path, transcript: Path, session: int, keep_unlabelled: bool) -> list[dict[str, Any]]:
    """The utterances of a dialogue in order of time."""
    try:
        # Release files hold a few Latin-1 characters.
        spoken: dict[str, str] = dict(
            (match[1], match[2])
            for line in transcript.read_text(encoding="latin1").splitlines()
            if (match := LINE.match(line))
        )
        matches = [LABEL.match(line) for line in labels.read_text(encoding="latin1").splitlines()]
    except OSError as error:
        raise UsageError(
            f"{error.filename} can't be read: {error.strerror}. Give the whole release."
        ) from error
    rows: list[dict[str, Any]] = []
    for match in sorted((m for m in matches if m), key=lambda m: (float(m[1]), float(m[2]))):
        start, end, name, emotion = match.groups()
        if emotion not in SENTIMENT and not keep_unlabelled:
            continue
        if name not in spoken:
            raise UsageError(
                f"{transcript} has no line of {name}, which {labels.name} labels. Get the file again."
            )
        rows.append(
            {
                "split": "train" if session < SESSIONS else "test",
                "dialogue_id": labels.stem,
                "utterance_id": len(rows),
                "speaker": name.rsplit("_", 1)[1][0],  # Ses01F_impro01_M003 is said by the man
                "start": float(start),
                "end": float(end),
                "text": spoken[name].strip(),
                "emotion": emotion if emotion in SENTIMENT else None,
                "sentiment": SENTIMENT.get(emotion),
                "source_name": name,
            }
        )
    return rows
