"""A table shared as a data set: what others can read of it, and what they must not."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import huggingface_hub
import polars as pl
import pytest
from huggingface_hub import DatasetCard
from polars.testing import assert_frame_equal

from annotator import cli, files
from annotator.dataset import CARD, DATA, share_table
from annotator.records import SetupError, UsageError
from annotator.table import schema, write_table

from .tables import LABELS, table_of, utterance

SETTINGS = {
    "diarizer": "auto",
    "modalities": ["text", "audio"],
    "model": "/home/ana/models/mine",
    "whisper_folder": "/srv/whisper",
    "work_dir": "C:\\Users\\ana",
    "device": "cuda:1",
    "workers": 12,
}
METADATA = {
    "settings": json.dumps(SETTINGS),
    "versions": json.dumps({"ffmpeg": "5.1.6-0+deb12u1", "python": "3.11.2"}),
    "conversation-annotator": "0.1.0",
    "host": "ana-laptop",
}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    words = [{"start": 0.1, "end": 0.4, "text": "So", "confidence": None}]
    rows = [
        utterance(words=words, plausible=["joy", "neutral"], quality=["too_short"]),
        utterance(
            file="b/c.mp4", text=None, text_source=None, language=None, has_text=False, emotion="anger"
        ),
    ]
    write_table(table_of(*rows), tmp_path / "labels.parquet", METADATA)
    return tmp_path / "labels.parquet"


def test_the_rows_come_back_as_they_were(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "dataset"
    assert share_table(table, str(out), "cc-by-4.0") == str(out)
    assert {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()} == {CARD, DATA}
    found = pl.read_parquet(out / DATA)
    assert dict(found.schema) == schema(LABELS)
    assert_frame_equal(found, pl.read_parquet(table).sort("file"))
    assert found["words"].to_list()[1] == [{"start": 0.1, "end": 0.4, "text": "So", "confidence": None}]


def test_the_card_says_what_the_rows_are(table: Path, tmp_path: Path) -> None:
    share_table(table, str(tmp_path / "dataset"), "cc-by-4.0")
    card = DatasetCard.load(tmp_path / "dataset" / CARD)
    assert card.data.license == "cc-by-4.0" and card.data.language == ["en"]
    assert card.data.size_categories == ["n<1K"]
    [config] = card.data.to_dict()["configs"]
    [files] = config["data_files"]
    assert files["split"] == "train" and (tmp_path / "dataset" / files["path"]).is_file()
    assert "machine-made" in card.text and "`starter 0.1.0`" in card.text
    assert "| joy | 1 |" in card.text and "| anger | 1 |" in card.text and "| fear | 0 |" in card.text
    for column in schema(LABELS):
        assert f"| `{column}` |" in card.text
    assert "| utterances with text | 1 |" in card.text


def test_nothing_tells_of_the_machine(table: Path, tmp_path: Path) -> None:
    share_table(table, str(tmp_path / "dataset"), "other")
    metadata = pl.read_parquet_metadata(tmp_path / "dataset" / DATA)
    assert json.loads(metadata["settings"]) == {"diarizer": "auto", "modalities": ["text", "audio"]}
    for file in (CARD, DATA):
        content = (tmp_path / "dataset" / file).read_bytes()
        for secret in (b"ana", b"srv", b"Users", b"cuda", b"deb12", b"workers", str(tmp_path).encode()):
            assert secret not in content.replace(b"analog", b""), (file, secret)


def test_a_hostile_name_stays_in_its_cell(tmp_path: Path) -> None:
    rows = table_of(utterance(model="x`|<script>\n---\nlicense: mit", language="en\nlicense: mit"))
    write_table(rows, tmp_path / "la|bels.csv", {})
    share_table(tmp_path / "la|bels.csv", str(tmp_path / "dataset"), "other")
    card = DatasetCard.load(tmp_path / "dataset" / CARD)
    assert card.data.license == "other" and "<script>" not in card.text
    assert pl.read_parquet(tmp_path / "dataset" / DATA)["words"].to_list() == [None]


def test_what_can_not_be_shared_is_refused(table: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "dataset")
    for licence in (None, "", "CC BY 4.0"):
        with pytest.raises(UsageError, match="--licence cc-by-4.0"):
            share_table(table, out, licence)
    for name in ("/home/ana/a.mp4", "C:/ana/a.mp4", "a/../../b.mp4"):
        write_table(table_of(utterance(file=name)), tmp_path / "absolute.parquet", {})
        with pytest.raises(UsageError, match="make the names relative"):
            share_table(tmp_path / "absolute.parquet", out, "other")
    with pytest.raises(UsageError, match="is not there"):
        share_table(tmp_path / "gone.parquet", out, "other")
    assert not Path(out).exists()
    with pytest.raises(UsageError, match="holds something else"):
        share_table(table, str(tmp_path), "other")
    share_table(table, out, "other")
    write_table(pl.read_parquet(table).head(1), table, {})
    share_table(table, out, "mit")  # again, over its own
    assert len(pl.read_parquet(Path(out, DATA))) == 1
    Path(out, "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds something else"):
        share_table(table, out, "other")


def test_a_full_disk_is_a_sentence_and_leaves_the_earlier_set(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "dataset"
    share_table(table, str(out), "other")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    def full(self: pl.DataFrame, file: Path, **options: Any) -> None:
        file.write_bytes(b"PAR1")
        raise pl.exceptions.ComputeError("No space left on device (os error 28)")

    monkeypatch.setattr(pl.DataFrame, "write_parquet", full)
    with pytest.raises(SetupError, match=r"can't be written: No space left .* Free some space"):
        share_table(table, str(out), "mit")
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


class Killed(BaseException):
    """Stands for a kill."""


@pytest.mark.parametrize("renames", [0, 1])
@pytest.mark.parametrize("again", [False, True])
def test_the_same_command_mends_what_a_kill_left(
    renames: int, again: bool, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "dataset"
    if again:
        share_table(table, str(out), "other")
        write_table(pl.read_parquet(table).head(1), table, {})
    real = files.rename
    done: list[Path] = []

    def rename(made: Path, path: Path) -> None:
        if len(done) == renames:
            raise Killed
        done.append(path)
        real(made, path)

    def unlink(path: Path, missing_ok: bool = False) -> None:
        if path.name == CARD and path.exists():  # nobody removes a killed call's temporary files
            os.unlink(path)

    with monkeypatch.context() as patch:
        patch.setattr(files, "rename", rename)
        patch.setattr(Path, "unlink", unlink)
        with pytest.raises(Killed):
            share_table(table, str(out), "mit")
    assert list(out.rglob(".*.tmp"))
    assert not (out / CARD).exists()  # the earlier card would belong to other data
    share_table(table, str(out), "mit")
    assert {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()} == {CARD, DATA}
    assert DatasetCard.load(out / CARD).data.license == "mit"
    assert len(pl.read_parquet(out / DATA)) == (1 if again else 2)


@pytest.mark.parametrize("theirs", [CARD, DATA, f"data/.mine.{'0' * 16}.tmp", "data/.README.md.old.tmp"])
def test_half_a_set_of_somebody_else_is_kept(theirs: str, table: Path, tmp_path: Path) -> None:
    file = tmp_path / "dataset" / theirs
    file.parent.mkdir(parents=True)
    pl.DataFrame({"a": [1]}).write_parquet(file)
    before = file.read_bytes()
    with pytest.raises(UsageError, match="holds something else"):
        share_table(table, str(tmp_path / "dataset"), "other")
    assert file.read_bytes() == before


def test_a_hub_gets_a_repository_of_data(
    table: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By a stand-in for the hub's interface, which records what it is asked."""
    asked: list[tuple[str, Any]] = []

    class Hub:
        def create_repo(self, repository: str, **options: Any) -> None:
            asked.append((repository, options))

        def upload_folder(self, **options: Any) -> str:
            folder = Path(options.pop("folder_path"))
            names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
            asked.append(("upload", options | {"names": names, "card": (folder / CARD).read_text("utf-8")}))
            return "https://hub/datasets/me/talks/commit/1"

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    monkeypatch.setattr("annotator.offline.is_on", lambda: False)
    command = [
        "annotate",
        "share",
        str(table),
        "--to",
        "hf:me/talks@draft",
        "--licence",
        "other",
        "--private",
    ]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code and "commit/1" in capsys.readouterr().out
    assert asked[0] == ("me/talks", {"repo_type": "dataset", "private": True, "exist_ok": True})
    options = asked[1][1]
    assert (options["repo_id"], options["repo_type"], options["revision"]) == ("me/talks", "dataset", "draft")
    assert options["names"] == [CARD, DATA] and "# talks" in options["card"]

    def refuse(self: Any, repository: str, **options: Any) -> None:
        raise OSError("401 Unauthorized\nmore")

    monkeypatch.setattr(Hub, "create_repo", refuse)
    with pytest.raises(SetupError, match="401 Unauthorized. Log in with"):
        share_table(table, "hf:me/talks", "other")
    monkeypatch.setattr("annotator.offline.is_on", lambda: True)
    with pytest.raises(UsageError, match="offline"):
        share_table(table, "hf:me/talks", "other")


def test_a_checkpoint_has_its_licence_in_its_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["annotate", "share", str(tmp_path), "--to", str(tmp_path / "out"), "--licence", "mit"]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2 and "CARD.md" in capsys.readouterr().err
