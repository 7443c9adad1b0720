"""Speaker files as people have them."""

from __future__ import annotations

from pathlib import Path

import pytest

from annotator.diarize import read_rttm
from annotator.records import RecordingError, Turn


def rttm(folder: Path, text: str, name: str = "talk.rttm") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("line", "turn"),
    [
        ("SPEAKER my talk 1 0.6 4.8 <NA> <NA> anna <NA> <NA>", Turn(0.6, 5.4, "anna")),
        ("SPEAKER a talk of 2 1 0.6 4.8 <NA> <NA> Anna van Dyk <NA> <NA>", Turn(0.6, 5.4, "Anna van Dyk")),
        ("SPEAKER talk 1 0.6 4.8 <NA> <NA> Anna B 0.93 <NA>", Turn(0.6, 5.4, "Anna B")),
        ("SPEAKER talk 1 0.6 4.8 <NA> <NA> 7 <NA> <NA>", Turn(0.6, 5.4, "7")),
        ("SPEAKER talk 1 0.6 4.8 <NA> <NA> anna <NA>", Turn(0.6, 5.4, "anna")),
        ("SPEAKER talk 1 0.6 4.8 <NA> <NA> anna", Turn(0.6, 5.4, "anna")),
        ("SPEAKER talk 1 0.6 4.8 <NA> <NA> anna <NA> <NA> ;; checked", Turn(0.6, 5.4, "anna")),
        ("\ufeff SPEAKER\ttalk\t1\t0.6\t4.8\t<NA>\t<NA>\tanna\t<NA>\t<NA>", Turn(0.6, 5.4, "anna")),
        ("speaker talk 1 0.6 4.8 <NA> <NA> anna <NA> <NA>", Turn(0.6, 5.4, "anna")),
        ("SPEAKER talk 1 0.6 4.8 <NA> <NA> <NA> <NA> <NA>", Turn(0.6, 5.4, "SPEAKER_00")),
        ("SPEAKER talk 1 0.6 4.8 <NA> <NA> <na> <NA> <NA>", Turn(0.6, 5.4, "SPEAKER_00")),
        ("SPEAKER my talk 1 0.6 4.8 <na> <na> Anna B <na> <na>", Turn(0.6, 5.4, "Anna B")),
    ],
)
def test_fields_are_told_by_the_numbers_between_names(line: str, turn: Turn, tmp_path: Path) -> None:
    found = read_rttm(rttm(tmp_path, f";; a comment\n# another\nSPKR-INFO talk 1 <NA>\n{line}\n"))
    assert [(t.speaker, t.start, round(t.end, 6)) for t in found] == [(turn.speaker, turn.start, turn.end)]


def line(recording: str, start: float, speaker: str, channel: int = 1) -> str:
    return f"SPEAKER {recording} {channel} {start} 1 <NA> <NA> {speaker} <NA> <NA>\n"


@pytest.mark.parametrize("name", ["talk", "TALK", "day1/talk", "talk.wav", "C:\\rec\\talk.WAV"])
def test_of_several_recordings_the_turns_of_one_are_taken(name: str, tmp_path: Path) -> None:
    path = rttm(tmp_path, line("other", 0, "zed") + line(name, 2, "anna") + line("third", 4, "yan"))
    assert read_rttm(path) == read_rttm(path, "talk") == [Turn(2.0, 3.0, "anna")]
    with pytest.raises(
        RecordingError, match=r"talk\.rttm has 3 recordings and none is called 'call'"
    ) as caught:
        read_rttm(path, "call")
    assert caught.value.error == "bad_rttm"


def test_one_recording_may_be_called_anything(tmp_path: Path) -> None:
    assert read_rttm(rttm(tmp_path, line("x", 2, "anna")), "talk") == [Turn(2.0, 3.0, "anna")]


def test_names_are_compared_as_unicode_has_them(tmp_path: Path) -> None:
    path = rttm(tmp_path, line("Gespra\u0308ch", 2, "anna") + line("other", 0, "zed"))
    assert read_rttm(path, "Gespr\u00e4ch") == [Turn(2.0, 3.0, "anna")]


def test_nobody_is_a_speaker_of_their_own(tmp_path: Path) -> None:
    some = rttm(
        tmp_path, line("talk", 0, "SPEAKER_00") + line("talk", 2, "<NA>") + line("talk", 4, "SPEAKER_01")
    )
    assert [t.speaker for t in read_rttm(some)] == ["SPEAKER_00", "SPEAKER_02", "SPEAKER_01"]
    channels = rttm(tmp_path, line("talk", 0, "<NA>", 1) + line("talk", 2, "<NA>", 2))
    assert [t.speaker for t in read_rttm(channels)] == ["CHANNEL_1", "CHANNEL_2"]
