"""Grouped cross-validation: what fine-tuning on a corpus is worth, where its test split is too small to tell.

The dialogues are cut into folds. Each is tested by a model that was fine-tuned on the others, of which the
next one chose the epoch. Nobody is in two folds where the people can be kept apart.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from annotator import plain_json
from annotator.records import UsageError
from train.checkpoints import CARD, EVALUATION
from train.corpus import ENCODERS, Corpus, load_corpus, write_corpus
from train.distributed import in_group
from train.evaluate.bootstrap import SCORES, TOO_FEW, Intervals, intervals
from train.evaluate.metrics import Scores, score
from train.evaluate.report import resting_on
from train.finetune import finetune
from train.finetune.card import within
from train.finetune.settings import LEAST_FOR_FOLDS, FinetuneSettings
from train.prepare.splits import groups_of, person

FEWEST = 3  # folds: one each to train, to choose and to test on


@dataclass(frozen=True)
class Pooled:
    """Figures over all folds together."""

    folds: int
    scores: Scores
    bounds: Intervals
    apart: str  # people or dialogues: what is in one fold only

    def said(self) -> str:
        """The outcome as a sentence."""
        figures = ", ".join(
            f"{name.replace('_', ' ').replace('f1', 'F1')} "
            f"{within(getattr(self.scores, name), self.bounds.scores[name])}"
            for name in SCORES
        )
        on = resting_on({"n": self.scores.n, "dialogues": self.bounds.dialogues})
        few = "" if self.bounds.draws else f" ({TOO_FEW})"
        return (
            f"{self.folds} fine-tunings like this one, each tested on {self.apart} that it did not see: "
            f"{on}; in percent: {figures}{few}"
        )


def fold_of_each(corpus: Corpus, folds: int, seed: int) -> tuple[dict[str, int], str]:
    """The fold of each dialogue, and what the folds keep apart.

    Raises:
        UsageError: too few folds, or too few labelled dialogues for them.
    """
    rows = corpus.table.drop_nulls("emotion")
    sizes = dict(rows.group_by("dialogue_id", maintain_order=True).len().iter_rows())
    if not FEWEST <= folds <= len(sizes) or len(sizes) < LEAST_FOR_FOLDS:
        raise UsageError(
            f"--folds {folds}: give {FEWEST} to as many as there are labelled dialogues, at least "
            f"{LEAST_FOR_FOLDS}; {corpus.folder} has {len(sizes)}."
        )
    recordings = rows["recording"] if "recording" in rows.columns else rows["dialogue_id"]
    people = [
        person(who, where or talk)
        for who, where, talk in zip(rows["speaker"], recordings, rows["dialogue_id"], strict=True)
    ]
    group, apart = groups_of(rows["dialogue_id"].to_list(), people), "people"
    weight = np.bincount([group[d] for d in sizes], list(sizes.values()))
    if len(weight) < folds or weight.max() > weight.sum() / 2:  # who is in half of all can't be left out
        group, apart = {dialogue: i for i, dialogue in enumerate(sizes)}, "dialogues"
        weight = np.array(list(sizes.values()))
    order = np.random.default_rng(seed).permutation(len(weight))
    place, filled = np.zeros(len(weight), np.int64), np.zeros(folds)
    for number in sorted(order, key=lambda i: -weight[i]):  # the large ones first, each where there is least
        place[number] = filled.argmin()
        filled[place[number]] += weight[number]
    return {dialogue: int(place[number]) for dialogue, number in group.items()}, apart


def check_folds(corpus_folder: Path, folds: int, seed: int) -> tuple[Corpus, dict[str, int], str]:
    """The corpus, the fold of each dialogue, and what the folds keep apart.

    Raises:
        UsageError: as :func:`fold_of_each`, or there are several processes.
    """
    if in_group():
        raise UsageError("--folds is for one process: leave out torchrun.")
    corpus = load_corpus(corpus_folder)
    return corpus, *fold_of_each(corpus, folds, seed)


def cross_validate(
    corpus_folder: Path,
    start_from: Path | str,
    out: Path,
    settings: FinetuneSettings,
    folds: int,
    **options: Any,
) -> Pooled:
    """Fine-tune once a fold, beside the checkpoint ``out``, which is there; add what was found to its card.

    Args:
        options: those of :func:`finetune`.

    Raises:
        UsageError: as :func:`check_folds`.
    """
    corpus, fold, apart = check_folds(corpus_folder, folds, settings.seed)
    work = out.with_name(out.name + ".folds")
    by_fold = []
    for number in range(folds):
        named = {0: "test", 1: "validation"}
        split = {d: named.get((place - number) % folds, "train") for d, place in fold.items()}
        # A dialogue without a label is of no use to any of them.
        rows = np.flatnonzero(corpus.table["dialogue_id"].is_in(list(split)).to_numpy())
        table = corpus.table[rows].with_columns(split=pl.col("dialogue_id").replace_strict(split))
        features = {
            m: dataclasses.replace(f, values=np.asarray(f.values)[rows], present=f.present[rows])
            for m, f in corpus.features.items()
        }
        header = corpus.header
        write_corpus(
            work / "corpus", table, corpus.labels, features, encoders=header.encoders,
            fingerprints=header.fingerprints, weights=corpus.folder / ENCODERS, speakers=header.speakers,
            provenance=header.provenance,
        )  # fmt: skip
        tuned = finetune(work / "corpus", start_from, work / f"fold{number}", settings, **options)
        assert tuned.figures is not None  # there is one process
        by_fold.append(tuned.figures.confusions)
    confusions = np.concatenate(by_fold)
    pooled = Pooled(folds, score(confusions.sum(axis=0)), intervals(confusions), apart)
    record = plain_json.finite(dataclasses.asdict(pooled))
    (out / EVALUATION / "folds.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    with (out / CARD).open("a", encoding="utf-8") as card:
        card.write(f"\n## Over all dialogues\n\n{pooled.said()}.\n")
    shutil.rmtree(work)
    return pooled
