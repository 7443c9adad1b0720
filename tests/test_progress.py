"""What is seen of a run while it goes on."""

from __future__ import annotations

import logging
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pytest

from annotator.pipeline import progress
from annotator.pipeline.progress import Meter, clock
from annotator.pipeline.signals import Stop
from annotator.pipeline.timing import Stopwatch
from annotator.pipeline.workers import Allow, Do, WorkerPool

from .media import subtitles, talk


def test_where_there_is_no_terminal_a_line_a_minute_says_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "TICK_S", 0.01)
    monkeypatch.setattr(progress, "LINE_S", 0.02)
    caplog.set_level(logging.INFO, "annotator")
    monkeypatch.setattr(logging.getLogger("annotator"), "propagate", True)
    with Meter(2, True, lambda: "diarization of a.mp4") as shown:
        shown.found(40.0)
        shown.found(60.0)
        shown.done(40.0)
        time.sleep(0.2)
    line = caplog.messages[-1]
    assert line.startswith("40 of 100 s of recordings done, about ")
    assert line.endswith(" left: diarization of a.mp4")


def test_before_the_recordings_are_known_the_line_tells_no_seconds(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "TICK_S", 0.01)
    monkeypatch.setattr(progress, "LINE_S", 0.02)
    caplog.set_level(logging.INFO, "annotator")
    monkeypatch.setattr(logging.getLogger("annotator"), "propagate", True)
    with Meter(2, True, lambda: "loading models"):
        time.sleep(0.2)
    assert set(caplog.messages) == {"loading models"}


def test_quiet_shows_nothing(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(progress, "TICK_S", 0.01)
    monkeypatch.setattr(progress, "LINE_S", 0.01)
    monkeypatch.setattr(logging.getLogger("annotator"), "propagate", True)
    with Meter(1, False, lambda: "nothing"):
        time.sleep(0.05)
    assert not caplog.messages


@pytest.mark.parametrize(("seconds", "said"), [(0.4, "0 s"), (89, "89 s"), (150, "2 min"), (9000, "2.5 h")])
def test_lengths_of_time_are_for_people(seconds: float, said: str) -> None:
    assert clock(seconds) == said


def test_a_stage_within_another_is_not_told() -> None:
    told: list[str] = []
    watch = Stopwatch(on_stage=told.append)
    with watch.stage("decode"), watch.stage("faces"):
        pass
    with watch.stage("diarize"):
        pass
    assert told == ["decode", "diarize"]


def make(argument: Any) -> Do:
    def do(task: Any, allow: Allow) -> Any:
        allow.at("decode")
        time.sleep(1)
        return task

    return do


def test_a_pool_knows_the_stage_of_what_it_has_in_hand() -> None:
    pool, seen = WorkerPool(1, make, None), []
    try:
        pool.submit("a")
        assert pool.at_work == [("a", "load")]
        while pool.at_work:
            pool.collect(timeout_s=0.2)
            seen += [stage for _, stage in pool.at_work]
    finally:
        pool.close()
    assert "decode" in seen


def test_an_interrupt_says_what_it_waits_for(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("annotator").propagate = True
    stop = Stop(waiting_for=lambda: "what is in hand (a.mp4), about 2 min")
    with stop.listening():
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.signal == signal.SIGTERM
    assert "what is in hand (a.mp4), about 2 min; once more stops at once." in caplog.text


def test_on_a_terminal_stages_are_named_and_the_bar_moves(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    recording = talk(tmp_path / "videos" / "one.wav", 3)
    subtitles(recording.with_suffix(".srt"), [(0.5, 1.2, "Number one."), (1.5, 2.5, "So what?")])
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 120))
    command = [sys.executable, "-m", "annotator", "run", "videos", "-o", "labels.csv", "--modalities", "text"]
    process = subprocess.Popen(
        [*command, "--workers", "1"], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 65536):
            shown += piece
    except OSError:  # the other end is closed
        pass
    assert process.wait(timeout=300) == 0
    text = shown.decode()
    assert "loading models" in text and "100%" in text
    assert "transcriber: " in text.replace("\r", "\n")
