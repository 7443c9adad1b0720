"""Who speaks, as the lines of subtitles write it.

    >> JOHN: text    >> text           captions for broadcast: a change of speaker
    Name: text       name@host: text   scripts, transcripts of meetings
    Name - text      Name> text        the same by hand, and logs of chats
    Name             above the text    in a line of its own
    [Name] text      (NAME) text       subtitles with names, recognisers with numbers
    <v Name>text                       WebVTT (the tag became ``\\x02Name\\x03`` before)
    - A - B                            a dialogue of two in one cue

A label looks like a sound (``[music]``), a saying (``Remember: this``) or a heading. What tells them apart is
that labels come back, and stand before most cues. Pure.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from .names import DASHES, Line, above, bracketed, is_sound, loose, prefix, signed

_NUMBERED = re.compile(
    r"(?:speaker|spk|spkr|sprecher|s|channel|ch|participant)[ _#-]{0,2}(?:\d{1,4}|[A-Z])", re.I
)

_DASH = re.compile(rf"[{DASHES}]+(?!\d)[ \t]*")
_CHEVRON = re.compile(r"(?:>>+|≫)[ \t]*")
_INNER_CHEVRON = re.compile(r"(?<=[.!?…\"'”’)\]♪,–—-])[ \t]+>>+(?=[ \t])")
_BRACKET = re.compile(
    r"\[([^\[\]\n]{1,60})\][ \t]*[:：]?[ \t]*|[(（]([^()（）\n]{1,60})[)）][ \t]*[:：]?[ \t]*"
    r"|【([^【】\n]{1,60})】[ \t]*[:：]?[ \t]*"
)
# Where a dialogue in one line goes over to the other speaker.
_INNER_DASH = re.compile(
    rf"(?<=[.!?…\"'”’»)\]。！？])[ \t]*[ \t。！？][{DASHES}]+[ \t]?(?=[^\W\d_]|[\"“«¿¡(\[])"
)
_ANY_INNER_DASH = re.compile(rf"[ \t][{DASHES}]+[ \t]?(?=[^\W\d_])")


@dataclass(frozen=True, slots=True)
class Piece:
    """What one speaker says in a cue. ``change``: the cue marks that it is another than before."""

    text: str
    speaker: str | None = None
    change: bool = False


def lines_of(text: str) -> Iterator[Line]:
    """The lines of a cue, without markup, apart from what stands before them."""
    for raw in text.split("\n"):
        if raw.startswith("\x02"):
            name, _, rest = raw[1:].partition("\x03")
            yield Line(_bare(rest), voice=" ".join(name.split()) or None)
            continue
        first, *others = _INNER_CHEVRON.split(raw) if ">>" in raw else [raw]
        yield from _parsed(first)
        for other in others:
            yield from _parsed(">> " + other)


def _parsed(raw: str) -> Iterator[Line]:
    rest = raw.strip()
    if match := _DASH.match(rest):
        rest, dash = rest[match.end() :], True
    else:
        dash = False
    change = False
    if match := _CHEVRON.match(rest):
        rest, change = rest[match.end() :], True
        if match := _DASH.match(rest):
            rest = rest[match.end() :]
    bracket = None
    if rest[:1] in "[(（【" and rest and (match := _BRACKET.match(rest)):
        inner = match[1] or match[2] or match[3]
        is_label = match[0].rstrip().endswith((":", "：")) or inner.rstrip().endswith((":", "："))
        inner = inner.rstrip(" \t:：")
        if is_label and not is_sound(inner):
            rest = f"{inner}: {rest[match.end() :]}"  # [Name]: is Name:
        elif any(map(str.isalnum, inner)):
            bracket, rest = match[0].rstrip(" \t:："), rest[match.end() :]
    text = _bare(rest)
    if text or bracket or change:
        yield Line(text, None, bracket, change, dash)


def _bare(text: str) -> str:
    """A line without what stands in square brackets, and without white space twice."""
    if "[" not in text and "【" not in text:
        return " ".join(text.split())
    return " ".join(re.sub(r"\[[^\[\]]*\]|【[^【】]*】", " ", text).split())


class Labels:
    """Which labels of a file are speakers."""

    def __init__(self, cues: Sequence[Sequence[Line]]) -> None:
        spoken = [cue for cue in cues if any(line.text or line.bracket for line in cue)]
        self._above = _names_above(spoken)
        self._names, self._loose = _strict_names(spoken), _common(spoken, loose)
        self._signed = _common(spoken, signed)
        brackets = _common(spoken, bracketed)
        self._brackets = brackets | {
            key: name
            for cue in spoken
            for line in cue
            if line.bracket and _NUMBERED.fullmatch(name := line.bracket[1:-1].strip())
            for key in [name.casefold()]
        }

        self._any = bool(self._names or self._loose or self._signed or self._brackets)

    def split(self, cue: Sequence[Line]) -> list[Piece]:
        """Who says what in one cue: a new piece at each voice, label, ``>>`` and dash of a dialogue."""
        if len(cue) == 1 and not self._any and cue[0] == Line(cue[0].text):  # as most are
            return [Piece(cue[0].text)] if _says(cue[0].text) else []
        pieces: list[Piece] = []
        parts: list[list[str]] = []

        def begin(text: str, speaker: str | None, change: bool) -> None:
            pieces.append(Piece("", speaker, change))
            parts.append([text])

        for line in self._without_names_above(cue):
            speaker, text = self._speaker(line)
            first, *others = self._dialogue(text) if line.dash else [text]
            if speaker is not None or line.voice is not None or line.change or line.dash or not pieces:
                began = any(_says(" ".join(p)) for p in parts)
                begin(first, speaker, line.change or (line.dash and began))
            else:
                parts[-1].append(first)
            for other in others:
                speaker, text = self._speaker(Line(other))
                begin(text, speaker, True)
        dialogue = bool(cue) and cue[0].dash and any(piece.change for piece in pieces)
        out = []
        for i, (piece, texts) in enumerate(zip(pieces, parts, strict=True)):
            text = " ".join(texts).strip()
            if _says(text):
                out.append(Piece(text, piece.speaker, piece.change or (dialogue and i == 0)))
        return out

    def _speaker(self, line: Line) -> tuple[str | None, str]:
        """The speaker that a line names, and the line without the label."""
        if line.voice is not None:
            return line.voice, line.text
        text = line.text
        if line.bracket is not None:
            inner = line.bracket[1:-1].strip()
            if (name := self._brackets.get(inner.casefold())) is not None:
                return name, text
            # Square brackets hold no speech, round ones may; alone in its line neither does.
            if line.bracket[0] not in "[【" and text and not is_sound(inner):
                text = f"{line.bracket} {text}"
        if self._names and (parts := prefix(text)) and parts[0].casefold() in self._names:
            return self._names[parts[0].casefold()], _aside_dropped(parts[1])
        if self._loose and (parts := loose(Line(text))) and parts[0].casefold() in self._loose:
            return self._loose[parts[0].casefold()], _aside_dropped(parts[1])
        if self._signed and (parts := signed(line)) and parts[0].casefold() in self._signed:
            return self._signed[parts[0].casefold()], _aside_dropped(parts[1])
        return None, text

    def _without_names_above(self, cue: Sequence[Line]) -> Iterator[Line]:
        """The lines of a cue, without those that name who says the next, which has the name as its voice."""
        names = above(cue) if self._above else {}
        for i, line in enumerate(cue):
            if names.get(i, "").casefold() in self._above:
                continue
            name = self._above.get(names.get(i - 1, "").casefold())
            yield line if name is None else replace(line, voice=name, change=line.change or cue[i - 1].change)

    @staticmethod
    def _dialogue(text: str) -> list[str]:
        """The turns in a line that began with a dash: ``A - B`` has two."""
        parts = _INNER_DASH.split(text)
        if len(parts) == 1:
            inner = [m for m in _ANY_INNER_DASH.finditer(text) if text[m.end()].isupper()]
            if len(inner) == 1 and not re.match(r"I\b", text[inner[0].end() :]):
                parts = [text[: inner[0].start()], text[inner[0].end() :]]
        return parts


def _says(text: str) -> bool:
    """Whether there is a word in it that is no description in round brackets."""
    if not any(map(str.isalnum, text)):
        return False
    return text[0] not in "(（" or not re.fullmatch(r"[(（][^()（）]*[)）][ \t.,!?]*", text)


def _aside_dropped(text: str) -> str:
    """``(whispers) I know``: how something is said, behind a label, is no speech."""
    match = re.match(r"[ \t]*[(（]([^()（）]{1,60})[)）][ \t]*", text)
    return text[match.end() :] if match and is_sound(match[1]) else text


def _names_above(cues: Sequence[Sequence[Line]]) -> dict[str, str]:
    """Names in lines of their own that come back and stand above at least half of the cues.

    A line that is as often said at the end of a cue is none: a refrain, a line that goes on below.
    """
    first: dict[str, str] = {}
    counts: Counter[str] = Counter()
    heads: Counter[str] = Counter()
    last: Counter[str] = Counter()
    for cue in cues:
        last[cue[-1].text.casefold()] += 1
        for i, name in above(cue).items():
            key = name.casefold()
            first.setdefault(key, name)
            counts[key] += 1
            heads[key] += i == 0
    names = {key: name for key, name in first.items() if counts[key] > 1 and counts[key] > 2 * last[key]}
    return names if names and 2 * sum(heads[key] for key in names) >= len(cues) else {}


def _common(
    cues: Sequence[Sequence[Line]], label_of: Callable[[Line], tuple[str, str] | None]
) -> dict[str, str]:
    """Labels that come back and together stand before at least half of the cues."""
    first: dict[str, str] = {}
    counts: Counter[str] = Counter()
    heads: Counter[str] = Counter()
    for cue in cues:
        for i, line in enumerate(cue):
            parts = label_of(line)
            if parts:
                key = parts[0].casefold()
                first.setdefault(key, parts[0])
                counts[key] += 1
                heads[key] += i == 0
    names = {key: name for key, name in first.items() if counts[key] > 1}
    if not names or 2 * sum(heads[key] for key in names) < len(cues):
        return {}
    return names


def _strict_names(cues: Sequence[Sequence[Line]]) -> dict[str, str]:
    """Which prefixes of a file are speakers: case-folded form to the name as first written.

    One in capitals is, unless the whole file is in capitals. Any other has to come back in a second
    line, or the file has to be a script: at least half of its cues begin with one of several names.
    """
    first: dict[str, str] = {}
    counts: Counter[str] = Counter()
    prefixed = 0
    for cue in cues:
        for i, line in enumerate(cue):
            if parts := prefix(line.text):
                first.setdefault(parts[0].casefold(), parts[0])
                counts[parts[0].casefold()] += 1
                prefixed += i == 0
    if not first:
        return {}
    upper = lower = 0
    for cue in cues:
        for line in cue:
            parts = prefix(line.text)
            spoken = parts[1] if parts else line.text
            upper += sum(map(str.isupper, spoken))
            lower += sum(map(str.islower, spoken))
    in_capitals = upper > 2 * lower
    script = len(counts) > 1 and 2 * prefixed >= len(cues)

    def is_name(key: str) -> bool:
        return counts[key] > 1 or script or (first[key].isupper() and not in_capitals)

    return {key: name for key, name in first.items() if is_name(key)}
