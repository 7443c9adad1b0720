"""Figures of each epoch go to the logs that were asked for; stand-ins record what the services would get."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from annotator import cli
from annotator.records import SetupError, UsageError
from train.logs import logged

from .corpora import synthetic_corpus


@dataclass(frozen=True)
class Told:
    """An epoch as a loop tells it."""

    number: int
    stage: str = "head"
    weighted_f1: float = 0.5
    loss: float | None = None


def stand_in(name: str, monkeypatch: pytest.MonkeyPatch, **functions: Any) -> None:
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    for function, does in functions.items():
        setattr(module, function, does)
    monkeypatch.setitem(sys.modules, name, module)


def test_each_log_gets_figures_and_no_gaps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []

    class Run:
        def log(self, values: dict[str, float], step: int) -> None:
            calls.append(("wandb", values, step))

    def init(**options: Any) -> Run:
        calls.append(("init", options))
        return Run()

    stand_in("wandb", monkeypatch, init=init)
    stand_in(
        "mlflow",
        monkeypatch,
        set_experiment=lambda name: calls.append(("experiment", name)),
        start_run=lambda run_name: calls.append(("run", run_name)),
        log_metrics=lambda values, step: calls.append(("mlflow", values, step)),
    )
    tell = logged(["wandb=moods", "mlflow=calls=1"], tmp_path / "my.ckpt")
    assert tell is not None and calls == []  # nothing is opened before there is something to tell
    tell(Told(1))
    tell(Told(2, loss=0.25))
    init_call, *others = calls
    assert (
        init_call[1]["project"] == "moods"
        and init_call[1]["name"] == "my"
        and init_call[1]["resume"] == "allow"
    )
    assert others == [
        ("experiment", "calls=1"),
        ("run", "my"),
        ("wandb", {"weighted_f1": 0.5}, 1),
        ("mlflow", {"weighted_f1": 0.5}, 1),
        ("wandb", {"weighted_f1": 0.5, "loss": 0.25}, 2),
        ("mlflow", {"weighted_f1": 0.5, "loss": 0.25}, 2),
    ]
    again = logged(["wandb=moods"], tmp_path / "my.ckpt")
    assert again is not None
    again(Told(3))
    assert calls[-2][1]["id"] == init_call[1]["id"], "a training that goes on is the same run"


def test_what_can_not_be_logged_to_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert logged([], tmp_path) is None
    for wrong in ("wandb", "tensorboard=", "neptune=x", "=x"):
        with pytest.raises(UsageError, match="write tensorboard=FOLDER"):
            logged([wrong], tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SetupError, match="`pip install wandb`"):
        logged(["wandb=moods"], tmp_path)


def test_a_training_writes_for_tensorboard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    synthetic_corpus(tmp_path / "corpus", (4, 2, 2))
    command = [
        "annotate",
        "train",
        str(tmp_path / "corpus"),
        "--out",
        str(tmp_path / "m.ckpt"),
        "--epochs",
        "1",
    ]
    command += ["--device", "cpu", "--quiet", "--log"]
    monkeypatch.setattr(sys, "argv", [*command, "tensorboard"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2 and "tensorboard=FOLDER" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", [*command, f"tensorboard={tmp_path / 'log'}"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    [events] = (tmp_path / "log").iterdir()
    assert b"weighted_f1" in events.read_bytes()
