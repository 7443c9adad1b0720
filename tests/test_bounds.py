"""What files beside a recording may claim: more than a recording has is refused before anything is built."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from annotator import bounds, diarize, transcribe, utterances
from annotator.records import RecordingError, Transcript, Turn


def srt(*texts: str) -> str:
    return "".join(f"{i}\n00:00:{i:02},000 --> 00:00:{i + 1:02},000\n{t}\n\n" for i, t in enumerate(texts))


CLAIMS: dict[str, tuple[str, Callable[[], str], str]] = {
    "turns at once": (
        ".rttm",
        lambda: "".join(f"SPEAKER x 1 0 9 <NA> <NA> s{i} <NA> <NA>\n" for i in range(300)),
        "turns at once",
    ),
    "turns": (
        ".rttm",
        lambda: "".join(f"SPEAKER x 1 {i} .5 <NA> <NA> s <NA> <NA>\n" for i in range(1001)),
        "more than 1,000 turns",
    ),
    "a time beyond reason": (".rttm", lambda: "SPEAKER x 1 1e300 1e300 <NA> <NA> s <NA> <NA>\n", "seconds"),
    "words at once": (
        ".ctm",
        lambda: "".join(f"x 1 0 9 w{i} 0.5 lex s{i}\n" for i in range(600)),
        "words sound at once",
    ),
    "words of JSON at once": (
        ".json",
        lambda: '{"segments": [' + ", ".join(['{"start": 0, "end": 9, "text": "So."}'] * 600) + "]}",
        "words sound at once",
    ),
    "cues": (
        ".srt",
        lambda: "".join(f"{i}\n00:00:01,0 --> 00:00:02,0\n.\n\n" for i in range(1001)),
        "more than 1,000 cues",
    ),
    "a cue of half a megabyte": (".srt", lambda: srt("a" * 500_000), "100,000 characters"),
    "numbers of 5,000 digits": (
        ".json",
        lambda: f'{{"segments": [{{"start": 0, "end": {"9" * 5000}, "text": "So."}}]}}',
        "too long to read",
    ),
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_more_than_a_recording_has_is_refused(
    claim: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "MOST_TURNS", 1000)  # fewer, for the time of this test
    monkeypatch.setattr(bounds, "MOST_CUES", 1000)
    ending, content, words = CLAIMS[claim]
    path = tmp_path / f"x{ending}"
    path.write_text(content())
    with pytest.raises(RecordingError, match=words) as caught:
        diarize.read_rttm(path) if ending == ".rttm" else transcribe.read_sidecar(path)
    assert path.name in caught.value.message


def test_entities_of_thousands_of_digits_stand_for_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.srt"
    path.write_text(srt(f"Well &#{'9' * 5000}; so &#x{'f' * 5000}; &#65;"))
    assert [w.text for w in transcribe.read_sidecar(path).words] == ["Well", "\ufffd", "so", "\ufffd", "A"]


def test_subtitles_may_be_counted_from_0(tmp_path: Path) -> None:
    path = tmp_path / "x.srt"
    path.write_text(srt("So.", "Well."))
    assert [w.text for w in transcribe.read_sidecar(path).words] == ["So.", "Well."]


def test_a_diarizer_that_hears_everybody_at_once_is_not_believed() -> None:
    turns = [Turn(0.0, 60.0, f"SPEAKER_{i}") for i in range(bounds.TURNS_AT_ONCE + 1)]
    with pytest.raises(RecordingError) as caught:
        utterances.build(turns, Transcript(), 60.0)
    assert caught.value.error == "too_many"


def test_a_crowd_is_of_what_sounds_together() -> None:
    apart = [(float(i), i + 0.9) for i in range(1000)]
    assert bounds.crowd(apart, 1) is None
    assert bounds.crowd([(i / 10, i / 10) for i in range(100)], 9) == pytest.approx(0.9)
    assert bounds.crowd([(0.0, 100.0), (1.0, 2.0), (50.0, 51.0)], 2) is None
