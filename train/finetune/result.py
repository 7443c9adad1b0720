"""What a fine-tuning leaves: checkpoint, encoders' files, figures, card and page, whole or not at all."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annotator import plain_json
from annotator.encode import make_encoder
from annotator.encode.text import TextEncoder
from annotator.files import replace_folder
from annotator.records import Conversation
from model import Checkpoint, load_checkpoint, save_checkpoint
from train.checkpoints import CARD, EVALUATION, check_place
from train.corpus import ENCODERS, Corpus, LabelledConversation, encoder_files
from train.evaluate import evaluate, per_dialogue, probabilities, scores_of
from train.evaluate.bootstrap import Comparison, Intervals, intervals, paired_bootstrap
from train.evaluate.logits import targets
from train.finetune.card import write_card
from train.finetune.page import write_page
from train.finetune.settings import Plan, Step
from train.finetune.start import start_probabilities
from train.finetune.text import save_text_adapter
from train.prepare.reencode import fitting_text

RECORD = "finetune.json"


@dataclass(frozen=True)
class Compared:
    """A model that stands beside the new one."""

    scores: dict[str, Any]  # as in metrics.json
    difference: Comparison  # the new one's minus its


@dataclass(frozen=True)
class Figures:
    """The new model's figures on a split, and what they are to be held against."""

    split: str  # test, or validation where the corpus has no test split
    metrics: dict[str, Any]  # as in metrics.json
    bounds: Intervals
    confusions: NDArray[np.int64]  # (dialogues, C, C), of each dialogue
    labelled_dialogues: int  # in all splits together
    majority_label: str
    majority: Compared
    start: Compared | None  # None where it has nothing to go by: see start_title
    start_title: str  # of the start beside the new model; why there is none where it is None


def measure(
    corpus: Corpus,
    folder: Path,
    start: Checkpoint,
    start_folder: Path,
    plan: Plan,
    *,
    device: str,
    work: Path,
) -> Figures:
    """Evaluate the checkpoint in ``folder`` into its ``evaluation``, and compare.

    Args:
        corpus: as on disk.
        work: where text vectors are kept meanwhile.
    """
    split = "test" if "test" in corpus.splits else "validation"
    metrics = evaluate(corpus.folder, folder, split, folder / EVALUATION, device=device, work=work)
    new = load_checkpoint(folder, device)
    seen = fitting_text(corpus, new.encoders, folder, device, splits=[split], work=work)
    dialogues = seen.conversations(split)
    probable, _ = probabilities(new, [d.conversation for d in dialogues])
    ours = per_dialogue(probable, dialogues)

    fine = targets(dialogues)[0]
    trained = targets(corpus.conversations("train"))[0]
    frequent = int(np.bincount(trained[trained >= 0], minlength=len(corpus.labels)).argmax())
    always = np.zeros_like(probable)
    always[:, frequent] = 1
    as_it_is = None
    before = fitting_text(corpus, start.encoders, start_folder, device, splits=[split], work=work)
    # It can't read the features of another encoder, and may have nothing to go by then.
    fit = {m for m in start.config.modalities if m in before.modalities} - set(plan.renewed)
    title = " ".join(["the start as it is", *(f"without {m}" for m in plan.renewed)])
    if not plan.inherited_rows:
        title = "The start knows none of these labels by name"
    elif not fit:
        title = "The start can't read these features"
    else:
        known, _ = probabilities(start, [_only(d.conversation, fit) for d in before.conversations(split)])
        as_it_is = start_probabilities(known, start.labels, plan)
    return Figures(
        split=split,
        metrics=metrics,
        bounds=intervals(ours),
        confusions=ours,
        labelled_dialogues=corpus.table.drop_nulls("emotion")["dialogue_id"].n_unique(),
        majority_label=corpus.labels[frequent],
        majority=_compared(ours, always, dialogues, fine),
        start=None if as_it_is is None else _compared(ours, as_it_is, dialogues, fine),
        start_title=title,
    )


def _only(talk: Conversation, modalities: Collection[str]) -> Conversation:
    return Conversation(talk.speakers, {m: f for m, f in talk.features.items() if m in modalities})


def _compared(
    ours: NDArray[np.int64],
    theirs: NDArray[np.float32],
    dialogues: Sequence[LabelledConversation],
    fine: NDArray[np.int64],
) -> Compared:
    return Compared(scores_of(theirs, fine), paired_bootstrap(ours, per_dialogue(theirs, dialogues), 2000))


def write_result(
    out: Path,
    checkpoint: Checkpoint,
    corpus: Corpus,
    start: Checkpoint,
    start_folder: Path,
    plan: Plan,
    history: Sequence[Step],
    best: Step,
    *,
    trained_text: TextEncoder | None,
    device: str,
    work: Path,
    licence: str,
) -> Figures:
    """Write the folder ``out``: everything is made in ``work`` and then takes its place at once.

    Args:
        trained_text: whose adapter belongs to the checkpoint; None: the start's files do.

    Raises:
        UsageError: ``out`` is something other than a checkpoint.
    """
    check_place(out)
    made = work / "result"
    shutil.rmtree(made, ignore_errors=True)
    made.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(made, checkpoint)
    if trained_text is not None:
        save_text_adapter(trained_text, made)
    for modality, spec in checkpoint.encoders.items():
        source = corpus.folder / ENCODERS if modality in plan.renewed else start_folder
        for name in encoder_files({modality: spec}):
            if not (made / name).exists():
                shutil.copyfile(source / name, made / name)
    if trained_text is not None:
        spec = checkpoint.encoders["text"]
        checkpoint.meta["fingerprints"]["text"] = make_encoder("text", spec, made, device).fingerprint
        save_checkpoint(made, checkpoint)
    figures = measure(corpus, made, start, start_folder, plan, device=device, work=work / "text")
    record = {
        "start": {"name": start.name, "version": start.version, "fingerprint": start.fingerprint},
        "overrides": [dataclasses.asdict(o) for o in plan.overrides],
        "head_rows_taken_from": dict(plan.inherited_rows),
        "sentiment_by_label": dict(plan.coarse),
        "history": [dataclasses.asdict(s) for s in history],
        "best": best.number,
        "figures": {
            "split": figures.split,
            "dialogues": figures.bounds.dialogues,
            "intervals": {name: list(v) if v else None for name, v in figures.bounds.scores.items()},
            "f1_intervals": {
                label: list(v) if v else None for label, v in zip(plan.labels, figures.bounds.f1, strict=True)
            },
            "majority": {"label": figures.majority_label, **_record(figures.majority)},
            "start": None
            if figures.start is None
            else {"title": figures.start_title, **_record(figures.start)},
        },
    }
    text = json.dumps(plain_json.finite(record), ensure_ascii=False, indent=1) + "\n"
    (made / EVALUATION / RECORD).write_text(text, encoding="utf-8")
    card = write_card(checkpoint, corpus, start, plan, history, best, figures, licence=licence)
    (made / CARD).write_text(card, encoding="utf-8")
    page = write_page(checkpoint, corpus, start, history, best, figures, made / EVALUATION)
    (made / EVALUATION / "index.html").write_text(page, encoding="utf-8")
    replace_folder(made, out)
    return figures


def _record(compared: Compared) -> dict[str, Any]:
    return {"scores": compared.scores, "difference": dataclasses.asdict(compared.difference)}
