"""The work folder: what docs/invariants.md says of it, and that whatever is damaged in it is made again."""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from annotator import media, seal, table
from annotator.media.find import _beside
from annotator.pipeline.batch import run
from annotator.pipeline.outputs import merge_work_folders
from annotator.pipeline.prepared import Prepared
from annotator.pipeline.shaping import beside_key
from annotator.pipeline.stages import Task, check_unchanged
from annotator.records import Prediction, RecordingError, SetupError, UsageError, Utterance
from annotator.settings import RunSettings

from .media import subtitles, talk

LABELS = ("a", "b")
TEXT_ONLY = RunSettings(modalities=("text",), transcriber="auto", workers=1, offline=True)


@dataclass(frozen=True)
class Done:
    """A finished run over two recordings, and one that can't be read."""

    videos: Path
    out: Path
    rows: pl.DataFrame

    def copy(self, place: Path) -> Path:
        """A copy of the work folder, for a run that is to find it damaged; returns that run's table."""
        shutil.copytree(self.out.with_suffix(".work"), place / "labels.work")
        return place / "labels.parquet"

    def again(self, out: Path) -> pl.DataFrame:
        result = run([self.videos], out, TEXT_ONLY, progress=False)
        assert [f["file"] for f in result.failures] == ["broken.wav"] and result.table is not None
        return result.table


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    base = tmp_path_factory.mktemp("work")
    (base / "videos").mkdir()
    for seed, name in enumerate(("one", "two")):
        talk(base / "videos" / f"{name}.wav", 3, seed=seed)
        subtitles(base / "videos" / f"{name}.srt", [(0.5, 1.2, f"Number {seed}."), (1.5, 2.5, "So what?")])
    (base / "videos" / "broken.wav").write_text("no sound")
    out = base / "labels.parquet"
    result = run([base / "videos"], out, TEXT_ONLY, progress=False)
    assert result.exit_code == 3 and result.table is not None
    return Done(base / "videos", out, result.table)


def parts(out: Path) -> list[Path]:
    return sorted(out.with_suffix(".work").glob("parts/*.parquet"))


def flip(path: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


def flip_a_bit_of_each_part(out: Path) -> None:
    for path in parts(out):
        flip(path, random.Random(1))


def put_a_part_in_the_place_of_another(out: Path) -> None:
    first, second = parts(out)
    shutil.copyfile(first, second)


def cut_a_part(out: Path) -> None:
    os.truncate(parts(out)[0], 100)


def write_in_place_of(pattern: str, content: str) -> Callable[[Path], None]:
    def damage(out: Path) -> None:
        found = list(out.with_suffix(".work").glob(pattern))
        assert found
        for path in found:
            path.write_text(content)

    return damage


DAMAGES: dict[str, Callable[[Path], None]] = {
    "a bit of each part": flip_a_bit_of_each_part,
    "a part in the place of another": put_a_part_in_the_place_of_another,
    "a part cut off": cut_a_part,
    "a list of inputs": write_in_place_of("inputs.json", "[3]"),
    "inputs that are numbers": write_in_place_of("inputs.json", '{"x": 3, "y": [1, 2, 3, 4, "z"]}'),
    "inputs that go deep": write_in_place_of("inputs.json", "[" * 100_000),
    "notes that are a list": write_in_place_of("failures/*.json", "[]"),
    "notes without attempts": write_in_place_of(
        "failures/*.json", '{"stage": "x", "error": "y", "message": 3}'
    ),
    "a manifest of another kind": write_in_place_of("manifest.json", '{"format": 99, "files": {}}'),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_made_again(
    damage: str, done: Done, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = done.copy(tmp_path)
    DAMAGES[damage](out)
    with caplog.at_level(logging.WARNING, logger="annotator"):
        assert_frame_equal(done.again(out), done.rows, check_exact=True)
    if damage != "a manifest of another kind":  # a run writes its own, whatever lies there
        assert "damaged" in caplog.text
    caplog.clear()
    assert_frame_equal(done.again(out), done.rows, check_exact=True)
    assert "damaged" not in caplog.text, "it was not mended"


def test_what_was_done_already_is_told(done: Done, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    out = done.copy(tmp_path)
    with caplog.at_level(logging.INFO, logger="annotator"):
        done.again(out)
    assert "2 of 3 recordings were done already" in caplog.text


def test_a_run_goes_on_with_other_workers_batches_and_shards(done: Done, tmp_path: Path) -> None:
    """What is damaged of a recording, also before the network, is made again, to the same rows and hashes."""
    out, draw = done.copy(tmp_path), random.Random(2)
    damaged = [parts(out)[0], *out.with_suffix(".work").glob("prepared/*")]
    for path in damaged:
        flip(path, draw)
    for index in (0, 1):
        more = {"shard": (index, 2), "workers": 2, "batch_size": 1}
        result = run([done.videos], out, TEXT_ONLY.model_copy(update=more), progress=False)
        assert result.table is not None
    assert [p.read_bytes() for p in parts(out)[1:]] == [p.read_bytes() for p in parts(done.out)[1:]]
    assert [p.name for p in parts(out)] == [p.name for p in parts(done.out)]
    assert_frame_equal(pl.read_parquet(out), done.rows, check_exact=True)


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"format": 99}, UsageError, "no manifest that this version wrote"),
        ({"files": {}}, UsageError, "no manifest that this version wrote"),
        ({"labels": None}, UsageError, "no manifest that this version wrote"),
        ({"run": {"started": 3}}, UsageError, "no manifest that this version wrote"),
        ({"part": "../../elsewhere"}, UsageError, "no manifest that this version wrote"),
        ({"sha256": "0" * 64}, SetupError, "not the one that its manifest names"),
        ({"file_id": "0" * 64}, SetupError, "not the one that its manifest names"),
    ],
)
def test_a_merge_takes_only_what_its_manifest_names(
    change: dict[str, object], kind: type[Exception], words: str, done: Done, tmp_path: Path
) -> None:
    out = done.copy(tmp_path)
    path = out.with_suffix(".work") / "manifest.json"
    manifest = json.loads(path.read_text())
    (key,) = change
    if key in manifest:
        manifest |= change
    else:
        next(f for f in manifest["files"] if f["part"]).update(change)
    path.write_text(json.dumps(manifest))
    with pytest.raises(kind, match=words):
        merge_work_folders(tmp_path / "merged.parquet", [out.with_suffix(".work")])
    assert not list(tmp_path.glob("merged*"))


