"""Metrics against published figures and plain definitions; evaluation of a checkpoint, files and faults."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.image import imread

from annotator.records import Conversation, Features, SetupError, UsageError
from annotator.settings import RunSettings
from model import Checkpoint, ModelConfig, Network, save_checkpoint
from tests.corpora import LABELS, WIDTHS, synthetic_corpus, synthetic_features, synthetic_rows
from train.corpus import Corpus, write_corpus
from train.evaluate import evaluate, probabilities, summarise
from train.evaluate.asrun import compared, evaluate_as_run, written
from train.evaluate.bootstrap import Comparison, intervals, paired_bootstrap
from train.evaluate.calibration import calibrate, fit_temperature, plausible_from, subsets
from train.evaluate.figures import draw_confusion, draw_reliability
from train.evaluate.logits import hide, predict_logits, restrict
from train.evaluate.metrics import (
    ECE_BINS,
    Reliability,
    confusion_matrix,
    rates,
    reliability,
    score,
    weighted_mean,
)
from train.evaluate.report import difference, headline, write_report


def test_weighted_f1_of_the_published_scores() -> None:
    # Per-class F1 on IEMOCAP in label order, and the supports of its test session.
    f1 = [68.9, 78.1, 66.5, 58.3, 79.7, 62.0]
    assert round(float(weighted_mean(f1, [144, 245, 384, 170, 299, 381])), 2) == 68.98


def test_scores_equal_their_definitions() -> None:
    random = np.random.default_rng(0)
    truth, found = random.integers(-1, 4, 500), random.integers(0, 4, 500)
    known = truth >= 0
    confusion = confusion_matrix(truth, found, 4)
    of = score(confusion)
    assert of.n == known.sum() == confusion.sum()
    assert of.accuracy == pytest.approx((truth == found)[known].mean())
    f1, recalls, supports = [], [], []
    for label, one in enumerate(of.per_class):
        hits = int((known & (truth == label) & (found == label)).sum())
        claimed, there = int((known & (found == label)).sum()), int((truth == label).sum())
        assert (one.precision, one.recall, one.support) == pytest.approx(
            (hits / claimed, hits / there, there)
        )
        f1.append(2 * one.precision * one.recall / (one.precision + one.recall))
        recalls.append(one.recall)
        supports.append(there)
    assert [one.f1 for one in of.per_class] == pytest.approx(f1)
    assert of.macro_f1 == pytest.approx(np.mean(f1))
    assert of.unweighted_average_recall == pytest.approx(np.mean(recalls))
    assert of.weighted_f1 == pytest.approx(np.dot(f1, supports) / sum(supports))


def test_classes_that_never_occur_count_for_nothing() -> None:
    of = score(np.array([[3, 1, 0], [0, 0, 0], [0, 0, 0]]))
    assert of.unweighted_average_recall == 0.75
    assert of.macro_f1 == pytest.approx((6 / 7 + 0) / 2)  # the second was predicted once
    assert of.per_class[2].f1 == 0.0
    with pytest.raises(ValueError, match="no labelled utterance"):
        score(np.zeros((2, 2), np.int64))


def test_calibration_error() -> None:
    # Ten at 0.9 of which seven are right, ten at 0.6 of which six are.
    probabilities = np.array([[0.9, 0.1]] * 10 + [[0.6, 0.4]] * 10)
    truth = np.array([0] * 7 + [1] * 3 + [0] * 6 + [1] * 4)
    found = reliability(probabilities, truth)
    assert found.ece == pytest.approx(0.5 * 0.2 + 0.5 * 0.0)
    assert found.count.sum() == 20 and len(found.count) == 15
    sure = reliability(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([0, -1]))
    assert sure.ece == 0.0 and sure.count[-1] == 1


def test_fitted_temperature_is_the_true_one() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=(20_000, 5)) * 2
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    target = (random.random(len(chances))[:, None] > chances.cumsum(axis=1)).sum(axis=1)
    assert fit_temperature(logits, target) == pytest.approx(1.0, abs=0.05)
    assert fit_temperature(3 * logits, target) == pytest.approx(3.0, abs=0.15)
    assert fit_temperature(logits[:10], target[:10]) is None


def test_confidence_bins_hold_their_upper_border() -> None:
    sure = np.array([0.4, 0.41, 0.41, 0.42, 1.0])
    found = reliability(np.stack([sure, 1 - sure, 0 * sure], axis=1)[:, [1, 0, 2]], np.array([0, 0, 1, 0, 1]))
    # 0.4 is the border of the sixth and seventh of fifteen; the larger of a row's two is 0.6, 0.59, 0.58 ...
    assert {int(k): int(found.count[k]) for k in np.flatnonzero(found.count)} == {8: 4, 14: 1}
    assert found.confidence[8] == pytest.approx((0.6 + 0.59 + 0.59 + 0.58) / 4)
    assert (found.accuracy[8], found.accuracy[14], found.confidence[14]) == (0.75, 1.0, 1.0)
    assert found.ece == pytest.approx(4 / 5 * abs(0.75 - 0.59)), "bins count by what they hold"
    border = reliability(np.array([[0.8, 0.2], [0.8000001, 0.2]]), np.array([0, 0]))
    assert np.flatnonzero(border.count).tolist() == [11, 12]


def test_one_utterance_is_enough_for_scores() -> None:
    of = score(np.array([[1, 0], [0, 0]]))
    assert (of.accuracy, of.weighted_f1, of.macro_f1, of.unweighted_average_recall) == (1, 1, 1, 1)
    assert (of.per_class[0].precision, of.per_class[0].recall, of.per_class[0].f1) == (1, 1, 1)
    assert of.per_class[1].precision == of.per_class[1].recall == of.per_class[1].support == 0
    assert float(weighted_mean([0.5, 1.0], [0, 0])) == 0.0
    assert float(weighted_mean([0.5, 1.0], [0.25, 0.75])) == 0.875


def test_a_temperature_needs_twenty_rows_and_stays_within_its_range() -> None:
    target = np.arange(20) % 2
    right, wrong = np.eye(2)[target] / 2, np.eye(2)[1 - target] / 2
    assert fit_temperature(right[1:], target[1:]) is None
    assert fit_temperature(right, np.where(np.arange(20) < 1, -1, target)) is None
    assert fit_temperature(right, target) == pytest.approx(0.05, rel=0.01)  # all right: as sure as can be
    assert fit_temperature(wrong, target) == pytest.approx(20.0, rel=0.01)


def test_the_least_plausible_probability_is_the_tenth_smallest_of_a_hundred() -> None:
    """(n + 1) / 10 from below, rounded down, so that no fewer than nine in ten new ones are at least it."""
    for n, place in ((20, 2), (28, 2), (29, 3), (99, 10), (100, 10)):
        of_true = np.random.default_rng(n).permutation(np.arange(1, n + 1)) / (n + 1)
        found = np.stack([of_true, 1 - of_true], axis=1)
        assert plausible_from(found, np.zeros(n, np.int64)) == pytest.approx(place / (n + 1))


def test_few_dialogues_make_no_interval() -> None:
    """Five utterances in three dialogues, all right, are no 100.0 (100.0 to 100.0)."""
    right = np.stack([confusion_matrix(np.array([0, 1]), np.array([0, 1]), 3)] * 9)
    found = intervals(right)
    assert found.dialogues == 9 and found.draws == 0
    assert set(found.scores.values()) == {None} and found.f1 == (None, None, None)
    compared = paired_bootstrap(right, right)
    assert (compared.weighted_f1, compared.weighted_f1_interval, compared.p_value) == (0.0, None, None)
    enough = np.concatenate([right, right[:1]])
    assert intervals(enough).scores["accuracy"] == (1.0, 1.0)
    assert paired_bootstrap(enough, enough).accuracy_interval == (0.0, 0.0)


def test_bootstrap() -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 3, (60, 12))

    def matrices(wrong: float) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
        found = np.where(random.random(truth.shape) < wrong, (truth + 1) % 3, truth)
        return np.stack([confusion_matrix(t, f, 3) for t, f in zip(truth, found, strict=True)])

    good, like, bad = matrices(0.2), matrices(0.2), matrices(0.4)
    better = paired_bootstrap(good, bad, draws=2000)
    assert better.p_value is not None and better.p_value < 0.01
    assert better.weighted_f1_interval is not None and better.weighted_f1_interval[0] > 0.1
    assert better.accuracy == pytest.approx(score(good.sum(0)).accuracy - score(bad.sum(0)).accuracy)
    assert better.weighted_f1 == pytest.approx(score(good.sum(0)).weighted_f1 - score(bad.sum(0)).weighted_f1)
    same = paired_bootstrap(good, like, draws=2000)
    assert same.weighted_f1_interval is not None and same.p_value is not None and same.p_value > 0.05
    assert same.weighted_f1_interval[0] < 0 < same.weighted_f1_interval[1]
    assert paired_bootstrap(good, good, draws=100).p_value == 1.0
    assert paired_bootstrap(bad, good, draws=2000).weighted_f1 == pytest.approx(-better.weighted_f1)
    assert better.p_value == 2 / 2000, "all draws are on one side: no surer than they can tell"
    assert better.accuracy_interval is not None and better.accuracy_interval[0] > 0.1
    assert (better.draws, intervals(good).draws, paired_bootstrap(good, bad).draws) == (2000, 2000, 10_000)
    with pytest.raises(ValueError, match="different dialogues"):
        paired_bootstrap(good, bad[1:])
    with pytest.raises(ValueError, match="different dialogues"):
        paired_bootstrap(good[:0], bad[:0])


def test_an_interval_is_as_wide_as_theory_says() -> None:
    """A hundred dialogues of one utterance, half of them right: 1.96 times 5 % to either side."""
    wrong = np.arange(100) % 2
    one = np.stack([confusion_matrix(np.array([0]), np.array([w]), 2) for w in wrong])
    found = intervals(one).scores["accuracy"]
    assert found == pytest.approx((0.402, 0.598), abs=0.012)
    assert intervals(one).scores["accuracy"] == found, "the same draws each time"
    assert intervals(one, seed=1) != intervals(one)
    other = one[::-1]  # right where the first is wrong
    of = paired_bootstrap(one, other)
    assert of.accuracy == 0 and of.accuracy_interval == pytest.approx((-0.196, 0.196), abs=0.02)
    assert of.p_value is not None and of.p_value > 0.9


def test_a_figure_and_its_interval_are_of_one_definition() -> None:
    """Also where some utterances got no label: those are wrong, and no class of their own."""
    random = np.random.default_rng(0)
    unlike = random.integers(0, 5, (30, 4, 5))
    unlike[:, 3, :] = 0  # a class that is only ever predicted
    for confusions in (np.stack([unlike[0]] * 12), unlike):
        of, found = score(confusions.sum(axis=0)), intervals(confusions, draws=500)
        assert len(of.per_class) == len(found.f1) == 4
        f1 = [one.f1 for one in of.per_class]
        assert of.macro_f1 == pytest.approx(np.mean(f1)) and f1[3] == 0
        assert of.accuracy < 0.5
        for name, pair in found.scores.items():
            assert pair is not None
            assert pair[0] - 1e-9 <= getattr(of, name) <= pair[1] + 1e-9, name
        for value, pair in zip(f1, found.f1, strict=True):
            assert pair is not None and pair[0] - 1e-9 <= value <= pair[1] + 1e-9
    np.testing.assert_allclose(rates(unlike).macro_f1, [score(one).macro_f1 for one in unlike])


def test_what_a_run_says_is_scored_as_everything_else() -> None:
    """Twelve dialogues all alike: an interval is its figure. The third label is only ever predicted."""
    said, heard = ("calm", "calm", "glad", "glad"), ("calm", "upset", "glad", None)
    gold = pl.DataFrame(
        [
            {"dialogue_id": f"d{d}", "recording": f"{d}.wav", "start": float(u), "end": u + 1.0}
            | {"speaker": "A", "emotion": emotion}
            for d in range(12)
            for u, emotion in enumerate(said)
        ]
    )
    run = pl.DataFrame(
        [
            {"file": f"{d}.wav", "start": float(u), "end": u + 1.0, "speaker": "SPEAKER_00"}
            | {"text_source": "sidecar", **{f"p_{label}": float(label == emotion) for label in LABELS}}
            for d in range(12)
            for u, emotion in enumerate(heard)
            if emotion is not None
        ]
    )
    found = compared(gold, run, {f"{d}.wav": f"{d}.wav" for d in range(12)}, LABELS)
    assert (found["n"], found["dialogues"], found["found"]) == (48, 12, 0.75)
    assert found["accuracy"] == 0.5 and found["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)
    for name, pair in found["intervals"].items():
        assert pair == pytest.approx([found[name]] * 2), name
    assert found["weighted_f1"] == pytest.approx(2 / 3)
    assert (found["speaker_accuracy"], found["text_sources"]) == (1.0, {"sidecar": 36})
    assert list(found["intervals"]) == ["accuracy", "weighted_f1", "macro_f1"]
    assert written(found) == (
        "## As a run labels the recordings\n\n"
        "With the speakers, words and utterances that the tool finds by itself: its true figure. Each of 48 "
        "labelled utterances in 12 dialogues is held against what the run says over its time.\n\n"
        "|  | figure | from | to |\n| --- | ---: | ---: | ---: |\n"
        "| accuracy | 50.00 | 50.00 | 50.00 |\n"
        "| weighted F1 | 66.67 | 66.67 | 66.67 |\n"
        "| macro F1 | 44.44 | 44.44 | 44.44 |\n\n"
        "75.00 % of the labelled utterances were found; the speaker of 100.00 % of those is right. "
        "Text: 36 rows sidecar.\n"
    )
    with pytest.raises(UsageError, match="The model doesn't know proud: fine-tune it on this corpus first"):
        compared(gold, run, {f"{d}.wav": f"{d}.wav" for d in range(12)}, (*LABELS, "proud"))


def test_each_label_is_held_against_what_the_run_says_over_its_time() -> None:
    """Two people under the run's own names, one of whom it once mistakes for the other."""
    gold = pl.DataFrame(
        {
            "dialogue_id": ["d"] * 5,
            "recording": ["talk", "talk", "talk", "talk", "other"],
            "start": [0.0, 4.0, 8.0, 12.0, 0.0],
            "end": [4.0, 8.0, 12.0, 16.0, 4.0],
            "speaker": ["Ann", "Ben", "Ann", "Ann", "Ann"],
            "emotion": ["calm", "glad", "upset", "calm", "calm"],
        }
    )
    rows = [(0.0, 3.0, "S0", "calm"), (3.0, 4.0, "S1", "glad"), (4.0, 6.0, "S1", "glad")]
    rows += [
        (6.0, 8.0, "S1", "glad"),
        (8.0, 9.0, "S0", "calm"),
        (9.0, 12.0, "S1", "upset"),
        (16.0, 17.0, "S0", "calm"),
    ]
    run = pl.DataFrame(
        [
            {"file": "talk.wav", "start": a, "end": b, "speaker": who, "text_source": None}
            | {f"p_{label}": float(label == emotion) for label in LABELS}
            for a, b, who, emotion in rows
        ]
    )
    found = compared(gold, run, {"talk": "talk.wav", "other": "other.wav"}, LABELS)
    assert (found["n"], found["dialogues"], found["accuracy"], found["found"]) == (5, 1, 0.6, 0.6)
    assert found["speaker_accuracy"] == pytest.approx(2 / 3)
    assert found["intervals"] == {"accuracy": None, "weighted_f1": None, "macro_f1": None}
    assert found["text_sources"] == {"None": 7}
    assert "held against what the run says over its time. Too few dialogues for an interval.\n" in written(
        found
    )
    assert "| accuracy | 60.00 | – | – |" in written(found)
    silent = compared(gold, run.clear(), {"talk": "talk.wav", "other": "other.wav"}, LABELS)
    assert (silent["accuracy"], silent["found"], silent["speaker_accuracy"]) == (0.0, 0.0, None)
    assert "0.00 % of the labelled utterances were found. Text: ." in written(silent)


