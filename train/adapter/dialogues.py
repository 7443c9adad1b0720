"""Last stage: encoder and network are one model on whole dialogues, under the network's own loss.

A network trained on the vectors of an encoder that has seen the same labels learns to trust them too much;
trained together, both see the same error. Other modalities of the corpus take part with their vectors.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from annotator.records import SetupError
from model import Network, Output, compute_loss
from train.adapter.encoder import WARMUP, TrainedEncoder
from train.core import Average, put, rate_factor
from train.corpus import Corpus
from train.evaluate.logits import targets
from train.joint import JointModel, Texts, texts_of
from train.loop import validate
from train.resume import fingerprint, load_state, save_state

log = logging.getLogger("annotator")

# Of the words of a garbled dialogue: rates near those of a small recogniser on meetings. It writes few of the
# exclamation marks that people put, and no dots of hesitation.
DROPPED, REPLACED, CALM = 0.06, 0.10, 0.8


class Garble:
    """Word errors as a recogniser makes them: some dialogues lose words and marks, and get other words.

    Args:
        words: the vocabulary that wrong words come from.
        share: of the dialogues that are garbled.
    """

    def __init__(self, words: Sequence[str], share: float, random: np.random.Generator) -> None:
        self.words, self.share, self.random = words, share, random

    def __call__(self, texts: Texts) -> Texts:
        """The utterances of one dialogue."""
        if self.random.random() >= self.share:
            return texts
        return [self._one(text) if text is not None else None for text in texts]

    def _one(self, text: str) -> str:
        kept = []
        for word in text.split():
            chance = self.random.random()
            if self.random.random() < CALM:
                word = re.sub(r"[!?.…]+", lambda marks: "?" if "?" in marks[0] else ".", word)
                word = word.capitalize() if len(word) > 2 and word.isupper() else word
            if chance < DROPPED:
                continue
            wrong = chance < DROPPED + REPLACED
            kept.append(self.words[int(self.random.integers(len(self.words)))] if wrong else word)
        return " ".join(kept) or text


def doubt(
    output: Output,
    texts: Sequence[str | None],
    beliefs: Mapping[str, NDArray[np.float32]],
) -> Tensor:
    """Mean cross-entropy of the head on the text alone against what is believed of each text.

    Args:
        texts: of all utterances of the batch, in the order of the output.
    """
    assert output.unimodal is not None
    logits = output.unimodal["text"]
    believed = [beliefs.get(text or "") for text in texts]
    rows = [i for i, belief in enumerate(believed) if belief is not None]
    if not rows:
        return logits.new_zeros(())
    target = torch.from_numpy(np.stack([b for b in believed if b is not None])).to(logits.device)
    return cross_entropy(logits[rows].float(), target)


def dialogue_stage(
    corpus: Corpus,
    encoder: TrainedEncoder,
    network: Network,
    work: Path,
    *,
    beliefs: Mapping[str, NDArray[np.float32]] | None = None,
    progress: bool = True,
) -> dict[str, float]:
    """Train both, keep the average of the weights at the best validation epoch. Returns its scores.

    State is kept in ``work`` after every epoch: the same call goes on after a kill.

    Args:
        beliefs: what teachers believe of a text; the network's head on the text alone learns it too.
    """
    settings = encoder.settings
    file, best_file = work / "dialogues.safetensors", work / "best.safetensors"
    dialogues = corpus.conversations("train")[: settings.limit]
    validation_set = corpus.conversations("validation")
    texts = texts_of(corpus, [*dialogues, *validation_set])
    joint = JointModel(network, encoder.text, texts)
    weights: dict[str, Tensor] = {
        **_prefixed("encoder.", encoder.trained.items()),
        **_prefixed("network.", network.named_parameters()),
    }
    parameters = [list(encoder.trained.values()), list(network.parameters())]
    rates = [settings.lr, settings.network_lr]
    optimizer = torch.optim.AdamW(
        [{"params": p, "lr": rate} for p, rate in zip(parameters, rates, strict=True)],
        weight_decay=settings.weight_decay,
    )
    average = Average(weights, settings.average)
    history: list[dict[str, float]] = []
    asked = fingerprint(
        settings, network.config.to_json(), weights, texts, dialogues, beliefs or {}, validation_set
    )  # fmt: skip
    state = load_state(file, asked)
    best = load_state(best_file, asked)
    if state is not None and best is not None:
        put(weights, state["weights"])
        optimizer.load_state_dict(state["optimizer"])
        average.values, average.steps = state["average"], state["steps"]
        history = state["history"]
    vocabulary = sorted(
        {word for d in dialogues for text in texts[d.dialogue_id] for word in (text or "").split()}
    )
    steps_an_epoch = -(-len(dialogues) // settings.dialogue_batch)
    for epoch in range(len(history), settings.dialogue_epochs):
        began = time.perf_counter()
        random = np.random.default_rng([settings.seed, 1, epoch])
        order = random.permutation(len(dialogues))
        garble = Garble(vocabulary, settings.word_errors, random)
        torch.manual_seed(settings.seed * 1000 + 500 + epoch)
        joint.train()
        total = 0.0
        bar = tqdm(range(steps_an_epoch), desc=f"dialogues {epoch + 1}", disable=None if progress else True)
        for step in bar:
            factor = rate_factor(
                epoch * steps_an_epoch + step, steps_an_epoch * settings.dialogue_epochs, WARMUP, "linear"
            )
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
            rows = order[step * settings.dialogue_batch : (step + 1) * settings.dialogue_batch]
            drawn = [dialogues[i] for i in rows]
            fine, coarse = (torch.from_numpy(t).to(encoder.text.device) for t in targets(drawn))
            output = joint(drawn, joint.read(drawn, garble if settings.word_errors else None))
            loss = compute_loss(output, fine, coarse, network.config)
            whole = loss.total
            if beliefs:
                said = [text for d in drawn for text in texts[d.dialogue_id]]
                whole = whole + settings.taught * doubt(output, said, beliefs)
            optimizer.zero_grad()
            whole.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_([p for group in parameters for p in group], 1.0)
            optimizer.step()
            average.update()
            total += loss.fine.item()
            bar.set_postfix(loss=f"{total / (step + 1):.3f}")
        joint.eval()
        with average.in_place():
            scores = validate(network, joint.encoded(validation_set[: settings.limit]))
        history.append(
            {
                "epoch": epoch + 1,
                "loss": total / steps_an_epoch,
                "weighted_f1": scores.weighted_f1,
                "accuracy": scores.accuracy,
                "seconds": time.perf_counter() - began,
            }
        )
        log.info("dialogues: %s", json.dumps(history[-1]))
        if max(history, key=lambda h: h["weighted_f1"]) is history[-1]:
            best = {"weights": average.values}
            save_state(best_file, best, asked)
        state = {
            "weights": weights,
            "optimizer": optimizer.state_dict(),
            "average": average.values,
            "steps": average.steps,
            "history": history,
        }
        save_state(file, state, asked)
    best = load_state(best_file, asked)
    if best is None:
        raise SetupError(f"{best_file} was damaged in the meantime: run the same training again.")
    put(weights, best["weights"])
    joint.eval()
    return max(history, key=lambda h: h["weighted_f1"])


def _prefixed(prefix: str, named: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in named}
