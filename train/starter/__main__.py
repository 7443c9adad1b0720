"""``python -m train.starter --data DATA --out model/starter``: from raw files to the bundle that ships.

Resumable: each stage leaves its result in the work folder and is skipped when it is there.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file

from annotator.encode.audio import VoiceScores
from annotator.encode.face import load_face_net
from annotator.encode.text import TextEncoder, minilm_folder
from annotator.records import AnnotateError, Conversation, Features, UsageError
from annotator.table import write_json, written_whole
from model import Checkpoint, load_checkpoint, save_checkpoint
from train.adapter import ADAPTER, AdapterSettings, sentence_sets, teach, train_adapter, with_vectors
from train.corpus import load_corpus
from train.evaluate import MISSING_RATES, evaluate, probabilities, scores_of
from train.evaluate.calibration import calibrate, fit_temperature
from train.prepare import prepare
from train.starter.card import write_card
from train.starter.faces import MELD_LABELS, FaceSplits, face_logits, load_fer2013, train_faces
from train.starter.fusion import face_pools, made_pairs
from train.starter.halved import halved
from train.starter.languages import FIRST, READER, add_languages, with_section
from train.starter.quick import CLIPS, SMALL_FACES, smaller
from train.starter.voice import Voices, across_corpora, load_voices, turn_scores, unseen_scores, voice_figures

log = logging.getLogger("annotator")

VERSION = "6.2"
VOICE = "voice.safetensors"
FUNCTIONALS = "compare2016"
AUDIO = {"name": FUNCTIONALS, "speaker_norm": True, "weights": VOICE}
FACE = {"name": "facenet", "weights": "faces.safetensors"}
# A day-long conversation must fit too, and MELD's longest has 33 utterances.
NETWORK = {"attention_span": 40, "modality_dropout": 0.3}
# A part of the dialogues is garbled as by a recogniser, whose text a run mostly has.
TRAINING = AdapterSettings(rank=32, dialogue_epochs=2, word_errors=0.2)
QUICK = AdapterSettings(rank=32, network_epochs=2, dialogue_epochs=1, word_errors=0.2)
NEEDED = (
    "faces/fer2013.parquet",
    "speech/ravdess.csv",
    "speech/emodb.csv",
    "dialogues/meld",
    "dialogues/mmeld",
    "dialogues/emorynlp",
    "dialogues/goemotions",
)


def build(
    data: Path,
    work: Path,
    out: Path,
    *,
    teachers: Sequence[Path] = (),
    keep: Path | None = None,
    quick: bool = False,
) -> dict[str, Any]:
    """Build the bundle ``out`` and return its figures.

    Args:
        teachers: folders of larger text encoders that the embedded one learns from.
        keep: an earlier bundle, whose faces, text and network stay: only the voice is learned anew.

    Raises: UsageError when the data are incomplete, or ``keep`` is no such bundle.
    """
    missing = [name for name in NEEDED if not (data / name).exists()]
    if missing:
        raise UsageError(f"{data} lacks {', '.join(missing)}: give the folder of the public corpora.")
    if keep is not None:
        names = ["model.json", ADAPTER, FACE["weights"]]
        if (keep / "model.json").is_file() and "second" in load_checkpoint(keep).encoders["text"]:
            names.append(READER)
        parts = [name for name in names if not (keep / name).is_file()]
        if parts:
            raise UsageError(f"{keep} is no starter bundle: it lacks {', '.join(parts)}.")
    if quick:
        work = work / "quick"  # what a check leaves behind must not end up in a real bundle
        data = smaller(data, work / "data")
    weights = work / "weights"
    weights.mkdir(parents=True, exist_ok=True)

    log.info("faces")
    face_file = data / "faces" / "fer2013.parquet"
    faces = load_fer2013(face_file)
    if keep is not None:
        shutil.copyfile(keep / FACE["weights"], weights / FACE["weights"])
    else:
        train_faces(face_file, work, config=SMALL_FACES if quick else None, epochs=1 if quick else 38)
        halved(work / FACE["weights"], weights / FACE["weights"])

    log.info("voices and pairs")
    dialogues = data / "dialogues"
    if not (work / "meld" / "corpus.json").exists():
        prepare("meld", dialogues / "meld", work / "meld")
    voices = load_voices(data / "speech", work, {"name": FUNCTIONALS}, limit=CLIPS if quick else None)
    scores = unseen_scores(voices, work, weights / VOICE, FUNCTIONALS)
    corpus = work / "pairs"
    made_pairs(
        load_corpus(work / "meld"),
        voices,
        scores,
        face_pools(faces),
        weights,
        corpus,
        audio_spec=AUDIO,
        face_spec=FACE,
    )
    log.info("text and network")
    if keep is not None:
        checkpoint = with_new_voice(keep, corpus)
        learned_from = checkpoint.meta.get("teachers", [])
    else:
        trained = work / "trained"
        if not trained.exists():
            # The pairs hold each dialogue several times; its sentences are learned once.
            plain, settings = load_corpus(work / "meld"), QUICK if quick else TRAINING
            sets = sentence_sets(plain, dialogues)
            taught = teach(plain, sets, teachers, work / "taught", settings) if teachers else None
            train_adapter(
                corpus, sets, trained, settings, config=NETWORK, sentences=work / "sentences", taught=taught
            )
        checkpoint = load_checkpoint(trained)
        learned_from = sorted({folder.name for folder in teachers})
    out.mkdir(parents=True, exist_ok=True)
    meta = {"text_languages": [FIRST], **checkpoint.meta, "teachers": learned_from}
    halved((keep or work / "trained") / ADAPTER, out / ADAPTER)
    save_checkpoint(out, replace(checkpoint, name="starter", version=VERSION, meta=meta), half=True)
    for name in (FACE["weights"], VOICE):
        shutil.copyfile(weights / name, out / name)
    if "second" in checkpoint.encoders["text"]:
        shutil.copyfile((keep or out) / READER, out / READER)

    # What ships is what is measured: half-precision weights, from the bundle's own folder.
    hidden = () if quick else MISSING_RATES
    pairs = evaluate(corpus, out, "test", work / "evaluation", missing_rates=hidden)
    test = load_corpus(corpus).conversations("test")
    truth = np.concatenate([c.fine for c in test])
    frequent = np.zeros((len(truth), len(MELD_LABELS)), np.float32)
    frequent[:, 0] = 1
    figures = {
        "faces": faces_alone(out, faces),
        "voice": voice_figures(voices, scores),
        "voice_across": across_corpora(voices, work, FUNCTIONALS),
        "voice_alone": voice_alone(out, voices, scores),
        "majority": {**scores_of(frequent, truth), "ece": None},
        "pairs": pairs,
        "faces_dropped": faces.dropped,
        "teachers": learned_from,
        "network_parameters": sum(p.numel() for p in checkpoint.network.parameters()),
        "face_parameters": sum(p.numel() for p in load_file(out / FACE["weights"]).values()),
        "voice_parameters": sum(p.numel() for p in load_file(out / VOICE).values()),
        "text_parameters": sum(p.numel() for p in load_file(out / ADAPTER).values()),
    }
    named = "".join(f" {folder.name}" for folder in teachers)
    command = (
        "python -m train.starter --data DATA --out model/starter"
        + (f" --teacher{named}" if named else "")
        + (f" --keep {keep.name}" if keep is not None else "")
        + (" --quick" if quick else "")
    )
    card = write_card(figures, version=VERSION, date=date.today().isoformat(), command=command)
    with written_whole(out / "CARD.md") as temporary:
        temporary.write_text(card, encoding="utf-8")
    if "second" in checkpoint.encoders["text"]:
        with written_whole(out / "CARD.md") as temporary:
            temporary.write_text(with_section(card, checkpoint.meta["languages"]), encoding="utf-8")
    else:
        add_languages(out, data, work / "languages", quick=quick)
    write_json(work / "figures.json", figures)
    return figures


def with_new_voice(bundle: Path, pairs: Path) -> Checkpoint:
    """The checkpoint of a bundle as it stays where only the voice changes, calibrated for that.

    Scores of an emotion mean the same whichever classifiers give them. To learn their projection anew, with
    the rest as it is, was no gain (docs/results/starter.md).

    Args:
        pairs: made with the new voice.
    """
    checkpoint = load_checkpoint(bundle)
    text = TextEncoder("minilm", minilm_folder(), adapter=bundle / ADAPTER)
    validation = with_vectors(load_corpus(pairs), "validation", text)
    return replace(checkpoint, calibration=calibrate(checkpoint.network, validation, checkpoint.prior))


def faces_alone(bundle: Path, faces: FaceSplits) -> dict[str, Any]:
    """The DenseNet's own classifier on FER2013's public test set, tempered on the pictures set aside."""
    net = load_face_net(bundle / FACE["weights"])
    temperature = fit_temperature(face_logits(net, faces.dev[0]).numpy(), faces.dev[1])
    logits = face_logits(net, faces.test[0]) / (temperature or 1.0)
    return scores_of(logits.softmax(1).numpy(), faces.test[1])


def voice_alone(bundle: Path, voices: Voices, scores: Mapping[str, VoiceScores]) -> dict[str, Any]:
    """The network with nothing but the voice: clean clips of RAVDESS' held-out actors, a turn at a time.

    An actor's clips count as one recording, so the speaker's own manner is known.
    """
    checkpoint = load_checkpoint(bundle)
    rows = [
        r
        for split in ("validation", "test")
        for r in voices.rows(split, clean=True)
        if voices.speakers[r].startswith("ravdess")
    ]
    values = turn_scores(voices, np.array(rows), [voices.speakers[r] for r in rows], scores)
    clips = [
        Conversation(np.zeros(1, np.int64), {"audio": Features(value[None], np.ones(1, np.bool_))})
        for value in values
    ]
    truth = np.array([MELD_LABELS.index(voices.labels[r]) for r in rows])
    found, _ = probabilities(checkpoint, clips)
    return scores_of(found, truth)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m train.starter", description="Build the starter bundle.")
    parser.add_argument("--data", type=Path, required=True, help="folder of the public corpora")
    parser.add_argument("--out", type=Path, required=True, help="bundle to write")
    parser.add_argument("--work", type=Path, default=Path("build/starter"), help="what stages leave behind")
    parser.add_argument(
        "--teacher", type=Path, nargs="+", default=[], metavar="FOLDER",
        help="larger Hugging Face text encoders to learn from; one named twice is trained from two seeds",
    )  # fmt: skip
    parser.add_argument(
        "--keep", type=Path, metavar="BUNDLE",
        help="an earlier bundle whose faces, text and network stay: only the voice is learned anew",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="minutes instead of hours: a check of the code")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if arguments.keep is not None and arguments.teacher:
        parser.error("--teacher is for a text that is learned, --keep for one that stays: give one of them.")
    try:
        figures = build(
            arguments.data,
            arguments.work,
            arguments.out,
            teachers=arguments.teacher,
            keep=arguments.keep,
            quick=arguments.quick,
        )
    except AnnotateError as error:
        print(f"train.starter: {error}", file=sys.stderr)
        return error.exit_code
    print(json.dumps(figures, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