def test_the_report_in_full() -> None:
    scores = {
        "accuracy": 0.5,
        "weighted_f1": 0.25,
        "macro_f1": 0.2,
        "unweighted_average_recall": 0.4,
        "ece": 0.1,
    }
    per_class = {"a|b": {"precision": 0.75, "recall": 0.6, "f1": 2 / 3, "support": 5}}
    sets = {"coverage": 0.9, "plausible": 1.5}
    metrics: dict[str, Any] = scores | {
        "n": 5,
        "dialogues": 3,
        "model": "trial 1",
        "corpus": "talks",
        "split": "test",
    }
    metrics |= {
        "per_class": per_class,
        "subsets": {"text+audio": scores | sets, "text": scores | dict.fromkeys(sets)},
    }
    few = Comparison(0.125, None, -0.0625, None, None, 0)
    row = "50.00 | 25.00 | 20.00 | 40.00 | 10.00 |"
    head = "accuracy | weighted F1 | macro F1 | average recall | calibration error |"
    line = "| --- | ---: | ---: | ---: | ---: | ---: |"
    assert write_report(metrics, scores, {0.5: scores}, ("trial 2", few)) == "\n\n".join(
        [
            "# trial 1 on talks, test",
            "5 labelled utterances in 3 dialogues; figures in percent. Accuracy is what papers on emotion in "
            "conversation call weighted accuracy. The calibration error is the expected one over 15 bins of "
            "equal width.",
            f"|  | {head}\n{line}\n| emotion | {row}\n| sentiment | {row}",
            "## Each emotion",
            "| label | precision | recall | F1 | utterances |\n| --- | ---: | ---: | ---: | ---: |\n"
            r"| a\|b | 75.00 | 60.00 | 66.67 | 5 |",
            "![Confusion matrix](confusion.png)",
            "![Reliability diagram](reliability.png)",
            "## With some modalities only",
            "Coverage: the share of utterances whose label is among the plausible ones, nine in ten if all "
            "is well; and how many those are.",
            f"| modalities | {head} coverage | plausible |\n{line} ---: | ---: |\n"
            f"| text+audio | {row} 90.00 | 1.50 |\n| text | {row} – | – |",
            "## With modalities missing at random",
            "This share of what was there is hidden, as GCNet does it: one modality of each utterance, drawn "
            "at random, always stays, so of three at most two thirds are hidden.",
            f"| rate | {head}\n{line}\n| 0.5 | {row}",
            "## Against trial 2",
            "Differences in points; too few dialogues for an interval (10 at least).",
            "|  | difference | from | to |\n| --- | ---: | ---: | ---: |\n"
            "| accuracy | 12.50 | – | – |\n| weighted F1 | -6.25 | – | – |\n",
        ]
    )
    many = Comparison(0.125, (0.0, 0.25), -0.0625, (-0.125, 0.0), 0.04, 2000)
    assert write_report(metrics, None, {}, ("trial 2", many)).endswith(
        "| text | " + row + " – | – |\n\n## Against trial 2\n\n"
        "Paired bootstrap over dialogues, 2000 draws; differences in points, 95 % interval.\n\n"
        "|  | difference | from | to |\n| --- | ---: | ---: | ---: |\n"
        "| accuracy | 12.50 | 0.00 | 25.00 |\n| weighted F1 | -6.25 | -12.50 | 0.00 |\n\n"
        "p = 0.0400 that weighted F1 doesn't differ (two-sided).\n"
    )
    assert headline(metrics | {"as_run": {"n": 4, "dialogues": 2, "weighted_f1": 0.123}}) == [
        "test: 5 labelled utterances in 3 dialogues; in percent",
        "accuracy             50.0",
        "weighted F1          25.0",
        "macro F1             20.0",
        "average recall       40.0",
        "calibration error    10.0",
        "as a run labels the recordings (4 labelled utterances in 2 dialogues): weighted F1 12.3",
    ]
    assert difference(0.012, (-0.01, 0.034)) == "+1.2 (-1.0 to +3.4)"
    assert difference(-0.012, None) == "-1.2 (too few dialogues for an interval)"


