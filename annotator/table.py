"""The table: its schema, parts that are written whole or not at all, the merge, Parquet and CSV."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from annotator import bounds, plain_json, seal
from annotator.files import written_whole
from annotator.read import WORDS
from annotator.records import MODALITIES, SENTIMENT_COLUMNS, SENTIMENTS, Prediction, Utterance
from annotator.spreadsheet import for_spreadsheet

MAY_BE_NULL = (
    *("speaker_confidence", "overlap", "text", "words", "text_source", "language", "asr_confidence"),
    *("plausible", "face_coverage"),
)
MOST_ROWS = bounds.MOST_TURNS + bounds.MOST_WORDS  # of a part: an utterance holds one of either
ROUNDED = 1e-3  # what a share of 32 bits may lie outside of 0 to 1
FAILURE_COLUMNS = ("file", "stage", "error", "message", "attempts")


def schema(labels: Sequence[str]) -> dict[str, pl.DataType]:
    """Columns and types of the table for a model with these labels, in order."""
    text, f32, f64, i32, flag = pl.String(), pl.Float32(), pl.Float64(), pl.Int32(), pl.Boolean()
    columns: dict[str, pl.DataType] = {
        "file": text,
        "file_id": text,
        "dialogue_id": i32,
        "utterance_id": i32,
        "start": f64,
        "end": f64,
        "speaker": text,
        "speaker_confidence": f32,
        "overlap": f32,
        "text": text,
        "words": WORDS,
        "text_source": text,
        "language": text,
        "asr_confidence": f32,
        "emotion": text,
        "confidence": f32,
    }
    columns |= {f"p_{label}": f32 for label in labels}
    columns |= {"sentiment": text} | {name: f32 for name in SENTIMENT_COLUMNS.values()}
    columns["plausible"] = pl.List(pl.String())
    for modality in MODALITIES:
        columns |= {f"{modality}_emotion": text, f"{modality}_confidence": f32}
    columns |= {"has_text": flag, "has_audio": flag, "has_face": flag, "face_coverage": f32}
    columns |= {"quality": pl.List(pl.String()), "model": text}
    return columns


def rows(
    file_id: str,
    utterances: Sequence[Utterance],
    predictions: Prediction,
    labels: Sequence[str],
    *,
    text_source: str | None,
    language: str | None,
    face_coverage: Sequence[float | None],
    quality: Sequence[Sequence[str]],
    model: str,
) -> pl.DataFrame:
    """The rows of one recording, without the column ``file`` (paths are joined at the merge)."""
    emotion, sentiment, used = predictions.emotion, predictions.sentiment, predictions.used
    best = emotion.argmax(1) if len(emotion) else []
    coarse = sentiment.argmax(1) if len(sentiment) else []
    data: dict[str, Any] = {
        "file_id": [file_id] * len(utterances),
        "dialogue_id": [u.dialogue_id for u in utterances],
        "utterance_id": [u.utterance_id for u in utterances],
        "start": [u.start for u in utterances],
        "end": [u.end for u in utterances],
        "speaker": [u.speaker for u in utterances],
        "speaker_confidence": [u.speaker_confidence for u in utterances],
        "overlap": [u.overlap for u in utterances],
        "text": [u.text for u in utterances],
        "words": [_words(u) for u in utterances],
        "text_source": [text_source if u.text is not None else None for u in utterances],
        "language": [language if u.text is not None else None for u in utterances],
        "asr_confidence": [u.asr_confidence for u in utterances],
        "emotion": [labels[i] for i in best],
        "confidence": [float(emotion[row, i]) for row, i in enumerate(best)],
    }
    data |= {f"p_{label}": emotion[:, i] for i, label in enumerate(labels)}
    data["sentiment"] = [SENTIMENTS[i] for i in coarse]
    data |= {name: sentiment[:, i] for i, name in enumerate(SENTIMENT_COLUMNS.values())}
    data["plausible"] = [
        _plausible(e, p, labels) for e, p in zip(emotion, predictions.plausible, strict=True)
    ]
    for i, modality in enumerate(MODALITIES):
        told = [p if np.isfinite(p).all() else None for p in predictions.alone[:, i]]
        data[f"{modality}_emotion"] = [None if p is None else labels[p.argmax()] for p in told]
        data[f"{modality}_confidence"] = [None if p is None else float(p.max()) for p in told]
    data |= {f"has_{m}": used[:, i] for i, m in enumerate(MODALITIES)}
    data["face_coverage"] = list(face_coverage)
    data["quality"] = [list(q) for q in quality]
    data["model"] = [model] * len(utterances)
    columns = {name: kind for name, kind in schema(labels).items() if name != "file"}
    nullable = pl.col("speaker_confidence", "overlap", "asr_confidence", "face_coverage")
    return pl.DataFrame(data, schema=columns).with_columns(nullable.fill_nan(None))


def _plausible(
    emotion: NDArray[np.float32], plausible: NDArray[np.bool_], labels: Sequence[str]
) -> list[str] | None:
    """The plausible labels of an utterance, the likeliest first; None where it is not known which are."""
    found = [labels[i] for i in np.argsort(-emotion, kind="stable") if plausible[i]]
    return found or None


def _words(utterance: Utterance) -> list[dict[str, Any]] | None:
    """An utterance's words, within its times; None without a transcript."""
    if not utterance.words:
        return None
    return [
        {
            "start": min(max(word.start, utterance.start), utterance.end),
            "end": min(max(word.end, utterance.start), utterance.end),
            "text": word.text,
            "confidence": word.confidence,
        }
        for word in utterance.words
    ]