def test_a_damaged_part_is_not_merged(done: Done, tmp_path: Path) -> None:
    out = done.copy(tmp_path)
    put_a_part_in_the_place_of_another(out)
    with pytest.raises(SetupError, match="run the command that made it again"):
        merge_work_folders(tmp_path / "merged.parquet", [out.with_suffix(".work")])


def test_every_bit_of_a_part_and_of_what_was_prepared_counts(tmp_path: Path) -> None:
    """A seal of their own text in a transcript changes nothing."""
    imitation = seal.blank()
    said = [Utterance(0, i, float(i), i + 1.0, "A", None, f"{imitation} {imitation}") for i in range(20)]
    n = len(said)
    prediction = Prediction(
        np.full((n, 2), 0.5, np.float32), np.full((n, 3), 1 / 3, np.float32), np.ones((n, 3), np.bool_),
        np.full((n, 3, 2), 0.5, np.float32), np.ones((n, 2), np.bool_),
    )  # fmt: skip
    rows = table.rows(
        "0" * 64, said, prediction, LABELS, text_source=None, language=None, face_coverage=[None] * n,
        quality=[[]] * n, model="m",
    )  # fmt: skip
    part, prepared = tmp_path / "p.parquet", tmp_path / "q.safetensors"
    table.write_part(part, rows, {"file_id": "0" * 64, "duration_s": 9.0})
    Prepared(tuple(said), {}, (None,) * n, None, None, (), 9.0).save(prepared, tmp_path)
    assert table.read_part(part, "0" * 64, LABELS) is not None and Prepared.load(prepared) is not None
    assert table.read_part(part, "1" * 64, LABELS) is None, "of another recording"
    assert table.read_part(part, "0" * 64, ("a", "c")) is None, "of another model"
    draw = random.Random(3)
    for path in (part, prepared):
        whole = path.read_bytes()
        assert seal.is_whole(whole)
        for _ in range(100):
            flip(path, draw)
            assert not seal.is_whole(path.read_bytes())
            path.write_bytes(whole)
        path.write_bytes(whole[:-1])
        assert not seal.is_whole(path.read_bytes())


def test_a_file_beside_a_recording_that_changes_is_seen_also_when_it_is_put_back(tmp_path: Path) -> None:
    recording = talk(tmp_path / "x.wav", 0.5)
    beside = subtitles(tmp_path / "x.srt", [(0.1, 0.4, "So.")])
    task = Task(media.probe(recording), "key", tmp_path / "out", media.stamps(recording))
    check_unchanged(task, beside=True)
    before = beside.stat()
    content = beside.read_bytes()
    beside.write_text("other")
    beside.write_bytes(content)
    os.utime(beside, ns=(before.st_atime_ns, before.st_mtime_ns))
    changes: list[Callable[[], object]] = [
        lambda: None,
        lambda: (tmp_path / "x.en.srt").touch(),
        beside.unlink,
        recording.unlink,
    ]
    for change in changes:
        change()
        with pytest.raises(RecordingError) as caught:
            check_unchanged(task, beside=True)
        assert caught.value.error == "changed"


def test_the_name_of_a_recording_counts_where_a_file_beside_it_is_read_by_it() -> None:
    """A speaker file of several recordings gives each copy of a recording another's turns."""

    def key(name: str, ending: str) -> list[str | None]:
        return beside_key(Path(f"/x/{name}{ending}"), Path(f"/x/{name}.wav"), "0" * 64)

    assert key("one", ".srt") == key("two", ".srt") and key("one", ".srt") != key("one", ".en.srt")
    assert key("one", ".rttm") != key("two", ".rttm") and key("one", ".ctm") != key("two", ".ctm")


def test_only_what_can_not_be_there_lies_not_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = talk(tmp_path / "x.wav", 0.1)
    (tmp_path / "x.srt").touch()
    for fault, expected in (
        (FileNotFoundError(2, "No such file"), True),
        (PermissionError(13, "Permission denied"), True),
        (OSError(5, "Input/output error"), False),
        (OSError(24, "Too many open files"), False),
    ):
        _beside.cache_clear()
        with monkeypatch.context() as patch:
            patch.setattr("os.listdir", Mock(side_effect=fault))
            if expected:
                assert media.sidecars(recording) == ()
                continue
            with pytest.raises(RecordingError, match=str(fault.strerror)):
                media.sidecars(recording)
            (found,) = media.find([tmp_path / "x.wav"])
            assert found.problem is not None and found.problem.error == "unreadable"
