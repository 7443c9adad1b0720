"""Tables, names, pickles and messages from strangers: a sentence or the text as it is, and no hang."""

from __future__ import annotations

import itertools
import json
import logging
import os
import pickle
import re
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl
import pytest

from annotator.cli import own_temporary_folder
from annotator.cli.base import say
from annotator.export import export
from annotator.export.names import targets
from annotator.read import read_table
from annotator.records import SetupError, UsageError
from annotator.report import write_report
from annotator.spreadsheet import escaped, unescaped, unescaped_text
from annotator.terminal import Plain
from annotator.weights import cache_folder
from train.prepare.pickles import load_pickle

from .tables import table_of, utterance


def two() -> pl.DataFrame:
    return table_of(utterance(), utterance(utterance_id=1, start=2.0, end=3.0))


def test_every_text_comes_back_from_csv_and_no_cell_is_a_formula() -> None:
    """Also where lists are written with semicolons, and in the wide letters of East Asia."""
    letters = ["'", "=", "\n", ";", "\t", "x", "\uff1d", "-"]
    texts = ["".join(found) for n in range(5) for found in itertools.product(letters, repeat=n)]
    table = pl.DataFrame({"text": texts})
    cells = table.select(escaped(pl.col("text")))
    assert cells.select(unescaped(pl.col("text"))).equals(table)
    formula = re.compile("(?:\\A|[;\t\r\n])[=+\\-@\uff1d\uff0b\uff0d\uff20]|\\A[\t\r\n]")
    assert not [cell for cell in cells["text"] if formula.search(cell)]
    assert cells["text"].n_unique() == len(texts)
    assert [unescaped_text(text) for text in ("'=1", "It's", "''=1")] == ["=1", "It's", "'=1"]


def test_a_bomb_of_rows_is_not_read(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.parquet"
    pl.select(pl.repeat(0, 5_000_000).alias("start")).write_parquet(bomb)
    assert bomb.stat().st_size < 200_000
    began = time.process_time()
    for do in (lambda: read_table(bomb), lambda: write_report(bomb, tmp_path / "page.html")):
        with pytest.raises(UsageError, match="which no run writes"):
            do()
    assert time.process_time() - began < 5


def test_deep_json_in_a_tables_metadata_is_shown_as_text(tmp_path: Path) -> None:
    table = tmp_path / "t.parquet"
    metadata = {"settings": "[" * 100_000, "versions": '{"a": %s}' % ("9" * 5000)}
    two().write_parquet(table, metadata=metadata)
    write_report(table, tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size < 1 << 20


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [("end", 1e308, "eleven days"), ("end", 2e6, "eleven days"), ("text", "a" * (5 << 20), "more text")],
)
def test_times_and_texts_beyond_reason_are_refused(
    column: str, value: object, words: str, tmp_path: Path
) -> None:
    table = tmp_path / "t.parquet"
    two().with_columns(pl.lit(value).alias(column)).write_parquet(table)
    for do in (
        lambda: write_report(table, tmp_path / "x.html"),
        lambda: export(table, "srt", tmp_path / "x"),
    ):
        with pytest.raises(UsageError, match=words):
            do()


def test_names_of_an_export_never_meet_and_are_never_too_long(tmp_path: Path) -> None:
    files = [
        *("a/b.mp4", "a/b.srt/c.mp4", "A/B.wav", "a/B.mp4", "a/b.mp4.srt.mp4", "a/b.wav"),
        *("u\u0308.mp4", "\xfc.mp4", "x" * 251 + ".wav", "x" * 251 + ".mp4", "\u4f60" * 84 + ".wav"),
        "y" * 200 + "/" + "z" * 255,
    ]
    found = targets(files, ".TextGrid")
    assert list(found) == files
    folded = [str(place).casefold() for place in found.values()]
    assert len(set(folded)) == len(files)
    for place in found.values():
        assert not {str(parent).casefold() for parent in place.parents} & set(folded)
        assert max(len(part.encode()) for part in place.parts) <= 255
        target = tmp_path / place
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch(exist_ok=False)
    assert str(found["a/b.srt/c.mp4"]) == "a/b.srt/c.TextGrid"


def shared_lists() -> bytes:
    tree: list[object] = [0]
    for _ in range(45):
        tree = [tree, tree]
    return pickle.dumps(tree)


PICKLES = {
    "shared lists": (shared_lists(), None),
    "deep lists": (b"\x80\x02" + b"]" * 10_000 + b"a" * 9_999 + b".", "refused|no whole pickle"),
    "a far place": (b"\x80\x02]" + b"r" + struct.pack("<I", 2**31) + b".", "refused"),
    "zeros": (b"\x80\x02cbuiltins\nbytearray\n" + b"\x8a\x05\x00\x00\x00\x00\x10\x85R.", "refused"),
}


@pytest.mark.parametrize("kind", PICKLES)
def test_bombs_in_pickles(kind: str, tmp_path: Path) -> None:
    content, words = PICKLES[kind]
    (tmp_path / "x.pkl").write_bytes(content)
    began = time.process_time()
    if words is None:
        tree = load_pickle(tmp_path / "x.pkl")
        assert tree[0] is tree[1]
    else:
        with pytest.raises(UsageError, match=words):
            load_pickle(tmp_path / "x.pkl")
    assert time.process_time() - began < 5


def test_no_message_is_a_command_for_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    record = logging.LogRecord("annotator", logging.INFO, "", 0, "%s\n", ("\x1b]0;own\x07\ud800",), None)
    assert Plain("%(message)s").format(record) == "\\x1b]0;own\\x07\\ud800\n"
    say("\x1b[31mred\n\ud800", err=True)
    assert capsys.readouterr().err == "\\x1b[31mred\n\\ud800\n"
    command = [sys.executable, "-m", "annotator", "report", "no\x1b[31m\x07.parquet", "--out", "x.html"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 2 and "\x1b" not in ended.stderr and "\\x1b" in ended.stderr


def test_temporary_files_of_libraries_go_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch leaves some (test_hostile.py sees to a whole run); no folder at all is said in a sentence."""
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with own_temporary_folder():
        os.close(tempfile.mkstemp()[0])
        assert Path(tempfile.gettempdir()).parent == tmp_path and list(tmp_path.rglob("tmp*"))
    assert not list(tmp_path.iterdir()) and tempfile.gettempdir() == os.environ["TMPDIR"] == str(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("tempfile.mkdtemp", lambda **names: (_ for _ in ()).throw(OSError(30, "read-only")))
        with pytest.raises(SetupError, match="TMPDIR"), own_temporary_folder():
            pass


def test_a_user_without_a_home_has_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_CACHE_HOME", "ANNOTATE_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pathlib.Path.home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert not cache_folder().exists() and not list(cache_folder().glob("*"))
    with pytest.raises(OSError):
        cache_folder().mkdir(parents=True)


def test_json_out_of_files_has_one_kind_of_fault() -> None:
    from annotator import plain_json

    for text in ("[" * 100_000, "9" * 5000, "{", ""):
        with pytest.raises(ValueError):
            plain_json.loads(text)
    assert plain_json.loads(json.dumps({"a": [1]})) == {"a": [1]}
    assert plain_json.finite({"a": [1.0, float("nan"), (float("inf"), None)]}) == {
        "a": [1.0, None, [None, None]]
    }
