"""Pretrained parts fetched ahead of a run, at pinned revisions, from the model hub: ``annotate download``.

The gated diarizer of pyannote is not here: its authors want each user to accept their
conditions, which `annotate doctor` explains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from annotator.records import UsageError
from annotator.transcribe.whisper_weights import SIZES_MB, find_weights, repository


def _whisper(device: str) -> Iterator[str]:
    name = repository(device)
    yield f"whisper: {name}, {SIZES_MB[name]} MB"
    yield f"whisper: {find_weights(None, device, offline=False)}"


PARTS: dict[str, Callable[[str], Iterator[str]]] = {"whisper": _whisper}


def download(parts: Sequence[str], device: str) -> Iterator[str]:
    """Fetch parts; yields a line before and after each.

    Raises: UsageError for an unknown part; SetupError when the hub does not give it.
    """
    for part in parts:
        if part not in PARTS:
            raise UsageError(f"Unknown part {part!r}: choose from {', '.join(PARTS)}.")
    for part in parts:
        yield from PARTS[part](device)
