"""The fine-tuning loop: network and, if asked for, the text encoder's adapter as one model.

Stages, by epoch: a new head alone, then the whole network, then the text encoder with it. A frozen encoder
isn't run: its vectors are those of the corpus. State is kept after every epoch, each epoch draws from (seed,
epoch), so the same command goes on after a kill and, on a CPU, ends with the same weights.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from annotator.encode.precision import mixed_precision
from annotator.records import UsageError
from model import compute_loss
from train.core import Average, label_counts, put, rate_factor, reseed, step_weights
from train.corpus import LabelledConversation
from train.distributed import Group
from train.evaluate.logits import predict_logits, targets
from train.evaluate.metrics import confusion_matrix, score
from train.finetune.settings import FinetuneSettings, Step
from train.joint import JointModel
from train.resume import fingerprint, load_state, save_state

log = logging.getLogger("annotator")


@dataclasses.dataclass
class Tuning:
    """What changes while a model is fine-tuned, and how it is kept on disk."""

    model: JointModel
    new: Sequence[str]  # names of the network's weights that the start doesn't have
    settings: FinetuneSettings
    workers: Group
    file: Path
    train_set: Sequence[LabelledConversation]
    validation_set: Sequence[LabelledConversation]
    starts_complete: bool  # the start as it is may be the best
    history: list[Step] = dataclasses.field(default_factory=list)
    best_weights: dict[str, Tensor] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        s, network = self.settings, self.model.network
        fresh = [p for n, p in network.named_parameters() if n in self.new]
        inherited = [p for n, p in network.named_parameters() if n not in self.new]
        adapter = list(self.model.adapter().values())
        self.groups = {"head": fresh, "network": inherited, "text": adapter}
        rates = {"head": s.head_lr, "network": s.lr, "text": s.text_lr}
        self.optimizer = torch.optim.AdamW(
            [
                # What is inherited decays towards the start instead, below.
                {
                    "params": p,
                    "lr": rates[n],
                    "base": rates[n],
                    "weight_decay": s.weight_decay * (n == "head"),
                }
                for n, p in self.groups.items()
                if p
            ]
        )
        counts = label_counts(self.train_set, network.config.classes)
        self.pull = s.anchor * 1000 / max(1, int(counts[0].sum()))
        self.anchors = {n: [p.detach().clone() for p in self.groups[n]] for n in ("network", "text")}
        self.average = Average(self.weights(), s.average)
        self.start_found = torch.empty(0, dtype=torch.long)  # (V,) the start's labels of the validation set
        self.device = next(network.parameters()).device
        self.counts = [torch.from_numpy(c).to(self.device) for c in counts]

    def weights(self) -> dict[str, nn.Parameter]:
        """All that is trained in some stage, by name."""
        network = {f"network.{name}": p for name, p in self.model.network.named_parameters()}
        return network | {f"text.{name}": p for name, p in self.model.adapter().items()}

    @property
    def best(self) -> Step:
        """The best so far; of equals that with the lower loss on validation.

        A start that is complete stays the best until it is beaten by more than a standard error: with few
        labels to choose by, what seems better mostly isn't.
        """
        steps = self.history
        if self.starts_complete:
            start = steps[0]
            steps = [s for s in steps if s.measure > start.measure + s.margin] or [start]
        return max(steps, key=lambda step: (step.measure, -step.validation_loss))

    @property
    def epochs_done(self) -> int:
        return self.history[-1].number if self.history else 0

    @property
    def finished(self) -> bool:
        patience, done = self.settings.patience, self.epochs_done
        if done >= self.settings.epochs:
            return True
        # Patience counts from where all that is trained has been unfrozen.
        since = max(self.best.number, self.first_of_last_stage) if self.history else 0
        return patience is not None and done - since >= patience

    def stage(self, epoch: int) -> str:
        """What is trained in an epoch (from 1): head, network or text."""
        heads = self.settings.head_epochs if self.groups["head"] else 0
        if epoch <= heads:
            return "head"
        if self.groups["text"] and epoch > heads + self.settings.network_epochs:
            return "text"
        return "network"

    @property
    def first_of_last_stage(self) -> int:
        last = self.stage(self.settings.epochs)
        return next(e for e in range(1, self.settings.epochs + 1) if self.stage(e) == last) - 1

    def trained(self, epoch: int) -> list[nn.Parameter]:
        """Unfreeze what an epoch trains, freeze the rest."""
        parts = {"head": ("head",), "network": ("head", "network"), "text": ("head", "network", "text")}
        free = [p for name in parts[self.stage(epoch)] for p in self.groups[name]]
        for group in self.groups.values():
            for parameter in group:
                parameter.requires_grad = False
        for parameter in free:
            parameter.requires_grad = True
        return free

    def fingerprint(self) -> str:
        """Equal for fine-tunings that would give the same weights."""
        return fingerprint(
            self.model.network.config.to_json(), self.settings, self.workers.size, self.model.tensors(),
            self.train_set, self.validation_set,
        )  # fmt: skip

    def run(
        self,
        name: str,
        *,
        progress: bool = True,
        on_epoch: Callable[[Step], None] | None = None,
    ) -> None:
        """Train to the end; the model then has its best weights.

        Raises:
            UsageError: the loss is no longer finite.
        """
        asked = self.fingerprint()
        self.resume(asked)
        if not self.history:
            self.keep(self.scored(0, "start", self.validation_set, None, 0.0), asked)
        size = self.settings.batch_size * self.settings.accumulate
        steps = math.ceil(len(self.train_set) / size)
        bar = tqdm(
            total=self.settings.epochs * steps,
            initial=self.epochs_done * steps,
            unit="step",
            desc=name,
            disable=None if progress and self.workers.first else True,  # None: shown on a terminal only
        )
        with bar:
            while not self.finished:
                step = self.epoch(self.epochs_done + 1, steps, bar)
                self.keep(step, asked)
                if self.workers.first:
                    left = clock((self.settings.epochs - step.number) * step.seconds)
                    log.info(
                        "epoch %d of %d (%s): loss %.3f, validation %s %.1f %%, %s, at most %s left",
                        step.number, self.settings.epochs, step.stage, step.loss or 0.0,
                        self.settings.choose.replace("_", " "), 100 * step.measure, clock(step.seconds), left,
                    )  # fmt: skip
                    bar.set_postfix(best=f"{100 * self.best.measure:.1f} %")
                    if on_epoch is not None:
                        on_epoch(step)
        self.model.load(self.best_weights)
        self.model.eval()

    def epoch(self, number: int, steps: int, bar: Any) -> Step:
        """One pass over the training dialogues, then validation."""
        began, s, model = time.perf_counter(), self.settings, self.model
        size, stage = s.batch_size * s.accumulate, self.stage(number)
        free = self.trained(number)
        order = np.random.default_rng([s.seed, number]).permutation(len(self.train_set))
        reseed(s.seed, number, self.workers.rank)  # of the dropout
        model.train()
        total = 0.0  # loss, times the utterances of its step
        for step in range(steps):
            rate = rate_factor((number - 1) * steps + step, s.epochs * steps, s.warmup)
            for group in self.optimizer.param_groups:
                group["lr"] = group["base"] * rate
            drawn = [self.train_set[i] for i in order[step * size : (step + 1) * size]]
            # A step is that of one batch with all its dialogues, however they are cut.
            whole = step_weights(drawn, model.network.config, self.counts, self.device)
            self.optimizer.zero_grad(set_to_none=True)
            for first in range(0, len(drawn), s.batch_size):
                if own := self.workers.share(drawn[first : first + s.batch_size]):
                    loss = self.loss(own, whole, stage == "text")
                    loss.backward()  # type: ignore[no-untyped-call]
                    total += float(loss.detach()) * sum(map(len, drawn))
            self.workers.join_gradients(free)
            nn.utils.clip_grad_norm_(free, s.clip)
            self.optimizer.step()
            self.draw_back(rate)
            self.average.update()
            bar.update()
        (total,) = self.workers.summed([total])  # before anyone looks: all go on, or all stop
        if not math.isfinite(total):
            raise UsageError(f"The loss is no longer finite in epoch {number}: use a lower rate (--lr).")
        trained_text = stage == "text" or any(h.stage == "text" for h in self.history)
        with self.average.in_place():
            seen = model.encoded(self.validation_set) if trained_text else self.validation_set
            mean = total / sum(map(len, self.train_set))
            return self.scored(number, stage, seen, mean, time.perf_counter() - began)

    def loss(
        self, batch: Sequence[LabelledConversation], whole: Mapping[str, Tensor], with_text: bool
    ) -> Tensor:
        """Training loss of a part of a step whose weights are ``whole``."""
        fine, coarse = (torch.from_numpy(t).to(self.device) for t in targets(batch))
        with mixed_precision(self.device, self.settings.autocast):
            losses = compute_loss(
                self.model(batch, self.model.read(batch) if with_text else None),
                fine,
                coarse,
                self.model.network.config,
                fine_counts=self.counts[0],
                coarse_counts=self.counts[1],
                task_weights=(1.0, 1.0),  # as dynamic weights begin; there are too few epochs to follow
                whole=whole,
            )
        return losses.total

    @torch.no_grad()
    def draw_back(self, rate: float) -> None:
        """Pull inherited weights that are being trained towards the start."""
        for group, base in (("network", self.settings.lr), ("text", self.settings.text_lr)):
            if self.groups[group] and self.groups[group][0].requires_grad and self.pull:
                share = min(1.0, base * rate * self.pull)
                for parameter, anchor in zip(self.groups[group], self.anchors[group], strict=True):
                    parameter.lerp_(anchor, share)

    def scored(
        self,
        number: int,
        stage: str,
        validation: Sequence[LabelledConversation],
        loss: float | None,
        seconds: float,
    ) -> Step:
        """An epoch with its scores on validation."""
        network = self.model.network
        logits = predict_logits(network, [c.conversation for c in validation])
        fine = targets(validation)[0]
        labels = logits.fine.argmax(1)
        scores = score(confusion_matrix(fine, labels, network.config.classes))
        known = fine >= 0
        if number == 0:
            self.start_found = torch.from_numpy(labels)
        # As in McNemar's test, only what is labelled otherwise can make a difference.
        changed = int((labels != self.start_found.numpy())[known].sum())
        nll = F.cross_entropy(torch.from_numpy(logits.fine[known]).double(), torch.from_numpy(fine[known]))
        return Step(
            number=number,
            stage=stage,
            measure=self.workers.from_first(float(getattr(scores, self.settings.choose))),
            accuracy=scores.accuracy,
            weighted_f1=scores.weighted_f1,
            macro_f1=scores.macro_f1,
            validation_loss=self.workers.from_first(float(nll)),
            margin=self.workers.from_first(math.sqrt(changed) / int(known.sum())),
            loss=loss,
            seconds=seconds,
        )

    def keep(self, step: Step, fingerprint: str) -> None:
        """Note an epoch, on disk as well."""
        # A head that nobody has trained yet is no candidate.
        if step.number or self.starts_complete:
            self.history.append(step)
            if self.best is step:
                with self.average.in_place():
                    self.best_weights = self.model.tensors()
        if self.workers.first:
            state = {
                "model": self.model.tensors(),
                "best": self.best_weights,
                "average": self.average.values,
                "steps": self.average.steps,
                "start_found": self.start_found,
                "optimizer": self.optimizer.state_dict(),
                "history": [dataclasses.asdict(s) for s in self.history],
            }
            save_state(self.file, state, fingerprint)
        self.workers.wait()

    def resume(self, fingerprint: str) -> None:
        """Go on from the state on disk, if it is of the same fine-tuning."""
        state = load_state(self.file, fingerprint)
        self.workers.wait()  # nobody may write the next one while another still reads
        if state is None:
            return
        self.model.load(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.best_weights = state["best"]
        self.start_found, self.average.steps = state["start_found"], state["steps"]
        put(self.average.values, state["average"])
        self.history = [Step(**s) for s in state["history"]]
        if self.epochs_done:
            log.info("Going on after epoch %d of %s.", self.epochs_done, self.file)


def clock(seconds: float) -> str:
    """Time for people.

    >>> clock(75.2), clock(7300)
    ('1:15', '2:01:40')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
