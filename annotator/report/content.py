"""What the page says: counts of everything, and as many utterances as a browser can bear."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from annotator import plain_json
from annotator.read import SENTIMENTS
from annotator.records import MODALITIES

FULL_RECORDINGS = 50  # with timeline and transcript
LISTED_RECORDINGS = (
    2_000  # with one line each (fewer where labels are many); others count in the figures only
)
DATA_BYTES = 4 << 20  # of utterances; about 25,000 of them
PAGE_BYTES = 12 << 20  # the whole page stays below, whatever the table holds
TEXT_CHARACTERS = 2_000  # of one utterance
NAME_CHARACTERS = 120  # of a file or speaker name; longer ones lose their middle
LABEL_CHARACTERS = 40
FACT_CHARACTERS = 20_000  # of the settings or the versions
LISTED_FLAGS = 30  # kinds of quality flags; a run knows fewer

# Colours by meaning where a label is known, so that two reports look alike; see page.css for the palette.
COLOURS = 12
COLOUR_OF = {
    **dict.fromkeys(("neutral", "neu"), 0),
    **dict.fromkeys(("joy", "joyful", "happiness", "happy", "hap"), 1),
    **dict.fromkeys(("anger", "angry", "ang", "mad"), 2),
    **dict.fromkeys(("sadness", "sad"), 3),
    **dict.fromkeys(("fear", "scared", "fearful", "fea"), 4),
    **dict.fromkeys(("disgust", "disgusted", "dis", "peaceful", "calm"), 5),
    **dict.fromkeys(("surprise", "surprised", "sur"), 6),
    **dict.fromkeys(("excitement", "excited", "exc", "powerful"), 7),
    **dict.fromkeys(("frustration", "frustrated", "fru"), 8),
}
# Control characters, and the two that turn the direction of what follows (a file's ending, for one).
CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f\u202d\u202e]")


@dataclass(frozen=True)
class Bar:
    """A line of a bar chart: how many utterances, and which share of them."""

    name: str
    style: str  # CSS class that colours it
    count: int
    share: float  # 0-1


@dataclass(frozen=True)
class Counts:
    """What is counted of one recording or of all."""

    utterances: int
    speakers: int
    conversations: int
    speech_s: float
    emotion: list[Bar]
    sentiment: list[Bar]
    modalities: list[Bar]
    flags: list[Bar]

    @property
    def mostly(self) -> str:
        """The most frequent labels in words."""
        found = sorted((b for b in self.emotion if b.count), key=lambda b: -b.count)[:3]
        return "mostly " + ", ".join(f"{b.name} {b.share:.0%}" for b in found)


@dataclass(frozen=True)
class Recording:
    """A recording on the page; ``shown`` of its utterances are in the page's data."""

    name: str
    until_s: float  # end of the last utterance
    counts: Counts
    shown: int = 0


def visible(text: str, limit: int = TEXT_CHARACTERS) -> str:
    """Text as the page shows it: control characters spelled out, single spaces, a long middle cut."""
    text = " ".join(CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text).split())
    if len(text) <= limit:
        return text
    head = limit * 2 // 3
    return f"{text[:head]} … {text[len(text) - (limit - head - 3) :]}"


