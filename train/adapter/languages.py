"""A reader of other languages for a network that reads one already.

    python -m train.adapter.languages CORPUS --checkpoint FOLDER --dialogues DIALOGUES --out FILE

The network stays as it is, and so do its figures in its own language. A multilingual encoder learns to put a
text where the network's own encoder puts its translation (Reimers & Gurevych, EMNLP 2020, "Making Monolingual
Sentence Embeddings Multilingual using Knowledge Distillation"), then to be read by the network.

1. Imitation: texts in the first language, and their translations, against the first encoder's vectors.
2. Dialogues (``dialogues.py``) in all languages, under the network's own loss; the network is frozen.

State is kept after every pass: the same command goes on after a kill.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from annotator.encode import make_encoder
from annotator.encode.adapters import Projection
from annotator.encode.text import TextEncoder
from annotator.records import AnnotateError, Conversation, Features, UsageError
from model import Checkpoint, load_checkpoint
from train.adapter import sentence_sets
from train.adapter.dialogues import dialogue_stage
from train.adapter.encoder import WARMUP, TrainedEncoder, center_of
from train.adapter.sentences import HEAD_LR, Sentences
from train.adapter.settings import AdapterSettings
from train.core import Average, put, rate_factor
from train.corpus import Corpus, LabelledConversation, load_corpus
from train.evaluate import probabilities, scores_of
from train.evaluate.logits import targets
from train.joint import encode_trained, encoded_split
from train.resume import fingerprint, load_state, save_state

log = logging.getLogger("annotator")

# Chosen before any of it was trained, but for the learning rate of the dialogues, which is that of MiniLM.
SETTINGS = AdapterSettings(
    encoder="e5", rank=48, sentence_epochs=2, sentence_lr=2e-4, dialogue_epochs=2, word_errors=0.2
)
IMITATED = 0.4  # share of GoEmotions' comments, which are many and unlike speech
MOST_PROJECTED = 4000  # texts that the first projection is fitted to
LABEL_WEIGHT = 0.5  # of the labels beside the vectors to imitate
LEAST_DEVIATION = 1e-3  # of a component of the first encoder's vectors


@dataclass(frozen=True)
class Pairs:
    """Texts, and the vector that each is to have."""

    texts: tuple[str, ...]
    vectors: NDArray[np.float32]  # (n, d) of the first encoder, for the text or its translation
    labels: NDArray[np.int64]  # (n,) of the corpus, -1 where unknown
    always: NDArray[np.bool_]  # (n,) in every pass; the others share the passes

    def __len__(self) -> int:
        return len(self.texts)


def pairs_of(
    corpus: Corpus, sets: Sequence[Sentences], first: TextEncoder, language: str, file: Path
) -> Pairs:
    """The training utterances of a corpus and the sentences of the sets, with the first encoder's vectors.

    The vectors are kept in ``file``. An utterance in another language gets the vector of the utterance of the
    same number in ``language``; one without such a partner is left out here.

    Raises:
        UsageError: the corpus names no languages, or has no ``language``.
    """
    if "language" not in corpus.table.columns or language not in set(corpus.table["language"]):
        raise UsageError(f"{corpus.folder} must have a column `language`, with {language} in it.")
    train = corpus.table.filter((pl.col("split") == "train") & pl.col("text").is_not_null()).with_columns(
        pl.col("dialogue_id").str.strip_prefix(pl.col("language") + "-").alias("dialogue")
    )
    key = ["dialogue", "source_utterance_id"]
    own = train.filter(pl.col("language") == language).select(*key, of="text").unique(key, keep="first")
    rows = train.join(own, on=key, how="inner", maintain_order="left")
    texts, sources = rows["text"].to_list(), rows["of"].to_list()
    labels = [corpus.labels.index(e) if e is not None else -1 for e in rows["emotion"]]
    always = len(texts)
    for s in sets:
        order = np.random.default_rng(0).permutation(len(s.texts))[: round(s.share * len(s.texts))]
        texts += [s.texts[i] for i in order]
        sources += [s.texts[i] for i in order]
        labels += [-1] * len(order)
    distinct = sorted(set(sources))
    asked = fingerprint(first.fingerprint, distinct)
    state = load_state(file, asked)
    if state is None:
        state = {"vectors": torch.from_numpy(first.encode_texts(distinct))}
        save_state(file, state, asked)
    row = {text: i for i, text in enumerate(distinct)}
    vectors = state["vectors"].numpy()[[row[text] for text in sources]]
    return Pairs(tuple(texts), vectors, np.array(labels, np.int64), np.arange(len(texts)) < always)


def imitation(
    encoder: TrainedEncoder, pairs: Pairs, classes: int, file: Path, *, progress: bool = True
) -> None:
    """Train the encoder and a projection of its vectors to be those of the pairs.

    The loss is the squared error, in deviations of the first encoder's vectors, and the cross-entropy of a
    linear head on the labels. The weights kept are a running average.
    """
    settings = encoder.settings
    file.parent.mkdir(parents=True, exist_ok=True)
    deviation = torch.from_numpy(pairs.vectors.std(0).clip(LEAST_DEVIATION))
    encoder.text.projection = _first_projection(encoder.text, pairs, settings.limit or MOST_PROJECTED)
    trained = encoder.trained
    head = nn.Linear(encoder.text.width, classes)
    learned = {**trained, **{f"head.{name}": w for name, w in head.named_parameters()}}
    rates = [settings.sentence_lr, HEAD_LR]
    optimizer = torch.optim.AdamW(
        [{"params": list(trained.values())}, {"params": list(head.parameters())}],
        weight_decay=settings.weight_decay,
    )
    mean = Average(learned, 0.998)
    asked = fingerprint(pairs, asdict(settings), classes)
    done = 0
    state = load_state(file, asked)
    if state is not None:
        done = int(state["pass"])
        put(learned, state["weights"])
        if "optimizer" in state:
            optimizer.load_state_dict(state["optimizer"])
            mean.values, mean.steps = state["average"], state["steps"]
    shared = np.random.default_rng(settings.seed).permutation(np.flatnonzero(~pairs.always))
    passes = np.array_split(shared, settings.sentence_epochs)
    # All passes are about as long: the rate falls over all of them.
    steps = -(-(int(pairs.always.sum()) + len(passes[0])) // settings.sentence_batch)
    for number in range(done, settings.sentence_epochs):
        rng = np.random.default_rng([settings.seed, number])
        torch.manual_seed(settings.seed * 1000 + number)
        rows = rng.permutation(np.concatenate([np.flatnonzero(pairs.always), passes[number]]))
        batches = _of_like_length(pairs.texts, rows[: settings.limit], settings.sentence_batch, rng)
        encoder.module.train()
        total = 0.0
        bar = tqdm(batches, desc=f"imitation {number + 1}", unit="batch", disable=None if progress else True)
        for step, batch in enumerate(bar):
            factor = rate_factor(number * steps + step, steps * settings.sentence_epochs, WARMUP, "linear")
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
            vectors = encode_trained(encoder.text, [pairs.texts[i] for i in batch])
            wanted = torch.from_numpy(pairs.vectors[batch])
            loss = ((vectors - wanted) / deviation).square().mean()
            total += loss.item()
            known = torch.from_numpy(pairs.labels[batch])
            if bool((known >= 0).any()):
                loss = loss + LABEL_WEIGHT * F.cross_entropy(head(vectors), known, ignore_index=-1)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(list(learned.values()), 1.0)
            optimizer.step()
            mean.update()
            bar.set_postfix(error=f"{total / (step + 1):.3f}")
        ended = number + 1 == settings.sentence_epochs
        if ended:
            put(learned, mean.values)
        state = {"weights": learned, "pass": number + 1}
        if not ended:
            state |= {"optimizer": optimizer.state_dict(), "average": mean.values, "steps": mean.steps}
        save_state(file, state, asked)
        log.info("imitation: pass %d, squared error %.3f of the variance", number + 1, total / len(batches))


def train_languages(
    corpus_folder: Path,
    checkpoint_folder: Path,
    sets: Sequence[Sentences],
    out: Path,
    settings: AdapterSettings = SETTINGS,
    *,
    language: str = "en",
    without: Sequence[str] = (),
    vectors: Path | None = None,
    progress: bool = True,
) -> dict[str, float]:
    """Train and write the adapter file ``out``. Returns validation scores over all languages of the corpus.

    Args:
        corpus_folder: labelled dialogues in several languages, from ``annotate prepare mmeld``.
        checkpoint_folder: whose network and text encoder are there already.
        sets: sentences in ``language`` to imitate the first encoder on.
        language: that the checkpoint's text encoder reads.
        without: languages of the corpus that are left out.
        vectors: file that keeps the first encoder's vectors, for trainings to share.

    Raises:
        UsageError: the corpus names no languages, or other labels than the checkpoint.
    """
    corpus, checkpoint = load_corpus(corpus_folder), load_checkpoint(checkpoint_folder)
    if corpus.labels != checkpoint.labels:
        raise UsageError(f"{corpus_folder} and {checkpoint_folder} have other labels.")
    corpus = _without(corpus, without)
    work = out.with_name(out.name + ".work")
    work.mkdir(parents=True, exist_ok=True)
    first = first_encoder(checkpoint.encoders["text"], checkpoint_folder)
    encoder = TrainedEncoder(settings)
    pairs = pairs_of(corpus, sets, first, language, vectors or work / "vectors.safetensors")
    imitation(encoder, pairs, len(corpus.labels), work / "imitation.safetensors", progress=progress)
    del first
    encoder.to_adapter()
    network = checkpoint.network
    network.requires_grad_(False)
    best = dialogue_stage(corpus, encoder, network, work, progress=progress)
    encoder.save(out)
    return best


def of_languages(
    corpus: Corpus, split: str, encoder: TextEncoder, languages: Sequence[str], strength: float = 1.0
) -> dict[str, list[LabelledConversation]]:
    """The dialogues of a split in some languages, by language, with an encoder's vectors as in a run."""
    language = dict(corpus.table.select("dialogue_id", "language").iter_rows())
    by_language: dict[str, list[LabelledConversation]] = {}
    for c in encoded_split(_without(corpus, set(language.values()) - set(languages)), split, encoder):
        talk = _moved(c.conversation, center_of(encoder), strength)
        by_language.setdefault(language[c.dialogue_id], []).append(replace(c, conversation=talk))
    return by_language


