"""Who speaks, as the lines of subtitles write it.

    >> JOHN: text    >> text           captions for broadcast: a change of speaker
    Name: text       name@host: text   scripts, transcripts of meetings
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
from dataclasses import dataclass

# Words that stand before a colon without being a speaker.
_NOT_NAMES = frozenset(
    "and answer attention but caution chapter conclusion date episode example exercise fact figure finally "
    "first from hint http https i'm important job lesson listen look next no note now ok okay or page part "
    "previously problem ps p.s question re reason remember result rule scene season second section see so "
    "solution step subject subtitles summary synced that the then third this time tip title to today "
    "tomorrow topic translation unit update volume warning well what why yes".split()
)
_PARTICLES = frozenset("al and bin da de del den der di du el la le of the van von y".split())
# What brackets hold when it is no name. Also any word in small letters that ends as a verb does.
_SOUNDS = frozenset(
    "applause applauding audio bang barking barks beep beeping beeps bell bells blank_audio bleep bleeped "
    "breath breathes breathing breaths buzzer cheering cheers chatter chattering chatters chirping chuckle "
    "chuckles chuckling clapping clears click clicks coughing coughs cries crosstalk crowd crying door end "
    "exhales foreign gasp gasps giggles giggling grunting grunts gunshot gunshots groaning groans growls "
    "howling howls humming hums inaudible indistinct inhales instrumental laugh laughing laughs laughter "
    "lacht gelächter musik musique música musica applaus applaudissements rires risas aplausos risate "
    "moaning moans murmuring music musical mumbles mumbling no_speech noise noises overlapping panting pants "
    "pause phone ring ringing rings screaming screams scoffs shouting shouts sigh sighing sighs silence "
    "silent siren sirens singing sings snaps sniffles sniffs snoring sobbing sobs song sound sounds speaking "
    "speech static stammers thunder tires typing unclear unintelligible video wailing whimpers whispering "
    "whispers whistles whistling wind yawns yelling yells instrumentals theme playing plays continues stops "
    "音楽 拍手 笑い 音乐 掌声 笑声 музыка смех аплодисменты".split()
)
_NUMBERED = re.compile(
    r"(?:speaker|spk|spkr|sprecher|s|channel|ch|participant)[ _#-]{0,2}(?:\d{1,4}|[A-Z])", re.I
)

_DASHES = "-‐–—"
_DASH = re.compile(rf"[{_DASHES}]+(?!\d)[ \t]*")
_CHEVRON = re.compile(r"(?:>>+|≫)[ \t]*")
_INNER_CHEVRON = re.compile(r"(?<=[.!?…\"'”’)\]♪,–—-])[ \t]+>>+(?=[ \t])")
_BRACKET = re.compile(
    r"\[([^\[\]\n]{1,60})\][ \t]*[:：]?[ \t]*|[(（]([^()（）\n]{1,60})[)）][ \t]*[:：]?[ \t]*"
    r"|【([^【】\n]{1,60})】[ \t]*[:：]?[ \t]*"
)
_ASIDE = re.compile(r"[ \t]*[(（][^()（）]*[)）][ \t]*$")
# Where a dialogue in one line goes over to the other speaker.
_INNER_DASH = re.compile(
    rf"(?<=[.!?…\"'”’»)\]。！？])[ \t]*[ \t。！？][{_DASHES}]+[ \t]?(?=[^\W\d_]|[\"“«¿¡(\[])"
)
_ANY_INNER_DASH = re.compile(rf"[ \t][{_DASHES}]+[ \t]?(?=[^\W\d_])")
_AROUND = " \t*_@#•·»›«‹"  # signs that stand around a name
_COLON = re.compile("[:：]")
_LETTER = re.compile(r"[^\W\d_]")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a cue: what stands before the text, and the text.

    Args:
        text: without markup; a label in it (``Name: text``) is still there.
        voice: of a WebVTT voice tag.
        bracket: ``[Name]`` or ``(Name)`` at its begin, with the brackets.
        change: ``>>`` stands before it.
        dash: a dash stands before it.
    """

    text: str
    voice: str | None = None
    bracket: str | None = None
    change: bool = False
    dash: bool = False


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
        named = match[0].rstrip().endswith((":", "：")) or inner.rstrip().endswith((":", "："))
        inner = inner.rstrip(" \t:：")
        if named and not _is_sound(inner):
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
        self._names, self._loose = _strict_names(spoken), _common(spoken, _loose)
        brackets = _common(spoken, _bracketed)
        self._brackets = brackets | {
            key: name
            for cue in spoken
            for line in cue
            if line.bracket and _NUMBERED.fullmatch(name := line.bracket[1:-1].strip())
            for key in [name.casefold()]
        }

        self._any = bool(self._names or self._loose or self._brackets)

    def split(self, cue: Sequence[Line]) -> list[Piece]:
        """Who says what in one cue: a new piece at each voice, label, ``>>`` and dash of a dialogue."""
        if len(cue) == 1 and not self._any and cue[0] == Line(cue[0].text):  # as most are
            return [Piece(cue[0].text)] if _says(cue[0].text) else []
        pieces: list[Piece] = []
        parts: list[list[str]] = []

        def begin(text: str, speaker: str | None, change: bool) -> None:
            pieces.append(Piece("", speaker, change))
            parts.append([text])

        for line in cue:
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
            if line.bracket[0] not in "[【" and text and not _is_sound(inner):
                text = f"{line.bracket} {text}"
        if self._names and (found := _prefix(text)) and found[0].casefold() in self._names:
            return self._names[found[0].casefold()], _aside_dropped(found[1])
        if self._loose and (found := _loose(Line(text))) and found[0].casefold() in self._loose:
            return self._loose[found[0].casefold()], _aside_dropped(found[1])
        return None, text

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
    return text[match.end() :] if match and _is_sound(match[1]) else text


