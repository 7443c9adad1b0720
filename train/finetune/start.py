"""The start of a fine-tuning: what is inherited from a checkpoint, and every thing that isn't.

A label that the start knows by the same or a like name takes over its row of the head, with the bias moved
by how much more or less frequent the label is here. Rows of other labels are zero but for that bias. So a
fine-tuning begins from a model that already tells apart what it can by name.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from annotator.labels import same_label, says_sentiment, sentiment_of
from annotator.records import RESERVED_LABELS, UsageError
from model import SENTIMENTS, Checkpoint, ModelConfig, Network
from train.corpus import UNLABELLED, Corpus, LabelledConversation, encoder_files
from train.evaluate.logits import targets
from train.finetune.settings import FinetuneSettings, Override, Plan
from train.loop import statistics

log = logging.getLogger("annotator")

NO_SENTIMENT = "none"
RENEWABLE = ("audio", "face")


def coarse_of(corpus: Corpus, given: Mapping[str, str]) -> dict[str, str | None]:
    """The sentiment of each label whose utterances have none in the corpus: as given, else by its name.

    Args:
        given: label -> positive, neutral, negative, or none for a label that may be either.

    Raises:
        UsageError: an unknown label or sentiment, or labels whose sentiment can't be told, all named.
    """
    unknown = sorted(set(given) - set(corpus.labels))
    if unknown:
        raise UsageError(
            f"There is no label {', '.join(unknown)} in {corpus.folder}; it has {', '.join(corpus.labels)}."
        )
    for label, sentiment in given.items():
        if sentiment not in (*SENTIMENTS, NO_SENTIMENT):
            raise UsageError(
                f"The sentiment of {label!r} must be {', '.join(SENTIMENTS)} or {NO_SENTIMENT}, "
                f"not {sentiment!r}."
            )
    has_own = set(
        corpus.table.drop_nulls(["emotion", "sentiment"]).select("emotion").unique().to_series().to_list()
    )
    open_labels = [label for label in corpus.labels if label in given or label not in has_own]
    unclear = [label for label in open_labels if label not in given and not says_sentiment(label)]
    if unclear:
        options = " ".join(f"--sentiment {quoted(label)}=..." for label in unclear)
        raise UsageError(
            f"The sentiment of {', '.join(unclear)} can't be told from the name. Say positive, neutral, "
            f"negative, or none where it may be either: {options}"
        )
    named = {label: None if s == NO_SENTIMENT else s for label, s in given.items()}
    return {label: named[label] if label in named else sentiment_of(label) for label in open_labels}


def quoted(label: str) -> str:
    """A label as a shell takes it.

    >>> quoted("very sad")
    "'very sad'"
    """
    return label if label.replace("_", "").replace("-", "").isalnum() else f"'{label}'"


def with_coarse(
    dialogues: Sequence[LabelledConversation], labels: Sequence[str], coarse: Mapping[str, str | None]
) -> list[LabelledConversation]:
    """The dialogues with the sentiment that follows from the label, where they have none of their own."""
    codes = [SENTIMENTS.index(s) if (s := coarse.get(label)) else UNLABELLED for label in labels]
    place = np.array([*codes, UNLABELLED], np.int64)  # the last for utterances without a label
    return [
        dataclasses.replace(
            d, coarse=np.where(d.coarse < 0, place[np.where(d.fine < 0, len(labels), d.fine)], d.coarse)
        )
        for d in dialogues
    ]


def check_renewed(corpus: Corpus, start: Checkpoint, renew: Sequence[str]) -> None:
    """Only voice and face can have another encoder, and where both the corpus and the start have them.

    Raises:
        UsageError: another modality, or one that is missing.
    """
    for modality in renew:
        if modality not in RENEWABLE:
            raise UsageError(
                f"--renew {modality}: only {' and '.join(RENEWABLE)} can be learnt anew. Text is encoded "
                "again with the start's encoder; for another one, train from scratch with `annotate train`."
            )
        if modality not in start.config.modalities:
            raise UsageError(f"--renew {modality}: {start.name} {start.version} has no part for it.")
        if modality not in corpus.modalities:
            raise UsageError(f"--renew {modality}: {corpus.folder} has no {modality} features.")
        if modality not in corpus.header.encoders:
            raise UsageError(
                f"--renew {modality}: {corpus.folder} doesn't say which encoder made them, so the result "
                "could not be run on recordings. Train from scratch with `annotate train`."
            )
        if not corpus.features[modality].present[(corpus.table["split"] == "train").to_numpy()].any():
            raise UsageError(
                f"--renew {modality}: no training utterance has any to learn from: leave it out."
            )
    specs = start.encoders | {m: corpus.header.encoders[m] for m in renew}
    named = encoder_files({m: specs[m] for m in sorted(specs)})
    twice = sorted({name for name in named if named.count(name) > 1 or name == "model.safetensors"})
    if twice:
        raise UsageError(
            f"Two parts of the result would have a file {twice[0]}: rename that of {corpus.folder}."
        )


def make_plan(
    corpus: Corpus,
    start: Checkpoint,
    settings: FinetuneSettings,
    coarse: Mapping[str, str | None],
    changes: Mapping[str, Any],
    renew: Sequence[str] = (),
) -> tuple[Plan, ModelConfig]:
    """What is inherited and what is otherwise.

    Args:
        changes: fields of ``ModelConfig`` that the user sets; none may change the shape of a weight.
        renew: modalities of another encoder than the start's, see :func:`check_renewed`.

    Raises:
        UsageError: the corpus and the start have no features in common, or a change can't be.
    """
    name = f"{start.name} {start.version}"
    clash = sorted(set(RESERVED_LABELS) & set(corpus.labels))
    if clash:
        raise UsageError(
            f"The label {clash[0]!r} would have the table's column of the sentiment: name it otherwise."
        )
    config = start.config
    shared = [m for m in config.modalities if m in corpus.modalities]
    if not shared:
        raise UsageError(
            f"{name} uses {', '.join(config.modalities)}; {corpus.folder} has "
            f"{', '.join(corpus.modalities) or 'no features'}. Prepare the corpus with the start's encoders."
        )
    if config.relations == "speaker_pair" and len(corpus.header.speakers or ()) != config.n_speakers:
        raise UsageError(
            f"{name} tells {config.n_speakers} speakers apart who are the same in every dialogue; "
            f"{corpus.folder} has no such. Start from another checkpoint, or train from scratch."
        )
    overrides: list[Override] = []
    for modality in config.modalities:
        if modality not in corpus.modalities:
            why = "the corpus has none; the network keeps what it knows of it"
            overrides.append(Override(modality, "used", "absent in training", why))
    for modality in corpus.modalities:
        if modality not in config.modalities:
            overrides.append(Override(modality, "in the corpus", "left out", f"{name} has no part for it"))
    rows: dict[str, str] = {}
    if tuple(start.labels) != corpus.labels:
        rows = {label: same for label in corpus.labels if (same := same_label(label, start.labels))}
        overrides.append(Override("labels", ", ".join(start.labels), ", ".join(corpus.labels), "the corpus'"))
    else:
        rows = {label: label for label in corpus.labels}
    fields = {**dict(changes), "classes": len(corpus.labels)}
    if renew:
        fields["input_dims"] = {**config.input_dims, **{m: corpus.header.widths[m] for m in renew}}
    for modality in renew:
        before, now = (_said(e.get(modality)) for e in (start.encoders, corpus.header.encoders))
        overrides.append(Override(f"encoder of {modality}", before, now, "as asked; its part is learnt anew"))
    if settings.balance and "logit_adjustment" not in fields:
        fields["logit_adjustment"] = settings.balance
    try:
        changed = config.replace(**fields)
    except (ValueError, TypeError) as error:
        raise UsageError(f"The network can't be changed so: {error}.") from error
    fields_before, fields_now = config.to_json(), changed.to_json()
    for key, value in fields_now.items():
        if value != fields_before[key] and key not in ("classes", "input_dims"):
            why = "as asked" if key in changes else "balance of the classes"
            overrides.append(Override(key, str(fields_before[key]), str(value), why))
    inherited = sum(
        p.numel()
        for name, p in start.network.named_parameters()
        if not name.startswith(tuple(f"project.{m}." for m in renew))
    )
    kept = {
        "network": f"{inherited:,} weights, normalisation",
        "encoders": {m: start.encoders.get(m, {}) for m in shared if m not in renew},
    }
    return Plan(corpus.labels, rows, dict(coarse), tuple(overrides), tuple(renew), kept), changed


def _said(spec: Mapping[str, Any] | None) -> str:
    """An encoder's spec for people."""
    told = {
        name: f"({_said(value)})" if isinstance(value, Mapping) else value
        for name, value in (spec or {}).items()
    }
    return ", ".join(f"{name} {value}" for name, value in told.items()) or "unnamed"


