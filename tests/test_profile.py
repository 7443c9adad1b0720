"""``annotate run --profile``: where the time of a run went, and what limits it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from annotator.pipeline.profile import PREPARING, Profile
from annotator.pipeline.timing import Shift, Spent, Stopwatch, of_process
from annotator.pipeline.workers import Allow, Do, WorkerPool
from annotator.records import RecordingError

from .media import subtitles, talk
from .test_run import annotate


def test_a_second_belongs_to_the_innermost_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    clock = Stopwatch(lambda: now / 2)
    with clock.stage("decode"):
        now += 1
        for _ in range(2):
            with clock.stage("faces"):
                now += 4
        now += 2
    now += 50
    with pytest.raises(RecordingError), clock.stage("faces"):
        now += 10
        raise RecordingError("faces", "broken", "It is broken.")
    assert clock.spent == {"decode": Spent(3, 1.5), "faces": Spent(18, 9)}
    assert clock.wall == {"decode": 3, "faces": 18}


def test_processor_time_of_a_child_is_counted() -> None:
    clock = Stopwatch(of_process)
    with clock.stage("decode"):
        before = time.process_time()
        code = "import time\nwhile time.process_time() < 0.3: pass"
        subprocess.run([sys.executable, "-c", code], check=True)
        own = time.process_time() - before
    assert clock.spent["decode"].processor >= own + 0.3


def make_sleeper(seconds: float) -> Do:
    def do(task: str, allow: Allow) -> None:
        time.sleep(seconds)
        if task == "bad":
            raise RecordingError("decode", "broken", "The file is broken.")

    return do


def test_a_worker_tells_what_it_did() -> None:
    pool = WorkerPool(1, make_sleeper, 0.05)
    try:
        for task in ("good", "bad"):
            pool.submit(task)
            while not pool.collect(timeout_s=60):
                pass
            time.sleep(0.4)  # the worker waits nearly as long: it has told what it did a moment before
    finally:
        pool.close()
    (shift,) = pool.shifts
    assert shift.recordings == 2 and shift.busy.wall >= 0.1
    assert shift.loading.wall > 0 and shift.loading.processor > 0
    assert shift.waited_s >= 0.1


def profile(stages: dict[str, Spent], labelling_s: float = 0.1, **shift: float) -> Profile:
    busy = sum(spent.wall for name, spent in stages.items() if name in PREPARING)
    worker = Shift(Spent(shift.get("loading", 0.5), 0.5), Spent(busy, busy), shift.get("waited", 0.0), 1)
    return Profile(None, 20.0, 60.0, 2, 1, stages, [worker], labelling_s, 3.0)


@pytest.mark.parametrize(
    ("told", "says"),
    [
        (
            profile({"decode": Spent(1, 2), "diarize": Spent(9, 8), "write": Spent(10, 1)}),
            "What limits this run is diarization: it took 9.0 s of the 10.0 s that workers were busy, and "
            "the network waited 3.0 s for them.",
        ),
        (profile({"decode": Spent(9, 2)}), "decoding: it took 9.0 s (2.0 s of them with a processor) of"),
        (profile({"decode": Spent(1, 1)}, loading=12.0), "Loading limits this run: a worker took 12.0 s of"),
        (profile({"decode": Spent(1, 1)}, labelling_s=15.0, waited=7.0), "the workers waited 7.0 s."),
        (Profile(None, 1.0, 0.0, 2, 1, {"find": Spent(0.2, 0.1)}, [], 0.0, 0.0), "no recording was left"),
    ],
)
def test_one_sentence_says_what_limits(told: Profile, says: str) -> None:
    assert says in told.limits and told.lines()[-1] == told.limits


def test_a_profile_is_told_and_kept_and_changes_no_result(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    talk(tmp_path / "videos" / "one.wav", 4)
    subtitles(tmp_path / "videos" / "one.srt", [(0.5, 1.5, "Number one."), (2.5, 3.5, "So what?")])
    out, record = tmp_path / "labels.parquet", tmp_path / "labels.run.json"
    arguments = ("run", tmp_path / "videos", "--out", out, "--modalities", "text")
    ended = annotate(*arguments, "--profile", "--threads", 1)
    assert ended.returncode == 0, ended.stderr
    assert " limits this run" in ended.stdout.splitlines()[-1]
    (told,) = json.loads(record.read_text())["profiles"]
    assert told["limits"] == ended.stdout.splitlines()[-1]
    stages = told["stages"]
    expected = {"load", "find", "decode", "diarize", "transcribe", "encode_text", "predict", "write"}
    assert expected <= stages.keys()
    assert stages["decode"]["processor"] > 0, "ffmpeg's own"
    assert sum(stage["share"] for stage in stages.values()) == pytest.approx(1, abs=0.01)
    assert told["sound_seconds"] == pytest.approx(4, abs=0.1) and told["threads"] == 1
    speed = told["sound_seconds"] / told["wall_seconds"]
    assert told["sound_seconds_per_second"] == pytest.approx(speed, abs=0.01)
    (worker,) = told["workers"]
    assert worker["recordings"] == 1
    mine = sum(stages[name]["wall"] for name in PREPARING if name in stages)
    assert mine <= worker["busy"]["wall"] <= told["wall_seconds"]
    rows, metadata = pl.read_parquet(out), pl.read_parquet_metadata(out)
    again = annotate(*arguments, "--threads", 1)
    assert "the recording was done already" in again.stderr and "limits" not in again.stdout
    assert "profiles" not in json.loads(record.read_text())
    assert_frame_equal(pl.read_parquet(out), rows, check_exact=True)
    assert pl.read_parquet_metadata(out) == metadata
    idle = annotate(*arguments, "--profile")
    assert "no recording was left to annotate" in idle.stdout.splitlines()[-1], idle.stderr
