"""Two processes train as one, whatever the labels lack; what goes wrong in one ends both with a sentence."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from model import load_checkpoint
from tests.corpora import LABELS, synthetic_features, synthetic_rows
from train.corpus import write_corpus
from train.finetune import FinetuneSettings
from train.loop import train_corpus
from train.settings import TrainSettings

ROOT = Path(__file__).resolve().parents[1]
MODALITIES = ("audio", "face")
CONFIG = {
    "co_width": 8, "co_heads": 2, "co_ffn": 8, "recurrent_width": 6, "graph_width": 6, "graph_drop": "none",
    "class_balance": 0.9, "alpha": 0.5,
    **dict.fromkeys(("dropout", "co_dropout", "feature_dropout", "modality_dropout"), 0.0),
}  # fmt: skip
# One step an epoch: whoever finds a loss that isn't finite must say so; the weights haven't told the others.
TRAIN = TrainSettings(epochs=2, batch_size=20, lr=1e-3)
TUNE = FinetuneSettings(epochs=1, batch_size=10, accumulate=2, text="frozen")

SCRIPT = """
import os, sys
from pathlib import Path
import torch
from annotator.records import UsageError
from tests.test_distributed import CONFIG, TRAIN, TUNE
from train import loop
from train.finetune import finetune, loop as tuning

torch.set_num_threads(1)
corpus, start, folder = (Path(p) for p in sys.argv[1:4])
ports = iter(sys.argv[4:])

def train(name):
    os.environ["MASTER_PORT"] = next(ports)
    loop.train_corpus(corpus, folder / name, settings=TRAIN, config=CONFIG, progress=False)

def tune(name):
    os.environ["MASTER_PORT"] = next(ports)
    finetune(corpus, start, folder / name, TUNE, progress=False)

train("two")
if os.environ["RANK"] == "1":
    whole = loop.compute_loss
    def broken(*args, **kwargs):
        found = whole(*args, **kwargs)
        found.total = found.total * float("nan")
        return found
    loop.compute_loss = tuning.compute_loss = broken
for call in (train, tune):
    try:
        call("broken")
    except UsageError as error:
        print(error, flush=True)
"""


def free_ports(count: int) -> list[str]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [str(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


def test_two_processes_train_as_one_and_stop_as_one(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    rows = synthetic_rows((20, 4, 4))
    unknown = np.random.default_rng(0).random(rows.height) < 0.5
    rows = rows.with_columns(sentiment=pl.when(pl.Series(unknown)).then(None).otherwise(pl.col("sentiment")))
    features = synthetic_features(rows, MODALITIES)
    encoders = {m: {"name": f"planted-{m}"} for m in MODALITIES}
    write_corpus(tmp_path / "corpus", rows, LABELS, features, encoders=encoders)
    corpus, start = tmp_path / "corpus", tmp_path / "one"
    train_corpus(corpus, start, settings=TRAIN, config=CONFIG, progress=False)

    script = tmp_path / "run.py"
    script.write_text(SCRIPT)
    common = {
        **os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
    }  # fmt: skip
    command = [sys.executable, str(script), str(corpus), str(start), str(tmp_path), *free_ports(3)]
    started = [
        subprocess.Popen(
            command, env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)}, cwd=tmp_path,
            stdout=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        said = [process.communicate(timeout=600)[0].splitlines() for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert [process.returncode for process in started] == [0, 0]
    one, two = (load_checkpoint(tmp_path / name).network.state_dict() for name in ("one", "two"))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, atol=1e-4, rtol=1e-3, msg=name)
    for training, tuning in said:
        assert training.startswith("The loss is no longer finite in epoch 1: train with a lower rate")
        assert tuning.startswith("The loss is no longer finite in epoch 1: use a lower rate")
    assert not (tmp_path / "broken").exists()


@pytest.mark.parametrize("values", [[1.0, 2.0], [float("nan")]])
def test_alone_nothing_is_joined(values: list[float]) -> None:
    from train.distributed import Group

    np.testing.assert_equal(Group().summed(values), values)
