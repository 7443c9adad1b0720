"""What the page says of the whole table: counts, names and colours as people can read them."""

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
from annotator.labels import colour_of
from annotator.records import MODALITIES, SENTIMENTS

TEXT_CHARACTERS = 2_000  # of one utterance; one with more is shown cut, and not corrected
NAME_CHARACTERS = 120  # of a file or speaker name; longer ones lose their middle
LABEL_CHARACTERS = 40
FACT_CHARACTERS = 20_000  # of the settings or the versions
LISTED_FLAGS = 30  # kinds of quality flags; a run knows fewer

COLOURS = 12  # of the palette in page.css
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
    """What is counted of all recordings."""

    utterances: int
    speakers: int
    conversations: int
    speech_s: float
    emotion: list[Bar]
    sentiment: list[Bar]
    modalities: list[Bar]
    flags: list[Bar]


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
    wanted = [colour_of(label) for label in labels]
    chosen: list[int] = []
    free = [c for c in range(COLOURS) if c not in wanted]
    for place, colour in enumerate(wanted):
        if colour is None or colour in chosen:
            colour = free.pop(0) if free else place % COLOURS
        chosen.append(colour)
    return chosen


def count(table: pl.DataFrame, labels: Sequence[str]) -> tuple[Counts, pl.DataFrame]:
    """Counts of the whole, and a row for each recording in the order of the table, which is sorted by file:
    file, utterances, people, until (s), and how many utterances have each emotion (``emotions``, a list).
    """
    flags = table.select("file", "quality").explode("quality").drop_nulls("quality")
    per_file = table.group_by("file", maintain_order=True).agg(
        pl.len().alias("utterances"),
        pl.col("speaker").n_unique().alias("speakers"),
        pl.col("dialogue_id").n_unique().alias("conversations"),
        (pl.col("end") - pl.col("start")).sum().alias("speech_s"),
        pl.col("end").max().alias("until"),
        *((pl.col("emotion") == x).sum().alias(f"emotion {i}") for i, x in enumerate(labels)),
        *((pl.col("sentiment") == x).sum().alias(f"sentiment {x}") for x in SENTIMENTS),
        *(pl.col(f"has_{m}").sum() for m in MODALITIES),
    )
    whole = per_file.select(pl.exclude("file", "until").sum()).row(0, named=True)
    every = dict(flags.group_by("quality").len().rows())
    styles = [f"k{colour}" for colour in colours(labels)]
    recordings = per_file.select(
        "file",
        "utterances",
        pl.col("speakers").alias("people"),
        pl.col("until").round(2),
        pl.concat_list(f"emotion {i}" for i in range(len(labels))).alias("emotions"),
    )
    return counts(whole, every, labels, styles), recordings


def counts(
    row: dict[str, Any], flags: dict[str, int], labels: Sequence[str], styles: Sequence[str]
) -> Counts:
    """The sums of all recordings as lines of charts."""
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
