"""A finished part of a recording, whoever wrote it: its rows, facts and voices are as a run writes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from annotator import table
from annotator.pipeline.manifests import are_facts
from annotator.pipeline.people import unpacked


def read_part(path: Path, file_id: str, labels: Sequence[str]) -> table.Part | None:
    """A finished part; None where there is none that is as a run writes it.

    Args:
        file_id, labels: of the recording and the model.
    """
    return _sound(table.read_part(path, file_id, labels))


def part_of(content: bytes | None, key: str, file_id: str, labels: Sequence[str]) -> table.Part | None:
    """As :func:`read_part`, of the bytes of a file, where there are any."""
    return None if content is None else _sound(table.part_of(content, key, file_id, labels))


def _sound(part: table.Part | None) -> table.Part | None:
    if part is None or not are_facts(part.facts) or part.facts["rows"] != len(part.rows):
        return None
    if not part.voices.keys() <= set(part.rows["speaker"]):
        return None
    try:
        for voice in part.voices.values():
            unpacked(voice)
    except (TypeError, ValueError):
        return None
    return part
