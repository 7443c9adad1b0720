"""Walls of the code itself: only the sandboxed child opens recordings, and nothing runs what a file names."""

from __future__ import annotations

import ast
import ctypes
import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from annotator import media, transcribe
from annotator.pipeline.batch import choose_backends
from annotator.pipeline.stages import Task, WorkerSetup, make_worker
from annotator.predict import Predictor
from annotator.records import Audio, Turn
from annotator.settings import RunSettings
from annotator.weights import STARTER

from .media import run_ffmpeg, talk
from .tiny_models import make_whisper

ROOT = Path(__file__).resolve().parents[1]

# Libraries and functions that open media by themselves, playlists included.
OPENERS = {
    "av",
    "torchcodec",
    "decord",
    "moviepy",
    "imageio",
    "audioread",
    "pydub",
    "soundfile",
    "torchvision.io",
}
CALLS = {
    "cv2": {"VideoCapture", "imread", "imreadmulti"},
    "torchaudio": {"load", "info"},
    "librosa": {"load", "stream"},
    "Image": {"open"},
    "wave": {"open"},
    "smile": {"process_file", "process_files", "process_folder"},
    "opensmile": {"process_file"},
    # What may run code that a file names.
    "pickle": {"load", "loads"},
    "yaml": {"load", "unsafe_load", "full_load"},
    "joblib": {"load"},
    "dill": {"load", "loads"},
    "os": {"system", "popen"},
}
# Corpora fetched by hand to train the bundle: no file of a user is ever read here.
ALLOWED = {("train/starter/voice/clips.py", "soundfile"), ("train/starter/faces.py", "Image.open")}

IN_OPEN, IN_CLOSE_NOWRITE = 0x20, 0x10


def sources() -> Iterator[tuple[str, ast.Module]]:
    for package in ("annotator", "model", "train"):
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text("utf-8"))


def test_no_library_is_asked_to_open_media_or_to_run_what_a_file_names() -> None:
    found = []
    for name, tree in sources():
        for node in ast.walk(tree):
            modules: list[str] = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                modules = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            found += [
                (name, opener)
                for module in modules
                for opener in OPENERS
                if module == opener or module.startswith(opener + ".")
            ]
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                if node.attr in CALLS.get(node.value.id, ()):
                    found.append((name, f"{node.value.id}.{node.attr}"))
            if (
                isinstance(node, ast.keyword)
                and isinstance(node.value, ast.Constant)
                and node.value.value is True
            ):
                if node.arg in ("trust_remote_code", "allow_pickle", "shell"):
                    found.append((name, node.arg))
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                safe = [
                    k for k in node.keywords if k.arg == "weights_only" and ast.unparse(k.value) == "True"
                ]
                found += [] if safe else [(name, "torch.load")]
    assert set(found) == ALLOWED, set(found) ^ ALLOWED


class Opens:
    """Counts how often a file is opened, by any process and any library, as the kernel sees it (inotify)."""

    def __init__(self, path: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._handle = self._libc.inotify_init1(os.O_NONBLOCK)
        # Closings as well: the kernel joins events that repeat the one before.
        assert self._libc.inotify_add_watch(self._handle, os.fsencode(path), IN_OPEN | IN_CLOSE_NOWRITE) >= 0

    def count(self) -> int:
        """Since it was last asked."""
        found = 0
        while True:
            try:
                events = os.read(self._handle, 1 << 16)
            except BlockingIOError:
                return found
            while events:
                _, kind, _, length = struct.unpack_from("iIII", events)
                events = events[16 + length :]
                found += bool(kind & IN_OPEN)

    def close(self) -> None:
        os.close(self._handle)


@pytest.fixture
def film(tmp_path: Path, ffmpeg: str) -> Path:
    """Moving pictures with speech."""
    path = tmp_path / "film.mp4"
    picture = ("-f", "lavfi", "-i", "testsrc2=s=160x120:r=8:d=4")
    run_ffmpeg(ffmpeg, *picture, "-i", str(talk(tmp_path / "talk.wav", 4)), "-c:a", "aac", str(path))
    return path


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has inotify")
def test_only_the_decoder_opens_a_recording(film: Path, tmp_path: Path) -> None:
    """All stages together open it as often as decoding alone does."""
    recording, opens = media.probe(film), Opens(film)
    (tmp_path / "scratch").mkdir()
    sound = tmp_path / "sound.pcm"
    decoded = media.decode(recording, sound, lambda time_s, frame: None)
    by_decoding = opens.count()
    assert by_decoding >= 2  # a description, then the pass

    settings = RunSettings(offline=True, transcriber="none")
    setup = WorkerSetup(
        settings=settings,
        backends=choose_backends(settings, "cpu"),
        encoders=Predictor(STARTER).encoders,
        model_folder=STARTER,
        scratch=tmp_path / "scratch",
        threads=1,
    )
    prepare = make_worker(setup)
    task = Task(recording, "key", tmp_path / "prepared.safetensors", media.stamps(recording.path))
    prepare(task, Mock())
    assert (tmp_path / "prepared.safetensors").exists()
    assert opens.count() == by_decoding

    whisper = transcribe.make_transcriber(
        "whisper",
        transcribe.TranscriberSettings(
            media.extract_subtitles,
            device="cpu",
            whisper_folder=make_whisper(tmp_path / "whisper"),
        ),
    )
    assert isinstance(decoded.audio, Audio) and isinstance(decoded.audio.samples, np.ndarray)
    assert whisper(recording, decoded.audio, [Turn(0.5, 3.5, "A")]).words
    assert opens.count() == 0
    opens.close()
