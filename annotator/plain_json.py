"""JSON out of files that others may have written or damaged: every fault of it is one kind of error."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

MOST_BYTES = 256 << 20  # of a file; the manifest of a million recordings is about as large


def loads(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises: ValueError when it is none, or nested too deeply, or has a number too long to read.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def finite(tree: Any) -> Any:
    """A JSON value with null for what is no number: missing is never written as one."""
    if isinstance(tree, float):
        return tree if math.isfinite(tree) else None
    if isinstance(tree, dict):
        return {key: finite(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [finite(value) for value in tree]
    return tree


def read(path: Path) -> Any:
    """The value in a JSON file.

    Raises: OSError when it can't be read; ValueError when it holds no JSON, or too much of it.
    """
    with open(path, "rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES >> 20} MB")
    return loads(content)
