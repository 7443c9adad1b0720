"""Single sentences, a linear head for each set of them, so that vectors carry emotion at all."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from train.adapter.encoder import WARMUP, TrainedEncoder
from train.core import Average, put, rate_factor
from train.joint import encode_trained
from train.resume import fingerprint, load_state, save_state

log = logging.getLogger("annotator")

# GoEmotions has 28 labels of which most are absent: without it, its mean loss would hardly count.
SEVERAL_WEIGHT = 10.0
HEAD_LR = 1e-3


@dataclass(frozen=True)
class Sentences:
    """A set of single sentences with labels."""

    name: str
    texts: tuple[str, ...]
    labels: NDArray[np.float32]  # (n, classes) 0 or 1, or what someone believes in between
    several: bool = False  # a sentence may have several labels, each a question of its own
    share: float = 1.0  # of the sentences, drawn anew for each pass


def goemotions(folder: Path) -> Sentences:
    """Reddit comments with one to five of 27 emotions or neutral, all splits (Demszky et al., ACL 2020)."""
    names = (folder / "emotions.txt").read_text("utf-8").split()
    texts, labels = [], []
    for split in ("train", "dev", "test"):
        for line in (folder / f"{split}.tsv").read_text("utf-8").splitlines():
            text, numbers, _ = line.split("\t")
            # The comments stand for names by a mark that dialogues don't have.
            texts.append(re.sub(r"\[(NAME|RELIGION)\]", "Alex", text))
            labels.append([int(n) for n in numbers.split(",")])
    known = np.zeros((len(texts), len(names)), np.float32)
    for row, numbers_of in enumerate(labels):
        known[row, numbers_of] = 1
    return Sentences("goemotions", tuple(texts), known, several=True)


def emorynlp(corpus: Path, held_out: Sequence[str]) -> Sentences:
    """EmoryNLP's training utterances (Zahiri & Choi, 2018) but for scenes that share lines with ``held_out``.

    Both corpora annotate the same series: a scene with a line of five words or more that
    also stands in another corpus' validation or test set is left out whole.
    """
    table = pl.read_csv(corpus / "train.csv", infer_schema_length=None)
    known = {key for text in held_out if (key := line_key(text)) is not None}
    shared = {
        row["Dialogue_ID"]
        for row in table.iter_rows(named=True)
        if (key := line_key(row["Utterance"])) is not None and key in known
    }
    kept = table.filter(~pl.col("Dialogue_ID").is_in(sorted(shared)))
    names = sorted(set(table["Emotion"]))
    log.info(
        "EmoryNLP: %d of %d scenes share lines and are left out", len(shared), table["Dialogue_ID"].n_unique()
    )
    labels = np.eye(len(names), dtype=np.float32)[[names.index(e) for e in kept["Emotion"]]]
    return Sentences("emorynlp", tuple(kept["Utterance"]), labels)


def line_key(text: str) -> str | None:
    """A line without case and punctuation; None when it is too short to tell scenes apart."""
    words = re.findall(r"[a-z0-9]+", text.lower())
    return " ".join(words) if len(words) >= 5 else None


def sentence_stage(
    encoder: TrainedEncoder,
    sets: Sequence[Sentences],
    file: Path,
    *,
    epochs: int,
    batch: int,
    lr: float,
    average: float | None = None,
    any_seed: bool = False,
    progress: bool = True,
) -> nn.ModuleDict:
    """Train the encoder on the sets, batches of one set each in random order. Returns the heads by set.

    State is kept in ``file`` after every epoch: the same call goes on after a kill. One of other sentences,
    settings or weights to begin with is not taken.

    Args:
        any_seed: take a state of another seed, and go on with that.
        average: keep the running average of the weights, with this decay, in place of the last ones.
    """
    settings = encoder.settings
    file.parent.mkdir(parents=True, exist_ok=True)
    trained = encoder.trained
    heads = nn.ModuleDict({s.name: nn.Linear(encoder.text.width, s.labels.shape[1]) for s in sets})
    heads.to(encoder.text.device)
    rates = [lr, HEAD_LR]
    optimizer = torch.optim.AdamW(
        [{"params": list(trained.values())}, {"params": list(heads.parameters())}],
        lr,
        weight_decay=settings.weight_decay,
    )
    learned = {**trained, **{f"head.{name}": w for name, w in heads.named_parameters()}}
    mean = None if average is None else Average(learned, average)
    done = 0
    known = asdict(settings) | ({"seed": None} if any_seed else {})
    asked, seed = fingerprint(sets, known, [epochs, batch, lr, average], trained), settings.seed
    state = load_state(file, asked)
    if state is not None:
        encoder.load(state["encoder"])
        seed = int(state["seed"])
        heads.load_state_dict(state["heads"])
        done = int(state["epoch"])
        if "optimizer" in state:
            optimizer.load_state_dict(state["optimizer"])
            if mean is not None:
                mean.values, mean.steps = state["average"], state["steps"]
    for epoch in range(done, epochs):
        rng = np.random.default_rng([seed, epoch])
        torch.manual_seed(seed * 1000 + epoch)
        batches = list(_batches(sets, batch, settings.limit, rng))
        encoder.module.train()
        bar = tqdm(batches, desc=f"sentences {epoch + 1}", unit="batch", disable=None if progress else True)
        for number, (which, rows) in enumerate(bar):
            factor = rate_factor(epoch * len(batches) + number, len(batches) * epochs, WARMUP, "linear")
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
            vectors = encode_trained(encoder.text, [which.texts[i] for i in rows])
            vectors = F.dropout(vectors, 0.1)
            target = torch.from_numpy(which.labels[rows]).to(encoder.text.device)
            logits = heads[which.name](vectors)
            if which.several:
                loss = SEVERAL_WEIGHT * F.binary_cross_entropy_with_logits(logits, target)
            else:
                loss = F.cross_entropy(logits, target)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_([*trained.values(), *heads.parameters()], 1.0)
            optimizer.step()
            if mean is not None:
                mean.update()
            bar.set_postfix(loss=f"{loss.item():.3f}")
        if epoch + 1 == epochs and mean is not None:
            put(learned, mean.values)
        state = {"encoder": dict(trained), "heads": heads.state_dict(), "epoch": epoch + 1, "seed": seed}
        if epoch + 1 < epochs:  # several times the size of the weights, and of no use afterwards
            state["optimizer"] = optimizer.state_dict()
            if mean is not None:
                state |= {"average": mean.values, "steps": mean.steps}
        save_state(file, state, asked)
        log.info("%s: epoch %d of %d done", file.stem, epoch + 1, epochs)
    return heads


def _batches(
    sets: Sequence[Sentences], batch: int, limit: int | None, rng: np.random.Generator
) -> Iterator[tuple[Sentences, NDArray[np.int64]]]:
    batches = []
    for s in sets:
        order = rng.permutation(len(s.texts))[: round(s.share * len(s.texts))][:limit]
        # Sentences of like length together, in pools of many batches: half the padding.
        for pool in np.array_split(order, max(1, len(order) // (50 * batch))):
            pool = pool[np.argsort([len(s.texts[i]) for i in pool], kind="stable")]
            pieces = np.array_split(pool, max(1, len(pool) // batch))
            batches += [(s, rows) for rows in pieces]
    for i in rng.permutation(len(batches)):
        yield batches[i]
