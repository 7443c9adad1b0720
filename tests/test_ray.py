"""``--engine ray``: the table of a local run, whatever becomes of the workers. One Ray for all tests here."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from annotator import RunSettings, SetupError, UsageError, cli, run
from annotator.pipeline import cluster
from annotator.pipeline.batch import choose_backends
from annotator.pipeline.cluster import Cluster, RayPool, _Placed
from annotator.pipeline.shaping import shaped_by
from annotator.pipeline.stages import Task, WorkerSetup
from annotator.pipeline.station import SCRATCH, Station, sweep, temporary_folders
from annotator.pipeline.timing import Shift, Spent
from annotator.pipeline.workers import Allow, Do, Outcome
from annotator.predict import Predictor
from annotator.records import Media
from annotator.settings import load_settings
from annotator.weights import checkpoint_folder

from .media import subtitles, talk

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'conversation-annotator[ray]'")
LINUX = sys.platform == "linux"
RECORDINGS = 6


def settings(engine: str) -> RunSettings:
    return load_settings(None, {"engine": engine, "workers": 2, "threads": 1, "modalities": "text"})


@pytest.fixture(scope="module")
def nodes() -> Iterator[Cluster]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "1")  # whatever the user has set
        patch.setenv(cluster.ALONE, "1")
        with ExitStack() as held:
            yield started(held)


def started(held: ExitStack, tries: int = 3) -> Cluster:
    """A Ray of our own. Its daemons have 30 s by Ray's own code, which a busy machine may not give them."""
    try:
        return held.enter_context(cluster.connected(settings("ray")))
    except SetupError:
        if tries > 1:
            time.sleep(10)
            return started(held, tries - 1)
        bare = "import ray; ray.init(num_cpus=1, include_dashboard=False)"
        if subprocess.run([sys.executable, "-c", bare], capture_output=True, timeout=300).returncode:
            pytest.skip("Ray does not start on this machine, without us either")
        raise


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("videos")
    for i in range(RECORDINGS):
        talk(root / f"{i}.wav", 3 + 0.2 * i, seed=i)
        subtitles(root / f"{i}.srt", [(0.2, 1.2, f"I am so happy about number {i}!"), (1.6, 2.8, "Why?")])
    return root


