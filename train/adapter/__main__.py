"""``python -m train.adapter CORPUS --dialogues DIALOGUES --out CHECKPOINT``."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path

from annotator.records import AnnotateError
from train.adapter import AdapterSettings, sentence_sets, teach, train_adapter
from train.corpus import load_corpus


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m train.adapter", description="Adapt the text encoder.")
    parser.add_argument("corpus", type=Path, help="a corpus with text, from `annotate prepare`")
    parser.add_argument("--dialogues", type=Path, required=True, help="folder with goemotions/ and emorynlp/")
    parser.add_argument("--out", type=Path, required=True, help="checkpoint folder to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=AdapterSettings.dialogue_epochs, help="of dialogues")
    parser.add_argument("--rank", type=int, default=AdapterSettings.rank)
    parser.add_argument(
        "--sentences", type=Path, help="folder of the first stage, for trainings of several seeds to share"
    )
    parser.add_argument(
        "--teacher", type=Path, nargs="+", default=[], metavar="FOLDER",
        help="Hugging Face encoders to learn from; one named twice is trained from two seeds",
    )  # fmt: skip
    parser.add_argument(
        "--taught", type=Path, help="folder that keeps what the teachers said, for trainings to share"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--limit", type=int, default=None, help="sentences and dialogues, for a quick run")
    a = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    settings = AdapterSettings(
        rank=a.rank, dialogue_epochs=a.epochs, seed=a.seed, device=a.device, limit=a.limit
    )
    try:
        corpus = load_corpus(a.corpus)
        sets = sentence_sets(corpus, a.dialogues)
        kept = a.taught or a.out.with_name(a.out.name + ".taught")
        taught = teach(corpus, sets, a.teacher, kept, settings) if a.teacher else None
        best = train_adapter(a.corpus, sets, a.out, settings, sentences=a.sentences, taught=taught)
    except AnnotateError as error:
        print(f"train.adapter: {error}", file=sys.stderr)
        return error.exit_code
    print(json.dumps(best))
    return 0


if __name__ == "__main__":
    sys.exit(main())
