"""The check of a machine with a GPU, in small on a CPU: that it runs, not what a GPU gives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_the_script_checks_every_network_on_a_cpu() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--small"],
        capture_output=True,
        text=True,
        timeout=1200,
        cwd=ROOT,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    told = json.loads(ended.stdout.splitlines()[-1])
    assert told["device"] == "cpu" and told["short"] == []
    figures = told["figures"]
    assert len(figures["differences"]) == 8
    assert all(difference < 1e-5 for difference in figures["differences"].values()), "the CPU is like itself"
    assert all(speed > 0 for speed in figures["graph_network"].values())
    assert figures["recognition"] and figures["whole_run"]["device_idle"] is None
    assert figures["whole_run"]["profile"]["sound_seconds"] > 10


def test_without_a_gpu_it_says_so() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "--device", "cuda"], capture_output=True, text=True, cwd=ROOT
    )
    assert ended.returncode == 1 and "no CUDA device" in ended.stderr
