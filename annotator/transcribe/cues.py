"""Cues of subtitles to words: no markup, no sound descriptions, speaker names kept, times shared out."""

from __future__ import annotations

import html
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from annotator import bounds
from annotator.records import RecordingError, Transcript, Word

from .labels import Labels, lines_of
from .names import Line

CHARACTER_S = 0.02  # the least time in seconds that a character of a cue is spoken in, 50 a second
_ROLL_GAP_S = 0.1  # captions that roll up show the last line again at once
_HOLD_S = 0.02  # a shorter cue only keeps on the screen what the one before showed

# No pattern here backtracks over a run of spaces twice: subtitles come from strangers.
_VOICE = re.compile(r"<v(?:\.[^\s<>]*)?[ \t]+([^<>\s][^<>\n]*)>", re.IGNORECASE)
_MARKUP = re.compile(r"</?[a-zA-Z][^<>]*>|</?>|<\d[\d:.]*>|\{\\[^{}]*\}|[♩♪♫♬]")
_BRACKETS = re.compile(r"\[[^\[\]]*\]")
_PARENTHESES = re.compile(r"^[ \t]*(?:[-‐–—]+[ \t]*)?[(（][^()（）]*[)）][ \t.,!?]*$", re.MULTILINE)
# Scripts without spaces get their word borders from punctuation.
_WIDE_PUNCTUATION = "。，、！？；：…"
# Nobody writes a character with so many digits; Python refuses to read thousands of them.
_LONG_ENTITY = re.compile(r"&#(?:[0-9]{8,}|[xX][0-9a-fA-F]{7,});?")
_WIDE_BREAK = re.compile(f"(?<=[{_WIDE_PUNCTUATION}])(?=[^\\s{_WIDE_PUNCTUATION}」』”’）)])")


@dataclass(frozen=True, slots=True)
class Cue:
    """A subtitle as its file has it: shown from ``start`` to ``end`` seconds, lines joined by newlines.

    ``change``: the file marks that another speaks than before.
    """

    start: float
    end: float
    text: str
    speaker: str | None = None
    change: bool = False


def plain(text: str) -> str:
    """Text that any file can hold: no lone surrogates, no control characters but newlines and tabs."""
    if text.isascii() and text.isprintable():
        return text
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    characters = (c for c in text if c in "\n\t" or unicodedata.category(c) != "Cc")
    return re.sub("[\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]", "", "".join(characters))


def tokens(text: str) -> list[str]:
    """Words of a line: pieces between white space, and between wide punctuation where there is none."""
    if text.isascii():
        return text.split()
    return [piece for chunk in text.split() for piece in _WIDE_BREAK.split(chunk)]


def spread(start: float, end: float, pieces: Sequence[str]) -> Iterator[tuple[float, float]]:
    """Times of pieces of text that share ``start`` to ``end`` in proportion to their characters."""
    total, done, first = sum(map(len, pieces)), 0, round(start, 4)
    for piece in pieces:
        done += len(piece)
        last = round(start + (end - start) * done / total, 4)
        yield first, last
        first = last


def bad(name: str, what: str) -> RecordingError:
    """The error of a file that is no transcript, or not as its ending says."""
    message = f"{name} can't be read as a transcript: {what}. Mend or remove it."
    return RecordingError("transcribe", "bad_subtitles", message)


def unescaped(text: str) -> str:
    """Text with its entities resolved; a number that stands for no character becomes a question mark."""
    return html.unescape(_LONG_ENTITY.sub("\ufffd", text))


def check_cues(cues: Sequence[Cue], name: str) -> None:
    """Raises: RecordingError for more cues, or a longer one, than a recording has."""
    if len(cues) > bounds.MOST_CUES:
        raise bad(name, f"it has more than {bounds.MOST_CUES:,} cues")
    if any(len(cue.text) > bounds.CUE_CHARACTERS for cue in cues):
        raise bad(name, f"one of its cues has more than {bounds.CUE_CHARACTERS:,} characters")


def check_words(words: Sequence[Word], name: str) -> None:
    """Raises: RecordingError for more words than a recording has, in all or at a moment.

    Args:
        words: in order of start.
    """
    if len(words) > bounds.MOST_WORDS:
        raise bad(name, f"it has more than {bounds.MOST_WORDS:,} words")
    crowd = bounds.crowd(((w.start, w.end) for w in words), bounds.WORDS_AT_ONCE)
    if crowd is not None:
        raise bad(name, f"more than {bounds.WORDS_AT_ONCE} words sound at once, at {crowd:.0f} s")


