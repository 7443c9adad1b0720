"""What the experiments found: ``ablation.md`` and its curves for people, ``ablation.csv`` for machines."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from annotator.files import written_whole
from train.ablation.compare import Difference, compare
from train.ablation.experiments import TITLES
from train.ablation.runs import SCORES, Plan, Result, Splits
from train.evaluate.figures import blank
from train.evaluate.report import markdown_table, percent

HEAD = ("experiment", "seeds", "validation F1", "accuracy", "weighted F1", "macro F1")
CURVES = {"alpha": "alpha", "window": "utterances to each side"}


@dataclass(frozen=True)
class Row:
    """An experiment with its results."""

    plan: Plan
    same: str  # the experiment that was trained for it: itself, or one with the same network and settings
    results: Sequence[Result]  # by seed

    @property
    def name(self) -> str:
        return self.plan.experiment.name

    def test(self, key: str) -> tuple[float, float]:
        """Mean and deviation over seeds (n - 1; 0 for one) of one of SCORES on the test split."""
        return _spread([r.scores[key] for r in self.results])

    def validation(self, key: str) -> tuple[float, float]:
        return _spread([r.validation[key] for r in self.results])

    def difference(self, rows: Sequence[Row]) -> Difference | None:
        """Against the reference, over the seeds that both have; None for the reference or without one."""
        reference = next((r for r in rows if r.name == self.plan.experiment.reference), None)
        if reference is None or reference.same == self.same:
            return None
        common = {r.seed for r in self.results} & {r.seed for r in reference.results}
        if not common:
            return None
        sides = [
            np.stack([r.confusion for r in row.results if r.seed in common]) for row in (self, reference)
        ]
        return compare(sides[0], sides[1])


def write_report(out: Path, splits: Splits, rows: Sequence[Row], skipped: Sequence[str]) -> None:
    """Write the tables and curves of what there is.

    Raises:
        SetupError: ``out`` can't be written.
    """
    differences = {row.name: row.difference(rows) for row in rows}
    curves = [table for table in CURVES if _draw(out / f"{table}.png", table, rows)]
    text = _markdown(splits, rows, differences, skipped, curves)
    with written_whole(out / "ablation.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    with written_whole(out / "ablation.csv") as temporary:
        _table(rows, differences).write_csv(temporary)


def _markdown(
    splits: Splits,
    rows: Sequence[Row],
    differences: dict[str, Difference | None],
    skipped: Sequence[str],
    curves: Sequence[str],
) -> str:
    corpus = splits.corpus
    counts = ", ".join(
        f"{name} {c.dialogues} dialogues with {c.utterances} utterances"
        for name, c in corpus.header.counts.items()
    )
    parts = [
        f"# Ablation on {corpus.folder.resolve().name}",
        f"{counts}; {', '.join(corpus.modalities)}; torch {torch.__version__}.",
        "Figures are percent on the test split, mean ± standard deviation over seeds. The epoch is the best "
        "on validation by weighted F1; choices between experiments are to be made on validation, too.",
        "The difference is that of weighted F1 to the first row of the preset over the seeds that both have, "
        "with a 95 % interval from a bootstrap over dialogues (in pairs) and seeds; * marks intervals "
        "without 0, of which chance gives one in twenty experiments that change nothing. A column `paper` "
        "is what arXiv 2501.15063 prints, most likely weighted F1.",
    ]
    for table, title in TITLES.items():
        table_rows = [r for r in rows if r.plan.experiment.table == table]
        if not table_rows:
            continue
        first = table_rows[0].plan.experiment
        same = {row.same for row in table_rows}
        reference = [r for r in rows if r.name == first.reference and first.reference not in same]
        parts += [f"## {title}", f"Preset `{first.preset}`, {_training(table_rows[0])}."]
        published = any(r.plan.experiment.published for r in table_rows)
        head = [*HEAD, "difference", "from", "to", *(["paper"] if published else [])]
        lines = [_cells(r, differences[r.name])[: len(head)] for r in (*reference, *table_rows)]
        parts.append(markdown_table(head, lines))
        if table in curves:
            parts.append(f"![{title}]({table}.png)")
    if skipped:
        parts += ["## Left out", "\n".join(f"- {reason}" for reason in skipped)]
    parts += [
        "## oracle_test_best",
        "The best weighted F1 of any epoch on the test split, as many papers print it. It is chosen on the "
        "test labels: an upper bound, not a result.",
        markdown_table(
            ["experiment", "oracle_test_best"],
            [[r.name, _percents(_spread([x.oracle_test_best for x in r.results]))] for r in rows],
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _training(row: Row) -> str:
    settings = row.plan.settings
    stop = f", stopped after {settings.patience} without a better one" if settings.patience else ""
    rate = f"{settings.optimizer} at {settings.lr:g}, {settings.schedule}"
    return f"{settings.epochs} epochs at most{stop}, {rate}, batches of {settings.batch_size} dialogues"


def _cells(row: Row, difference: Difference | None) -> list[str]:
    name = row.name if row.same == row.name else f"{row.name} (= {row.same})"
    scores = [row.validation("weighted_f1"), *(row.test(key) for key in SCORES)]
    cells = [name, str(len(row.results)), *map(_percents, scores)]
    if difference is None:
        cells += ["–", "–", "–"]
    else:
        star = "*" if difference.clear else ""
        signed = [f"{100 * v:+.2f}" for v in (difference.mean, difference.low, difference.high)]
        cells += [signed[0] + star, *signed[1:]]
    return [*cells, row.plan.experiment.published or ""]


def _table(rows: Sequence[Row], differences: dict[str, Difference | None]) -> pl.DataFrame:
    lines: list[dict[str, Any]] = []
    for row in rows:
        of, difference = row.plan.experiment, differences[row.name]
        line: dict[str, Any] = {
            "table": of.table,
            "experiment": row.name,
            "trained_as": row.same,
            "preset": of.preset,
            "point": of.point,
            "seeds": len(row.results),
        }
        for key in SCORES:
            line[f"{key}_mean"], line[f"{key}_deviation"] = row.test(key)
        for key in SCORES:
            line[f"validation_{key}_mean"], line[f"validation_{key}_deviation"] = row.validation(key)
        line |= {
            "reference": of.reference,
            "difference": difference.mean if difference else None,
            "difference_low": difference.low if difference else None,
            "difference_high": difference.high if difference else None,
            "paper": of.published,
            "oracle_test_best_mean": _spread([r.oracle_test_best for r in row.results])[0],
            "seconds_mean": _spread([r.seconds for r in row.results])[0],
        }
        lines.append(line)
    schema = {"point": pl.Float64, "difference": pl.Float64, "difference_low": pl.Float64}
    return pl.DataFrame(lines, schema_overrides={**schema, "difference_high": pl.Float64, "paper": pl.String})


def _draw(file: Path, table: str, rows: Sequence[Row]) -> bool:
    """The curve of a sweep; False where it has fewer than two points."""
    points = [
        (of.point, row) for row in rows if (of := row.plan.experiment).table == table and of.point is not None
    ]  # in order, as the experiments are
    if len(points) < 2:
        return False
    figure = blank(6, 4)
    axes = figure.add_subplot()
    for label, scores in (
        ("test", [row.test("weighted_f1") for _, row in points]),
        ("validation", [row.validation("weighted_f1") for _, row in points]),
    ):
        means, deviations = 100 * np.array(scores).T
        axes.errorbar([x for x, _ in points], means, yerr=deviations, marker="o", capsize=3, label=label)
    for x, row in points:
        if row.plan.experiment.published == "best":
            axes.axvline(x, linestyle="--", color="grey", label="the paper's best")
    axes.set(xlabel=CURVES[table], ylabel="weighted F1 in percent", title=TITLES[table])
    axes.legend()
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    with written_whole(file) as temporary:
        temporary.write_bytes(picture.getvalue())
    return True


def _spread(values: Sequence[float]) -> tuple[float, float]:
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def _percents(spread: tuple[float, float]) -> str:
    return f"{percent(spread[0])} ± {percent(spread[1])}"