def fitted_strength(
    checkpoint: Checkpoint, conversations: Sequence[LabelledConversation], center: NDArray[np.float32]
) -> float:
    """The factor of vectors about ``center`` (d,) under which true labels are likeliest, 0.2 to 1.5."""
    labels = targets(conversations)[0]
    rows = np.flatnonzero(labels >= 0)
    likelihoods = {}
    for factor in np.arange(4, 31) / 20:
        moved = [_moved(c.conversation, center, float(factor)) for c in conversations]
        fine, _ = probabilities(checkpoint, moved)
        likelihoods[float(factor)] = float(np.log(fine[rows, labels[rows]].clip(1e-9)).mean())
    return max(likelihoods, key=lambda factor: likelihoods[factor])


def scores_by_language(
    checkpoint: Checkpoint, by_language: Mapping[str, Sequence[LabelledConversation]]
) -> dict[str, dict[str, Any]]:
    """Accuracy, F1 and calibration error of the network on text alone, by language."""
    return {
        language: scores_of(probabilities(checkpoint, [c.conversation for c in talks])[0], targets(talks)[0])
        for language, talks in sorted(by_language.items())
    }


def _moved(conversation: Conversation, center: NDArray[np.float32], factor: float) -> Conversation:
    text = conversation.features["text"]
    moved = Features(center + np.float32(factor) * (text.values - center), text.present)
    return replace(conversation, features={**conversation.features, "text": moved})


