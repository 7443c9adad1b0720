"""A checkpoint in a model hub's repository is named alike everywhere, and fetched in one place."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import polars as pl
import pytest

from annotator import RunSettings, cli, hub, run
from annotator.records import SetupError, UsageError
from annotator.settings import load_settings
from annotator.weights import STARTER, checkpoint_folder
from tests.corpora import synthetic_corpus
from train.evaluate import evaluate
from train.finetune import finetune
from train.prepare import prepare

NAME = "hf:me/mine@v1"


def test_a_repository_is_fetched_without_code_or_pickles(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def snapshot(repository: str, **options: Any) -> str:
        asked.append((repository, options["revision"], options["allow_patterns"]))
        return str(STARTER)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert checkpoint_folder(NAME) == STARTER
    assert asked == [("me/mine", "v1", ["model.json", "*.safetensors", "README.md"])]
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: "/nowhere")
    with pytest.raises(UsageError, match="no checkpoint at 'hf:me/mine@v1'"):
        checkpoint_folder(NAME)


def test_every_command_and_function_takes_a_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fetched(name: str) -> Path:
        raise SetupError(f"asked for {name}")

    monkeypatch.setattr(hub, "fetched", fetched)
    corpus = synthetic_corpus(tmp_path / "corpus", (4, 2, 2)).folder
    (tmp_path / "talk.wav").write_bytes(b"RIFF")
    (tmp_path / "run.toml").write_text(f'model = "{NAME}"\n')
    rows = [
        {"scene": split, "who": "A", "label": label, "text": "Yes!", "split": split}
        for split in ("train", "dev", "test")
        for label in ("joy", "anger")
    ]
    pl.DataFrame(rows).write_csv(tmp_path / "labels.csv")
    talk, table, out = tmp_path / "talk.wav", tmp_path / "labels.csv", tmp_path / "out"
    config = load_settings(tmp_path / "run.toml", {})
    functions: list[Callable[[], Any]] = [
        lambda: run([talk], tmp_path / "l.csv", RunSettings(model=NAME), progress=False),
        lambda: run([talk], tmp_path / "l.csv", config, progress=False),
        lambda: prepare("table", table, out, model=NAME, shared_speakers=True),
        lambda: finetune(corpus, NAME, out, progress=False),
        lambda: evaluate(corpus, NAME, "test", out),
    ]
    for call in functions:
        with pytest.raises(SetupError, match=f"asked for {NAME}"):
            call()
    commands: list[list[Any]] = [
        ["run", talk, "--out", tmp_path / "l.csv", "--model", NAME],
        ["run", talk, "--out", tmp_path / "l.csv", "--config", tmp_path / "run.toml"],
        ["prepare", "table", table, "--out", out, "--shared-speakers", "--model", NAME],
        ["finetune", corpus, "--out", out, "--from", NAME],
        ["evaluate", corpus, "--out", out, "--model", NAME],
    ]
    for command in commands:
        monkeypatch.setattr(sys, "argv", ["annotate", *map(str, command)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 1 and f"asked for {NAME}" in capsys.readouterr().err, command
    assert not out.exists()
