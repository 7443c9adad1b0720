"""The card of a fine-tuned model, filled from its run. Its YAML header is what a model hub reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from model import Checkpoint
from train.corpus import Corpus
from train.evaluate.bootstrap import Interval
from train.evaluate.report import difference, markdown_table, resting_on
from train.finetune.settings import LEAST_FOR_FOLDS, Plan, Step

LEGAL = (
    "Labels are perceived expression, not a measurement of what a person feels; take single rows as hints. "
    "The EU AI Act, Art. 5(1)(f), forbids inferring emotions from biometric data (voice, face) at work and "
    "in education but for medical or safety reasons; `--modalities text` stays outside biometrics."
)


def write_card(
    checkpoint: Checkpoint,
    corpus: Corpus,
    start: Checkpoint,
    plan: Plan,
    history: Sequence[Step],
    best: Step,
    figures: Any,
    *,
    licence: str,
) -> str:
    """The card as Markdown with a YAML header.

    Args:
        figures: ``result.Figures``.
    """
    name, data = checkpoint.name, corpus.folder.resolve().name
    parts = [
        header(checkpoint, data, start, figures, licence),
        f"# {plain(name)}",
        f"Labels utterances of conversations with {listed(checkpoint.labels)}, and with a sentiment. "
        f"Fine-tuned from {plain(start.name)} {plain(start.version)} on the corpus “{plain(data)}”, "
        f"{datetime.now(UTC):%Y-%m-%d}.",
        "    annotate run videos/ --out labels.parquet --model FOLDER_OF_THIS_CARD",
        LEGAL,
        "## How good it is",
        *scores(figures),
        "## Each label",
        classes(checkpoint, figures),
        "## Trained on",
        *statistics(corpus),
        "## How",
        *training(start, plan, history, best, checkpoint),
        "## Limits",
        limits(corpus, figures),
    ]
    return "\n\n".join(parts) + "\n"


def header(checkpoint: Checkpoint, data: str, start: Checkpoint, figures: Any, licence: str) -> str:
    """The YAML header. Values are written as JSON, which YAML reads."""
    metrics = [
        {"type": kind, "name": title, "value": round(100 * figures.metrics[key], 2)}
        for kind, key, title in (
            ("accuracy", "accuracy", "accuracy"),
            ("f1", "weighted_f1", "weighted F1"),
            ("f1", "macro_f1", "macro F1"),
        )
    ]
    results = {
        "task": {"type": "text-classification", "name": "emotion recognition in conversation"},
        "dataset": {"name": data, "type": data, "split": figures.split},
        "metrics": metrics,
    }
    fields: dict[str, Any] = {
        "license": licence,
        "library_name": "conversation-annotator",
        "tags": ["emotion-recognition-in-conversation", *checkpoint.config.modalities],
        "base_model": f"{start.name}-{start.version}",
        "labels": list(checkpoint.labels),
        "metrics": ["accuracy", "f1"],
        "model-index": [{"name": checkpoint.name, "results": [results]}],
    }
    lines = [f"{key}: {json.dumps(value, ensure_ascii=True)}" for key, value in fields.items()]
    return "\n".join(["---", *lines, "---"])


def scores(figures: Any) -> list[str]:
    """Headline figures with intervals, against majority and start."""
    m, bounds = figures.metrics, figures.bounds
    rows = [
        [
            "this model",
            *(within(m[key], bounds.scores[key]) for key in ("accuracy", "weighted_f1", "macro_f1")),
            percent(m["ece"]),
        ]
    ]
    beside = [(f"{figures.start_title}, labels by name", figures.start)] if figures.start else []
    beside.append((f"always {figures.majority_label}", figures.majority))
    for title, other in beside:
        shown = [percent(other.scores[key]) for key in ("accuracy", "weighted_f1", "macro_f1")]
        rows.append([title, *shown, percent(other.scores["ece"]) if other is figures.start else "–"])
    paragraphs = [
        f"On the {figures.split} split: {resting_on(m)}. In "
        + (
            "percent, with 95 % intervals from a bootstrap over dialogues."
            if bounds.draws
            else "percent, without intervals: so few dialogues can't say how far off the figures may be"
            f"{by_folds(figures.labelled_dialogues)}."
        ),
        markdown_table(["", "accuracy", "weighted F1", "macro F1", "calibration error"], rows),
    ]
    for title, other in beside:
        d = other.difference
        paragraphs.append(
            f"Against {title.split(',')[0]}: weighted F1 {difference(d.weighted_f1, d.weighted_f1_interval)} "
            "points, paired."
        )
    if figures.start is None:
        paragraphs.append(f"{figures.start_title}, so there is no unchanged model to compare.")
    if len(m["subsets"]) > 1:
        rows = [
            [subset, percent(of["accuracy"]), percent(of["weighted_f1"]), percent(of["macro_f1"])]
            for subset, of in m["subsets"].items()
        ]
        paragraphs.append(markdown_table(["with only", "accuracy", "weighted F1", "macro F1"], rows))
    return paragraphs


def classes(checkpoint: Checkpoint, figures: Any) -> str:
    """Precision, recall and F1 of each label."""
    rows = []
    for label, bounds in zip(checkpoint.labels, figures.bounds.f1, strict=True):
        c = figures.metrics["per_class"][label]
        rows.append(
            [
                plain(label), percent(c["precision"]), percent(c["recall"]), within(c["f1"], bounds),
                str(c["support"]),
            ]
        )  # fmt: skip
    return markdown_table(["label", "precision", "recall", "F1", "utterances"], rows)


def statistics(corpus: Corpus) -> list[str]:
    """What the corpus holds, split by split."""
    counts, table = corpus.header.counts, corpus.table
    rows = [
        ["dialogues", *(str(c.dialogues) for c in counts.values())],
        ["utterances", *(str(c.utterances) for c in counts.values())],
        ["speakers", *(str(table.filter(split=s)["speaker"].n_unique()) for s in counts)],
    ]
    rows += [[plain(label), *(str(c.labels[label]) for c in counts.values())] for label in corpus.labels]
    paragraphs = [markdown_table(["", *counts], rows)]
    present = [
        f"{modality} in {100 * float(known.present.mean()):.0f} %"
        for modality, known in corpus.features.items()
    ]
    paragraphs.append(f"Utterances with {', '.join(present)}.")
    how = corpus.header.provenance.get("splits")
    paragraphs.append(f"Splits: {how}." if how else "Splits: as the corpus gives them.")
    return paragraphs


def training(
    start: Checkpoint, plan: Plan, history: Sequence[Step], best: Step, checkpoint: Checkpoint
) -> list[str]:
    """What was inherited, what is otherwise, and the epochs."""
    s = checkpoint.meta["settings"]
    lines = [f"- {plain(str(override))}" for override in plan.overrides] or ["- nothing"]
    rows = [
        [
            str(e.number), e.stage, "–" if e.loss is None else f"{e.loss:.3f}",
            percent(e.weighted_f1), percent(e.macro_f1), "chosen" if e == best else "",
        ]
        for e in history
    ]  # fmt: skip
    return [
        f"Inherited from {plain(start.name)} {plain(start.version)}: {plan.kept['network']}. Otherwise:",
        "\n".join(lines),
        f"Rates {s['lr']} (network), {s['head_lr']} (new head), {s['text_lr']} (text adapter); "
        f"{s['batch_size'] * s['accumulate']} dialogues a step; anchor {s['anchor']}; balance "
        f"{s['balance']}; seed {s['seed']}. Epoch chosen by {s['choose'].replace('_', ' ')} on validation; "
        "temperatures fitted there too.",
        markdown_table(["epoch", "trained", "loss", "validation weighted F1", "macro F1", ""], rows),
    ]


def limits(corpus: Corpus, figures: Any) -> str:
    """What the figures can't say."""
    said = ["The figures are on gold segments and speakers"]
    if "text" in corpus.features:
        said[0] += " and the corpus' own text; recognised text is worse (`annotate evaluate --media`)"
    if figures.split == "validation":
        said.append(
            "the corpus has no test split: the epoch was chosen on the same utterances, so they flatter"
        )
    rare = [label for label, c in figures.metrics["per_class"].items() if c["support"] < 20]
    if rare:
        said.append(f"too few of {listed(rare)} were there to say how well they are found")
    said.append("who is labelled otherwise than the corpus' speakers is untested")
    return ". ".join(s[0].upper() + s[1:] for s in said) + "."


def by_folds(labelled_dialogues: int) -> str:
    """What else there is where the tested dialogues are too few.

    >>> by_folds(12), by_folds(4)
    ('; `--folds 5` would test on all 12', '')
    """
    return f"; `--folds 5` would test on all {labelled_dialogues}" * (labelled_dialogues >= LEAST_FOR_FOLDS)


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def within(value: float, bounds: Interval) -> str:
    """A figure with its interval, where there is one.

    >>> within(0.5, (0.4, 0.6)), within(0.5, None)
    ('50.0 (40.0 to 60.0)', '50.0')
    """
    if bounds is None:
        return percent(value)
    return f"{percent(value)} ({percent(bounds[0])} to {percent(bounds[1])})"


def listed(names: Sequence[str]) -> str:
    """Names as a sentence has them.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    shown = [plain(name) for name in names]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def plain(text: str) -> str:
    """Text from outside, with what Markdown and HTML would take for marks made harmless.

    >>> plain("<b>_x_")
    '&lt;b&gt;\\\\_x\\\\_'
    """
    safe = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\n", " ")
    return "".join(f"\\{c}" if c in "\\`*_[]#|" else c for c in safe)
