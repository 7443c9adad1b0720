"""Recognition by Whisper (Radford et al. 2022) in CTranslate2, over the speech that diarization found.

What departs from the reference: stretches of speech of up to 30 s are recognised independently and in
batches, without timestamp tokens; words are timed by one more pass of the decoder (``align``: dynamic time
warping over its cross-attention); decoding is greedy and never tried again at a higher temperature, so that
a run gives the same words again. Speech of which a stretch's words tell nothing is heard again by itself, and
so is a stretch whose text runs in a loop.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from annotator import whisper_files
from annotator.records import RATE_HZ, Audio, Media, SetupError, Transcript, Turn, UsageError, Word
from annotator.whisper_files import MODEL, VOCABULARIES, WhisperFiles

from .heard import (  # noqa: TID251 - own package
    SENTENCE_ENDS,
    HeardWord,
    Piece,
    Said,
    believable,
    runs_in_loop,
    untold,
    words_of,
)
from .language import language_code  # noqa: TID251 - own package
from .stretches import Stretch, stretches  # noqa: TID251 - own package

log = logging.getLogger("annotator")

HOP = RATE_HZ // 100  # samples a frame of mel energies
ENCODED_S = 0.02  # seconds a position of the encoder's output
LONGEST_TEXT = 224  # tokens of a stretch, as the reference
CPU_BATCH = 4  # more gains nothing on a CPU and costs memory
# A stretch's own language counts with this probability in this much speech; a language that is spoken less
# than this much, or than this share of the recording, is taken for a mistake.
SURE, SURE_S = 0.8, 3.0
CHANGE_S, CHANGE_SHARE = 8.0, 0.05
_CODES = {"jv": "jw", "nb": "no"}  # ISO 639-1 to Whisper's own, where they differ
_ISO = {own: iso for iso, own in _CODES.items()}


@dataclass(frozen=True)
class _Heard:
    """What is said in a stretch.

    Args:
        words: those that can be believed.
        flags: for what was dropped.
        again: speech that is to be heard by itself.
    """

    stretch: Stretch
    words: tuple[HeardWord, ...]
    flags: tuple[str, ...]
    language: str
    again: tuple[Stretch, ...] = ()


class Whisper:
    """A ``Transcriber`` over a loaded model. Make one with ``Whisper.load``."""

    def __init__(
        self, model: Any, extractor: Any, tokenizer: Any, language: str | None, batch_size: int
    ) -> None:
        self.model, self.extractor, self.tokenizer = model, extractor, tokenizer
        self.language = language if model.is_multilingual else "en"
        self.batch_size = batch_size
        self._end = self._token("<|endoftext|>")

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
        """Load a model: 8-bit integers on a CPU, half precision on a GPU.

        Args:
            threads: of a CPU; 0 for as many as there are cores.

        Raises: SetupError if the files are not those of a Whisper; UsageError for a language it doesn't know.
        """
        from tokenizers import Tokenizer
        from transformers import WhisperFeatureExtractor

        try:
            tokenizer = Tokenizer.from_str(files.read(("tokenizer.json",))["tokenizer.json"].decode())
        except Exception as error:  # of the library's own, without a common base
            raise SetupError(f"The tokenizer.json of {files.name} can't be read: {error}") from None
        model = _model(files, device, threads)
        extractor = WhisperFeatureExtractor(feature_size=model.n_mels)  # type: ignore[no-untyped-call]
        if language is not None:
            language = _CODES.get(language, language)
            is_known = tokenizer.token_to_id(f"<|{language}|>") is not None
            if language != "en" and not (is_known and model.is_multilingual):
                raise UsageError(f"This Whisper does not know the language {language!r}.")
        if model.device == "cpu":
            batch_size = min(batch_size, CPU_BATCH)
        return cls(model, extractor, tokenizer, language, max(1, batch_size))

    def __call__(self, media: Media, audio: Audio | None, turns: Sequence[Turn]) -> Transcript:
        """Words of the speech in ``turns``, timed and with their probability. No speech, no transcript."""
        speech = stretches(turns, audio) if audio is not None else []
        if audio is None or not speech:
            return Transcript()
        if self.language is not None:
            heard, main = self._listen(speech, audio, self.language), self.language
        else:
            heard, main = self._listen_in_languages(speech, audio)
        heard = self._completed(heard, audio)
        flags = {flag for part in heard for flag in part.flags}
        if len({part.language for part in heard if part.words}) > 1:
            flags.add("language_changes")
        code = language_code(_ISO.get(main, main))
        return Transcript(tuple(_numbered(heard)), "whisper", code, tuple(sorted(flags)))

    def _listen_in_languages(self, speech: Sequence[Stretch], audio: Audio) -> tuple[list[_Heard], str]:
        """What is said in stretches, each in its own language where that is clear, and the main language.

        What is not clear, and what seems to be in a language that is hardly spoken, is heard in the main one.
        """
        heard: dict[Stretch, _Heard] = {}
        seconds: defaultdict[str, float] = defaultdict(float)
        for batch in _batches(speech, self.batch_size):
            encoded = self._encoded(batch, audio)
            guesses = [best[0] for best in self.model.detect_language(encoded)]
            clear: list[int] = []
            for i, (stretch, (token, probability)) in enumerate(zip(batch, guesses, strict=True)):
                seconds[token.strip("<|>")] += stretch.speech_s * probability
                if probability >= SURE and stretch.speech_s >= SURE_S:
                    clear.append(i)
            if clear:
                languages = [guesses[i][0].strip("<|>") for i in clear]
                of_clear = encoded if len(clear) == len(batch) else _rows(encoded, clear)
                for part in self._understood([batch[i] for i in clear], of_clear, languages):
                    heard[part.stretch] = part
        main = max(seconds, key=lambda name: seconds[name])
        least = max(CHANGE_S, CHANGE_SHARE * sum(seconds.values()))
        again = [
            s
            for s in speech
            if s not in heard or (heard[s].language != main and seconds[heard[s].language] < least)
        ]
        heard |= {part.stretch: part for part in self._listen(again, audio, main)}
        return [heard[stretch] for stretch in speech], main

    def _completed(self, heard: Sequence[_Heard], audio: Audio) -> list[_Heard]:
        """The same, and what is said in the speech that is to be heard by itself."""
        left_out: defaultdict[str, list[Stretch]] = defaultdict(list)
        for part in heard:
            left_out[part.language] += part.again
        return [*heard, *(p for name, some in left_out.items() for p in self._listen(some, audio, name))]

    def _listen(self, speech: Sequence[Stretch], audio: Audio, language: str) -> list[_Heard]:
        """What is said in stretches, in one language."""
        return [
            part
            for batch in _batches(speech, self.batch_size)
            for part in self._understood(batch, self._encoded(batch, audio), [language] * len(batch))
        ]

    def _encoded(self, batch: Sequence[Stretch], audio: Audio) -> Any:
        """The encoder's output for stretches: (B, 1500, d), in the engine's memory."""
        from ctranslate2 import StorageView

        sounds = [stretch.sound(audio) for stretch in batch]
        mel = self.extractor(sounds, sampling_rate=RATE_HZ, return_tensors="np").input_features
        return self.model.encode(StorageView.from_array(np.ascontiguousarray(mel, np.float32)))

    def _understood(self, batch: Sequence[Stretch], encoded: Any, languages: Sequence[str]) -> list[_Heard]:
        """What is said in stretches that are encoded, each in its language."""
        prompts = [self._prompt(language) for language in languages]
        answers = self.model.generate(
            encoded,
            prompts,
            beam_size=1,
            max_length=LONGEST_TEXT + len(prompts[0]),
            return_scores=True,
            return_no_speech_prob=True,
        )
        texts = [[t for t in answer.sequences_ids[0] if t < self._end] for answer in answers]
        times = self._aligned(batch, encoded, prompts, texts)
        heard = []
        for stretch, text, at, answer, language in zip(batch, texts, times, answers, languages, strict=True):
            said = Said(self._pieces(text, at), answer.no_speech_prob, answer.scores[0])
            spans = stretch.speech
            if len(spans) > 1 and runs_in_loop(said.pieces):
                heard.append(_Heard(stretch, (), (), language, tuple(Stretch((span,)) for span in spans)))
                continue
            pieces, flags = believable(said, stretch)
            words = tuple(words_of(pieces, stretch))
            again = untold(words, stretch) if words else []
            heard.append(_Heard(stretch, words, flags, language, tuple(Stretch((s,)) for s in again)))
        return heard

    def _prompt(self, language: str) -> list[int]:
        start, silent = self._token("<|startoftranscript|>"), self._token("<|notimestamps|>")
        if not self.model.is_multilingual:
            return [start, silent]
        return [start, self._token(f"<|{language}|>"), self._token("<|transcribe|>"), silent]

    def _token(self, text: str) -> int:
        token = self.tokenizer.token_to_id(text)
        if token is None:
            raise SetupError(f"The Whisper's tokenizer.json has no {text}: it is of another model.")
        return int(token)

    def _aligned(
        self, batch: Sequence[Stretch], encoded: Any, prompts: Sequence[list[int]], texts: Sequence[list[int]]
    ) -> list[list[tuple[float, float]]]:
        """For each text, start in seconds and probability of each token, and of the end mark."""
        times: list[list[tuple[float, float]]] = [[] for _ in texts]
        # The engine takes one prompt for all, and no empty text: groups of one language that say something.
        groups: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
        for i, text in enumerate(texts):
            if text:
                groups[tuple(prompts[i])].append(i)
        for prompt, rows in groups.items():
            of_group = encoded if len(rows) == len(texts) else _rows(encoded, rows)
            frames = [max(2, round(batch[i].heard_s * RATE_HZ) // HOP) for i in rows]
            done = self.model.align(of_group, list(prompt), [texts[i] for i in rows], frames)
            for i, alignment in zip(rows, done, strict=True):
                starts: dict[int, int] = {}
                for token, frame in alignment.alignments:
                    starts.setdefault(token, frame)
                # One more than there are tokens: where the end mark begins, the last one ends.
                at = np.maximum.accumulate([starts.get(t, 0) for t in range(len(texts[i]) + 1)])
                shares = [*alignment.text_token_probs, 1.0]
                times[i] = [(ENCODED_S * int(f), float(p)) for f, p in zip(at, shares, strict=True)]
        return times

    def _pieces(self, text: Sequence[int], times: Sequence[tuple[float, float]]) -> tuple[Piece, ...]:
        """Pieces of text: the fewest tokens that together make characters."""
        pieces: list[Piece] = []
        first = 0
        for last in range(1, len(text) + 1):
            decoded = self.tokenizer.decode(list(text[first:last]), skip_special_tokens=True)
            # No character has more than four bytes, so more tokens that make none never will.
            if "\ufffd" in decoded and last - first < 4 and last < len(text):
                continue
            probability = float(np.mean([p for _, p in times[first:last]]))
            pieces.append(Piece(decoded, times[first][0], times[last][0], probability))
            first = last
        return tuple(pieces)


def _batches(speech: Sequence[Stretch], size: int) -> Iterator[Sequence[Stretch]]:
    for first in range(0, len(speech), size):
        yield speech[first : first + size]


def _rows(encoded: Any, rows: Sequence[int]) -> Any:
    """Some of a batch of encoded stretches."""
    from ctranslate2 import Device, StorageView

    here = encoded if encoded.device == "cpu" else encoded.to_device(Device.cpu)
    return StorageView.from_array(np.ascontiguousarray(np.array(here)[list(rows)]))


def _numbered(heard: Sequence[_Heard]) -> list[Word]:
    """Words in order of time, each with the number of its sentence as its cue."""
    out: list[Word] = []
    sentence, ended = -1, True
    for part in heard:
        for i, word in enumerate(part.words):
            sentence += ended or i == 0
            out.append(Word(word.start, word.end, word.text, confidence=word.probability, cue=sentence))
            ended = word.text.endswith(SENTENCE_ENDS)
    return sorted(out, key=lambda word: word.start)


def _model(files: WhisperFiles, device: str, threads: int) -> Any:
    """The model in the engine. Raises: SetupError when the files are broken, or no Whisper's."""
    import ctranslate2

    kind, _, number = device.partition(":")
    if kind == "auto":
        kind = "cuda" if ctranslate2.get_cuda_device_count() else "cpu"
    options: dict[str, Any] = {"inter_threads": 1, "intra_threads": threads}
    if files.folder is None:
        options["files"] = files.read((MODEL, "config.json", *VOCABULARIES))
    place = str(files.folder or files.name)
    try:
        if kind == "cuda":
            try:
                return ctranslate2.models.Whisper(
                    place, device="cuda", device_index=int(number or 0), compute_type="float16", **options
                )
            except RuntimeError as error:
                # The engine asks for CUDA 12's libraries, whatever torch brings.
                log.warning("recognition goes on the CPU, its engine can't use the GPU: %s", error)
        return ctranslate2.models.Whisper(place, device="cpu", compute_type="int8", **options)
    except (RuntimeError, ValueError) as error:
        raise SetupError(f"{place} is no Whisper that can be loaded: {str(error).splitlines()[0]}") from None


def load(folder: Path | None, *, device: str, language: str | None, batch_size: int, threads: int) -> Whisper:
    """The Whisper of a folder, or the best that is here. Raises: SetupError when there is none."""
    files = whisper_files.best(folder, device)
    return Whisper.load(files, device=device, language=language, batch_size=batch_size, threads=threads)
