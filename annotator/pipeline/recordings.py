"""The second table of a run, ``labels.recordings.parquet``: one row a recording, and a file passed over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import polars as pl

from annotator import media, sidecars
from annotator.table import write_table

STAGES = (
    *("decode", "diarize", "transcribe", "utterances", "voices", "faces"),
    *("encode_text", "encode_audio", "encode_face"),
)
SCHEMA: dict[str, pl.DataType] = {
    "file": pl.String(),
    "file_id": pl.String(),
    "duration_s": pl.Float64(),
    "status": pl.String(),
    "reason": pl.String(),
    "streams": pl.List(pl.String()),
    "text_source": pl.String(),
    "language": pl.String(),
    "speakers": pl.Int32(),
    "rows": pl.Int32(),
    "flags": pl.List(pl.String()),
    "rate_hz": pl.Int32(),
    "channels": pl.Int32(),
    **{f"seconds_{stage}": pl.Float64() for stage in STAGES},
}
_PLAIN = ("text_source", "language", "speakers", "rows", "flags", "rate_hz", "channels")
SHOWN = 10  # names in a line for people


def label(name: str, recording: str) -> str:
    """A file beside a recording without the recording's name: the same for a copy under another name."""
    words = sidecars.between(name, recording)
    return name if words is None else words + PurePosixPath(name).suffix.lower()


def read_beside(path: Path, labels: Mapping[str, str]) -> dict[str, str]:
    """Names of the files beside a recording that were read, by what they gave.

    Args:
        labels: the same without the name of the recording, as its part has them.
    """
    by_label = {label(beside.name, path.name): beside.name for beside in media.sidecars(path)}
    return {kind: by_label[found] for kind, found in labels.items() if found in by_label}


def left_beside(
    path: Path,
    file: str,
    read: Mapping[str, str],
    asked: Mapping[str, bool],
    reasons: Mapping[str, str],
) -> list[dict[str, str]]:
    """Files beside a recording that were not read, and why.

    Args:
        file: the recording's name in the table.
        read: what was read, by what it gave: ``transcript`` and ``speakers``.
        asked: whether such files are wanted at all.
        reasons: of those that were looked into and not taken, by their name without that of the recording.
    """
    left = []
    for beside in media.sidecars(path):
        if beside.name in read.values():
            continue
        kind = "speakers" if beside.suffix.lower() == ".rttm" else "transcript"
        if not asked[kind]:
            reason = "the settings ask for none"
        else:
            taken = f"{read[kind]} was taken" if kind in read else "nothing was read from it"
            reason = reasons.get(label(beside.name, path.name), taken)
        left.append(
            {"file": str(PurePosixPath(file).with_name(media.printable(beside.name))), "reason": reason}
        )
    return left


def not_used_line(not_used: Sequence[Mapping[str, str]], record: Path) -> str:
    """One line for people that names what was passed over; the reasons are in the record of the run."""
    names = [media.escaped(other["file"]) for other in not_used]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"not used: {', '.join(names[:SHOWN])}{more} ({record.name} says why)"


def write_recordings(
    path: Path, files: Sequence[Mapping[str, Any]], not_used: Sequence[Mapping[str, str]]
) -> None:
    """Write the table beside that of the utterances, in the same format.

    Args:
        files: what became of each recording, as a manifest has it.
    """
    rows = [_row(file) for file in files]
    rows += [{"file": o["file"], "status": "passed over", "reason": o["reason"]} for o in not_used]
    full = [{name: row.get(name) for name in SCHEMA} for row in rows]
    write_table(pl.DataFrame(full, schema=SCHEMA).sort("file", maintain_order=True), path, {})


def _row(file: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {"file": file["file"], "file_id": file["file_id"]}
    if file["part"] is None:
        failure = file["failure"]
        return row | {"status": "failed", "reason": f"{failure['stage']}: {failure['message']}"}
    chosen = {**file.get("streams", {}), **file.get("beside", {})}
    return row | {
        "duration_s": file["duration_s"],
        "status": "annotated",
        "streams": [f"{kind}: {what}" for kind, what in chosen.items() if what is not None],
        **{name: file.get(name) for name in _PLAIN},
        **{f"seconds_{stage}": spent for stage, spent in file.get("seconds", {}).items()},
    }
