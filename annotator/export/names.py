"""What the file of a recording is called in an export."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from annotator.records import UsageError

MOST_BYTES = 255  # of a name, on all usual file systems


def targets(files: Sequence[str], ending: str) -> Mapping[str, PurePosixPath]:
    """Where each recording's file goes, relative to the folder of the export: each has a place of its own.

    Raises: UsageError when a name leads out of that folder, which no run writes.
    """
    for file in files:
        path = PurePosixPath(file)
        if path.is_absolute() or ".." in path.parts or not path.name or "\0" in file:
            raise UsageError(
                f"The table names a recording {file!r}, which no run does: its name is no path in a folder."
            )
    # Systems differ in what is one name: none are written that differ in case or in how umlauts are made.
    stems = Counter(_folded(PurePosixPath(file).with_suffix("")) for file in files)
    places: dict[str, PurePosixPath] = {}
    used: set[str] = set()  # names of files, and of the folders that they lie in
    folders: set[str] = set()
    for file in files:
        path = PurePosixPath(file)
        alone = stems[_folded(path.with_suffix(""))] == 1
        digest = hashlib.sha256(file.encode("utf-8", "surrogatepass")).hexdigest()
        numbered = (f"{path.name}~{digest[:length]}" for length in (8, 16, 64))
        for name in (*([path.stem] if alone else []), path.name, *numbered):
            place = _fitting(path.parent, digest) / _short(name, ending, digest)
            above = [_folded(parent) for parent in place.parents]
            if not (_folded(place) in used | folders or used & set(above)):
                break
        used.add(_folded(place))
        folders.update(above)
        places[file] = place
    return places


def _folded(path: PurePosixPath) -> str:
    return unicodedata.normalize("NFC", str(path)).casefold()


def _short(name: str, ending: str, digest: str) -> str:
    """A name with its ending that a file system takes: a long one ends with digits of its hash instead."""
    if len((name + ending).encode("utf-8", "surrogatepass")) <= MOST_BYTES:
        return name + ending
    tail = f"~{digest[:8]}{ending}"
    room = MOST_BYTES - len(tail.encode())
    return name.encode("utf-8", "surrogatepass")[:room].decode("utf-8", "ignore") + tail


def _fitting(folder: PurePosixPath, digest: str) -> PurePosixPath:
    return PurePosixPath(*(_short(part, "", digest) for part in folder.parts))
