"""The tool's true figure: recordings of a corpus through a whole run, its rows held against the labels.

A run finds speakers, words and utterances by itself. Each labelled utterance takes the run's probabilities
over its time, weighted by how long each of the run's utterances overlaps it. Where the run has nothing,
there is no label, which counts as wrong.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from annotator import pipeline
from annotator.records import UsageError
from annotator.settings import RunSettings
from train.corpus import Corpus, load_corpus, split_name
from train.evaluate.bootstrap import TOO_FEW, intervals
from train.evaluate.metrics import score
from train.prepare.recordings import Index


def evaluate_as_run(
    corpus_folder: Path,
    media: Path,
    split: str,
    out: Path,
    settings: RunSettings,
    *,
    progress: bool = True,
) -> dict[str, Any]:
    """Run the recordings of a split through the tool and compare.

    Args:
        media: the folder of the recordings, as it was given to prepare.
        out: gets the run's table, ``run.parquet``, and what belongs to it.
        settings: of the run; its model is the one that is evaluated.

    Returns:
        ``accuracy, weighted_f1, macro_f1, n``, ``dialogues``, 95 % ``intervals`` (each may be None),
        ``found`` (share of the labelled utterances for which the run has one), ``speaker_accuracy`` (share of
        those whose speaker is right, the run's names matched to the corpus' in each recording),
        ``text_sources`` and ``failed``.

    Raises:
        UsageError: the corpus names no recordings, or they are not in ``media``.
    """
    corpus = load_corpus(corpus_folder)
    gold = _gold(corpus, split)
    index = Index.of(media)
    paths: dict[str, Path] = {}
    for name in gold["recording"].unique(maintain_order=True):
        entry = index.look_up(name)
        if isinstance(entry, str):
            raise UsageError(
                f"{entry.rstrip('.')}. Give --media the folder that the corpus was prepared from."
            )
        paths[name] = entry.path
    alone = settings.model_copy(update={"store": None})  # that of a run: its manifest would be replaced
    result = pipeline.run(list(paths.values()), out / "run.parquet", alone, progress=progress)
    if result.table is None:
        raise KeyboardInterrupt
    base = os.path.commonpath([str(path.parent) for path in paths.values()])
    names = {name: os.path.relpath(path, base).replace(os.sep, "/") for name, path in paths.items()}
    return compared(gold, result.table, names, corpus.labels) | {"failed": len(result.failures)}


def _gold(corpus: Corpus, split: str) -> pl.DataFrame:
    """The labelled utterances of a split, with the recording and times of each."""
    if "recording" not in corpus.table.columns:
        raise UsageError(
            f"{corpus.folder} doesn't say where its recordings are: prepare it with --media, or leave it out."
        )
    whole = bool(corpus.header.provenance.get("whole_recordings"))
    rows = corpus.table.filter(pl.col("split") == split_name(split)).drop_nulls(["recording", "emotion"])
    if whole:  # an utterance is all of its recording
        rows = rows.with_columns(pl.lit(0.0).alias("start"), pl.lit(1e9).alias("end"))
    if not rows.height:
        raise UsageError(f"No labelled utterance of the {split} split of {corpus.folder} has a recording.")
    return rows


def compared(
    gold: pl.DataFrame, run: pl.DataFrame, files: Mapping[str, str], labels: Sequence[str]
) -> dict[str, Any]:
    """A run's table against labelled utterances.

    Args:
        gold: the columns ``dialogue_id, recording, start, end, speaker, emotion``.
        files: the run's name of each recording.
    """
    columns = [f"p_{label}" for label in labels]
    if missing := [name for name in columns if name not in run.columns]:
        raise UsageError(
            f"The model doesn't know {', '.join(m[2:] for m in missing)}: fine-tune it on this corpus first."
        )
    classes, nothing = len(labels), len(labels)
    run_classes = np.full(gold.height, nothing)
    together: dict[tuple[str, str, str], float] = {}  # (recording, gold speaker, run's speaker): seconds
    pairs: list[tuple[str, str, str] | None] = [None] * gold.height
    by_file = {key[0]: part for key, part in run.group_by("file")}
    for i, row in enumerate(gold.select("recording", "start", "end", "speaker").iter_rows()):
        recording, start, end, speaker = row
        part = by_file.get(files[recording])
        if part is None:
            continue
        shared = np.minimum(part["end"].to_numpy(), end) - np.maximum(part["start"].to_numpy(), start)
        shared = np.maximum(shared, 0)
        if not shared.any():
            continue
        run_classes[i] = int((shared @ part.select(columns).to_numpy()).argmax())
        seconds_of: dict[str, float] = {}
        for name, seconds in zip(part["speaker"], shared.tolist(), strict=True):
            seconds_of[name] = seconds_of.get(name, 0.0) + seconds
        best = max(seconds_of, key=lambda name: seconds_of[name])
        pairs[i] = (recording, speaker, best)
        together[recording, speaker, best] = together.get((recording, speaker, best), 0.0) + seconds_of[best]
    target = np.array([labels.index(emotion) for emotion in gold["emotion"]])
    confusions = _by_dialogue(gold, target, run_classes, classes)
    of = score(confusions.sum(axis=0))
    matched = _matched(together)
    right = [pair in matched for pair in pairs if pair is not None]
    bounds = intervals(confusions)
    return {
        "accuracy": of.accuracy,
        "weighted_f1": of.weighted_f1,
        "macro_f1": of.macro_f1,
        "n": of.n,
        "dialogues": bounds.dialogues,
        "intervals": {name: list(pair) if pair else None for name, pair in bounds.scores.items()},
        "found": float((run_classes != nothing).mean()),
        "speaker_accuracy": float(np.mean(right)) if right else None,
        "text_sources": {
            str(source): count
            for source, count in run.group_by("text_source").len().sort("text_source").iter_rows()
        },
    }


def _by_dialogue(
    gold: pl.DataFrame, target: NDArray[np.int64], predicted: NDArray[np.int64], classes: int
) -> NDArray[np.int64]:
    """Confusion (dialogues, C, C + 1); the last column counts utterances that the run doesn't have."""
    names = gold["dialogue_id"].to_list()
    number = {name: i for i, name in enumerate(dict.fromkeys(names))}
    matrices = np.zeros((len(number), classes, classes + 1), np.int64)
    for name, t, f in zip(names, target.tolist(), predicted.tolist(), strict=True):
        matrices[number[name], t, f] += 1
    return matrices


