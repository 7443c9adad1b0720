"""Fine-tuning against training from scratch, on corpora that the starter was not labelled with.

    python -m benchmarks.finetune --data ../shared/data --out build/finetune

- EmoryNLP (text; seven labels of its own): all of its training scenes, five seeds.
- EmoryNLP with 5 % of its training scenes: from the starter and from scratch.
- RAVDESS speech (eight labels; actors 17-18 validate, 19-20 test): 1, 10 and 100 % of the training clips,
  from the starter and from scratch.
- The same clips as openSMILE functionals, which the starter's part for the voice is learnt anew for.
- Fifty utterances of MELD's validation split, with the starter's own labels: against the starter as it is.

Each run leaves a line on disk, so that a stopped benchmark goes on. "From scratch" is `annotate train` with
its defaults: a fresh network on frozen encoders.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from annotator.records import AnnotateError, Features
from annotator.weights import STARTER
from train.corpus import ENCODERS, Corpus, load_corpus, write_corpus
from train.evaluate import evaluate
from train.finetune import FinetuneSettings, finetune
from train.loop import train_corpus
from train.prepare import prepare
from train.settings import TrainSettings

SHARES = (0.01, 0.1, 1.0)  # of RAVDESS' training clips
FEW = 0.05  # of EmoryNLP's training scenes
SCORES = ("weighted_f1", "accuracy", "macro_f1", "unweighted_average_recall")
# Chosen on validation, against training the adapter too, a balance of 0.5 and a rate of 3e-4.
EMORYNLP: dict[str, Any] = {"text": "frozen", "balance": 1.0, "lr": 1e-3}
# Single clips: each is a dialogue of its own. Chosen on validation, against 32.
RAVDESS: dict[str, Any] = {"batch_size": 8, "epochs": 40, "patience": 10}

FUNCTIONALS = "compare2016"

Run = Callable[[Corpus, Path, int], dict[str, Any]]


def from_starter(settings: Mapping[str, Any], renew: Sequence[str] = ()) -> Run:
    """Fine-tune the starter."""

    def run(corpus: Corpus, out: Path, seed: int) -> dict[str, Any]:
        how = FinetuneSettings(**settings, seed=seed)
        tuned = finetune(corpus.folder, STARTER, out, how, renew=renew, progress=False)
        assert tuned.figures is not None
        found = {name: tuned.figures.metrics[name] for name in SCORES}
        start = tuned.figures.start
        return {
            **found,
            "epoch": tuned.best.number,
            "majority": tuned.figures.majority.scores["weighted_f1"],
            "start": start.scores["weighted_f1"] if start else None,
        }

    return run


def from_scratch(corpus: Corpus, out: Path, seed: int) -> dict[str, Any]:
    """Train a fresh network on the corpus' features."""
    trained = train_corpus(corpus.folder, out, settings=TrainSettings(seed=seed), progress=False)
    metrics = evaluate(corpus.folder, out, "test", out / "evaluation", missing_rates=())
    return {**{name: metrics[name] for name in SCORES}, "epoch": trained.best.number}


def part_of(corpus: Corpus, share: float, seed: int, out: Path, *, by_label: bool) -> Corpus:
    """The corpus with a share of its training dialogues, whole validation and test.

    Args:
        by_label: draw from each label apart, for dialogues of one utterance.
    """
    random = np.random.default_rng(seed)
    train = corpus.table.filter(split="train")
    groups = [part["dialogue_id"] for _, part in train.group_by("emotion", maintain_order=True)]
    chosen: set[str] = set()
    for names in groups if by_label else [train["dialogue_id"].unique(maintain_order=True)]:
        count = max(1, round(share * len(names)))
        chosen |= set(random.choice(names.to_numpy(), count, replace=False).tolist())
    return kept(corpus, (pl.col("split") != "train") | pl.col("dialogue_id").is_in(list(chosen)), out)


def kept(corpus: Corpus, rows: pl.Expr, out: Path) -> Corpus:
    """A corpus of some rows of another."""
    table = corpus.table.with_row_index("_row").filter(rows)
    at = table["_row"].to_numpy()
    return write_corpus(
        out,
        table.drop("_row"),
        corpus.labels,
        {m: Features(f.values[at], f.present[at]) for m, f in corpus.features.items()},
        encoders=corpus.header.encoders,
        fingerprints=corpus.header.fingerprints,
        weights=corpus.folder / ENCODERS,
        provenance=corpus.header.provenance,
    )


