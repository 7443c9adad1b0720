"""Worker processes: one recording at a time each, so that a crash costs one recording.

The standard pool gives up whole when a process dies and can't tell which task killed it.
Here every worker has its own pipe and the parent knows what each has in hand.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol

from annotator import threads
from annotator.awake import Awake
from annotator.pipeline.loading import without_collection
from annotator.pipeline.timing import Shift, Spent, of_process
from annotator.records import AnnotateError, RecordingError, SetupError


class Allow(Protocol):
    """How a task tells the parent what it may take and what it does."""

    def __call__(self, seconds: float) -> None:
        """Set anew how long the rest of the task may take."""

    def at(self, stage: str) -> None:
        """Tell which stage of the task begins."""


Do = Callable[[Any, Allow], Any]

PR_SET_PDEATHSIG = 1
LONGEST_STEP_S = 60.0  # of waiting that counts between two looks at the workers: else the run was stopped
STARTS = 3  # workers that may be killed in a row while they load, before the run gives up


@dataclass(frozen=True)
class _Allowed:
    """A worker's message: what its task may take from now on."""

    seconds: float


@dataclass(frozen=True)
class _At:
    """A worker's message: the stage of its task that begins."""

    stage: str


class _Line:
    """:class:`Allow` over a pipe."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def __call__(self, seconds: float) -> None:
        self._pipe.send(_Allowed(seconds))

    def at(self, stage: str) -> None:
        self._pipe.send(_At(stage))


@dataclass
class Outcome:
    """What became of a task: exactly one of ``result`` and ``error`` is set."""

    task: Any
    result: Any = None
    error: Exception | None = None
    died: bool = False  # the process ended under it
    details: str = ""  # a traceback, for the verbose log


class Pool(Protocol):
    """Workers wherever they are. What each method does: :class:`WorkerPool`."""

    def start(self, count: int) -> None: ...

    @property
    def idle(self) -> bool: ...

    @property
    def in_hand(self) -> list[Any]: ...

    @property
    def at_work(self) -> list[tuple[Any, str | None]]: ...

    @property
    def shifts(self) -> list[Shift]: ...

    def submit(self, task: Any) -> None: ...

    def collect(self, timeout_s: float | None = None) -> list[Outcome]: ...

    def withdraw(self) -> None: ...

    def close(self, *, kill: bool = False) -> None: ...


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    task: Any = None
    shift: Shift | None = None  # None until its tools are made
    since: float = 0.0  # by the pool's clock: when it got its task, was ready for it or was allowed more
    limit_s: float = 0.0  # from then on
    stage: str | None = None  # of its task


class WorkerPool:
    """Up to ``size`` processes that call ``make(argument)`` once and then the function it returns for every
    task, with the task and a function that sets anew how many seconds the task may take from then on.

    A process starts when a task needs one, or by ``start``. One that can't make its tools gives a SetupError
    as the outcome of its task: the recording is not to blame.

    Args:
        make: called in the worker with ``argument``; returns the function that does a task. Both
            must be importable by name (the processes are spawned, not forked: CUDA and threads).
        limit_s: how long a task may take; a worker that needs longer hangs, and is killed. Time in which this
            process is stopped does not count.
        threads_each: those of the libraries of a worker; by default its share of the processors.
    """

    def __init__(
        self,
        size: int,
        make: Callable[[Any], Do],
        argument: Any,
        limit_s: Callable[[Any], float] = lambda task: float("inf"),
        threads_each: int | None = None,
    ) -> None:
        self._limit_s = limit_s
        self._clock = Awake(LONGEST_STEP_S)
        self._context = multiprocessing.get_context("spawn")
        self._size, self._make, self._argument = size, make, argument
        self._workers: list[_Worker] = []
        self._environment = threads.environment(threads_each or threads.of_worker(size))
        self._lost_starts = 0  # in a row
        self._ended: list[Shift] = []  # of processes that are no more

    def start(self, count: int) -> None:
        """Start processes ahead of their tasks, as many as there are to come and the pool may have."""
        while len(self._workers) < min(count, self._size):
            self._start()

    def _start(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_serve, args=(theirs, self._make, self._argument, time.monotonic()), daemon=False
        )
        # The parent decides what a Ctrl-C means, which reaches the whole process group: a child keeps
        # the blocked signals until it ignores them, also while it is still importing.
        signals = {signal.SIGINT, signal.SIGTERM}
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        try:
            with _set(self._environment):
                process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        worker = _Worker(process, ours)
        self._workers.append(worker)
        return worker

    @property
    def idle(self) -> bool:
        """Whether a task would start at once."""
        return len(self._workers) < self._size or any(w.task is None for w in self._workers)

    @property
    def in_hand(self) -> list[Any]:
        return [w.task for w in self._workers if w.task is not None]

    @property
    def processes(self) -> list[int]:
        """Ids of those that are started."""
        return [w.process.pid for w in self._workers if w.process.pid is not None]

    @property
    def at_work(self) -> list[tuple[Any, str | None]]:
        """Tasks in hand with their stage: ``load`` while a worker makes its tools, None before any."""
        # Another thread asks, so each is looked at once.
        every = [(w.task, "load" if w.shift is None else w.stage) for w in list(self._workers)]
        return [(task, stage) for task, stage in every if task is not None]

    def submit(self, task: Any) -> None:
        """Give a task to an idle worker."""
        self._hand(next((w for w in self._workers if w.task is None), None) or self._start(), task)

    def withdraw(self) -> None:
        """Take back tasks that no worker has begun: none here, as each goes to a worker at once."""

    def _hand(self, worker: _Worker, task: Any) -> None:
        worker.task, worker.stage = task, None
        self._allow(worker, self._limit_s(task))
        try:
            worker.pipe.send(task)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it died while idle: `collect` sees the closed pipe and reports it

    def _allow(self, worker: _Worker, limit_s: float) -> None:
        worker.since, worker.limit_s = self._clock.seconds(), limit_s

    def collect(self, timeout_s: float | None = None) -> list[Outcome]:
        """Outcomes that have arrived, waiting up to ``timeout_s`` for the first."""
        busy = {w.pipe: w for w in self._workers if w.task is not None}
        outcomes = []
        for ready in wait(list(busy), timeout_s):
            worker = busy[ready]  # type: ignore[index]  # wait returns what it was given
            try:
                answer = worker.pipe.recv()
            except (EOFError, OSError):  # OSError: it died in the middle of its answer
                if outcome := self._buried(worker):
                    outcomes.append(outcome)
                continue
            if isinstance(answer, Shift):  # its first message
                worker.shift = answer
                self._allow(worker, worker.limit_s)
                self._lost_starts = 0
            elif isinstance(answer, _Allowed):
                self._allow(worker, answer.seconds)
            elif isinstance(answer, _At):
                worker.stage = answer.stage
            else:
                *outcome, worker.shift = answer
                outcomes.append(Outcome(worker.task, *outcome))
                worker.task = None
        for worker in list(self._workers):
            if worker.task is not None and worker.shift is not None:
                if self._clock.seconds() - worker.since > worker.limit_s:
                    outcomes.append(self._stopped(worker))
        return outcomes

    @property
    def shifts(self) -> list[Shift]:
        """What each worker has done until its last answer, also those that are no more."""
        return self._ended + [w.shift for w in self._workers if w.shift is not None]

    def _part_with(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        if worker.shift is not None:
            self._ended.append(worker.shift)

    def _stopped(self, worker: _Worker) -> Outcome:
        """The outcome of the task of a worker that hangs; it is killed."""
        self._part_with(worker)
        worker.process.kill()
        worker.pipe.close()
        worker.process.join()
        message = f"This recording was not done after {worker.limit_s / 3600:.2g} hours, so it was given up."
        return Outcome(worker.task, error=RecordingError("worker", "timeout", message))

    def _buried(self, worker: _Worker) -> Outcome | None:
        """The outcome of the task of a worker that died; the next task starts another worker.

        One that was killed while it loaded is replaced, and its task has no outcome yet.
        """
        self._part_with(worker)
        worker.pipe.close()
        worker.process.join()
        code = worker.process.exitcode or 0
        why = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        if worker.shift is None:
            self._lost_starts += 1
            if code < 0 and self._lost_starts < STARTS:
                self._hand(self._start(), worker.task)
                return None
            fault = SetupError(
                f"A worker process ended {why} while it loaded its models: try fewer --workers. In a script, "
                'call run() below `if __name__ == "__main__":`.'
            )
            return Outcome(worker.task, error=fault)
        message = f"The worker process ended {why} while it had this recording in hand."
        return Outcome(worker.task, error=RecordingError("worker", "worker_died", message), died=True)

    def close(self, *, kill: bool = False) -> None:
        """End the processes; at once if ``kill``."""
        for worker in self._workers:
            if kill or worker.shift is None:  # one that is still loading would find nobody to tell
                worker.process.kill()
            worker.pipe.close()
        for worker in self._workers:
            worker.process.join()


@contextmanager
def _set(variables: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for the processes that the body starts."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _serve(pipe: Connection, make: Callable[[Any], Do], argument: Any, started: float) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # never outlive the parent
        parent = multiprocessing.parent_process()
        if parent is not None and os.getppid() != parent.pid:  # it died while this process was importing
            return
        # Should memory run out, the kernel is to take a worker, which costs a recording, not the parent.
        with suppress(OSError):  # some containers forbid it
            Path("/proc/self/oom_score_adj").write_text("500")
    atexit.register(gc.freeze)  # else Python looks once more through all that PyTorch has made: a second
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        with without_collection():
            do = make(argument)
        gc.freeze()  # what is loaded stays, and is not looked through again
    except Exception as error:
        known = isinstance(error, AnnotateError)
        fault = error if known else SetupError(f"A worker can't be set up: {type(error).__name__}: {error}")
        details = "" if known else traceback.format_exc()
        pipe.recv()
        pipe.send((None, fault, False, details, None))
        return
    shift = Shift(Spent(time.monotonic() - started, of_process()))
    pipe.send(shift)

    allow = _Line(pipe)
    while True:
        idle = time.monotonic()
        try:
            task = pipe.recv()
        except EOFError:
            return
        begun = Spent(time.monotonic(), of_process())
        try:
            answer: tuple[Any, Exception | None, bool, str] = (do(task, allow), None, False, "")
        except AnnotateError as error:
            answer = (None, error, False, "")
        except MemoryError:
            message = "The machine ran out of memory on this recording: try fewer --workers."
            answer = (None, RecordingError("worker", "out_of_memory", message), False, "")
        except Exception as error:
            unexpected = RecordingError("worker", "internal", f"Unexpected {type(error).__name__}: {error}")
            answer = (None, unexpected, False, traceback.format_exc())
        shift = replace(
            shift,
            busy=shift.busy + Spent(time.monotonic(), of_process()) - begun,
            waited_s=shift.waited_s + begun.wall - idle,
            recordings=shift.recordings + 1,
        )
        pipe.send((*answer, shift))
