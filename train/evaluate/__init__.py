"""How good a checkpoint is on a corpus: metrics, subsets of modalities, calibration, comparison.

Writes to a folder ``metrics.json`` for machines, and ``report.md``, ``confusion.csv``, ``confusion.png``,
``reliability.png`` for people.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from annotator import plain_json
from annotator.records import Conversation, SetupError, UsageError
from annotator.settings import RunSettings
from annotator.weights import checkpoint_folder
from model import Checkpoint, CheckpointError, apply_calibration, load_checkpoint, plausible_sets
from train.corpus import UNLABELLED, Corpus, LabelledConversation, load_corpus, split_name
from train.evaluate.bootstrap import Comparison, paired_bootstrap
from train.evaluate.calibration import subsets
from train.evaluate.figures import draw_confusion, draw_reliability
from train.evaluate.logits import hide, predict_logits, targets
from train.evaluate.metrics import confusion_matrix, reliability, score
from train.evaluate.report import confusion_table, write_report
from train.prepare.reencode import fitting_text

MISSING_RATES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)


def evaluate(
    corpus_folder: Path,
    model: Path | str,
    split: str,
    out: Path,
    *,
    against: Path | str | None = None,
    missing_rates: Sequence[float] = MISSING_RATES,
    device: str = "cpu",
    seed: int = 0,
    work: Path | None = None,
    media: Path | None = None,
    run_settings: RunSettings | None = None,
) -> dict[str, Any]:
    """Evaluate a checkpoint and write what was found to the folder ``out``.

    Args:
        model: a checkpoint's folder, ``starter`` or ``hf:OWNER/NAME``.
        against: another checkpoint to compare with, by a paired bootstrap over dialogues.
        missing_rates: shares of the modalities that are hidden; only where there are several.
        seed: of what is hidden.
        work: where vectors of text that is encoded anew are kept; nowhere by default.
        media: the corpus' recordings, to run the tool on them too: its figure under ``as_run``.
        run_settings: of that run.

    Returns:
        What ``metrics.json`` holds.

    Raises:
        UsageError: the corpus is faulty, or doesn't fit the checkpoint.
        SetupError: the checkpoint can't be read.
    """
    corpus, out = load_corpus(corpus_folder), Path(out)
    folder = checkpoint_folder(model)
    checkpoint, dialogues = _fitting(corpus, folder, split, device, work)
    conversations = [d.conversation for d in dialogues]
    fine, coarse = targets(dialogues)
    if (fine < 0).all():
        raise UsageError(
            f"No utterance of the {split} split of {corpus.folder} has an emotion to compare with."
        )
    emotion, sentiment, present = told(checkpoint, conversations)
    confusion = confusion_matrix(fine, emotion.argmax(1), len(checkpoint.labels))
    used = [m for m in checkpoint.config.modalities if m in corpus.modalities]
    by_subset = {"+".join(used): scores_of(emotion, fine) | sets_of(checkpoint, emotion, present, fine, used)}
    for subset in subsets(used):
        if len(subset) < len(used):
            restricted, _, there = told(checkpoint, conversations, subset)
            coverage = sets_of(checkpoint, restricted, there, fine, subset)
            by_subset["+".join(subset)] = scores_of(restricted, fine) | coverage
    metrics: dict[str, Any] = {
        **by_subset["+".join(used)],
        "dialogues": sum(bool((d.fine >= 0).any()) for d in dialogues),
        "per_class": {
            label: dataclasses.asdict(of)
            for label, of in zip(checkpoint.labels, score(confusion).per_class, strict=True)
        },
        "subsets": by_subset,
        "model": f"{checkpoint.name} {checkpoint.version}",
        "corpus": corpus.folder.resolve().name,
        "split": split_name(split),
    }
    missing = {}
    for rate in missing_rates if len(used) > 1 else ():
        random = np.random.default_rng([seed, round(1000 * rate)])
        hidden, _ = probabilities(checkpoint, [hide(c, rate, random) for c in conversations])
        missing[rate] = scores_of(hidden, fine)
    comparison = None
    if against is not None:
        other, same = _fitting(corpus, checkpoint_folder(against), split, device, work)
        refitted = [d.conversation for d in same]
        difference = _compared(checkpoint.labels, emotion, dialogues, other, refitted)
        comparison = (f"{other.name} {other.version}", difference)

    out.mkdir(parents=True, exist_ok=True)
    as_run = ""
    if media is not None:
        from train.evaluate import asrun

        settings = (run_settings or RunSettings()).model_copy(update={"model": str(folder)})
        metrics["as_run"] = asrun.evaluate_as_run(corpus_folder, media, split, out, settings)
        as_run = "\n" + asrun.written(metrics["as_run"])
    draw_confusion(confusion, checkpoint.labels, out / "confusion.png")
    draw_reliability(reliability(emotion, fine), out / "reliability.png")
    confusion_table(confusion, checkpoint.labels).write_csv(out / "confusion.csv")
    coarse_scores = scores_of(sentiment, coarse) if (coarse >= 0).any() else None
    text = write_report(metrics, coarse_scores, missing, comparison)
    (out / "report.md").write_text(text + as_run, encoding="utf-8")
    (out / "metrics.json").write_text(
        json.dumps(plain_json.finite(metrics), ensure_ascii=False, indent=2) + "\n", encoding="utf-8"
    )
    return metrics


def _compared(
    labels: Sequence[str],
    emotion: NDArray[np.float32],
    dialogues: Sequence[LabelledConversation],
    other: Checkpoint,
    conversations: Sequence[Conversation],
) -> Comparison:
    """A model's probabilities (V, C), in the order of ``labels``, against another's on the same dialogues."""
    others, _ = probabilities(other, conversations)
    order = [other.labels.index(label) for label in labels]
    return paired_bootstrap(per_dialogue(emotion, dialogues), per_dialogue(others[:, order], dialogues))


def probabilities(
    checkpoint: Checkpoint, conversations: Sequence[Conversation], subset: Sequence[str] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Calibrated probabilities (V, C) and (V, 3), with only the modalities of ``subset`` if given."""
    return told(checkpoint, conversations, subset)[:2]


