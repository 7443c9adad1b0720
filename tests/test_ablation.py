"""The ablation: what it compares, that it is done once and goes on after a kill, and what it writes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from annotator import cli
from annotator.records import Features, UsageError
from model import load_checkpoint
from tests.corpora import LABELS, synthetic_corpus, synthetic_features, synthetic_rows
from train.ablation import ablate
from train.ablation.compare import compare
from train.ablation.experiments import ALPHAS, DROPS, WINDOWS, choose, experiments, void
from train.corpus import Corpus, load_corpus, write_corpus
from train.evaluate import evaluate
from train.evaluate.bootstrap import paired_bootstrap
from train.evaluate.metrics import rates, score
from train.prepare import iemocap, meld

ROOT = Path(__file__).resolve().parents[1]
ONE = ("only-text",)  # comes with "full"


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return synthetic_corpus(tmp_path_factory.mktemp("small") / "corpus", dialogues=(12, 6, 6))


def labelled_like(folder: Path, labels: tuple[str, ...]) -> Corpus:
    """A corpus with the labels of a known one."""
    rows = synthetic_rows((20, 6, 6))
    features = synthetic_features(rows)
    emotions = [labels[i % len(labels)] for i in range(rows.height)]
    return write_corpus(folder, rows.with_columns(emotion=pl.Series(emotions)), labels, features)


def times(out: Path) -> dict[str, int]:
    return {f.parent.name: f.stat().st_mtime_ns for f in sorted(out.glob("runs/*/result.json"))}


def test_quick_writes_tables_and_curves_and_is_done_once(corpus: Corpus, tmp_path: Path) -> None:
    out = tmp_path / "out"
    rows = ablate(corpus.folder, out, quick=True, progress=False)
    table = pl.read_csv(out / "ablation.csv")
    assert table["experiment"].to_list() == [r.name for r in rows]
    assert set(table["table"]) == {"parts", "modalities", "alpha", "window", "drop", "beyond"}
    by_name = {row["experiment"]: row for row in table.iter_rows(named=True)}
    # Points of a sweep that are the reference are not trained again.
    for point in ("alpha-0.5", "window-10", "drop-message"):
        assert by_name[point]["trained_as"] == "full" and not (out / "runs" / f"{point}-0").exists()
        assert by_name[point]["weighted_f1_mean"] == by_name["full"]["weighted_f1_mean"]
        assert by_name[point]["difference"] is None
    for row in by_name.values():
        own = by_name[row["reference"]]
        if row["difference"] is not None:
            assert row["difference"] == pytest.approx(row["weighted_f1_mean"] - own["weighted_f1_mean"])
            assert row["difference_low"] <= row["difference_high"]
        assert row["seeds"] == 1 and row["weighted_f1_deviation"] == 0
        assert row["paper"] is None  # its figures are of other corpora
    text = (out / "ablation.md").read_text()
    head, oracle = text.split("## oracle_test_best")
    assert "oracle" not in head and "| full |" in oracle
    assert "| alpha-0.5 (= full) |" in text and "![Weight of the coarse task, alpha](alpha.png)" in text
    for name in ("alpha.png", "window.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    assert not list(out.rglob("*.tmp")) and not list(out.rglob("*.work"))

    # The figures are those that `annotate evaluate` gives for the kept checkpoint.
    checkpoint = out / "runs" / "only-face-0" / "model"
    assert load_checkpoint(checkpoint).config.modalities == ("face",)
    found = evaluate(corpus.folder, checkpoint, "test", tmp_path / "eval")
    for key in ("accuracy", "weighted_f1", "macro_f1"):
        assert by_name["only-face"][f"{key}_mean"] == pytest.approx(found[key])

    before = times(out)
    again = ablate(corpus.folder, out, quick=True, progress=False)
    assert times(out) == before
    assert [r.test("macro_f1") for r in again] == [r.test("macro_f1") for r in rows]
    assert (out / "ablation.md").read_text() == text
    # A corpus or settings other than those of the runs are refused, and nothing is lost.
    with pytest.raises(UsageError, match=r"runs/full-0 is of another corpus or of other settings.*--out"):
        ablate(corpus.folder, out, seeds=1, epochs=1, progress=False)
    assert times(out) == before


def test_a_killed_ablation_goes_on(corpus: Corpus, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "annotator", "ablation", str(corpus.folder), "--out", str(out)]
    command += ["--only", ",".join(ONE), "--seeds", "1", "--epochs", "3", "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    # In the middle of the second run: the first has its result, this one has begun.
    while not (out / "runs" / "only-text-0" / "model.work").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    first = times(out)
    assert sorted(first) == ["full-0"]

    rows = ablate(corpus.folder, out, seeds=1, only=ONE, epochs=3, progress=False)
    assert times(out).items() >= first.items()
    assert sorted(times(out)) == ["full-0", "only-text-0"]
    whole = ablate(corpus.folder, tmp_path / "whole", seeds=1, only=ONE, epochs=3, progress=False)
    for ours, theirs in zip(rows, whole, strict=True):
        assert [r.scores for r in ours.results] == [r.scores for r in theirs.results]
        assert all(
            (a.confusion == b.confusion).all() for a, b in zip(ours.results, theirs.results, strict=True)
        )


def test_seeds_are_added_and_damaged_results_refused(corpus: Corpus, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ablate(corpus.folder, out, seeds=1, only=["full"], epochs=1, progress=False)
    first = times(out)
    ablate(corpus.folder, out, seeds=2, only=["full"], epochs=1, progress=False)
    assert sorted(times(out)) == ["full-0", "full-1"] and times(out).items() >= first.items()
    line = pl.read_csv(out / "ablation.csv").row(0, named=True)
    files = [out / "runs" / f"full-{seed}" / "result.json" for seed in (0, 1)]
    scores = [json.loads(file.read_text())["test"]["macro_f1"] for file in files]
    assert line["seeds"] == 2 and line["macro_f1_mean"] == pytest.approx(np.mean(scores))
    assert line["macro_f1_deviation"] == pytest.approx(np.std(scores, ddof=1))
    files[1].write_text("{")
    with pytest.raises(UsageError, match=r"full-1/result.json can't be read.*Remove .*full-1"):
        ablate(corpus.folder, out, seeds=2, only=["full"], epochs=1, progress=False)
    # What is removed is made again, what is there isn't.
    shutil.rmtree(files[1].parent)
    ablate(corpus.folder, out, seeds=2, only=["full"], epochs=1, progress=False)
    assert times(out).items() >= first.items()
    assert json.loads(files[1].read_text())["test"]["macro_f1"] == scores[1]


def test_a_failing_run_does_not_cost_the_others(tmp_path: Path) -> None:
    rows = synthetic_rows((8, 4, 4))
    features = synthetic_features(rows)
    features["face"] = Features(features["face"].values, np.zeros(rows.height, np.bool_))
    write_corpus(tmp_path / "corpus", rows, LABELS, features)
    names = ["only-text", "only-face"]
    found = ablate(tmp_path / "corpus", tmp_path / "out", seeds=1, only=names, epochs=1, progress=False)
    assert [r.name for r in found] == ["only-text"]
    text = (tmp_path / "out" / "ablation.md").read_text()
    assert "- only-face, seed 0: No training utterance has face: train without it." in text
    with pytest.raises(UsageError, match="No training utterance has face"):
        ablate(tmp_path / "corpus", tmp_path / "none", seeds=1, only=["only-face"], epochs=1, progress=False)


def test_experiments_are_those_of_the_paper(tmp_path: Path) -> None:
    corpora = {kind.LABELS: labelled_like(tmp_path / kind.LABELS[0], kind.LABELS) for kind in (iemocap, meld)}
    for labels, alpha in ((iemocap.LABELS, 0.7), (meld.LABELS, 0.5)):
        known = {e.name: e for e in experiments(corpora[labels])}
        full = known["full"]
        assert full.model["alpha"] == alpha and full.published == "68.98 IEMOCAP, 62.54 MELD"
        assert [e.name for e in known.values() if e.published == "best"] == [f"alpha-{alpha}"]
        assert [e.point for e in known.values() if e.table == "alpha"] == list(ALPHAS)
        assert [e.model["window_past"] for e in known.values() if e.table == "window"] == list(WINDOWS)
        assert [e.model["graph_drop"] for e in known.values() if e.table == "drop"] == list(DROPS)
        assert known["without-audio"].modalities == ("text", "face")
        assert known["without-audio"].published == "65.32 IEMOCAP"
        assert known["only-face"].published == "67.31 IEMOCAP" and known["only-face"].model == full.model
        assert {e.preset for e in known.values() if e.table != "beyond"} == {"paper"}
        assert {e.reference for e in known.values() if e.table == "beyond"} == {"default"}
        assert len(known) == len(list(experiments(corpora[labels])))  # no name twice
    names = [e.name for e in choose(list(known.values()), ["window-3", "drop"], quick=False)]
    assert names == ["full", "window-3", *(f"drop-{d}" for d in DROPS)]
    with pytest.raises(UsageError, match=r"'windows' is neither a table nor an experiment. Tables: parts, "):
        choose(list(known.values()), ["windows"], quick=False)


def test_what_says_nothing_on_a_corpus_is_left_out(tmp_path: Path) -> None:
    rows = synthetic_rows((12, 4, 4)).with_columns(sentiment=pl.lit(None, pl.String))
    write_corpus(tmp_path / "corpus", rows, LABELS, synthetic_features(rows, ("text",)))
    corpus = load_corpus(tmp_path / "corpus")
    left = {e.name for e in experiments(corpus) if void(e, corpus)}
    assert {"no-alignment", "only-text", "alpha-0.3", "default-no-gates", "default-uncertainty"} <= left
    assert not left & {"full", "no-speaker-encoding", "window-3", "drop-edge", "default", "default-focal"}
    only = ["no-alignment", "no-speaker-encoding", "alpha-0.3"]
    ablate(corpus.folder, tmp_path / "out", seeds=1, only=only, epochs=1, progress=False)
    text = (tmp_path / "out" / "ablation.md").read_text()
    assert "- no-alignment: the corpus has text only, so it changes nothing." in text
    assert "- alpha-0.3: the training split has no sentiments, so there is no coarse task." in text
    assert sorted(times(tmp_path / "out")) == ["full-0", "no-speaker-encoding-0"]


def test_weighted_f1_is_that_of_the_evaluation() -> None:
    random = np.random.default_rng(0)
    many = random.integers(0, 9, (5, 4, 3, 3))
    expected = [[score(one).weighted_f1 for one in line] for line in many]
    np.testing.assert_allclose(rates(many).weighted_f1, expected)
    assert rates(np.zeros((3, 3), np.int64)).weighted_f1 == 0


def test_differences_are_in_pairs_and_grow_with_the_seeds_spread() -> None:
    random = np.random.default_rng(1)
    truth = random.integers(0, 3, (60, 12))

    def judged(right: float, seed: int) -> np.ndarray:
        draw = np.random.default_rng(seed)
        found = np.where(draw.random(truth.shape) < right, truth, draw.integers(0, 3, truth.shape))
        return np.array(
            [np.bincount(3 * t + f, minlength=9).reshape(3, 3) for t, f in zip(truth, found, strict=True)]
        )

    good, bad = judged(0.8, 2), judged(0.4, 3)
    ours = compare(good[None], bad[None])
    theirs = paired_bootstrap(good, bad, draws=3000)
    assert ours.mean == pytest.approx(theirs.weighted_f1)
    assert theirs.weighted_f1_interval is not None
    assert ours.low == pytest.approx(theirs.weighted_f1_interval[0], abs=0.01)
    assert ours.high == pytest.approx(theirs.weighted_f1_interval[1], abs=0.01)
    assert ours.clear and compare(bad[None], good[None]).clear
    # The same predictions: exactly no difference, since dialogues are drawn in pairs.
    itself = compare(good[None], good[None])
    assert (itself.mean, itself.low, itself.high, itself.clear) == (0, 0, 0, False)
    # A side whose seeds disagree is less sure than one whose seeds agree.
    steady = compare(np.stack([good, good, good]), bad[None])
    torn = compare(np.stack([good, bad, good]), bad[None])
    assert torn.high - torn.low > steady.high - steady.low
    with pytest.raises(ValueError, match="different dialogues"):
        compare(good[None], bad[None, 1:])


def test_the_command_says_what_is_wrong(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def main(arguments: list[str]) -> int | str | None:
        monkeypatch.setattr(sys, "argv", ["annotate", "ablation", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code

    assert main([str(tmp_path / "nothing"), "--out", str(tmp_path / "out")]) == 2
    assert "is no corpus" in capsys.readouterr().err
    assert main([str(corpus.folder), "--out", str(tmp_path / "out"), "--seeds", "0"]) == 2
    assert "'--seeds'" in capsys.readouterr().err
    assert main([str(corpus.folder), "--out", str(tmp_path / "out"), "--device", "abacus"]) == 2
    assert "'abacus' is not one of" in capsys.readouterr().err
    rows = synthetic_rows((4, 2, 0))
    write_corpus(tmp_path / "untested", rows, LABELS, synthetic_features(rows, ("text",)))
    assert main([str(tmp_path / "untested"), "--out", str(tmp_path / "out")]) == 2
    assert "has no test split" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("")
    assert main([str(corpus.folder), "--out", str(tmp_path / "file"), "--quick"]) == 1
    assert "file can't be written" in capsys.readouterr().err


def test_modules_of_the_current_folder_are_not_taken_for_ours(tmp_path: Path) -> None:
    for name in ("train", "model"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')")
    command = [sys.executable, "-m", "annotator", "ablation", "nothing", "--out", "out"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 2 and "nothing is no corpus" in ended.stderr, ended.stderr
