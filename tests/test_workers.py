"""Worker processes: one that dies costs its task and no other."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from annotator.pipeline.workers import Allow, Do, Outcome, WorkerPool
from annotator.records import RecordingError, SetupError


def make(factor: int) -> Do:
    collected_while_made = gc.isenabled()

    def do(task: Any, allow: Allow) -> Any:
        if task == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if task == "bad":
            raise RecordingError("decode", "broken", "The file is broken.")
        if task == "bug":
            raise ZeroDivisionError("a bug")
        if task == "hang":
            time.sleep(600)
        if task == "hang later":
            allow(0.2)
            time.sleep(600)
        if task == "long":
            allow(600)
            time.sleep(0.4)
            return 0
        if task == "disk":
            raise SetupError("The disk is full.")
        if task == "garbage":
            return collected_while_made, gc.isenabled()
        return task * factor

    return do


def all_outcomes(pool: WorkerPool, tasks: list[Any]) -> dict[Any, Outcome]:
    found: dict[Any, Outcome] = {}
    waiting = list(tasks)
    while len(found) < len(tasks):
        while waiting and pool.idle:
            pool.submit(waiting.pop(0))
        for outcome in pool.collect(timeout_s=0.5):
            found[outcome.task] = outcome
    return found


def test_garbage_is_collected_once_the_tools_are_made() -> None:
    pool = WorkerPool(1, make, 10)
    try:
        found = all_outcomes(pool, ["garbage"])
    finally:
        pool.close()
    assert found["garbage"].result == (False, True)


def test_every_task_has_its_outcome_whatever_the_others_do() -> None:
    pool = WorkerPool(2, make, 10)
    try:
        found = all_outcomes(pool, [1, "die", "bad", 2, "bug", "disk", 3])
    finally:
        pool.close()
    assert [found[i].result for i in (1, 2, 3)] == [10, 20, 30]
    died = found["die"]
    assert died.died and isinstance(died.error, RecordingError) and "SIGKILL" in died.error.message
    bad = found["bad"].error
    assert isinstance(bad, RecordingError)
    assert (bad.stage, bad.error, bad.message) == ("decode", "broken", "The file is broken.")
    bug = found["bug"]
    assert isinstance(bug.error, RecordingError) and bug.error.error == "internal"
    assert "ZeroDivisionError" in bug.details and "Traceback" not in bug.error.message
    assert isinstance(found["disk"].error, SetupError)


def test_a_task_that_hangs_is_given_up() -> None:
    """Also one that hangs within what it was allowed later; one that was allowed more has it."""
    pool = WorkerPool(3, make, 10, limit_s=lambda task: 0.2 if task in ("hang", "long") else 600)
    try:
        found = all_outcomes(pool, ["hang", "hang later", "long", 2])
    finally:
        pool.close()
    for task in ("hang", "hang later"):
        error = found[task].error
        assert isinstance(error, RecordingError) and error.error == "timeout" and not found[task].died
    assert found["long"].result == 0 and found[2].result == 20


def test_time_in_which_a_run_is_stopped_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after Ctrl-Z, or a night in a sleeping laptop: the clock leaps, and nothing has hung."""
    pool = WorkerPool(1, make, 10, limit_s=lambda task: 3600)
    try:
        pool.submit("hang")
        pool.collect(timeout_s=0)
        awake = time.monotonic
        monkeypatch.setattr(time, "monotonic", lambda: awake() + 40_000)
        assert pool.collect(timeout_s=0) == [] and pool.in_hand == ["hang"]
    finally:
        pool.close(kill=True)


def test_closing_leaves_no_process() -> None:
    pool = WorkerPool(1, make, 1)
    pool.submit(1)
    processes = [w.process for w in pool._workers]
    pool.close(kill=True)
    assert not any(p.is_alive() for p in processes)


def make_badly(reason: str) -> Do:
    if reason == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    raise ImportError(reason)


def make_at_second_try(flag: str) -> Do:
    if not os.path.exists(flag):
        open(flag, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return make(10)


def test_a_worker_killed_while_it_loads_is_replaced(tmp_path: Path) -> None:
    pool = WorkerPool(1, make_at_second_try, str(tmp_path / "tried"))
    try:
        found = all_outcomes(pool, [1, 2])
    finally:
        pool.close()
    assert [found[task].result for task in (1, 2)] == [10, 20]


def make_with_a_trace(flag: str) -> Do:
    Path(flag).touch()
    return make(1)


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel of Linux")
def test_a_worker_whose_parent_was_killed_while_it_imported_does_not_go_on(tmp_path: Path) -> None:
    flag = tmp_path / "loaded"
    code = (
        "import os, signal\n"
        "from annotator.pipeline.workers import WorkerPool\n"
        "from tests.test_workers import make_with_a_trace\n"
        f"pool = WorkerPool(1, make_with_a_trace, {str(flag)!r})\n"
        "pool.submit(1)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = Path(__file__).parents[1]
    # The pipe closes once the last of them has ended.
    ended = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=root, timeout=60)
    assert ended.returncode == -signal.SIGKILL and not flag.exists()


@pytest.mark.parametrize(("reason", "words"), [("no libsndfile", "no libsndfile"), ("killed", "--workers")])
def test_a_worker_without_tools_is_no_fault_of_the_recording(reason: str, words: str) -> None:
    pool = WorkerPool(1, make_badly, reason)
    try:
        found = all_outcomes(pool, ["recording"])
    finally:
        pool.close()
    error = found["recording"].error
    assert isinstance(error, SetupError) and words in str(error)
