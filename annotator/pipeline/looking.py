"""The pictures of a recording, in a process of its own: its sound is listened to meanwhile.

A process and not a thread: following faces is many short steps in Python, which threads would take in turns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annotator import faces, media, threads
from annotator.pipeline.prepared import Arrays, of_sealed, save_sealed
from annotator.pipeline.timing import Spent, Stopwatch, of_process, of_thread
from annotator.pipeline.workers import Allow, Outcome, WorkerPool
from annotator.records import FaceTracks, Media


@dataclass(frozen=True)
class LookSetup:
    """How pictures are looked at."""

    settings: faces.FaceSettings
    frame_rate: float
    threads: int
    scratch: Path


@dataclass(frozen=True)
class Look:
    """A recording whose pictures are to be followed, and where what is seen goes."""

    media: Media
    out: Path
    language: str | None
    audio_track: str | None


@dataclass(frozen=True)
class Seen:
    """What the pictures of a recording show."""

    tracks: FaceTracks
    watched: media.Watched

    def save(self, path: Path, scratch: Path) -> None:
        """Write it whole or not at all."""
        arrays = {field.name: getattr(self.tracks, field.name) for field in fields(FaceTracks)}
        watched = self.watched
        plain = {"end_s": watched.end_s, "count": watched.count, "status": watched.ended.status}
        log = watched.ended.log if not watched.count else ()  # it tells why there is nothing
        save_sealed(path, scratch, plain | {"log": log}, arrays)

    @classmethod
    def load(cls, path: Path) -> Seen | None:
        """What was saved; None where there is no file that is whole and in its place. Arrays stay in it."""
        return of_sealed(path, cls._of, mapped=True)

    @classmethod
    def _of(cls, plain: Any, arrays: Arrays) -> Seen:
        ended = media.Ended(plain["status"], tuple(plain["log"]))
        return cls(FaceTracks(**arrays), media.Watched(plain["end_s"], plain["count"], ended))


def make_looker(setup: LookSetup) -> Any:
    """What follows the faces of a recording, for a :class:`~annotator.pipeline.workers.WorkerPool`."""
    import cv2

    cv2.setNumThreads(1)  # detectors are at work side by side

    def look(task: Look, allow: Allow) -> Mapping[str, Spent]:
        clock = Stopwatch(of_thread)
        before = of_process() - of_thread()
        with clock.stage("faces"):
            tracker = faces.FaceTracker(setup.settings, setup.threads)

        def follow(time_s: float, frame: NDArray[np.uint8]) -> None:
            with clock.stage("faces"):
                tracker.add(time_s, frame)

        try:
            with clock.stage("decode"):
                watched = media.watch(
                    task.media,
                    follow,
                    frame_rate_hz=setup.frame_rate,
                    language=task.language,
                    audio_track=task.audio_track,
                    on_thumbnail=tracker.cuts.add,
                )
            with clock.stage("faces"):
                tracks = tracker.finish()
        finally:
            tracker.close()
        with clock.stage("write"):
            Seen(tracks, watched).save(task.out, setup.scratch)
        clock.add({"faces": Spent(0.0, of_process() - of_thread() - before)})  # by the detectors' threads
        return clock.spent

    return look


class Looker:
    """The process of a worker that looks at pictures; it starts with the first recording that has some."""

    def __init__(self, setup: LookSetup) -> None:
        self._setup = setup
        self._pool: WorkerPool | None = None
        # A process that ends waits for those that it has started.
        Finalize(self, Looker.close, args=(self,), exitpriority=10)

    def start(self, look: Look) -> None:
        """Have the pictures of a recording looked at. :meth:`spent` waits for it."""
        if self._pool is None:
            threads_each = threads.of_worker(1, self._setup.threads)
            self._pool = WorkerPool(1, make_looker, self._setup, threads_each=threads_each)
        self._pool.submit(look)

    @property
    def process(self) -> int | None:
        """Its id; None before it is started."""
        return self._pool.processes[0] if self._pool is not None else None

    def spent(self) -> Mapping[str, Spent]:
        """Wait until the pictures are looked at; what that took, by stage.

        Raises: RecordingError, SetupError: as the tracker and the decoder; ``worker_died`` for a process that
        ended twice.
        """
        assert self._pool is not None
        outcome = self._outcome(self._pool)
        if outcome.died:
            self._pool.submit(outcome.task)
            outcome = self._outcome(self._pool)
        if outcome.error is not None:
            raise outcome.error
        found: Mapping[str, Spent] = outcome.result
        return found

    @staticmethod
    def _outcome(pool: WorkerPool) -> Outcome:
        while not (outcomes := pool.collect(timeout_s=60.0)):
            pass
        return outcomes[0]

    def close(self) -> None:
        """End the process at once, whatever it has in hand."""
        if self._pool is not None:
            self._pool.close(kill=True)
            self._pool = None