def duration(seconds: float) -> str:
    """Seconds as people read them.

    >>> duration(4.2), duration(75), duration(7384)
    ('0:04', '1:15', '2:03:04')
    """
    minutes, second = divmod(round(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute}:{second:02}"


def colours(labels: Sequence[str]) -> list[int]:
    """A colour for each label: by its meaning, else the first that is free, else they begin again."""
    wanted = [COLOUR_OF.get(label.lower()) for label in labels]
    chosen: list[int] = []
    free = [c for c in range(COLOURS) if c not in wanted]
    for place, colour in enumerate(wanted):
        if colour is None or colour in chosen:
            colour = free.pop(0) if free else place % COLOURS
        chosen.append(colour)
    return chosen


def listed(labels: Sequence[str]) -> int:
    """How many recordings get a line: a coloured strip takes a place per label."""
    return LISTED_RECORDINGS * 16 // max(len(labels), 16)


def count(table: pl.DataFrame, labels: Sequence[str]) -> tuple[Counts, list[Recording], int]:
    """Counts of the whole, of each recording that is shown or listed, and how many recordings there are.

    Recordings come in the order of the table, which is sorted by file.
    """
    flags = table.select("file", "quality").explode("quality").drop_nulls("quality")
    per_file = table.group_by("file", maintain_order=True).agg(
        pl.len().alias("utterances"),
        pl.col("speaker").n_unique().alias("speakers"),
        pl.col("dialogue_id").n_unique().alias("conversations"),
        (pl.col("end") - pl.col("start")).sum().alias("speech_s"),
        pl.col("end").max().alias("until_s"),
        *((pl.col("emotion") == x).sum().alias(f"emotion {i}") for i, x in enumerate(labels)),
        *((pl.col("sentiment") == x).sum().alias(f"sentiment {x}") for x in SENTIMENTS),
        *(pl.col(f"has_{m}").sum() for m in MODALITIES),
    )
    some = per_file.head(FULL_RECORDINGS + listed(labels))
    flagged: dict[str, dict[str, int]] = {}
    of_some = flags.join(some.select("file"), on="file", how="semi")
    for file, flag, number in of_some.group_by("file", "quality").len().rows():
        flagged.setdefault(file, {})[flag] = number
    styles = [f"k{colour}" for colour in colours(labels)]
    recordings = [
        Recording(
            name=visible(row["file"], NAME_CHARACTERS),
            until_s=row["until_s"],
            counts=counts(row, flagged.get(row["file"], {}), labels, styles),
        )
        for row in some.iter_rows(named=True)
    ]
    whole = per_file.select(pl.exclude("file", "until_s").sum()).row(0, named=True)
    every = dict(flags.group_by("quality").len().rows())
    return counts(whole, every, labels, styles), recordings, len(per_file)


def counts(
    row: dict[str, Any], flags: dict[str, int], labels: Sequence[str], styles: Sequence[str]
) -> Counts:
    """The sums of one recording, or of all, as lines of charts."""
    n = row["utterances"]

    def bar(name: str, style: str, number: int) -> Bar:
        return Bar(name, style, number, number / n if n else 0.0)

    common = sorted(flags.items(), key=lambda item: (-item[1], item[0]))[:LISTED_FLAGS]
    names = [visible(label, LABEL_CHARACTERS) for label in labels]
    return Counts(
        utterances=n,
        speakers=row["speakers"],
        conversations=row["conversations"],
        speech_s=row["speech_s"],
        emotion=[
            bar(name, style, row[f"emotion {i}"])
            for i, (name, style) in enumerate(zip(names, styles, strict=True))
        ],
        sentiment=[bar(x, f"s-{x}", row[f"sentiment {x}"]) for x in SENTIMENTS],
        modalities=[bar(m, "ink", row[f"has_{m}"]) for m in MODALITIES],
        flags=[bar(visible(flag, NAME_CHARACTERS), "ink", number) for flag, number in common],
    )


def encoded(value: Any) -> Markup:
    """JSON that may stand inside a script element whatever texts it holds."""
    return htmlsafe_json_dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def utterances(
    table: pl.DataFrame, recordings: Sequence[Recording], labels: Sequence[str]
) -> list[dict[str, Any]]:
    """The utterances that the page's script draws: of the first recordings, until the bound is reached.

    Each is a list, for brevity: start, end (seconds), speaker, text or null, emotion, its probability (%),
    the probabilities of all labels (%), sentiment, its probability (%), modalities used (bits), flags,
    conversation, plausible emotions, and what each modality says alone (emotion and %, or null). Speakers,
    emotions, sentiments and flags are numbers of places in their lists.
    """
    left = DATA_BYTES
    shown: list[dict[str, Any]] = []
    first = 0
    names = [f"p_{label}" for label in labels]
    for recording in recordings[:FULL_RECORDINGS]:
        rows = table.slice(first, recording.counts.utterances)
        first += recording.counts.utterances
        # Places of speakers (in order of appearance) and flags in the recording's own lists.
        speakers: dict[str, int] = {}
        flags: dict[str, int] = {}
        lines: list[list[Any]] = []
        for row in rows.iter_rows(named=True):
            sentiment = row["sentiment"]
            line = [
                round(row["start"], 2),
                round(row["end"], 2),
                speakers.setdefault(row["speaker"], len(speakers)),
                None if row["text"] is None else visible(row["text"]),
                labels.index(row["emotion"]),
                round(100 * row["confidence"]),
                [round(100 * row[name]) for name in names],
                list(SENTIMENTS).index(sentiment),
                round(100 * row[SENTIMENTS[sentiment]]),
                sum(row[f"has_{m}"] << i for i, m in enumerate(MODALITIES)),
                [flags.setdefault(flag, len(flags)) for flag in row["quality"]],
                row["dialogue_id"],
                [labels.index(label) for label in row["plausible"] or ()],
                [_alone(row, modality, labels) for modality in MODALITIES],
            ]
            # A row pays for its names as if they were always new: simple, and never too little.
            named = [visible(n, NAME_CHARACTERS) for n in (row["speaker"], *row["quality"])]
            left -= len(encoded([line, named]).encode())
            if left < 0:
                break
            lines.append(line)
        if lines:
            shown.append(
                {
                    "file": recording.name,
                    "speakers": [visible(s, NAME_CHARACTERS) for s in speakers],
                    "flags": [visible(f, NAME_CHARACTERS) for f in flags],
                    "until": round(recording.until_s, 2),
                    "rows": lines,
                }
            )
        if left < 0:
            break
    return shown


def _alone(row: dict[str, Any], modality: str, labels: Sequence[str]) -> list[int] | None:
    """What a modality says alone: the place of its emotion, and the probability (%)."""
    emotion, confidence = row[f"{modality}_emotion"], row[f"{modality}_confidence"]
    return None if emotion is None or confidence is None else [labels.index(emotion), round(100 * confidence)]


def readable(facts: dict[str, str]) -> list[tuple[str, str]]:
    """What is known of the run, JSON spread over lines."""
    lines = []
    for name, value in facts.items():
        try:
            tree = plain_json.loads(value)
        except ValueError:
            tree = value
        if isinstance(tree, dict):
            value = "\n".join(f"{visible(key)}: {visible(json.dumps(v))}" for key, v in sorted(tree.items()))
        else:
            value = visible(value)
        lines.append((visible(name, NAME_CHARACTERS), value[:FACT_CHARACTERS]))
    return lines
