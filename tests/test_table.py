"""The table: schema, merge, what other readers see, writing whole or not at all."""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pytest

from annotator import table
from annotator.pipeline.batch import without_words
from annotator.read import WORDS
from annotator.records import Prediction, Utterance
from annotator.spreadsheet import for_spreadsheet

LABELS = ("neutral", "joy")
TEXTS = [
    "=1+1",
    "+49 30",
    "- no",
    "@home",
    "\ttab",
    "he said “so”, twice",
    "line\nbreak",
    None,
    "naïve 漢字 😀",
    'quote "inside"',
]


def part(file_id: str = "a" * 64, texts: list[str | None] | None = None) -> pl.DataFrame:
    texts = TEXTS if texts is None else texts
    n = len(texts)
    utterances = [
        Utterance(0, i, i * 1.5, i * 1.5 + 1 / 3, f"SPEAKER_0{i % 2}", 0.1 * (i % 3), text)
        for i, text in enumerate(texts)
    ]
    rng = np.random.default_rng(0)
    emotion = rng.dirichlet((1, 1), n).astype(np.float32).reshape(n, 2)
    sentiment = rng.dirichlet((1, 1, 1), n).astype(np.float32).reshape(n, 3)
    used = np.array([[t is not None, True, False] for t in texts], np.bool_).reshape(n, 3)
    alone = np.where(used[:, :, None], emotion[:, None, ::-1], np.nan).astype(np.float32)
    plausible = np.stack([emotion.max(1) < 0.9] * 2, 1) | (emotion == emotion.max(1, keepdims=True))
    if n > 1:
        plausible[1] = False  # not known
    return table.rows(
        file_id,
        utterances,
        Prediction(emotion, sentiment, used, alone, plausible),
        LABELS,
        text_source="sidecar",
        language="en",
        face_coverage=[None, 0.5] * (n // 2) + [None] * (n % 2),
        quality=[["too_short", "clipped"] if i == 0 else [] for i in range(n)],
        model="test 1",
    )


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, Path, pl.DataFrame]:
    whole = table.merge([("b/x.mp4", part()), ("a/x.mp4", part())], LABELS)
    parquet, csv = tmp_path / "t.parquet", tmp_path / "t.csv"
    table.write_table(whole, parquet, {"settings": "{}"})
    table.write_table(whole, csv, {})
    return parquet, csv, whole


def by_query(query: str) -> pl.DataFrame:
    found = duckdb.sql(query)
    assert found is not None
    frame: pl.DataFrame = found.pl()
    return frame


def test_schema_is_the_contract(written: tuple[Path, Path, pl.DataFrame]) -> None:
    columns = (
        "file file_id dialogue_id utterance_id start end speaker speaker_confidence overlap text words "
        "text_source language asr_confidence emotion confidence p_neutral p_joy sentiment p_positive "
        "p_neutral_sentiment "
        "p_negative plausible text_emotion text_confidence audio_emotion audio_confidence face_emotion "
        "face_confidence has_text has_audio has_face face_coverage quality model"
    ).split()
    read = pl.read_parquet(written[0])
    assert read.columns == columns
    kinds = {
        "dialogue_id": pl.Int32,
        "utterance_id": pl.Int32,
        "start": pl.Float64,
        "end": pl.Float64,
        "speaker_confidence": pl.Float32,
        "overlap": pl.Float32,
        "asr_confidence": pl.Float32,
        "confidence": pl.Float32,
        "p_joy": pl.Float32,
        "p_negative": pl.Float32,
        "has_face": pl.Boolean,
        "plausible": pl.List(pl.String),
        "text_emotion": pl.String,
        "audio_confidence": pl.Float32,
        "face_coverage": pl.Float32,
        "quality": pl.List(pl.String),
        "words": WORDS,
    }
    assert {name: read.schema[name] for name in kinds} == kinds
    assert pl.read_parquet_metadata(written[0])["settings"] == "{}"


def test_two_paths_with_one_content_each_have_their_rows(written: tuple[Path, Path, pl.DataFrame]) -> None:
    whole = written[2]
    assert whole["file"].to_list() == ["a/x.mp4"] * len(TEXTS) + ["b/x.mp4"] * len(TEXTS)
    starts = whole["start"].to_list()
    assert starts == sorted(starts[: len(TEXTS)]) * 2


