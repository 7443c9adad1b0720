"""What must hold between the rows of a table, and between them and their recordings."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from annotator.records import Media, RecordingError
from train.prepare.columns import NAMES
from train.prepare.faults import Faults, named
from train.prepare.recordings import SLACK_S, Index, probed
from train.prepare.rows import Row
from train.prepare.source import Recordings
from train.prepare.splits import person

OVERLAP_S = 0.1  # by which a speaker's utterances may overlap: times are rounded
DIALOGUE_GAP_S = 60.0  # without an utterance, and a new dialogue starts, as in a run


def need_columns(
    columns: Mapping[str, str], chosen: Mapping[str, str], with_media: bool, whole: bool, faults: Faults
) -> None:
    needed = ["speaker", "label"]
    if with_media:
        needed += ["recording"] + ([] if whole else ["start", "end"])
    else:
        needed += ["text"]
        if "recording" not in columns:
            needed.append("dialogue")
    for meaning in needed:
        if meaning not in columns and not chosen.get(meaning):
            faults.add(
                f"there is no column for the {meaning} (looked for {', '.join(NAMES[meaning][:5])}, ...): "
                f"name it with --column {meaning}=NAME"
            )


def check_labels(rows: Sequence[Row], labels: Sequence[str] | None, has_column: bool, faults: Faults) -> None:
    """A label with a single example is most likely a slip of the pen, and can't be learnt and measured.

    One with a semicolon could not be read back from a CSV table, which joins labels by it.
    """
    for row in rows:
        if row.label is not None and ";" in row.label:
            faults.add(f"the label {row.label!r} has a semicolon: give one label, without it", [row.number])
    if labels is not None or not has_column:
        return  # those of a model's table are what they are
    counts = Counter(row.label for row in rows if row.label is not None)
    often = [label for label, count in counts.items() if count > 1]
    for row in rows:
        if row.label is not None and counts[row.label] == 1:
            near = difflib.get_close_matches(row.label, often, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            faults.add(
                f"the label {row.label!r} occurs once only{hint}: correct it, label more, or empty the cell",
                [row.number],
            )


def check_times(rows: Sequence[Row], has_columns: bool, needed: bool, faults: Faults) -> None:
    known_faults = faults.faulty
    for row in rows:
        if has_columns and needed and row.number not in known_faults:
            if row.start is None or row.end is None:
                faults.add(f"the {'start' if row.start is None else 'end'} is empty", [row.number])
        for name, value in (("start", row.start), ("end", row.end)):
            if value is not None and value < 0:
                faults.add(f"the {name} {value:g} is negative", [row.number])
        if row.start is not None and row.end is not None and row.end <= row.start:
            faults.add(f"it ends at {row.end:g} and starts at {row.start:g}", [row.number])


def check_overlaps(rows: Sequence[Row], faults: Faults) -> None:
    """Nobody says two things at once; different speakers may well."""
    by: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row.start is not None and row.end is not None and row.place and row.number not in faults.faulty:
            by.setdefault((row.place, row.speaker), []).append(row)
    for (place, speaker), speaker_rows in by.items():
        speaker_rows.sort(key=lambda row: (row.start or 0.0, row.end or 0.0))
        last = speaker_rows[0]
        for row in speaker_rows[1:]:
            assert row.start is not None and row.end is not None and last.end is not None
            if row.start < last.end - OVERLAP_S:
                faults.add(
                    f"{speaker} speaks from {row.start:g} to {row.end:g} in {place}, and from {last.start:g} "
                    f"to {last.end:g} in row {last.number}: they overlap",
                    [row.number],
                )
            if row.end > last.end:
                last = row


def find_recordings(rows: Sequence[Row], root: Path, whole: bool, faults: Faults) -> Recordings:
    """Name the rows' recordings as the folder does, and look into those that times are counted in."""
    index = Index.of(root)
    paths: dict[str, Path] = {}
    first: dict[str, int] = {}
    for row in rows:
        if row.recording is None:
            faults.add("the recording is empty", [row.number])
            continue
        entry = index.look_up(row.recording_cell or row.recording)
        if isinstance(entry, str):
            faults.add(entry, [row.number])
            continue
        row.recording = entry.file
        paths[entry.file] = entry.path
        if whole and first.setdefault(entry.file, row.number) != row.number:
            faults.add(
                f"the recording {entry.file!r} is that of row {first[entry.file]} too, without a start "
                "and an end",
                [row.number],
            )
    # Thousands of single clips are looked into one by one, when it is their turn.
    media_by_name = probed({} if whole else paths)
    for row in rows:
        media = media_by_name.get(row.recording or "")
        if isinstance(media, RecordingError):
            faults.add(f"the recording {row.recording!r} can't be used: {media.message}", [row.number])
        elif media is not None and media.duration_s is not None:
            if row.end is not None and row.end > media.duration_s + SLACK_S:
                faults.add(
                    f"it ends at {row.end:g}, the recording {row.recording!r} at {media.duration_s:.1f}",
                    [row.number],
                )
    return Recordings(paths, whole, {n: m for n, m in media_by_name.items() if isinstance(m, Media)})


def set_dialogues(rows: Sequence[Row], whole: bool, faults: Faults) -> None:
    """Which dialogue a row is of: as the table says, within its recording; else by pauses in that."""
    has_dialogues = any(row.dialogue is not None for row in rows)
    for row in rows:
        if row.dialogue is None and has_dialogues:
            faults.add("the dialogue is empty", [row.number])
        elif row.dialogue is not None and row.recording is not None and not whole:
            row.dialogue = f"{row.recording}#{row.dialogue}"
    if not has_dialogues:
        by: dict[str, list[Row]] = {}
        for row in rows:
            by.setdefault(row.recording or "", []).append(row)
        for recording, recording_rows in by.items():
            number, reached = 0, float("inf")
            for row in sorted(recording_rows, key=lambda row: (row.start or 0.0, row.number)):
                if row.start is not None and row.start - reached >= DIALOGUE_GAP_S:
                    number += 1
                reached = max(row.end or 0.0, reached if reached != float("inf") else 0.0)
                row.dialogue = f"{recording}#{number}"
    numbered: dict[tuple[str | None, int], int] = {}
    for row in rows:
        if row.utterance is not None:
            first = numbered.setdefault((row.dialogue, row.utterance), row.number)
            if first != row.number:
                faults.add(
                    f"the dialogue {row.dialogue!r} has utterance {row.utterance} in row {first} already",
                    [row.number],
                )


def check_splits(rows: Sequence[Row], shared_speakers: bool, faults: Faults) -> None:
    """No dialogue and, unless that is wanted, no person is in two splits."""
    for kind in ("the dialogue",) if shared_speakers else ("the dialogue", "the speaker"):
        where: dict[str, dict[str, list[int]]] = {}
        for row in rows:
            name = row.dialogue if kind == "the dialogue" else person(row.speaker, row.place)
            if row.split is not None and name:
                where.setdefault(name, {}).setdefault(row.split, []).append(row.number)
        for name, splits in where.items():
            if len(splits) > 1:
                shown = " and ".join(f"{split} ({named(numbers)})" for split, numbers in splits.items())
                more = ", or allow it with --shared-speakers" if kind == "the speaker" else ""
                faults.add(f"{kind} {name.splitlines()[-1]!r} is in {shown}: put all into one{more}")
