"""How a command starts: whose modules it takes, and what it does not load when there is nothing to do."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal

from annotator.device import resolve_device
from annotator.weights import STARTER

from .corpora import synthetic_corpus
from .media import subtitles, talk

SCRIPTS = Path(sys.executable).parent
ANNOTATE = [str(SCRIPTS / "annotate")]
HEAVY = (
    *("torch", "torch_geometric", "transformers", "torchvision", "torchaudio", "peft", "scipy", "cv2"),
    *("opensmile", "ctranslate2", "matplotlib", "pandas", "sklearn"),
)


def modules(folder: Path, *names: str) -> Path:
    """A folder with modules of these names that nobody should import."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / f"{name}.py").write_text(f"raise RuntimeError('imported {name}')\n")
    return folder


def started(
    command: list[str], folder: Path, *arguments: object, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command, *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=900,
        env=os.environ | {"HF_HUB_OFFLINE": "1"} | environment,
    )


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder with modules that are named as ours, and as one that every worker imports."""
    return modules(tmp_path_factory.mktemp("own"), "annotator", "model", "train", "socket")


@pytest.fixture(scope="module")
def done(own: Path) -> tuple[Path, list[str]]:
    """A run in that folder, and its arguments."""
    (own / "videos").mkdir()
    talk(own / "videos" / "one.wav", 3)
    subtitles(own / "videos" / "one.srt", [(0.5, 1.2, "Number one."), (1.5, 2.5, "So what?")])
    shutil.copytree(STARTER, own / "start.ckpt")
    arguments = ["run", "videos", "--out", "labels.parquet", "--modalities", "text", "--workers", "1"]
    arguments += ["--model", "start.ckpt"]
    ended = started(ANNOTATE, own, *arguments)
    assert ended.returncode == 0 and "already" not in ended.stderr, ended.stderr
    return own / "labels.parquet", arguments


def test_a_run_and_its_workers_take_no_modules_of_the_current_folder(done: tuple[Path, list[str]]) -> None:
    assert pl.read_parquet(done[0])["text"].to_list() == ["Number one. So what?"]


def test_a_run_with_nothing_to_do_loads_nothing_heavy_and_says_so(
    done: tuple[Path, list[str]], tmp_path: Path
) -> None:
    out, arguments = done
    before = pl.read_parquet(out)
    out.unlink()
    record = out.with_suffix(".run.json")
    record.unlink()
    heavy = modules(tmp_path / "heavy", *HEAVY)
    ended = started(ANNOTATE, out.parent, *arguments, PYTHONPATH=str(heavy))
    assert ended.returncode == 0, ended.stderr
    assert "the recording was done already" in ended.stderr
    assert_frame_equal(pl.read_parquet(out), before)
    told = json.loads(record.read_text())
    assert told["counts"]["inputs"] == 1 and told["counts"]["annotated_now"] == 0
    assert told["device"] == resolve_device("auto")


def test_weights_that_changed_are_seen_though_nobody_loads_them(
    done: tuple[Path, list[str]], tmp_path: Path
) -> None:
    out, arguments = done
    damaged = tmp_path / "damaged.ckpt"
    shutil.copytree(out.parent / "start.ckpt", damaged)
    content = bytearray((damaged / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (damaged / "model.safetensors").write_bytes(content)
    ended = started(ANNOTATE, out.parent, *arguments, "--model", damaged)
    assert ended.returncode == 1 and "already" not in ended.stderr
    assert "is not what was saved" in ended.stderr and "Traceback" not in ended.stderr


@pytest.mark.parametrize("arguments", [("train", "nothing", "--out", "x"), ("--version",)])
def test_python_m_takes_no_modules_of_the_current_folder(arguments: tuple[str, ...], tmp_path: Path) -> None:
    folder = modules(tmp_path / "own", "model", "train")
    ended = started([sys.executable, "-m", "annotator"], folder, *arguments)
    assert ended.returncode == (0 if arguments == ("--version",) else 2), ended.stderr
    assert "imported" not in ended.stderr and "Traceback" not in ended.stderr


def test_a_training_by_torchrun_takes_no_modules_of_the_current_folder(own: Path) -> None:
    synthetic_corpus(own / "corpus", dialogues=(4, 2, 2))
    command = [str(SCRIPTS / "torchrun"), "--nproc-per-node", "2", "--no-python", *ANNOTATE]
    ended = started(command, own, "train", "corpus", "--out", "own.ckpt", "--epochs", 1, "--device", "cpu")
    assert ended.returncode == 0, ended.stderr
    assert (own / "own.ckpt" / "model.safetensors").is_file()


@pytest.mark.parametrize("name", ["model", "train"])
def test_a_module_that_hides_ours_is_named(name: str, tmp_path: Path) -> None:
    folder = modules(tmp_path / "own", name)
    ended = started(ANNOTATE, tmp_path, "doctor", PYTHONPATH=str(folder))
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert str(folder / f"{name}.py") in ended.stderr


def test_where_there_is_a_driver_pytorch_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: None)
    for has in (True, False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda has=has: has)
        assert resolve_device("auto") == ("cuda" if has else "cpu")
