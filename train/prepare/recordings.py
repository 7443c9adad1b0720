"""The recordings that a table's utterances lie in: which file is meant, and how long it is."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from annotator import media
from annotator.records import Media, RecordingError, UsageError
from annotator.sidecars import folded

SLACK_S = 1.0  # an utterance may end this much after its recording: containers declare their length roughly


@dataclass(frozen=True)
class Index:
    """The recordings below a folder, by every name that a table may give them."""

    root: Path
    by_name: dict[str, list[media.Found]] = field(default_factory=dict)

    @classmethod
    def of(cls, root: Path) -> Index:
        """Look through a folder.

        Raises:
            UsageError: there is no such folder, or no recording in it.
        """
        entries = media.find([root])
        if not entries:
            raise UsageError(f"There is no recording in {root}: give --media the folder that holds them.")
        index = cls(root)
        for entry in entries:
            path = PurePosixPath(entry.file)
            # A path, a path without ending, a name, a name without ending: whatever is unique.
            # Umlauts may be taken apart on one side, and letter case changes between systems.
            for name in {entry.file, str(path.with_suffix("")), path.name, path.stem}:
                index.by_name.setdefault(folded(name), []).append(entry)
        return index

    def look_up(self, cell: str) -> media.Found | str:
        """The recording that a cell names, or what is wrong with it."""
        name = next((n for n in map(self._relative, (cell, cell.strip())) if self._hits(n)), cell.strip())
        hits = self._hits(name)
        exact = (
            [entry for entry in hits if entry.file == name]
            or [entry for entry in hits if folded(entry.file) == folded(name)]
            or hits
        )
        if not exact:
            return f"there is no recording {cell!r} in {self.root}"
        if len(exact) > 1:
            return f"{cell!r} may be {' or '.join(e.file for e in exact[:3])} in {self.root}: give the path"
        if exact[0].problem is not None:
            return f"the recording {cell!r} can't be used: {exact[0].problem.message}"
        return exact[0]

    def _relative(self, cell: str) -> str:
        name = cell.replace("\\", "/").removeprefix("./")
        return os.path.relpath(name, os.path.abspath(self.root)) if os.path.isabs(name) else name

    def _hits(self, name: str) -> list[media.Found]:
        """The recordings that may be meant."""
        whole = re.sub(r"^(\d+)\.0$", r"\1", name)  # a number that a program made of a name
        names = (name, PurePosixPath(name).name, whole)
        return next((hits for n in names if (hits := self.by_name.get(folded(n)))), [])


def probed(paths: Mapping[str, Path]) -> dict[str, Media | RecordingError]:
    """What is in each recording, by name, or why it can't be used."""

    def probe(path: Path) -> Media | RecordingError:
        try:
            return media.probe(path)
        except RecordingError as error:
            return error

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return dict(zip(paths, pool.map(probe, paths.values()), strict=True))
