"""Files that lay a recording out in time: RTTM (NIST), Praat's TextGrid, ELAN's EAF 3.0."""

from __future__ import annotations

import logging
import mimetypes
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import polars as pl

log = logging.getLogger("annotator")

_INSTANCE = "http://www.w3.org/2001/XMLSchema-instance"
_SCHEMA = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"


def speakers(rows: pl.DataFrame) -> list[str]:
    """In order of appearance."""
    names: list[str] = rows["speaker"].unique(maintain_order=True).to_list()
    return names


def rttm(rows: pl.DataFrame, file: str, duration_s: float | None) -> str:
    """One SPEAKER line an utterance; spaces in names become underscores, since they part the fields."""

    def field(name: str) -> str:
        return re.sub(r"\s+", "_", name) or "_"

    stem = field(re.sub(r"\.[^./]*$", "", file))
    lines = []
    for row in rows.iter_rows(named=True):
        when = f"{row['start']:.3f} {row['end'] - row['start']:.3f}"
        lines.append(f"SPEAKER {stem} 1 {when} <NA> <NA> {field(row['speaker'])} <NA> <NA>\n")
    return "".join(lines)


def apart(rows: pl.DataFrame, file: str, least_s: float) -> Iterator[tuple[float, float, dict[str, Any]]]:
    """One speaker's rows without overlap: what begins before the last one has ended begins at that end.

    Args:
        least_s: when less than this is left of an utterance, it is left out, and that is told.
    """
    at, lost = 0.0, 0
    for row in rows.iter_rows(named=True):
        first, last = max(row["start"], at), row["end"]
        if last - first < least_s:
            lost += 1
            continue
        yield first, last, row
        at = last
    if lost:
        log.warning(
            "%s: left out, since they lie within others of the same speaker: %d utterances", file, lost
        )


def words_within(
    stretches: Iterable[tuple[float, float, dict[str, Any]]], least_s: float
) -> Iterator[tuple[float, float, dict[str, Any]]]:
    """The words of utterances, one after the other as ``apart`` gives utterances; none without times.

    Args:
        least_s: a word shorter than this, once it begins after the one before, is left out.
    """
    for first, last, row in stretches:
        at = first
        for word in row["words"] or ():
            start, end = max(at, word["start"]), min(last, word["end"])
            if end - start >= least_s:
                yield start, end, {"word": word["text"]}
                at = end


def textgrid(rows: pl.DataFrame, file: str, duration_s: float | None) -> str:
    """Praat's long text format: for each speaker a tier of texts, one of emotions, and one of single words
    where the table has their times.

    A tier's intervals follow each other without gap or overlap: silence is an empty interval, and an
    utterance that begins before the speaker's last one has ended begins at that end.
    """
    end = max(0.001, duration_s or 0.0, *rows["end"].to_list())
    tiers = []
    for speaker in speakers(rows):
        speaker_rows = rows.filter(pl.col("speaker") == speaker)
        stretches = list(apart(speaker_rows, file, 1e-6))
        for column in ("text", "emotion"):
            tiers.append(_tier(f"{speaker} {column}", stretches, column, end))
        if words := list(words_within(stretches, 1e-6)):
            tiers.append(_tier(f"{speaker} words", words, "word", end))
    head = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {end:.6f}"]
    body = [f"    item [{number}]:\n{tier}" for number, tier in enumerate(tiers, 1)]
    return "\n".join([*head, "tiers? <exists>", f"size = {len(tiers)}", "item []:", *body]) + "\n"


