"""Recognition by Whisper (Radford et al. 2022) over the speech that diarization found.

What departs from the reference: stretches of speech of up to 30 s are recognised independently and in
batches, with the silences between them cut short and less silence after them. Speech of which a stretch's
words tell nothing, or over which a sentence is torn, is heard again by itself, and so is a stretch whose text
runs in a loop.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from annotator import whisper_files
from annotator.languages import iso_639_1
from annotator.records import Audio, Media, Transcript, Turn, Word
from annotator.threads import side_by_side
from annotator.whisper_files import WhisperFiles

from .engine import STATE_S, Engine, States
from .heard import (
    SENTENCE_ENDS,
    HeardWord,
    StretchText,
    believable,
    doubtful,
    runs_in_loop,
    with_more,
    words_of,
)
from .stretches import Span, Stretch, by_language, stretches

if TYPE_CHECKING:
    import torch

CPU_BATCH = 4  # more gains nothing on a CPU and costs memory
# A stretch's own language counts with this probability in this much speech; a language that is spoken less
# than this much, or than this share of the recording, is taken for a mistake.
SURE, SURE_S = 0.8, 3.0
CHANGE_S, CHANGE_SHARE = 8.0, 0.05
# Speech in a language that Whisper doesn't know is taken for another one: with a lower probability of that,
# or of the words. Chosen on espeak-ng's voices, see docs/results/recognition.md.
CERTAIN_LANGUAGE, CERTAIN_WORDS = 0.7, 0.45
LANGUAGE_S, AFTER_S = 10.0, 0.5  # of a span that its language is told by, and of what follows it
NO_REPEAT = 5  # tokens in a row that come once, where a text has run in a loop
KEPT = 8  # stretches whose states are kept (3 MB each) until the main language is known


@dataclass(frozen=True)
class _Heard:
    """What is said in a stretch.

    Args:
        words: those that can be believed, in order.
        flags: for what was dropped.
        again: speech that is to be heard by itself; what replaces the words of several spans goes together.
    """

    stretch: Stretch
    words: tuple[HeardWord, ...]
    flags: frozenset[str]
    language: str
    again: tuple[tuple[Span, ...], ...]


@dataclass(frozen=True)
class _First:
    """What is told of a batch of stretches before the main language is known.

    Args:
        guesses: the likeliest language of each and its probability.
        parts: of each, by language where it holds several.
        understood: what is said in those that are whole and whose language is clear.
        unclear: states (1, T, d) of those that are whole and whose language is not.
    """

    guesses: Sequence[tuple[str, float]]
    parts: Sequence[Mapping[str, Stretch]]
    understood: Sequence[_Heard]
    unclear: Mapping[Stretch, States]


class Whisper:
    """A ``Transcriber`` over a loaded model. Make one with ``Whisper.load``."""

    def __init__(self, engine: Engine, language: str | None, batch_size: int) -> None:
        self.engine = engine
        self.language = language if engine.is_multilingual else "en"
        self.batch_size = batch_size

    @classmethod
    def load(
        cls,
        files: WhisperFiles,
        *,
        device: str = "auto",
        language: str | None = None,
        batch_size: int = 8,
        threads: int = 0,
    ) -> Whisper:
        """Load a model.

        Args:
            threads: of a CPU; 0 for as many as there are cores.

        Raises: SetupError if the files are not those of a Whisper; UsageError for a language it doesn't know.
        """
        engine = Engine.load(files, device=device, threads=threads)
        if language is not None:
            engine.check(language)
        if engine.on_cpu:
            batch_size = min(batch_size, CPU_BATCH)
        return cls(engine, language, max(1, batch_size))

    def __call__(self, media: Media, audio: Audio | None, turns: Sequence[Turn]) -> Transcript:
        """Words of the speech in ``turns``, timed and with their probability. No speech, no transcript."""
        speech = stretches(turns, audio) if audio is not None else []
        if audio is None or not speech:
            return Transcript()
        if self.language is not None:
            heard, main, probability = self._listen(speech, audio, self.language), self.language, 1.0
        else:
            heard, main, probability = self._listen_in_languages(speech, audio)
        heard = self._completed(heard, audio)
        flags = {flag for part in heard for flag in part.flags}
        if self.language is None and not _is_certain(probability, heard):
            flags.add("language_uncertain")
        if len({part.language for part in heard if part.words}) > 1:
            flags.add("language_changes")
        return Transcript(tuple(_numbered(heard)), "whisper", iso_639_1(main), tuple(sorted(flags)))

    def _listen_in_languages(
        self, speech: Sequence[Stretch], audio: Audio
    ) -> tuple[list[_Heard], str, float]:
        """What is said in stretches, each in its own language where that is clear; the main one; how sure.

        What is not clear, and what seems to be in a language that is hardly spoken, is heard in the main one;
        a part of a stretch is not, of which its spans and all of it say the same language.
        """
        heard: dict[Stretch, _Heard] = {}
        states: dict[Stretch, States] = {}
        seconds: defaultdict[str, float] = defaultdict(float)
        parted: list[Stretch] = []  # of one language each, out of stretches that hold several
        expected: dict[Stretch, str] = {}  # the language of each of those
        confirmed: set[Stretch] = set()
        whole: list[Stretch] = []
        for phase in (speech, parted):  # the second is there when the first has ended
            batches = list(_batches(phase, self.batch_size))
            first = partial(self._first, audio=audio, may_part=phase is not parted)
            for batch, outcome in zip(batches, side_by_side(first, batches, self._device), strict=True):
                for stretch, (language, probability), parts in zip(
                    batch, outcome.guesses, outcome.parts, strict=True
                ):
                    if len(parts) > 1:
                        parted += parts.values()
                        expected |= {part: name for name, part in parts.items()}
                        continue
                    whole.append(stretch)
                    seconds[language] += stretch.speech_s * probability
                    if stretch in outcome.unclear:
                        if len(states) < KEPT:
                            states[stretch] = outcome.unclear[stretch]
                    elif expected.get(stretch) == language:
                        confirmed.add(stretch)
                heard |= {part.stretch: part for part in outcome.understood}
        main = max(seconds, key=lambda name: seconds[name])
        least = max(CHANGE_S, CHANGE_SHARE * sum(seconds.values()))
        again = [
            s
            for s in whole
            if s not in heard
            or (s not in confirmed and heard[s].language != main and seconds[heard[s].language] < least)
        ]
        for stretch in [s for s in again if s in states]:
            heard[stretch] = self._understood([stretch], states[stretch], [main])[0]
        left = [s for s in again if s not in states]
        heard |= {part.stretch: part for part in self._listen(left, audio, main)}
        in_order = [heard[stretch] for stretch in sorted(whole, key=lambda s: s.speech)]
        in_main = sum(part.stretch.speech_s for part in in_order if part.language == main)
        return in_order, main, seconds[main] / in_main

    def _first(self, batch: Sequence[Stretch], audio: Audio, may_part: bool) -> _First:
        """What a batch tells before the main language is known; its stretches may be of several languages, or
        are parts of such.
        """
        states = self._states(batch, audio)
        guesses = self.engine.languages(states)
        parts = [
            self._by_language(stretch, states[i : i + 1], language) if may_part else {}
            for i, (stretch, (language, _)) in enumerate(zip(batch, guesses, strict=True))
        ]
        whole = [i for i in range(len(batch)) if len(parts[i]) <= 1]
        clear = [i for i in whole if guesses[i][1] >= SURE and batch[i].speech_s >= SURE_S]
        understood = (
            self._understood([batch[i] for i in clear], states[clear], [guesses[i][0] for i in clear])
            if clear
            else []
        )
        # Copies: a view would keep the whole batch.
        unclear = {batch[i]: states[i : i + 1].copy() for i in whole if i not in clear}
        return _First(guesses, parts, understood, unclear)

    def _by_language(self, stretch: Stretch, states: States, language: str) -> dict[str, Stretch]:
        """Stretches of one language each, out of one with its states (1, T, d)."""

        def language_of(span: Span) -> tuple[str, float]:
            start, end = stretch.heard_at(span)
            first, last = round(start / STATE_S), round((min(end, start + LANGUAGE_S) + AFTER_S) / STATE_S)
            return self.engine.languages(states[:, first:last])[0]

        return by_language(stretch, language, language_of)

    def _listen(self, speech: Sequence[Stretch], audio: Audio, language: str) -> list[_Heard]:
        """What is said in stretches, in one language."""

        def said(batch: Sequence[Stretch]) -> list[_Heard]:
            return self._understood(batch, self._states(batch, audio), [language] * len(batch))

        batches = list(_batches(speech, self.batch_size))
        return [part for parts in side_by_side(said, batches, self._device) for part in parts]

    @cached_property
    def _device(self) -> torch.device:
        import torch

        return torch.device("cpu" if self.engine.on_cpu else "cuda")

    def _states(self, batch: Sequence[Stretch], audio: Audio) -> States:
        """The encoder's states of stretches: (B, T, d)."""
        return self.engine.states([stretch.sound(audio) for stretch in batch])

    def _understood(self, batch: Sequence[Stretch], states: States, languages: Sequence[str]) -> list[_Heard]:
        """What is said in stretches that are encoded, each in its language."""
        seconds = [stretch.heard_s for stretch in batch]
        texts = self.engine.said(states, languages, seconds)
        looping = [i for i, s in enumerate(batch) if len(s.speech) == 1 and runs_in_loop(texts[i].pieces)]
        if not looping:
            return [_checked(*one) for one in zip(batch, texts, languages, strict=True)]
        # One span can't be heard in parts: its text without what comes again, where that can be believed.
        others = self.engine.said(
            states[looping], [languages[i] for i in looping], [seconds[i] for i in looping], NO_REPEAT
        )
        heard = [_checked(*one) for one in zip(batch, texts, languages, strict=True)]
        for i, other in zip(looping, others, strict=True):
            again = _checked(batch[i], other, languages[i])
            if len(again.words) > len(heard[i].words):
                heard[i] = replace(again, flags=again.flags | heard[i].flags)
        return heard

    def _completed(self, heard: Sequence[_Heard], audio: Audio, times: int = 2) -> list[_Heard]:
        """The same, with what is said in the speech that is to be heard by itself."""
        by_itself: defaultdict[str, set[Span]] = defaultdict(set)
        for part in heard:
            by_itself[part.language] |= {span for spans in part.again for span in spans}
        alone_by_span: dict[tuple[str, Span], _Heard] = {}
        for language, speech in by_itself.items():
            # A batch costs what its longest does.
            short_first = sorted(speech, key=lambda span: (span[1] - span[0], span))
            alone = self._listen([Stretch((span,)) for span in short_first], audio, language)
            if times > 1:
                alone = self._completed(alone, audio, times - 1)
            alone_by_span |= {(language, span): part for span, part in zip(short_first, alone, strict=True)}
        whole = []
        for part in heard:
            words, flags = part.words, part.flags
            for spans in part.again:
                parts = [alone_by_span[part.language, span] for span in spans]
                words = with_more(words, spans, [word for p in parts for word in p.words])
                flags = flags.union(*(p.flags for p in parts))
            whole.append(replace(part, words=words, flags=flags))
        return whole