@pytest.fixture(scope="module")
def local(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("local") / "labels.parquet"
    assert run([folder], out, settings("local"), progress=False).exit_code == 0
    return out


def listening(pids: set[int]) -> set[str]:
    """Addresses that processes listen on, in the kernel's hexadecimal form, IPv4 and IPv6."""
    sockets = set()
    for pid in pids:
        for handle in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                sockets.add(os.readlink(handle))
            except OSError:  # closed meanwhile
                continue
    found = set()
    for table in ("tcp", "tcp6"):
        lines = Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        for _, address, _, state, *rest in (line.split() for line in lines):
            if state == "0A" and f"socket:[{rest[5]}]" in sockets:
                found.add(address.split(":")[0])
    return found


def processes(word: str) -> dict[int, str]:
    """Command lines of processes whose own has the word, by id."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if word in line:
            found[int(entry.name)] = line
    return found


def session_folder() -> str:
    return str(ray._private.worker._global_node.get_session_dir_path())


@pytest.mark.skipif(not LINUX, reason="asks Linux who listens")
def test_a_ray_of_its_own_is_alone(nodes: Cluster) -> None:
    """It listens on the loopback only, tells nobody of itself and has no dashboard's page."""
    daemons = processes(session_folder())
    words = {word for line in daemons.values() for word in line.replace("/", " ").split()}
    assert {"raylet", "gcs_server"} <= words
    heard = listening(set(daemons))
    assert heard and heard <= {"0100007F", "0000000000000000FFFF00000100007F"}, heard
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    assert not ray._private.worker._global_node.address_info.get("webui_url")


def test_workers_of_a_ray_of_its_own_have_the_priority_of_local_ones(nodes: Cluster) -> None:
    assert ray.get(ray.remote(lambda: os.nice(0)).remote()) <= os.nice(0)


def test_the_table_is_that_of_a_local_run_to_the_byte(
    nodes: Cluster, folder: Path, local: Path, tmp_path: Path
) -> None:
    out = tmp_path / "labels.parquet"
    result = run([folder], out, settings("ray"), progress=False)
    assert result.exit_code == 0 and result.annotated == RECORDINGS
    assert out.read_bytes() == local.read_bytes()
    assert not list((tmp_path / "labels.work" / "scratch").glob("*"))
    again = run([folder], out, settings("local"), progress=False)
    assert again.annotated == 0, "finished parts are those of any engine"


@pytest.mark.skipif(not LINUX, reason="finds the worker in /proc")
def test_a_worker_killed_by_its_id_costs_what_it_had_in_hand(
    nodes: Cluster, folder: Path, local: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    killed: list[int] = []
    done = threading.Event()

    def kill() -> None:
        while not (killed or done.is_set()):
            for pid in processes("ray::Station.work"):
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
                break
            time.sleep(0.01)

    killer = threading.Thread(target=kill)
    killer.start()
    out = tmp_path / "labels.parquet"
    try:
        with caplog.at_level(logging.WARNING, "annotator"):
            result = run([folder], out, settings("ray"), progress=False)
    finally:
        done.set()
        killer.join()
    assert killed and result.exit_code == 0 and result.annotated == RECORDINGS
    assert out.read_bytes() == local.read_bytes()
    again = [r.getMessage() for r in caplog.records if "Trying once more" in r.getMessage()]
    assert len(again) <= len(killed), "only what was in hand is done again"
    assert pl.read_csv(out.with_suffix(".failures.csv")).is_empty()


def test_workers_are_placed_by_processors_and_gpus() -> None:
    assert Cluster(64, 0).device("auto") == "cpu" and Cluster(64, 8).device("auto") == "cuda"
    assert Cluster(64, 0).workers("cpu", 4) == 16 and Cluster(64, 8).workers("cuda", 1) == 8
    with pytest.raises(UsageError, match="No node of the Ray cluster has a GPU"):
        Cluster(64, 0).device("cuda")
    with pytest.raises(UsageError, match="auto, cpu or cuda"):
        Cluster(64, 8).device("cuda:1")


def test_what_a_killed_worker_left_on_its_node_is_swept_away(tmp_path: Path) -> None:
    """What is held by a living one stays."""
    import fcntl

    (tmp_path / f"{SCRATCH}dead").mkdir()
    (tmp_path / f"{SCRATCH}dead" / "sound.pcm").write_bytes(b"0")
    alive = tmp_path / f"{SCRATCH}alive"
    alive.mkdir()
    handle = os.open(alive, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        sweep(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [alive.name]
    finally:
        os.close(handle)


def test_what_a_killed_command_left_is_swept_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each command has a temporary folder of its own, with those of its stations in it."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with cli.own_temporary_folder():
        killed = Path(tempfile.gettempdir())
        left = killed / f"{SCRATCH}dead"
        left.mkdir()
        elsewhere = tmp_path / "elsewhere" / f"{SCRATCH}mine"
        elsewhere.mkdir(parents=True)
        (tmp_path / f"{killed.name}link").symlink_to(elsewhere.parent)
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        with cli.own_temporary_folder():
            folders = temporary_folders()
            assert folders == [Path(tempfile.gettempdir()), killed]
            for folder in folders:
                sweep(folder)
        assert not left.exists() and elsewhere.exists()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert temporary_folders() == [tmp_path], "what others have there is none of ours"


class WithoutPlace(RayPool):
    """A pool on a cluster that has no place for a station; it is asked to stop while it waits for one."""

    asked = 0

    def _place(self) -> None:
        self._stations.append(_Placed(None, None))

    def collect(self, timeout_s: float | None = None) -> list[Outcome]:
        self.asked += 1
        assert self.asked < 5, "it waits on, for what nobody has begun"
        signal.raise_signal(signal.SIGINT)
        return []

    def close(self, *, kill: bool = False) -> None:
        self._stations.clear()


def test_a_run_that_waits_for_a_place_can_be_stopped(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its profile counts the processors of the cluster, not those of this machine."""
    monkeypatch.setattr(cluster, "connected", lambda settings: nullcontext(Cluster(6400, 0)))
    monkeypatch.setattr(cluster, "RayPool", WithoutPlace)
    asked = settings("ray").model_copy(update={"profile": True})
    result = run([folder / "0.wav"], tmp_path / "labels.parquet", asked, progress=False)
    assert result.exit_code == 130 and result.table is None and result.annotated == 0
    assert result.profile is not None and result.profile.processors == 6400


def test_what_stations_did_is_told_when_they_are_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile is made when the pool is closed."""
    monkeypatch.setattr(ray, "kill", lambda actor: None)
    setup = WorkerSetup(settings("ray"), choose_backends(settings("ray"), "cpu"), {}, Path(), Path(), 1)
    pool = RayPool(2, make_copier, setup, lambda task: 600.0, 1)
    done = Shift(Spent(9.0, 6.0), Spent(5.0, 2.0), 1.0, 3)
    pool._stations += [_Placed(None, None, shifts=(done,)), _Placed(None, None)]
    pool.close(kill=True)
    assert pool.shifts == [done]


def make_copier(setup: WorkerSetup) -> Do:
    def do(task: Task, allow: Allow) -> None:
        task.out.write_bytes(task.media.path.read_bytes() if task.media.path.exists() else b"")

    return do


def test_a_node_that_differs_or_lacks_the_recording_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A station without Ray around it."""
    main = sys.modules["__main__"].__dict__
    monkeypatch.setitem(main, "__file__", main.get("__file__"))  # a station takes it out: put back at the end
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    asked = settings("local")
    folder = checkpoint_folder("starter")
    predictor = Predictor(folder, "cpu", asked.modalities)
    backends = choose_backends(asked, "cpu")
    shaping = shaped_by(asked, backends, predictor.encoders, folder)
    setup = WorkerSetup(asked, backends, predictor.encoders, folder, tmp_path, 1, shaping=shaping)
    station = Station(make_copier, setup, lambda task: 600.0, {})
    try:
        assert station.lacks() is None
        there = tmp_path / "talk.wav"
        there.write_bytes(b"sound")
        for path, saw in ((there, True), (tmp_path / "elsewhere.wav", False)):
            media = Media(path, None, True, False)
            told = station.work(Task(media, "key", tmp_path / "prepared" / "key.safetensors", {}))
            assert told.outcome.error is None and told.saw is saw
            assert told.prepared == (b"sound" if saw else b"")
        station._shaping = {**shaping, "turns": {}}
        assert "differs from this machine in what finds the speakers" in str(station.lacks())
        station._setup = replace(setup, model_folder=tmp_path / "absent")
        assert "has no" in str(station.lacks())
    finally:
        station.leave()
    assert not list(tmp_path.glob(f"{SCRATCH}*")), "it leaves nothing behind"


def test_without_the_package_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SetupError, match=r"pip install 'conversation-annotator\[ray\]'"):
        with cluster.connected(settings("ray")):
            pass


@pytest.mark.parametrize(
    ("option", "variable", "address"),
    [
        (None, None, None),
        (None, "", None),
        (None, "10.0.0.1:6379", "10.0.0.1:6379"),
        ("10.0.0.2:6379", "10.0.0.1:6379", "10.0.0.2:6379"),
        ("10.0.0.2:6379", "local", "10.0.0.2:6379"),
        ("auto", None, "auto"),
        ("auto", "10.0.0.1:6379", "10.0.0.1:6379"),
        ("auto", "local", None),
        ("local", None, None),
        ("local", "10.0.0.1:6379", None),
        (None, "local", None),
    ],
)
def test_local_is_no_address(
    option: str | None, variable: str | None, address: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given to Ray as one, it starts a Ray that other machines reach."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if variable is not None:
        monkeypatch.setenv("RAY_ADDRESS", variable)
    assert cluster.address_of(settings("ray").model_copy(update={"ray_address": option})) == address


@pytest.mark.parametrize("fault", [None, RuntimeError("no place")])
def test_a_program_is_left_as_it_was(fault: Exception | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its handler of SIGTERM, and what tells Ray that it is alone; a stand-in does to them what Ray does."""
    constants = sys.modules["ray._private.ray_constants"]
    seen: list[tuple[str, object]] = []

    def start(**options: object) -> None:
        seen.append((os.environ[cluster.ALONE], constants.ENABLE_RAY_CLUSTER))
        assert options["address"] == "local" and options["include_dashboard"] is False
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))
        late = Path(str(options["_temp_dir"])) / "logs"
        late.mkdir()
        if fault is not None:
            raise fault

    monkeypatch.setenv("RAY_ADDRESS", "local")
    monkeypatch.delenv(cluster.ALONE, raising=False)
    monkeypatch.setattr(constants, "ENABLE_RAY_CLUSTER", True)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", start)
    ended: list[bool] = []
    monkeypatch.setattr(ray, "shutdown", lambda *, wait_for_processes=False: ended.append(wait_for_processes))
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 3.0})
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: cluster.LOOPBACK)
    before = signal.getsignal(signal.SIGTERM)
    if fault is None:
        with cluster.connected(settings("ray")) as found:
            assert found == Cluster(3, 0)
            assert signal.getsignal(signal.SIGTERM) is before, "it is the run's from the start on"
    else:
        with pytest.raises(SetupError, match="can't be started on this machine: no place"):
            with cluster.connected(settings("ray")):
                pass
    assert seen == [("0", False)] and signal.getsignal(signal.SIGTERM) is before
    assert cluster.ALONE not in os.environ
    assert constants.ENABLE_RAY_CLUSTER is True
    assert ended == [True], "its daemons are waited for"


def test_an_address_without_the_engine_is_refused() -> None:
    with pytest.raises(UsageError, match="--engine ray"):
        load_settings(None, {"ray_address": "auto"})
