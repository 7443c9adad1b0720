"""The example recordings are what their README says, and the example script reads a table."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest

ROOT = Path(__file__).resolve().parents[1]
RECORDINGS = ROOT / "examples" / "recordings"
READ_TABLE = ROOT / "examples" / "read_table.py"
CUE = re.compile(
    r"(\d\d):(\d\d):(\d\d),(\d{3}) --> (\d\d):(\d\d):(\d\d),(\d{3})\n(.+?)(?:\n\n|\n*\Z)", re.DOTALL
)


def probe(ffmpeg: str, path: Path) -> str:
    """What ffmpeg says of a file. It exits with an error because no output is named."""
    return subprocess.run([ffmpeg, "-hide_banner", "-i", path], capture_output=True, text=True).stderr


def duration_s(described: str) -> float:
    found = re.search(r"Duration: (\d+):(\d+):([\d.]+)", described)
    assert found is not None
    return int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3])


def cues(subrip: str) -> list[tuple[float, float, str]]:
    """Start and end in seconds, and the text, of each cue."""
    found = []
    for *clock, text in CUE.findall(subrip):
        h1, m1, s1, ms1, h2, m2, s2, ms2 = map(int, clock)
        found.append((h1 * 3600 + m1 * 60 + s1 + ms1 / 1000, h2 * 3600 + m2 * 60 + s2 + ms2 / 1000, text))
    return found


@pytest.mark.parametrize("name", ["call.m4a", "meeting.m4a", "tv_clip.mkv"])
def test_recordings_are_small(name: str) -> None:
    assert 100_000 < (RECORDINGS / name).stat().st_size < 2_000_000


def test_meeting_is_sound_with_nameless_subtitles(ffmpeg: str) -> None:
    described = probe(ffmpeg, RECORDINGS / "meeting.m4a")
    assert re.findall(r"Stream #0:\d.*?: (\w+): (\w+)", described) == [("Audio", "aac")]
    spoken = cues((RECORDINGS / "meeting.srt").read_text(encoding="utf-8"))
    assert len(spoken) == 20
    assert all(start < end and ":" not in text for start, end, text in spoken)
    assert sum(after[0] < before[1] for before, after in pairwise(spoken)) == 1  # somebody interrupts
    assert 60 < spoken[-1][1] < duration_s(described) < 90


def test_tv_clip_has_picture_sound_and_subtitles(ffmpeg: str) -> None:
    path = RECORDINGS / "tv_clip.mkv"
    described = probe(ffmpeg, path)
    streams = re.findall(r"Stream #0:\d(?:\((\w+)\))?: (\w+): (\w+)", described)
    assert streams == [("", "Video", "h264"), ("eng", "Audio", "opus"), ("eng", "Subtitle", "subrip")]
    assert "640x360" in described and "25 fps" in described
    command: list[str | Path] = [ffmpeg, "-loglevel", "error", "-i", path, "-map", "0:s", "-f", "srt", "-"]
    spoken = cues(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert len(spoken) == 9
    assert {text.split(":")[0] for _, _, text in spoken} == {"MARA", "JONAS"}
    assert 40 < spoken[-1][1] < duration_s(described) < 60


def test_read_table_prints_shares(tmp_path: Path) -> None:
    emotions = ["joy", "joy", "anger", "joy", "sadness"]
    speakers = ["SPEAKER_00", "SPEAKER_00", "SPEAKER_00", "SPEAKER_00", "SPEAKER_01"]
    table = pl.DataFrame({"file": ["a.mp4"] * 5, "speaker": speakers, "emotion": emotions})
    table.write_parquet(tmp_path / "labels.parquet")
    table.write_csv(tmp_path / "labels.csv")
    for name in ("labels.parquet", "labels.csv"):
        result = subprocess.run([sys.executable, READ_TABLE, tmp_path / name], capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        rows = [re.findall(r"[\w.]+", line) for line in result.stdout.splitlines()]
        assert ["file", "speaker", "utterances", "anger", "joy", "sadness"] in rows
        assert ["a.mp4", "SPEAKER_00", "4", "0.25", "0.75", "0.00"] in rows
        assert ["a.mp4", "SPEAKER_01", "1", "0.00", "0.00", "1.00"] in rows


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "there is no table at"),
        (b"this is no Parquet", "is not a table that `annotate run` wrote"),
        (b"", "is not a table that `annotate run` wrote"),
    ],
)
def test_read_table_says_what_is_wrong(
    content: bytes | None, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "labels.parquet"
    if content is not None:
        path.write_bytes(content)
    # A SystemExit with a text is what Python prints to standard error, with exit code 1 and no traceback.
    monkeypatch.setattr(sys, "argv", [str(READ_TABLE), str(path)])
    with pytest.raises(SystemExit, match=sentence):
        runpy.run_path(str(READ_TABLE), run_name="__main__")


def test_read_table_needs_its_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "other.csv"
    path.write_text("name,age\nAna,30\n")
    monkeypatch.setattr(sys, "argv", [str(READ_TABLE), str(path)])
    with pytest.raises(SystemExit, match="is not a table"):
        runpy.run_path(str(READ_TABLE), run_name="__main__")


def test_read_table_wants_one_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(READ_TABLE)])
    with pytest.raises(SystemExit, match="name one table"):
        runpy.run_path(str(READ_TABLE), run_name="__main__")