def _without(corpus: Corpus, languages: Collection[str]) -> Corpus:
    if not languages:
        return corpus
    kept = ~corpus.table["language"].is_in(list(languages)).to_numpy()
    features = {m: Features(f.values[kept], f.present[kept]) for m, f in corpus.features.items()}
    return replace(corpus, table=corpus.table.filter(kept), features=features)


def first_encoder(spec: dict[str, object], folder: Path) -> TextEncoder:
    """A checkpoint's encoder without its second. Raises: UsageError when it reads more than a sentence."""
    encoder = make_encoder("text", {k: v for k, v in spec.items() if k != "second"}, folder, "cpu")
    if not isinstance(encoder, TextEncoder) or encoder.context:
        raise UsageError(f"The text encoder of {folder} reads more than a sentence: it can't be imitated.")
    return encoder


def _first_projection(encoder: TextEncoder, pairs: Pairs, most: int) -> Projection:
    """The linear map from the encoder's vectors to those of the pairs, by ridge regression."""
    rows = np.random.default_rng(0).permutation(len(pairs))[:most]
    values = encoder.encode_texts([pairs.texts[i] for i in rows]).astype(np.float64)
    wanted = pairs.vectors[rows].astype(np.float64)
    center, goal = values.mean(0), wanted.mean(0)
    x, y = values - center, wanted - goal
    gram = x.T @ x
    weight = np.linalg.solve(gram + 1e-2 * np.trace(gram) / len(gram) * np.eye(len(gram)), x.T @ y).T
    projection = Projection(encoder.width)
    with torch.no_grad():
        projection.weight.copy_(torch.from_numpy(weight))
        projection.bias.copy_(torch.from_numpy(goal - weight @ center))
        projection.center.copy_(torch.from_numpy(goal))
    return projection


