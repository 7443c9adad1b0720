"""Corpora that people labelled in an annotation program: ELAN, Praat, CHAT (CLAN) and Label Studio.

Each reader gives utterances: who speaks from when to when in which recording, the label, the words. What
follows is that of any table (``table.py``), with all its checks. Which tier or field means what is told by
its name, as for a column, or by ``--column MEANING=NAME``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from annotator.records import UsageError
from train.prepare import table
from train.prepare.annotated import chat, label_studio, tiers
from train.prepare.annotated.layout import Names, Said
from train.prepare.source import Source

log = logging.getLogger("annotator")

MOST_BYTES = 64 << 20  # of one file

# Ending, and what reads the bytes of a file of that name.
READERS: dict[str, tuple[tuple[str, ...], Callable[[bytes, str, Names], list[Said]]]] = {
    "eaf": ((".eaf",), tiers.read_eaf),
    "textgrid": ((".textgrid",), tiers.read_textgrid),
    "chat": ((".cha",), chat.read_chat),
    "label-studio": ((".json",), label_studio.read_json),
}


def reader(kind: str) -> Callable[..., Source]:
    """The ``read`` of a source in this format."""

    def read(path: Path, *, columns: Mapping[str, str] | None = None, **options: Any) -> Source:
        told = dict(columns or {})
        table.check_meanings(told)
        names = Names({meaning: name for meaning, name in told.items() if name})
        said: list[Said] = []
        for file in _files(path, kind):
            said += _read(file, kind, names)
        if not any(one.label for one in said):
            raise UsageError(
                f"{path} labels nothing: {names.label_hint(kind)} Name it with --column label=NAME."
            )
        if any(one.speaker is None for one in said):
            log.warning("speakers are not told everywhere: there, all of a recording is one speaker's")
        cells = _cells(said)
        for meaning in ("text", "sentiment"):
            if told.get(meaning) == "":
                cells = cells.drop(meaning, strict=False)
        return table.from_cells(cells, path, source=kind, **options)

    return read


def _files(path: Path, kind: str) -> Sequence[Path]:
    """A file, or those of the format below a folder, by name."""
    endings = READERS[kind][0]
    if not path.exists():
        raise UsageError(f"{path} doesn't exist. Give a file or a folder of {', '.join(endings)} files.")
    if path.is_file():
        return [path]
    found = sorted(p for p in path.rglob("*") if p.suffix.lower() in endings and p.is_file())
    if not found:
        raise UsageError(f"{path} holds no {' or '.join(endings)} file.")
    return found


def _read(file: Path, kind: str, names: Names) -> list[Said]:
    try:
        if file.stat().st_size > MOST_BYTES:
            raise UsageError(f"{file} has more than {MOST_BYTES >> 20} MB: split it.")
        raw = file.read_bytes()
    except OSError as error:
        raise UsageError(f"{file} can't be read: {error.strerror}.") from error
    try:
        return READERS[kind][1](raw, file.stem, names)
    except UsageError as error:
        raise UsageError(f"{file}: {error}") from error


def _cells(said: Sequence[Said]) -> pl.DataFrame:
    """The utterances as a table of text; recordings without times are whole ones."""
    timed = any(one.start is not None for one in said)
    columns: dict[str, list[str | None]] = {
        "recording": [one.recording for one in said],
        "speaker": [one.speaker or "SPEAKER_00" for one in said],
        "label": [one.label for one in said],
        "text": [one.text for one in said],
    }
    if timed:
        columns["start"] = [None if one.start is None else repr(one.start) for one in said]
        columns["end"] = [None if one.end is None else repr(one.end) for one in said]
    if any(one.sentiment for one in said):
        columns["sentiment"] = [one.sentiment for one in said]
    columns = {name: [None if c is None else _text(c) for c in cells] for name, cells in columns.items()}
    return pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String()))


def _text(cell: str) -> str:
    """Without the halves of signs that JSON may hold and no table."""
    return cell.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
