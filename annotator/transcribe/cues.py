"""Cues of subtitles to words: no markup, no sound descriptions, speaker names kept, times shared out."""

from __future__ import annotations

import html
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from annotator.records import Word

CHARACTER_S = 0.02  # the least time in seconds that a character of a cue is spoken in, 50 a second
_ROLL_GAP_S = 0.1  # captions that roll up show the last line again at once

# Words that stand before a colon without being a speaker.
_NOT_NAMES = frozenset(
    "and answer attention but caution chapter conclusion date episode example exercise fact figure finally "
    "first from hint http https i'm important job lesson listen look next no note now ok okay or page part "
    "previously problem ps p.s question re reason remember result rule scene season second section see so "
    "solution step subject subtitles summary synced that the then third this time tip title to today "
    "tomorrow topic translation unit update volume warning well what why yes".split()
)
_PARTICLES = frozenset("al and bin da de del den der di du el la le of the van von y".split())

# No pattern here backtracks over a run of spaces twice: subtitles come from strangers.
_DASH = re.compile(r"^[-‐–—]+(?!\d)\s*")
_VOICE = re.compile(r"<v(?:\.[^\s<>]*)?[ \t]+([^<>\s][^<>\n]*)>", re.IGNORECASE)
_MARKUP = re.compile(r"</?[a-zA-Z][^<>]*>|</?>|<\d[\d:.]*>|\{\\[^{}]*\}|[♩♪♫♬]")
_BRACKETED_NAME = re.compile(r"\[([^\[\]\n]{1,60})\](?=[ \t]*[:：])")
_BRACKETS = re.compile(r"\[[^\[\]]*\]|【[^【】]*】")
_PARENTHESES = re.compile(r"^[ \t]*(?:[-‐–—]+[ \t]*)?[(（][^()（）]*[)）][ \t.,!?]*$", re.MULTILINE)
_ASIDE = re.compile(r"\s*[(（][^()（）]*[)）]\s*$")
# Scripts without spaces get their word borders from punctuation.
_WIDE_PUNCTUATION = "。，、！？；：…"
_WIDE_BREAK = re.compile(f"(?<=[{_WIDE_PUNCTUATION}])(?=[^\\s{_WIDE_PUNCTUATION}」』”’）)])")


@dataclass(frozen=True)
class Cue:
    """A subtitle as its file has it: shown from ``start`` to ``end`` seconds, lines joined by newlines."""

    start: float
    end: float
    text: str
    speaker: str | None = None


def plain(text: str) -> str:
    """Text that any file can hold: no lone surrogates, no control characters but newlines and tabs."""
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if text.isascii() and text.isprintable():
        return text
    kept = (c for c in text if c in "\n\t" or unicodedata.category(c) != "Cc")
    return re.sub("[\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]", "", "".join(kept))


def tokens(text: str) -> list[str]:
    """Words of a line: pieces between white space, and between wide punctuation where there is none."""
    return [piece for chunk in text.split() for piece in _WIDE_BREAK.split(chunk)]


def spread(start: float, end: float, pieces: Sequence[str]) -> Iterator[tuple[float, float]]:
    """Times of pieces of text that share ``start`` to ``end`` in proportion to their characters."""
    total, done = sum(map(len, pieces)), 0
    for piece in pieces:
        first = start + (end - start) * done / total
        done += len(piece)
        yield round(first, 4), round(start + (end - start) * done / total, 4)


def words_of(cues: Sequence[Cue]) -> tuple[tuple[Word, ...], tuple[str, ...]]:
    """Words in order of their start, and flags (``dropped_cues`` where a cue ended before it began).

    A cue's time is shared out over its characters. Each piece of a cue that one speaker says
    (``- Hi.``/``- Hello.`` are two) has its own cue number. Cues that overlap without two names to tell
    them apart are laid one after the other, so that their words don't mix.
    """
    timed = sorted((c for c in cues if c.end > c.start), key=lambda c: c.start)
    flags = ("dropped_cues",) if len(timed) < len(cues) else ()
    lines = _unrolled(timed, [_lines(cue.text) for cue in timed])
    names = _speaker_names(lines)
    pieces: list[Cue] = []
    for cue, cue_lines in zip(timed, lines, strict=True):
        said = [(speaker or cue.speaker, text) for speaker, text in _said(cue_lines, names)]
        times = spread(cue.start, cue.end, [text for _, text in said])
        pieces += [Cue(s, e, text, speaker) for (s, e), (speaker, text) in zip(times, said, strict=True)]
    words = []
    for number, piece in enumerate(_in_turn(pieces)):
        parts = tokens(piece.text)
        for (start, end), part in zip(spread(piece.start, piece.end, parts), parts, strict=True):
            words.append(Word(start, end, part, piece.speaker, cue=number))
    return tuple(sorted(words, key=lambda w: w.start)), flags