def _of_like_length(
    texts: Sequence[str], rows: NDArray[np.int64], size: int, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Batches in random order, sentences of like length together, in pools of many batches."""
    batches = []
    for pool in np.array_split(rows, max(1, len(rows) // (50 * size))):
        pool = pool[np.argsort([len(texts[i]) for i in pool], kind="stable")]
        batches += np.array_split(pool, max(1, len(pool) // size))
    return [batches[i] for i in rng.permutation(len(batches))]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m train.adapter.languages",
        description="Train a reader of other languages for a network that reads one.",
    )
    parser.add_argument(
        "corpus", type=Path, help="labelled dialogues in several languages, from `annotate prepare mmeld`"
    )
    parser.add_argument("--checkpoint", type=Path, required=True, help="whose network is to read them")
    parser.add_argument("--dialogues", type=Path, required=True, help="folder with goemotions/ and emorynlp/")
    parser.add_argument("--out", type=Path, required=True, help="adapter file to write, .safetensors")
    parser.add_argument(
        "--without", action="append", default=[], metavar="LANGUAGE", help="a language to leave out"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, default=None, help="texts and dialogues, for a quick run")
    a = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    settings = replace(SETTINGS, seed=a.seed, limit=a.limit)
    try:
        comments, scenes = sentence_sets(load_corpus(a.corpus), a.dialogues)
        sets = [replace(comments, share=IMITATED), scenes]
        best = train_languages(a.corpus, a.checkpoint, sets, a.out, settings, without=a.without)
    except AnnotateError as error:
        print(f"train.adapter.languages: {error}", file=sys.stderr)
        return error.exit_code
    print(json.dumps(best))
    return 0


if __name__ == "__main__":
    sys.exit(main())
