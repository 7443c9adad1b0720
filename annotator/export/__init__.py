"""A table in the formats of other tools: subtitles, annotation programs, corpora.

Each format is a function from rows to files, in ``FORMATS``. All files of an export are written, or none.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

import polars as pl

from annotator.export import chat, corpora, subtitles, tiers
from annotator.export.corpora import Recordings
from annotator.export.names import targets
from annotator.files import written_folder
from annotator.read import read_recordings, read_table
from annotator.records import UsageError

__all__ = ["FORMATS", "export"]

# Of one recording: its rows, sorted by start, the name that stands in the table, and its length in seconds
# where that is known -> a file's text.
OneFile = Callable[[pl.DataFrame, str, float | None], str]
# Of a whole table, with what is known of its recordings, into a folder.
Whole = Callable[[pl.DataFrame, Recordings, Path], None]

FOR_EACH: dict[str, tuple[str, OneFile]] = {
    "srt": (".srt", subtitles.srt),
    "vtt": (".vtt", subtitles.vtt),
    "rttm": (".rttm", tiers.rttm),
    "textgrid": (".TextGrid", tiers.textgrid),
    "eaf": (".eaf", tiers.eaf),
    "chat": (".cha", chat.chat),
}
FOR_ALL: dict[str, Whole] = {
    "label-studio": corpora.label_studio,
    "audformat": corpora.audformat_database,
    "lhotse": corpora.lhotse,
    "meld-csv": corpora.meld_csv,
}
FORMATS = (*FOR_EACH, *FOR_ALL)


def export(table_file: Path, kind: str, out: Path) -> list[Path]:
    """Write a table's content to the folder ``out`` in another format. Returns the files, sorted.

    Recordings keep their folders and names: ``a/b.mp4`` becomes ``a/b.srt``, or ``a/b.mp4.srt`` where
    ``a/b.wav`` is there too.

    Raises: UsageError for an unknown format, what is no table, or an ``out`` that holds something;
    SetupError when the disk refuses.
    """
    if kind not in FORMATS:
        near = difflib.get_close_matches(kind.lower(), FORMATS, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise UsageError(f"There is no format {kind!r}; known: {', '.join(FORMATS)}.{hint}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is there already and not an empty folder: name a new one.")
    table, _ = read_table(table_file)
    recordings = read_recordings(table_file)
    with written_folder(out) as scratch:
        if kind in FOR_ALL:
            FOR_ALL[kind](table, recordings, scratch)
        else:
            ending, write = FOR_EACH[kind]
            places = targets(table["file"].unique(maintain_order=True).to_list(), ending)
            for (file,), rows in table.group_by("file", maintain_order=True):
                place = scratch / places[str(file)]
                place.parent.mkdir(parents=True, exist_ok=True)
                lasts = recordings.get(str(file), {}).get("duration_s")
                place.write_text(write(rows, str(file), lasts), encoding="utf-8", newline="\n")
    return sorted(path for path in out.rglob("*") if path.is_file())
