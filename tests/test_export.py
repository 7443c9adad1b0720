"""Exports, read back by the programs they are for or by readers of their formats."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import audformat  # type: ignore[import-untyped]
import numpy as np
import pandas
import polars as pl
import praatio.textgrid
import pympi
import pytest
from pyannote.database.util import load_rttm

from annotator.export import FORMATS, export
from annotator.pipeline.recordings import write_recordings
from annotator.read import WORDS
from annotator.records import UsageError
from annotator.table import write_table
from annotator.transcribe.subtitles import read_sidecar
from tests.tables import LABELS, table_of, utterance

ANGRY = {"emotion": "anger"}
FILES = ("a/talk.mp4", "a/talk.wav", "b.v2.mkv")
ROWS: list[dict[str, Any]] = [
    {
        "file": "a/talk.mp4",
        "text": 'He said "go" -->\n\nnow & <b>here</b>',
        "start": 0.5,
        "end": 2.0,
        "plausible": ["joy", "anger"],
        "quality": ["too_short", "clipped"],
        "text_emotion": "anger",
        "text_confidence": 0.5,
    },
    {
        "file": "a/talk.mp4",
        "speaker": "Ann Lee",
        "text": None,
        "start": 1.75,
        "end": 3661.25,
        "emotion": "anger",
    },
    {"file": "a/talk.wav", "text": "=SUM(A1)", "dialogue_id": 0},
    {"file": "b.v2.mkv", "text": "Größe \x07 日本", "dialogue_id": 0},
    {"file": "b.v2.mkv", "text": "Later.", "dialogue_id": 1, "start": 100.0, "end": 101.0},
]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    file = tmp_path / "labels.parquet"
    write_table(table_of(*(utterance(**row) for row in ROWS)), file, {})
    return file


def json_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def with_recordings(table: Path) -> None:
    """What a run tells of the recordings, beside the table."""
    kinds = {
        name: {"name": name, "part": "p", "rows": 1, "file_id": "0", "duration_s": 3700.5} for name in FILES
    }
    facts = {
        "a/talk.mp4": ([], 48000, 2),
        "a/talk.wav": (["no_video"], 16000, 1),
        "b.v2.mkv": ([], None, None),
    }
    for name, (flags, rate_hz, channels) in facts.items():
        kinds[name] |= {"file": name, "flags": flags, "rate_hz": rate_hz, "channels": channels}
    write_recordings(table.with_suffix(f".recordings{table.suffix}"), list(kinds.values()), [])


def exported(table: Path, kind: str) -> Path:
    out = table.parent / kind
    files = export(table, kind, out)
    assert files and all(file.is_file() for file in files)
    assert not list(table.parent.glob(".*")), "nothing temporary is left"
    return out


def test_recordings_keep_folders_and_names_that_do_not_collide(table: Path) -> None:
    out = exported(table, "srt")
    names = sorted(str(path.relative_to(out)) for path in out.rglob("*.srt"))
    assert names == ["a/talk.mp4.srt", "a/talk.wav.srt", "b.v2.srt"]


def test_subtitles_are_read_back(table: Path) -> None:
    for kind in ("srt", "vtt"):
        file = exported(table, kind) / f"a/talk.mp4.{kind}"
        words = read_sidecar(file).words
        assert {w.speaker for w in words} == {"SPEAKER_00"}, "what is in brackets is not said"
        assert (words[0].start, words[-1].end) == (0.5, 2.0)
        assert " ".join(w.text for w in words).startswith('He said "go" -> now &')
        assert "(anger)" in file.read_text("utf-8")
        assert "None" not in file.read_text("utf-8")
    assert "01:01:01,250" in (table.parent / "srt/a/talk.mp4.srt").read_text("utf-8")
    voices = (table.parent / "vtt/a/talk.mp4.vtt").read_text("utf-8")
    assert voices.startswith("WEBVTT\n\n") and "<v Ann Lee>(anger)</v>" in voices and "&lt;b&gt;" in voices


def test_long_utterances_become_cues_that_can_be_read(tmp_path: Path) -> None:
    texts = ("word" + str(i) for i in range(40))
    words = [
        {"start": 10.0 + 0.5 * i, "end": 10.4 + 0.5 * i, "text": text, "confidence": 0.9}
        for i, text in enumerate(texts)
    ]
    text = " ".join(str(word["text"]) for word in words)
    for times in (words, None):
        rows = table_of(utterance(file="a.wav", text=text, start=10.0, end=30.0))
        rows = rows.with_columns(words=pl.Series([times], dtype=WORDS))
        place = tmp_path / ("timed" if times else "untimed")
        place.mkdir()
        write_table(rows, place / "labels.parquet", {})
        cues = (exported(place / "labels.parquet", "srt") / "a.srt").read_text().split("\n\n")
        lines = [cue.strip().splitlines() for cue in cues]
        assert len(lines) >= 3
        assert all(len(cue) <= 4 and max(map(len, cue[2:])) <= 42 for cue in lines)
        assert lines[0][2].startswith("SPEAKER_00: word0") and lines[-1][-1].endswith("(joy)")
        assert " ".join(" ".join(cue[2:]) for cue in lines) == f"SPEAKER_00: {text} (joy)"
        if times:
            assert lines[1][1].startswith(
                f"00:00:{10.0 + 0.5 * int(lines[1][2].split()[0][4:]):06.3f}".replace(".", ",")
            )


def test_single_words_are_tiers_of_their_own(tmp_path: Path) -> None:
    words = [
        {"start": 0.6, "end": 0.9, "text": "Good", "confidence": 0.9},
        {"start": 0.8, "end": 1.4, "text": "day", "confidence": 0.8},
    ]
    rows = table_of(utterance(file="a.wav", text="Good day", start=0.5, end=1.5))
    rows = rows.with_columns(words=pl.Series([words], dtype=WORDS))
    write_table(rows, tmp_path / "labels.parquet", {})
    tiers = praatio.textgrid.openTextgrid(
        str(exported(tmp_path / "labels.parquet", "textgrid") / "a.TextGrid"), includeEmptyIntervals=False
    )
    entries = tiers.getTier("SPEAKER_00 words").entries
    assert [(round(e.start, 3), round(e.end, 3), e.label) for e in entries] == [
        (0.6, 0.9, "Good"),
        (0.9, 1.4, "day"),
    ]
    file = pympi.Elan.Eaf(str(exported(tmp_path / "labels.parquet", "eaf") / "a.eaf"))
    assert sorted(a[:3] for a in file.get_annotation_data_for_tier("SPEAKER_00 words")) == [
        (600, 900, "Good"),
        (900, 1400, "day"),
    ]


def test_rttm_is_read_back(table: Path) -> None:
    found = load_rttm(exported(table, "rttm") / "a/talk.mp4.rttm")["a/talk"]
    turns = [(turn.start, turn.end, label) for turn, _, label in found.itertracks(yield_label=True)]
    assert turns == [(0.5, 2.0, "SPEAKER_00"), (1.75, 3661.25, "Ann_Lee")]


def test_textgrid_tiles_each_tier(table: Path) -> None:
    text = (exported(table, "textgrid") / "a/talk.mp4.TextGrid").read_text("utf-8")
    assert text.startswith('File type = "ooTextFile"\nObject class = "TextGrid"\n')
    assert "xmax = 3661.250000" in text and "size = 4" in text
    assert 'name = "Ann Lee emotion"' in text and '"He said ""go""' in text
    for tier in text.split("item [")[2:]:
        edges = [float(line.split("=")[1]) for line in tier.splitlines() if "xmin" in line or "xmax" in line][
            2:
        ]
        assert edges[0] == 0 and edges[-1] == 3661.25
        assert edges[1:-1:2] == edges[2::2], "each interval begins where the last one ends"


def test_elan_hangs_labels_below_their_utterances(table: Path) -> None:
    document = ElementTree.parse(exported(table, "eaf") / "b.v2.eaf").getroot()
    assert document.get("VERSION") == "3.0"
    tiers = {tier.get("TIER_ID"): tier for tier in document.iter("TIER")}
    assert set(tiers) == {"SPEAKER_00", "SPEAKER_00 emotion", "SPEAKER_00 sentiment"}
    times = {slot.get("TIME_SLOT_ID"): slot.get("TIME_VALUE") for slot in document.iter("TIME_SLOT")}
    aligned = list(tiers["SPEAKER_00"].iter("ALIGNABLE_ANNOTATION"))
    assert [times[a.get("TIME_SLOT_REF1")] for a in aligned] == ["0", "100000"]
    assert aligned[0].findtext("ANNOTATION_VALUE") == "Größe \ufffd 日本"
    below = list(tiers["SPEAKER_00 emotion"].iter("REF_ANNOTATION"))
    assert [b.get("ANNOTATION_REF") for b in below] == [a.get("ANNOTATION_ID") for a in aligned]
    assert [b.findtext("ANNOTATION_VALUE") for b in below] == ["joy", "joy"]
    ids = [a.get("ANNOTATION_ID") for a in document.iter() if a.get("ANNOTATION_ID")]
    assert len(ids) == len(set(ids)) == 6


def test_label_studio_gets_tasks_and_a_view_that_fit(table: Path) -> None:
    out = exported(table, "label-studio")
    tasks = json.loads((out / "tasks.json").read_text("utf-8"))
    view = ElementTree.parse(out / "config.xml").getroot()
    names = {tag.get("name") for tag in view}
    assert [task["data"]["file"] for task in tasks] == ["a/talk.mp4", "a/talk.wav", "b.v2.mkv"]
    results = tasks[0]["predictions"][0]["result"]
    assert {r["from_name"] for r in results} <= names and {r["to_name"] for r in results} == {"audio"}
    assert [r["value"].get("labels") for r in results if r["type"] == "labels"] == [["joy"], ["anger"]]
    assert sum(r["from_name"] == "text" for r in results) == 1, "no words, no field of words"
    assert [r.get("meta") for r in results if r["type"] == "labels"] == [
        {"text": ["plausible: joy, anger", "quality: too_short, clipped"]},
        None,
    ]
    assert {label.get("value") for label in view.iter("Label")} == set(LABELS)


@pytest.mark.parametrize("ending", [".parquet", ".csv"])
def test_lengths_and_pictures_come_from_the_table_of_recordings(table: Path, ending: str) -> None:
    given = table.with_suffix(ending)
    write_table(pl.read_parquet(table), given, {})
    with_recordings(given)
    out = exported(given, "label-studio")
    tasks = json.loads((out / "tasks.json").read_text("utf-8"))
    lengths = {r["original_length"] for task in tasks for r in task["predictions"][0]["result"]}
    assert lengths == {3700.5} and all(task["data"]["video"] == task["data"]["audio"] for task in tasks)
    view = ElementTree.parse(out / "config.xml").getroot()
    assert view.find("Video") is not None and view.find("Audio") is not None
    assert {view.find(tag).get("sync") for tag in ("Video", "Audio")} == {"together"}  # type: ignore[union-attr]
    grid = (exported(given, "textgrid") / "a/talk.mp4.TextGrid").read_text("utf-8")
    assert "xmax = 3700.500000" in grid
    lines = json_lines(exported(given, "lhotse") / "recordings.jsonl")
    assert lines == [
        {
            "id": name, "sources": [{"type": "file", "channels": channels, "source": name}],
            "sampling_rate": rate, "num_samples": 37005 * rate // 10, "duration": 3700.5,
            "channel_ids": channels,
        }
        for name, rate, channels in (("a/talk.mp4", 48000, [0, 1]), ("a/talk.wav", 16000, [0]))
    ]  # fmt: skip
    supervisions = json_lines(given.parent / "lhotse" / "supervisions.jsonl")
    assert [one["channel"] for one in supervisions] == [[0, 1], [0, 1], 0, 0, 0]


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # audformat's own, when it reads
def test_audformat_loads_it(table: Path) -> None:
    database = audformat.Database.load(str(exported(table, "audformat")))
    found = database["utterances"].get()
    assert list(found["emotion"]) == ["joy", "anger", "joy", "joy", "joy"]
    assert pandas.isna(found["text"].iloc[1])
    doubts = found[["plausible", "quality", "text_emotion"]].iloc[0]
    assert list(doubts) == ["joy;anger", "too_short;clipped", "anger"]
    assert found[["plausible", "text_emotion", "text_confidence"]].iloc[1].isna().all()
    file, start, end = found.index[1]
    assert (file, start.total_seconds(), end.total_seconds()) == ("a/talk.mp4", 1.75, 3661.25)
    np.testing.assert_allclose(found["p_joy"].astype(float), [0.7, 0.05, 0.7, 0.7, 0.7], atol=1e-6)


def test_lhotse_supervisions(table: Path) -> None:
    text = (exported(table, "lhotse") / "supervisions.jsonl").read_text("utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    assert [(one["recording_id"], one["start"], one["duration"]) for one in lines[:2]] == [
        ("a/talk.mp4", 0.5, 1.5),
        ("a/talk.mp4", 1.75, 3659.5),
    ]
    assert "text" not in lines[1] and lines[1]["custom"]["emotion"] == "anger"
    first = lines[0]["custom"]
    assert (first["plausible"], first["text_emotion"]) == (["joy", "anger"], "anger")
    assert first["audio_emotion"] is None and lines[1]["custom"]["plausible"] is None
    assert len({one["id"] for one in lines}) == len(lines)


def test_meld_csv_numbers_dialogues_through(table: Path) -> None:
    found = pl.read_csv(exported(table, "meld-csv") / "meld.csv", infer_schema=False)
    assert found.columns[:11] == [
        "Sr No.", "Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID", "Season",
        "Episode", "StartTime", "EndTime",
    ]  # fmt: skip
    assert found["Dialogue_ID"].to_list() == ["0", "0", "1", "2", "3"]
    assert found["Utterance_ID"].to_list() == ["0", "1", "0", "0", "0"]
    assert found["EndTime"][1] == "01:01:01,250"
    assert found["Utterance"].to_list()[1:3] == [None, "'=SUM(A1)"]


@pytest.mark.parametrize("kind", FORMATS)
def test_an_empty_table_exports_to_nothing_or_headers(tmp_path: Path, kind: str) -> None:
    write_table(table_of(), tmp_path / "empty.parquet", {})
    export(tmp_path / "empty.parquet", kind, tmp_path / "out")
    assert (tmp_path / "out").is_dir()


def test_what_it_refuses(table: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Did you mean rttm"):
        export(table, "rtm", tmp_path / "x")
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="not an empty folder"):
        export(table, "srt", full)
    assert (full / "mine.txt").read_text() == "mine"
    for name in ("../evil.mp4", "/etc/evil.mp4"):
        write_table(table_of(utterance(file=name)), tmp_path / "odd.parquet", {})
        with pytest.raises(UsageError, match="no path in a folder"):
            export(tmp_path / "odd.parquet", "srt", tmp_path / "out")
        assert not (tmp_path / "out").exists()
