"""Workers on a Ray cluster, in the place of processes of this machine.

Ray places them by their resources, tells when one is lost, and carries tasks and answers; nothing else of it
is used. Whatever is lost, what is finished lies in the work folder, as in a run on one machine.
"""

from __future__ import annotations

import inspect
import logging
import os
import signal
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from annotator import offline, threads
from annotator.device import resolve_device
from annotator.files import written_whole
from annotator.pipeline.stages import Task, WorkerSetup
from annotator.pipeline.station import Answer, Station
from annotator.pipeline.timing import Shift
from annotator.pipeline.workers import STARTS, Do, Outcome
from annotator.records import RecordingError, SetupError, UsageError
from annotator.settings import RunSettings

log = logging.getLogger("annotator")

ALONE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
LOOPBACK = "127.0.0.1"
OBJECTS_BYTES = 256 << 20  # of shared memory on a local Ray, for what is prepared on its way to the run
LONGEST_FOLDER = 40  # characters: Ray puts sockets far below it, and a socket's path has 107 at most
TELL_AFTER_S = 30.0  # of waiting for a first place
LEAVE_S = 10.0  # that a station may take to end its worker
# What a run was started with, and workers on other nodes are to have as well.
INHERITED = (
    offline.OURS,
    *offline.THEIRS,
    "HF_HUB_DISABLE_TELEMETRY",
    "HF_HUB_DISABLE_PROGRESS_BARS",
    "PYANNOTE_METRICS_ENABLED",
    "PYTHONSAFEPATH",
)


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster that this process is connected to: processors and GPUs of all nodes."""

    cpus: int
    gpus: int

    def device(self, asked: str) -> str:
        """The device of its workers.

        Raises: UsageError when none of it is such a device.
        """
        if asked == "auto":
            return "cuda" if self.gpus else "cpu"
        if asked == "cuda" and not self.gpus:
            raise UsageError("No node of the Ray cluster has a GPU: use --device cpu.")
        if asked not in ("cpu", "cuda"):
            raise UsageError(f"With --engine ray the device is auto, cpu or cuda, not {asked}.")
        return asked

    def workers(self, device: str, threads_each: int) -> int:
        """How many there are unless somebody says: one for each GPU, else as many as the processors allow."""
        return self.gpus if device == "cuda" else max(1, self.cpus // threads_each)


def address_of(settings: RunSettings) -> str | None:
    """The address of a cluster that runs; None where the run starts a Ray of its own.

    Ray takes the word ``local`` to mean a new Ray, which would listen for other machines.
    """
    address = settings.ray_address or None
    if address in (None, "auto"):  # for auto, Ray itself looks into the environment first
        address = os.environ.get("RAY_ADDRESS") or address
    return None if address == "local" else address


@contextmanager
def connected(settings: RunSettings) -> Iterator[Cluster]:
    """Connect to the cluster of ``--ray-address`` or ``$RAY_ADDRESS``, or start a Ray on this machine alone.

    That one is for this run, listens on 127.0.0.1 only, has no dashboard and goes at the end.

    Raises: SetupError where Ray is not installed, can't be started or doesn't answer.
    """
    address = address_of(settings)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if address is None:
        # Its daemons take seconds to import their libraries, on a busy machine many.
        os.environ.setdefault("RAY_agent_register_timeout_ms", "120000")
        # It gives its workers the least of a busy machine, where those of a local run get their share.
        os.environ.setdefault("RAY_worker_niceness", "0")
    try:
        import ray
    except ImportError:
        raise SetupError(
            "The engine ray needs the package of that name: pip install 'conversation-annotator[ray]', or "
            "leave out --engine ray."
        ) from None
    if ray.is_initialized():  # whoever calls run() from a program of their own may be connected already
        yield _described(address or "the one of this process")
        return
    quietly: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    with ExitStack() as around:
        try:
            with _signals_as_they_were():
                if address is not None:
                    ray.init(address=address, **quietly)
                else:
                    folder = around.enter_context(_log_folder())
                    around.enter_context(_alone())
                    _start(settings, folder, quietly)
        except Exception as error:  # Ray raises whatever it is told: RuntimeError, ConnectionError, OSError
            with suppress(Exception):
                _shut_down()
            why = " ".join(str(error).split())[:300]
            if address:
                raise SetupError(f"The Ray cluster at {address} can't be used: {why}") from error
            raise SetupError(
                f"Ray can't be started on this machine: {why} Try again when it is less busy, or give "
                "--ray-address a cluster that runs."
            ) from error
        try:
            yield _described(address or "on this machine, for this run")
        finally:
            _shut_down()


@contextmanager
def _alone() -> Iterator[None]:
    """Within, a Ray that starts listens on the loopback only.

    It listens for other machines unless it is told that there are none: by the way of systems on which it
    knows no clusters. Its daemons read that from the environment; this process did when Ray was imported,
    perhaps long ago.
    """
    from ray._private import ray_constants

    variable, constant = os.environ.get(ALONE), ray_constants.ENABLE_RAY_CLUSTER
    os.environ[ALONE], ray_constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = constant
        os.environ.pop(ALONE, None)
        if variable is not None:
            os.environ[ALONE] = variable


@contextmanager
def _signals_as_they_were() -> Iterator[None]:
    """Put the handler of SIGTERM back at the end: Ray sets one of its own, which ends the process with 15."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        # Ray sets none in another thread, which may set none either; None is a handler not of Python.
        if threading.current_thread() is threading.main_thread() and before is not None:
            signal.signal(signal.SIGTERM, before)


