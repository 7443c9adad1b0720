"""Worker processes: one recording at a time each, so that a crash costs one recording.

The standard pool gives up whole when a process dies and can't tell which task killed it.
Here every worker has its own pipe and the parent knows what each has in hand.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from annotator.records import AnnotateError, RecordingError

PR_SET_PDEATHSIG = 1


@dataclass
class Outcome:
    """What became of a task: exactly one of ``result`` and ``error`` is set."""

    task: Any
    result: Any = None
    error: Exception | None = None
    died: bool = False  # the process ended under it
    details: str = ""  # a traceback, for the verbose log


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    task: Any = None


class WorkerPool:
    """``size`` processes that call ``make()`` once and then the function it returns for every task.

    Args:
        make: called in the worker with ``argument``; returns the function that does a task. Both
            must be importable by name (the processes are spawned, not forked: CUDA and threads).
    """

    def __init__(self, size: int, make: Callable[[Any], Callable[[Any], Any]], argument: Any) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._make, self._argument = make, argument
        self._workers = [self._start() for _ in range(size)]

    def _start(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_serve, args=(theirs, self._make, self._argument), daemon=False
        )
        process.start()
        theirs.close()
        return _Worker(process, ours)

    @property
    def idle(self) -> bool:
        """Whether a task would start at once."""
        return any(w.task is None for w in self._workers)

    @property
    def in_hand(self) -> list[Any]:
        return [w.task for w in self._workers if w.task is not None]

    def submit(self, task: Any) -> None:
        """Give a task to an idle worker."""
        worker = next(w for w in self._workers if w.task is None)
        worker.task = task
        try:
            worker.pipe.send(task)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it died while idle: `collect` sees the closed pipe and reports it

    def collect(self, timeout_s: float | None = None) -> list[Outcome]:
        """Outcomes that have arrived, waiting up to ``timeout_s`` for the first."""
        busy = {w.pipe: w for w in self._workers if w.task is not None}
        outcomes = []
        for ready in wait(list(busy), timeout_s):
            worker = busy[ready]  # type: ignore[index]  # wait returns what it was given
            task, worker.task = worker.task, None
            try:
                outcomes.append(Outcome(task, *worker.pipe.recv()))
            except (EOFError, ConnectionResetError):
                worker.process.join()
                code = worker.process.exitcode or 0
                why = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
                message = f"The worker process ended {why} while it had this recording in hand."
                outcomes.append(
                    Outcome(task, error=RecordingError("worker", "worker_died", message), died=True)
                )
                self._workers[self._workers.index(worker)] = self._start()
        return outcomes

    def close(self, *, kill: bool = False) -> None:
        """End the processes; at once if ``kill``."""
        for worker in self._workers:
            if kill:
                worker.process.kill()
            worker.pipe.close()
        for worker in self._workers:
            worker.process.join()


def _serve(pipe: Connection, make: Callable[[Any], Callable[[Any], Any]], argument: Any) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # never outlive the parent
    # The parent decides what a Ctrl-C means; it reaches the whole process group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    do: Callable[[Any], Any] | None = None
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        try:
            do = do or make(argument)
            answer: tuple[Any, Exception | None, bool, str] = (do(task), None, False, "")
        except AnnotateError as error:
            answer = (None, error, False, "")
        except MemoryError:
            message = "The machine ran out of memory on this recording: try fewer --workers."
            answer = (None, RecordingError("worker", "out_of_memory", message), False, "")
        except Exception as error:
            message = f"Unexpected {type(error).__name__}: {error}"
            fault = RecordingError("worker", "internal", message)
            answer = (None, fault, False, traceback.format_exc())
        pipe.send(answer)
