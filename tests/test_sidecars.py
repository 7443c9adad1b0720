"""Files beside recordings: whose they are by their names, and what is passed over."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from annotator import media, sidecars
from annotator.languages import named_language
from annotator.sidecars import Name


def names(folder: Path, recording: str, *beside: str) -> list[str]:
    for name in (recording, *beside):
        (folder / name).write_text("x")
    return [path.name for path in media.sidecars(folder / recording)]


@pytest.mark.parametrize(
    "name",
    """talk.srt talk.SRT TALK.srt talk.mp4.srt talk.en.srt talk.en_US.srt talk.en-US.srt talk.EN.srt
    talk.eng.srt talk.English.srt talk.english.sdh.srt talk_English.srt talk-English.srt talk.en.hi.srt
    talk.en.cc.srt talk.eng.default.srt talk.default.eng.forced.srt talk.en.forced.srt talk.forced.srt
    talk_whisper.json talk.whisper.json talk-whisperx.json talk_whisper_large-v3.json talk.transcript.vtt
    talk_transcript.json talk.zh-Hans.srt talk.pt_BR.srt talk.es-419.vtt talk.Deutsch.srt talk.deu.srt
    talk.captions.vtt talk.mp4.en.vtt talk_diarization.rttm talk.en.auto.vtt talk.aligned.json
    talk.ass talk.en.ssa""".split()
    + [
        "talk (English).srt",
        "talk.Brazilian Portuguese.srt",
        "talk [en].srt",
        "talk.Chinese (Simplified).srt",
    ],
)
def test_a_sidecar_is_known_by_its_name(tmp_path: Path, name: str) -> None:
    assert names(tmp_path, "talk.mp4", name) == [name]


@pytest.mark.parametrize(
    "name",
    ["talk 2.srt", "talk2.srt", "talk.part2.srt", "talk.2.srt", "xtalk.srt", "talk-final-cut.srt", "talk.txt",
     "talkshow.srt", "tal.srt", "talk.x.srt", "talk.with.ann.srt"],
)  # fmt: skip
def test_another_recordings_file_is_none(tmp_path: Path, name: str) -> None:
    assert names(tmp_path, "talk.mp4", name) == []


@pytest.mark.parametrize(("recording", "beside"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_umlauts_are_the_same_taken_apart(tmp_path: Path, recording: str, beside: str) -> None:
    film = unicodedata.normalize(recording, "Gespräch.wav")  # type: ignore[arg-type]
    found = names(tmp_path, film, unicodedata.normalize(beside, "Gespräch.de.srt"))  # type: ignore[arg-type]
    assert len(found) == 1
    assert sidecars.of(found[0], film).language == "de"


def test_the_longer_name_owns_a_file(tmp_path: Path) -> None:
    for name in ("talk.wav", "talk.en.wav", "talk_zoom.mp4"):
        (tmp_path / name).write_text("x")
    assert names(tmp_path, "talk.mp4", "talk.srt", "talk.en.srt", "talk.en.de.srt", "talk_zoom.vtt") == [
        "talk.srt"
    ]
    assert [p.name for p in media.sidecars(tmp_path / "talk.wav")] == ["talk.srt"]
    assert [p.name for p in media.sidecars(tmp_path / "talk.en.wav")] == ["talk.en.de.srt", "talk.en.srt"]
    assert [p.name for p in media.sidecars(tmp_path / "talk_zoom.mp4")] == ["talk_zoom.vtt"]


def test_zoom_names_its_films_by_their_size(tmp_path: Path) -> None:
    transcript = "GMT20240102-090000_Recording.transcript.vtt"
    assert names(tmp_path, "GMT20240102-090000_Recording_1920x1080.mp4", transcript) == [transcript]
    assert names(tmp_path, "GMT20240102-090000_Recording.m4a") == [transcript]


def test_a_recording_without_an_ending_has_sidecars_too(tmp_path: Path) -> None:
    assert names(tmp_path, "interview", "interview.en.srt", "interviews.srt") == ["interview.en.srt"]


@pytest.mark.parametrize(
    ("between", "said"),
    [
        ("", Name()),
        (".en_US", Name("en")),
        (".English", Name("en")),
        (".hi", Name("hi")),
        (".en.hi", Name("en", hearing_impaired=True)),
        (".hi.en", Name("en", hearing_impaired=True)),
        (".eng.default", Name("en", default=True)),
        (".default.de.forced", Name("de", forced=True, default=True)),
        ("_whisper", Name()),
        ("_2_English", Name("en")),
        (".nob", Name("nb")),
        (".Portuguese (Brazil)", Name("pt")),
        (".jp", Name("ja")),
        ("_otter_ai", Name()),
        (".en.fr", None),
        (".3", None),
    ],
)
def test_what_a_name_says(between: str, said: Name | None) -> None:
    assert sidecars.parse(between) == said


def test_languages_by_any_name() -> None:
    asked = ["en", "eng", "en-GB", "English", "ger", "Deutsch", "chs", "Norsk", "final", "no one", "", "xx"]
    told = ["en", "en", "en", "en", "de", "de", "zh", "no", None, None, None, None]
    assert [named_language(name) for name in asked] == told


def test_what_is_not_used_is_told(tmp_path: Path) -> None:
    for name in (
        "talk.wav",
        "talk.srt",
        "other.en.srt",
        "a.xyz",
        "README",
        ".hidden",
        "old.run.json",
        "old.csv",
    ):
        (tmp_path / name).write_text("x")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b.docx").write_text("x")
    found, passed_over = media.look_through([tmp_path])
    assert [entry.file for entry in found] == ["talk.wav"]
    assert {other.file: other.reason for other in passed_over} == {
        "README": "its ending is none of a recording or transcript",
        "a.xyz": "its ending is none of a recording or transcript",
        "deep/b.docx": "its ending is none of a recording or transcript",
        "other.en.srt": "no recording beside it has this name",
    }


def test_sidecars_named_with_their_recordings_are_no_recordings(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("talk.wav", "talk.en.srt", "talk.rttm", "lonely.srt")]
    for path in files:
        path.write_text("x")
    assert [entry.file for entry in media.find(files)] == ["lonely.srt", "talk.wav"]


def test_a_folder_of_thousands_is_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(300):
        (tmp_path / f"clip{number}.wav").write_text("x")
        (tmp_path / f"clip{number}.en.srt").write_text("x")
    listed: list[object] = []
    real = os.listdir

    def counted(path: Path) -> list[str]:
        listed.append(path)
        return real(path)

    monkeypatch.setattr(os, "listdir", counted)
    found, passed_over = media.look_through([tmp_path])
    assert len(found) == 300 and not passed_over
    assert all(len(media.sidecars(entry.path)) == 1 for entry in found)
    assert len(listed) == 1
