"""The starter's reader of other languages: trained, weakened as far as it errs, and put beside the first.

    python -m train.starter.languages --bundle model/starter --data DATA [--work WORK]

What it is worth in a language that it was not trained on is measured by leaving out each in turn. Resumable:
each training keeps its state in the work folder.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from annotator.encode.text import TextEncoder
from annotator.encode.weights import embedded
from annotator.files import written_folder
from annotator.records import AnnotateError
from model import Checkpoint, load_checkpoint, save_checkpoint
from train.adapter import AdapterSettings, sentence_sets
from train.adapter.encoder import center_of
from train.adapter.languages import (
    IMITATED,
    SETTINGS,
    first_encoder,
    fitted_strength,
    of_languages,
    scores_by_language,
    train_languages,
)
from train.corpus import Corpus, LabelledConversation, load_corpus
from train.prepare import prepare
from train.starter.halved import halved

log = logging.getLogger("annotator")

FIRST = "en"
READER = "languages.safetensors"
QUICK = AdapterSettings(encoder="e5", rank=4, sentence_epochs=1, dialogue_epochs=1, limit=8)


def add_languages(bundle: Path, data: Path, work: Path, *, quick: bool = False) -> dict[str, Any]:
    """Train the reader on M-MELD's languages and write it into the bundle. Returns its figures.

    Args:
        data: the folder of the public corpora.
        quick: a check of the code.
    """
    dialogues = data / "dialogues"
    corpus = _parallel(data, work)
    others = sorted(set(corpus.table["language"]) - {FIRST})
    comments, scenes = sentence_sets(corpus, dialogues)
    sets = [replace(comments, share=IMITATED), scenes]
    checkpoint = load_checkpoint(bundle)

    def trained(name: str, without: Sequence[str]) -> TextEncoder:
        adapter = work / f"{name}.safetensors"
        log.info("languages: %s", name)
        train_languages(
            work / "mmeld", bundle, sets, adapter, QUICK if quick else SETTINGS, without=without,
            vectors=work / "vectors.safetensors",
        )  # fmt: skip
        halved(adapter, adapter.with_name(f"{name}-half.safetensors"))
        return TextEncoder("e5", embedded("e5"), adapter=adapter.with_name(f"{name}-half.safetensors"))

    reader = trained("all", [])
    strength = fitted_strength(
        checkpoint, _together(of_languages(corpus, "validation", reader, others)), center_of(reader)
    )
    left_out = {language: trained(f"without-{language}", [language]) for language in others}
    # Of each language as it is read by those that were trained without it.
    unseen = {
        language: of_languages(corpus, "validation", encoder, [language])[language]
        for language, encoder in left_out.items()
    }
    centers = {language: center_of(encoder) for language, encoder in left_out.items()}
    # Never surer than where it was trained: fewer languages make a weaker reader, not a surer one.
    strengths = [fitted_strength(checkpoint, unseen[c], centers[c]) for c in others]
    untested = min(strength, float(np.mean(strengths)))

    spec = {
        **{key: value for key, value in checkpoint.encoders["text"].items() if key != "second"},
        "second": {
            "name": "e5",
            "adapter": READER,
            "languages": others,
            "strength": strength,
            "untested_strength": round(untested, 2),
        },
    }
    checkpoint = replace(checkpoint, encoders={**checkpoint.encoders, "text": spec})
    shutil.copyfile(work / "all-half.safetensors", bundle / READER)
    figures = measured(checkpoint, bundle, corpus, left_out)
    _save(checkpoint, bundle, figures)
    return figures


def measure_again(bundle: Path, data: Path, work: Path) -> dict[str, Any]:
    """Measure the reader that a bundle has, after its network has changed. Returns its figures.

    Readers that training left in ``work`` without a language are measured too.
    """
    checkpoint, corpus = load_checkpoint(bundle), _parallel(data, work)
    adapters = {
        language: work / f"without-{language}-half.safetensors" for language in set(corpus.table["language"])
    }
    left_out = {
        language: TextEncoder("e5", embedded("e5"), adapter=file)
        for language, file in sorted(adapters.items())
        if file.is_file()
    }
    figures = measured(checkpoint, bundle, corpus, left_out)
    _save(checkpoint, bundle, figures)
    return figures


def measured(
    checkpoint: Checkpoint, bundle: Path, corpus: Corpus, left_out: Mapping[str, TextEncoder]
) -> dict[str, Any]:
    """Scores by language on the test split: of both readers, and of those trained without a language."""
    spec = checkpoint.encoders["text"]
    second, first = spec["second"], first_encoder(spec, bundle)
    reader = TextEncoder("e5", embedded("e5"), adapter=bundle / READER)
    strength, untested = float(second["strength"]), float(second["untested_strength"])
    return {
        "strength": strength,
        "untested_strength": untested,
        "first": _scores(checkpoint, corpus, first, [FIRST], 1.0),
        "reader": _scores(checkpoint, corpus, reader, [FIRST, *second["languages"]], strength),
        "left_out": {
            language: _scores(checkpoint, corpus, encoder, [language], untested)[language]
            for language, encoder in left_out.items()
        },
    }


def _parallel(data: Path, work: Path) -> Corpus:
    """M-MELD beside MELD's own English, prepared once."""
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "mmeld" / "corpus.json").exists():
        dialogues = data / "dialogues"
        prepare("mmeld", dialogues / "mmeld", work / "mmeld", english=dialogues / "meld")
    return load_corpus(work / "mmeld")


