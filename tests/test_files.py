"""Files and folders are written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from annotator import files
from annotator.records import SetupError


def test_a_fault_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    target = tmp_path / "t.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), files.written_whole(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["t.txt"]


def test_what_is_written_can_be_read_by_whom_the_umask_allows(tmp_path: Path) -> None:
    """safetensors alone would give weights to nobody else: a checkpoint in a shared folder has to load."""
    with files.written_whole(tmp_path / "weights.safetensors") as temporary:
        save_file({"a": np.ones(2)}, temporary)
    (tmp_path / "plain").write_bytes(b"")
    assert (tmp_path / "weights.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_full_disk_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(SetupError, match="can't be written"),
        files.written_whole(tmp_path / "file" / "t") as t,
    ):
        t.write_text("x")


def test_a_folder_appears_when_it_is_whole(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    with files.written_folder(out) as made:
        (made / "inside").mkdir()
        (made / "inside" / "a.txt").write_text("a")
        assert not out.exists() and made.parent == out.parent
    assert (out / "inside" / "a.txt").read_text() == "a"
    with pytest.raises(RuntimeError), files.written_folder(out, anew=False) as made:
        (made / "b.txt").write_text("half")
        raise RuntimeError
    assert os.listdir(out) == ["inside"] and os.listdir(out.parent) == ["out"]
    with files.written_folder(out, anew=False) as made:
        (made / "b.txt").write_text("b")
    assert os.listdir(out) == ["b.txt"] and os.listdir(out.parent) == ["out"]


def test_a_folder_that_holds_something_is_no_place_for_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("years of work")
    with (
        pytest.raises(SetupError, match=r"out can't be written: .* Name a cache\."),
        files.written_folder(tmp_path / "out", remedy="Name a cache") as made,
    ):
        (made / "a.txt").write_text("a")
    assert os.listdir(tmp_path / "out") == ["mine.txt"] and os.listdir(tmp_path) == ["out"]


def folder(path: Path, content: str) -> Path:
    path.mkdir()
    (path / "corpus.json").write_text(content)
    return path


@pytest.mark.parametrize("exchanges", [True, False])
def test_the_old_one_stands_until_the_new_one_does(
    exchanges: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault between two renames; a kill there; and a system that knows no exchange of two folders."""
    out = folder(tmp_path / "corpus", "old")
    if not exchanges:
        monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    real, calls = os.rename, []

    def rename(one: Path, other: Path) -> None:
        calls.append(one)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        real(one, other)

    made = folder(tmp_path / "made", "new")
    if not exchanges:
        with monkeypatch.context() as patch:
            patch.setattr(os, "rename", rename)
            with pytest.raises(OSError, match="No space"):
                files.replace_folder(made, out)
        assert (out / "corpus.json").read_text() == "old" and made.is_dir()
        real(out, tmp_path / ".corpus.replaced-by-annotate")  # as a kill between the two would leave it
    files.replace_folder(made, out)
    assert (out / "corpus.json").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]
    files.replace_folder(folder(tmp_path / "made", "newer"), out)
    assert (out / "corpus.json").read_text() == "newer"
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]
