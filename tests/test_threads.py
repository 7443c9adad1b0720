"""How many threads libraries get, and that what they give does not depend on it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from safetensors.numpy import load_file

from annotator import encode, media, threads, transcribe, weights
from annotator.pipeline.batch import choose_backends
from annotator.pipeline.prepared import Prepared
from annotator.pipeline.stages import Task, WorkerSetup, make_worker
from annotator.pipeline.workers import Allow, Do, WorkerPool
from annotator.predict import Predictor
from annotator.records import UsageError
from annotator.settings import RunSettings

from .media import run_ffmpeg

EXAMPLES = Path(__file__).parents[1] / "examples" / "recordings"


def groups(folder: Path, own: str, quotas: dict[str, str]) -> tuple[Path, Path]:
    """What the kernel says of control groups, as files."""
    (folder / "own").write_text(own)
    for name, content in quotas.items():
        file = folder / "root" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return folder / "own", folder / "root"


@pytest.mark.parametrize(
    ("own", "quotas", "expected"),
    [
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/a/b\n", {"a/b/cpu.max": "250000 100000\n", "a/cpu.max": "max 100000\n"}, 2.5),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "150000 100000\n"}, 1.5),
        ("0::/not/to/be/seen\n", {"cpu.max": "300000 100000\n"}, 3.0),
        (
            "4:memory:/x\n2:cpu,cpuacct:/x\n0::/\n",
            {"cpu,cpuacct/x/cpu.cfs_quota_us": "50000\n", "cpu,cpuacct/x/cpu.cfs_period_us": "100000\n"},
            0.5,
        ),
        (
            "2:cpu:/docker/not-seen\n1:name=systemd:/\n",
            {"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"},
            4.0,
        ),
        ("2:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ("", {}, None),
    ],
)
def test_a_quota_of_the_control_groups_is_found(
    own: str, quotas: dict[str, str], expected: float | None, tmp_path: Path
) -> None:
    assert threads.cgroup_quota(*groups(tmp_path, own, quotas)) == expected


@pytest.fixture
def eight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight processors, and nothing that says to use fewer."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(threads, "cgroup_quota", lambda: None)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


@pytest.mark.usefixtures("eight")
def test_threads_are_no_more_than_asked_nor_than_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [threads.of_worker(workers) for workers in (1, 2, 3, 8, 20)] == [8, 4, 2, 1, 1]
    assert [threads.of_worker(2, asked) for asked in (1, 6, 30)] == [1, 6, 8]
    monkeypatch.setattr(threads, "cgroup_quota", lambda: 2.5)
    assert threads.of_worker(1) == threads.of_worker(1, 30) == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "1,4")
    assert threads.of_worker(1) == threads.of_worker(1, 30) == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    with pytest.raises(UsageError, match="OMP_NUM_THREADS is 'many'.*unset it"):
        threads.of_worker(1)


@pytest.mark.usefixtures("eight")
@pytest.mark.parametrize("quota", [None, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("asked", [None, 1, 2, 3, 5, 100])
def test_workers_times_threads_is_no_more_than_the_processors(
    asked: int | None, quota: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "cgroup_quota", lambda: quota)
    workers = RunSettings(threads=asked).worker_count
    assert 1 <= workers * threads.of_worker(workers, asked) <= threads.processors()


def make_telling(n: int) -> Do:
    import cv2
    import torch

    threads.use(n)

    def do(task: Any, allow: Allow) -> Any:
        return torch.get_num_threads(), cv2.getNumThreads(), dict(os.environ)

    return do


def test_a_worker_starts_with_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries look at their variables when they are loaded, which is before any of our code runs."""
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    monkeypatch.delenv("KMP_BLOCKTIME", raising=False)
    before = dict(os.environ)
    pool = WorkerPool(1, make_telling, 2, threads_each=2)
    try:
        pool.submit("tell")
        while not (outcomes := pool.collect(timeout_s=60)):
            pass
    finally:
        pool.close()
    of_torch, of_opencv, environment = outcomes[0].result
    assert (of_torch, of_opencv) == (2, 2)
    assert environment["OMP_NUM_THREADS"] == environment["POLARS_MAX_THREADS"] == "2"
    assert environment["OPENBLAS_NUM_THREADS"] == "1" and environment["KMP_BLOCKTIME"] == "0"
    assert environment["OMP_WAIT_POLICY"] == "ACTIVE", "what the user chose stays"
    assert dict(os.environ) == before


def test_what_is_prepared_does_not_depend_on_threads(tmp_path: Path, ffmpeg: str) -> None:
    """With three and one: sound, faces, speakers and recognised words, to the bit."""
    clip = tmp_path / "clip.mkv"
    # Without its subtitles: words are recognised.
    run_ffmpeg(
        ffmpeg, "-i", str(EXAMPLES / "tv_clip.mkv"), "-t", "6", "-map", "0:v", "-map", "0:a", "-c", "copy",
        str(clip),
    )  # fmt: skip
    settings = RunSettings(offline=True, device="cpu")
    folder = weights.checkpoint_folder("starter")
    predictor = Predictor(folder)
    found = []
    for count in (3, 1):
        setup = WorkerSetup(
            settings=settings,
            backends=choose_backends(settings, "cpu"),
            encoders=encode.usable(predictor.encoders, folder, "cpu", predictor.modalities),
            model_folder=folder,
            scratch=tmp_path,
            threads=count,
            text_languages=predictor.text_languages,
        )
        out = tmp_path / f"{count}.safetensors"
        task = Task(media.probe(clip), out.stem, out, media.stamps(clip))
        make_worker(setup)(task, Mock())
        found.append((Prepared.load(out), load_file(out)))
    (whole, arrays), (other, others) = found
    assert whole is not None and whole.utterances and any(u.text for u in whole.utterances)
    assert all(arrays[f"{m}.present"].any() for m in ("text", "audio", "face"))
    assert other is not None and other.utterances == whole.utterances
    assert other.face_coverage == whole.face_coverage
    for name, values in arrays.items():
        np.testing.assert_array_equal(others[name], values, err_msg=name)


def test_a_recogniser_leaves_the_number_of_threads() -> None:
    """Batches of all networks go side by side as many at once as PyTorch has threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert torch.get_num_threads() == 3  # from now on PyTorch goes by OpenMP's own number
        settings = transcribe.TranscriberSettings(media.extract_subtitles, device="cpu", threads=3)
        transcribe.make_transcriber("whisper", settings)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_no_number_of_threads_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from annotator import RunSettings, run

    monkeypatch.setenv("OMP_NUM_THREADS", "abc")
    with pytest.raises(UsageError, match="no number of threads"):
        run([tmp_path], tmp_path / "labels.parquet", RunSettings())
    assert not list(tmp_path.iterdir())