def test_summary_over_seeds() -> None:
    keys = ("accuracy", "weighted_f1", "macro_f1", "unweighted_average_recall", "ece")
    found = summarise([dict.fromkeys(keys, value) for value in (0.5, 0.6, 0.7)])
    assert found["weighted_f1"] == pytest.approx((0.6, 0.1))
    assert summarise([dict.fromkeys(keys, 0.5)])["ece"] == (0.5, 0.0)


def conversation(n: int, seed: int = 0) -> Conversation:
    random = np.random.default_rng(seed)
    return Conversation(
        speakers=random.integers(0, 2, n),
        features={
            m: Features(random.normal(size=(n, d)).astype(np.float32), random.random(n) < 0.8)
            for m, d in WIDTHS.items()
        },
    )


def test_subsets_and_hiding() -> None:
    assert ["+".join(s) for s in subsets(("text", "audio", "face"))] == [
        "text+audio+face", "text+audio", "text+face", "audio+face", "text", "audio", "face",
    ]  # fmt: skip
    whole = conversation(2000)
    only = restrict(whole, ("audio",))
    assert not only.features["text"].present.any()
    assert np.array_equal(only.features["audio"].present, whole.features["audio"].present)
    before = np.stack([f.present for f in whole.features.values()], axis=1)
    for rate in (0.0, 0.5, 1.0):
        hidden = hide(whole, rate, np.random.default_rng(1))
        after = np.stack([f.present for f in hidden.features.values()], axis=1)
        assert not (after & ~before).any()
        assert np.array_equal(after.any(axis=1), before.any(axis=1))  # one always stays
        if rate == 0.0:
            assert np.array_equal(after, before)
        if rate == 1.0:
            assert after.sum(axis=1).max() == 1
    assert np.array_equal(hide(whole, 0.3, np.random.default_rng(1)).features["text"].present,
                          hide(whole, 0.3, np.random.default_rng(1)).features["text"].present)  # fmt: skip


