"""Does correcting what `annotate report --review uncertain` puts first teach more than correcting at random?

    python -m benchmarks.corrections --data ../shared/data --out build/corrections

EmoryNLP, whose seven labels are others than the starter's. The starter labels scenes as a run would; 60
utterances of them are chosen, by the very code of the report or at random, and get their true labels (all
others of the scene stay as neighbours without one, as in the corrections that the page saves); `finetune`
learns from them with its defaults, and the weighted F1 is told on scenes that nobody chose from. Both ways
have the same scenes to choose from and the same ones to validate by, so their difference is paired, seed by
seed.

`--part development` does the same on EmoryNLP's training scenes: what the order is tuned on. The figure
that counts is that of `--part test`: scenes of the official validation split to choose from and to validate
by, the official test split to measure on. `--scheme` gives the labels names that say nothing, so that the
network begins with a head that knows none of them, as for people who label by a scheme of their own.
`--ways` names the orders; the last counts. Exits 1 when it is not better than chance in the mean.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from annotator import __version__
from annotator.predict import Predictor
from annotator.records import AnnotateError, Features, Prediction
from annotator.report import review
from annotator.weights import STARTER
from train.corpus import ENCODERS, Corpus, load_corpus, write_corpus
from train.finetune import FinetuneSettings, finetune
from train.prepare import prepare

CORRECTED = 60  # utterances
TO_VALIDATE = 30  # scenes
TRAINING_SCENES = (
    200  # of EmoryNLP's, for development: the first half to choose from, the other to measure on
)

Choice = Callable[[pl.DataFrame, Sequence[str], int], list[int]]


def at_random(table: pl.DataFrame, labels: Sequence[str], seed: int) -> list[int]:
    """Rows in an order of chance."""
    order: list[int] = np.random.default_rng(1000 + seed).permutation(len(table)).tolist()
    return order


def uncertain(table: pl.DataFrame, labels: Sequence[str], seed: int) -> list[int]:
    """Rows in the order of the report."""
    return review.uncertain(table, labels)


def balanced(table: pl.DataFrame, labels: Sequence[str], seed: int) -> list[int]:
    """The order of the report within each label that the model gives; the labels take turns."""
    shares = table.select(f"p_{label}" for label in labels).to_numpy()
    order = review.uncertain(table, labels)
    turns: dict[int, int] = {}
    keys = []
    for place, row in enumerate(order):
        label = int(shares[row].argmax())
        turns[label] = turns.get(label, 0) + 1
        keys.append((turns[label], place))
    return [order[place] for _, place in sorted(keys)]


def spread(table: pl.DataFrame, labels: Sequence[str], seed: int) -> list[int]:
    """The farthest from those chosen (Hellinger, between probabilities), times how little the margin is."""
    shares = table.select(f"p_{label}" for label in labels).to_numpy().astype(np.float64)
    two = np.sort(shares, axis=1)[:, -2:]
    weight = 1 - (two[:, 1] - two[:, 0])
    points = np.sqrt(shares)
    order, away = [int(weight.argmax())], np.full(len(points), np.inf)
    for _ in range(min(len(points), CORRECTED) - 1):
        away = np.minimum(away, ((points - points[order[-1]]) ** 2).sum(axis=1))
        worth = weight * np.sqrt(away)
        worth[order] = -1
        order.append(int(worth.argmax()))
    return order


WAYS: dict[str, Choice] = {
    "random": at_random,
    "uncertain": uncertain,
    "balanced": balanced,
    "spread": spread,
}
# Names that tell a network nothing of what it knows: people who label by a scheme of their own.
SCHEME = ("one", "two", "three", "four", "five", "six", "seven")


def prepared(data: Path, out: Path) -> Corpus:
    """EmoryNLP with the starter's text vectors, made once; the first scenes only of its train split."""
    if (out / "corpus" / "corpus.json").exists():
        return load_corpus(out / "corpus")
    source, part = data / "dialogues" / "emorynlp", out / "source"
    part.mkdir(parents=True, exist_ok=True)
    for name in ("train", "dev", "test"):
        table = pl.read_csv(source / f"{name}.csv", infer_schema=False)
        if name == "train":
            table = table.filter(pl.col("Dialogue_ID").cast(pl.Int32) < TRAINING_SCENES)
        table.write_csv(part / f"{name}.csv")
    return prepare("emorynlp", part, out / "corpus", model=STARTER)


def labelled_by_starter(corpus: Corpus) -> tuple[pl.DataFrame, list[str]]:
    """What a run says of each row: recording (scene), speaker, probabilities; and the labels of these."""
    predictor = Predictor(STARTER, modalities=("text",))
    conversations = [c for split in corpus.splits for c in corpus.conversations(split)]
    told = predictor.predict([c.conversation for c in conversations])
    shares = np.zeros((len(corpus.table), len(predictor.labels)), np.float32)
    for conversation, prediction in zip(conversations, told, strict=True):
        assert isinstance(prediction, Prediction)
        shares[conversation.first_row : conversation.first_row + len(conversation)] = prediction.emotion
    table = corpus.table.select(
        pl.col("split"),
        pl.col("dialogue_id").alias("file"),
        pl.col("speaker"),
        *(pl.Series(f"p_{label}", shares[:, i]) for i, label in enumerate(predictor.labels)),
    )
    return table.with_row_index("row"), list(predictor.labels)


