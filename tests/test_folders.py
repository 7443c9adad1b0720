"""Nothing of a user's is deleted; names that look like patterns are names."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import pytest

from annotator import folders
from annotator.pipeline.workdir import WorkDir, output_merging
from annotator.read import read_table
from annotator.records import UsageError
from train.corpus import load_corpus

from .media import subtitles, talk
from .test_run import annotate


def test_a_users_folder_as_work_folder_is_refused_and_kept(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    (mine / "scratch").mkdir(parents=True)
    (mine / "scratch" / "thesis.txt").write_text("years of work")
    (tmp_path / "in").mkdir()
    talk(tmp_path / "in" / "a.wav", 2)
    ended = annotate("run", tmp_path / "in", "--out", tmp_path / "o.csv", "--work-dir", mine)
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr and "holds other files" in ended.stderr
    assert [p.relative_to(mine).as_posix() for p in sorted(mine.rglob("*"))] == [
        "scratch",
        "scratch/thesis.txt",
    ]


def test_a_work_folder_of_ours_is_cleaned_of_what_a_killed_run_left(tmp_path: Path) -> None:
    work = WorkDir(tmp_path / "labels.work")
    with work.locked():
        (work.scratch / "left.pcm").write_bytes(b"sound")
        os.replace(work.scratch, work.root / "kept")
    os.makedirs(work.scratch)
    os.replace(work.root / "kept" / "left.pcm", work.scratch / "left.pcm")
    with work.locked():
        assert not list(work.scratch.iterdir())


def test_a_merge_removes_only_what_its_own_files_left(tmp_path: Path) -> None:
    digits = "0123456789abcdef"
    for name in ("labels.csv", "labels.failures.csv", "labels.recordings.csv", "labels.run.json"):
        (tmp_path / f".{name}.{digits}.tmp").write_text("half")
    kept = [
        f".labels.v2.csv.{digits}.tmp",  # of another run, which may be writing it
        f".labels.csv.gz.{digits}.tmp",
        ".labels.notes.tmp",
        ".labels.csv.notes.tmp",
    ]
    for name in kept:
        (tmp_path / name).write_text("years of work")
    with output_merging(tmp_path / "labels.csv"):
        assert {path.name for path in tmp_path.glob("*.tmp")} == set(kept)


def test_scratch_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "whole").mkdir(parents=True)
    (tmp_path / "elsewhere" / "whole" / "thesis.txt").write_text("years of work")
    folders.claim(tmp_path / "w", "the work folder")
    (tmp_path / "w" / "scratch").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="link"), WorkDir(tmp_path / "w").locked():
        pass
    assert (tmp_path / "elsewhere" / "whole" / "thesis.txt").exists()


def test_only_marked_folders_are_removed(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    folders.remove(tmp_path / "mine")
    folders.claim(tmp_path / "ours", "the work folder")
    (tmp_path / "link").symlink_to(tmp_path / "ours")
    folders.remove(tmp_path / "link")
    assert (tmp_path / "mine").is_dir() and (tmp_path / "ours").is_dir()
    folders.remove(tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


def test_a_result_that_holds_more_than_a_result_is_not_replaced(tmp_path: Path) -> None:
    def is_part(name: str) -> bool:
        return name == "corpus.json"

    folders.check_replaceable(tmp_path / "new", "corpus", is_part, "corpus.json")
    (tmp_path / "corpus.json").touch()
    folders.check_replaceable(tmp_path, "corpus", is_part, "corpus.json")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UsageError, match="notes.txt"):
        folders.check_replaceable(tmp_path, "corpus", is_part, "corpus.json")


def test_a_run_in_folders_whose_names_are_patterns(tmp_path: Path) -> None:
    place, sibling = tmp_path / "[2024] a*b ?", tmp_path / "2 axb c"
    (place / "in").mkdir(parents=True)
    for seed, name in enumerate(("one [1]", "t*wo")):
        talk(place / "in" / f"{name}.wav", 3, seed=seed)
        subtitles(place / "in" / f"{name}.srt", [(0.5, 2.5, f"Number {seed}.")])
    ended = annotate("run", place / "in", "--out", place / "l[a].parquet", "--modalities", "text")
    assert ended.returncode == 0, ended.stderr
    sibling.mkdir()  # what the names would match as patterns
    whole = pl.read_parquet(place / "l[a].parquet", glob=False)
    whole.with_columns(text=pl.lit("Strangers.")).write_parquet(sibling / "la.parquet")
    table, _ = read_table(place / "l[a].parquet")
    assert table["text"].to_list() == ["Number 0.", "Number 1."]
    for command in (
        ("report", place / "l[a].parquet", "--out", place / "r[a].html"),
        ("export", place / "l[a].parquet", "--to", "srt", "--out", place / "s*"),
        ("merge", place / "m?.csv", "--from", place / "l[a].work"),
    ):
        ended = annotate(*command)
        assert ended.returncode == 0, (command, ended.stderr)
    assert "Strangers" not in (place / "r[a].html").read_text("utf-8")
    assert read_table(place / "m?.csv")[0].select("file", "text").equals(table.select("file", "text"))
    assert sorted(p.name for p in (place / "s*").iterdir()) == ["one [1].srt", "t*wo.srt"]
    labels = place / "la?bels.csv"
    pl.DataFrame(
        {"recording": ["one [1].wav"] * 2 + ["t*wo.wav"] * 2, "start": [0.5, 1.5] * 2, "end": [1.5, 2.5] * 2}
        | {"label": ["joy", "anger"] * 2, "split": ["train"] * 2 + ["validation"] * 2}
        | {"speaker": ["a", "a", "b", "b"]}
    ).write_csv(labels)
    ended = annotate("prepare", "table", labels, "--media", place / "in", "--out", place / "c[1]")
    assert ended.returncode == 0, ended.stderr
    assert load_corpus(place / "c[1]").table.height == 4
