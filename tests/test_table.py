"""The table: schema, merge, what other readers see, writing whole or not at all."""

from __future__ import annotations

import hashlib
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pytest

from annotator import table
from annotator.pipeline.batch import without_words
from annotator.read import WORDS
from annotator.records import SENTIMENT_COLUMNS, SENTIMENTS, Prediction, Utterance, Word
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


def test_failures_are_sorted_and_escaped(tmp_path: Path) -> None:
    row = {"stage": "media", "error": "no_streams", "message": "=It has no sound.", "attempts": 2, "more": 1}
    table.write_failures(tmp_path / "f.csv", [row | {"file": "b.mp4"}, row | {"file": "a.mp4"}])
    lines = (tmp_path / "f.csv").read_text().splitlines()
    assert lines[1:] == [f"{name}.mp4,media,no_streams,'=It has no sound.,2" for name in "ab"]


def test_rows_say_what_was_predicted_and_found() -> None:
    words = (Word(0.5, 1.5, "Oh", confidence=0.25), Word(1.5, 9.0, "no."))
    utterances = [
        Utterance(1, 3, 1.0, 2.0, "Ann", 0.5, "Oh no.", 0.25, 0.75, words=words),
        Utterance(2, 0, 4.0, 5.0, "Ben", np.nan, None, np.nan, np.nan),
    ]
    emotion = np.array([[0.25, 0.75], [0.875, 0.125]], np.float32)
    sentiment = np.array([[0.125, 0.25, 0.625], [0.5, 0.25, 0.25]], np.float32)
    used = np.array([[True, False, True], [False, True, False]])
    alone = np.full((2, 3, 2), np.nan, np.float32)
    alone[0, 0], alone[0, 2] = (0.75, 0.25), (0.375, 0.625)
    plausible = np.array([[True, True], [True, False]])
    found = table.rows(
        "f" * 64,
        utterances,
        Prediction(emotion, sentiment, used, alone, plausible),
        LABELS,
        text_source="whisper",
        language="de",
        face_coverage=[0.5, float("nan")],
        quality=[["clipped"], ["silent", "too_short"]],
        model="trial 2",
    )
    first = {
        "file_id": "f" * 64,
        "dialogue_id": 1,
        "utterance_id": 3,
        "start": 1.0,
        "end": 2.0,
        "speaker": "Ann",
        "speaker_confidence": 0.75,
        "overlap": 0.5,
        "text": "Oh no.",
        # A word's times lie within its utterance's.
        "words": [
            {"start": 1.0, "end": 1.5, "text": "Oh", "confidence": 0.25},
            {"start": 1.5, "end": 2.0, "text": "no.", "confidence": None},
        ],
        "text_source": "whisper",
        "language": "de",
        "asr_confidence": 0.25,
        "emotion": "joy",
        "confidence": 0.75,
        "p_neutral": 0.25,
        "p_joy": 0.75,
        "sentiment": SENTIMENTS[2],
        **dict(zip(SENTIMENT_COLUMNS.values(), (0.125, 0.25, 0.625), strict=True)),
        "plausible": ["joy", "neutral"],
        "text_emotion": "neutral",
        "text_confidence": 0.75,
        "audio_emotion": None,
        "audio_confidence": None,
        "face_emotion": "joy",
        "face_confidence": 0.625,
        "has_text": True,
        "has_audio": False,
        "has_face": True,
        "face_coverage": 0.5,
        "quality": ["clipped"],
        "model": "trial 2",
    }
    assert found.row(0, named=True) == first
    second = found.row(1, named=True)
    unknown = ["speaker_confidence", "overlap", "text", "words", "text_source", "language", "face_coverage"]
    unknown += ["asr_confidence"]
    assert [second[name] for name in unknown] == [None] * len(unknown)
    assert (second["emotion"], second["confidence"], second["sentiment"]) == ("neutral", 0.875, SENTIMENTS[0])
    assert (second["plausible"], second["quality"]) == (["neutral"], ["silent", "too_short"])


