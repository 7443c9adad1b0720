"""A worker of a run on a node of a cluster: one recording at a time, sent back prepared.

A station is a Ray actor that holds one worker process of :mod:`annotator.pipeline.workers`, which has the
same limits there as on one machine. It writes nothing but to its node's temporary folder: what it prepared
goes back to the run, which alone writes into the work folder.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import stat
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from annotator.pipeline.shaping import shaped_by
from annotator.pipeline.stages import Task, WorkerSetup
from annotator.pipeline.timing import Shift
from annotator.pipeline.workers import Do, Outcome, WorkerPool
from annotator.records import SetupError

SHAPES = {  # of shaped_by, for people
    "look": "what finds faces",
    "turns": "what finds the speakers",
    "found": "what finds speakers and words",
    **{modality: f"the {modality} encoder" for modality in ("text", "audio", "face")},
}
COMMAND = "annotate-"  # what the temporary folder of a command begins with, see annotator/cli
SCRATCH = "annotate-station-"  # what its folders in the temporary folder of a node begin with


@dataclass(frozen=True)
class Answer:
    """What became of a recording at a station."""

    outcome: Outcome
    prepared: bytes | None  # the whole file; None where it failed
    saw: bool  # whether the node has the recording at all
    node: str
    shifts: tuple[Shift, ...]


class Station:
    """Args:
    make, setup, limit_s: as a pool of workers has them, ``setup`` with what shapes the results of the run's
        own machine.
    environment: variables of the run that hold for its workers, too.
    """

    def __init__(
        self,
        make: Callable[[WorkerSetup], Do],
        setup: WorkerSetup,
        limit_s: Callable[[Task], float],
        environment: Mapping[str, str],
    ) -> None:
        os.environ.update(environment)
        # A spawned process imports the main module of this one, which is Ray's and takes seconds.
        sys.modules["__main__"].__dict__.pop("__file__", None)
        assert setup.shaping is not None
        self._shaping, self._setup = setup.shaping, setup
        self._node = socket.gethostname()
        for folder in temporary_folders():
            sweep(folder)
        self._scratch, self._held = _held_folder()
        # What stages give is kept by the run alone, on its own machine.
        here = replace(setup, scratch=self._scratch, stages=None)
        self._pool = WorkerPool(1, make, here, limit_s, setup.threads)

    def lacks(self) -> str | None:
        """What keeps this node from giving the results of the run's own machine; None where nothing does.

        The worker begins to load meanwhile.
        """
        self._pool.start(1)
        s, whisper = self._setup, self._setup.backends.whisper
        if not s.model_folder.is_dir():
            return f"The node {self._node} has no {s.model_folder}"
        if whisper is not None and whisper.carried is not None and not whisper.carried.is_installed:
            return f"The node {self._node} lacks the recogniser {whisper.name}"
        try:
            own = shaped_by(s.settings, s.backends, s.encoders, s.model_folder, s.text_languages)
        except (OSError, SetupError) as error:
            return f"The node {self._node} can't read the weights ({error})"
        for name, expected in self._shaping.items():
            if own[name] != expected:
                what = SHAPES.get(name, name)
                return (
                    f"The node {self._node} differs from this machine in {what}: it needs the same packages, "
                    "weights and checkpoint"
                )
        return None

    def work(self, task: Task) -> Answer:
        """Prepare a recording."""
        made = self._scratch / task.out.name
        saw = task.media.path.exists()
        self._pool.submit(replace(task, out=made))
        while not (outcomes := self._pool.collect(timeout_s=1.0)):
            pass
        prepared = None
        if outcomes[0].error is None:
            prepared = made.read_bytes()
        for left in self._scratch.iterdir():  # also what a worker that was killed had decoded
            left.unlink(missing_ok=True)
        return Answer(outcomes[0], prepared, saw, self._node, tuple(self._pool.shifts))

    def leave(self) -> None:
        """End the worker, and leave nothing behind."""
        self._pool.close()
        shutil.rmtree(self._scratch, ignore_errors=True)
        os.close(self._held)


def _held_folder() -> tuple[Path, int]:
    """A new folder in the temporary folder, and the handle that holds it."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=SCRATCH))
        handle = os.open(folder, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX)
        if folder.is_dir():  # else another station swept it away before it was held
            return folder, handle
        os.close(handle)


def temporary_folders() -> list[Path]:
    """This process's, and those of other commands where it is inside one's own.

    Each command has a new one, which the workers of a Ray of its own inherit; a command that was killed has
    left its folder, with those of its stations in it.
    """
    own = Path(tempfile.gettempdir())
    if not own.name.startswith(COMMAND):
        return [own]
    user = os.geteuid()
    others = [
        other
        for other in own.parent.glob(f"{COMMAND}*")
        if not other.name.startswith(SCRATCH) and _is_folder_of(other, user)
    ]
    return [own, *(other for other in others if other != own)]


def _is_folder_of(path: Path, user: int) -> bool:
    try:
        found = path.lstat()  # in a folder that all may write to, a link leads wherever its maker likes
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == user


def sweep(folder: Path) -> None:
    """Remove what stations that were killed have left in ``folder``: nobody holds it any more."""
    for left in folder.glob(f"{SCRATCH}*"):
        with suppress(OSError):  # another's, or it is just being made or removed
            handle = os.open(left, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(handle)
