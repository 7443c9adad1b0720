"""Fine-tune the text encoder with a low-rank adapter, together with the network that reads it.

    python -m train.adapter CORPUS --dialogues DIALOGUES --out CHECKPOINT [--teacher FOLDER ...]

1. Sentences (``sentences.py``): GoEmotions and EmoryNLP, a linear head for each.
2. With teachers (``teacher.py``): what they believe of these sentences and the corpus' own.
3. Dialogues (``dialogues.py``): encoder and network as one model on the corpus.

State is kept after every epoch: the same command goes on after a kill.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl

from annotator.records import UsageError
from model import Checkpoint, CheckpointError, ModelConfig, Network, load_checkpoint, save_checkpoint
from train.adapter.dialogues import dialogue_stage
from train.adapter.encoder import LAYERS, TrainedEncoder
from train.adapter.sentences import Sentences, emorynlp, goemotions, line_key, sentence_stage
from train.adapter.settings import AdapterSettings
from train.adapter.teacher import Taught, teach
from train.core import prior_of
from train.corpus import Corpus, load_corpus
from train.evaluate.calibration import calibrate
from train.joint import encoded_split
from train.loop import network_config, train
from train.resume import fingerprint
from train.settings import TrainSettings

log = logging.getLogger("annotator")

__all__ = [
    "ADAPTER",
    "LAYERS",
    "AdapterSettings",
    "Sentences",
    "Taught",
    "emorynlp",
    "goemotions",
    "line_key",
    "sentence_sets",
    "teach",
    "train_adapter",
]

ADAPTER = "text.safetensors"
# The network beside the encoder: with a head on the text alone, so that the encoder gets a direct gradient.
# Without the attention that replaces an utterance by a mixture of its dialogue, and with less dropout, it
# follows the encoder better (docs/experiments.md).
NETWORK = {
    "unimodal_heads": True,
    "feature_dropout": 0.1,
    "context_dropout": 0.2,
    "dropout": 0.3,
    "classifier_attention": "none",
    "alpha": 0.5,  # the preset's 0.3 was chosen for frozen encoders
}


def sentence_sets(corpus: Corpus, dialogues: Path) -> list[Sentences]:
    """The sets of the first stage, without scenes that share lines with the corpus' held-out splits."""
    held_out = corpus.table.filter(pl.col("split") != "train")["text"].drop_nulls().to_list()
    return [goemotions(dialogues / "goemotions"), emorynlp(dialogues / "emorynlp", held_out)]


def train_adapter(
    corpus_folder: Path,
    sets: Sequence[Sentences],
    out: Path,
    settings: AdapterSettings,
    *,
    config: dict[str, Any] | None = None,
    sentences: Path | None = None,
    taught: Taught | None = None,
    progress: bool = True,
) -> dict[str, float]:
    """Train and write the checkpoint ``out``, its adapter file included. Returns validation scores.

    Args:
        corpus_folder: a corpus with text, whose train split is learned.
        sets: of the first stage.
        config: fields of the network to set otherwise than ``ModelConfig.default`` and ``NETWORK``.
        sentences: a folder that keeps the first stage, for several trainings to share; their seeds then
            differ in the later stages only. Its own in each when None.
        taught: what teachers say, to learn from after the first stage.

    Raises:
        UsageError: the corpus has no text.
    """
    corpus = load_corpus(corpus_folder)
    if "text" not in corpus.modalities:
        raise UsageError(f"{corpus_folder} has no text to train an encoder on.")
    work = out.with_name(out.name + ".work")
    work.mkdir(parents=True, exist_ok=True)
    encoder = TrainedEncoder(settings)
    sentence_stage(
        encoder, sets, (sentences or work) / "sentences.safetensors", epochs=settings.sentence_epochs,
        batch=settings.sentence_batch, lr=settings.sentence_lr, any_seed=sentences is not None,
        progress=progress,
    )  # fmt: skip
    if taught is not None:
        sentence_stage(
            encoder, taught.sets, work / "taught.safetensors", epochs=settings.taught_epochs,
            batch=settings.taught_batch, lr=settings.taught_lr, average=settings.taught_average,
            progress=progress,
        )  # fmt: skip
    encoder.to_adapter()

    wanted = network_config(corpus, "default", None, {**NETWORK, **(config or {})})
    network = _network_first(corpus, encoder, wanted, work / "network", progress)
    beliefs = taught.beliefs if taught is not None else None
    best = dialogue_stage(corpus, encoder, network, work, beliefs=beliefs, progress=progress)

    validation = encoded_split(corpus, "validation", encoder.text)
    prior = prior_of(corpus.conversations("train"), len(corpus.labels))
    save_checkpoint(
        out,
        Checkpoint(
            network=network,
            labels=corpus.labels,
            name=out.stem,
            version="1",
            encoders={**corpus.header.encoders, "text": {"name": settings.encoder, "adapter": ADAPTER}},
            calibration=calibrate(network, validation, prior),
            prior=prior,
            meta={"settings": asdict(settings), "validation": best},
        ),
    )
    encoder.save(out / ADAPTER)
    return best


def _network_first(
    corpus: Corpus, encoder: TrainedEncoder, config: ModelConfig, folder: Path, progress: bool
) -> Network:
    """The network trained on the vectors as the first stage left them.

    It takes many more passes than the encoder, and costs a hundredth of one.
    """
    settings = encoder.settings
    asked = fingerprint(
        settings, config.to_json(), dict(encoder.text.module.named_parameters()),
        corpus.table["text"].to_list(), corpus.conversations("train"), corpus.conversations("validation"),
    )  # fmt: skip
    try:
        earlier = load_checkpoint(folder)
        if earlier.meta.get("made_of") == asked:
            return earlier.network.to(settings.device)
        log.warning("%s is of another training (data or settings): it is made anew.", folder)
    except CheckpointError as error:
        if folder.exists():
            log.warning("%s: it is made anew.", error)
    train(
        encoded_split(corpus, "train", encoder.text, settings.limit),
        encoded_split(corpus, "validation", encoder.text),
        config,
        TrainSettings(epochs=settings.network_epochs, seed=settings.seed, device=settings.device),
        folder,
        labels=corpus.labels,
        encoders={},
        meta={"made_of": asked},
        progress=progress,
    )
    return load_checkpoint(folder).network.to(settings.device)