def _tier(name: str, rows: Sequence[tuple[float, float, dict[str, Any]]], column: str, end: float) -> str:
    intervals: list[tuple[float, float, str]] = []
    at = 0.0
    for first, last, row in rows:
        if first > at:
            intervals.append((at, first, ""))
        intervals.append((first, last, row[column] or ""))
        at = last
    if end > at:
        intervals.append((at, end, ""))
    lines = [
        '        class = "IntervalTier"',
        f"        name = {_quoted(name)}",
        "        xmin = 0",
        f"        xmax = {end:.6f}",
        f"        intervals: size = {len(intervals)}",
    ]
    for number, (first, last, text) in enumerate(intervals, 1):
        lines += [
            f"        intervals [{number}]:",
            f"            xmin = {first:.6f}",
            f"            xmax = {last:.6f}",
            f"            text = {_quoted(text)}",
        ]
    return "\n".join(lines)


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def eaf(rows: pl.DataFrame, file: str, duration_s: float | None) -> str:
    """ELAN: a tier of texts for each speaker; below it the emotions and sentiments of the same stretches, and
    single words where the table has their times.

    Written as ELAN does it, since not every program that reads EAF knows what else XML allows: the place of
    the schema, empty elements without a space, time slots in order, and no overlap in a tier.
    """
    ElementTree.register_namespace("xsi", _INSTANCE)
    document = ElementTree.Element(
        "ANNOTATION_DOCUMENT",
        {
            "AUTHOR": "conversation-annotator",
            "DATE": "1970-01-01T00:00:00+00:00",
            "FORMAT": "3.0",
            "VERSION": "3.0",
            f"{{{_INSTANCE}}}noNamespaceSchemaLocation": _SCHEMA,
        },
    )

    def add(parent: ElementTree.Element, tag: str, **facts: str) -> ElementTree.Element:
        return ElementTree.SubElement(parent, tag, facts)

    header = add(document, "HEADER", MEDIA_FILE="", TIME_UNITS="milliseconds")
    # ELAN asks where the recording is when the relative path doesn't lead there.
    kind = mimetypes.guess_type(file)[0] or "unknown"
    kind = "audio/x-wav" if kind in ("audio/wav", "audio/vnd.wave") else kind
    url = _clean(file)
    add(header, "MEDIA_DESCRIPTOR", MEDIA_URL=url, MIME_TYPE=kind, RELATIVE_MEDIA_URL=f"./{url}")
    order = add(document, "TIME_ORDER")
    ends: list[tuple[int, ElementTree.Element, str]] = []  # milliseconds, and what begins or ends then
    count = 0
    for speaker in speakers(rows):
        name = _clean(speaker)
        words = add(document, "TIER", LINGUISTIC_TYPE_REF="utterance", PARTICIPANT=name, TIER_ID=name)
        of_label = {"LINGUISTIC_TYPE_REF": "label", "PARENT_REF": name, "PARTICIPANT": name}
        below = {
            c: add(document, "TIER", **of_label, TIER_ID=f"{name} {c}") for c in ("emotion", "sentiment")
        }
        stretches = list(apart(rows.filter(pl.col("speaker") == speaker), file, 0.0015))
        for first, last, row in stretches:
            count += 1
            identifier = f"a{count}"
            aligned = add(add(words, "ANNOTATION"), "ALIGNABLE_ANNOTATION", ANNOTATION_ID=identifier)
            ends.append((round(first * 1000), aligned, "TIME_SLOT_REF1"))
            ends.append((round(last * 1000), aligned, "TIME_SLOT_REF2"))
            add(aligned, "ANNOTATION_VALUE").text = _clean(row["text"] or "")
            for column, tier in below.items():
                count += 1
                place = {"ANNOTATION_ID": f"a{count}", "ANNOTATION_REF": identifier}
                label = add(add(tier, "ANNOTATION"), "REF_ANNOTATION", **place)
                add(label, "ANNOTATION_VALUE").text = _clean(row[column])
        if single := list(words_within(stretches, 0.0015)):
            of_words = {"LINGUISTIC_TYPE_REF": "word", "PARENT_REF": name, "PARTICIPANT": name}
            tier = add(document, "TIER", **of_words, TIER_ID=f"{name} words")
            for first, last, word in single:
                count += 1
                aligned = add(add(tier, "ANNOTATION"), "ALIGNABLE_ANNOTATION", ANNOTATION_ID=f"a{count}")
                ends.append((round(first * 1000), aligned, "TIME_SLOT_REF1"))
                ends.append((round(last * 1000), aligned, "TIME_SLOT_REF2"))
                add(aligned, "ANNOTATION_VALUE").text = _clean(word["word"])
    for number, (time_ms, annotation, end) in enumerate(sorted(ends, key=lambda one: one[0]), 1):
        add(order, "TIME_SLOT", TIME_SLOT_ID=f"ts{number}", TIME_VALUE=str(time_ms))
        annotation.set(end, f"ts{number}")
    add(header, "PROPERTY", NAME="lastUsedAnnotationId").text = str(count)
    plain = {"GRAPHIC_REFERENCES": "false"}
    add(document, "LINGUISTIC_TYPE", **plain, LINGUISTIC_TYPE_ID="utterance", TIME_ALIGNABLE="true")
    below_it = {"CONSTRAINTS": "Symbolic_Association", **plain}
    add(document, "LINGUISTIC_TYPE", **below_it, LINGUISTIC_TYPE_ID="label", TIME_ALIGNABLE="false")
    within = {"CONSTRAINTS": "Included_In", **plain}
    add(document, "LINGUISTIC_TYPE", **within, LINGUISTIC_TYPE_ID="word", TIME_ALIGNABLE="true")
    what = "Time alignable annotations within the parent annotation's time interval, gaps are allowed"
    add(document, "CONSTRAINT", DESCRIPTION=what, STEREOTYPE="Included_In")
    what = "1-1 association with a parent annotation"
    add(document, "CONSTRAINT", DESCRIPTION=what, STEREOTYPE="Symbolic_Association")
    ElementTree.indent(document, "    ")
    # A ">" of a text or an attribute is escaped, so this is always the end of an element.
    body = ElementTree.tostring(document, encoding="unicode").replace(" />", "/>")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}\n'


def _clean(text: str) -> str:
    """Without the control characters that XML can't hold."""
    return re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)