def corrected(
    corpus: Corpus,
    chosen: Sequence[int],
    validate: Sequence[str],
    measure: Sequence[str],
    out: Path,
    names: Sequence[str],
) -> Corpus:
    """A corpus of the scenes of the chosen rows, whose others have no label, and of those to measure on.

    Args:
        names: what its labels are called, in the order of the corpus's.
    """
    scene = pl.col("dialogue_id")
    rows = corpus.table.with_row_index("row").with_columns(
        pl.when(scene.is_in(list(validate)))
        .then(pl.lit("validation"))
        .when(scene.is_in(list(measure)))
        .then(pl.lit("test"))
        .when(scene.is_in(corpus.table["dialogue_id"].gather(list(chosen)).to_list()))
        .then(pl.lit("train"))
        .alias("split")
    )
    known = (pl.col("split") != "train") | pl.col("row").is_in(list(chosen))
    rows = rows.drop_nulls("split").with_columns(
        pl.when(known).then(pl.col(name)).alias(name) for name in ("emotion", "sentiment")
    )
    rows = rows.with_columns(pl.col("emotion").replace(dict(zip(corpus.labels, names, strict=True))))
    at = rows["row"].to_numpy()
    return write_corpus(
        out,
        rows.drop("row"),
        tuple(names),
        {m: Features(np.array(f.values[at]), f.present[at]) for m, f in corpus.features.items()},
        encoders=corpus.header.encoders,
        fingerprints=corpus.header.fingerprints,
        weights=corpus.folder / ENCODERS,
    )


def scenes(table: pl.DataFrame, part: str) -> tuple[list[str], list[str]]:
    """Scenes to choose from and to validate by, and those to measure on."""
    splits = table.partition_by("split", as_dict=True)
    of = {str(split): rows["file"].unique(maintain_order=True).to_list() for (split,), rows in splits.items()}
    if part == "test":
        return of["validation"], of["test"]
    half = len(of["train"]) // 2
    return of["train"][:half], of["train"][half:]


def compared(
    corpus: Corpus,
    part: str,
    seeds: Sequence[int],
    ways: dict[str, Choice],
    out: Path,
    names: Sequence[str],
) -> tuple[dict[str, list[float]], float | None]:
    """Weighted F1 (0-1) of each way by seeds, which draw the scenes, the random rows and the training.

    Returns: these, and the weighted F1 of the starter as it is, labels matched by name; None where it knows
    no name.
    """
    table, labels = labelled_by_starter(corpus)
    ours, measure = scenes(table, part)
    found: dict[str, list[float]] = {way: [] for way in ways}
    as_it_is = None
    for seed in seeds:
        order = np.random.default_rng(seed).permutation(ours).tolist()
        validate, pool = order[:TO_VALIDATE], table.filter(pl.col("file").is_in(order[TO_VALIDATE:]))
        for way, choose in ways.items():
            rows = pool["row"].gather(choose(pool, labels, seed)[:CORRECTED]).to_list()
            small = corrected(corpus, rows, validate, measure, out / "corrected", names)
            settings = FinetuneSettings(text="frozen", seed=seed)
            tuned = finetune(small.folder, STARTER, out / "tuned", settings, progress=False)
            assert tuned.figures is not None
            if tuned.figures.start is not None:
                as_it_is = tuned.figures.start.scores["weighted_f1"]
            found[way].append(tuned.figures.metrics["weighted_f1"])
            shutil.rmtree(out / "tuned")
            print(f"seed {seed}, {way}: {100 * found[way][-1]:.1f}", file=sys.stderr, flush=True)
    return found, as_it_is


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.corrections", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the public corpora")
    parser.add_argument("--out", type=Path, default=Path("build/corrections"))
    parser.add_argument("--part", choices=["test", "development"], default="test")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=["random", "uncertain"])
    parser.add_argument("--scheme", action="store_true", help="labels whose names say nothing")
    a = parser.parse_args()
    if a.seeds < 1:
        parser.error("--seeds must be at least 1")
    if a.ways[0] != "random" or len(a.ways) < 2:
        parser.error("--ways begins with random, which the others are held against")
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    try:
        corpus = prepared(a.data, a.out)
        names = SCHEME if a.scheme else corpus.labels
        ways = {way: WAYS[way] for way in a.ways}
        found, as_it_is = compared(corpus, a.part, range(a.seeds), ways, a.out, names)
    except AnnotateError as error:
        print(f"benchmarks.corrections: {error}", file=sys.stderr)
        return error.exit_code
    labels = "labels by a scheme of their own" if a.scheme else "its labels"
    print(f"EmoryNLP, {a.part}, {labels}, {CORRECTED} utterances corrected; weighted F1 in percent")
    if as_it_is is not None:
        print(f"the starter as it is: {100 * as_it_is:.1f}")
    print("seed" + "".join(f"{way:>11}" for way in ways))
    for seed, row in enumerate(zip(*found.values(), strict=True)):
        print(f"{seed:>4}" + "".join(f"{100 * f1:>11.1f}" for f1 in row))
    told: dict[str, object] = {}
    for way in a.ways[1:]:
        difference = np.subtract(found[way], found["random"])
        error_of_mean = float(difference.std(ddof=1) / len(difference) ** 0.5) if a.seeds > 1 else None
        told[way] = {
            "weighted_f1": [round(f1, 4) for f1 in found[way]],
            "less_random": round(float(difference.mean()), 4),
            "standard_error": None if error_of_mean is None else round(error_of_mean, 4),
        }
        margin = "" if error_of_mean is None else f" ± {100 * error_of_mean:.1f} (standard error)"
        print(f"{way} less random: {100 * difference.mean():+.1f}{margin}")
    told |= {
        "part": a.part,
        "scheme": a.scheme,
        "corrected": CORRECTED,
        "random": [round(f1, 4) for f1 in found["random"]],
        "start": None if as_it_is is None else round(as_it_is, 4),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "annotator": __version__,
    }
    print(json.dumps(told))
    return int(not np.mean(found[a.ways[-1]]) > np.mean(found["random"]))


if __name__ == "__main__":
    sys.exit(main())
