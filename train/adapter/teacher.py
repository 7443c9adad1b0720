"""What larger or other encoders believe of each sentence, for the small one to learn from.

Distillation (Hinton et al., 2015) from the mean of several teachers. A teacher's doubt says more of a
sentence than its one label does, and it has an opinion on sentences that nobody has labelled so.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from annotator.encode.precision import mixed_precision
from annotator.weights import tree_hash
from train.adapter.encoder import TrainedEncoder
from train.adapter.sentences import Sentences, sentence_stage
from train.adapter.settings import AdapterSettings
from train.corpus import Corpus
from train.resume import fingerprint, load_state, save_state

log = logging.getLogger("annotator")

OWN = "corpus"  # the name of the set of the corpus' own sentences
# A base-sized encoder learns the labels of ten thousand sentences in three passes at this rate.
TEACHER_EPOCHS, TEACHER_LR = 3, 4e-5
UNLABELLED_SHARE = 0.25  # of the sentences that only teachers have labelled, for each pass


@dataclass(frozen=True)
class Taught:
    """Sets with the teachers' labels mixed in, and what the teachers believe of a text."""

    sets: tuple[Sentences, ...]
    beliefs: Mapping[str, NDArray[np.float32]]  # text -> (classes,) of the corpus, which sum to 1


def own_sentences(corpus: Corpus) -> Sentences:
    """The labelled utterances of a corpus' train split that have text."""
    rows = [
        (row["text"], corpus.labels.index(row["emotion"]))
        for row in corpus.table.iter_rows(named=True)
        if row["split"] == "train" and row["text"] and row["emotion"] is not None
    ]
    labels = np.eye(len(corpus.labels), dtype=np.float32)[[label for _, label in rows]]
    return Sentences(OWN, tuple(text for text, _ in rows), labels)


def teach(
    corpus: Corpus,
    sets: Sequence[Sentences],
    teachers: Sequence[Path],
    work: Path,
    settings: AdapterSettings,
    *,
    progress: bool = True,
) -> Taught:
    """Train the teachers and let them label every sentence.

    A teacher learns the corpus' own sentences and those of ``sets`` with one label each; sets with several
    labels a sentence are only labelled.

    Args:
        teachers: folders of Hugging Face encoders; one named twice is trained from two seeds.
        work: keeps what each teacher has learned and said: the same call goes on after a kill.
    """
    learned = [own_sentences(corpus), *(s for s in sets if not s.several)]
    others = [s for s in sets if s.several]
    texts = list(dict.fromkeys(text for s in [*learned, *others] for text in s.texts[: settings.limit]))
    said: dict[str, NDArray[np.float32]] = {}
    for number, folder in enumerate(teachers):
        log.info("teacher %d of %d: %s", number + 1, len(teachers), folder.name)
        own = replace(settings, seed=settings.seed + number)
        for name, values in _said_by(
            folder, learned, texts, work / f"teacher-{number}", own, progress
        ).items():
            said[name] = said.get(name, np.float32(0)) + values / np.float32(len(teachers))

    place = {text: row for row, text in enumerate(texts)}

    def mixed(known: Sentences, name: str) -> Sentences:
        """Their true labels and the teachers' word."""
        rows = [i for i, text in enumerate(known.texts) if text in place]
        believed = said[name][[place[known.texts[i]] for i in rows]]
        labels = settings.taught * believed + (1 - settings.taught) * known.labels[rows]
        return Sentences(name, tuple(known.texts[i] for i in rows), labels.astype(np.float32))

    own_set = mixed(learned[0], OWN)
    elsewhere = [text for s in learned[1:] for text in s.texts if text in place]
    unlabelled = [text for s in others for text in s.texts if text in place]

    def believed_only(texts: Sequence[str], share: float) -> list[Sentences]:
        if not texts:
            return []
        rows = [place[text] for text in texts]
        return [Sentences(OWN, tuple(texts), said[OWN][rows], share=share)]

    return Taught(
        sets=(
            own_set,
            *believed_only(elsewhere, 1.0),
            *believed_only(unlabelled, UNLABELLED_SHARE),
            *(mixed(s, s.name) for s in learned[1:]),
        ),
        beliefs=dict(zip(texts, said[OWN], strict=True)),
    )


def _said_by(
    folder: Path,
    learned: Sequence[Sentences],
    texts: Sequence[str],
    work: Path,
    settings: AdapterSettings,
    progress: bool,
) -> dict[str, NDArray[np.float32]]:
    """By set: what a teacher believes of each text, (texts, classes)."""
    asked = fingerprint(texts, learned, settings, tree_hash(folder))
    file = work / f"said-{asked[:16]}.safetensors"
    state = load_state(file, asked)
    if state is None:
        teacher = TrainedEncoder(settings, folder)
        heads = sentence_stage(
            teacher, learned, work / "teacher.safetensors", epochs=TEACHER_EPOCHS,
            batch=settings.taught_batch, lr=TEACHER_LR, progress=progress,
        )  # fmt: skip
        with torch.no_grad(), mixed_precision(teacher.text.device):
            vectors = torch.from_numpy(teacher.text.encode_texts(texts)).to(teacher.text.device)
        with torch.no_grad():
            said = {name: head(vectors).softmax(1).cpu() for name, head in heads.items()}
        state = {"said": said}
        save_state(file, state, asked)
    return {name: values.numpy() for name, values in state["said"].items()}
