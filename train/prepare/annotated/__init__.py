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
from train.prepare.annotated.layout import AnnotatedUtterance, Names
from train.prepare.source import Source

log = logging.getLogger("annotator")

MOST_BYTES = 64 << 20  # of one file

# Ending, and what reads the bytes of a file of that name.
READERS: dict[str, tuple[tuple[str, ...], Callable[[bytes, str, Names], list[AnnotatedUtterance]]]] = {
    "eaf": ((".eaf",), tiers.read_eaf),
    "textgrid": ((".textgrid",), tiers.read_textgrid),
    "chat": ((".cha",), chat.read_chat),
    "label-studio": ((".json",), label_studio.read_json),
}


def reader(kind: str) -> Callable[..., Source]:
    """The ``read`` of a source in this format."""

    def read(path: Path, *, columns: Mapping[str, str] | None = None, **options: Any) -> Source:
        name_of = dict(columns or {})
        table.check_meanings(name_of)
        names = Names({meaning: name for meaning, name in name_of.items() if name})
        utterances: list[AnnotatedUtterance] = []
        for file in _files(path, kind):
            utterances += _read(file, kind, names)
        if not any(u.label for u in utterances):
            raise UsageError(
                f"{path} labels nothing: {names.label_hint(kind)} Name it with --column label=NAME."
            )
        if any(u.speaker is None for u in utterances):
            log.warning("speakers are not told everywhere: there, all of a recording is one speaker's")
        cells = _cells(utterances)
        for meaning in ("text", "sentiment"):
            if name_of.get(meaning) == "":
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
    files = sorted(p for p in path.rglob("*") if p.suffix.lower() in endings and p.is_file())
    if not files:
        raise UsageError(f"{path} holds no {' or '.join(endings)} file.")
    return files


def _read(file: Path, kind: str, names: Names) -> list[AnnotatedUtterance]:
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


def _cells(utterances: Sequence[AnnotatedUtterance]) -> pl.DataFrame:
    """The utterances as a table of text; recordings without times are whole ones."""
    timed = any(u.start is not None for u in utterances)
    columns: dict[str, list[str | None]] = {
        "recording": [u.recording for u in utterances],
        "speaker": [u.speaker or "SPEAKER_00" for u in utterances],
        "label": [u.label for u in utterances],
        "text": [u.text for u in utterances],
    }
    if timed:
        columns["start"] = [None if u.start is None else repr(u.start) for u in utterances]
        columns["end"] = [None if u.end is None else repr(u.end) for u in utterances]
    if any(u.sentiment for u in utterances):
        columns["sentiment"] = [u.sentiment for u in utterances]
    columns = {name: [None if c is None else _text(c) for c in cells] for name, cells in columns.items()}
    return pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String()))


def _text(cell: str) -> str:
    """Without the halves of signs that JSON may hold and no table."""
    return cell.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
