"""Subtitles in markup: TTML (``.ttml``, ``.dfxp``; W3C, also its older namespaces) and SAMI (``.smi``).

Read here and not by pysubs2, whose readers of both lose what is wanted: it knows no ``dur``, frames, ticks,
agents (speakers) and older namespaces in TTML; in SAMI it runs the languages together and guesses where a
line ends, which the file tells. Pure.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

from annotator.languages import iso_639_1
from annotator.records import Transcript

from .cues import Cue, bad, plain, unescaped, words_of

_OFFSET = re.compile(r"(\d{1,12}(?:\.\d{1,12})?)(h|m|s|ms|f|t)", re.ASCII)
_CLOCK = re.compile(
    r"(?:(\d{1,6}):)?(\d{1,2}):(\d{1,2})(?:[.,](\d{1,9})|:(\d{1,3})(?:\.\d{1,3})?)?", re.ASCII
)
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_DEEPEST = 100  # elements inside each other
_TIMED = frozenset({"body", "div", "p", "span"})

_SYNC = re.compile(r"<sync\s[^<>]{0,200}?start\s{0,9}=\s{0,9}[\"']?(-?\d{1,12})[^<>]{0,200}>", re.IGNORECASE)
_P = re.compile(r"<p(\s[^<>]{0,500})?>", re.IGNORECASE)
_CLASS = re.compile(r"class\s{0,9}=\s{0,9}[\"']?([\w-]{1,60})", re.IGNORECASE)
_SOURCE = re.compile(r"id\s{0,9}=\s{0,9}[\"']?source", re.IGNORECASE)
_STYLE = re.compile(r"\.([\w-]{1,60})\s{0,99}\{([^{}]{0,500})\}")
_CHARACTER_S = 0.067  # of the last line, whose end no file tells


class _Times:
    """How a TTML file writes times: its frames and ticks a second."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.frames: float | None = None
        self.ticks: float | None = None

    def take(self, root: ElementTree.Element) -> None:
        rates = {_local(key): value for key, value in root.attrib.items()}
        try:
            frames, (over, under) = rates.get("frameRate"), rates.get("frameRateMultiplier", "1 1").split()
            self.frames = float(frames) * float(over) / float(under) if frames else None
            self.ticks = float(rates["tickRate"]) if "tickRate" in rates else self.frames
        except (ValueError, ZeroDivisionError):
            raise bad(self._name, "its frame or tick rate is no number") from None

    def seconds(self, value: str | None) -> float | None:
        """Seconds of a time expression; None for none. Raises: RecordingError for one that is none."""
        if value is None:
            return None
        value = value.strip()
        if match := _OFFSET.fullmatch(value):
            number, unit = float(match[1]), match[2]
            if unit in _UNITS:
                return number * _UNITS[unit]
            rate = self.frames if unit == "f" else self.ticks or 1.0
            return number / self._rate(rate, value)
        if match := _CLOCK.fullmatch(value):
            hours, minutes, seconds, fraction, frames = match.groups()
            whole = int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds) + float(f"0.{fraction or 0}")
            return whole + (int(frames) / self._rate(self.frames, value) if frames else 0.0)
        raise bad(self._name, f"{plain(value[:40])!r} is no time")

    def _rate(self, rate: float | None, value: str) -> float:
        if not rate or not 0 < rate < 1e12:
            raise bad(
                self._name,
                f"{plain(value[:40])!r} counts frames and ttp:frameRate doesn't say how many a second",
            )
        return rate


def parse_ttml(text: str, name: str = "the subtitles") -> Transcript:
    """TTML: paragraphs and spans with times, the agent (``ttm:agent``) as the speaker.

    Times count from their parent's begin, as the standard has it.

    Raises: RecordingError if it is no XML, declares entities, or counts frames without their rate.
    """
    if "<!ENTITY" in text.upper():
        raise bad(name, "it declares entities, which no subtitle needs")
    times, agents = _Times(name), dict[str, str]()
    cues: list[tuple[Cue, str | None]] = []
    stack: list[tuple[float, float | None, str | None]] = [(0.0, None, None)]  # begin, end, agent
    language: str | None = None
    agent_id: str | None = None
    for event, element in _events(text, name):
        tag = _local(element.tag)
        if event == "start":
            if len(stack) == 1 and tag == "tt":
                times.take(element)
                language = iso_639_1(element.get("{http://www.w3.org/XML/1998/namespace}lang"))
            if tag == "agent":
                agent_id = next((v for k, v in element.attrib.items() if _local(k) == "id"), None)
            stack.append(_span(element, stack[-1], times) if tag in _TIMED else stack[-1])
            continue
        begin, end, agent = stack.pop()
        if tag == "name" and agent_id is not None:
            agents[agent_id] = " ".join(plain("".join(element.itertext())).split())
        elif tag == "br":
            element.text = "\x01"  # which no XML can hold
        elif "metadata" in element.tag:
            element.text = None
        elif tag == "p" or (tag == "span" and "begin" in element.attrib):
            parts = "".join(element.itertext()).split("\x01")
            spoken_text = "\n".join(" ".join(part.split()) for part in parts).strip()
            if spoken_text:
                cues.append((Cue(begin, begin if end is None else end, spoken_text), agent))
            tail = element.tail
            element.clear()
            element.tail = tail
        elif tag in ("div", "body"):
            element.clear()
    spoken = [Cue(c.start, c.end, c.text, agents.get(a, a) if a else None) for c, a in cues]
    words, flags = words_of(spoken, name)
    return Transcript(words, "sidecar", language, flags)