def _lines(text: str) -> list[str]:
    """Lines of a cue as spoken; a voice tag becomes ``\\x02Name\\x03`` at the begin of a line."""
    text = _VOICE.sub("\n\x02\\1\x03", plain(text))
    text = _BRACKETED_NAME.sub(r"\1", _MARKUP.sub("", text))
    text = _PARENTHESES.sub("", _BRACKETS.sub(" ", text))
    # Entities come last: what they stand for is text, not markup.
    lines = (" ".join(_resolved(line).split()) for line in text.split("\n"))
    return [line for line in lines if line]


def _resolved(line: str) -> str:
    """A line with its entities resolved, once more without control characters but the voice marks."""
    if not line.startswith("\x02"):
        return plain(html.unescape(line))
    name, _, rest = line[1:].partition("\x03")
    return f"\x02{plain(html.unescape(name))}\x03{plain(html.unescape(rest))}"


def _unrolled(cues: Sequence[Cue], lines: list[list[str]]) -> list[list[str]]:
    """Live captions show each line again above the next; where a file does so throughout, one is kept."""
    repeated = [0] * len(lines)
    for i in range(1, len(lines)):
        before, after = lines[i - 1], lines[i]
        if cues[i].start - cues[i - 1].end <= _ROLL_GAP_S:
            sizes = range(min(len(before), len(after), 4), 0, -1)
            repeated[i] = next((k for k in sizes if before[-k:] == after[:k]), 0)
    rolls = sum(k > 0 for k in repeated)
    if rolls < 3 or 2 * rolls < len(lines) - 1:
        return lines
    return [cue_lines[k:] for cue_lines, k in zip(lines, repeated, strict=True)]


def _prefix(line: str) -> tuple[str, str] | None:
    """Splits ``Name: text`` where the name could be one: four words at most, with capitals or numbers."""
    line = _DASH.sub("", line)
    colon = next((i for i, c in enumerate(line[:61]) if c in ":："), None)
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


def _speaker_names(lines: Sequence[Sequence[str]]) -> dict[str, str]:
    """Which prefixes of a file are speakers: case-folded form to the name as first written.

    One in capitals is, unless the whole file is in capitals. Any other has to come back in a second
    line, or the file has to be a script: at least half of its cues begin with one of several names.
    """
    first: dict[str, str] = {}
    counts: Counter[str] = Counter()
    prefixed = 0
    text = []
    for cue_lines in lines:
        for i, line in enumerate(cue_lines):
            found = _prefix(line)
            text.append(found[1] if found else line)
            if found:
                first.setdefault(found[0].casefold(), found[0])
                counts[found[0].casefold()] += 1
                prefixed += i == 0
    upper = sum(c.isupper() for line in text for c in line)
    lower = sum(c.islower() for line in text for c in line)
    in_capitals = upper > 2 * lower
    script = len(counts) > 1 and 2 * prefixed >= len(lines)

    def is_name(key: str) -> bool:
        return counts[key] > 1 or script or (first[key].isupper() and not in_capitals)

    return {key: name for key, name in first.items() if is_name(key)}


def _said(lines: Sequence[str], names: dict[str, str]) -> list[tuple[str | None, str]]:
    """Who says what in one cue: a new piece at each voice tag, known name and dash of a dialogue."""
    pieces: list[tuple[str | None, list[str]]] = []
    for line in lines:
        if line.startswith("\x02"):
            name, _, text = line[1:].partition("\x03")
            pieces.append((" ".join(name.split()) or None, [text]))
            continue
        found = _prefix(line)
        if found and found[0].casefold() in names:
            pieces.append((names[found[0].casefold()], [found[1]]))
        elif _DASH.match(line) or not pieces:
            pieces.append((None, [_DASH.sub("", line)]))
        else:
            pieces[-1][1].append(line)
    joined = ((name, " ".join(parts).strip()) for name, parts in pieces)
    return [(n, t) for n, t in joined if any(map(str.isalnum, t)) and not _PARENTHESES.match(t)]


def _in_turn(pieces: Sequence[Cue]) -> list[Cue]:
    """Pieces in order of start; those that overlap and may be one speaker's are laid one after the other."""
    out: list[Cue] = []
    latest: dict[str | None, int] = {}
    for piece in sorted(pieces, key=lambda p: p.start):
        rivals = latest.values() if piece.speaker is None else (latest.get(s) for s in (piece.speaker, None))
        for i in sorted({i for i in rivals if i is not None}):
            before = out[i]
            if piece.start >= before.end:
                continue
            if piece.start - before.start >= CHARACTER_S * len(before.text):
                out[i] = replace(before, end=piece.start)
            else:
                end = max(before.end, piece.end)
                (_, cut), _ = spread(before.start, end, [before.text, piece.text])
                out[i], piece = replace(before, end=cut), replace(piece, start=cut, end=end)
        latest[piece.speaker] = len(out)
        out.append(piece)
    return out