def _save(checkpoint: Checkpoint, bundle: Path, figures: Mapping[str, Any]) -> None:
    """The checkpoint with the figures in it, and in its card where there is one."""
    learned = [FIRST, *checkpoint.encoders["text"]["second"]["languages"]]
    meta = {**checkpoint.meta, "text_languages": learned, "languages": dict(figures)}
    with written_folder(bundle, anew=False) as made:
        shutil.copytree(bundle, made, dirs_exist_ok=True)
        save_checkpoint(made, replace(checkpoint, meta=meta), half=True)
        card = made / "CARD.md"
        if card.is_file():
            card.write_text(with_section(card.read_text("utf-8"), figures), encoding="utf-8")


def _scores(
    checkpoint: Checkpoint, corpus: Corpus, encoder: TextEncoder, languages: Sequence[str], strength: float
) -> dict[str, dict[str, Any]]:
    return scores_by_language(checkpoint, of_languages(corpus, "test", encoder, languages, strength))


def _together(by_language: Mapping[str, list[LabelledConversation]]) -> list[LabelledConversation]:
    return [c for language in sorted(by_language) for c in by_language[language]]


def with_section(card: str, figures: Mapping[str, Any]) -> str:
    """The card with its section on languages, in the place of one that it has."""

    def row(language: str, read_by: str, m: Mapping[str, Any]) -> str:
        scores = " | ".join(f"{100 * m[key]:.1f}" for key in ("accuracy", "weighted_f1", "ece"))
        return f"| {language} | {read_by} | {m['n']} | {scores} |"

    rows = [row(FIRST, "MiniLM", figures["first"][FIRST])]
    rows += [row(c, "e5, trained on it", m) for c, m in figures["reader"].items() if c != FIRST]
    rows += [row(c, "e5, not trained on it", m) for c, m in figures["left_out"].items()]
    rows += [row(FIRST, "e5 (not used for it)", figures["reader"][FIRST])]
    section = "\n".join(
        [
            "## Languages of text",
            "",
            "English is read by MiniLM, all else by multilingual-e5-small, which has learned to put a text",
            "where MiniLM puts its translation. M-MELD's test split: MELD's labels, the series' subtitles.",
            "",
            "| language | read by | n | accuracy | weighted F1 | calibration error |",
            "|---|---|--:|--:|--:|--:|",
            *rows,
            "",
            "Other languages get the flag `language_untested`. A language that e5 has not seen in its",
            "pre-training counts as absent (`text_unread`).",
            "",
            f"`{READER}` is the adapter on e5, which comes from a package of its own, trained on M-MELD",
            "(Ghosh et al., 2022; no licence stated, TV text: research only), EmoryNLP and GoEmotions.",
            "",
            "",
        ]
    )
    kept = re.sub(r"## Languages of text\n.*?(?=^## )", "", card, flags=re.DOTALL | re.MULTILINE)
    before, heading, after = kept.partition("## What is in it\n")
    return before + section + heading + after


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m train.starter.languages",
        description="Add a reader of other languages to the starter.",
    )
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder of the public corpora")
    parser.add_argument(
        "--work", type=Path, default=Path("build/starter/languages"), help="what stages leave"
    )
    a = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        print(json.dumps(add_languages(a.bundle, a.data, a.work)))
    except AnnotateError as error:
        print(f"train.starter.languages: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
