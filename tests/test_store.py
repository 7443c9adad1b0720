"""A store that machines share: put under conditions, taken from only what is whole, nothing lost by it."""

from __future__ import annotations

import errno
import json
import logging
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from numpy.typing import NDArray
from polars.testing import assert_frame_equal

from annotator import folders, offline, seal, table
from annotator.pipeline import merge_work_folders
from annotator.pipeline.batch import RunResult, run
from annotator.pipeline.manifests import as_failure
from annotator.pipeline.parts import part_of
from annotator.pipeline.people import VOICE, packed
from annotator.pipeline.scan import Entry
from annotator.pipeline.sharing import Sharing
from annotator.pipeline.workdir import WorkDir
from annotator.records import SetupError, UsageError
from annotator.settings import RunSettings, load_settings
from annotator.store import MARK, Store, StoreError

from .media import subtitles, talk

TEXT_ONLY = RunSettings(modalities=("text",), transcriber="subtitles", workers=1)


@pytest.fixture(params=["memory", "file"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(f"{request.param}://{tmp_path}/a store")


def test_a_file_that_is_there_stays_and_is_whole(place: Store) -> None:
    assert place.sizes("parts") == {} and place.read("parts/a", 9) is None
    assert place.put_new("parts/a", b"first") and not place.put_new("parts/a", b"second")
    assert place.read("parts/a", 9) == b"first"
    place.put("parts/a", b"third one")
    place.put("parts/b", b"")
    assert place.read("parts/a", 9) == b"third one" and place.read("parts/a", 8) is None
    assert place.sizes("parts") == {"a": 9, "b": 0} and place.sizes() == {}
    for _ in range(2):
        place.remove("parts/a")
    assert place.sizes("parts") == {"b": 0}


def test_of_many_at_once_one_puts_and_nothing_else_is_left(tmp_path: Path) -> None:
    places = [Store(f"file://{tmp_path}/shared") for _ in range(8)]
    contents = [bytes([i]) * 100_000 for i in range(8)]
    with ThreadPoolExecutor(8) as several:
        put = list(several.map(lambda i: places[i].put_new("parts/x", contents[i]), range(8)))
    assert sum(put) == 1
    assert places[0].read("parts/x", 100_000) == contents[put.index(True)]
    assert [file.name for file in (tmp_path / "shared" / "parts").iterdir()] == ["x"]


def test_a_store_that_does_not_keep_what_is_there_is_refused(
    place: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.claim()
    place.claim()
    assert MARK in place.sizes()
    monkeypatch.setattr(Store, "put_new", lambda self, name, content: self.put(name, content) or True)
    with pytest.raises(StoreError, match="If-None-Match"):
        place.claim()


def test_a_folder_with_other_files_is_no_store_and_gets_no_mark(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UsageError, match="holds other files .'thesis.tex'"):
        Store(f"file://{tmp_path}").claim()
    assert os.listdir(tmp_path) == ["thesis.tex"]
    Store(f"file://{tmp_path}/labels").claim()
    with pytest.raises(UsageError, match="holds other files"):
        folders.claim(tmp_path / "labels", "the work folder")


def test_links_and_pipes_in_a_folder_are_not_followed(tmp_path: Path) -> None:
    place, outside = Store(f"file://{tmp_path}/shared"), tmp_path / "outside"
    place.claim()
    outside.mkdir()
    (outside / "a").write_bytes(b"theirs")
    os.mkfifo(tmp_path / "shared" / "manifest.json")
    (tmp_path / "shared" / "b").symlink_to(outside / "a")
    assert place.read("manifest.json", 9) is None and place.read("b", 9) is None
    assert place.sizes().keys() == {MARK}
    place.put("b", b"ours")
    assert place.read("b", 9) == b"ours" and (outside / "a").read_bytes() == b"theirs"
    (tmp_path / "shared" / "parts").symlink_to(outside)
    for act in (
        lambda: place.put("parts/x", b"x"),
        lambda: place.read("parts/a", 9),
        lambda: place.sizes("parts"),
    ):
        with pytest.raises(StoreError, match="parts in it is a file or a link"):
            act()
    assert os.listdir(outside) == ["a"]


def test_what_a_kill_left_is_swept_after_a_day(tmp_path: Path) -> None:
    place = Store(f"file://{tmp_path}/shared")
    place.put("parts/a", b"whole")
    place.put(MARK, b"")
    old, young = (tmp_path / "shared" / "parts" / f".a.{digit * 16}.tmp" for digit in "01")
    for file in (old, young):
        file.touch()
    os.utime(old, (0, 0))
    os.utime(tmp_path / "shared" / "parts" / "a", (0, 0))
    place.claim()
    assert place.sizes("parts").keys() == {"a", young.name}


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("/mnt/shared/labels", "no URL of a store"),
        ("http://host/labels", "no URL of a store"),
        ("simplecache::s3://bucket/labels", "no URL of a store"),
        ("s3://", "names no bucket"),
        ("file:///", "names no bucket or folder"),
        ("s3://user:hunter2/x@bucket/labels", "leave them out"),
        ("s3://user:hunter2@bucket/labels", "leave them out"),
        ("s3://bucket/labels?token=hunter2", "a plain prefix"),
        ("s3://bucket/a\nb", "a control character"),
        ("file://labels", "begins with a slash"),
    ],
)
def test_what_is_no_store_is_refused_without_repeating_it(url: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        load_settings(None, {"store": url})
    assert "--store" in str(caught.value) and "hunter2" not in str(caught.value)
    with pytest.raises(UsageError, match=words):
        Store(url)


def test_a_password_is_not_repeated_by_the_settings_themselves() -> None:
    with pytest.raises(ValueError) as caught:
        RunSettings(store="s3://user:hunter2@bucket/labels")
    assert "leave them out" in str(caught.value) and "hunter2" not in str(caught.value)
    with pytest.raises(UsageError, match="more than 100,000 shards"):
        load_settings(None, {"shard": "0/3000000"})


def test_a_url_is_no_work_folder() -> None:
    with pytest.raises(UsageError, match="belongs to --store"):
        load_settings(None, {"work_dir": Path("s3://bucket/labels")})


def test_a_package_that_lacks_is_named_and_offline_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(SetupError, match="pip install s3fs"):
        Store("s3://bucket/labels")
    monkeypatch.setenv(offline.OURS, "1")
    with pytest.raises(UsageError, match="--offline"):
        Store("s3://bucket/labels")
    Store("memory://labels")  # no network


def test_a_fault_of_the_store_is_one_sentence_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError(
            "no answer\nfrom https://me:hunter2/hunter2@hunter2@host/b/a?X-Amz-Signature=hunter2 at all."
        )

    monkeypatch.setattr(MemoryFileSystem, "cat_file", fail)
    with pytest.raises(StoreError) as caught:
        Store("memory://labels").read("a", 1)
    told = str(caught.value)
    assert "hunter2" not in told and "\n" not in told
    assert told.startswith("The store memory://labels can't be read: no answer from https://***host/b/a?***")


@dataclass(frozen=True)
class Machine:
    """What one machine has: a place for its table and work folder, and the store of all."""

    place: Path
    videos: Path
    url: str

    @property
    def out(self) -> Path:
        return self.place / "labels.parquet"

    @property
    def work(self) -> Path:
        return self.out.with_suffix(".work")

    def run(self, **more: Any) -> RunResult:
        settings = TEXT_ONLY.model_copy(update={"store": self.url} | more)
        return run([self.videos], self.out, settings, progress=False)


@dataclass(frozen=True)
class Done:
    """What a first machine has left, over two recordings and one that can't be read."""

    first: Machine
    rows: pl.DataFrame
    files: dict[str, bytes]  # in the store, by name

    def machine(self, place: Path) -> Machine:
        """Another machine with another store, for which recordings are prepared: it needs no worker."""
        place.mkdir(exist_ok=True)
        machine = Machine(place, self.first.videos, f"memory://{place}")
        shutil.copytree(self.first.work / "prepared", machine.work / "prepared")
        shutil.copy(self.first.work / folders.MARK, machine.work)
        return machine


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    base = tmp_path_factory.mktemp("store")
    (base / "videos").mkdir()
    for seed, name in enumerate(("one", "two")):
        talk(base / "videos" / f"{name}.wav", 3, seed=seed)
        subtitles(base / "videos" / f"{name}.srt", [(0.5, 1.2, f"Number {seed}."), (1.5, 2.5, "So what?")])
    (base / "videos" / "broken.wav").write_text("no sound")
    machine = Machine(base, base / "videos", f"memory://{base}")
    result = machine.run()
    assert result.exit_code == 3 and result.annotated == 2 and result.table is not None
    return Done(machine, result.table, in_store(machine.url))


def in_store(url: str) -> dict[str, bytes]:
    place = Store(url)
    names = [*place.sizes(), *(f"{f}/{n}" for f in ("parts", "failures") for n in place.sizes(f))]
    found = {name: place.read(name, 1 << 30) for name in names}
    return {name: content for name, content in found.items() if content is not None}


@pytest.fixture
def other(done: Done, tmp_path: Path) -> Machine:
    """A second machine, with what the first has put into the store."""
    machine = done.machine(tmp_path)
    for name, content in done.files.items():
        Store(machine.url).put(name, content)
    return machine


def part_names(files: dict[str, bytes]) -> list[str]:
    return sorted(name for name in files if name.startswith("parts/"))


def test_a_store_holds_what_a_work_folder_has_finished_and_no_more(done: Done) -> None:
    finished = [file for kind in ("parts", "failures") for file in (done.first.work / kind).iterdir()]
    names = {str(file.relative_to(done.first.work)) for file in finished}
    assert set(done.files) == names | {"manifest.json", MARK}
    assert len(part_names(done.files)) == 2 and b"memory:" not in done.files["manifest.json"]


def test_another_machine_does_nothing_again(
    done: Done, other: Machine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="annotator"), monkeypatch.context() as without_models:
        without_models.setattr("annotator.predict.Predictor.load", None)
        result = other.run()
    assert result.annotated == 0 and result.exit_code == 3 and result.table is not None
    assert "with 2 parts" in caplog.text and "2 of 3 recordings were done already" in caplog.text
    assert_frame_equal(result.table, done.rows, check_exact=True)
    assert [(f["file"], f["attempts"]) for f in result.failures] == [("broken.wav", 1)]
    assert {n: c for n, c in in_store(other.url).items() if n != "manifest.json"} == {
        n: c for n, c in done.files.items() if n != "manifest.json"
    }
    assert other.url not in other.out.with_suffix(".run.json").read_text()
    assert other.url.encode() not in other.out.read_bytes()
    # Retried, the recording has failed once more, and everybody is to know.
    assert other.run(retry_failed=True).failures[0]["attempts"] == 2
    (failure,) = (c for n, c in in_store(other.url).items() if n.startswith("failures/"))
    assert json.loads(failure)["attempts"] == 2


def test_a_merge_takes_the_store_of_the_shards(done: Done, tmp_path: Path) -> None:
    url = f"memory://{tmp_path}"
    for index in (0, 1):
        replace(done.machine(tmp_path / str(index)), url=url).run(shard=(index, 2))
        if index == 0:
            with pytest.raises(UsageError, match="shards are missing: 1/2"):
                merge_work_folders(tmp_path / "merged.parquet", [url])
    rows, failures = merge_work_folders(tmp_path / "merged.parquet", [url])
    assert_frame_equal(rows, done.rows, check_exact=True)
    assert [f["file"] for f in failures] == ["broken.wav"]
    assert json.loads((tmp_path / "merged.run.json").read_text())["counts"]["inputs"] == 3


def test_a_merge_refuses_what_is_not_whole(done: Done, other: Machine, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no finished run"):
        merge_work_folders(tmp_path / "merged.parquet", [f"{other.url}/elsewhere"])
    first, second = part_names(done.files)
    Store(other.url).put(first, done.files[second])
    with pytest.raises(SetupError, match=r"The part of (one|two).wav in memory://.* is missing or damaged"):
        merge_work_folders(tmp_path / "merged.parquet", [other.url])
    Store(other.url).put("manifest.json", b"[]")
    with pytest.raises(UsageError, match=r"memory://.*/manifest.json is no manifest"):
        merge_work_folders(tmp_path / "merged.parquet", [other.url])
    assert not list(tmp_path.glob("merged*"))


FORGERIES: dict[str, Callable[[dict[str, Any]], object]] = {
    "rows without number": lambda m: m["files"][-1].update(rows=10**12),
    "attempts without number": lambda m: m["files"][0]["failure"].update(attempts=10**12),
    "a problem with attempts": lambda m: m["files"][-1].update(
        problems=[dict(stage="a", error="b", message="c", attempts="x")]
    ),
    "a part in the manifest": lambda m: m["files"][0].update(found=1),
    "a version that is a number": lambda m: m["versions"].update({"conversation-annotator": 5}),
    "millions of shards": lambda m: m.update(shard=[0, 3_000_000]),
    "half a character": lambda m: m.update(model="\ud800"),
    "a deep profile": lambda m: m["run"].update(profile=json.loads('{"a":' * 300 + "1" + "}" * 300)),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_manifest_is_none(forgery: str, other: Machine, done: Done, tmp_path: Path) -> None:
    manifest = json.loads(done.files["manifest.json"])
    FORGERIES[forgery](manifest)
    Store(other.url).put("manifest.json", json.dumps(manifest).encode())
    with pytest.raises(UsageError, match=r"manifest.json is no manifest"):
        merge_work_folders(tmp_path / "merged.parquet", [other.url])


def test_of_many_missing_shards_ten_are_named(other: Machine, done: Done, tmp_path: Path) -> None:
    manifest = json.loads(done.files["manifest.json"]) | {"shard": [0, 50]}
    Store(other.url).put("manifest.json", json.dumps(manifest).encode())
    with pytest.raises(UsageError, match="1/50, .*, 10/50 and 39 more"):
        merge_work_folders(tmp_path / "merged.parquet", [other.url])


def test_a_full_temporary_folder_is_a_sentence_that_names_it(
    other: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(SetupError, match=f"into {tmp_path}: No space left on device.*TMPDIR"):
        merge_work_folders(tmp_path / "merged.parquet", [other.url])
    assert not list(tmp_path.glob("annotate-store-*"))


def flipped(content: bytes, name: str) -> bytes:
    changed = bytearray(content)
    changed[random.Random(1).randrange(len(changed))] ^= 1
    return bytes(changed)


def same(value: Any) -> Any:
    return value


def forged(
    facts: Callable[[dict[str, Any]], object] = same,
    rows: Callable[[pl.DataFrame], pl.DataFrame] = same,
    voices: str = "{}",
) -> Callable[[bytes, str], bytes]:
    """A part whose hash is right, as somebody makes it who may write to the store."""

    def forge(content: bytes, name: str) -> bytes:
        key = Path(name).stem
        metadata = pl.read_parquet_metadata(content)
        part = table.part_of(content, key, json.loads(metadata["facts"])["file_id"], LABELS)
        assert part is not None
        told = dict(part.facts)
        facts(told)
        sealed = seal.blank()
        made = {seal.KEY: sealed, "key": key, "facts": json.dumps(told), "voices": voices}
        path = Path(os.environ["FORGED"])
        rows(part.rows).write_parquet(path, metadata=made)
        seal.close(path, sealed)
        return path.read_bytes()

    return forge


LABELS = json.loads(
    (Path(__file__).resolve().parents[1] / "model" / "starter" / "model.json").read_text(encoding="utf-8")
)["labels"]
DAMAGES: dict[str, Callable[[bytes, str], bytes]] = {
    "a bit": flipped,
    "cut off": lambda content, name: content[:100],
    "facts that lack": forged(lambda facts: facts.pop("streams")),
    "facts of another kind": forged(lambda facts: facts.update(duration_s="long")),
    "facts that rename": forged(lambda facts: facts.update(file="../elsewhere.mp4")),
    "facts that fail": forged(lambda facts: facts.update(failure=3)),
    "facts of more rows": forged(lambda facts: facts.update(rows=3)),
    "speakers without number": forged(lambda facts: facts.update(speakers=10**12)),
    "half a character": forged(lambda facts: facts.update(flags=["\ud800"])),
    "a problem with attempts": forged(
        lambda facts: facts.update(problems=[dict(stage="a", error="b", message="c", attempts="x")])
    ),
    "rows of nobody": forged(rows=lambda rows: rows.with_columns(pl.lit(None, pl.String()).alias("file_id"))),
    "no emotion": forged(rows=lambda rows: rows.with_columns(pl.lit(None, pl.String()).alias("emotion"))),
    "another emotion": forged(rows=lambda rows: rows.with_columns(pl.lit("boredom").alias("emotion"))),
    "no time": forged(rows=lambda rows: rows.with_columns(pl.lit(float("nan")).alias("start"))),
    "more than certain": forged(
        rows=lambda rows: rows.with_columns(pl.lit(2, pl.Float32()).alias("confidence"))
    ),
    "rows out of nothing": forged(
        lambda facts: facts.update(rows=2_000_000),
        lambda rows: rows.head(1).select(pl.all().repeat_by(2_000_000).explode()),
    ),
    "a voice of nobody": forged(voices=json.dumps({"X": packed(np.ones(VOICE, np.float32))})),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_or_forged_part_is_none(
    damage: str, done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORGED", str(tmp_path / "forged.parquet"))
    for name in part_names(done.files):
        content, key = done.files[name], Path(name).stem
        file_id = json.loads(pl.read_parquet_metadata(content)["facts"])["file_id"]
        assert part_of(content, key, file_id, LABELS) is not None
        assert part_of(DAMAGES[damage](content, name), key, file_id, LABELS) is None


@pytest.mark.parametrize("voice", [np.full(VOICE, np.nan, np.float32), np.ones(7, np.float32)])
def test_a_voice_that_is_none_is_told_before_it_is_linked(
    voice: NDArray[np.float32], done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORGED", str(tmp_path / "forged.parquet"))
    name = part_names(done.files)[0]
    key, file_id = Path(name).stem, entry_of(done, name).file_id
    assert file_id is not None
    who = pl.read_parquet(done.files[name])["speaker"][0]
    for made, sound in ((np.ones(VOICE, np.float32), True), (voice, False)):
        content = forged(voices=json.dumps({who: packed(made)}))(done.files[name], name)
        assert (part_of(content, key, file_id, LABELS) is not None) == sound


def test_a_failure_from_a_store_is_as_a_run_writes_it() -> None:
    sound = {"stage": "probe", "error": "not_media", "message": "It is none.", "attempts": 1}
    assert as_failure(sound) == sound
    for change in ({"attempts": True}, {"attempts": 10**12}, {"message": "\ud800"}, {"file": "x"}):
        assert as_failure(sound | change) is None


@pytest.mark.parametrize("damaged", [flipped, lambda content, name: b"", lambda content, name: content * 2])
def test_a_damaged_part_is_made_again_and_replaced(
    damaged: Callable[[bytes, str], bytes],
    done: Done,
    other: Machine,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    largest = max(len(done.files[name]) for name in part_names(done.files))
    monkeypatch.setattr("annotator.pipeline.sharing.PART_BYTES", largest)
    name = part_names(done.files)[0]
    Store(other.url).put(name, damaged(done.files[name], name))
    with caplog.at_level(logging.WARNING, logger="annotator"):
        result = other.run()
    assert result.annotated == 1 and result.table is not None
    assert f"{name} in the store is damaged" in caplog.text
    assert_frame_equal(result.table, done.rows, check_exact=True)
    assert in_store(other.url)[name] == (other.work / name).read_bytes()
    rows, _ = merge_work_folders(other.place / "merged.parquet", [other.url])
    assert_frame_equal(rows, done.rows, check_exact=True)


def test_machines_that_did_the_same_agree_and_the_first_stays(
    done: Done, other: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Sharing, "fetch", lambda self, entry: self._there.clear())  # both began at one time
    result = other.run()
    assert result.annotated == 2 and result.exit_code == 3
    for name in part_names(done.files):
        own = (other.work / name).read_bytes()
        assert in_store(other.url)[name] == done.files[name] == own
    rows, _ = merge_work_folders(other.place / "merged.parquet", [other.url, other.work])
    assert_frame_equal(rows, done.rows, check_exact=True)


def entry_of(done: Done, name: str) -> Entry:
    """The input that a part in the store is of."""
    file_id = json.loads(pl.read_parquet_metadata(done.files[name])["facts"])["file_id"]
    return Entry("a.wav", done.first.videos / "a.wav", file_id=file_id, part=Path(name).stem)


def test_a_part_left_by_a_killed_run_is_compared_with_the_one_in_the_store(
    done: Done, other: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in (other.work / "parts", WorkDir(other.work).scratch):
        folder.mkdir(parents=True)
    name = part_names(done.files)[0]
    fetched: list[str] = []
    read = Store.read

    def noting(self: Store, name: str, most: int) -> bytes | None:
        fetched.append(name)
        return read(self, name, most)

    monkeypatch.setattr(Store, "read", noting)
    for own in (b"another", done.files[name]):
        (other.work / name).write_bytes(own)
        sharing = Sharing(Store(other.url), WorkDir(other.work), LABELS, fresh=False)
        sharing.begin()
        sharing.found(entry_of(done, name))
        sharing.deliver()
        assert sharing.lacks() is None and (other.work / name).read_bytes() == done.files[name]
    assert fetched == [name], "the same one is not fetched"


@pytest.mark.parametrize("fresh", [False, True])
def test_a_part_in_the_store_is_not_removed_for_one_that_is_gone(
    fresh: bool, done: Done, other: Machine
) -> None:
    name = part_names(done.files)[0]
    sharing = Sharing(Store(other.url), WorkDir(other.work), LABELS, fresh)
    sharing.begin()
    sharing.made(entry_of(done, name))
    sharing.deliver()
    assert in_store(other.url)[name] == done.files[name]


def test_an_empty_part_is_no_part_and_stays_until_it_is_replaced(done: Done, other: Machine) -> None:
    name = part_names(done.files)[0]
    Store(other.url).put(name, b"")
    sharing = Sharing(Store(other.url), WorkDir(other.work), LABELS, fresh=False)
    sharing.begin()
    assert not sharing.fetch(entry_of(done, name))
    assert Store(other.url).sizes("parts")[Path(name).name] == 0, "another machine may be replacing it"


def test_fresh_replaces_what_is_there(done: Done, other: Machine) -> None:
    name = part_names(done.files)[0]
    for folder in (other.work / "parts", WorkDir(other.work).scratch):
        folder.mkdir(parents=True)
    entry = entry_of(done, name)
    for fresh, expected in ((False, done.files[name]), (True, b"made anew")):
        (other.work / name).write_bytes(b"made anew")
        sharing = Sharing(Store(other.url), WorkDir(other.work), LABELS, fresh)
        sharing.begin()
        sharing.made(entry)
        sharing.deliver()
        assert (other.work / name).read_bytes() == expected
        assert sharing.lacks() is None and in_store(other.url)[name] == expected


def test_nothing_is_lost_when_the_store_is_away(
    done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    machine = done.machine(tmp_path)

    def away(self: MemoryFileSystem, path: str, *_: Any, **__: Any) -> None:
        if MARK not in path:
            raise ConnectionError("no route to host")
        raise FileExistsError

    with monkeypatch.context() as cut, caplog.at_level(logging.WARNING, logger="annotator"):
        cut.setattr(MemoryFileSystem, "pipe_file", away)
        result = machine.run()
    assert result.table is not None and result.exit_code == 1
    assert_frame_equal(pl.read_parquet(machine.out), done.rows, check_exact=True)
    assert result.not_shared is not None and "no route to host" in result.not_shared
    assert "3 finished files of this run lie in" in result.not_shared
    assert not [n for n in in_store(machine.url) if n != MARK]
    again = machine.run()
    assert again.annotated == 0 and again.not_shared is None
    assert part_names(in_store(machine.url)) == part_names(done.files)
    rows, failures = merge_work_folders(tmp_path / "merged.parquet", [machine.url])
    assert_frame_equal(rows, done.rows, check_exact=True)
    assert len(failures) == 1


def test_a_store_that_can_not_be_reached_ends_the_run_before_any_work(
    done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(MemoryFileSystem, "ls", away)
    with pytest.raises(StoreError, match="can't be listed: no route to host"):
        done.machine(tmp_path).run()
    assert not list(tmp_path.glob("labels.[prf]*"))


def annotate(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "annotator", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


def test_processes_share_a_folder_by_its_url(done: Done, tmp_path: Path) -> None:
    url = f"file://{tmp_path}/shared"
    quick = ("--modalities", "text", "--transcriber", "subtitles", "--workers", "1", "--offline")
    machines = [done.machine(tmp_path / name) for name in ("a", "b")]
    start = [sys.executable, "-m", "annotator", "run", str(done.first.videos), "--store", url, *quick]
    commands = [[*start, "--out", str(machine.out)] for machine in machines]
    at_once = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
    told = [process.communicate(timeout=600)[1] for process in at_once]
    assert [process.returncode for process in at_once] == [3, 3], told
    merged = annotate("merge", tmp_path / "merged.parquet", "--from", url)
    assert merged.returncode == 3 and "2 utterances of 2 recordings" in merged.stdout, merged.stderr
    for out in (*(machine.out for machine in machines), tmp_path / "merged.parquet"):
        assert_frame_equal(pl.read_parquet(out), done.rows, check_exact=True)
    names = sorted(file.name for file in (tmp_path / "shared").rglob("*") if file.is_file())
    assert len(names) == 5 and not [name for name in names if name.endswith(".tmp")], names


def test_the_command_says_what_is_wrong_with_a_store(done: Done, tmp_path: Path) -> None:
    out = tmp_path / "labels.parquet"
    for arguments, code, words in (
        (("--store", "s3://me:hunter2@bucket/labels"), 2, "--store: it holds a user or a password"),
        (("--work-dir", "s3://bucket/labels"), 2, "a URL belongs to --store"),
        (("--store", "s3://bucket/labels", "--offline"), 2, "is in the network, and --offline"),
        (("--store", f"file://{done.first.videos / 'one.wav'}/x"), 1, "Not a directory"),
    ):
        ended = annotate("run", done.first.videos, "--out", out, *arguments)
        assert ended.returncode == code and words in ended.stderr, ended.stderr
        assert "Traceback" not in ended.stderr and "hunter2" not in ended.stderr
        assert ended.stderr.splitlines()[-1].startswith("annotate: "), ended.stderr
    assert not list(tmp_path.glob("labels*"))