def _is_sound(text: str) -> bool:
    """Whether brackets hold a sound or a manner, no name."""
    words = re.findall(r"\w+", text.casefold())
    small = text[:1].islower()
    return any(w in _SOUNDS or (small and len(w) > 4 and w.endswith(("ing", "ly"))) for w in words)


def _prefix(line: str) -> tuple[str, str] | None:
    """Splits ``Name: text`` where the name could be one: four words at most, with capitals or numbers."""
    colon = _colon(line)
    if colon is None:
        return None
    name, text = _ASIDE.sub("", line[:colon]).strip(), line[colon + 1 :]
    if line[colon] == ":" and text and not text[0].isspace():
        return None  # 12:30, https://...
    parts = name.split()
    if not 1 <= len(parts) <= 4 or parts[0].strip(".").casefold() in _NOT_NAMES:
        return None
    for i, part in enumerate(parts):
        if not re.fullmatch(r"#?\w[\w.'’&/#-]*", part):
            return None
        if part[0].islower() and (i == 0 or part not in _PARTICLES):
            return None
    if not any(c.isalpha() for c in name):
        return None
    return name, text.strip()


def _loose(line: Line) -> tuple[str, str] | None:
    """Splits whatever could be a label if it stands before most cues: ``jsmith``, ``a@b.org``, ``A | B``."""
    text = line.text
    colon = _colon(text)
    if colon is None:
        return None
    label, said = _ASIDE.sub("", text[:colon]).strip(_AROUND), text[colon + 1 :]
    if text[colon] == ":" and said and not (said[0].isspace() or _LETTER.match(said)):
        return None
    words = label.split()
    if not 1 <= len(words) <= 8 or words[0].strip(".").casefold() in _NOT_NAMES:
        return None
    if not _LETTER.search(label) or re.search(r"[.!?…]\s|[\"“”<>{}\[\];]", label):
        return None
    return label, said.strip()


def _bracketed(line: Line) -> tuple[str, str] | None:
    """The name in the bracket before a line, unless it is a sound or a whole phrase."""
    if line.bracket is None:
        return None
    inner = line.bracket[1:-1].strip()
    if _is_sound(inner) or len(inner.split()) > 4 or not _LETTER.search(inner):
        return None
    return inner, line.text


def _colon(line: str) -> int | None:
    match = _COLON.search(line, 0, 81)
    return match.start() if match else None


def _common(
    cues: Sequence[Sequence[Line]], label_of: Callable[[Line], tuple[str, str] | None]
) -> dict[str, str]:
    """Labels that come back and together stand before at least half of the cues."""
    first: dict[str, str] = {}
    counts: Counter[str] = Counter()
    heads: Counter[str] = Counter()
    for cue in cues:
        for i, line in enumerate(cue):
            found = label_of(line)
            if found:
                key = found[0].casefold()
                first.setdefault(key, found[0])
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
            if found := _prefix(line.text):
                first.setdefault(found[0].casefold(), found[0])
                counts[found[0].casefold()] += 1
                prefixed += i == 0
    if not first:
        return {}
    upper = lower = 0
    for cue in cues:
        for line in cue:
            found = _prefix(line.text)
            said = found[1] if found else line.text
            upper += sum(map(str.isupper, said))
            lower += sum(map(str.islower, said))
    in_capitals = upper > 2 * lower
    script = len(counts) > 1 and 2 * prefixed >= len(cues)

    def is_name(key: str) -> bool:
        return counts[key] > 1 or script or (first[key].isupper() and not in_capitals)

    return {key: name for key, name in first.items() if is_name(key)}