def _shut_down() -> None:
    """Leave the cluster, or end the Ray of this run, and wait for its daemons where Ray can."""
    import ray

    waits = "wait_for_processes" in inspect.signature(ray.shutdown).parameters
    ray.shutdown(**({"wait_for_processes": True} if waits else {}))


def _described(where: str) -> Cluster:
    """The cluster that this process is connected to, told in one line."""
    import ray

    found: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    cluster = Cluster(int(found.get("CPU", 0)), int(found.get("GPU", 0)))
    gpus = f", {cluster.gpus} GPUs" if cluster.gpus else ""
    log.info("engine: ray %s, %s: %d processors%s", ray.__version__, where, cluster.cpus, gpus)
    return cluster


def _log_folder() -> tempfile.TemporaryDirectory[str]:
    """The folder of a Ray of this run, which goes at the end."""
    folder = tempfile.gettempdir()
    return tempfile.TemporaryDirectory(
        prefix="annotate-ray-",
        dir=folder if len(folder) <= LONGEST_FOLDER else "/tmp",
        ignore_cleanup_errors=True,  # a daemon that ends late may still write there
    )


def _start(settings: RunSettings, folder: str, quietly: dict[str, Any]) -> None:
    """Start a Ray for this run; once more where its daemons took longer than it waits for them."""
    import ray

    asked = (settings.workers or 1) * (settings.threads or 1)
    for more in (True, False):
        try:
            ray.init(
                address="local",
                num_cpus=max(threads.processors(), asked),
                include_dashboard=False,
                object_store_memory=OBJECTS_BYTES,
                _temp_dir=folder,
                **quietly,
            )
            break
        except Exception as error:
            if not more or "timed out" not in str(error):
                raise
            _shut_down()
    if ray.util.get_node_ip_address() != LOOPBACK:  # type: ignore[no-untyped-call]
        raise RuntimeError("this version of Ray would listen for other machines.")


@dataclass
class _Placed:
    """A station that was asked for, from the first on that it has a place."""

    actor: Any
    answer: Any  # a reference to what it will say to what it was asked last
    ready: bool = False
    task: Task | None = None
    shifts: tuple[Shift, ...] = ()