def write_part(
    path: Path,
    part: pl.DataFrame,
    facts: dict[str, Any],
    scratch: Path | None = None,
    voices: Mapping[str, str] | None = None,
) -> None:
    """Write the rows of one recording, with facts about it, whole or not at all.

    Args:
        voices: of its speakers, where they are to be linked. They stay in the part.
    """
    sealed = seal.blank()
    metadata = {
        seal.KEY: sealed,
        "key": path.stem,
        "facts": json.dumps(facts, allow_nan=False),
        "voices": json.dumps(dict(voices or {}), sort_keys=True),
    }
    with written_whole(path, scratch) as temporary:
        part.write_parquet(temporary, metadata=metadata)
        seal.close(temporary, sealed)


@dataclass(frozen=True)
class Part:
    """A finished part: the rows of one recording without the column ``file``, facts, voices by speaker."""

    rows: pl.DataFrame
    facts: Mapping[str, Any]
    voices: Mapping[str, str]
    sha256: str


def read_part(path: Path, file_id: str, labels: Sequence[str]) -> Part | None:
    """A finished part; None where there is none that is whole, in its place and of this recording and model.

    Args:
        file_id, labels: of the recording and the model.
    """
    try:
        return part_of(path.read_bytes(), path.stem, file_id, labels)
    except OSError:
        return None


def part_of(content: bytes, key: str, file_id: str, labels: Sequence[str]) -> Part | None:
    """As :func:`read_part`, of the bytes of a file.

    Args:
        key: that the part is to have.
    """
    try:
        if not seal.is_whole(content):
            return None
        metadata = pl.read_parquet_metadata(io.BytesIO(content))
        if metadata["key"] != key:
            return None
        facts, voices = plain_json.loads(metadata["facts"]), plain_json.loads(metadata["voices"])
        columns = {name: kind for name, kind in schema(labels).items() if name != "file"}
        # Before anything is unpacked: a few bytes may stand for many rows, or for something else.
        if dict(pl.read_parquet_schema(io.BytesIO(content))) != columns:
            return None
        most = min(MOST_ROWS, len(content))
        rows = pl.read_parquet(io.BytesIO(content), n_rows=most + 1)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, KeyError, OSError, ValueError):
        return None
    if len(rows) > most or not _is_of_run(rows, file_id, labels):
        return None
    if not (isinstance(facts, dict) and isinstance(voices, dict) and facts.get("file_id") == file_id):
        return None
    return Part(rows, facts, voices, hashlib.sha256(content).hexdigest())


def _is_of_run(rows: pl.DataFrame, file_id: str, labels: Sequence[str]) -> bool:
    """Whether rows of a part's columns hold what :func:`rows` may give for that recording and model."""
    emotions = [f"{modality}_emotion" for modality in MODALITIES]
    may_be_null = {*MAY_BE_NULL, *emotions, *(f"{modality}_confidence" for modality in MODALITIES)}
    if any(rows[name].has_nulls() for name in set(rows.columns) - may_be_null):
        return False
    numbers = [name for name, kind in rows.schema.items() if kind.is_float()]
    shares = [name for name in numbers if name not in ("start", "end")]
    allowed = {"file_id": [file_id], "sentiment": SENTIMENTS} | dict.fromkeys(["emotion", *emotions], labels)
    # What is null in these is neither true nor false, and may be.
    return (
        all(rows[name].is_finite().all() for name in numbers)
        and all(rows[name].is_between(-ROUNDED, 1 + ROUNDED).all() for name in shares)
        and bool(((rows["start"] >= 0) & (rows["end"] >= rows["start"])).all())
        and all(set(rows[name].drop_nulls().unique()) <= set(values) for name, values in allowed.items())
        and set(rows["plausible"].explode().drop_nulls().unique()) <= set(labels)
    )


def merge(parts: Sequence[tuple[str, pl.DataFrame]], labels: Sequence[str]) -> pl.DataFrame:
    """Join paths to parts: every ``(file, rows)`` contributes the rows under its own name.

    Two files with one content share the part. Sorted by file, start and order of the utterances.
    """
    columns = schema(labels)
    frames = [pl.DataFrame(schema=columns)]
    for file, part in parts:
        frames.append(part.select(pl.lit(file).alias("file"), pl.all()).select(list(columns)))
    whole = pl.concat(frames)
    return whole.sort("file", "start", "dialogue_id", "utterance_id", maintain_order=True)


def write_table(table: pl.DataFrame, path: Path, metadata: dict[str, str]) -> None:
    """Write the table as Parquet (with ``metadata`` as key-value pairs) or CSV, by the ending of ``path``."""
    with written_whole(path) as temporary:
        if path.suffix.lower() == ".csv":
            for_spreadsheet(table).write_csv(temporary)
        else:
            table.write_parquet(temporary, metadata=metadata)


def write_failures(path: Path, failures: Sequence[dict[str, Any]]) -> None:
    """Write the failures file: one row per input that failed, only the header when none did."""
    kinds = {name: pl.String() if name != "attempts" else pl.Int32() for name in FAILURE_COLUMNS}
    frame = pl.DataFrame([{n: f[n] for n in FAILURE_COLUMNS} for f in failures], schema=kinds).sort("file")
    with written_whole(path) as temporary:
        for_spreadsheet(frame).write_csv(temporary)
