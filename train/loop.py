"""The training loop: corpus in, checkpoint out.

An epoch is a pass over the training dialogues in an order drawn from (seed, epoch), then weighted F1
on validation. State is kept after every epoch beside the checkpoint (``OUT.work``): the same command
goes on after a kill and, on a CPU, ends with the same weights. The best validation epoch becomes the
checkpoint, with temperatures fitted on validation.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from annotator import folders
from annotator.encode.precision import mixed_precision
from annotator.files import written_folder
from annotator.records import UsageError
from model import Checkpoint, DynamicWeights, ModelConfig, Network, collate, compute_loss, save_checkpoint
from train.checkpoints import check_place
from train.core import STATE, label_counts, own_randomness, prior_of, rate_factor, reseed, step_weights
from train.corpus import ENCODERS, Corpus, LabelledConversation, encoder_files, load_corpus
from train.distributed import Group, group
from train.evaluate.calibration import calibrate
from train.evaluate.logits import predict_logits, targets
from train.evaluate.metrics import Scores, confusion_matrix, score
from train.resume import fingerprint, load_state, save_state
from train.settings import Epoch, Trained, TrainSettings

log = logging.getLogger("annotator")


def train_corpus(
    corpus_folder: Path,
    out: Path,
    *,
    preset: Literal["default", "paper"] = "default",
    settings: TrainSettings | None = None,
    config: Mapping[str, Any] | None = None,
    modalities: Sequence[str] | None = None,
    name: str | None = None,
    oracle: bool = False,
    progress: bool = True,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> Trained:
    """Train on a corpus' train split, choose on its validation split, write the checkpoint folder ``out``.

    Args:
        preset: of the network, and of the settings where none are given.
        config: fields of ``ModelConfig`` to set otherwise than the preset.
        modalities: those to use; all of the corpus by default.
        name: of the model; the name of ``out`` by default.
        oracle: also follow the test split, for :attr:`Trained.oracle_test_best`.

    Raises:
        UsageError: the corpus or a setting is faulty.
    """
    corpus = load_corpus(corpus_folder)
    out = Path(out)
    settings = settings or (TrainSettings.paper() if preset == "paper" else TrainSettings())
    return train(
        corpus.conversations("train"),
        corpus.conversations("validation"),
        network_config(corpus, preset, modalities, config or {}),
        settings,
        out,
        labels=corpus.labels,
        encoders=corpus.header.encoders,
        name=name or out.stem,
        encoder_weights=[corpus.folder / ENCODERS / file for file in encoder_files(corpus.header.encoders)],
        meta={
            "fingerprints": corpus.header.fingerprints,
            "corpus": {
                "name": corpus.folder.name,
                **corpus.header.provenance,
                "counts": {s: c.model_dump() for s, c in corpus.header.counts.items()},
            },
        },
        oracle=corpus.conversations("test") if oracle else None,
        progress=progress,
        on_epoch=on_epoch,
    )


def network_config(
    corpus: Corpus, preset: str, modalities: Sequence[str] | None, changes: Mapping[str, Any]
) -> ModelConfig:
    """The network's configuration for a corpus.

    Raises:
        UsageError: a modality that the corpus doesn't have, or a field that can't be.
    """
    wanted = list(modalities or corpus.modalities)
    missing = [m for m in wanted if m not in corpus.modalities]
    if missing or not wanted:
        raise UsageError(
            f"{corpus.folder} has no features of {', '.join(missing) or 'any modality'}; it has "
            f"{', '.join(corpus.modalities) or 'none'}. Prepare it with them, or leave them out."
        )
    widths = {m: corpus.header.widths[m] for m in wanted}
    speakers = corpus.header.speakers
    fixed: dict[str, Any] = {}
    if preset == "paper" and speakers is not None:
        # Identity means something across dialogues only in such corpora, never in a diarized recording.
        fixed = {"relations": "speaker_pair", "n_speakers": len(speakers)}
    build = {"paper": ModelConfig.paper, "default": ModelConfig.default}.get(preset)
    if build is None:
        raise UsageError(f"{preset!r} is no preset; use default or paper.")
    try:
        return build(widths, len(corpus.labels), **{**fixed, **changes})
    except (ValueError, TypeError) as error:
        raise UsageError(f"The network can't be built: {error}.") from error


def train(
    train_set: Sequence[LabelledConversation],
    validation_set: Sequence[LabelledConversation],
    config: ModelConfig,
    settings: TrainSettings,
    out: Path,
    *,
    labels: Sequence[str],
    encoders: Mapping[str, dict[str, Any]],
    name: str = "model",
    version: str = "1",
    meta: Mapping[str, Any] | None = None,
    encoder_weights: Sequence[Path] = (),
    start: Network | None = None,
    oracle: Sequence[LabelledConversation] | None = None,
    progress: bool = True,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> Trained:
    """Train a network and write its checkpoint to the folder ``out``.

    Args:
        start: a network of the same config to go on from, with its normalisation; a fresh one when None.
        encoder_weights: files of the encoders, to lie beside the checkpoint.
        meta: kept in the checkpoint, with the settings and scores added.
        on_epoch: called after each epoch, once its state is on disk.

    Raises:
        UsageError: a split has no labels, the loss is no longer finite, or ``out`` is something other than a
            checkpoint.
    """
    check_place(out)
    counts = label_counts(train_set, config.classes)
    if counts[0].sum() == 0 or (targets(validation_set)[0] < 0).all():
        raise UsageError(
            "Training needs utterances with an emotion both in the train and the validation split."
        )
    with group(settings.device) as workers, own_randomness(settings.device):
        device = workers.device(settings.device)
        reseed(settings.seed, 0)
        network = start if start is not None else Network(config)
        if start is None:
            network.set_normalisation(statistics(train_set, config.modalities))
        network.to(device)
        work = out.with_name(out.name + ".work")
        if workers.first:
            folders.claim(work, "the folder of this training's intermediate files")
        identity = fingerprint(
            config.to_json(), settings, workers.size, network.state_dict(), train_set, validation_set
        )
        run = _Run(network, settings, workers, work, identity)
        run.resume()
        on_device = [torch.from_numpy(c).to(device) for c in counts]
        steps = math.ceil(len(train_set) / settings.batch_size)
        with tqdm(
            total=settings.epochs * steps,
            initial=len(run.history) * steps,
            unit="batch",
            desc=name,
            # None: shown on a terminal only.
            disable=None if progress and workers.first else True,
        ) as bar:
            while not run.finished:
                began, number = time.perf_counter(), len(run.history) + 1
                losses = _descend(run, train_set, on_device, bar)
                run.task_weights.update(float(losses[1]), float(losses[2]))
                scores = validate(network, validation_set)
                epoch = Epoch(
                    number=number,
                    loss=float(losses[0]),
                    fine_loss=float(losses[1]),
                    coarse_loss=float(losses[2]),
                    lr=float(run.optimizer.param_groups[0]["lr"]),
                    accuracy=scores.accuracy,
                    weighted_f1=workers.from_first(scores.weighted_f1),
                    macro_f1=scores.macro_f1,
                    seconds=time.perf_counter() - began,
                    oracle_weighted_f1=validate(network, oracle).weighted_f1 if oracle else None,
                )
                run.keep(epoch)
                bar.set_postfix(loss=f"{epoch.loss:.3f}", f1=f"{100 * epoch.weighted_f1:.1f} %")
                if workers.first and on_epoch is not None:
                    on_epoch(epoch)
        network.load_state_dict(run.best_weights)
        if workers.first:
            prior = prior_of(train_set, config.classes)
            checkpoint = Checkpoint(
                network=network,
                labels=tuple(labels),
                name=name,
                version=version,
                encoders={m: dict(encoders[m]) for m in config.modalities if m in encoders},
                calibration=calibrate(network, validation_set, prior),
                prior=prior,
                meta={
                    **(meta or {}),
                    "settings": dataclasses.asdict(settings),
                    "validation": dataclasses.asdict(run.best),
                    "epochs": len(run.history),
                    "torch": torch.__version__,
                },
            )
            with written_folder(out, anew=False) as folder:
                save_checkpoint(folder, checkpoint)
                for file in encoder_weights:
                    shutil.copyfile(file, folder / file.name)
            folders.remove(work)
        workers.wait()
        return Trained(out, run.best, tuple(run.history))


def _descend(
    run: _Run, train_set: Sequence[LabelledConversation], counts: Sequence[Tensor], bar: tqdm[Any]
) -> NDArray[np.float64]:
    """One epoch of steps. Returns the means of the total, the fine and the coarse loss (3,).

    Args:
        counts: of the fine and the coarse labels of the training split, on the network's device.

    Raises:
        UsageError: the loss is no longer finite.
    """
    settings, workers, network = run.settings, run.workers, run.network
    config, device = network.config, counts[0].device
    number, steps = len(run.history) + 1, math.ceil(len(train_set) / settings.batch_size)
    order = np.random.default_rng([settings.seed, number]).permutation(len(train_set))
    reseed(settings.seed, number, workers.rank)  # of the dropout
    network.train()
    sums = np.zeros(3)  # of the losses, each times the utterances of its step
    for step in range(steps):
        batch = [train_set[i] for i in order[step * settings.batch_size :][: settings.batch_size]]
        run.set_rate((number - 1) * steps + step, settings.epochs * steps)
        run.optimizer.zero_grad(set_to_none=True)
        if part := workers.share(batch):
            inputs = collate([c.conversation for c in part], config.modalities).to(device)
            fine, coarse = (torch.from_numpy(t).to(device) for t in targets(part))
            with mixed_precision(device, settings.autocast):
                loss = compute_loss(
                    network(inputs), fine, coarse, config, fine_counts=counts[0], coarse_counts=counts[1],
                    task_weights=run.task_weights.weights, whole=step_weights(batch, config, counts, device),
                )  # fmt: skip
            loss.total.backward()  # type: ignore[no-untyped-call]
            losses = torch.stack([loss.total, loss.fine, loss.coarse]).detach().double().cpu().numpy()
            sums += losses * sum(map(len, batch))
        workers.join_gradients(network.parameters())
        nn.utils.clip_grad_norm_(network.parameters(), settings.clip)
        run.optimizer.step()
        bar.update()
    # Joined before anyone looks: all go on, or all stop.
    means = np.array(workers.summed(sums.tolist())) / sum(map(len, train_set))
    if not np.isfinite(means).all():
        raise UsageError(f"The loss is no longer finite in epoch {number}: train with a lower rate (lr).")
    return means


class _Run:
    """What changes while training, and how it is kept on disk."""

    def __init__(
        self, network: Network, settings: TrainSettings, workers: Group, work: Path, fingerprint: str
    ) -> None:
        self.network, self.settings, self.workers = network, settings, workers
        self.file, self.fingerprint = work / STATE, fingerprint
        kind = torch.optim.Adam if settings.optimizer == "adam" else torch.optim.AdamW
        self.optimizer = kind(network.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
        self.task_weights = DynamicWeights()
        self.history: list[Epoch] = []
        self.best_weights: dict[str, torch.Tensor] = {}

    @property
    def best(self) -> Epoch:
        return max(self.history, key=lambda epoch: epoch.weighted_f1)  # the first of equals

    @property
    def finished(self) -> bool:
        if not self.history:
            return False
        patience = self.settings.patience
        tired = patience is not None and len(self.history) - self.best.number >= patience
        return tired or len(self.history) >= self.settings.epochs

    def set_rate(self, step: int, steps: int) -> None:
        rate = self.settings.lr
        if self.settings.schedule == "cosine":
            rate *= rate_factor(step, steps, self.settings.warmup)
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = rate

    def keep(self, epoch: Epoch) -> None:
        self.history.append(epoch)
        if self.best is epoch:
            self.best_weights = {k: v.detach().cpu().clone() for k, v in self.network.state_dict().items()}
        if self.workers.first:
            state = {
                "network": dict(self.network.state_dict()),
                "best": self.best_weights,
                "optimizer": self.optimizer.state_dict(),
                "task_losses": [list(pair) for pair in self.task_weights.history],
                "history": [dataclasses.asdict(e) for e in self.history],
            }
            save_state(self.file, state, self.fingerprint)
        self.workers.wait()

    def resume(self) -> None:
        """Go on from the state on disk, if it is of the same training."""
        state = load_state(self.file, self.fingerprint)
        if state is None:
            return
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.best_weights = state["best"]
        self.task_weights = DynamicWeights(history=[(f, c) for f, c in state["task_losses"]])
        self.history = [Epoch(**e) for e in state["history"]]
        log.info("Going on after epoch %d of %s.", len(self.history), self.file)


def validate(network: Network, conversations: Sequence[LabelledConversation]) -> Scores:
    """Scores of the fine labels."""
    logits = predict_logits(network, [c.conversation for c in conversations])
    return score(confusion_matrix(targets(conversations)[0], logits.fine.argmax(1), network.config.classes))


def statistics(
    conversations: Sequence[LabelledConversation], modalities: Sequence[str]
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Mean and standard deviation, each (d,), of each modality's present rows; two passes, in float64."""
    moments = {}
    for modality in modalities:
        parts = [
            c.conversation.features[modality] for c in conversations if modality in c.conversation.features
        ]
        rows = [f.values[f.present] for f in parts if f.present.any()]
        if not rows:
            raise UsageError(f"No training utterance has {modality}: train without it.")
        n = sum(len(r) for r in rows)
        mean = np.sum([r.sum(axis=0, dtype=np.float64) for r in rows], axis=0) / n
        square = np.sum([((r - mean) ** 2).sum(axis=0) for r in rows], axis=0) / n
        moments[modality] = (mean, np.sqrt(square))
    return moments