def test_missing_is_null(written: tuple[Path, Path, pl.DataFrame]) -> None:
    row = pl.read_parquet(written[0]).row(TEXTS.index(None), named=True)
    assert row["text"] is None and row["text_source"] is None and row["language"] is None
    assert row["has_text"] is False
    assert row["asr_confidence"] is None
    assert row["text_emotion"] is None and row["text_confidence"] is None and row["face_emotion"] is None
    # Alone, the voice says the opposite of all together; of the second row nobody knows what is plausible.
    other = {"neutral": "joy", "joy": "neutral"}
    assert row["audio_emotion"] == other[row["emotion"]]
    assert row["audio_confidence"] == row["confidence"]
    sets = pl.read_parquet(written[0])
    assert sets["plausible"][1] is None and sets["plausible"][0][0] == sets["emotion"][0]
    for emotion, found in zip(sets["emotion"], sets["plausible"], strict=True):
        assert found is None or (found[0] == emotion and set(found) <= set(LABELS))


def test_other_readers_see_the_same_values(written: tuple[Path, Path, pl.DataFrame]) -> None:
    parquet, csv, whole = written
    ours = whole.with_columns(pl.col("quality", "plausible").list.join(";")).drop("words")
    for frame in (
        pl.from_pandas(
            pd.read_parquet(parquet)
            .drop(columns="words")
            .assign(
                quality=lambda d: d["quality"].map(";".join),
                plausible=lambda d: d["plausible"].map(lambda v: None if v is None else ";".join(v)),
            )
        ),
        by_query(
            "select * exclude (words) replace (array_to_string(quality, ';') as quality, "
            f"array_to_string(plausible, ';') as plausible) from '{parquet}'"
        ),
    ):
        assert frame.cast(dict(ours.schema)).equals(ours)  # type: ignore[arg-type]
    escaped = for_spreadsheet(whole)
    by_polars = pl.read_csv(csv, schema=dict(escaped.schema))
    # An empty quality list and no text are both an empty field in CSV: readers give null for either.
    same = escaped.with_columns(pl.col("quality").replace("", None))
    by_pandas = pl.from_pandas(pd.read_csv(csv))
    by_duckdb = by_query(f"select * from read_csv('{csv}', all_varchar=true)")
    for frame in (by_polars, by_pandas, by_duckdb):
        frame = frame.with_columns(
            [
                pl.col(n).cast(pl.String).str.to_lowercase().eq("true")
                for n in ("has_text", "has_audio", "has_face")
            ]
        )
        frame = frame.with_columns(pl.col("quality").cast(pl.String).replace("", None))
        assert frame.cast(dict(same.schema)).equals(same)  # type: ignore[arg-type]


def test_cells_that_a_spreadsheet_would_run_are_escaped(written: tuple[Path, Path, pl.DataFrame]) -> None:
    read = pl.read_csv(written[1])
    assert read["text"].to_list()[:5] == ["'=1+1", "'+49 30", "'- no", "'@home", "'\ttab"]
    assert pl.read_parquet(written[0])["text"].to_list()[:5] == TEXTS[:5]
    assert read["start"].dtype == pl.Float64  # numbers stay numbers


def test_no_rows_is_a_table_with_the_schema() -> None:
    whole = table.merge([("silent.wav", part(texts=[]))], LABELS)
    assert len(whole) == 0
    assert dict(whole.schema) == table.schema(LABELS)


def test_failures_file_has_a_header_when_nothing_failed(tmp_path: Path) -> None:
    table.write_failures(tmp_path / "f.csv", [])
    assert (tmp_path / "f.csv").read_text() == "file,stage,error,message,attempts\n"


def test_a_line_tells_of_recordings_without_words() -> None:
    rows = pl.DataFrame({"file": ["a", "a", "b", "c"], "text": [None, "Hi.", None, None]})
    assert "2 of 3 recordings have no words" in str(without_words(rows, "whisper"))
    assert "--transcriber auto" in str(without_words(rows, "none"))
    assert without_words(rows.filter(pl.col("file") == "a"), "none") is None
    assert without_words(rows.clear(), "none") is None