def words_of(cues: Iterable[Cue], name: str) -> tuple[tuple[Word, ...], tuple[str, ...]]:
    """Words in order of their start, and flags (``dropped_cues`` where a cue ended before it began).

    A cue's time is shared out over its characters. Each piece of a cue that one speaker says
    (``- Hi.``/``- Hello.`` are two) has its own cue number. Cues that overlap without two names to tell
    them apart are laid one after the other, so that their words don't mix.

    Raises: RecordingError naming the file where there are more than a recording has.
    """
    listed = list(cues)
    check_cues(listed, name)
    timed = sorted((c for c in listed if c.end > c.start), key=lambda c: c.start)
    flags = ("dropped_cues",) if len(timed) < len(listed) else ()
    del listed
    lines = _unrolled(timed, [_lines(cue.text) for cue in timed])
    labels = Labels(lines)
    pieces: list[Cue] = []
    goes_on: str | None = None  # who speaks until the next >>, where captions name speakers behind it
    for cue, cue_lines in zip(timed, lines, strict=True):
        cue_pieces = labels.split(cue_lines)
        times = spread(cue.start, cue.end, [piece.text for piece in cue_pieces])
        for (start, end), piece in zip(times, cue_pieces, strict=True):
            if piece.change or piece.speaker is not None:
                goes_on = piece.speaker if piece.change else None
            speaker = piece.speaker or cue.speaker or goes_on
            pieces.append(Cue(start, end, piece.text, speaker, piece.change))
    del timed, lines, labels  # a large file is in memory only once
    words: list[Word] = []
    for number, cue in enumerate(_in_turn(pieces)):
        parts, change = tokens(cue.text), cue.change
        for (start, end), part in zip(spread(cue.start, cue.end, parts), parts, strict=True):
            words.append(Word(start, end, sys.intern(part), cue.speaker, None, number, change))
            change = False
        if len(words) > bounds.MOST_WORDS:
            break
    words.sort(key=lambda w: w.start)
    check_words(words, name)
    return tuple(words), flags


def _lines(text: str) -> list[Line]:
    """Lines of a cue as spoken; a voice tag becomes ``\\x02Name\\x03`` at the begin of a line."""
    text = plain(text).replace("&gt;&gt;", ">>")
    if "<" in text:
        text = _VOICE.sub("\n\x02\\1\x03", text)
    if not text.isascii() or "<" in text or "{" in text:
        text = _MARKUP.sub("", text)
    if "[" in text or "(" in text or "（" in text:
        text = _PARENTHESES.sub(_of_one_line, _BRACKETS.sub(_of_one_line, text))
    # Entities come last: what they stand for is text, not markup.
    if "&" in text:
        text = "\n".join(map(_resolved, text.split("\n")))
    return list(lines_of(text))


def _of_one_line(brackets: re.Match[str]) -> str:
    """What brackets hold, unless they go over several lines: that describes a sound."""
    return " " if "\n" in brackets[0].strip("\n") else brackets[0]


def _resolved(line: str) -> str:
    """A line with its entities resolved, once more without control characters but the voice marks."""
    if not line.startswith("\x02"):
        return plain(unescaped(line))
    name, _, rest = line[1:].partition("\x03")
    return f"\x02{plain(unescaped(name))}\x03{plain(unescaped(rest))}"


def _unrolled(cues: Sequence[Cue], lines: list[list[Line]]) -> list[list[Line]]:
    """Live captions show each line again above the next; where a file does so throughout, one is kept.

    So does YouTube, with a cue of a hundredth of a second between two lines that holds the first.
    """
    repeated = [0] * len(lines)
    rolls, holds = 0, False
    for i in range(1, len(lines)):
        before, after = lines[i - 1], lines[i]
        sizes = range(min(len(before), len(after), 4), 0, -1)
        repeated[i] = next((k for k in sizes if before[-k:] == after[:k]), 0)
        if cues[i].start - cues[i - 1].end <= _ROLL_GAP_S:
            rolls += repeated[i] > 0
            whole = 0 < repeated[i] == len(after)
            holds = holds or (whole and cues[i].end - cues[i].start <= _HOLD_S)
        elif repeated[i] == len(after):
            repeated[i] = 0  # said again, after a pause
    if not holds and (rolls < 3 or 2 * rolls < len(lines) - 1):
        return lines
    return [cue_lines[k:] for cue_lines, k in zip(lines, repeated, strict=True)]


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
        if piece.speaker is None:
            latest.clear()  # they all end before it now
        latest[piece.speaker] = len(out)
        out.append(piece)
    return out


def cut_at_end(transcript: Transcript, duration_s: float) -> Transcript:
    """A transcript without what begins after the recording's end, flagged ``dropped_cues`` if there is any.

    A cue that begins before the end keeps its words, the last of them at the end.

    Args:
        duration_s: of the recording; 0 or less where it is not known.
    """
    last = max((w.start for w in transcript.words), default=0.0)
    if duration_s <= 0 or last < duration_s:
        return transcript
    begun = {w.cue for w in transcript.words if w.cue is not None and w.start < duration_s}
    words: list[Word] = []
    for word in transcript.words:
        if word.start < duration_s:
            words.append(word)
        elif word.cue in begun and word.confidence is None:
            words.append(replace(word, start=duration_s, end=duration_s))
    if len(words) == len(transcript.words):
        return replace(transcript, words=tuple(words))
    flags = tuple(dict.fromkeys((*transcript.flags, "dropped_cues")))
    return replace(transcript, words=tuple(words), flags=flags)