def told(
    checkpoint: Checkpoint, conversations: Sequence[Conversation], subset: Sequence[str] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
    """As :func:`probabilities`, and which of the checkpoint's modalities were there (V, M)."""
    logits = predict_logits(checkpoint.network, conversations, subset)
    emotion, sentiment = apply_calibration(
        checkpoint.calibration, logits.fine, logits.coarse, logits.present, checkpoint.config.modalities
    )
    return emotion, sentiment, logits.present


def sets_of(
    checkpoint: Checkpoint,
    emotion: NDArray[np.float32],
    present: NDArray[np.bool_],
    target: NDArray[np.int64],
    subset: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Of the labelled utterances that have all modalities of a subset (by default any that they have):

    ``coverage``, the share whose label is among the plausible ones; ``coverage_by_label``, the same of each
    label; ``plausible``, how many those are on average; ``plausible_n``, how many utterances. None where
    there are none, or the checkpoint does not know which are plausible.

    Args:
        emotion, present: as :func:`told` gives them.
    """
    modalities = checkpoint.config.modalities
    sets = plausible_sets(checkpoint.calibration, emotion, present, modalities)
    whole = present[:, [modalities.index(m) for m in subset or ()]].all(axis=1)
    rows = np.flatnonzero((target >= 0) & sets.any(1) & whole)
    if not len(rows):
        return dict.fromkeys(("coverage", "coverage_by_label", "plausible", "plausible_n"))
    right = sets[rows, target[rows]]
    by_label = {
        label: float(right[target[rows] == number].mean())
        for number, label in enumerate(checkpoint.labels)
        if (target[rows] == number).any()
    }
    return {
        "coverage": float(right.mean()),
        "coverage_by_label": by_label,
        "plausible": float(sets[rows].sum(1).mean()),
        "plausible_n": len(rows),
    }


def scores_of(probabilities: NDArray[np.float32], target: NDArray[np.int64]) -> dict[str, Any]:
    """The scores that ``metrics.json`` gives, of probabilities (V, C) against classes (V,)."""
    of = score(confusion_matrix(target, probabilities.argmax(1), probabilities.shape[1]))
    return {
        "accuracy": of.accuracy,
        "weighted_f1": of.weighted_f1,
        "macro_f1": of.macro_f1,
        "unweighted_average_recall": of.unweighted_average_recall,
        "ece": reliability(probabilities, target).ece,
        "n": of.n,
    }


def per_dialogue(
    emotion: NDArray[np.float32], dialogues: Sequence[LabelledConversation]
) -> NDArray[np.int64]:
    """Confusion matrix (dialogues, C, C) of each dialogue that has a label: the others tell nothing."""
    ends = np.cumsum([len(d) for d in dialogues])[:-1]
    classes = np.split(emotion.argmax(1), ends)
    return np.stack(
        [
            confusion_matrix(d.fine, predicted, emotion.shape[1])
            for d, predicted in zip(dialogues, classes, strict=True)
            if (d.fine >= 0).any()
        ]
    )


def summarise(runs: Sequence[Mapping[str, Any]]) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation over seeds (n - 1 in the denominator; 0 for one run) of each score."""
    keys = ("accuracy", "weighted_f1", "macro_f1", "unweighted_average_recall", "ece")
    values = {key: np.array([run[key] for run in runs], np.float64) for key in keys}
    return {k: (float(v.mean()), float(v.std(ddof=1)) if len(v) > 1 else 0.0) for k, v in values.items()}


def _fitting(
    corpus: Corpus, folder: Path, split: str, device: str, work: Path | None
) -> tuple[Checkpoint, list[LabelledConversation]]:
    """A checkpoint, and the dialogues of a split with targets in its order of labels."""
    try:
        checkpoint = load_checkpoint(folder, torch.device(device))
    except CheckpointError as error:
        raise SetupError(str(error)) from error
    if set(checkpoint.labels) != set(corpus.labels):
        raise UsageError(
            f"{folder} tells {', '.join(checkpoint.labels)} apart, {corpus.folder} is labelled with "
            f"{', '.join(corpus.labels)}. Fine-tune the model on this corpus first, or map the labels."
        )
    corpus = fitting_text(corpus, checkpoint.encoders, folder, device, splits=[split_name(split)], work=work)
    used = [m for m in checkpoint.config.modalities if m in corpus.modalities]
    if not used:
        raise UsageError(
            f"{folder} uses {', '.join(checkpoint.config.modalities)}; {corpus.folder} has "
            f"{', '.join(corpus.modalities) or 'no features'}. Prepare the corpus with what the model uses."
        )
    for modality in used:
        encoder, corpus_encoder = checkpoint.encoders.get(modality), corpus.header.encoders.get(modality)
        widths = checkpoint.config.input_dims[modality], corpus.header.widths[modality]
        prints = [
            p.get(modality) for p in (checkpoint.meta.get("fingerprints", {}), corpus.header.fingerprints)
        ]
        differ = None not in prints and prints[0] != prints[1]
        if encoder != corpus_encoder or widths[0] != widths[1] or differ:
            raise UsageError(
                f"{folder} was trained on {modality} features of width {widths[0]} from {encoder}, "
                f"{corpus.folder} has width {widths[1]} from {corpus_encoder}. "
                "Prepare the corpus with the model's encoder and its weights."
            )
    place = np.array([checkpoint.labels.index(label) for label in corpus.labels] + [UNLABELLED])
    dialogues = [
        dataclasses.replace(d, fine=place[np.where(d.fine < 0, len(corpus.labels), d.fine)])
        for d in corpus.conversations(split)
    ]
    return checkpoint, dialogues
