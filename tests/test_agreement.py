"""Agreement of two labellings: figures, confusion, rows that differ."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import cohen_kappa_score

from annotator.agreement import alpha, compare, confusion, kappa, write_differences
from annotator.records import UsageError
from annotator.table import write_table
from tests.tables import table_of, utterance


def test_kappa_is_that_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    for classes, n in ((2, 10), (4, 50), (7, 1000)):
        a, b = random.integers(classes, size=(2, n))
        b = np.where(random.random(n) < 0.4, a, b)
        assert kappa(confusion(a, b, classes)) == pytest.approx(cohen_kappa_score(a, b))


@pytest.mark.parametrize(
    ("one", "other", "value"),
    [("0100000010", "1110010000", 0.095), ("aabbdcccedda", "babbbccceddd", 0.692)],
)
def test_alpha_is_that_of_its_author(one: str, other: str, value: float) -> None:
    # Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), examples A and B.
    letters = sorted({*one, *other})
    a, b = (np.array([letters.index(c) for c in text]) for text in (one, other))
    assert alpha(confusion(a, b, len(letters))) == pytest.approx(value, abs=5e-4)


def test_one_label_only_has_no_kappa() -> None:
    assert kappa(np.array([[5, 0], [0, 0]])) is None and alpha(np.array([[5]])) is None
    assert kappa(np.zeros((2, 2), np.int64)) is None


def tables(folder: Path) -> tuple[Path, Path]:
    """A run's table, and corrections: one judged alike, one otherwise, one not; a speaker and a text."""
    rows = [utterance(start=float(i), end=i + 0.5, utterance_id=i, text="=so  good") for i in range(4)]
    write_table(table_of(*rows), folder / "labels.parquet", {})
    (folder / "corrections.csv").write_text(
        "file,dialogue_id,start,end,speaker,text,emotion,status\n"
        "talk.mp4,0,0,0.5,SPEAKER_00,'=so good,joy,accepted\n"
        "talk.mp4,0,1,1.5,Anna,'=so good,anger,relabelled\n"
        "talk.mp4,0,2,2.5,SPEAKER_00,so bad,,\n"
        "other.mp4,0,0,1,Ben,hm,joy,accepted\n"
    )
    return folder / "labels.parquet", folder / "corrections.csv"


def test_two_tables_are_compared(tmp_path: Path) -> None:
    found = compare(*tables(tmp_path))
    assert (found.matched, found.only, found.both, found.same) == (3, (1, 1), 2, 1)
    assert found.labels == ("anger", "joy") and found.counts.tolist() == [[0, 0], [1, 1]]
    assert found.kappa == 0.0
    rows = found.differing.select("start", "differs", "emotion", "emotion_b", "speaker_b", "text_b").rows()
    assert rows == [
        (1.0, "emotion speaker", "joy", "anger", "Anna", "=so good"),
        (2.0, "text", "joy", None, "SPEAKER_00", "so bad"),
    ]
    write_differences(found, tmp_path / "differ.csv")
    assert "'=so good" in (tmp_path / "differ.csv").read_text("utf-8")


def test_the_command_says_what_it_found(tmp_path: Path) -> None:
    paths = [str(path) for path in tables(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "annotator", "agree", *paths, "--out", str(tmp_path / "differ.csv")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "3 utterances in both, 1 only in the first, 1 only in the second" in done.stdout
    assert "Cohen's kappa         0.000" in done.stdout and "2 rows differ" in done.stdout
    assert len(pl.read_csv(tmp_path / "differ.csv")) == 2


def test_refuses_what_cannot_be_compared(tmp_path: Path) -> None:
    one, other = tables(tmp_path)
    (tmp_path / "short.csv").write_text("file,start\na,1\n")
    (tmp_path / "words.csv").write_text("file,start,end,emotion,speaker,text\na,soon,2,joy,b,c\n")
    (tmp_path / "else.csv").write_text("file,start,end,emotion,speaker,text\nother,1,2,joy,b,c\n")
    for name, says in (
        ("short.csv", "lacks end, emotion, speaker, text"),
        ("words.csv", "can't be read"),
        ("else.csv", "No utterance of"),
        ("gone.csv", "is not there"),
        ("a.txt", "neither"),
    ):
        with pytest.raises(UsageError, match=says):
            compare(one, tmp_path / name)
    with pytest.raises(UsageError, match="let it end with .csv"):
        write_differences(compare(one, other), tmp_path / "differ.txt")