def _matched(seconds: Mapping[tuple[str, str, str], float]) -> set[tuple[str, str, str]]:
    """The run's speaker that is each of the corpus', by the longest time together in each recording."""
    from scipy.optimize import linear_sum_assignment

    matches = set()
    for recording in {key[0] for key in seconds}:
        gold_speakers = sorted({k[1] for k in seconds if k[0] == recording})
        run_speakers = sorted({k[2] for k in seconds if k[0] == recording})
        table = np.array([[seconds.get((recording, a, b), 0.0) for b in run_speakers] for a in gold_speakers])
        for a, b in zip(*linear_sum_assignment(-table), strict=True):
            matches.add((recording, gold_speakers[a], run_speakers[b]))
    return matches


def written(scores: Mapping[str, Any]) -> str:
    """The figures as a section of the report."""
    from train.evaluate.report import ends, markdown_table, percent

    rows = [
        [title, percent(scores[key]), *ends(scores["intervals"][key])]
        for key, title in (("accuracy", "accuracy"), ("weighted_f1", "weighted F1"), ("macro_f1", "macro F1"))
    ]
    speakers = scores["speaker_accuracy"]
    sections = [
        "## As a run labels the recordings",
        "With the speakers, words and utterances that the tool finds by itself: its true figure. Each of "
        f"{scores['n']} labelled utterances in {scores['dialogues']} dialogues is held against what the run "
        "says over its time." + ("" if scores["intervals"]["accuracy"] else f" {TOO_FEW.capitalize()}."),
        markdown_table(["", "figure", "from", "to"], rows),
        f"{percent(scores['found'])} % of the labelled utterances were found"
        + (f"; the speaker of {percent(speakers)} % of those is right" if speakers is not None else "")
        + f". Text: {', '.join(f'{n} rows {source}' for source, n in scores['text_sources'].items())}.",
    ]
    return "\n\n".join(sections) + "\n"
