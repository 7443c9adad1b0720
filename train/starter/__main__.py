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
from numpy.typing import NDArray
from safetensors.torch import load_file

from annotator.encode.face import load_face_net
from annotator.encode.text import TextEncoder
from annotator.encode.voice import VoiceScores, load_voice_scores
from annotator.encode.weights import minilm_folder
from annotator.files import write_json, write_text
from annotator.records import AnnotateError, Conversation, Features, UsageError
from model import Checkpoint, Network, load_checkpoint, save_checkpoint
from train.adapter import ADAPTER, AdapterSettings, sentence_sets, teach, train_adapter
from train.corpus import load_corpus
from train.evaluate import MISSING_RATES, evaluate, scores_of, sets_of, told
from train.evaluate.calibration import calibrate, fit_temperature
from train.loop import statistics, train
from train.prepare import prepare
from train.prepare.meld import LABELS as MELD_LABELS
from train.settings import TrainSettings
from train.starter.card import write_card
from train.starter.faces import FaceSplits, face_logits, load_fer2013, train_faces
from train.starter.fusion import face_pools, made_pairs
from train.starter.halved import halved
from train.starter.languages import FIRST, READER, add_languages, measure_again
from train.starter.quick import CLIPS, SMALL_FACES, smaller
from train.starter.voice import (
    LEARNED,
    TESTED,
    Voices,
    across_corpora,
    load_voices,
    short_turns,
    turn_scores,
    unseen_scores,
    voice_figures,
    without_corpus,
)
from train.starter.voice.clips import corpus_of

log = logging.getLogger("annotator")

