"""What could be a label before a line of a cue: ``Name: text``, ``Name - text``, ``[Name] text``.

Whether it is one, the rest of the file tells (``labels.py``). Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

DASHES = "-‐–—"
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
_ASIDE = re.compile(r"[ \t]*[(（][^()（）]*[)）][ \t]*$")
_AROUND = " \t*_@#•·»›«‹"  # signs that stand around a name
_COLON = re.compile("[:：]")
_SIGN = re.compile(rf"[ \t][{DASHES}]{{1,2}}[ \t]|>(?!>)")  # ends a label, in the place of a colon
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


def is_sound(text: str) -> bool:
    """Whether brackets hold a sound or a manner, no name."""
    words = re.findall(r"\w+", text.casefold())
    small = text[:1].islower()
    return any(w in _SOUNDS or (small and len(w) > 4 and w.endswith(("ing", "ly"))) for w in words)


def prefix(line: str) -> tuple[str, str] | None:
    """Splits ``Name: text`` where the name could be one: four words at most, with capitals or numbers."""
    colon = _colon(line)
    if colon is None:
        return None
    name, text = _name(line[:colon]), line[colon + 1 :]
    if name is None or (line[colon] == ":" and text and not text[0].isspace()):
        return None  # 12:30, https://...
    return name, text.strip()


def _name(text: str) -> str | None:
    """A text as the name that it could be, without an aside; None if it could be none."""
    name = _ASIDE.sub("", text).strip()
    parts = name.split()
    if not 1 <= len(parts) <= 4 or parts[0].strip(".").casefold() in _NOT_NAMES:
        return None
    for i, part in enumerate(parts):
        if not re.fullmatch(r"#?\w[\w.'’&/#-]*", part):
            return None
        if part[0].islower() and (i == 0 or part not in _PARTICLES):
            return None
    return name if any(c.isalpha() for c in name) else None


def loose(line: Line) -> tuple[str, str] | None:
    """Splits whatever could be a label if it stands before most cues: ``jsmith``, ``a@b.org``, ``A | B``."""
    text = line.text
    colon = _colon(text)
    if colon is None:
        return None
    label, rest = _ASIDE.sub("", text[:colon]).strip(_AROUND), text[colon + 1 :]
    if text[colon] == ":" and rest and not (rest[0].isspace() or _LETTER.match(rest)):
        return None
    words = label.split()
    if not 1 <= len(words) <= 8 or words[0].strip(".").casefold() in _NOT_NAMES:
        return None
    if not _LETTER.search(label) or re.search(r"[.!?…]\s|[\"“”<>{}\[\];]", label):
        return None
    return label, rest.strip()


def signed(line: Line) -> tuple[str, str] | None:
    """Splits ``Name - text`` and ``name> text``."""
    sign = None if line.dash else _SIGN.search(line.text, 1, 81)
    if sign is None:
        return None
    before, rest = line.text[: sign.start()], line.text[sign.end() :].strip()
    nick = sign[0] == ">" and re.fullmatch(r"\w[\w.'-]*", before)  # of a chat, in small letters too
    name = before if nick and _LETTER.search(before) else _name(before)
    # "I - I think": who stumbles says the same again.
    if name is None or not rest or re.match(rf"{re.escape(name)}\b", rest, re.IGNORECASE):
        return None
    return name, rest


def above(cue: Sequence[Line]) -> dict[int, str]:
    """Lines of a cue that could name who says what stands below, by their place."""
    names = {}
    for i, line in enumerate(cue[:-1]):
        below = cue[i + 1]
        bare = line == Line(line.text, change=line.change)
        if bare and i - 1 not in names and below.text and not below.change and below.voice is None:
            name = None if line.text.endswith((".", "…")) else _name(line.text)
            if name is not None and name.casefold() != below.text.casefold():
                names[i] = name
    return names


def bracketed(line: Line) -> tuple[str, str] | None:
    """The name in the bracket before a line, unless it is a sound or a whole phrase."""
    if line.bracket is None:
        return None
    inner = line.bracket[1:-1].strip()
    if is_sound(inner) or len(inner.split()) > 4 or not _LETTER.search(inner):
        return None
    return inner, line.text


def _colon(line: str) -> int | None:
    match = _COLON.search(line, 0, 81)
    return match.start() if match else None