def make_network(
    start: Checkpoint, config: ModelConfig, plan: Plan, train_set: Sequence[LabelledConversation]
) -> tuple[Network, list[str]]:
    """The network to fine-tune, and the names of its weights that are new.

    Raises:
        UsageError: a change of the configuration gives a weight another shape.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # of parts that the start lacks
        network = Network(config)
    inherited, own = start.network.state_dict(), network.state_dict()
    of_renewed = tuple(f"{part}{m}" for m in plan.renewed for part in ("project.", "mean_", "std_"))
    renewed = [name for name in own if name.startswith(of_renewed)]
    new = [name for name in own if name not in inherited or _of_labels(name) or name in renewed]
    for name, tensor in own.items():
        if name not in new and tensor.shape != inherited[name].shape:
            raise UsageError(
                f"That would change the shape of {name}, which is inherited: such fields stay as in the "
                "start, or train from scratch with `annotate train`."
            )
    if plan.labels == tuple(start.labels):
        new = [name for name in own if name not in inherited or name in renewed]
    kept = {name: tensor.clone() for name, tensor in inherited.items() if name in own and name not in new}
    network.load_state_dict({**own, **kept})
    network.set_normalisation(statistics(train_set, plan.renewed))
    if any(_of_labels(name) for name in new):
        _take_rows(network, start, plan, shares(train_set, config.classes))
    return network, [name for name in new if name in dict(network.named_parameters())]


def _of_labels(name: str) -> bool:
    """Whether a weight has one row a label."""
    return name.startswith(("fine.", "unimodal.", "prototypes"))


def shares(dialogues: Sequence[LabelledConversation], classes: int) -> NDArray[np.float64]:
    """Share (C,) of each label; a label without an example counts as half an example."""
    fine = targets(dialogues)[0]
    counts = np.maximum(np.bincount(fine[fine >= 0], minlength=classes), 0.5)
    of_all: NDArray[np.float64] = counts / counts.sum()
    return of_all


def _take_rows(network: Network, start: Checkpoint, plan: Plan, here: NDArray[np.float64]) -> None:
    heads: list[tuple[nn.Module, nn.Module]] = [(network.fine, start.network.fine)]
    heads += [
        (head, start.network.unimodal[m])
        for m, head in network.unimodal.items()
        if m in start.network.unimodal
    ]
    before = start.prior.get("fine")
    with torch.no_grad():
        for head, old in heads:
            assert isinstance(head, nn.Linear) and isinstance(old, nn.Linear)
            for row, label in enumerate(plan.labels):
                known = plan.inherited_rows.get(label)
                if known is None:
                    head.weight[row] = 0
                    # As likely as the label is, on the scale of rows that are centred around 0.
                    head.bias[row] = old.bias.mean() + math.log(here[row]) - float(np.log(here).mean())
                    continue
                column = start.labels.index(known)
                head.weight[row] = old.weight[column]
                shift = math.log(here[row] / max(before[column], 1e-6)) if before else 0.0
                head.bias[row] = old.bias[column] + shift


def start_probabilities(
    probabilities: NDArray[np.floating], start_labels: Sequence[str], plan: Plan
) -> NDArray[np.float32] | None:
    """What the unchanged start says, in the new labels: (V, C_start) to (V, C).

    A label that shares its name's meaning with another takes an equal part; labels that the start
    doesn't know are never predicted. None where it knows none of them.
    """
    if not plan.inherited_rows:
        return None
    out = np.zeros((len(probabilities), len(plan.labels)), np.float32)
    uses = {s: [label for label, of in plan.inherited_rows.items() if of == s] for s in start_labels}
    for known, takers in uses.items():
        for label in takers:
            out[:, plan.labels.index(label)] = probabilities[:, start_labels.index(known)] / len(takers)
    out /= np.maximum(out.sum(axis=1, keepdims=True), 1e-9)
    return out


def log_plan(plan: Plan, start: Checkpoint) -> None:
    """Say what is inherited and each override."""
    log.info("inherited from %s %s: %s", start.name, start.version, plan.kept["network"])
    for modality, spec in plan.kept["encoders"].items():
        log.info("inherited encoder of %s: %s", modality, _said(spec))
    for override in plan.overrides:
        log.info("override %s", override)
    for label in plan.labels:
        row = plan.inherited_rows.get(label)
        if row != label:
            log.info("head of %s: %s", label, f"begins as that of {row}" if row else "new")
    for label, sentiment in plan.coarse.items():
        log.info("sentiment of %s: %s", label, sentiment or "none of its own")