VERSION = "7.1"
VOICE = "voice.safetensors"
HEARING = {"name": "whisper"}
QUICK_HEARING = {"name": "egemaps"}  # 88 numbers: thirteen models of 2,048 take minutes
FACE = {"name": "facenet", "weights": "faces.safetensors"}
# A day-long conversation must fit too, and MELD's longest has 33 utterances.
NETWORK = {"attention_span": 40, "modality_dropout": 0.3}
# A part of the dialogues is garbled as by a recogniser, whose text a run mostly has.
TRAINING = AdapterSettings(rank=32, dialogue_epochs=2, word_errors=0.2)
QUICK = AdapterSettings(rank=32, network_epochs=2, dialogue_epochs=1, word_errors=0.2)
# The network of an earlier bundle learns a new voice: it knows the rest already.
FUSION = TrainSettings(epochs=4, batch_size=16, lr=1e-3, warmup=0.1, patience=None)
NEEDED = (
    "faces/fer2013.parquet",
    *(f"speech/{corpus}.csv" for corpus in (*LEARNED, *TESTED)),
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
        keep: an earlier bundle, whose faces and text stay: the voice is learned anew, and the network goes on
            from what it knows.

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
    hearing = QUICK_HEARING if quick else HEARING
    audio = {**hearing, "weights": VOICE}
    voices = load_voices(data / "speech", work, hearing, limit=CLIPS if quick else None)
    scores = unseen_scores(voices, work, weights / VOICE)
    corpus, text_spec = work / "pairs", {"name": "minilm"}
    if keep is not None:
        shutil.copyfile(keep / ADAPTER, weights / ADAPTER)
        text_spec["adapter"] = ADAPTER
    if not (corpus / "corpus.json").exists():
        made_pairs(
            load_corpus(work / "meld"),
            TextEncoder("minilm", minilm_folder(), adapter=weights / ADAPTER if keep is not None else None),
            text_spec,
            voices,
            scores,
            strangers(voices, work, scores),
            face_pools(faces),
            weights,
            corpus,
            audio_spec=audio,
            face_spec=FACE,
        )
    log.info("text and network")
    if keep is not None:
        checkpoint = with_new_voice(
            keep, corpus, work / "fused", replace(FUSION, epochs=1) if quick else FUSION
        )
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
        "voice": voice_figures(voices, work, scores),
        "voice_across": across_corpora(voices, work, load_voice_scores(out / VOICE, voices.values.shape[1])),
        "voice_short": short_turns(data / "speech", hearing, scores),
        "voice_alone": network_on_voices(out, voices, work, scores),
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
    write_text(out / "CARD.md", card)
    if "second" in checkpoint.encoders["text"]:
        measure_again(out, data, work / "languages")
    else:
        add_languages(out, data, work / "languages", quick=quick)
    write_json(work / "figures.json", figures)
    return figures


def strangers(voices: Voices, work: Path, scores: Mapping[str, VoiceScores]) -> dict[str, VoiceScores]:
    """For each speaker a model that has heard nothing of the corpus."""
    models = {corpus: without_corpus(voices, work, corpus) for corpus in LEARNED}
    return {name: models.get(corpus_of(name), scores[name]) for name in voices.speakers}


def with_new_voice(bundle: Path, pairs: Path, out: Path, settings: TrainSettings) -> Checkpoint:
    """The checkpoint of a bundle after its network has learned another voice from made pairs.

    What has to do with the voice goes on from what it was, its projection begins anew, all else stays.

    Args:
        pairs: made with the new voice, and with the bundle's text.
        out: where the trained checkpoint is kept; what is there is not trained again.
    """
    if not out.exists():
        before, corpus = load_checkpoint(bundle), load_corpus(pairs)
        widths = {**before.config.input_dims, "audio": corpus.header.widths["audio"]}
        network = Network(before.config.replace(input_dims=widths))
        known = before.network.state_dict()
        fits = {
            name: value for name, value in known.items() if value.shape == network.state_dict()[name].shape
        }
        network.load_state_dict(fits, strict=False)
        # The text has learned these very labels: a network that goes on learning would believe it too much.
        for name, parameter in network.named_parameters():
            parameter.requires_grad_("audio" in name)
        learned, validation = corpus.conversations("train"), corpus.conversations("validation")
        network.set_normalisation({"audio": statistics(learned, ("audio",))["audio"]})
        train(
            learned,
            validation,
            network.config,
            settings,
            out,
            labels=before.labels,
            encoders={**before.encoders, "audio": corpus.header.encoders["audio"]},
            meta=before.meta,
            start=network,
        )
        # What is as likely as in natural dialogue, not as in the recordings of voices beside it.
        checkpoint = load_checkpoint(out)
        calibration = calibrate(checkpoint.network, validation, before.prior)
        save_checkpoint(out, replace(checkpoint, prior=before.prior, calibration=calibration))
    return load_checkpoint(out)


def faces_alone(bundle: Path, faces: FaceSplits) -> dict[str, Any]:
    """The DenseNet's own classifier on FER2013's public test set, tempered on the pictures set aside."""
    net = load_face_net(bundle / FACE["weights"])
    temperature = fit_temperature(face_logits(net, faces.dev[0]).numpy(), faces.dev[1])
    logits = face_logits(net, faces.test[0]) / (temperature or 1.0)
    return scores_of(logits.softmax(1).numpy(), faces.test[1])


def voice_alone(
    bundle: Path, voices: Voices, rows: NDArray[np.int64], scores: Mapping[str, VoiceScores]
) -> dict[str, Any]:
    """The network with nothing but the voice, a turn at a time: figures, coverage of the plausible labels.

    A speaker's rows count as one recording, so the manner is known. Emotions that no row has are left out.
    """
    checkpoint = load_checkpoint(bundle)
    values = turn_scores(voices, rows, [voices.recordings[r] for r in rows], scores)
    clips = [
        Conversation(np.zeros(1, np.int64), {"audio": Features(value[None], np.ones(1, np.bool_))})
        for value in values
    ]
    truth = np.array([MELD_LABELS.index(voices.labels[r]) for r in rows])
    probabilities, _, present = told(checkpoint, clips)
    classes = np.unique(truth)
    shares = probabilities[:, classes] / probabilities[:, classes].sum(1, keepdims=True)
    of = scores_of(shares, np.searchsorted(classes, truth))
    return of | sets_of(checkpoint, probabilities, present, truth)


def network_on_voices(
    bundle: Path, voices: Voices, work: Path, scores: Mapping[str, VoiceScores]
) -> dict[str, dict[str, Any]]:
    """:func:`voice_alone` on test speakers: nothing has learned from them, nor chosen or calibrated by them.

    ``held_out``: RAVDESS' by the model that ships; each corpus by one that has not heard it, but the network
    has learned from such models' scores of its other speakers.
    """
    clean = np.array(voices.rows("test", clean=True))
    corpora = np.array([corpus_of(name) for name in voices.speakers])
    by_corpus = {"held_out": voice_alone(bundle, voices, clean[corpora[clean] == "ravdess"], scores)}
    for corpus in LEARNED:
        heard = dict.fromkeys(voices.speakers, without_corpus(voices, work, corpus))
        by_corpus[corpus] = voice_alone(bundle, voices, clean[corpora[clean] == corpus], heard)
    for corpus in TESTED:
        rows = np.flatnonzero(voices.clean & (corpora == corpus))
        by_corpus[corpus] = voice_alone(bundle, voices, rows, scores)
    return by_corpus


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
        help="an earlier bundle whose faces and text stay: the voice is learned anew",
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
