"""The recordings that the page can play: those that lie where the table says, below one folder."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from annotator.records import UsageError


def addresses(files: Iterable[str], base: Path, page: Path) -> list[str | None]:
    """The address of each recording as seen from the page, None for one that is not there.

    A name in a table may be anything: one that leads out of ``base``, also by a link, counts as not there.

    Args:
        files: names as the table has them, relative to ``base``.
        page: the file of the page.

    Raises:
        UsageError: there is no such folder, or no way from the page to it.
    """
    if not base.is_dir():
        raise UsageError(f"There is no folder {base}: give --media-base the folder that the run was given.")
    root = base.resolve()
    try:
        way = Path(os.path.relpath(base.absolute(), page.absolute().parent)).as_posix()
    except ValueError as error:  # another drive
        raise UsageError(
            f"No relative address leads from {page} to {base}: put both on one drive."
        ) from error
    found: list[str | None] = []
    for file in files:
        try:
            there = (base / file).resolve()
            inside = there.is_relative_to(root) and there.is_file()
        except (OSError, ValueError):  # too long, or with a zero byte
            inside = False
        if inside and not os.path.isabs(file) and ".." not in file.split("/"):
            found.append(quote(os.fsencode(file if way == "." else f"{way}/{file}")))
        else:
            found.append(None)
    return found