@dataclass
class RayPool:
    """Up to ``size`` stations on a cluster; the methods are those of ``WorkerPool``.

    A station whose node or process is lost is replaced, and its recording is done anew. Tasks go to stations
    that have a place and have loaded; one at a time waits where there is none yet.
    """

    size: int
    make: Callable[[WorkerSetup], Do]
    setup: WorkerSetup
    limit_s: Callable[[Task], float]
    threads_each: int
    gpus_each: float = 0.0
    _stations: list[_Placed] = field(default_factory=list)
    _waiting: deque[Task] = field(default_factory=deque)
    _ended: list[Shift] = field(default_factory=list)
    _lost_starts: int = 0  # in a row
    _since: float = field(default_factory=time.monotonic)  # when the first place was asked for
    _told: bool = False

    def start(self, count: int) -> None:
        """Ask for places ahead of tasks."""
        while len(self._stations) < min(count, self.size):
            self._place()

    def _place(self) -> None:
        import ray

        environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
        station = ray.remote(Station).options(num_cpus=self.threads_each, num_gpus=self.gpus_each)
        actor: Any = station.remote(self.make, self.setup, self.limit_s, environment)
        self._stations.append(_Placed(actor, actor.lacks.remote()))

    @property
    def idle(self) -> bool:
        """Whether a task would start at once, or would be the only one that waits for a first place."""
        return any(s.ready and s.task is None for s in self._stations) or not self.in_hand

    @property
    def in_hand(self) -> list[Task]:
        return [s.task for s in self._stations if s.task is not None] + list(self._waiting)

    @property
    def at_work(self) -> list[tuple[Any, str | None]]:
        """Tasks that a place has in hand; nobody hears of their stages over the cluster."""
        return [(s.task, None) for s in self._stations if s.task is not None]

    @property
    def shifts(self) -> list[Shift]:
        """What each worker has done until its last answer, also those that are no more."""
        return self._ended + [shift for s in self._stations for shift in s.shifts]

    def submit(self, task: Task) -> None:
        """Give a task to an idle station."""
        self._waiting.append(task)
        if len(self._stations) < self.size and not any(s.ready and s.task is None for s in self._stations):
            self._place()
        self._assign()

    def withdraw(self) -> None:
        """Take back tasks that no station has begun: a place for them may never come."""
        self._waiting.clear()

    def _assign(self) -> None:
        for station in self._stations:
            if self._waiting and station.ready and station.task is None:
                station.task = self._waiting.popleft()
                station.answer = station.actor.work.remote(station.task)

    def collect(self, timeout_s: float | None = None) -> list[Outcome]:
        """Outcomes that have arrived, waiting up to ``timeout_s`` for the first."""
        import ray

        asked = {s.answer: s for s in self._stations if s.task is not None or not s.ready}
        arrived, _ = ray.wait(list(asked), num_returns=1, timeout=timeout_s)
        outcomes = []
        for answer in arrived:
            station = asked[answer]
            try:
                told = ray.get(answer)
            except ray.exceptions.RayError as error:
                outcomes += self._lost(station, error)
                continue
            if station.task is not None:
                outcomes.append(self._taken_in(station, told))
            elif told is not None:  # what the node lacks
                raise SetupError(
                    f"{told}: give all nodes the same installation and weights under the same paths."
                )
            else:
                station.ready = True
                self._lost_starts = 0
        self._assign()
        self._tell_of_waiting()
        return outcomes

    def _taken_in(self, station: _Placed, told: Answer) -> Outcome:
        task = station.task
        assert task is not None
        station.task, station.shifts = None, told.shifts
        outcome = told.outcome
        outcome.task = task
        if not told.saw and task.media.path.exists():
            raise SetupError(
                f"The node {told.node} does not see {task.media.path}: recordings are to be under the same "
                "path on every node, as on a shared file system."
            )
        if told.prepared is not None:
            with written_whole(task.out, self.setup.scratch) as temporary:
                temporary.write_bytes(told.prepared)
        return outcome

    def _lost(self, station: _Placed, error: Exception) -> list[Outcome]:
        """The outcome of the task of a station that is no more, if it had one; the next task replaces it."""
        import ray

        self._stations.remove(station)
        self._ended += station.shifts
        with suppress(ray.exceptions.RayError):
            ray.kill(station.actor)
        if station.task is None:
            self._lost_starts += 1
            if self._lost_starts >= STARTS:
                why = " ".join(str(error).split())[:300]
                raise SetupError(f"{STARTS} workers in a row were lost while they loaded. Ray says: {why}")
            self._place()
            return []
        log.debug("%s", error)
        message = "The worker that had this recording in hand was lost with its process or node."
        fault = RecordingError("worker", "worker_died", message)
        return [Outcome(station.task, error=fault, died=True)]

    def _tell_of_waiting(self) -> None:
        placed = any(s.ready for s in self._stations)
        if not (placed or self._told) and time.monotonic() - self._since > TELL_AFTER_S:
            self._told = True
            gpu = f" and {self.gpus_each:g} of a GPU" if self.gpus_each else ""
            log.warning(
                "No worker is ready yet. Each needs %d processors%s on one node of the Ray cluster.",
                self.threads_each,
                gpu,
            )

    def close(self, *, kill: bool = False) -> None:
        """End the stations; at once if ``kill``."""
        import ray

        left = [] if kill else [s.actor.leave.remote() for s in self._stations if s.ready]
        if left:
            ray.wait(left, num_returns=len(left), timeout=LEAVE_S)
        for station in self._stations:
            with suppress(ray.exceptions.RayError):
                ray.kill(station.actor)
            self._ended += station.shifts
        self._stations.clear()
        self._waiting.clear()


def settled(settings: RunSettings, cluster: Cluster) -> tuple[RunSettings, str, str]:
    """Settings with the workers of this cluster, their device, and that of the network on this machine."""
    device = cluster.device(settings.device)
    each = settings.threads or 1
    workers = settings.workers or cluster.workers(device, each)
    own = resolve_device("cpu" if device == "cpu" else "auto")
    return settings.model_copy(update={"workers": workers, "threads": each}), device, own


def make_pool(cluster: Cluster, settings: RunSettings, device: str) -> Callable[..., RayPool]:
    """What makes the pool of a job on this cluster; several workers share a GPU where they are more."""
    each = min(1.0, cluster.gpus / (settings.workers or 1)) if device == "cuda" else 0.0
    threads_each = settings.threads or 1

    def make(
        size: int,
        do: Callable[[WorkerSetup], Do],
        setup: WorkerSetup,
        limit_s: Callable[[Task], float],
        _threads: int,  # those that this machine would give
    ) -> RayPool:
        own = replace(setup, threads=threads_each)
        return RayPool(size, do, own, limit_s, threads_each, round(each, 4))

    return make
