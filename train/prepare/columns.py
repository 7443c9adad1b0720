"""Which column of a table means what: as told, else guessed from the column's name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence

from annotator.records import UsageError

# Names in use, the likeliest first. A column is guessed once, by the first meaning that has its name.
NAMES: dict[str, tuple[str, ...]] = {
    "recording": (
        "recording", "file", "file_name", "filename", "path", "file_path", "video", "audio", "clip", "media",
        "wav", "recording_id", "video_id",
    ),
    "dialogue": (
        "dialogue_id", "dialogue", "dialog_id", "dialog", "conversation_id", "conversation", "scene_id",
        "scene",
    ),
    "utterance": ("utterance_id", "utt_id", "utterance_number", "turn_id", "turn", "sr_no"),
    "start": ("start", "start_time", "starttime", "start_s", "begin", "from", "onset", "tmin", "start_sec"),
    "end": ("end", "end_time", "endtime", "end_s", "stop", "to", "offset", "tmax", "end_sec"),
    "speaker": ("speaker", "speaker_id", "who", "actor", "person", "participant", "talker"),
    "label": ("label", "emotion", "emotion_label", "feeling", "affect", "category", "class"),
    "text": ("text", "utterance", "transcript", "transcription", "sentence", "said", "words"),
    "split": ("split", "set", "partition", "subset", "fold"),
    "sentiment": ("sentiment", "valence", "polarity"),
}  # fmt: skip


def match_columns(
    columns: Sequence[str],
    named_columns: Mapping[str, str],
    misfit: Callable[[str, str], str | None] = lambda meaning, column: None,
) -> tuple[dict[str, str], list[str], list[str]]:
    """Meaning -> column, what is wrong with what was told, and lines that say which guesses were dropped.

    Args:
        columns: of the table.
        named_columns: meaning -> column, as the user names them; an empty name where no column has the
            meaning.
        misfit: a cell of a column that can't have a meaning, where that speaks against the guess.

    Raises:
        UsageError: a meaning that there isn't.
    """
    for meaning in named_columns:
        if meaning not in NAMES:
            near = difflib.get_close_matches(meaning, NAMES, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise UsageError(f"A column can't mean {meaning!r}: choose from {', '.join(NAMES)}.{hint}")
    faults, dropped = [], []
    matches: dict[str, str] = {}
    for meaning, column in named_columns.items():
        if not column:
            continue
        if column in columns:
            matches[meaning] = column
            continue
        near = difflib.get_close_matches(column, columns, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        faults.append(f"there is no column {column!r} for the {meaning}; it has {', '.join(columns)}{hint}")
    plain = {plain_name(column): column for column in reversed(columns)}  # the first of equals
    for meaning, names in NAMES.items():
        if meaning in named_columns:
            continue
        taken = {*matches.values(), *named_columns.values()}
        for column in (plain[name] for name in names if name in plain and plain[name] not in taken):
            odd = misfit(meaning, column)
            if odd is None:
                matches[meaning] = column
                break
            dropped.append(
                f"column {column!r} is not the {meaning}: it holds {odd} (--column {meaning}=NAME names one)"
            )
    return matches, faults, dropped


def described(matches: Mapping[str, str], chosen: Mapping[str, str], columns: Sequence[str]) -> list[str]:
    """The matches as lines for people, in the order of ``NAMES``."""
    lines = [
        f"{meaning:<9} = column {matches[meaning]!r}" + ("" if meaning in chosen else " (guessed)")
        for meaning in NAMES
        if meaning in matches
    ]
    unused = [column for column in columns if column and column not in matches.values()]
    return [*lines, f"not used: {', '.join(unused)}"] if unused else lines


def plain_name(column: str) -> str:
    """A column's name as ``NAMES`` has it.

    >>> plain_name(" Start Time ")
    'start_time'
    """
    return "_".join("".join(c if c.isalnum() else " " for c in column.lower()).split())
