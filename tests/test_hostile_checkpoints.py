"""Checkpoints from strangers: a fault of one is a sentence before any recording is worked on, and no hang."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from annotator import encode, weights
from annotator.pipeline import run
from annotator.records import AnnotateError, UsageError
from annotator.settings import RunSettings
from annotator.weights import STARTER
from model import CheckpointError, load_checkpoint, save_checkpoint
from train.share import write_repository

from .media import talk


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the bundle, to be made hostile."""
    return Path(shutil.copytree(STARTER, tmp_path / "checkpoint"))


def written(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Another model.json."""

    def do(folder: Path) -> None:
        header = json.loads((folder / "model.json").read_text("utf-8"))
        change(header)
        (folder / "model.json").write_text(json.dumps(header), "utf-8")

    return do


def saved(change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """Another checkpoint, with a fingerprint of its own as whoever makes one may write."""

    def do(folder: Path) -> None:
        checkpoint = load_checkpoint(folder)
        change(checkpoint)
        save_checkpoint(folder, checkpoint)

    return do


def stored(name: str, change: Callable[[dict[str, Any], dict[str, torch.Tensor]], Any]) -> Any:
    """Another file of an encoder: its ``config`` and its tensors."""

    def do(folder: Path) -> None:
        from safetensors import safe_open

        with safe_open(folder / name, "pt") as file:
            config = json.loads(file.metadata()["config"])
        tensors = load_file(folder / name)
        change(config, tensors)
        save_file(tensors, folder / name, metadata={"config": json.dumps(config)})

    return do


def text(name: str, content: str) -> Callable[[Path], None]:
    def do(folder: Path) -> None:
        (folder / name).write_text(content)

    return do


def pipe(name: str) -> Callable[[Path], None]:
    def do(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return do


def device(name: str) -> Callable[[Path], None]:
    def do(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to("/dev/zero")

    return do


def stray_pipe(folder: Path) -> None:
    """Beside what the checkpoint names."""
    os.mkfifo(folder / "more.safetensors")
    os.mkfifo(folder / "more.json")


HEADER = '{"format": 1, "labels": %s}'
FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "deep JSON": (text("model.json", "[" * 200_000), "can't be read as JSON"),
    "a number of 5,000 digits": (text("model.json", HEADER % ("9" * 5000)), "can't be read as JSON"),
    "NaN": (text("model.json", HEADER % "NaN"), "can't be read as JSON"),
    "a pipe": (pipe("model.json"), "model.json"),
    "weights that are a pipe": (pipe("model.safetensors"), "model.safetensors"),
    "weights that never end": (device("model.safetensors"), "model.safetensors"),
    "an encoder that is a pipe": (pipe("voice.safetensors"), "lacks its file"),
    "an encoder that never ends": (device("faces.safetensors"), "lacks its file"),
    "a network beyond all memory": (
        written(lambda h: h["config"].update(graph_width=100_000, co_ffn=100_000)),
        "has shape",
    ),
    "a width of ten digits": (written(lambda h: h["config"].update(co_width=4 * 10**9)), "less than"),
    "layers without end": (written(lambda h: h["config"].update(co_layers=10**9)), "less than"),
    "a window without end": (written(lambda h: h["config"].update(window_past=10**9)), "less than"),
    "an integer that no float holds": (written(lambda h: h["config"].update(alpha=10**400)), "valid number"),
    "a temperature of nothing": (
        written(lambda h: h["calibration"]["text"]["fine"].update(temperature=1e-30)),
        "temperature: input should be greater",
    ),
    "a bias that no float holds": (
        written(lambda h: h["calibration"]["text"]["fine"].update(bias=[10**400] * 7)),
        "bias.0: input should be a valid number",
    ),
    "no prior": (written(lambda h: h["prior"].pop("coarse")), "'prior.coarse' is missing"),
    "a prior of too much": (written(lambda h: h["prior"].update(coarse=[1, 1, 1])), "of 1 in all"),
    "an escape sequence in a label": (
        written(lambda h: h["labels"].__setitem__(0, "\x1b]0;own\x07")),
        "control characters",
    ),
    "a label that a CSV table would part": (
        written(lambda h: h["labels"].__setitem__(0, "joy;anger")),
        "control characters and ';'",
    ),
    "half a character in a label": (
        written(lambda h: h["labels"].__setitem__(0, "\ud800")),
        "control characters",
    ),
    "a line break in the name": (written(lambda h: h.update(name="a\nb")), "text of one line"),
    "a label renamed": (written(lambda h: h["labels"].reverse()), "fingerprint differs"),
    "weights beyond all measure": (
        lambda folder: _scaled(folder / "model.safetensors", 1e30),
        "beyond all measure",
    ),
    "weights of another training": (lambda folder: _scaled(folder / "model.safetensors", 2.0), "fingerprint"),
    "an encoder elsewhere": (
        saved(lambda c: c.encoders["audio"].update(weights="../voice.safetensors")),
        "not the name of a .safetensors file",
    ),
    "an encoder of a hub": (
        saved(lambda c: c.encoders.update(text={"name": "hf", "path": "some/where"})),
        "no text encoder at",
    ),
    "an encoder of other keys": (
        saved(lambda c: c.encoders["text"].update(trust_remote_code=True)),
        "does not know",
    ),
    "an encoder of another width": (
        saved(lambda c: c.encoders["audio"].pop("weights")),
        "gives 2048 numbers, and the network takes 8",
    ),
    "no encoder": (saved(lambda c: c.encoders.pop("audio")), "does not say what encodes audio"),
    "an adapter that is a pattern": (
        stored("text.safetensors", lambda c, t: c.update(target_modules="(a+)+$")),
        "no list",
    ),
    "an adapter of patterns": (
        stored("text.safetensors", lambda c, t: c.update(target_modules=["(a+)+$"])),
        "no plain names",
    ),
    "an adapter with keys of its own": (
        stored("text.safetensors", lambda c, t: c.update(auto_mapping={"base_model_class": "X"})),
        "unexpected keyword",
    ),
    "an adapter of a rank of ten digits": (
        stored("text.safetensors", lambda c, t: c.update(r=4 * 10**9)),
        "its rank is not",
    ),
    "an adapter that is not finite": (
        stored("text.safetensors", lambda c, t: next(iter(t.values())).fill_(float("nan"))),
        "not all finite",
    ),
    "a face network of many layers": (
        stored("faces.safetensors", lambda c, t: c.update(blocks=[10**9])),
        "from 1 to 1024",
    ),
    "a face network of other shapes": (
        stored("faces.safetensors", lambda c, t: c.update(growth=1000)),
        "other names or shapes",
    ),
    "a face network that is not finite": (
        stored("faces.safetensors", lambda c, t: t["densenet.classifier.bias"].fill_(float("inf"))),
        "not all finite",
    ),
    "voice scores that doubt without end": (
        stored("voice.safetensors", lambda c, t: t["doubt"].fill_(1e30)),
        "doubt is not",
    ),
}


def _scaled(file: Path, factor: float) -> None:
    from safetensors import safe_open

    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    tensors = {name: tensor.float() for name, tensor in load_file(file).items()}
    tensors["fine.weight"] *= factor
    save_file(tensors, file, metadata=metadata)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_before_any_recording_is_worked_on(fault: str, folder: Path, tmp_path: Path) -> None:
    change, words = FAULTS[fault]
    change(folder)
    recording = talk(tmp_path / "x.wav", 0.2)
    settings = RunSettings(model=str(folder), offline=True, transcriber="none", diarizer="embedded")
    began = time.process_time()
    with pytest.raises(AnnotateError, match=words) as caught:
        run([recording], tmp_path / "out" / "labels.parquet", settings, progress=False)
    assert time.process_time() - began < 30
    assert str(caught.value).isprintable() or "\n" in str(caught.value)
    assert not (tmp_path / "out").exists(), "the run had begun"


def test_a_pipe_that_nothing_names_is_passed_over(folder: Path) -> None:
    whole = weights.folder_hash(folder)
    stray_pipe(folder)
    assert weights.folder_hash(folder) == whole
    assert "more.safetensors" not in [file.name for file in weights.files_of(folder, ".safetensors")]


def test_the_attention_of_a_text_encoder_is_ours_to_choose(folder: Path) -> None:
    encoder = encode.make_encoder("text", {"name": "minilm", "adapter": "text.safetensors"}, folder, "cpu")
    assert encoder.module.config._attn_implementation == "sdpa"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "name", ["CARD.md", "model.json", "model.safetensors", "faces.safetensors", "evaluation/metrics.json"]
)
def test_share_takes_no_link(name: str, folder: Path, tmp_path: Path) -> None:
    """What it would copy is somebody's own file, and it would be put before everybody."""
    secret = tmp_path / "secret"
    file = folder / name
    file.parent.mkdir(exist_ok=True)
    if file.exists():
        shutil.copyfile(file, secret)
        file.unlink()
    else:
        secret.write_text("private")
    file.symlink_to(secret)
    with pytest.raises(UsageError):
        write_repository(folder, tmp_path / "repository")
    assert not (tmp_path / "repository").exists()


def test_share_takes_only_what_belongs_to_a_checkpoint(folder: Path, tmp_path: Path) -> None:
    (folder / "evaluation").mkdir()
    for name in (
        "evaluation/metrics.json",
        "evaluation/.env",
        "evaluation/notes.doc",
        "id_rsa",
        "x.safetensors",
    ):
        (folder / name).write_text("private")
    write_repository(folder, tmp_path / "repository")
    found = sorted(
        p.relative_to(tmp_path / "repository").as_posix()
        for p in (tmp_path / "repository").rglob("*")
        if p.is_file()
    )
    assert found == [
        "README.md",
        "evaluation/metrics.json",
        "faces.safetensors",
        "languages.safetensors",
        "model.json",
        "model.safetensors",
        "text.safetensors",
        "voice.safetensors",
    ]


def test_a_checkpoint_that_names_files_elsewhere_is_not_shared(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.safetensors").write_text("private")
    saved(lambda c: c.encoders["audio"].update(weights="../secret.safetensors"))(folder)
    with pytest.raises(UsageError, match="not the name"):
        write_repository(folder, tmp_path / "repository")


def test_a_checkpoint_in_a_hubs_cache_loads(folder: Path, tmp_path: Path) -> None:
    """There all files are links to one folder."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "abc"
    folder.rename(blobs)
    snapshot.mkdir(parents=True)
    for file in blobs.iterdir():
        (snapshot / file.name).symlink_to(file)
    assert load_checkpoint(snapshot).name == "starter"
    for name, spec in load_checkpoint(snapshot).encoders.items():
        assert encode.check_encoder(name, spec, snapshot) > 0


def test_a_checkpoint_is_still_refused_as_one_kind_of_error(folder: Path) -> None:
    text("model.json", "{}")(folder)
    with pytest.raises(CheckpointError):
        load_checkpoint(folder)
