"""A Whisper (Radford et al. 2022) in CTranslate2: sound to states, states to text with times.

Greedy decoding without timestamp tokens, never tried again at a higher temperature; text is timed by one more
pass of the decoder (``align``: dynamic time warping over its cross-attention).
"""

from __future__ import annotations

import json
import logging
import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annotator.records import RATE_HZ, SetupError, UsageError
from annotator.threads import processors, same_number
from annotator.whisper_files import MODEL, VOCABULARIES, WhisperFiles

from .heard import Piece, StretchText

log = logging.getLogger("annotator")

States = NDArray[Any]  # the encoder's output (B, T, d), single precision on a CPU, half on a GPU
STATE_S = 0.02  # seconds of sound a state is of
MEL_S = 0.01  # seconds a frame of mel energies is of
LONGEST_TEXT = 224  # tokens of a stretch, as the reference
SILENCE_S = 10.0  # after a sound, so that the decoder finds its end
_MARKS = ("<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>")
_CODES = {"jv": "jw", "nb": "no"}  # ISO 639-1 to Whisper's own, where they differ
_ISO = {own: iso for iso, own in _CODES.items()}


class Engine:
    """A loaded model. Languages are called by ISO 639-1, or Whisper's own code where that has none."""

    def __init__(self, model: Any, extractor: Any, tokenizer: Any) -> None:
        self._model, self._extractor, self._tokenizer = model, extractor, tokenizer
        self._end = self._token("<|endoftext|>")

    @classmethod
    def load(cls, files: WhisperFiles, *, device: str = "auto", threads: int = 0) -> Engine:
        """Load a model: 8-bit integers on a CPU, half precision on a GPU.

        Args:
            threads: of a CPU, that many batches side by side; 0 for as many as there are processors.

        Raises: SetupError if the files are not those of a Whisper.
        """
        from tokenizers import Tokenizer
        from transformers import WhisperFeatureExtractor

        try:
            tokenizer = Tokenizer.from_str((files.read("tokenizer.json") or b"").decode())
        except SetupError:
            raise
        except Exception as error:  # of the library's own, without a common base
            raise SetupError(f"The tokenizer.json of {files.name} can't be read: {error}") from None
        _check_vocabulary(files, tokenizer)
        with same_number():
            model = _model(files, device, threads)
        extractor = WhisperFeatureExtractor(feature_size=model.n_mels)  # type: ignore[no-untyped-call]
        return cls(model, extractor, tokenizer)

    @property
    def on_cpu(self) -> bool:
        return bool(self._model.device == "cpu")

    @property
    def is_multilingual(self) -> bool:
        return bool(self._model.is_multilingual)

    def check(self, language: str) -> None:
        """Raises: UsageError for a language that it does not know."""
        token = self._tokenizer.token_to_id(f"<|{_CODES.get(language, language)}|>")
        if language != "en" and (token is None or not self.is_multilingual):
            raise UsageError(f"This Whisper does not know the language {language!r}.")

    def states(self, sounds: Sequence[NDArray[np.float32]]) -> States:
        """The encoder's output for sounds of up to 30 s, each in [-1, 1) at 16 kHz: (B, T, d).

        The reference lays silence after a sound up to 30 s, which costs as much as sound does. Ten seconds of
        it are enough for the decoder to find the end.
        """
        from ctranslate2 import StorageView

        mel = self._extractor(sounds, sampling_rate=RATE_HZ, return_tensors="np").input_features
        longest = max(len(sound) for sound in sounds) / RATE_HZ
        mel = np.ascontiguousarray(mel[:, :, : math.ceil(longest + SILENCE_S) * round(1 / MEL_S)], np.float32)
        # One after the other on a CPU: it is slower by a fifth with a batch, which leaves its cache.
        parts = np.split(mel, len(mel)) if self.on_cpu else [mel]
        return np.concatenate(
            [np.array(self._model.encode(StorageView.from_array(part), to_cpu=True)) for part in parts]
        )

    def languages(self, states: States) -> list[tuple[str, float]]:
        """The likeliest language of each, and its probability."""
        guesses = [best[0] for best in self._model.detect_language(_view(states))]
        names = [token.strip("<|>") for token, _ in guesses]
        return [(_ISO.get(name, name), p) for name, (_, p) in zip(names, guesses, strict=True)]

    def said(
        self, states: States, languages: Sequence[str], seconds: Sequence[float], no_repeat: int = 0
    ) -> list[StretchText]:
        """What is said in each of the sounds that states are of.

        Args:
            states: (B, T, d).
            languages: of each.
            seconds: of each, without the silence after it.
            no_repeat: tokens in a row that a text holds once at most; 0 for any.
        """
        prompts = [self._prompt(language) for language in languages]
        answers = self._model.generate(
            _view(states),
            prompts,
            beam_size=1,
            no_repeat_ngram_size=no_repeat,
            max_length=LONGEST_TEXT + len(prompts[0]),
            return_scores=True,
            return_no_speech_prob=True,
        )
        texts = [[t for t in answer.sequences_ids[0] if t < self._end] for answer in answers]
        times = self._times(states, prompts, texts, seconds)
        return [
            StretchText(self._pieces(text, at), answer.no_speech_prob, answer.scores[0])
            for text, at, answer in zip(texts, times, answers, strict=True)
        ]

    def _prompt(self, language: str) -> list[int]:
        start, silent = self._token("<|startoftranscript|>"), self._token("<|notimestamps|>")
        if not self.is_multilingual:
            return [start, silent]
        language = _CODES.get(language, language)
        return [start, self._token(f"<|{language}|>"), self._token("<|transcribe|>"), silent]

    def _token(self, text: str) -> int:
        token = self._tokenizer.token_to_id(text)
        if token is None:
            raise SetupError(f"The Whisper's tokenizer.json has no {text}: it is of another model.")
        return int(token)

    def _times(
        self,
        states: States,
        prompts: Sequence[list[int]],
        texts: Sequence[list[int]],
        seconds: Sequence[float],
    ) -> list[list[tuple[float, float]]]:
        """For each text, start in seconds and probability of each token, and of the end mark."""
        times: list[list[tuple[float, float]]] = [[] for _ in texts]
        # The engine takes one prompt for all, and no empty text: groups of one language that say something.
        groups: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
        for i, text in enumerate(texts):
            if text:
                groups[tuple(prompts[i])].append(i)
        for prompt, rows in groups.items():
            frames = [max(2, round(seconds[i] / MEL_S)) for i in rows]
            done = self._model.align(_view(states[rows]), list(prompt), [texts[i] for i in rows], frames)
            for i, alignment in zip(rows, done, strict=True):
                starts: dict[int, int] = {}
                for token, frame in alignment.alignments:
                    starts.setdefault(token, frame)
                # One more than there are tokens: where the end mark begins, the last one ends.
                at = np.maximum.accumulate([starts.get(t, 0) for t in range(len(texts[i]) + 1)])
                shares = [*alignment.text_token_probs, 1.0]
                times[i] = [(STATE_S * int(f), float(p)) for f, p in zip(at, shares, strict=True)]
        return times

    def _pieces(self, text: Sequence[int], times: Sequence[tuple[float, float]]) -> tuple[Piece, ...]:
        """Pieces of text: the fewest tokens that together make characters."""
        pieces: list[Piece] = []
        first = 0
        for last in range(1, len(text) + 1):
            decoded = self._tokenizer.decode(list(text[first:last]), skip_special_tokens=True)
            # No character has more than four bytes, so more tokens that make none never will.
            if "\ufffd" in decoded and last - first < 4 and last < len(text):
                continue
            probability = float(np.mean([p for _, p in times[first:last]]))
            pieces.append(Piece(decoded, times[first][0], times[last][0], probability))
            first = last
        return tuple(pieces)


