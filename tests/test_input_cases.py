"""Recordings as people have them, by the real command: tracks, channels, names beside them, containers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import unicodedata
import wave
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from .media import run_ffmpeg, subtitles, talk
from .test_streams import conversation, wav

CUES = [(0.2, 2.2, "I am so happy today!"), (3.4, 5.4, "Why would you do that?")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, ffmpeg: str) -> Path:
    root = tmp_path_factory.mktemp("in")
    voice, comment = talk(root / "_v.wav", 6), talk(root / "_c.wav", 2, pitch_hz=220, seed=3)
    for name, codec in (("commentary.mkv", b"A_AAC"), ("undecodable.mkv", b"A_XYZ")):
        run_ffmpeg(
            ffmpeg, "-i", str(comment), "-i", str(voice), "-map", "0:a", "-map", "1:a", "-c:a", "aac",
            "-disposition:a:0", "comment" if codec == b"A_AAC" else "default",
            "-disposition:a:1", "default" if codec == b"A_AAC" else "0", str(root / name),
        )  # fmt: skip
        content = (root / name).read_bytes()
        (root / name).write_bytes(content.replace(b"A_AAC", codec, 1))
    with wave.open(str(voice), "rb") as file:
        sound = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768
    microphones = np.zeros((len(sound), 6))
    microphones[:, 3] = sound  # which ffmpeg would call the subwoofer
    wav(root / "microphones.wav", microphones)
    wav(root / "call.wav", conversation(root, 0.15))
    run_ffmpeg(ffmpeg, "-i", str(voice), str(root / "container.aiff"))
    run_ffmpeg(ffmpeg, "-i", str(voice), "-f", "wav", str(root / "no_ending"))
    named = {
        "n1.wav": "n1.en_US.srt",
        "n2.wav": "N2.English.srt",
        "n3.wav": "n3.en.hi.srt",
        unicodedata.normalize("NFD", "Gespräch.wav"): unicodedata.normalize("NFC", "Gespräch.srt"),
        "GMT20240102-090000_Recording_640x360.wav": "GMT20240102-090000_Recording.transcript.srt",
    }
    for number, (recording, beside) in enumerate(named.items()):
        talk(root / recording, 6, seed=number)
        subtitles(root / beside, CUES)
    subtitles(root / "n1.en.forced.srt", CUES)
    subtitles(root / "nobody.en.srt", CUES)
    for path in (*root.glob("_*.wav"), *root.glob("v?.wav")):
        path.unlink()
    return root


@pytest.fixture(scope="module")
def done(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("out") / "labels.parquet"
    ended = subprocess.run(
        [sys.executable, "-m", "annotator", "run", folder, "--out", out, "--modalities", "text",
         "--offline", "--workers", "1", "--verbose"],
        capture_output=True, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return out, ended.stderr


def test_the_right_track_and_all_channels_are_heard(done: tuple[Path, str]) -> None:
    table = pl.read_parquet(done[0])
    spoken = dict(table.group_by("file").agg(pl.col("end").max()).iter_rows())
    assert spoken["commentary.mkv"] > 5, "the comment lasts 2 s"
    for name in ("undecodable.mkv", "microphones.wav", "container.aiff"):
        assert spoken[name] > 5, name
    assert "commentary.mkv: audio: 2 (aac, mono, default)" in done[1]
    flags = dict(
        pl.read_parquet(done[0].with_suffix(".recordings.parquet")).select("file", "flags").iter_rows()
    )
    assert (
        "other_audio_track" in flags["undecodable.mkv"] and "other_audio_track" not in flags["commentary.mkv"]
    )


def test_each_channel_of_a_call_is_a_speaker(done: tuple[Path, str]) -> None:
    call = pl.read_parquet(done[0]).filter(file="call.wav")
    assert set(call["speaker"]) == {"CHANNEL_1", "CHANNEL_2"}
    for channel, start, end in (("CHANNEL_1", 1.5, 5.5), ("CHANNEL_2", 7.0, 11.0), ("CHANNEL_1", 12.5, 15.0)):
        over = call.filter((pl.col("start") < end) & (pl.col("end") > start))
        assert over["speaker"].unique().to_list() == [channel], (start, end)


def test_files_beside_are_read_by_their_names(done: tuple[Path, str], folder: Path) -> None:
    table = pl.read_parquet(done[0])
    apart = unicodedata.normalize("NFD", "Gespräch.wav")
    for name, language in (
        ("n1.wav", "en"), ("n2.wav", "en"), ("n3.wav", "en"),
        (apart, "en"), ("GMT20240102-090000_Recording_640x360.wav", "en"),  # told by the words alone
    ):  # fmt: skip
        rows = table.filter(file=name)
        assert rows["text"].to_list() == [text for _, _, text in CUES], name
        assert rows["language"].unique().to_list() == [language], name


def test_what_was_passed_over_is_told(done: tuple[Path, str]) -> None:
    record = json.loads(done[0].with_suffix(".run.json").read_text())
    reasons = {other["file"]: other["reason"] for other in record["not_used"]}
    assert set(reasons) == {"no_ending", "nobody.en.srt", "n1.en.forced.srt"}
    assert reasons["n1.en.forced.srt"] == "n1.en_US.srt was taken"
    assert "no recording" in reasons["nobody.en.srt"] and "its ending" in reasons["no_ending"]
    (line,) = [line for line in done[1].splitlines() if line.startswith("not used: ")]
    assert all(name in line for name in reasons) and line.endswith("(labels.run.json says why)")
    table = pl.read_parquet(done[0].with_suffix(".recordings.parquet"))
    assert set(table.filter(status="passed over")["file"]) == set(reasons)
