"""The utterances as the page's script takes them: JSON of each recording, and parts that hold many."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import polars as pl
from markupsafe import Markup

from annotator.bounds import LATEST_S
from annotator.read import BESIDE
from annotator.records import MODALITIES, SENTIMENT_COLUMNS, SENTIMENTS
from annotator.report.content import NAME_CHARACTERS, TEXT_CHARACTERS, encoded, visible

Word = dict[str, Any]


def recordings(table: pl.DataFrame, sizes: Sequence[int], labels: Sequence[str]) -> Iterator[Markup]:
    """The utterances of each recording as a JSON object, in the order of the table.

    ``speakers`` and ``flags`` are lists of names as they are shown; ``raw`` has the speakers' own names where
    these differ, by place. An utterance in ``rows`` is a list, for brevity: start, end (seconds), speaker,
    text or null, emotion, its probability (%), the probabilities of all labels (%), sentiment, its
    probability (%), modalities used (bits), flags, conversation, plausible emotions, what each modality says
    alone (emotion and %, or null), and where there are any: words (see :func:`placed`), and the text's own
    characters where it is shown with others (null where it is shown cut). Speakers, emotions, sentiments and
    flags are numbers of places in their lists.

    Args:
        sizes: how many rows each recording has.
    """
    of_label = {label: place for place, label in enumerate(labels)}
    of_sentiment = {sentiment: place for place, sentiment in enumerate(SENTIMENTS)}
    shares = table.select((pl.col(f"p_{label}") * 100).round().cast(pl.Int64) for label in labels)
    shown = table.drop(*BESIDE, *(f"p_{label}" for label in labels), strict=False)
    every = zip(shown.iter_rows(named=True), shares.iter_rows(), strict=True)
    for size in sizes:
        # Places of speakers (in order of appearance) and flags in the recording's own lists.
        speakers: dict[str, int] = {}
        flags: dict[str, int] = {}
        lines = []
        for row, probabilities in islice(every, size):
            text = None if row["text"] is None else visible(row["text"])
            line: list[Any] = [
                round(row["start"], 3),
                round(row["end"], 3),
                speakers.setdefault(row["speaker"], len(speakers)),
                text,
                of_label[row["emotion"]],
                round(100 * row["confidence"]),
                probabilities,
                of_sentiment[row["sentiment"]],
                round(100 * row[SENTIMENT_COLUMNS[row["sentiment"]]]),
                sum(row[f"has_{m}"] << i for i, m in enumerate(MODALITIES)),
                [flags.setdefault(flag, len(flags)) for flag in row["quality"]],
                row["dialogue_id"],
                [of_label[label] for label in row["plausible"] or ()],
                [_alone(row, modality, of_label) for modality in MODALITIES],
            ]
            words = placed(text, row["words"], row["start"]) if text and row["words"] else None
            if text != row["text"]:
                line += [words, row["text"] if len(row["text"]) <= TEXT_CHARACTERS else None]
            elif words is not None:
                line.append(words)
            lines.append(line)
        names = [visible(s, NAME_CHARACTERS) for s in speakers]
        raw = {place: name for place, name in enumerate(speakers) if name != names[place]}
        yield encoded(
            {
                "speakers": names,
                **({"raw": raw} if raw else {}),
                "flags": [visible(f, NAME_CHARACTERS) for f in flags],
                "rows": lines,
            }
        )


def placed(text: str, words: Sequence[Word], start: float) -> list[int] | None:
    """Where and when each word is: five whole numbers a word, one after the other.

    They are its place in ``text`` and its length (characters as JavaScript counts them), start and end
    (hundredths of a second after ``start``), and confidence (%, -1 where it is unknown). None where a word
    isn't in the text, or has no time.
    """
    wide = not text.isascii() and max(text) > "\uffff"  # characters that JavaScript counts twice
    found: list[int] = []
    reached = 0
    for word in words:
        said = " ".join((word["text"] or "").split())
        if not said:
            continue
        place = text.find(said, reached)
        if place < 0 or not (0 <= (word["start"] or 0.0) <= (word["end"] or 0.0) < LATEST_S):
            return None
        reached = place + len(said)
        confidence = word["confidence"]
        found += (
            _units(text[:place]) if wide else place,
            _units(said) if wide else len(said),
            round(100 * (word["start"] - start)),
            round(100 * (word["end"] - start)),
            round(100 * confidence) if confidence is not None and 0 <= confidence <= 1 else -1,
        )
    return found or None


def _units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def _alone(row: dict[str, Any], modality: str, of_label: dict[str, int]) -> list[int] | None:
    """What a modality says alone: the place of its emotion, and the probability (%)."""
    emotion, confidence = row[f"{modality}_emotion"], row[f"{modality}_confidence"]
    return None if emotion is None or confidence is None else [of_label[emotion], round(100 * confidence)]


def in_parts(recordings: Iterable[Markup], most: int, most_bytes: int) -> list[tuple[int, Markup]]:
    """Neighbouring recordings together, as many as fit, one at least: the first's number, and their JSON.

    Args:
        most: recordings in a part.
        most_bytes: of a part, about.
    """
    parts: list[tuple[int, Markup]] = []
    waiting: list[Markup] = []
    first, size = 0, 0

    def close() -> None:
        bodies = Markup(",").join(waiting)
        parts.append((first, Markup(f'{{"first":{first},"bodies":[{bodies}]}}')))

    for place, body in enumerate(recordings):
        if waiting and (len(waiting) == most or size + len(body) > most_bytes):
            close()
            waiting, first, size = [], place, 0
        waiting.append(body)
        size += len(body)
    if waiting:
        close()
    return parts
