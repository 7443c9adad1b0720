"""``python -m train.ablation CORPUS --out DIR``: the paper's claims and this project's own, as tables."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from annotator.records import AnnotateError
from train.ablation import ablate
from train.ablation.experiments import TITLES


def main(given: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m train.ablation",
        description="Train variants of the network on a corpus, several seeds each, and compare them. "
        "The same command goes on after a stop.",
    )
    parser.add_argument("corpus", type=Path, metavar="CORPUS", help="a folder that annotate prepare wrote")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for runs, tables and curves")
    parser.add_argument("--seeds", type=int, default=5, help="trainings of each experiment (default: 5)")
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="NAME",
        help=f"experiments or tables ({', '.join(TITLES)}); their references come along",
    )
    parser.add_argument("--epochs", type=int, help="of every training, instead of the preset's")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: cpu)")
    parser.add_argument("--quick", action="store_true", help="one seed, two epochs, few experiments")
    arguments = parser.parse_args(given)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    try:
        ablate(
            arguments.corpus,
            arguments.out,
            seeds=arguments.seeds,
            only=arguments.only,
            quick=arguments.quick,
            epochs=arguments.epochs,
            device=arguments.device,
        )
    except AnnotateError as error:
        print(f"train.ablation: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("train.ablation: stopped; the same command goes on.", file=sys.stderr)
        return 130
    print(arguments.out / "ablation.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
