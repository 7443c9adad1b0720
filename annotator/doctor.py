"""What is installed, what each stage would use, and what is missing: the text of ``annotate doctor``."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Callable, Iterable

from annotator import diarize, faces, media, transcribe, weights
from annotator.device import resolve_device
from annotator.pipeline.stages import diarizer_settings, transcriber_settings
from annotator.records import AnnotateError
from annotator.settings import RunSettings

LIBRARIES = (
    "torch",
    "torchvision",
    "torch-geometric",
    "transformers",
    "opensmile",
    "opencv-python-headless",
    "polars",
)


def report() -> str:
    """A page of plain text; every problem carries its remedy."""
    import torch

    from annotator.pipeline.job import installed

    settings = RunSettings(offline=True)
    device = resolve_device("auto")
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
    lines += ["", "Stages, best first; * marks what `auto` would use here"]
    lines.append("  speakers     sidecar .rttm: taken when there is one")
    for_turns, for_words = diarizer_settings(settings, device), transcriber_settings(settings, device)
    lines += backends(("pyannote", "embedded"), lambda n: diarize.available(n, for_turns))
    lines.append(
        "  words        sidecar .srt .vtt .ass .json .ctm ..., or subtitles in the file: taken when there are"
    )
    lines += backends(("whisper", "none"), lambda n: transcribe.available(n, for_words))
    lines.append("  faces")
    lines += backends(("yunet", "centerface"), lambda n: faces.missing(n, weights.yunet_file()))
    lines += ["", "Checkpoint"]
    try:
        lines.append(f"  starter    {weights.checkpoint_folder('starter')}")
    except AnnotateError as error:
        lines.append(f"  starter    {error}")
    return "\n".join(lines)


def backends(names: Iterable[str], lacks: Callable[[str], str | None]) -> list[str]:
    """A line a backend: available, or what it needs. The first that is available has a star."""
    lines = []
    taken = False
    for name in names:
        problem = lacks(name)
        star = " " if problem or taken else "*"
        taken = taken or problem is None
        lines.append(f"  {star} {name:<10} {'available' if problem is None else 'not available: ' + problem}")
    return lines
