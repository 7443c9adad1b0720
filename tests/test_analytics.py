"""The scripts and the notebook of examples/analytics answer what they say they do."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from annotator.agreement import compare
from annotator.read import checked
from annotator.report.patterns import follows
from annotator.table import write_table
from examples.analytics.emotion_by_minute import by_minute
from examples.analytics.many_runs import compared, tables
from examples.analytics.replies import matrix
from examples.analytics.two_annotators import of_labels

from .tables import LABELS, table_of, utterance

ANALYTICS = Path(__file__).resolve().parents[1] / "examples" / "analytics"


def joy(p: float, **given: Any) -> dict[str, Any]:
    """An utterance with this probability of joy, the rest neutral."""
    none = {f"p_{label}": 0.0 for label in LABELS}
    emotion = "joy" if p > 0.5 else "neutral"
    return utterance(
        **none | {"emotion": emotion, "p_joy": p, "p_neutral": 1 - p, "confidence": max(p, 1 - p)} | given
    )


def test_a_minute_counts_softly_and_is_unsure_of_few_utterances() -> None:
    rows = [joy(0.9, start=1.0 * i, end=i + 0.5) for i in range(10)] + [
        joy(0.9, start=61.0, end=61.5),
        joy(0.5, start=62.0, end=63.0),
    ]
    found = by_minute(checked(table_of(*rows), "labels"), "joy")
    assert found["minute"].to_list() == [0, 1] and found["utterances"].to_list() == [10, 2]
    assert found["share"].to_list() == pytest.approx([0.9, 0.7])
    # 9 of 10: the interval as computed by hand from Wilson's formula with z = 1.645.
    assert found["low"][0] == pytest.approx(0.6518, abs=1e-3)
    assert found["high"][0] == pytest.approx(0.9773, abs=1e-3)
    widths = (found["high"] - found["low"]).to_list()
    assert widths[1] > 2 * widths[0] and found["low"].min() > 0 and found["high"].max() < 1  # type: ignore[operator]


def test_the_interval_is_that_of_resampling_utterances_and_their_labels() -> None:
    p = np.random.default_rng(0).uniform(0, 1, 60)
    [row] = by_minute(checked(table_of(*(joy(float(x)) for x in p)), "labels"), "joy").to_dicts()
    random = np.random.default_rng(1)
    drawn = random.uniform(size=(4000, 60)) < random.choice(p, (4000, 60))
    low, high = np.quantile(drawn.mean(1), (0.05, 0.95))
    assert row["low"] == pytest.approx(low, abs=0.03) and row["high"] == pytest.approx(high, abs=0.03)


def test_a_minute_without_evidence_has_no_share() -> None:
    rows = [
        joy(0.9),
        joy(0.1, quality=["no_evidence"]),
        joy(0.2, start=70.0, end=71.0, quality=["no_evidence"]),
    ]
    found = by_minute(checked(table_of(*rows), "labels"), "joy")
    assert found["utterances"].to_list() == [2, 1]
    assert found["share"].to_list() == [pytest.approx(0.9), None]
    assert found["low"][1] is None and found["high"][1] is None


def test_many_runs_of_different_labels_are_one_query(tmp_path: Path) -> None:
    folder = tmp_path / "runs [1]"
    (folder / "a.work" / "parts").mkdir(parents=True)
    first = table_of(joy(0.9), joy(0.1, file="b.mp4", start=60.0, end=90.0))
    write_table(first, folder / "a.parquet", {})
    write_table(first, folder / "a.work" / "parts" / "x.parquet", {})
    write_table(first.select("file"), folder / "a.recordings.parquet", {})
    (folder / "a.failures.csv").write_text("file,stage,error,message,attempts\n")
    (folder / "empty.csv").write_bytes(b"")
    other = first.drop("p_disgust").with_columns(p_calm=pl.lit(0.25), text=pl.lit('=1, "two"'))
    write_table(
        other.select(*first.columns[:16], "p_joy", "p_calm", *first.columns[23:]), folder / "b.csv", {}
    )
    assert [path.name for path in tables(folder)] == ["a.parquet", "b.csv"]
    found = compared(tables(folder))
    assert [Path(run).name for run in found["run"]] == ["a.parquet", "b.csv"]
    assert found["recordings"].to_list() == [2, 2] and found["utterances"].to_list() == [2, 2]
    assert found["speech_min"].to_list() == [0.5, 0.5]
    assert found["p_joy"].to_list() == pytest.approx([0.5, 0.5])
    assert found["p_calm"].to_list() == [None, 0.25] and found["p_disgust"].to_list() == [0.0, None]
    assert "p_positive" not in found.columns
    assert compared(tables(folder)[:1])["run"].len() == 1


def test_replies_are_counted_beside_chance() -> None:
    random = np.random.default_rng(0)  # A is as chance will have it, and B answers in kind
    emotions = [str(e) for e in random.choice(["anger", "joy", "neutral"], 80) for _ in range(2)]
    rows = [
        utterance(emotion=emotion, speaker="AB"[i % 2], start=2.0 * i, end=2.0 * i + 1)
        for i, emotion in enumerate(emotions)
    ]
    found, _ = follows(checked(table_of(*rows), "labels"), LABELS)
    table = matrix(found["another speaker"], list(LABELS))
    assert table.columns == ["emotion", *LABELS]
    cell = table.filter(emotion="anger")["anger"][0]
    assert int(cell.split(" ")[0]) >= emotions.count("anger") / 2 and cell.endswith(" more")
    assert table.filter(emotion="fear")["joy"][0] == "0 (0.0)"


def test_shuffles_keep_the_mood_of_each_conversation() -> None:
    """Angry talks beside merry ones: anger follows anger more often than over all, and not within a talk."""
    random = np.random.default_rng(0)
    rows = []
    for talk in range(20):
        for i in range(20):
            emotion = str(random.choice(["anger", "joy"], p=[0.8, 0.2] if talk % 2 else [0.2, 0.8]))
            rows.append(
                utterance(emotion=emotion, speaker="AB"[i % 2], dialogue_id=talk, start=1000.0 * talk + i,
                          end=1000.0 * talk + i + 0.5)
            )  # fmt: skip
    found, _ = follows(checked(table_of(*rows), "labels"), LABELS)
    assert not np.any([f.more for f in found.values()])


def test_agreement_is_told_for_each_emotion(tmp_path: Path) -> None:
    def labelled(name: str, *emotions: str | None) -> Path:
        rows = [
            {"file": "a.mp4", "start": float(i), "end": i + 0.5, "speaker": "A", "text": None, "emotion": e}
            for i, e in enumerate(emotions)
        ]
        pl.DataFrame(rows, schema_overrides={"text": pl.String}).write_csv(tmp_path / name)
        return tmp_path / name

    one = labelled("one.csv", "joy", "joy", "anger", "neutral", "joy")
    other = labelled("other.csv", "joy", "anger", "anger", None, "joy")
    found = of_labels(compare(one, other))
    assert found.rows() == [("anger", 1, 2, 1, pytest.approx(2 / 3)), ("joy", 3, 2, 2, pytest.approx(0.8))]


@pytest.mark.parametrize(
    ("script", "arguments", "said"),
    [
        ("emotion_by_minute.py", ["labels.parquet", "joy"], "minute"),
        ("many_runs.py", ["."], "labels.parquet"),
        ("replies.py", ["labels.csv"], "after another speaker"),
        ("two_annotators.py", ["labels.parquet", "labels.csv"], "3 utterances in both files"),
    ],
)
def test_scripts_print_a_table_or_say_what_is_wrong(
    script: str,
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def ran(*given: str) -> None:
        monkeypatch.setattr(sys, "argv", [script, *given])
        runpy.run_path(str(ANALYTICS / script), run_name="__main__")

    monkeypatch.chdir(tmp_path)
    # A SystemExit with a text is what Python prints to standard error, with exit code 1 and no traceback.
    with pytest.raises(SystemExit, match="is not there|there is no table"):
        ran(*arguments)
    with pytest.raises(SystemExit, match="^name "):
        ran()
    table = table_of(joy(0.9), joy(0.3, start=3.0, end=4.0, speaker="B"), joy(0.8, start=5.0, end=6.0))
    write_table(table, tmp_path / "labels.parquet", {})
    write_table(table, tmp_path / "labels.csv", {})
    ran(*arguments)
    printed = capsys.readouterr().out
    assert said in printed and "┌" in printed


@pytest.mark.slow
def test_the_notebook_runs() -> None:
    """In a kernel of its own: `run()` starts its processes there without a line of `__main__`."""
    notebook = ANALYTICS / "analytics.ipynb"
    command = [str(Path(sys.executable).parent / "jupyter-execute"), "--timeout=600", str(notebook)]
    # A run in this process has set it, and a kernel finds the scripts beside its notebook without it only.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    ended = subprocess.run(
        command, cwd=ANALYTICS, env=environment, capture_output=True, text=True, timeout=900
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
