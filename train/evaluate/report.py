"""What an evaluation found, for people: ``report.md`` and ``confusion.csv``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from annotator.terminal import counted
from train.evaluate.bootstrap import LEAST_DIALOGUES, TOO_FEW, Comparison, Interval
from train.evaluate.metrics import ECE_BINS

COLUMNS = (
    ("accuracy", "accuracy"),
    ("weighted_f1", "weighted F1"),
    ("macro_f1", "macro F1"),
    ("unweighted_average_recall", "average recall"),
    ("ece", "calibration error"),
)


def confusion_table(confusion: NDArray[np.int64], labels: Sequence[str]) -> pl.DataFrame:
    """Rows are the labels, columns the predictions."""
    return pl.DataFrame({"label": list(labels), **{name: confusion[:, i] for i, name in enumerate(labels)}})


def percent(value: float) -> str:
    return f"{100 * value:.2f}"


def resting_on(metrics: Mapping[str, Any]) -> str:
    """What figures rest on.

    >>> resting_on({"n": 5, "dialogues": 3})
    '5 labelled utterances in 3 dialogues'
    """
    return f"{counted(metrics['n'], 'labelled utterance')} in {counted(metrics['dialogues'], 'dialogue')}"


def headline(metrics: Mapping[str, Any]) -> list[str]:
    """The main figures as lines, in percent.

    Args:
        metrics: as in ``metrics.json``.
    """
    lines = [f"{metrics['split']}: {resting_on(metrics)}; in percent"]
    lines += [f"{title:<20} {100 * metrics[key]:.1f}" for key, title in COLUMNS]
    if "as_run" in metrics:
        as_run = metrics["as_run"]
        f1 = 100 * as_run["weighted_f1"]
        lines.append(f"as a run labels the recordings ({resting_on(as_run)}): weighted F1 {f1:.1f}")
    return lines


def ends(interval: Interval) -> list[str]:
    """The ends of an interval in percent; dashes where there is none."""
    return ["–", "–"] if interval is None else [percent(end) for end in interval]


def difference(points: float, interval: Interval) -> str:
    """A difference in points, with its interval.

    >>> difference(0.012, (-0.01, 0.034)), difference(0.012, None)
    ('+1.2 (-1.0 to +3.4)', '+1.2 (too few dialogues for an interval)')
    """
    if interval is None:
        return f"{100 * points:+.1f} ({TOO_FEW})"
    return f"{100 * points:+.1f} ({100 * interval[0]:+.1f} to {100 * interval[1]:+.1f})"


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; every column but the first is aligned to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)


def write_report(
    metrics: Mapping[str, Any],
    sentiment: Mapping[str, float] | None,
    missing: Mapping[float, Mapping[str, float]],
    comparison: tuple[str, Comparison] | None,
) -> str:
    """The report as Markdown, in percent.

    Args:
        metrics: as in ``metrics.json``.
        sentiment: scores of the coarse head, where the corpus has sentiments.
        missing: scores by the rate at which modalities were hidden at random.
        comparison: the other model's name, and what comparing found.
    """
    head = [title for _, title in COLUMNS]
    parts = [
        f"# {metrics['model']} on {metrics['corpus']}, {metrics['split']}",
        f"{resting_on(metrics)}; figures in percent. Accuracy is what papers on emotion in "
        "conversation call weighted accuracy. The calibration error is the expected one over "
        f"{ECE_BINS} bins of equal width.",
        markdown_table(
            ["", *head],
            [["emotion", *_row(metrics)], *([["sentiment", *_row(sentiment)]] if sentiment else [])],
        ),
        "## Each emotion",
        markdown_table(
            ["label", "precision", "recall", "F1", "utterances"],
            [
                [label, percent(c["precision"]), percent(c["recall"]), percent(c["f1"]), str(c["support"])]
                for label, c in metrics["per_class"].items()
            ],
        ),
        "![Confusion matrix](confusion.png)",
        "![Reliability diagram](reliability.png)",
        "## With some modalities only",
        "Coverage: the share of utterances whose label is among the plausible ones, nine in ten if all is "
        "well; and how many those are.",
        markdown_table(
            ["modalities", *head, "coverage", "plausible"],
            [[name, *_row(scores), *_sets(scores)] for name, scores in metrics["subsets"].items()],
        ),
    ]
    if missing:
        rows = [[f"{rate:.1f}", *_row(scores)] for rate, scores in missing.items()]
        parts += [
            "## With modalities missing at random",
            "This share of what was there is hidden, as GCNet does it: one modality of each utterance, drawn "
            "at random, always stays, so of three at most two thirds are hidden.",
            markdown_table(["rate", *head], rows),
        ]
    if comparison is not None:
        other, test = comparison
        parts += [
            f"## Against {other}",
            f"Paired bootstrap over dialogues, {test.draws} draws; differences in points, 95 % interval."
            if test.draws
            else f"Differences in points; {TOO_FEW} ({LEAST_DIALOGUES} at least).",
            markdown_table(
                ["", "difference", "from", "to"],
                [
                    ["accuracy", percent(test.accuracy), *ends(test.accuracy_interval)],
                    ["weighted F1", percent(test.weighted_f1), *ends(test.weighted_f1_interval)],
                ],
            ),
        ]
        if test.p_value is not None:
            parts.append(f"p = {test.p_value:.4f} that weighted F1 doesn't differ (two-sided).")
    return "\n\n".join(parts) + "\n"


def _row(scores: Mapping[str, float]) -> list[str]:
    return [percent(scores[key]) for key, _ in COLUMNS]


def _sets(scores: Mapping[str, float | None]) -> list[str]:
    """Coverage in percent, and the mean number of plausible labels; dashes where they are not known."""
    coverage, size = scores["coverage"], scores["plausible"]
    return ["–", "–"] if coverage is None or size is None else [percent(coverage), f"{size:.2f}"]
