"""What is installed, what each stage would use, and what is missing: the text of ``annotate doctor``."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Callable, Iterable

from annotator import diarize, media, transcribe, weights
from annotator.pipeline.stages import diarizer_settings, transcriber_settings
from annotator.records import AnnotateError
from annotator.settings import RunSettings

LIBRARIES = ("torch", "torchvision", "torch-geometric", "transformers", "opensmile", "dlib-bin", "polars")


def report() -> str:
    """A page of plain text; every problem carries its remedy."""
    import torch

    from annotator.pipeline.batch import installed

    settings = RunSettings(offline=True)
    lines = [f"annotate {importlib.metadata.version('conversation-annotator')}", ""]
    lines.append(f"Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    lines.append(", ".join(f"{name} {found}" for name, found in installed(LIBRARIES).items()))
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    lines.append(f"GPU: {', '.join(gpus) if gpus else 'none, runs go on the CPU'}; {os.cpu_count()} cores")
    try:
        lines.append(f"ffmpeg: {media.ffmpeg_path()} ({media.ffmpeg_version()})")
    except AnnotateError as error:
        lines.append(f"ffmpeg: {error}")
    abi = media.landlock_abi()
    lines.append(
        f"decoding: in a child process with limits, {f'Landlock ABI {abi}' if abi else 'no Landlock here'}"
    )
    lines += ["", "Stages (`auto` takes the first that is available)"]
    lines.append("  speakers     sidecar .rttm: taken when there is one")
    lines += backends(
        ("pyannote", "embedded"), lambda n: diarize.available(n, diarizer_settings(settings, "cpu"))
    )
    lines.append(
        "  words        sidecar .srt .vtt .json .ctm, or subtitles in the file: taken when there are"
    )
    lines += backends(("whisper",), lambda n: transcribe.available(n, transcriber_settings(settings, "cpu")))
    yunet = weights.yunet_file()
    lines.append("  faces")
    remedy = f"name its .onnx file in ANNOTATE_YUNET, or put it into {weights.cache_folder()}"
    lines.append(f"    yunet      {'available' if yunet else 'not available: ' + remedy}")
    lines.append("    hog        available")
    lines += ["", "Checkpoint"]
    try:
        lines.append(f"  starter    {weights.checkpoint_folder('starter')}")
    except AnnotateError as error:
        lines.append(f"  starter    {error}")
    return "\n".join(lines)


def backends(names: Iterable[str], lacks: Callable[[str], str | None]) -> list[str]:
    """A line a backend: available, or what it needs."""
    lines = []
    for name in names:
        problem = lacks(name)
        lines.append(f"    {name:<10} {'available' if problem is None else 'not available: ' + problem}")
    return lines
