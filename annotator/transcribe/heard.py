"""What Whisper says of a stretch, and what of it can be believed.

Whisper invents text where nobody speaks, and falls into loops (Radford et al. 2022, section 4.5; Koenecke et
al. 2024, "Careless Whisper"). Each guard here drops words or keeps them; none changes them.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from .cues import plain, spread, tokens
from .stretches import Span, Stretch

LONGEST_S, LONGEST_CHARACTER_S = 0.3, 0.12  # a word lasts at most this and that for each character ...
SPOKEN_DIGIT, SPOKEN_WIDE = (
    4,
    3,
)  # ... of which a digit or a sign for a word is so many, a syllable's sign so many
SILENCE = 0.6  # probability of no speech above which an unlikely text is left out ...
UNLIKELY = -1.0  # ... unlikely by its mean log probability a token (both from the paper, section 4.5)
GUESSED, GUESSED_WORDS = -1.4, 4  # mean log probability of a token below which so many words are a guess
REPETITIVE = 2.4  # compression ratio of text that may run in a loop (the same section)
WORDS_PER_S, WORDS_BESIDES = 7.0, 3  # nobody says more words in the speech of a stretch
# Speech without a word from which a stretch is heard again: between two pauses, or anywhere.
UNTOLD_ALONE_S, UNTOLD_S, UNTOLD_SLACK_S = 1.6, 2.5, 0.3
TORN_S = 1.0  # silence between what is heard, within a sentence, that makes both sides doubtful
PHANTOM_SILENCE, PHANTOM_UNLIKELY, PHANTOM_SPEECH_S = 0.2, -0.6, 0.8
SENTENCE_ENDS = (".", "!", "?", "…", "。", "！", "？")
CLAUSE_ENDS = (*SENTENCE_ENDS, ",", ";", ":", "-", "–", "—", "、", "，")
# What Whisper says of noise and silence, by people's reports: subtitles' first and last lines.
_PHANTOMS = frozenset(
    "you|thank you|thanks|thank you very much|thank you so much|thanks for watching|bye|bye bye|okay|oh|so|"
    "thank you for watching|please subscribe|subtitles by the amara org community|the end|i m sorry|"
    "untertitel der amara org community|untertitelung des zdf 2020|untertitel von stephanie geiges|"
    "vielen dank|vielen dank fürs zuschauen|merci|merci d avoir regardé cette vidéo|sous titrage st 501|"
    "sous titres réalisés par la communauté d amara org|gracias|gracias por ver el video|"
    "subtítulos realizados por la comunidad de amara org|obrigado|dziękuję|napisy stworzone przez "
    "społeczność amara org|dziękuję za oglądanie|субтитры сделал dimatorzok|продолжение следует|"
    "спасибо за просмотр|ご視聴ありがとうございました|字幕由amara org社区提供|"
    "谢谢观看|시청해주셔서 감사합니다".split("|")
)


@dataclass(frozen=True)
class Piece:
    """A piece of text with its leading space, its times in what was heard in seconds, and its probability."""

    text: str
    start: float
    end: float
    probability: float


@dataclass(frozen=True)
class HeardWord:
    """A word with its times in seconds of the recording, and its probability."""

    start: float
    end: float
    text: str
    probability: float

    @property
    def middle(self) -> float:
        return (self.start + self.end) / 2


@dataclass(frozen=True)
class StretchText:
    """The text of a stretch.

    Args:
        silence: probability that there is no speech.
        mean_log_probability: of its tokens.
    """

    pieces: tuple[Piece, ...]
    silence: float
    mean_log_probability: float


def believable(decoded: StretchText, stretch: Stretch) -> tuple[tuple[Piece, ...], tuple[str, ...]]:
    """The pieces of a stretch that can be believed, and flags for what was dropped.

    ``asr_dropped``: text where hardly anybody speaks, a guess, or more than can be said; ``asr_repetition``:
    a loop was cut to one round.
    """
    if not decoded.pieces:
        return (), ()
    if decoded.silence > SILENCE and decoded.mean_log_probability < UNLIKELY:
        return (), ("asr_dropped",)
    if _is_phantom(decoded, stretch):
        return (), ("asr_dropped",)
    pieces, looped = _without_loops(decoded.pieces)
    flags = ("asr_repetition",) if looped else ()
    words = sum(piece.text.startswith(" ") for piece in pieces)
    if words >= GUESSED_WORDS and decoded.mean_log_probability < GUESSED:
        return (), ("asr_dropped",)
    if words > WORDS_PER_S * stretch.speech_s + WORDS_BESIDES:
        return (), ("asr_dropped",)
    return pieces, flags


def _is_phantom(decoded: StretchText, stretch: Stretch) -> bool:
    text = "".join(piece.text for piece in decoded.pieces)
    letters = " ".join(re.sub(r"[\W_]+", " ", text.casefold()).split())
    if not letters:
        return True  # signs alone
    doubtful = decoded.silence > PHANTOM_SILENCE or decoded.mean_log_probability < PHANTOM_UNLIKELY
    return letters in _PHANTOMS and (doubtful or stretch.speech_s < PHANTOM_SPEECH_S)


def runs_in_loop(pieces: Sequence[Piece]) -> bool:
    """Whether a text says the same three times in a row, as a decoder in a loop does, and some people."""
    texts = [piece.text.strip().casefold() for piece in pieces]
    whole = _is_repetitive(piece.text for piece in pieces)
    for i in range(len(texts)):
        size = _round(texts, i)
        # A loop at the end of a long text is little of it.
        if size and (whole or _is_repetitive(piece.text for piece in pieces[i : _after(texts, i, size)])):
            return True
    return False


def _is_repetitive(texts: Iterable[str]) -> bool:
    text = "".join(texts).encode("utf-8", "replace")
    return bool(text) and len(text) / len(zlib.compress(text)) > REPETITIVE


def _after(texts: list[str], i: int, size: int) -> int:
    """Where the rounds of so many pieces end that begin at ``i``."""
    unit = texts[i : i + size]
    while texts[i : i + size] == unit:
        i += size
    return i


def _round(texts: list[str], i: int) -> int:
    """How many pieces of text from ``i`` on come three times in a row; 0 if none do."""
    return next((n for n in range(1, 21) if texts[i : i + n] * 2 == texts[i + n : i + 3 * n]), 0)


def _without_loops(pieces: Sequence[Piece]) -> tuple[tuple[Piece, ...], bool]:
    """The pieces, and whether loops were cut to their first round, as were those that break off at the end.

    Some people do say a word many times. What is cut then is heard again as speech without a word.
    """
    if not runs_in_loop(pieces):
        return tuple(pieces), False
    rounds: list[Piece] = []
    texts = [piece.text.strip().casefold() for piece in pieces]
    i = 0
    while i < len(pieces):
        size = _round(texts, i)
        rounds += pieces[i : i + max(1, size)]
        if not size:
            i += 1
            continue
        unit, i = texts[i : i + size], _after(texts, i, size)
        rest = len(texts) - i
        if rest < size and texts[i:] == unit[:rest]:
            i = len(texts)
    return tuple(rounds), True


def doubtful(words: Sequence[HeardWord], stretch: Stretch) -> list[tuple[Span, ...]]:
    """Where speech of a stretch is to be heard again: spans in seconds, those of a torn sentence together.

    Whisper passes over a sentence that is said again, and over what follows a pause. Either its speech is
    left without a word, or alignment lays the words of the next sentence over both places.
    """
    groups = _torn(words, stretch)
    torn = {span for spans in groups for span in spans}
    left_out = [span for span in untold(words, stretch) if not any(a <= span[0] < b for a, b in torn)]
    return sorted([*groups, *((span,) for span in left_out)])


def untold(words: Sequence[HeardWord], stretch: Stretch) -> list[Span]:
    """Where somebody speaks for a while in a stretch without a word being told of it, in seconds.

    Speech between two pauses counts as untold where no word is near it, and any that goes on without a word
    for longer.
    """
    near = sorted((word.start - UNTOLD_SLACK_S, word.end + UNTOLD_SLACK_S) for word in words)
    spans: list[Span] = []
    for start, end in stretch.speech:
        at = start
        for first, last in [*near, (end, end)]:
            silent = min(first, end)
            is_whole = (at, silent) == (start, end)
            if silent - at >= (UNTOLD_ALONE_S if is_whole else UNTOLD_S):
                spans.append((at, silent))
            at = max(at, last)
    return spans


def _torn(words: Sequence[HeardWord], stretch: Stretch) -> list[tuple[Span, ...]]:
    """Speech on both sides of long silences that lie within a sentence."""
    groups: list[tuple[Span, ...]] = []
    for before, after in pairwise(stretch.speech):
        if after[0] - before[1] < TORN_S:
            continue
        last = [word for word in words if before[0] <= word.middle <= before[1]][-1:]
        is_told = any(after[0] <= word.middle <= after[1] for word in words)
        if last and is_told and not last[0].text.endswith(CLAUSE_ENDS):
            if groups and groups[-1][-1] == before:
                groups[-1] = (*groups[-1], after)
            else:
                groups.append((before, after))
    return groups


def with_more(
    words: Sequence[HeardWord], spans: Sequence[Span], again: Sequence[HeardWord]
) -> tuple[HeardWord, ...]:
    """Words in which those of spans are replaced by what was heard there again, if that is more of them."""
    outside = [word for word in words if not any(start <= word.middle <= end for start, end in spans)]
    if len(again) <= len(words) - len(outside):
        return tuple(words)
    return tuple(sorted([*outside, *again], key=lambda word: word.start))


def words_of(pieces: Sequence[Piece], stretch: Stretch) -> Iterator[HeardWord]:
    """Words in time of the recording: pieces up to the next space, or wide punctuation."""
    runs: list[list[Piece]] = []
    for piece in pieces:
        before = runs[-1][-1].text if runs else ""
        joined = before and not before[-1].isspace() and not piece.text[:1].isspace()
        if joined and len(tokens(before[-1] + piece.text[:1])) == 1:
            runs[-1].append(piece)
        elif piece.text:
            runs.append([piece])
    opens = True
    for run in runs:
        parts = tokens(plain("".join(piece.text for piece in run)))
        if not parts:
            continue
        first, last = stretch.time(run[0].start), stretch.time(run[-1].end)
        first, last = _without_silence(first, last, stretch)
        # Alignment leaves a silence with the word beside it: after the end of a sentence, before its begin.
        longest = LONGEST_S + LONGEST_CHARACTER_S * sum(map(_spoken_length, parts))
        if last - first > longest:
            first, last = (last - longest, last) if opens else (first, first + longest)
        opens = parts[-1].endswith(SENTENCE_ENDS)
        probability = min(1.0, sum(piece.probability for piece in run) / len(run))
        for (start, end), part in zip(spread(first, last, parts), parts, strict=True):
            yield HeardWord(start, end, part, probability)


def _spoken_length(text: str) -> int:
    """Characters of a text as it is spoken: ``1299.95`` takes as long to say as thirty letters."""
    signs = sum(c.isnumeric() or unicodedata.category(c) == "Sc" or c in "%&" for c in text)
    wide = sum(unicodedata.east_asian_width(c) == "W" and not c.isnumeric() for c in text)
    return len(text) + (SPOKEN_DIGIT - 1) * signs + (SPOKEN_WIDE - 1) * wide


def _without_silence(start: float, end: float, stretch: Stretch) -> tuple[float, float]:
    """A word's time in that speech between two pauses where most of it lies."""
    overlaps = [(min(end, last) - max(start, first), first, last) for first, last in stretch.speech]
    overlap, first, last = max(overlaps)
    return (max(start, first), min(end, last)) if overlap > 0 else (start, end)
