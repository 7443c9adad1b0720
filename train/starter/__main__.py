"""``python -m train.starter --data DATA --out model/starter``: from raw files to the bundle that ships.

Resumable: each stage leaves its result in the work folder and is skipped when it is there.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from annotator.records import AnnotateError, Conversation, Features, UsageError
from annotator.table import write_json, written_whole
from model import load_checkpoint, save_checkpoint
from train.adapter import ADAPTER, SPEC, AdapterSettings, emorynlp, goemotions, train_sentences
from train.corpus import load_corpus
from train.evaluate import evaluate, probabilities, scores_of
from train.loop import train_corpus
from train.prepare import prepare
from train.settings import TrainSettings
from train.starter.card import write_card
from train.starter.faces import MELD_LABELS, load_fer2013, train_faces
from train.starter.fusion import face_pools, made_pairs
from train.starter.voice import Voices, load_voices

log = logging.getLogger("annotator")

VERSION = "1"
TEXT = SPEC
AUDIO = {"name": "egemaps"}
FACE = {"name": "facenet", "weights": "faces.safetensors"}
# A day-long conversation must fit too, and MELD's longest has 33 utterances.
NETWORK = {"attention_span": 40, "modality_dropout": 0.3, "feature_dropout": 0.3, "context_dropout": 0.3}
NEEDED = (
    "faces/fer2013.parquet",
    "speech/ravdess.csv",
    "speech/emodb.csv",
    "dialogues/meld",
    "dialogues/emorynlp",
    "dialogues/goemotions",
)


def build(data: Path, work: Path, out: Path, *, quick: bool = False) -> dict[str, Any]:
    """Build the bundle ``out`` and return its figures.

    Raises: UsageError when the data are incomplete.
    """
    missing = [name for name in NEEDED if not (data / name).exists()]
    if missing:
        raise UsageError(f"{data} lacks {', '.join(missing)}: give the folder of the public corpora.")
    if quick:
        work = work / "quick"  # what a check leaves behind must not end up in a real bundle
    weights = work / "weights"
    weights.mkdir(parents=True, exist_ok=True)

    log.info("faces")
    face_file = data / "faces" / "fer2013.parquet"
    faces = load_fer2013(face_file)
    face_figures = train_faces(face_file, work, epochs=1 if quick else 38, limit=2000 if quick else None)
    halved(work / FACE["weights"], weights / FACE["weights"])

    log.info("text")
    dialogues = data / "dialogues"
    held_out = [
        text
        for split in ("dev", "test")
        for text in table_texts(dialogues / "meld" / f"{split}_sent_emo.csv")
    ]
    if not (weights / ADAPTER).exists():
        train_sentences(
            [goemotions(dialogues / "goemotions"), emorynlp(dialogues / "emorynlp", held_out)],
            weights / ADAPTER,
            AdapterSettings(limit=300 if quick else None),
            work,
        )
    if not (work / "meld" / "corpus.json").exists():
        prepare("meld", dialogues / "meld", work / "meld", text_encoder=TEXT, weights=weights)

    log.info("voices and pairs")
    voices = load_voices(data / "speech", work, AUDIO, limit=300 if quick else None)
    corpus = work / "pairs"
    made_pairs(
        load_corpus(work / "meld"),
        voices,
        face_pools(faces),
        weights,
        corpus,
        audio_spec=AUDIO,
        face_spec=FACE,
    )
    log.info("network")
    trained = work / "trained"
    train_corpus(
        corpus, trained, settings=TrainSettings(epochs=2 if quick else 12), config=NETWORK, name="starter"
    )
    checkpoint = load_checkpoint(trained)
    out.mkdir(parents=True, exist_ok=True)
    save_checkpoint(out, replace(checkpoint, version=VERSION), half=True)
    for name in (FACE["weights"], TEXT["adapter"]):
        shutil.copyfile(weights / name, out / name)

    # What ships is what is measured: half-precision weights, from the bundle's own folder.
    pairs = evaluate(corpus, out, "test", work / "evaluation")
    test = load_corpus(corpus).conversations("test")
    truth = np.concatenate([c.fine for c in test])
    frequent = np.zeros((len(truth), len(MELD_LABELS)), np.float32)
    frequent[:, 0] = 1
    figures = {
        "faces": {
            "accuracy": face_figures["accuracy"],
            "unweighted_average_recall": face_figures["macro_recall"],
            "n": len(faces.test[1]),
        },
        "voice": voice_figures(out, voices),
        "majority": {**scores_of(frequent, truth), "ece": None},
        "pairs": pairs,
        "faces_dropped": faces.dropped,
        "network_parameters": sum(p.numel() for p in checkpoint.network.parameters()),
        "face_parameters": sum(p.numel() for p in load_file(out / FACE["weights"]).values()),
        "text_parameters": sum(p.numel() for p in load_file(out / TEXT["adapter"]).values()),
    }
    command = "python -m train.starter --data DATA --out model/starter" + (" --quick" if quick else "")
    card = write_card(figures, version=VERSION, date=date.today().isoformat(), command=command)
    with written_whole(out / "CARD.md") as temporary:
        temporary.write_text(card, encoding="utf-8")
    write_json(work / "figures.json", figures)
    return figures


def table_texts(file: Path) -> list[str]:
    """The utterances of one of MELD's files."""
    import polars as pl

    return pl.read_csv(file, encoding="utf8-lossy", infer_schema_length=None)["Utterance"].to_list()


def halved(source: Path, target: Path) -> None:
    """Copy weights in half precision, but for the statistics of batch normalisation."""
    from safetensors import safe_open

    with safe_open(source, "pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    small = {
        name: t.half() if t.dtype == torch.float32 and "running_" not in name else t
        for name, t in tensors.items()
    }
    with written_whole(target) as temporary:
        save_file(small, temporary, metadata=metadata)


def voice_figures(bundle: Path, voices: Voices) -> dict[str, Any]:
    """Voice alone on the clips of RAVDESS' test actors, each a conversation of one utterance."""
    checkpoint = load_checkpoint(bundle)
    rows = [r for r in voices.rows("test", clean=True) if voices.speakers[r].startswith("ravdess")]
    clips = [
        Conversation(np.zeros(1, np.int64), {"audio": Features(voices.values[r][None], np.ones(1, np.bool_))})
        for r in rows
    ]
    truth = np.array([MELD_LABELS.index(voices.labels[r]) for r in rows])
    found, _ = probabilities(checkpoint, clips)
    # RAVDESS numbers men odd and women even.
    sex = np.array(
        ["female" if int(voices.speakers[r].rpartition("-")[2]) % 2 == 0 else "male" for r in rows]
    )
    by_sex: Mapping[str, float] = {
        str(s): scores_of(found[sex == s], truth[sex == s])["unweighted_average_recall"]
        for s in np.unique(sex)
    }
    return {**scores_of(found, truth), "by_sex": by_sex}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m train.starter", description="Build the starter bundle.")
    parser.add_argument("--data", type=Path, required=True, help="folder of the public corpora")
    parser.add_argument("--out", type=Path, required=True, help="bundle to write")
    parser.add_argument("--work", type=Path, default=Path("build/starter"), help="what stages leave behind")
    parser.add_argument("--quick", action="store_true", help="minutes instead of hours: a check of the code")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        figures = build(arguments.data, arguments.work, arguments.out, quick=arguments.quick)
    except AnnotateError as error:
        print(f"train.starter: {error}", file=sys.stderr)
        return error.exit_code
    print(json.dumps(figures, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
