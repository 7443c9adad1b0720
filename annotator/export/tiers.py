"""Files that lay a recording out in time: RTTM (NIST), Praat's TextGrid, ELAN's EAF 3.0."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import polars as pl


def speakers(rows: pl.DataFrame) -> list[str]:
    """In order of appearance."""
    names: list[str] = rows["speaker"].unique(maintain_order=True).to_list()
    return names


def rttm(rows: pl.DataFrame, file: str) -> str:
    """One SPEAKER line an utterance; spaces in names become underscores, since they part the fields."""

    def field(name: str) -> str:
        return re.sub(r"\s+", "_", name) or "_"

    stem = field(re.sub(r"\.[^./]*$", "", file))
    lines = []
    for row in rows.iter_rows(named=True):
        when = f"{row['start']:.3f} {row['end'] - row['start']:.3f}"
        lines.append(f"SPEAKER {stem} 1 {when} <NA> <NA> {field(row['speaker'])} <NA> <NA>\n")
    return "".join(lines)


def textgrid(rows: pl.DataFrame, file: str) -> str:
    """Praat's long text format: for each speaker a tier of words and one of emotions.

    A tier's intervals follow each other without gap or overlap: silence is an empty interval, and an
    utterance that begins before the speaker's last one has ended begins at that end.
    """
    end = max(0.001, *rows["end"].to_list())
    tiers = []
    for speaker in speakers(rows):
        own = rows.filter(pl.col("speaker") == speaker)
        for column in ("text", "emotion"):
            tiers.append(_tier(f"{speaker} {column}", own, column, end))
    head = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {end:.6f}"]
    body = [f"    item [{number}]:\n{tier}" for number, tier in enumerate(tiers, 1)]
    return "\n".join([*head, "tiers? <exists>", f"size = {len(tiers)}", "item []:", *body]) + "\n"


def _tier(name: str, rows: pl.DataFrame, column: str, end: float) -> str:
    intervals: list[tuple[float, float, str]] = []
    at = 0.0
    for row in rows.iter_rows(named=True):
        first, last = max(row["start"], at), row["end"]
        if last - first < 1e-6:
            continue
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


def eaf(rows: pl.DataFrame, file: str) -> str:
    """ELAN: a tier of words for each speaker; below it the emotions and sentiments of the same stretches."""
    document = ElementTree.Element(
        "ANNOTATION_DOCUMENT",
        {
            "AUTHOR": "conversation-annotator",
            "DATE": "1970-01-01T00:00:00+00:00",
            "FORMAT": "3.0",
            "VERSION": "3.0",
        },
    )
    header = ElementTree.SubElement(document, "HEADER", {"MEDIA_FILE": "", "TIME_UNITS": "milliseconds"})
    # ELAN asks where the recording is when the relative path doesn't lead there.
    kind = "audio/x-wav" if file.lower().endswith(".wav") else "video/mp4"
    ElementTree.SubElement(
        header,
        "MEDIA_DESCRIPTOR",
        {"MEDIA_URL": _clean(file), "RELATIVE_MEDIA_URL": _clean(file), "MIME_TYPE": kind},
    )
    order = ElementTree.SubElement(document, "TIME_ORDER")
    slots: list[str] = []
    ids = iter(range(1, 3 * len(rows) + 1))

    def slot(seconds: float) -> str:
        slots.append(f"ts{len(slots) + 1}")
        value = str(round(seconds * 1000))
        ElementTree.SubElement(order, "TIME_SLOT", {"TIME_SLOT_ID": slots[-1], "TIME_VALUE": value})
        return slots[-1]

    for speaker in speakers(rows):
        name = _clean(speaker)
        words = ElementTree.SubElement(
            document, "TIER", {"TIER_ID": name, "LINGUISTIC_TYPE_REF": "utterance", "PARTICIPANT": name}
        )
        below = {
            column: ElementTree.SubElement(
                document,
                "TIER",
                {
                    "TIER_ID": f"{name} {column}",
                    "LINGUISTIC_TYPE_REF": "label",
                    "PARENT_REF": name,
                    "PARTICIPANT": name,
                },
            )
            for column in ("emotion", "sentiment")
        }
        for row in rows.filter(pl.col("speaker") == speaker).iter_rows(named=True):
            own = f"a{next(ids)}"
            aligned = ElementTree.SubElement(
                ElementTree.SubElement(words, "ANNOTATION"),
                "ALIGNABLE_ANNOTATION",
                {
                    "ANNOTATION_ID": own,
                    "TIME_SLOT_REF1": slot(row["start"]),
                    "TIME_SLOT_REF2": slot(row["end"]),
                },
            )
            ElementTree.SubElement(aligned, "ANNOTATION_VALUE").text = _clean(row["text"] or "")
            for column, tier in below.items():
                label = ElementTree.SubElement(
                    ElementTree.SubElement(tier, "ANNOTATION"),
                    "REF_ANNOTATION",
                    {"ANNOTATION_ID": f"a{next(ids)}", "ANNOTATION_REF": own},
                )
                ElementTree.SubElement(label, "ANNOTATION_VALUE").text = _clean(row[column])
    for name, facts in (
        ("utterance", {"TIME_ALIGNABLE": "true"}),
        ("label", {"TIME_ALIGNABLE": "false", "CONSTRAINTS": "Symbolic_Association"}),
    ):
        ElementTree.SubElement(
            document, "LINGUISTIC_TYPE", {"LINGUISTIC_TYPE_ID": name, "GRAPHIC_REFERENCES": "false", **facts}
        )
    ElementTree.SubElement(
        document,
        "CONSTRAINT",
        {
            "STEREOTYPE": "Symbolic_Association",
            "DESCRIPTION": "1-1 association with a parent annotation",
        },
    )
    ElementTree.indent(document)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(document, encoding="unicode") + "\n"
    )


def _clean(text: str) -> str:
    """Without the control characters that XML can't hold."""
    return re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)
