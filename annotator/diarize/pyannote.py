"""pyannote.audio's community-1 pipeline (Bredin et al.), when its weights are at hand.

The weights are PyTorch checkpoints, that is pickles. They are read with PyTorch's restricted loader,
which admits tensors and the few plain types listed here and runs no code; a file that needs more is
refused. The library's telemetry is off. Everything is read from a local folder: no hub is asked.

A long recording is heard in blocks that overlap, so that memory does not depend on its length, and the
speakers of the blocks are linked (linking.py).
"""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from annotator.records import RATE_HZ, Audio, SetupError, Turn
from annotator.threads import one_thread

from . import Diarized, DiarizerSettings
from .linking import Heard, link
from .weights import (
    PYANNOTE_MODEL,
    missing_pyannote_weights,
    pyannote_folder,
)

PIPELINES = (
    "pyannote.audio.pipelines.SpeakerDiarization",
    "pyannote.audio.pipelines.speaker_diarization.SpeakerDiarization",
)
BATCH = 32  # windows at once through each network
BLOCK_S, SHARED_S = 900.0, 60.0  # seconds of sound at once, and in common of one block and the next


class Pyannote:
    """Finds turns with pyannote.audio 4; they overlap where voices do.

    Raises: SetupError without the library or weights, or with weights that can't be read.
    """

    def __init__(self, settings: DiarizerSettings) -> None:
        folder = pyannote_folder(settings.pyannote_folder)
        if folder is None:
            raise SetupError(str(missing_pyannote_weights(settings.pyannote_folder)))
        self.settings = settings
        self.pipeline = load_pipeline(folder, settings.device)
        self.device = settings.device

    def __call__(self, audio: Audio) -> Diarized:
        """Turns as they overlap, and the same with one speaker at a time."""
        blocks = [
            heard
            for start, end in blocks_of(audio.duration_s)
            if (heard := self.hear(audio, start, end)).turns
        ]
        if not blocks:
            return Diarized([], [])
        return Diarized(*in_order(*link(blocks, *self.settings.bounds)))

    def hear(self, audio: Audio, start: float, end: float) -> Heard:
        """What the pipeline finds from ``start`` to ``end`` seconds."""
        import torch

        sound = audio.window(start, end)
        if not sound.any():
            return Heard(start, end, (), (), {})
        least, most = self.settings.bounds
        whole = start <= 0 and end >= audio.duration_s
        with quiet(), one_thread(torch.device(self.device)):
            output = self.pipeline(
                {"waveform": torch.from_numpy(sound)[None], "sample_rate": RATE_HZ, "uri": "recording"},
                # In a part of a recording some of the speakers may be silent.
                num_speakers=self.settings.speakers if whole else None,
                min_speakers=least if whole else 1,
                max_speakers=most,
            )
        turns, alone = (
            [
                Turn(start + max(0.0, segment.start), min(start + segment.end, end), str(label))
                for segment, _, label in annotation.itertracks(yield_label=True)
                if min(start + segment.end, end) > start + max(0.0, segment.start)
            ]
            for annotation in (output.speaker_diarization, output.exclusive_speaker_diarization)
        )
        labels = [str(label) for label in output.speaker_diarization.labels()]
        voices = {
            label: np.asarray(voice, np.float32)
            for label, voice in zip(labels, output.speaker_embeddings, strict=True)
            if np.isfinite(voice).all() and np.any(voice)
        }
        return Heard(start, end, turns, alone, voices)


def blocks_of(duration_s: float) -> list[tuple[float, float]]:
    """Start and end of each block; one block for all that is not much longer than one.

    >>> blocks_of(1000.0), blocks_of(1800.0)
    ([(0.0, 1000.0)], [(0.0, 930.0), (870.0, 1800.0)])
    """
    count = max(1, round((duration_s - SHARED_S) / (BLOCK_S - SHARED_S)))
    length = (duration_s + (count - 1) * SHARED_S) / count
    starts = [k * (length - SHARED_S) for k in range(count)]
    return [(start, min(start + length, duration_s)) for start in starts]


def load_pipeline(folder: Path, device: str) -> Any:
    """The pipeline of a local folder, on the device.

    Raises: SetupError that names what is wrong with the folder.
    """
    check_config(folder)
    # Read when the library is imported and again at each call.
    os.environ["PYANNOTE_METRICS_ENABLED"] = "0"
    import torch

    with quiet():
        from pyannote.audio import Pipeline

        try:
            with restricted_loading():
                pipeline = Pipeline.from_pretrained(folder)
        except pickle.UnpicklingError as error:
            raise SetupError(
                f"The pyannote weights in {folder} hold more than tensors; they are not read, as that could "
                f"run code. Fetch them again from their authors. ({str(error).splitlines()[0]})"
            ) from error
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, AttributeError) as error:
            raise SetupError(
                f"The pyannote pipeline in {folder} can't be read: {str(error).splitlines()[0]}. "
                "Fetch it again, or take `--diarizer embedded`."
            ) from error
        pipeline.to(torch.device(device))
    for name in ("segmentation_batch_size", "embedding_batch_size"):
        setattr(pipeline, name, BATCH)
    return pipeline


def check_config(folder: Path) -> None:
    """Refuses a configuration that would call anything but the diarization pipeline on files in the folder.

    The library calls whatever name stands there, and takes a plain name of a model from the hub.
    """
    import yaml

    problem = "is not a diarization pipeline of pyannote.audio 4"
    try:
        config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
        pipeline = config["pipeline"]
        if pipeline["name"] in PIPELINES and "preprocessors" not in config:
            parts = [pipeline.get("params", {}).get(part) for part in ("segmentation", "embedding", "plda")]
            if all(isinstance(part, str) and part.startswith("$model/") for part in parts):
                return
            problem = "names models outside its folder"
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        problem += f" ({type(error).__name__})"
    raise SetupError(
        f"{folder / 'config.yaml'} {problem}: fetch {PYANNOTE_MODEL} again, or take `--diarizer embedded`."
    )


@contextmanager
def restricted_loading() -> Iterator[None]:
    """PyTorch reads no more than tensors and these types, whatever its caller asks for.

    pyannote.audio and lightning ask for full unpickling; the environment variable goes before them.
    """
    import torch
    from pyannote.audio.core.task import Problem, Resolution, Specifications

    admitted = [Problem, Resolution, Specifications, torch.torch_version.TorchVersion]
    before = os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD")
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    try:
        with torch.serialization.safe_globals(admitted):
            yield
    finally:
        if before is None:
            del os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"]
        else:
            os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = before


@contextmanager
def quiet() -> Iterator[None]:
    """Without the library's warnings: on a missing torchcodec (sound is passed in memory), on TF32, on a
    number of speakers that a short recording can't hold."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def in_order(turns: list[Turn], alone: list[Turn]) -> tuple[list[Turn], list[Turn]]:
    """Both lists by time, speakers renamed in order of appearance in the first."""
    names: dict[str, str] = {}
    renamed: tuple[list[Turn], list[Turn]] = ([], [])
    for out, given in zip(renamed, (turns, alone), strict=True):
        for turn in sorted(given):
            name = names.setdefault(turn.speaker, f"SPEAKER_{len(names):02d}")
            out.append(Turn(turn.start, turn.end, name))
    return sorted(renamed[0]), sorted(renamed[1])
