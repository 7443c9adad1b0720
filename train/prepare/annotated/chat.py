"""CHAT transcripts (MacWhinney, The CHILDES Project: CHAT manual): lines with times, labels below them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from annotator.records import UsageError
from train.prepare.annotated.layout import AnnotatedUtterance, Names, text_of

_TIMES = re.compile(r"\x15(\d{1,12})_(\d{1,12})\x15")
_SPOKEN = re.compile(
    r"\x15[^\x15]*\x15"  # times
    r"|\[[^\[\]]*\]"  # corrections, explanations, overlaps
    r"|(?<!\S)(?:&\S*|\+\S*|0\S*|xxx|yyy|www)(?!\S)"  # sounds, interruptions, what was left out or not heard
    r"|\(\.+\)|\(\d[\d.:]*\)|[<>‡„↑↓⌈⌉⌊⌋∙∬≋]"  # pauses, scopes and intonation
)


def read_chat(raw: bytes, stem: str, names: Names) -> list[AnnotatedUtterance]:
    """Utterances of a ``.cha`` file: those with times, labelled by a dependent tier such as ``%xemo``.

    Raises:
        UsageError: it is no CHAT file, or its lines have no times.
    """
    text = text_of(raw)
    recording = stem
    people: dict[str, str] = {}
    utterances: list[AnnotatedUtterance] = []
    timed: list[AnnotatedUtterance] = []  # of the last line of a speaker
    line_count, begun = 0, False
    for name, value in _lines(text):
        if name.lower() == "@begin":
            begun = True
        elif name.lower() == "@media":
            recording = value.split(",")[0].strip() or stem
        elif name.lower() == "@participants":
            people = _people(value)
        elif name.startswith("*"):
            line_count += 1
            timed = _main(recording, people.get(name[1:], name[1:]), value)
            utterances += timed
        elif name.startswith("%") and timed:
            utterances[-1] = _dependent(utterances[-1], name[1:], value, names)
    if not begun and not line_count:
        raise UsageError("it is no CHAT file: it has neither @Begin nor a line of a speaker.")
    if line_count and not utterances:
        raise UsageError("its lines have no times (bullets): link them to the recording in CLAN first.")
    return utterances


def _lines(text: str) -> Iterator[tuple[str, str]]:
    """Name and content of each line; what is indented continues the one before."""
    name, content = "", ""
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        if line.startswith(("\t", " ")) and name:
            content += " " + line.strip()
            continue
        if name:
            yield name, content
        name, _, content = line.partition(":")
        name, content = name.strip(), content.strip()
        if not name.startswith(("@", "*", "%")):
            name = ""
    if name:
        yield name, content


def _people(value: str) -> dict[str, str]:
    """``CHI Ruth Target_Child, MOT Mother`` as names by code; who has no name goes by the code."""
    name_by_code = {}
    for person in value.split(","):
        code, *rest = person.split()[:3] or [""]
        name_by_code[code] = rest[0].replace("_", " ") if len(rest) == 2 else code
    return name_by_code


def _main(recording: str, speaker: str, value: str) -> list[AnnotatedUtterance]:
    times = _TIMES.findall(value)
    if not times:
        return []
    spoken = _SPOKEN.sub(" ", value)
    spoken = re.sub(r"[()]", "", spoken)  # (be)cause
    spoken = re.sub(r"(?<=\w)@\w+(?::\w+)?", "", spoken)  # forms such as woof@o
    spoken = re.sub(r"\s+(?=[.,?!;:](?:\s|$))", "", " ".join(spoken.split()))
    words = spoken if re.search(r"\w", spoken) else None
    start, end = int(times[0][0]) / 1000, int(times[-1][1]) / 1000
    return [AnnotatedUtterance(recording, start, end, speaker or None, text=words)]


def _dependent(utterance: AnnotatedUtterance, name: str, value: str, names: Names) -> AnnotatedUtterance:
    meaning = names.meaning(name) or names.meaning(name.removeprefix("x"))
    plain = _TIMES.sub("", value).strip()
    if meaning == "label" and plain:
        return replace(utterance, label=plain.rstrip(" ."))
    return replace(utterance, sentiment=plain.rstrip(" .")) if meaning == "sentiment" and plain else utterance