def _events(text: str, name: str) -> Iterator[tuple[str, ElementTree.Element]]:
    """Begins and ends of elements. Line ends in the text are spaces: ``<br/>`` makes a line."""
    parser: Any = ElementTree.XMLPullParser(("start", "end"))  # its events are typed as those it could have
    depth = 0
    above = text[: len(text) - len(text.lstrip())].count("\n")
    text = text.lstrip().replace("&nbsp;", "\u00a0")
    try:
        for at in range(0, len(text), 65_536):
            parser.feed(text[at : at + 65_536])
            for event, element in parser.read_events():
                depth += 1 if event == "start" else -1
                if depth > _DEEPEST:
                    raise bad(name, "its elements are nested too deeply")
                yield event, element
        parser.close()
        yield from parser.read_events()
    except ElementTree.ParseError as error:
        raise bad(name, f"line {above + error.position[0]} is no well-formed XML") from None


def _span(
    element: ElementTree.Element, parent: tuple[float, float | None, str | None], times: _Times
) -> tuple[float, float | None, str | None]:
    begin, end, duration = (times.seconds(element.get(key)) for key in ("begin", "end", "dur"))
    start = parent[0] + (begin or 0.0)
    ends = [parent[0] + end] if end is not None else []
    ends += [start + duration] if duration is not None else []
    ends += [parent[1]] if parent[1] is not None else []
    agent = next(
        (v.split()[0] for k, v in element.attrib.items() if _local(k) == "agent" and v.strip()), None
    )
    return start, min(ends, default=None), agent or parent[2]


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def parse_sami(text: str, name: str = "the subtitles", language: str | None = None) -> Transcript:
    """SAMI: of several languages in a file the wanted one, else the one with the most lines.

    Raises: RecordingError if it has no ``<SYNC Start=...>``.
    """
    head, *parts = _SYNC.split(text)
    if not parts:
        raise bad(name, "it has no <SYNC Start=...>")
    showing: dict[str, tuple[float, str, str | None]] = {}
    cues: dict[str, list[Cue]] = {}

    def ends(kind: str, at: float) -> None:
        if kind in showing:
            start, paragraph, speaker = showing.pop(kind)
            cues.setdefault(kind, []).append(Cue(start, at, paragraph, speaker))

    for time, block in zip(parts[::2], parts[1::2], strict=True):
        at = max(0.0, int(time) / 1000)
        speakers: dict[str, str] = {}
        for kind, is_source, paragraph in _paragraphs(block):
            if is_source:
                speakers[kind] = " ".join(paragraph.split())
                continue
            ends(kind, at)
            if paragraph:
                showing[kind] = at, paragraph, speakers.get(kind)
    for kind in list(showing):
        ends(kind, showing[kind][0] + 0.5 + _CHARACTER_S * len(showing[kind][1]))
    codes = {kind.casefold(): iso_639_1(_lang(style)) for kind, style in _STYLE.findall(head[:100_000])}
    sizes = Counter({kind: len(lines) for kind, lines in cues.items()})
    best = max(
        sizes,
        key=lambda kind: (language is not None and codes.get(kind) == language, sizes[kind]),
        default="",
    )
    words, flags = words_of(cues.get(best, []), name)
    return Transcript(words, "sidecar", codes.get(best), flags)


def _paragraphs(block: str) -> Iterator[tuple[str, bool, str]]:
    """Class in small letters, whether it names who speaks, and text of each paragraph of a SYNC."""
    block = re.sub(r"</(?:body|sami|sync|p)\s{0,9}>|-->|<!--", "", block, flags=re.IGNORECASE)
    first, *parts = _P.split(block)
    if not parts:
        parts = ["", first]
    for attributes, content in zip(parts[::2], parts[1::2], strict=True):
        kind = _CLASS.search(attributes or "")
        # A break in the file is white space, <br> a break in the text.
        content = re.sub(r"<br\s{0,9}/?>", "\x02", " ".join(content.split()), flags=re.IGNORECASE)
        content = unescaped(content).replace("\xa0", " ").replace("\x02", "\n")
        yield (kind[1].casefold() if kind else ""), bool(_SOURCE.search(attributes or "")), content.strip()


def _lang(style: str) -> str | None:
    match = re.search(r"lang\s{0,9}:\s{0,9}([\w-]{2,20})", style, re.IGNORECASE)
    return match[1] if match else None