def test_rows_are_in_order_of_file_start_and_number() -> None:
    """Whatever the order of the parts, and of rows within them."""
    first, last = part("a" * 64), part("b" * 64).reverse()
    whole = table.merge([("z.mp4", last), ("a.mp4", first)], LABELS)
    again = table.merge([("a.mp4", first), ("z.mp4", last)], LABELS)
    assert whole.equals(again)
    assert whole["file"].to_list() == ["a.mp4"] * len(TEXTS) + ["z.mp4"] * len(TEXTS)
    assert whole["utterance_id"].to_list() == [*range(len(TEXTS))] * 2
    together = first.with_columns(pl.lit(1.0).alias("start"), pl.lit(0, pl.Int32).alias("dialogue_id"))
    mixed = together.sample(fraction=1.0, shuffle=True, seed=1)
    assert table.merge([("a.mp4", mixed)], LABELS)["utterance_id"].to_list() == [*range(len(TEXTS))]
    later = mixed.with_columns((9 - pl.col("utterance_id")).cast(pl.Int32).alias("dialogue_id"))
    assert table.merge([("a.mp4", later)], LABELS)["utterance_id"].to_list() == [*range(len(TEXTS))][::-1]


def test_a_part_is_read_as_written_or_not_at_all(tmp_path: Path) -> None:
    file_id, path = "a" * 64, tmp_path / "key.parquet"
    facts = {"file_id": file_id, "duration_s": 1.5, "name": "Zoë"}
    table.write_part(path, part(), facts, voices={"SPEAKER_01": "y", "SPEAKER_00": "x"})
    found = table.read_part(path, file_id, LABELS)
    assert found is not None and found.rows.equals(part())
    assert found.facts == facts and found.voices == {"SPEAKER_00": "x", "SPEAKER_01": "y"}
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert table.read_part(path, "b" * 64, LABELS) is None, "of another recording"
    assert table.read_part(path, file_id, (*LABELS, "anger")) is None, "of another model"
    other = tmp_path / "other.parquet"
    other.write_bytes(path.read_bytes())
    assert table.read_part(other, file_id, LABELS) is None, "under another key"
    content = path.read_bytes()
    path.write_bytes(content.replace(b"quote", b"quota", 1))
    assert table.read_part(path, file_id, LABELS) is None, "damaged"
    path.write_bytes(content[: len(content) // 2])
    assert table.read_part(path, file_id, LABELS) is None, "cut off"
    assert table.read_part(tmp_path / "none.parquet", file_id, LABELS) is None
    table.write_part(path, part(), {**facts, "file_id": "b" * 64})
    assert table.read_part(path, file_id, LABELS) is None, "facts of another recording"
    table.write_part(path, part("b" * 64), facts)
    assert table.read_part(path, file_id, LABELS) is None, "rows of another recording"
    table.write_part(path, part(texts=[]), facts)
    empty = table.read_part(path, file_id, LABELS)
    assert empty is not None and len(empty.rows) == 0 and empty.voices == {}
    with pytest.raises(ValueError, match="Out of range float"):
        table.write_part(path, part(), {"file_id": file_id, "duration_s": float("nan")})


def test_the_ending_says_how_a_table_is_written(tmp_path: Path) -> None:
    whole = table.merge([("x.mp4", part())], LABELS)
    table.write_table(whole, tmp_path / "t.CSV", {})
    assert (tmp_path / "t.CSV").read_text(encoding="utf-8").startswith("file,file_id,")


def test_a_line_tells_of_recordings_without_words() -> None:
    rows = pl.DataFrame({"file": ["a", "a", "b", "c"], "text": [None, "Hi.", None, None]})
    assert "2 of 3 recordings have no words" in str(without_words(rows, "whisper"))
    assert "--transcriber auto" in str(without_words(rows, "none"))
    assert without_words(rows.filter(pl.col("file") == "a"), "none") is None
    assert without_words(rows.clear(), "none") is None
