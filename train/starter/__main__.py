"""``python -m train.starter --data DATA --out model/starter``: from raw files to the bundle that ships.

Resumable: each stage leaves its result in the work folder and is skipped when it is there.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import sys
from pathlib import Path

from annotator.records import AnnotateError, UsageError
from annotator.table import write_json
from train.corpus import load_corpus
from train.evaluate import evaluate
from train.loop import train_corpus
from train.prepare import prepare
from train.settings import TrainSettings
from train.starter.faces import load_fer2013, train_faces
from train.starter.fusion import face_pools, made_pairs
from train.starter.voice import load_voices

AUDIO = {"name": "egemaps"}
FACE = {"name": "facenet", "weights": "faces.safetensors"}
NEEDED = ("faces/fer2013.parquet", "speech/ravdess.csv", "speech/emodb.csv", "dialogues/meld")


def build(data: Path, work: Path, out: Path, *, quick: bool = False) -> dict[str, object]:
    """Build the bundle ``out`` and return its figures.

    Raises: UsageError when the data are incomplete.
    """
    missing = [name for name in NEEDED if not (data / name).exists()]
    if missing:
        raise UsageError(f"{data} lacks {', '.join(missing)}: see the README on the training data.")
    figures: dict[str, object] = {}

    faces = load_fer2013(data / "faces" / "fer2013.parquet")
    weights = work / "weights"
    weights.mkdir(parents=True, exist_ok=True)
    figures["faces"] = train_faces(
        data / "faces" / "fer2013.parquet",
        work,
        **({"epochs": 1, "limit": 2000} if quick else {}),  # type: ignore[arg-type]
    )
    shutil.copyfile(work / "faces.safetensors", weights / "faces.safetensors")

    voices = load_voices(data / "speech", work, AUDIO, limit=300 if quick else None)
    if not (work / "meld" / "corpus.json").exists():
        prepare("meld", data / "dialogues" / "meld", work / "meld")
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
    trained = work / "trained"
    settings = TrainSettings(epochs=2) if quick else TrainSettings()
    train_corpus(
        corpus,
        trained,
        settings=settings,
        # A day-long conversation must fit too, and MELD's longest has 33 utterances.
        config={"attention_span": 40, "modality_dropout": 0.3},
        name="starter",
    )
    figures["pairs"] = evaluate(corpus, trained, "test", work / "evaluation")
    out.mkdir(parents=True, exist_ok=True)
    for file in trained.iterdir():
        shutil.copyfile(file, out / file.name)
    write_json(work / "figures.json", figures)
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m train.starter", description=(__doc__ or "").split("\n")[0]
    )
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
