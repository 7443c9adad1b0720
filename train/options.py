"""Options of the command line that hold a name and a value."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from annotator.records import MODALITIES, UsageError


def named_values(options: Sequence[str], flag: str, may_be_empty: bool = False) -> dict[str, str]:
    """``NAME=VALUE`` options as a mapping; the value may be empty where that says something.

    >>> named_values(["peaceful=positive"], "--sentiment")
    {'peaceful': 'positive'}

    Raises:
        UsageError: an option without a name or a value, or a name twice.
    """
    found: dict[str, str] = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not equals or not name.strip() or not (value.strip() or may_be_empty):
            raise UsageError(f"{flag} {option!r}: write NAME=VALUE.")
        if name.strip() in found:
            raise UsageError(f"{flag} names {name.strip()!r} twice.")
        found[name.strip()] = value.strip()
    return found


def encoders_from(options: Sequence[str]) -> dict[str, dict[str, Any] | None]:
    """``MODALITY=NAME[,KEY=VALUE...]`` options as encoders' specs; a name of ``none`` is None.

    >>> encoders_from(["audio=compare2016,speaker_norm=true", "face=none"])
    {'audio': {'name': 'compare2016', 'speaker_norm': True}, 'face': None}

    Raises:
        UsageError: an unknown modality, or a part that is not KEY=VALUE.
    """
    found: dict[str, dict[str, Any] | None] = {}
    for modality, value in named_values(options, "--encoder").items():
        if modality not in MODALITIES:
            raise UsageError(f"--encoder {modality}={value}: a modality is {', '.join(MODALITIES)}.")
        name, *rest = (part.strip() for part in value.split(","))
        if name == "none" and not rest:
            found[modality] = None
            continue
        given = named_values(rest, f"--encoder {modality}={value}:")
        if "name" in given:
            raise UsageError(f"--encoder {modality}={value} names two encoders.")
        files = ("path", "weights", "adapter")
        found[modality] = {"name": name, **{k: v if k in files else _value(v) for k, v in given.items()}}
    return found


def fields_from(options: Sequence[str]) -> dict[str, Any]:
    """``FIELD=VALUE`` options with JSON values: numbers, true, false, null; anything else is a text.

    >>> fields_from(["dropout=0.5", "loss=additive"])
    {'dropout': 0.5, 'loss': 'additive'}
    """
    return {name: _value(text) for name, text in named_values(options, "--set").items()}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
