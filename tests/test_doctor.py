"""``annotate doctor`` tries things out: what works passes, what is broken is named with what to do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from annotator.doctor import Backend, Check, advice, folders, libraries, recording, small_batch, thread_count


@pytest.mark.slow
def test_a_whole_installation_passes_and_programs_can_read_it(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "annotator", "doctor", "--json"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"ANNOTATE_CACHE": str(tmp_path / "cache")},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["works"]
    checks = {check["name"]: check for check in found["checks"]}
    assert set(checks) == {"libraries", "threads", "disk", "ffmpeg", "GPU", "recording"}
    assert checks["recording"]["state"] == "ok"
    assert "wonderful" in checks["recording"]["message"]  # what is said in it
    assert {"decode", "diarize", "transcribe", "faces", "encode_text"} <= set(checks["recording"]["figures"])
    taken = {backend["stage"]: backend["name"] for backend in found["backends"] if backend["taken"]}
    assert taken == {"speakers": "embedded", "words": "whisper", "faces": "centerface", "labels": "starter"}
    # Nothing was downloaded into the empty cache, and words help most.
    assert found["advice"]["command"] == "annotate download whisper"
    assert not list(tmp_path.glob("*.parquet"))


def test_a_library_that_breaks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_library.py").write_text("raise OSError('libcudart.so.13: no such file')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    check = libraries(["json", "broken_library"], [])
    assert check.state == "failed" and check.remedy
    assert "broken_library" in check.message and "libcudart" in check.message
    assert libraries(["json"], ["no_such.library"]).state == "limited"
    assert libraries(["json"], ["csv"]).state == "ok"


def test_folders_are_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANNOTATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("annotator.doctor.LEAST_FREE_GB", 0.0)
    assert folders().state == "ok"
    (tmp_path / "file").touch()
    monkeypatch.setenv("ANNOTATE_CACHE", str(tmp_path / "file" / "cache"))
    check = folders()
    assert check.state == "limited" and "ANNOTATE_CACHE" in str(check.remedy)
    monkeypatch.setattr("annotator.doctor.LEAST_FREE_GB", 1e9)
    assert "TMPDIR" in str(folders().remedy)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    check = folders()
    assert check.state == "failed" and "TMPDIR" in str(check.remedy)


def test_a_number_of_threads_that_is_none_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert thread_count().state == "ok"
    monkeypatch.setenv("OMP_NUM_THREADS", "bogus")
    check = thread_count()
    assert check.state == "failed" and "'bogus'" in check.message
    told = advice([check], [], "cpu")
    assert told is not None and told.command == "unset OMP_NUM_THREADS"


def test_a_device_is_worked_on() -> None:
    assert small_batch("cpu", "the CPU").state == "ok"
    check = small_batch("cuda:77", "a GPU that is not there")
    assert check.state == "failed" and "--device cpu" in str(check.remedy)


def test_a_recording_that_fails_names_its_stage(tmp_path: Path) -> None:
    sample = tmp_path / "sample.mp4"
    sample.write_text("no recording")
    check = recording(sample, "cpu")
    assert check.state == "failed" and check.message.startswith("stage ")


def test_what_is_broken_comes_before_what_could_be_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANNOTATE_CACHE", str(tmp_path))
    fine = Check("libraries", "ok", "")
    full = Check("disk", "limited", "full", "make room")
    broken = Check("ffmpeg", "failed", "none", "pip install imageio-ffmpeg")
    without = [Backend("speakers", "pyannote", "no weights", False)]
    for checks, command in (
        ([fine, full, broken], "pip install imageio-ffmpeg"),
        ([fine, full], "make room"),
        ([fine], "annotate download whisper"),
    ):
        first = advice(checks, without, "cpu")
        assert first is not None and first.command == command
    monkeypatch.setattr("annotator.whisper_files.Download.is_here", True)
    first = advice([fine], without, "cpu")
    assert first is not None and first.command == "annotate download pyannote"
    assert advice([fine], [], "cpu") is None
