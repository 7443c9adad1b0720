"""What the file of a recording is called in an export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from annotator.records import UsageError


def targets(files: Sequence[str], ending: str) -> Mapping[str, PurePosixPath]:
    """Where each recording's file goes, relative to the folder of the export.

    Raises: UsageError when a name leads out of that folder, which no run writes.
    """
    stems: dict[PurePosixPath, int] = {}
    for file in files:
        path = PurePosixPath(file)
        if path.is_absolute() or ".." in path.parts or not path.name or "\0" in file:
            raise UsageError(
                f"The table names a recording {file!r}, which no run does: its name is no path in a folder."
            )
        stems[path.with_suffix("")] = stems.get(path.with_suffix(""), 0) + 1
    found = {}
    for file in files:
        path = PurePosixPath(file)
        alone = stems[path.with_suffix("")] == 1
        found[file] = path.with_name((path.stem if alone else path.name) + ending)
    if len(set(found.values())) < len(found):  # a.mp4 and a.wav beside a recording called a.mp4.mp3
        return {file: PurePosixPath(file + ending) for file in files}
    return found
