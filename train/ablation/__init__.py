"""The claims of arXiv 2501.15063, and what was tried beyond it, as one command.

    annotate ablation CORPUS --out DIR [--seeds 5] [--quick] [--only NAMES]

    DIR/
      ablation.md, ablation.csv   mean and deviation over seeds on the test split, epoch chosen on validation
      alpha.png, window.png       the sweeps as curves
      runs/NAME-SEED/             each training: its checkpoint and result.json

A run that has its result is never done again, so the same command goes on after a stop. Seeds are the
outer loop: after the first, every table is there with one run, and each later seed sharpens it. One command
at a time in a DIR.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from annotator.records import SetupError, UsageError
from train.ablation.experiments import choose, experiments, void
from train.ablation.report import Row, write_report
from train.ablation.runs import Plan, Result, Splits, finished, plan, run
from train.corpus import load_corpus
from train.settings import Epoch

log = logging.getLogger("annotator")

QUICK_EPOCHS = 2


def ablate(
    corpus_folder: Path,
    out: Path,
    *,
    seeds: int = 5,
    only: Collection[str] | None = None,
    quick: bool = False,
    epochs: int | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> list[Row]:
    """Run the experiments that aren't done yet and write the report to the folder ``out``.

    Args:
        seeds: 0 up to this, each a training of every experiment.
        only: names of experiments or tables; all when None. The report also shows what earlier calls did.
        quick: a check of the code: one seed, two epochs, few experiments.
        epochs: of every training, instead of the preset's.

    Raises:
        UsageError: the corpus is faulty, a name is unknown, ``out`` holds other runs, or every training
            failed; where only some do, the report says which and why.
        SetupError: ``out`` can't be written.
    """
    if seeds < 1 or (epochs is not None and epochs < 1):
        raise UsageError(f"At least one seed and one epoch are needed; got {seeds} and {epochs}.")
    _check_device(device)
    splits = Splits.of(load_corpus(corpus_folder))
    if quick:
        seeds, epochs = 1, QUICK_EPOCHS
    available = list(experiments(splits.corpus))
    selected = choose(available, only, quick)
    skipped = [reason for e in selected if (reason := void(e, splits.corpus))]
    plans = [plan(e, splits.corpus, device, epochs) for e in available if not void(e, splits.corpus)]
    same = _first_alike(plans)
    runs = Path(out) / "runs"

    results: dict[str, dict[int, Result]] = {p.experiment.name: {} for p in plans}
    for seed in range(seeds):
        for planned in plans:
            name = planned.experiment.name
            if same[name] == name:
                result = finished(runs / f"{name}-{seed}", planned, splits, seed)
                if result is not None:
                    results[name][seed] = result
    wanted = {same[e.name] for e in selected if e.name in same}
    due = [
        [p for p in plans if p.experiment.name in wanted and seed not in results[p.experiment.name]]
        for seed in range(seeds)
    ]
    rows: list[Row] = []
    failed: list[UsageError] = []
    try:
        Path(out).mkdir(parents=True, exist_ok=True)
        with tqdm(total=sum(map(len, due)), unit="run", disable=None if progress else True) as bar:
            for seed in range(seeds):
                for planned in due[seed]:
                    name = planned.experiment.name

                    def show(epoch: Epoch, of: str = f"{name}-{seed}") -> None:
                        bar.set_postfix_str(f"{of} epoch {epoch.number} f1 {100 * epoch.weighted_f1:.1f} %")

                    try:
                        results[name][seed] = run(runs / f"{name}-{seed}", planned, splits, seed, show)
                    except UsageError as error:
                        # One that diverges must not cost the hours of the others.
                        log.warning("%s, seed %d: %s", name, seed, error)
                        failed.append(error)
                        skipped.append(f"{name}, seed {seed}: {error}")
                    bar.update()
                if due[seed] or seed == seeds - 1:
                    rows = _rows(plans, same, results)
                    if not rows and failed:
                        raise failed[0]
                    write_report(out, splits, rows, skipped)
    except OSError as error:
        raise SetupError(
            f"{out} can't be written: {error.strerror or error}. Free some space or choose another place; "
            "the same command goes on from what is finished."
        ) from error
    return rows


def _check_device(device: str) -> None:
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise UsageError(f"{device!r} is no device; use cpu, cuda or cuda:N.") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"{device} can't be used: torch sees no GPU here. Use --device cpu.")


def _first_alike(plans: Sequence[Plan]) -> dict[str, str]:
    """For each experiment the first that has the same network and settings: a run serves them all."""
    first: dict[str, str] = {}
    return {p.experiment.name: first.setdefault(p.fingerprint("", 0), p.experiment.name) for p in plans}


def _rows(plans: Sequence[Plan], same: dict[str, str], results: dict[str, dict[int, Result]]) -> list[Row]:
    """Rows of the experiments that have a result, in order.

    One that another was trained for is shown as a point of its sweep, where that has others.
    """
    rows = []
    swept = {p.experiment.table for p in plans if results[p.experiment.name]} - {"beyond"}
    for planned in plans:
        name = planned.experiment.name
        by_seed = results[same[name]]
        if by_seed and (same[name] == name or planned.experiment.table in swept):
            rows.append(Row(planned, same[name], [by_seed[seed] for seed in sorted(by_seed)]))
    return rows
