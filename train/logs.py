"""Where a training tells its figures, epoch by epoch: TensorBoard, Weights & Biases or MLflow.

The last two are not installed with this tool, which has run them against stand-ins only. Each is imported
when the first epoch is told.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from annotator.records import SetupError, UsageError


class TrainingLog(Protocol):
    """Takes the figures of a step (an epoch), by name."""

    def log(self, step: int, values: Mapping[str, float]) -> None: ...


class TensorBoard:
    """Args: place: the folder of the log."""

    def __init__(self, place: str, out: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(place)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()


class Wandb:
    """Args: place: the project. A training that goes on after a stop goes on in its run."""

    def __init__(self, place: str, out: Path) -> None:
        import wandb

        name = hashlib.sha256(str(out.resolve()).encode()).hexdigest()[:16]
        self._run = wandb.init(project=place, name=out.stem, id=name, resume="allow")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)


class MLflow:
    """Args: place: the experiment. A training that goes on after a stop begins another run."""

    def __init__(self, place: str, out: Path) -> None:
        import mlflow

        self._mlflow = mlflow
        mlflow.set_experiment(place)
        mlflow.start_run(run_name=out.stem)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._mlflow.log_metrics(dict(values), step=step)


LOGS: dict[str, Callable[[str, Path], TrainingLog]] = {
    "tensorboard": TensorBoard,
    "wandb": Wandb,
    "mlflow": MLflow,
}


def logged(given: Sequence[str], out: Path) -> Callable[[Any], None] | None:
    """What a training calls after each epoch, for logs named as ``KIND=PLACE``; None where none is named.

    Args:
        out: the checkpoint to be, by which the run is named.

    Raises:
        UsageError: an unknown kind, or no place.
        SetupError: the package is not installed.
    """
    makes: list[Callable[[], TrainingLog]] = []
    for one in given:
        kind, _, place = one.partition("=")
        if kind not in LOGS or not place:
            raise UsageError(f"--log {one!r}: write tensorboard=FOLDER, wandb=PROJECT or mlflow=EXPERIMENT.")
        if importlib.util.find_spec(kind) is None:
            raise SetupError(f"{kind} is not installed: `pip install {kind}`, or leave out --log {one}.")
        makes.append(lambda kind=kind, place=place: LOGS[kind](place, out))  # type: ignore[misc]
    logs: list[TrainingLog] = []

    def on_epoch(epoch: Any) -> None:
        if not logs:  # of several processes only the one that tells opens any
            logs.extend(make() for make in makes)
        figures = {k: float(v) for k, v in asdict(epoch).items() if isinstance(v, int | float)}
        step = int(figures.pop("number"))
        for log in logs:
            log.log(step, figures)

    return on_epoch if makes else None