def _checked(stretch: Stretch, text: StretchText, language: str) -> _Heard:
    """What can be believed of what is said in a stretch, and what of it is doubtful."""
    if len(stretch.speech) > 1 and runs_in_loop(text.pieces):
        return _Heard(stretch, (), frozenset(), language, tuple((span,) for span in stretch.speech))
    pieces, flags = believable(text, stretch)
    words = tuple(words_of(pieces, stretch))
    again = doubtful(words, stretch) if words else ()
    return _Heard(stretch, words, frozenset(flags), language, tuple(again))


def _is_certain(probability: float, parts: Sequence[_Heard]) -> bool:
    """Whether a recording is in the language that it is taken for: by its probability and its words'."""
    words = [word.probability for part in parts for word in part.words]
    return probability >= CERTAIN_LANGUAGE and (not words or sum(words) / len(words) >= CERTAIN_WORDS)


def _batches(speech: Sequence[Stretch], size: int) -> Iterator[Sequence[Stretch]]:
    for first in range(0, len(speech), size):
        yield speech[first : first + size]


def _numbered(parts: Sequence[_Heard]) -> list[Word]:
    """Words in order of time, each with the number of its sentence as its cue."""
    out: list[Word] = []
    sentence, ended = -1, True
    for part in parts:
        for i, word in enumerate(part.words):
            sentence += ended or i == 0
            out.append(Word(word.start, word.end, word.text, confidence=word.probability, cue=sentence))
            ended = word.text.endswith(SENTENCE_ENDS)
    return sorted(out, key=lambda word: word.start)


def load(folder: Path | None, *, device: str, language: str | None, batch_size: int, threads: int) -> Whisper:
    """The Whisper of a folder, or the best that is here. Raises: SetupError when there is none."""
    files = whisper_files.best(folder, device)
    return Whisper.load(files, device=device, language=language, batch_size=batch_size, threads=threads)
