"""What is compared with what: the paper's tables and sweeps, and what this project tries beyond them.

An experiment is the preset of its table with some fields set otherwise. The figures that arXiv 2501.15063
prints stand beside those that they can be compared with.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from annotator.records import MODALITIES, UsageError
from train.corpus import Corpus
from train.prepare import iemocap, meld

ALPHAS = tuple(tenth / 10 for tenth in range(11))
WINDOWS = (0, 1, 3, 5, 10, 15, 20)
DROPS = ("message", "dropout", "edge", "none")

TITLES = {
    "parts": "Parts of the network",
    "modalities": "Modalities",
    "alpha": "Weight of the coarse task, alpha",
    "window": "Window of the graph, past and future",
    "drop": "What is dropped in the graph",
    "beyond": "Beyond the paper",
}
PRESETS: dict[str, Literal["paper", "default"]] = {"beyond": "default"}  # those of the others: paper
REFERENCES = {"paper": "full", "default": "default"}  # what the others of a preset are compared with


@dataclass(frozen=True)
class Experiment:
    """A preset and what is set otherwise."""

    name: str  # of its folder, too
    table: str  # a key of TITLES
    model: Mapping[str, Any] = field(default_factory=dict)  # fields of ModelConfig
    training: Mapping[str, Any] = field(default_factory=dict)  # fields of TrainSettings
    modalities: tuple[str, ...] | None = None  # all of the corpus' when None
    published: str | None = None  # the paper's own figure, in its words
    point: float | None = None  # where it stands on a curve
    quick: bool = False  # part of a check of the code
    several: bool = False  # says nothing with a single modality
    coarse: bool = False  # says nothing without sentiments

    @property
    def preset(self) -> Literal["paper", "default"]:
        return PRESETS.get(self.table, "paper")

    @property
    def reference(self) -> str:
        """Name of the experiment that it is compared with; its own for a reference."""
        return REFERENCES[self.preset]


# Face alone best and text alone worst: the reverse of what the field finds.
PUBLISHED_MODALITIES = {
    ("face",): "67.31 IEMOCAP",
    ("audio",): "65.01 IEMOCAP",
    ("text",): "61.93 IEMOCAP",
    ("text", "face"): "65.32 IEMOCAP",
}

BEYOND: tuple[tuple[str, dict[str, Any], dict[str, Any]], ...] = (
    # suffix of the name, fields of the experiment, fields of ModelConfig
    ("no-missing", {"several": True}, {"missing": False, "modality_dropout": 0.0}),
    ("no-modality-dropout", {"several": True}, {"modality_dropout": 0.0}),
    ("no-gates", {"several": True, "quick": True}, {"gated": False}),
    ("unimodal-heads", {"several": True}, {"unimodal_heads": True}),
    ("no-speaker-encoding", {}, {"speaker_encoding": False}),
    ("uncertainty", {"coarse": True, "quick": True}, {"loss": "uncertainty"}),
    ("dynamic", {"coarse": True}, {"loss": "dynamic"}),
    ("alpha-0.0", {"coarse": True}, {"alpha": 0.0}),
    ("alpha-0.3", {"coarse": True}, {"alpha": 0.3}),
    ("alpha-0.5", {"coarse": True}, {"alpha": 0.5}),
    ("alpha-0.7", {"coarse": True}, {"alpha": 0.7}),
    ("logit-adjustment", {}, {"logit_adjustment": 1.0}),
    ("focal", {}, {"focal_gamma": 2.0}),
    ("class-balance", {}, {"class_balance": 0.999}),
    ("label-smoothing", {}, {"label_smoothing": 0.1}),
    ("contrast", {}, {"contrast_weight": 0.1}),
    ("shift", {}, {"shift_weight": 0.2}),
    ("attention-replace", {}, {"classifier_attention": "replace"}),
    ("attention-beside", {}, {"classifier_attention": "beside"}),
    ("attention-none", {}, {"classifier_attention": "none"}),
    ("feature-dropout-0.4", {}, {"feature_dropout": 0.4}),
    ("context-dropout-0.4", {}, {"context_dropout": 0.4}),
    ("dropouts-0.4", {}, {"feature_dropout": 0.4, "context_dropout": 0.4}),
    (
        "beside-dropouts-0.4",
        {},
        {"classifier_attention": "beside", "feature_dropout": 0.4, "context_dropout": 0.4},
    ),
    ("lr-0.0003", {"training": {"lr": 3e-4}}, {}),
    ("lr-0.003", {"training": {"lr": 3e-3}}, {}),
)


def experiments(corpus: Corpus) -> Iterator[Experiment]:
    """All experiments, the reference of each preset before what is compared with it."""
    is_iemocap, is_meld = (set(corpus.labels) == set(kind.LABELS) for kind in (iemocap, meld))
    # What the paper found best; on other corpora the even weight.
    base: dict[str, Any] = {"alpha": 0.7 if is_iemocap else 0.5}

    def printed(text: str | None) -> str | None:
        return text if is_iemocap or is_meld else None  # it says nothing about other corpora

    yield Experiment("full", "parts", base, quick=True, published=printed("68.98 IEMOCAP, 62.54 MELD"))
    unaligned = {**base, "alignment": False}
    figure = printed("66.48 IEMOCAP")
    yield Experiment("no-alignment", "parts", unaligned, quick=True, several=True, published=figure)
    unencoded = {**base, "speaker_encoding": False}
    figure = printed("lower, no figure")
    yield Experiment("no-speaker-encoding", "parts", unencoded, quick=True, published=figure)
    for subset in _subsets(corpus.modalities):
        alone, rest = len(subset) == 1, _rest(corpus.modalities, subset)
        name = f"only-{subset[0]}" if alone else f"without-{rest}"
        figure = printed(PUBLISHED_MODALITIES.get(subset))
        fields: dict[str, Any] = {"modalities": subset, "published": figure, "several": True}
        yield Experiment(name, "modalities", base, quick=alone, **fields)
    for alpha in ALPHAS:
        best = (is_iemocap and alpha == 0.7) or (is_meld and alpha == 0.5)
        yield Experiment(
            f"alpha-{alpha}",
            "alpha",
            {"alpha": alpha},
            point=alpha,
            published="best" if best else None,
            quick=alpha in (0, 0.5),
            coarse=True,
        )
    for window in WINDOWS:
        model = {**base, "window_past": window, "window_future": window}
        quick = window in (0, 10)
        yield Experiment(f"window-{window}", "window", model, point=float(window), quick=quick)
    for drop in DROPS:
        yield Experiment(f"drop-{drop}", "drop", {**base, "graph_drop": drop}, quick=drop == "edge")
    yield Experiment("default", "beyond", quick=True)
    for suffix, fields, model in BEYOND:
        yield Experiment(f"default-{suffix}", "beyond", model, **fields)


def choose(available: Sequence[Experiment], only: Collection[str] | None, quick: bool) -> list[Experiment]:
    """The experiments that ``only`` names, by their names or their tables', with their references.

    Raises:
        UsageError: no such experiment or table.
    """
    wanted = set(only or ())
    unknown = sorted(wanted - {e.name for e in available} - set(TITLES))
    if unknown:
        raise UsageError(
            f"{unknown[0]!r} is neither a table nor an experiment. Tables: {', '.join(TITLES)}; "
            f"experiments: {', '.join(e.name for e in available)}."
        )
    if wanted:
        selected = [e for e in available if e.name in wanted or e.table in wanted]
        references = {e.reference for e in selected}
        return [e for e in available if e in selected or e.name in references]
    return [e for e in available if e.quick or not quick]


def void(experiment: Experiment, corpus: Corpus) -> str | None:
    """Why an experiment says nothing on a corpus, as a sentence; None where it does."""
    if experiment.several and len(corpus.modalities) < 2:
        return f"{experiment.name}: the corpus has {corpus.modalities[0]} only, so it changes nothing."
    if experiment.coarse and not corpus.table.filter(split="train")["sentiment"].is_not_null().any():
        return f"{experiment.name}: the training split has no sentiments, so there is no coarse task."
    return None


def _subsets(modalities: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Each modality alone, then each left out where that leaves several."""
    ordered = tuple(m for m in MODALITIES if m in modalities)
    yield from ((m,) for m in ordered)
    if len(ordered) > 2:
        yield from (tuple(k for k in ordered if k != m) for m in ordered)


def _rest(modalities: tuple[str, ...], remaining: tuple[str, ...]) -> str:
    return "+".join(m for m in modalities if m not in remaining)