class Bench:
    """Runs that are done once each; results are kept as JSON lines."""

    def __init__(self, out: Path) -> None:
        self.out, self.file = out, out / "runs.jsonl"
        out.mkdir(parents=True, exist_ok=True)
        lines = self.file.read_text("utf-8").splitlines() if self.file.exists() else []
        self.done: dict[str, dict[str, Any]] = {r["run"]: r for r in map(json.loads, lines)}

    def once(self, name: str, seed: int, corpus: Callable[[], Corpus], run: Run) -> None:
        """Do a run unless it is done."""
        key = f"{name}, seed {seed}"
        if key in self.done:
            return
        logging.getLogger("annotator").info("== %s", key)
        place = self.out / "checkpoints" / key.replace(" ", "_").replace(",", "").replace("%", "pc")
        found = {"run": key, "name": name, "seed": seed, **run(corpus(), place, seed)}
        with self.file.open("a", encoding="utf-8") as file:
            print(json.dumps(found), file=file)
        self.done[key] = found
        shutil.rmtree(place, ignore_errors=True)

    def table(self) -> dict[str, dict[str, Any]]:
        """Mean and standard deviation over the seeds of each run."""
        by: dict[str, list[dict[str, Any]]] = {}
        for found in self.done.values():
            by.setdefault(found["name"], []).append(found)
        result = {}
        for name, runs in by.items():
            values = {s: np.array([r[s] for r in runs]) for s in SCORES}
            result[name] = {
                "seeds": len(runs),
                **{
                    s: [float(v.mean()), float(v.std(ddof=1)) if len(v) > 1 else 0.0]
                    for s, v in values.items()
                },
                "start": runs[0].get("start"),
                "majority": runs[0].get("majority"),
            }
        return result


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.finetune", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the public corpora")
    parser.add_argument("--out", type=Path, default=Path("build/finetune"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--only", nargs="+", default=["fifty", "few", "ravdess", "full"],
        choices=["fifty", "few", "ravdess", "full"],
    )  # fmt: skip
    a = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    bench = Bench(a.out)
    try:
        for part in a.only:
            globals()[f"measure_{part}"](bench, a.data, a.seeds)
    except AnnotateError as error:
        print(f"benchmarks.finetune: {error}", file=sys.stderr)
        return error.exit_code
    table = bench.table()
    print(f"{'':<44} seeds  weighted F1      accuracy         recall           start  majority")
    for name, of in table.items():
        cells = [f"{100 * of[s][0]:5.1f} ± {100 * of[s][1]:4.1f}" for s in (SCORES[0], SCORES[1], SCORES[3])]
        beside = [f"{100 * of[k]:5.1f}" if of[k] is not None else "    –" for k in ("start", "majority")]
        print(f"{name:<44} {of['seeds']:>5}  {'   '.join(cells)}   {'  '.join(beside)}")
    print(json.dumps({"results": table, "cores": os.cpu_count()}))
    return 0


def ready(folder: Path, make: Callable[[], Corpus]) -> Corpus:
    """A corpus that is made once."""
    return load_corpus(folder) if (folder / "corpus.json").exists() else make()


def emorynlp(bench: Bench, data: Path, *, starter: bool) -> Corpus:
    """EmoryNLP with the starter's text encoder, or with the plain one that training from scratch takes."""
    folder = bench.out / ("emorynlp-starter" if starter else "emorynlp")
    source = data / "dialogues" / "emorynlp"
    return ready(folder, lambda: prepare("emorynlp", source, folder, model=STARTER if starter else None))


def measure_full(bench: Bench, data: Path, seeds: int) -> None:
    for seed in range(seeds):
        bench.once(
            "EmoryNLP, all, starter", seed,
            lambda: emorynlp(bench, data, starter=True), from_starter(EMORYNLP),
        )  # fmt: skip


def measure_few(bench: Bench, data: Path, seeds: int) -> None:
    for seed in range(seeds):
        for starter in (True, False):

            def part(starter: bool = starter, seed: int = seed) -> Corpus:
                whole = emorynlp(bench, data, starter=starter)
                return part_of(whole, FEW, seed, bench.out / "part", by_label=False)

            name = f"EmoryNLP, 5 %, {'starter' if starter else 'scratch'}"
            frozen = from_starter({"text": "frozen", "balance": 0.5})
            bench.once(name, seed, part, frozen if starter else from_scratch)


def measure_ravdess(bench: Bench, data: Path, seeds: int) -> None:
    scores = ("starter", bench.out / "ravdess", None)
    functionals = (FUNCTIONALS, bench.out / f"ravdess-{FUNCTIONALS}", {"audio": {"name": FUNCTIONALS}})
    for share, seed, (voice, folder, encoders) in product(SHARES, range(seeds), (scores, functionals)):
        tuned = from_starter(RAVDESS, renew=("audio",) if encoders else ())
        for kind, run in (("starter", tuned), ("scratch", from_scratch)):

            def part(
                share: float = share,
                seed: int = seed,
                folder: Path = folder,
                encoders: dict[str, Any] | None = encoders,
            ) -> Corpus:
                table = data / "speech" / "ravdess.csv"
                whole = ready(
                    folder,
                    lambda: prepare("table", table, folder, media=data / "speech", encoders=encoders),
                )
                return part_of(whole, share, seed, bench.out / "part", by_label=True)

            bench.once(f"RAVDESS, {voice}'s voice, {100 * share:g} %, {kind}", seed, part, run)


def measure_fifty(bench: Bench, data: Path, seeds: int) -> None:
    """Fifty utterances to learn from, fifty to choose by; the test split is MELD's own."""
    folder = bench.out / "meld"

    def whole() -> Corpus:
        source = data / "dialogues" / "meld"
        return ready(folder, lambda: prepare("meld", source, folder, model=STARTER))

    for seed in range(seeds):

        def part(seed: int = seed) -> Corpus:
            corpus = whole()
            names = corpus.table.filter(split="validation")["dialogue_id"].unique(maintain_order=True)
            order = np.random.default_rng(seed).permutation(names.to_numpy()).tolist()
            size = dict(corpus.table.group_by("dialogue_id").len().iter_rows())
            sums = np.cumsum([size[n] for n in order])
            first, second = (int(np.searchsorted(sums, n)) + 1 for n in (50, 100))
            split = {n: "train" for n in order[:first]} | {n: "validation" for n in order[first:second]}
            chosen = pl.col("dialogue_id").is_in(list(split)) | (pl.col("split") == "test")
            made = kept(corpus, chosen, bench.out / "part")
            table = made.table.with_columns(
                pl.col("dialogue_id").replace_strict(split, default="test").alias("split")
            )
            return write_corpus(
                bench.out / "part", table, made.labels,
                {m: Features(np.array(f.values), f.present) for m, f in made.features.items()},
                encoders=made.header.encoders, fingerprints=made.header.fingerprints, weights=STARTER,
            )  # fmt: skip

        bench.once("MELD, 50 utterances, starter", seed, part, from_starter({}))


if __name__ == "__main__":
    sys.exit(main())
