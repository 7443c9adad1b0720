"""Options of the command line that hold a name and a value."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from annotator.records import UsageError


def named_values(options: Sequence[str], flag: str) -> dict[str, str]:
    """``NAME=VALUE`` options as a mapping.

    >>> named_values(["peaceful=positive"], "--sentiment")
    {'peaceful': 'positive'}

    Raises:
        UsageError: an option without a name or a value, or a name twice.
    """
    found: dict[str, str] = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not equals or not name.strip() or not value.strip():
            raise UsageError(f"{flag} {option!r}: write NAME=VALUE.")
        if name.strip() in found:
            raise UsageError(f"{flag} names {name.strip()!r} twice.")
        found[name.strip()] = value.strip()
    return found


def fields_from(options: Sequence[str]) -> dict[str, Any]:
    """``FIELD=VALUE`` options with JSON values: numbers, true, false, null; anything else is a text.

    >>> fields_from(["dropout=0.5", "loss=additive"])
    {'dropout': 0.5, 'loss': 'additive'}
    """
    found: dict[str, Any] = {}
    for name, value in named_values(options, "--set").items():
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found
