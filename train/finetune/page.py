"""The evaluation as a page to open in a browser: one file, nothing from outside, no scripts."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from model import Checkpoint
from train.corpus import Corpus
from train.evaluate.report import difference
from train.finetune.card import percent, within
from train.finetune.settings import Step

WIDTH, HEIGHT = 560, 180  # of the curve, pixels


def write_page(
    checkpoint: Checkpoint,
    corpus: Corpus,
    start: Checkpoint,
    history: Sequence[Step],
    best: Step,
    figures: Any,
    evaluation: Path,
) -> str:
    """The page as HTML.

    Args:
        figures: ``result.Figures``.
        evaluation: the folder with the pictures.
    """
    from jinja2 import Environment

    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    )
    m, bounds = figures.metrics, figures.bounds
    keys = ("accuracy", "weighted_f1", "macro_f1")
    beside = [] if figures.start is None else [(f"{figures.start_title}, labels by name", figures.start)]
    beside.append((f"always {figures.majority_label}", figures.majority))
    top = max(max(s.measure for s in history), 0.01)
    last = max(1, history[-1].number)
    return template.render(
        name=checkpoint.name,
        start=f"{start.name} {start.version}",
        corpus=corpus.folder.resolve().name,
        split=figures.split,
        n=m["n"],
        dialogues=m["dialogues"],
        has_intervals=bounds.draws > 0,
        headline=[within(m[key], bounds.scores[key]) for key in keys],
        ece=percent(m["ece"]),
        beside=[
            {
                "name": title,
                "scores": [percent(of.scores[key]) for key in keys],
                "difference": difference(of.difference.weighted_f1, of.difference.weighted_f1_interval),
            }
            for title, of in beside
        ],
        classes=[
            {
                "label": label,
                "precision": percent(c["precision"]),
                "recall": percent(c["recall"]),
                "f1": within(c["f1"], of),
                "share": round(100 * c["f1"]),
                "support": c["support"],
            }
            for (label, c), of in zip(m["per_class"].items(), bounds.f1, strict=True)
        ],
        subsets=[(name, [percent(of[key]) for key in keys]) for name, of in m["subsets"].items()],
        curve=" ".join(
            f"{WIDTH * s.number / last:.1f},{HEIGHT - HEIGHT * s.measure / top:.1f}" for s in history
        ),
        chosen=(f"{WIDTH * best.number / last:.1f}", f"{HEIGHT - HEIGHT * best.measure / top:.1f}"),
        best=best.number,
        epochs=history[-1].number,
        top=percent(top),
        measure=checkpoint.meta["settings"]["choose"].replace("_", " "),
        width=WIDTH,
        height=HEIGHT,
        pictures=[
            (title, base64.b64encode((evaluation / file).read_bytes()).decode())
            for title, file in (("Confusion", "confusion.png"), ("Calibration", "reliability.png"))
        ],
    )
