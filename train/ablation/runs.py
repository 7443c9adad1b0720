"""One experiment with one seed: trained, measured, and kept on disk so that it is never done twice."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from annotator.files import write_json
from annotator.records import UsageError
from model import ModelConfig, load_checkpoint
from train.ablation.experiments import Experiment
from train.corpus import Corpus, LabelledConversation
from train.corpus.format import HEADER, TABLE
from train.evaluate import per_dialogue, probabilities, scores_of
from train.evaluate.logits import targets
from train.loop import network_config, train
from train.settings import Epoch, TrainSettings

RESULT, CHECKPOINT = "result.json", "model"
SCORES = ("accuracy", "weighted_f1", "macro_f1")


@dataclass(frozen=True)
class Plan:
    """An experiment on a corpus, settled in every field."""

    experiment: Experiment
    config: ModelConfig
    settings: TrainSettings  # with seed 0

    def fingerprint(self, corpus: str, seed: int) -> str:
        """Equal for runs that would find the same. The device is left out: it only rounds otherwise."""
        settings = {**dataclasses.asdict(self.settings), "seed": seed}
        del settings["device"]
        return hashlib.sha256(
            json.dumps([corpus, self.config.to_json(), settings], sort_keys=True).encode()
        ).hexdigest()


@dataclass(frozen=True)
class Result:
    """What a run found on the test split, with the epoch chosen on validation."""

    seed: int
    scores: dict[str, float]  # SCORES
    validation: dict[str, float]  # SCORES, of the chosen epoch
    epoch: int
    epochs: int  # that were trained
    seconds: float
    oracle_test_best: float  # the best weighted F1 of any epoch on the test split: no result
    confusion: NDArray[np.int64]  # (dialogues, C, C)


@dataclass(frozen=True)
class Splits:
    """A corpus in memory, once for all runs."""

    corpus: Corpus
    fingerprint: str
    train: list[LabelledConversation]
    validation: list[LabelledConversation]
    test: list[LabelledConversation]

    @classmethod
    def of(cls, corpus: Corpus) -> Splits:
        """
        Raises:
            UsageError: the corpus has no features, lacks a split, or one has no emotions.
        """
        if not corpus.modalities:
            raise UsageError(f"{corpus.folder} has no features: prepare it with an encoder.")
        splits = [corpus.conversations(name) for name in ("train", "validation", "test")]
        for name, dialogues in zip(("train", "validation", "test"), splits, strict=True):
            if (targets(dialogues)[0] < 0).all():
                raise UsageError(
                    f"No utterance of the {name} split of {corpus.folder} has an emotion: label some."
                )
        digest = hashlib.sha256()
        files = [f"{m}{end}.npy" for m in corpus.modalities for end in ("", "_present")]
        for file in (HEADER, TABLE, *files):
            with open(corpus.folder / file, "rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
        return cls(corpus, digest.hexdigest(), *splits)


def plan(experiment: Experiment, corpus: Corpus, device: str, epochs: int | None) -> Plan:
    """Settle an experiment.

    Args:
        epochs: instead of the preset's.

    Raises:
        UsageError: a field can't be what is asked for.
    """
    changes = {**experiment.training, "device": device, **({"epochs": epochs} if epochs else {})}
    settings = TrainSettings.paper(**changes) if experiment.preset == "paper" else TrainSettings(**changes)
    config = network_config(corpus, experiment.preset, experiment.modalities, experiment.model)
    return Plan(experiment, config, settings)


def finished(folder: Path, planned: Plan, splits: Splits, seed: int) -> Result | None:
    """The result of a run that is done; None where it isn't.

    Raises:
        UsageError: the folder holds a run of another corpus or with other settings.
    """
    file = folder / RESULT
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        if stored["fingerprint"] != planned.fingerprint(splits.fingerprint, seed):
            raise UsageError(
                f"{folder} is of another corpus or of other settings. Choose another --out, or remove it "
                "to train anew."
            )
        classes = np.array(stored["found"].split(), np.int64)
        return Result(
            seed=seed,
            scores=stored["test"],
            validation=stored["validation"],
            epoch=stored["epoch"],
            epochs=stored["epochs"],
            seconds=stored["seconds"],
            oracle_test_best=stored["oracle_test_best"],
            confusion=per_dialogue(np.eye(planned.config.classes, dtype=np.float32)[classes], splits.test),
        )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise UsageError(f"{file} can't be read ({error!r}). Remove {folder} to train anew.") from error


def run(
    folder: Path, planned: Plan, splits: Splits, seed: int, on_epoch: Callable[[Epoch], None] | None = None
) -> Result:
    """Train and measure; goes on where a stopped run was.

    The result is written last, so that a folder with one is complete.

    Raises:
        UsageError: the training fails, as in :func:`train.loop.train`.
        SetupError: the folder can't be written.
    """
    corpus = splits.corpus
    trained = train(
        splits.train,
        splits.validation,
        planned.config,
        dataclasses.replace(planned.settings, seed=seed),
        folder / CHECKPOINT,
        labels=corpus.labels,
        encoders=corpus.header.encoders,
        name=f"{planned.experiment.name}-{seed}",
        meta={"fingerprints": corpus.header.fingerprints, "corpus": {"name": corpus.folder.resolve().name}},
        oracle=splits.test,
        progress=False,
        on_epoch=on_epoch,
    )
    # What is measured is the checkpoint as it lies on disk.
    checkpoint = load_checkpoint(folder / CHECKPOINT, torch.device(planned.settings.device))
    emotion, _ = probabilities(checkpoint, [d.conversation for d in splits.test])
    scores = scores_of(emotion, targets(splits.test)[0])
    best: dict[str, Any] = dataclasses.asdict(trained.best)
    oracle = trained.oracle_test_best
    write_json(
        folder / RESULT,
        {
            "experiment": planned.experiment.name,
            "preset": planned.experiment.preset,
            "seed": seed,
            "fingerprint": planned.fingerprint(splits.fingerprint, seed),
            "config": planned.config.to_json(),
            "settings": {**dataclasses.asdict(planned.settings), "seed": seed},
            "test": {key: scores[key] for key in SCORES},
            "validation": {key: best[key] for key in SCORES},
            "epoch": best["number"],
            "epochs": len(trained.history),
            "seconds": sum(e.seconds for e in trained.history),
            "oracle_test_best": oracle,
            # The class of every test utterance, in the corpus' order, for comparisons in pairs.
            "found": " ".join(map(str, emotion.argmax(1).tolist())),
        },
    )
    result = finished(folder, planned, splits, seed)
    assert result is not None  # it was just written
    return result