@pytest.mark.parametrize(("rate", "hidden"), [(0.1, 0.1), (0.3, 0.3), (0.6, 0.6), (0.7, 2 / 3)])
def test_the_share_that_is_hidden_is_the_one_asked_for(rate: float, hidden: float) -> None:
    """As in GCNet's protocol, where the rate is of all modalities of all utterances."""
    whole = conversation(20_000)
    there = np.ones(20_000, np.bool_)
    every = {m: Features(f.values, there) for m, f in whole.features.items()}
    found = hide(Conversation(whole.speakers, every), rate, np.random.default_rng(0))
    kept = np.stack([f.present for f in found.features.values()], axis=1)
    assert 1 - kept.mean() == pytest.approx(hidden, abs=0.01)
    assert kept.any(axis=1).all()
    np.testing.assert_allclose(kept.mean(axis=0), 1 - hidden, atol=0.015)  # each as often as the others


def network(modalities: tuple[str, ...] = ("text", "audio", "face"), seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return Network(ModelConfig.default({m: WIDTHS[m] for m in modalities}, len(LABELS)))


def test_logits_keep_the_order_and_the_mode() -> None:
    net = network().train()
    many = [conversation(n, seed=n) for n in (5, 1, 40, 7, *range(2, 40))]
    found = predict_logits(net, many)
    assert net.training
    assert found.fine.shape == (sum(len(c) for c in many), 3) and found.coarse.shape[1] == 3
    alone = predict_logits(net, [many[2]])
    np.testing.assert_allclose(found.fine[6:46], alone.fine, atol=1e-5)
    expected = np.stack([f.present for f in many[2].features.values()], axis=1)
    assert np.array_equal(found.present[6:46], expected)


def test_a_subset_is_calibrated_on_utterances_that_have_all_of_it(tmp_path: Path) -> None:
    corpus = synthetic_corpus(tmp_path / "corpus", (2, 40, 2), presence=0.5)
    net, validation = network(), corpus.conversations("validation")
    logits = predict_logits(net, [c.conversation for c in validation], ("audio", "face"))
    fine = np.concatenate([c.fine for c in validation])
    there = logits.present[:, 1:]
    expected, other = (fit_temperature(logits.fine[k], fine[k]) for k in (there.all(1), there.any(1)))
    calibration = calibrate(net, validation, {})
    found = calibration["audio+face"]["fine"]["temperature"]
    assert found == pytest.approx(expected) and found != pytest.approx(other)
    coarse = np.concatenate([c.coarse for c in validation])
    assert calibration["audio+face"]["coarse"] == {
        "temperature": pytest.approx(fit_temperature(logits.coarse[there.all(1)], coarse[there.all(1)])),
        "bias": None,
    }
    assert calibration["audio+face"]["fine"]["bias"] is None and calibration[""] == {}
    assert list(calibration) == [
        "text+audio+face", "text+audio", "text+face", "audio+face", "text", "audio", "face", "",
    ]  # fmt: skip
    # What is plausible goes by the probabilities after the temperature, of the same utterances.
    scaled = np.exp(logits.fine[there.all(1)] / found)
    of_all = scaled / scaled.sum(1, keepdims=True)
    least = calibration["audio+face"]["fine"]["plausible_from"]
    assert least == pytest.approx(plausible_from(of_all, fine[there.all(1)]), rel=1e-4)


def test_of_nothing_the_prior_is_what_is_told_and_what_is_plausible(tmp_path: Path) -> None:
    corpus = synthetic_corpus(tmp_path / "corpus", (2, 40, 2))
    validation = corpus.conversations("validation")
    prior = {"fine": [0.5, 0.5, 0.0], "coarse": [0.25, 0.25, 0.5]}
    found = calibrate(network(), validation, prior)[""]
    assert found["coarse"] == {"temperature": 1e6, "bias": pytest.approx(np.log([0.25, 0.25, 0.5]).tolist())}
    assert found["fine"]["bias"] == pytest.approx(np.log([0.5, 0.5, 1e-6]).tolist())
    fine = np.concatenate([c.fine for c in validation])
    assert found["fine"]["plausible_from"] == plausible_from(
        np.tile(np.array(prior["fine"], np.float32), (len(fine), 1)), fine
    )
    few = calibrate(network(), validation[:1], prior)
    assert set(few) == {""} and "plausible_from" not in few[""]["fine"]


def checkpoint_of(corpus: Corpus, folder: Path, seed: int = 0, **changes: object) -> Path:
    net = network(seed=seed)
    validation = corpus.conversations("validation")
    prior = {"fine": [0.5, 0.3, 0.2], "coarse": [0.2, 0.5, 0.3]}
    fields = {
        "labels": LABELS,
        "name": "trial",
        "version": "1",
        "encoders": dict(corpus.header.encoders),
        "calibration": calibrate(net, validation, prior),
        "prior": prior,
        **changes,
    }
    save_checkpoint(folder, Checkpoint(network=net, **fields))  # type: ignore[arg-type]
    return folder


def test_evaluate_writes_what_the_contract_says(tmp_path: Path) -> None:
    corpus = synthetic_corpus(tmp_path / "corpus")
    model = checkpoint_of(corpus, tmp_path / "model")
    other = checkpoint_of(corpus, tmp_path / "other", seed=1, labels=LABELS[::-1])
    out = tmp_path / "eval"
    returned = evaluate(tmp_path / "corpus", model, "test", out, against=other, missing_rates=(0.0, 0.5))
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics == json.loads(json.dumps(returned))
    assert set(metrics) == {
        "accuracy", "weighted_f1", "macro_f1", "unweighted_average_recall", "ece", "n", "dialogues",
        "per_class", "coverage", "coverage_by_label", "plausible", "plausible_n",
        "subsets", "model", "corpus", "split",
    }  # fmt: skip
    assert (metrics["model"], metrics["corpus"], metrics["split"]) == ("trial 1", "corpus", "test")
    assert list(metrics["per_class"]) == list(LABELS)
    assert set(metrics["per_class"]["calm"]) == {"precision", "recall", "f1", "support"}
    assert list(metrics["subsets"]) == [
        "text+audio+face", "text+audio", "text+face", "audio+face", "text", "audio", "face",
    ]  # fmt: skip
    assert metrics["subsets"]["text+audio+face"]["weighted_f1"] == metrics["weighted_f1"]
    assert metrics["n"] == corpus.header.counts["test"].utterances
    assert metrics["dialogues"] == corpus.header.counts["test"].dialogues
    with (out / "confusion.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["label", *LABELS] and [row[0] for row in rows[1:]] == list(LABELS)
    right = sum(int(row[1 + i]) for i, row in enumerate(rows[1:]))
    assert right / metrics["n"] == pytest.approx(metrics["accuracy"])
    for picture in ("confusion.png", "reliability.png"):
        assert (out / picture).read_bytes().startswith(b"\x89PNG")
    report = (out / "report.md").read_text()
    on = f"{metrics['n']} labelled utterances in {metrics['dialogues']} dialogues"
    assert on in report and headline(metrics)[0] == f"test: {on}; in percent"
    assert f"{100 * metrics['weighted_f1']:.1f}" in headline(metrics)[2]
    assert "## Against trial 1" in report and "| 0.5 |" in report and "| sentiment |" in report


def test_labels_in_another_order_give_the_same_scores(tmp_path: Path) -> None:
    corpus = synthetic_corpus(tmp_path / "corpus")
    model = checkpoint_of(corpus, tmp_path / "model")
    mine = evaluate(tmp_path / "corpus", model, "test", tmp_path / "a")
    header = json.loads((tmp_path / "corpus" / "corpus.json").read_text())
    header["labels"] = header["labels"][::-1]
    (tmp_path / "corpus" / "corpus.json").write_text(json.dumps(header))
    again = evaluate(tmp_path / "corpus", model, "test", tmp_path / "b")
    assert again == mine


def test_nothing_observed_gives_the_prior(tmp_path: Path) -> None:
    from model import load_checkpoint

    corpus = synthetic_corpus(tmp_path / "corpus")
    loaded = load_checkpoint(checkpoint_of(corpus, tmp_path / "model"))
    emotion, sentiment = probabilities(loaded, [restrict(conversation(4), ())])
    np.testing.assert_allclose(emotion, [[0.5, 0.3, 0.2]] * 4, atol=1e-4)
    np.testing.assert_allclose(sentiment, [[0.2, 0.5, 0.3]] * 4, atol=1e-4)


def test_a_model_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    corpus = synthetic_corpus(tmp_path / "corpus")
    folder = tmp_path / "corpus"
    other_labels = checkpoint_of(corpus, tmp_path / "m1", labels=("a", "b", "c"))
    with pytest.raises(UsageError, match="tells a, b, c apart.*labelled with calm, glad, upset.*Fine-tune"):
        evaluate(folder, other_labels, "test", tmp_path / "out")
    encoders = {**corpus.header.encoders, "audio": {"name": "egemaps"}}
    other_encoder = checkpoint_of(corpus, tmp_path / "m2", encoders=encoders)
    with pytest.raises(UsageError, match="audio features of width 6 from .*egemaps.*planted-audio"):
        evaluate(folder, other_encoder, "test", tmp_path / "out")
    with pytest.raises(SetupError, match="not a checkpoint"):
        evaluate(folder, tmp_path / "none", "test", tmp_path / "out")
    with pytest.raises(UsageError, match="'holdout' is no split"):
        evaluate(folder, checkpoint_of(corpus, tmp_path / "m3"), "holdout", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that are saved."""
    figures: list[Any] = []
    save = Figure.savefig

    def kept(figure: Figure, *args: Any, **options: Any) -> None:
        figures.append(figure)
        save(figure, *args, **options)

    monkeypatch.setattr(Figure, "savefig", kept)
    return figures


def test_the_picture_of_a_confusion_has_every_count_and_the_shares(drawn: list[Any], tmp_path: Path) -> None:
    counts = np.array([[6, 4], [0, 0]])
    draw_confusion(counts, ["joy", "$x$"], tmp_path / "c.png")
    axes, bar = drawn[0].axes
    assert [(t.get_position(), t.get_text(), t.get_color()) for t in axes.texts] == [
        ((0, 0), "6", "white"), ((1, 0), "4", "black"), ((0, 1), "0", "black"), ((1, 1), "0", "black"),
    ]  # fmt: skip
    (image,) = axes.images
    np.testing.assert_allclose(np.asarray(image.get_array()), np.array([[0.6, 0.4], [0, 0]]))
    assert image.get_clim() == (0, 1) and bar.get_ylabel() == "share of the label"
    assert [t.get_text() for t in axes.get_yticklabels()] == ["joy", r"\$x\$"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "labelled")
    assert imread(tmp_path / "c.png").shape[:2] == (444, 504), "at 120 dots an inch"


def test_the_picture_of_reliability_is_in_percent(drawn: list[Any], tmp_path: Path) -> None:
    count = np.zeros(ECE_BINS, np.int64)
    count[[9, -1]] = 30, 10
    confidence, accuracy = np.zeros(ECE_BINS), np.zeros(ECE_BINS)
    confidence[[9, -1]], accuracy[[9, -1]] = (0.63, 0.98), (0.5, 0.9)
    draw_reliability(Reliability(count, confidence, accuracy), tmp_path / "r.png")
    above, below = drawn[0].axes
    points, diagonal = above.lines
    np.testing.assert_allclose(points.get_xydata(), [[63, 50], [98, 90]])
    np.testing.assert_allclose(diagonal.get_xydata(), [[0, 0], [100, 100]])
    np.testing.assert_allclose([bar.get_height() for bar in above.patches], [50, 90])
    assert [bar.get_height() for bar in below.patches] == count.tolist()
    assert above.get_title() == "expected calibration error 11.8 %"
    assert [t.get_text() for t in above.get_legend().get_texts()] == ["perfectly calibrated", "accuracy"]
    assert (above.get_xlim(), above.get_ylim()) == ((0, 100), (0, 100))
    assert imread(tmp_path / "r.png").shape[:2] == (660, 600)


def recorded_corpus(folder: Path, *, whole: bool = False) -> pl.DataFrame:
    """A corpus of two recordings of its test split and one of another; its labelled test utterances."""
    rows = synthetic_rows((2, 1, 2)).with_columns(
        recording=pl.col("dialogue_id").replace_strict(
            {"test-0": "one.wav", "test-1": "two.wav"}, default="other.wav"
        )
    )
    unlabelled = (pl.col("split") == "test") & (pl.int_range(pl.len()) == pl.len() - 1)
    rows = rows.with_columns(emotion=pl.when(unlabelled).then(None).otherwise("emotion"))
    features = synthetic_features(synthetic_rows((2, 1, 2)), ("text",))
    provenance = {"whole_recordings": True} if whole else {}
    write_corpus(
        folder, rows, LABELS, features, encoders={"text": {"name": "planted"}}, provenance=provenance
    )
    return rows.filter(split="test").drop_nulls("emotion")


def test_as_run_the_recordings_of_the_split_are_run_and_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gold = recorded_corpus(tmp_path / "corpus")
    media = tmp_path / "media"
    for name in ("x/one.wav", "y/two.wav", "other.wav"):
        (media / name).parent.mkdir(parents=True, exist_ok=True)
        (media / name).write_bytes(b"sound")
    asked: list[Any] = []

    def run(inputs: list[Path], out: Path, settings: RunSettings, progress: bool) -> SimpleNamespace:
        asked.append((inputs, out, settings, progress))
        table = gold.select(
            file=pl.col("recording").replace({"one.wav": "x/one.wav", "two.wav": "y/two.wav"}),
            start="start", end="end", speaker=pl.lit("SPEAKER_0") + pl.col("speaker"),
            text_source=pl.lit("whisper"),
            **{f"p_{label}": (pl.col("emotion") == label).cast(pl.Float64) for label in LABELS},
        )  # fmt: skip
        return SimpleNamespace(table=table, failures=[{"file": "x"}])

    monkeypatch.setattr("train.evaluate.asrun.pipeline.run", run)
    settings = RunSettings(model="starter", store=(tmp_path / "store").as_uri())
    found = evaluate_as_run(tmp_path / "corpus", media, "test", tmp_path / "out", settings, progress=False)
    ((inputs, out, given, progress),) = asked
    assert inputs == [media / "x/one.wav", media / "y/two.wav"] and out == tmp_path / "out/run.parquet"
    assert given.store is None and given.model == "starter" and progress is False
    assert found["n"] == len(gold) and found["dialogues"] == 2 and found["failed"] == 1
    assert found["accuracy"] == found["weighted_f1"] == found["found"] == found["speaker_accuracy"] == 1.0
    assert found["text_sources"] == {"whisper": len(gold)}

    (media / "y/two.wav").unlink()
    with pytest.raises(UsageError, match="two.wav.*the folder that the corpus was prepared from"):
        evaluate_as_run(tmp_path / "corpus", media, "test", tmp_path / "out", settings)


def test_as_run_a_corpus_must_say_where_its_recordings_are(tmp_path: Path) -> None:
    synthetic_corpus(tmp_path / "corpus")
    with pytest.raises(UsageError, match="prepare it with --media"):
        evaluate_as_run(tmp_path / "corpus", tmp_path, "test", tmp_path / "out", RunSettings())
    rows = synthetic_rows((2, 1, 2)).with_columns(
        recording=pl.when(pl.col("split") == "train").then(pl.lit("a.wav"))
    )
    features = synthetic_features(rows, ("text",))
    write_corpus(tmp_path / "half", rows, LABELS, features, encoders={"text": {"name": "planted"}})
    with pytest.raises(UsageError, match="No labelled utterance of the test split"):
        evaluate_as_run(tmp_path / "half", tmp_path, "test", tmp_path / "out", RunSettings())


def test_as_run_an_utterance_may_be_all_of_its_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gold = recorded_corpus(tmp_path / "corpus", whole=True)
    one = gold.filter(recording="one.wav")
    for name in ("one.wav", "two.wav"):
        (tmp_path / name).write_bytes(b"sound")

    def run(inputs: list[Path], out: Path, settings: RunSettings, progress: bool) -> SimpleNamespace:
        table = pl.DataFrame(
            {"file": "one.wav", "start": 500.0, "end": 501.0, "speaker": "S", "text_source": None}
            | {f"p_{label}": float(label == one["emotion"][0]) for label in LABELS},
            schema_overrides={"text_source": pl.String},
        )
        return SimpleNamespace(table=table, failures=[])

    monkeypatch.setattr("train.evaluate.asrun.pipeline.run", run)
    found = evaluate_as_run(tmp_path / "corpus", tmp_path, "test", tmp_path / "out", RunSettings())
    assert found["found"] == pytest.approx(len(one) / len(gold)), "wherever it lies"
