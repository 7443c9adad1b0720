"""What annotation files hold, and which of their tiers and fields mean what."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from annotator.encodings import decode
from annotator.records import UsageError
from train.prepare.columns import NAMES, plain_name

MEANINGS = ("label", "sentiment", "text", "speaker")
# Beside the names of columns: what tiers and fields of annotation programs are called.
_MORE = {
    "label": ("emotions", "labels", "emo", "xemo", "xemotion", "aff", "xaff", "mood"),
    "text": ("transcriptions", "words", "orthography", "ort", "speech", "utterances", "txt"),
    "sentiment": ("sent", "xsent"),
    "speaker": ("speakers", "spk"),
}
LEAST_SHARE = 0.5  # of the shorter of two stretches that they share, to be one utterance


@dataclass(frozen=True)
class AnnotatedUtterance:
    """An utterance as a file has it, times in seconds; None where the file doesn't say."""

    recording: str
    start: float | None
    end: float | None
    speaker: str | None
    label: str | None = None
    text: str | None = None
    sentiment: str | None = None


@dataclass(frozen=True)
class Stretch:
    """A piece of a tier."""

    start: float
    end: float
    value: str


@dataclass(frozen=True)
class Names:
    """Which names mean what: as told, else the usual ones."""

    told: Mapping[str, str] = field(default_factory=dict)

    def meaning(self, name: str) -> str | None:
        """What a whole name means, such as that of a field; None for any other."""
        plain = plain_name(name)
        for meaning in MEANINGS:
            if meaning in self.told:
                if plain == plain_name(self.told[meaning]):
                    return meaning
            elif plain in (*NAMES[meaning], *_MORE[meaning]):
                return meaning
        return None

    def split(self, name: str) -> tuple[str | None, str | None]:
        """Speaker and meaning of a tier: ``Ann emotion``, ``emotion@Ann``, ``Ann_text``, ``Ann``."""
        whole = self.meaning(name)
        if whole is not None:
            return None, whole
        meaning_of = {plain_name(tier): meaning for meaning, tier in self.told.items()}
        for parted in (re.split(r"[\s@_:|/-]+", name), re.split(r"[@:|]", name)):
            for place, part in ((len(parted) - 1, parted[-1]), (0, parted[0])):
                meaning = meaning_of.get(plain_name(part)) or self.meaning(part)
                if meaning in ("label", "sentiment", "text") and len(parted) > 1:
                    rest = parted[:place] + parted[place + 1 :]
                    return " ".join(rest).strip() or None, meaning
        return name.strip() or None, None

    def label_hint(self, kind: str) -> str:
        if "label" in self.told:
            return f"there is nothing called {self.told['label']!r}, or it is empty."
        return f"looked for {', '.join(NAMES['label'][:3])} and the like."


def text_of(raw: bytes) -> str:
    """The text of a file.

    Raises:
        UsageError: it is not in the encoding that its mark promises.
    """
    try:
        return decode(raw)[0]
    except UnicodeDecodeError as error:
        raise UsageError("it is not in the encoding that its first bytes promise.") from error


def joined(
    recording: str,
    speaker: str | None,
    words: Sequence[Stretch],
    labels: Sequence[Stretch],
    sentiments: Sequence[Stretch] = (),
) -> list[AnnotatedUtterance]:
    """One speaker's utterances: stretches of words with the label that shares most of their time.

    A label over no words is an utterance without text. All in time order.
    """
    label_of, used = _Nearest(labels), set()
    parts: list[tuple[Stretch, str | None, str | None]] = []  # with its label and its words
    for stretch in sorted(words, key=lambda s: (s.start, s.end)):
        place = label_of.over(stretch)
        used.add(place)
        parts.append((stretch, label_of.value(place), stretch.value))
    parts += [(s, s.value, None) for place, s in enumerate(label_of.stretches) if place not in used]
    sentiment_of = _Nearest(sentiments)
    return [
        AnnotatedUtterance(
            recording, s.start, s.end, speaker, label, text, sentiment_of.value(sentiment_of.over(s))
        )
        for s, label, text in sorted(parts, key=lambda part: (part[0].start, part[0].end))
    ]


class _Nearest:
    """Stretches by time, to be asked in time order which of them lies over another."""

    def __init__(self, stretches: Sequence[Stretch]) -> None:
        self.stretches = sorted(stretches, key=lambda s: (s.start, s.end))
        self._from = 0

    def over(self, one: Stretch) -> int | None:
        """The place of the stretch that shares most time with ``one``, if that is half of the shorter."""
        while self._from < len(self.stretches) and self.stretches[self._from].end <= one.start:
            self._from += 1
        best, most = None, 0.0
        for place in range(self._from, len(self.stretches)):
            other = self.stretches[place]
            if other.start >= one.end:
                break
            shared = min(one.end, other.end) - max(one.start, other.start)
            if shared > most and shared >= LEAST_SHARE * min(one.end - one.start, other.end - other.start):
                best, most = place, shared
        return best

    def value(self, place: int | None) -> str | None:
        return None if place is None else self.stretches[place].value