def _check_vocabulary(files: WhisperFiles, tokenizer: Any) -> None:
    """Raises: SetupError where the engine's vocabulary is not that of the tokenizer, but another Whisper's.

    Nothing else would tell: the marks would be words, and the words others.
    """
    name, content = next((n, c) for n in VOCABULARIES if (c := files.read(n)) is not None)
    try:
        listed = json.loads(content) if name.endswith(".json") else content.decode().split("\n")
        marks = {token: tokenizer.token_to_id(token) for token in _MARKS}
        fits = all(n is not None and listed[n].strip() == token for token, n in marks.items())
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        fits = False
    if not fits:
        raise SetupError(
            f"The tokenizer.json of {files.name} and its {name} do not belong together: "
            "give a folder with all files of one Whisper."
        )


def _view(states: States) -> Any:
    from ctranslate2 import StorageView

    return StorageView.from_array(np.ascontiguousarray(states))


def _model(files: WhisperFiles, device: str, threads: int) -> Any:
    """The model in the engine. Raises: SetupError when the files are broken, or no Whisper's."""
    import ctranslate2

    kind, _, number = device.partition(":")
    if kind == "auto":
        kind = "cuda" if ctranslate2.get_cuda_device_count() else "cpu"
    # A batch in one thread: two on one wait for each other at each of many small steps.
    options: dict[str, Any] = {"inter_threads": threads or processors(), "intra_threads": 1}
    folder = files.whole()
    if folder is None:
        content = {name: files.read(name) for name in (MODEL, "config.json", *VOCABULARIES)}
        options["files"] = {name: data for name, data in content.items() if data is not None}
    place = str(folder or files.name)
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
