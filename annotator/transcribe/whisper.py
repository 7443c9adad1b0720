"""Recognition by Whisper (Radford et al. 2022) through transformers, over the speech that diarization found.

What departs from the reference: stretches of speech of up to 30 s are recognised independently and in
batches, without timestamp tokens; words are timed by alignment.py from one more pass of the decoder;
decoding is greedy, so that a run gives the same words again. Against invented text: only speech is listened
to, stretches that the model itself holds for silence are left out, loops are cut to their first round.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration, WhisperTokenizer
from transformers.utils import logging

from annotator.records import RATE_HZ, Audio, Media, SetupError, Transcript, Turn, UsageError, Word

from .alignment import FRAME_S, token_starts  # noqa: TID251 - own package
from .cues import plain, spread, tokens  # noqa: TID251 - own package
from .language import language_code  # noqa: TID251 - own package
from .whisper_weights import find_weights  # noqa: TID251 - own package

STRETCH_S = 30.0  # what Whisper hears at once
JOIN_S = 2.0  # shorter silences stay inside a stretch
MARGIN_S = 0.2  # sound kept around speech
LONGEST_S, LONGEST_CHARACTER_S = 0.3, 0.12  # a word lasts at most this and that for each character
CPU_BATCH = 4  # more gains nothing on a CPU and costs memory
SILENCE = 0.6  # probability of no speech above which an unlikely text is left out ...
UNLIKELY = -1.0  # ... unlikely by its mean log probability a token (both from the paper, section 4.5)
REPETITIVE = 2.4  # compression ratio of text that runs in a loop (the same section)
_CODES = {"jv": "jw", "nb": "no"}  # ISO 639-1 to Whisper's own, where they differ
_SENTENCE_ENDS = (".", "!", "?", "…", "。", "！", "？")


@dataclass(frozen=True)
class _Said:
    """The text of a stretch: pieces of it with times in the stretch and probability."""

    pieces: list[tuple[str, float, float, float]]  # text with its leading space, start, end, probability
    silence: float  # probability that there is no speech
    mean_log_probability: float


class Whisper:
    """A ``Transcriber`` over a loaded model. Make one with ``Whisper.load``."""

    def __init__(
        self, model: Any, extractor: Any, tokenizer: Any, *, language: str | None, batch_size: int
    ) -> None:
        self.model, self.extractor, self.tokenizer = model, extractor, tokenizer
        self.language, self.batch_size = language, batch_size

    @classmethod
    def load(
        cls,
        folder: Path | None = None,
        *,
        device: str = "auto",
        language: str | None = None,
        offline: bool = False,
        batch_size: int = 8,
    ) -> Whisper:
        """Load from a folder, the hub's cache or the hub.

        Raises: SetupError if the weights are not to be had or not those of a Whisper.
        """
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        folder = find_weights(folder, device, offline)
        try:
            with _quiet():
                whisper: Any = WhisperForConditionalGeneration
                model, loaded = whisper.from_pretrained(
                    folder,
                    local_files_only=True,
                    use_safetensors=True,
                    output_loading_info=True,
                    attn_implementation="eager",  # the others do not give their attention
                    dtype=torch.float16 if device.startswith("cuda") else torch.float32,
                )
                extractor = WhisperFeatureExtractor.from_pretrained(folder, local_files_only=True)
                tokenizer = WhisperTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise SetupError(f"{folder} is no Whisper that can be loaded: {reason}") from None
        if loaded["missing_keys"]:
            raise SetupError(
                f"{folder} has weights of another model: {sorted(loaded['missing_keys'])[0]} is missing."
            )
        if language is not None and f"<|{_CODES.get(language, language)}|>" not in _languages(model):
            raise UsageError(f"This Whisper does not know the language {language!r}.")
        if batch_size > CPU_BATCH and not device.startswith("cuda"):
            batch_size = CPU_BATCH
        model = model.to(device).eval()
        spoken = _CODES.get(language, language) if language is not None else None
        return cls(model, extractor, tokenizer, language=spoken, batch_size=max(1, batch_size))

    @torch.inference_mode()
    def __call__(self, media: Media, audio: Audio | None, turns: Sequence[Turn]) -> Transcript:
        """Words of the speech in ``turns``, timed and with their probability. No speech, no transcript."""
        found = stretches(turns, audio) if audio is not None else []
        if audio is None or not found:
            return Transcript()
        words: list[Word] = []
        flags: set[str] = set()
        language, sentence, size = self.language, 0, self.batch_size
        at = 0
        while at < len(found):
            batch = found[at : at + size]
            try:
                language, said = self._recognise([audio.window(*s) for s in batch], language)
            except torch.cuda.OutOfMemoryError:
                if size == 1:
                    raise SetupError("The GPU has too little memory for Whisper: use --device cpu.") from None
                size //= 2
                torch.cuda.empty_cache()
                continue
            at += len(batch)
            for (start, end), text in zip(batch, said, strict=True):
                pieces, looped = sensible(text)
                if looped:
                    flags.add("asr_repetition")
                for word in _words(pieces, start, end):
                    words.append(Word(*word[:3], confidence=word[3], cue=sentence))
                    sentence += word[2].endswith(_SENTENCE_ENDS)
                sentence += 1
        words.sort(key=lambda w: w.start)
        code = next((iso for iso, own in _CODES.items() if own == language), language)
        return Transcript(tuple(words), "whisper", language_code(code), tuple(sorted(flags)))

    def _recognise(
        self, sounds: Sequence[NDArray[np.float32]], language: str | None
    ) -> tuple[str | None, list[_Said]]:
        """The language (heard in the first batch if it is not told), and the text of stretches at 16 kHz."""
        model, config = self.model, self.model.generation_config
        inputs = self.extractor(list(sounds), sampling_rate=RATE_HZ, return_tensors="pt")
        encoded = model.get_encoder()(inputs.input_features.to(model.device, model.dtype))
        multilingual = bool(getattr(config, "is_multilingual", False))
        if multilingual and language is None:
            language = self._hear_language(encoded, sounds)
        options: dict[str, Any] = {}
        if multilingual:
            options = {"language": language, "task": "transcribe"}
        room = model.config.max_target_positions
        with _quiet():
            sequences = model.generate(
                encoder_outputs=encoded,
                return_timestamps=False,
                force_unique_generate_call=True,
                do_sample=False,
                num_beams=1,
                max_new_tokens=room // 2 - 4,  # as the reference
                **options,
            )
        heads = getattr(config, "alignment_heads", None)
        decoded = model.model.decoder(
            input_ids=sequences,
            encoder_hidden_states=encoded.last_hidden_state,
            output_attentions=bool(heads),
            use_cache=False,
        )
        probabilities = model.proj_out(decoded.last_hidden_state).float().softmax(-1)  # (B, T, vocabulary)
        chosen = probabilities[:, :-1].gather(-1, sequences[:, 1:, None])[..., 0].cpu().numpy()  # (B, T - 1)
        silent = self.tokenizer.convert_tokens_to_ids(["<|nospeech|>", "<|nocaptions|>"])
        known = [i for i in silent if i is not None and i != self.tokenizer.unk_token_id]
        silence = probabilities[:, 0, known].sum(-1).tolist() if known else [0.0] * len(sounds)
        attention = None
        if heads:
            picked = [decoded.cross_attentions[layer][:, head] for layer, head in heads]
            attention = torch.stack(picked, dim=1).float().cpu().numpy()  # (B, heads, T, frames)
        said = []
        for i, (ids, sound) in enumerate(zip(sequences.tolist(), sounds, strict=True)):
            rows = None if attention is None else attention[i]
            said.append(self._said(ids, chosen[i], rows, len(sound) / RATE_HZ, silence[i]))
        return language, said

    def _hear_language(self, encoded: Any, sounds: Sequence[NDArray[np.float32]]) -> str:
        """The language of most of the sound, so that a recording has one."""
        heard: dict[str, int] = {}
        names = {i: token.strip("<|>") for token, i in self.model.generation_config.lang_to_id.items()}
        for i, sound in zip(
            self.model.detect_language(encoder_outputs=encoded).tolist(), sounds, strict=True
        ):
            heard[names[i]] = heard.get(names[i], 0) + len(sound)
        return max(heard, key=lambda name: heard[name])

    def _said(
        self,
        ids: Sequence[int],
        chosen: NDArray[np.float32],
        attention: NDArray[np.float32] | None,
        length_s: float,
        silence: float,
    ) -> _Said:
        """Pieces of text from one sequence of tokens, prompt included."""
        # Whatever is no text comes after the end mark in Whisper's vocabularies.
        mark = self.tokenizer.eos_token_id
        first = next((i for i, token in enumerate(ids) if i > 0 and token < mark), len(ids))
        last = next((i for i in range(first, len(ids)) if ids[i] >= mark), len(ids))
        if first == last:
            return _Said([], silence, 0.0)
        text_ids, shares = list(ids[first:last]), chosen[first - 1 : last - 1]
        groups = self._groups(text_ids)
        if attention is not None:
            frames = max(1, min(attention.shape[-1], int(np.ceil(length_s / FRAME_S))))
            # The row of a token is where the decoder listened to say the next one.
            rows = attention[:, first - 1 : last, :frames]
            starts = token_starts(rows, self.model.config.median_filter_width)
            bounds = [(float(starts[a]), float(starts[b])) for _, a, b in groups]
        else:
            bounds = list(spread(0.0, length_s, [text for text, _, _ in groups]))
        pieces = [
            (text, start, min(max(start, end), length_s), float(shares[a:b].mean()))
            for (text, a, b), (start, end) in zip(groups, bounds, strict=True)
        ]
        return _Said(pieces, silence, float(np.log(np.maximum(shares, 1e-10)).mean()))

    def _groups(self, ids: Sequence[int]) -> list[tuple[str, int, int]]:
        """Tokens joined to whole characters, as (text, first, last + 1)."""
        groups = []
        first = 0
        for last in range(1, len(ids) + 1):
            text = self.tokenizer.decode(ids[first:last], skip_special_tokens=True)
            # No character has more than four bytes, so more tokens that make none never will.
            if "\ufffd" not in text or last - first >= 4 or last == len(ids):
                groups.append((text, first, last))
                first = last
        return groups


@contextmanager
def _quiet() -> Iterator[None]:
    """Without progress bars and advice to programmers on the user's terminal."""
    shown, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _languages(model: Any) -> set[str]:
    """Language tokens of a model; one that knows English alone has no such list."""
    return set(getattr(model.generation_config, "lang_to_id", None) or {"<|en|>"})


def stretches(turns: Sequence[Turn], audio: Audio) -> list[tuple[float, float]]:
    """Spans of speech, 30 s at most: turns with short silences between them, cut at quiet spots."""
    spans: list[list[float]] = []
    for turn in sorted(turns):
        start, end = max(0.0, turn.start - MARGIN_S), min(audio.duration_s, turn.end + MARGIN_S)
        if end <= start:
            continue
        if spans and start <= spans[-1][1]:
            spans[-1][1] = max(spans[-1][1], end)
        elif spans and start - spans[-1][1] < JOIN_S and end - spans[-1][0] <= STRETCH_S:
            spans[-1][1] = end
        else:
            spans.append([start, end])
    return [cut for start, end in spans for cut in _cut(start, end, audio)]


def _cut(start: float, end: float, audio: Audio) -> Iterator[tuple[float, float]]:
    step = RATE_HZ // 10
    while end - start > STRETCH_S:
        tail = audio.window(start + STRETCH_S * 2 / 3, start + STRETCH_S)
        energy = np.square(tail[: len(tail) // step * step]).reshape(-1, step).sum(axis=1)
        at = start + STRETCH_S * 2 / 3 + (int(energy.argmin()) + 0.5) / 10
        yield start, at
        start = at
    yield start, end


def sensible(said: _Said) -> tuple[list[tuple[str, float, float, float]], bool]:
    """The pieces of a stretch that can be believed, and whether a loop was cut."""
    if said.silence > SILENCE and said.mean_log_probability < UNLIKELY:
        return [], False
    text = "".join(piece[0] for piece in said.pieces).encode("utf-8", "replace")
    if not text or len(text) / len(zlib.compress(text)) <= REPETITIVE:
        return said.pieces, False
    kept: list[tuple[str, float, float, float]] = []
    i, cut = 0, False
    texts = [piece[0].strip().casefold() for piece in said.pieces]
    while i < len(texts):
        size = next((n for n in range(1, 21) if texts[i : i + n] * 2 == texts[i + n : i + 3 * n]), 0)
        if not size:
            kept.append(said.pieces[i])
            i += 1
            continue
        kept += said.pieces[i : i + size]
        unit = texts[i : i + size]
        while texts[i : i + size] == unit:
            i += size
        cut = True
        # What is left of a last, broken-off round.
        rest = next(
            (n for n in range(size - 1, 0, -1) if texts[i : i + n] == unit[:n] and i + n == len(texts)), 0
        )
        i += rest
    return kept, cut


def _words(
    pieces: Sequence[tuple[str, float, float, float]], start: float, end: float
) -> Iterator[tuple[float, float, str, float]]:
    """Words in seconds of the recording: pieces up to the next space, or wide punctuation."""
    runs: list[list[tuple[str, float, float, float]]] = []
    for piece in pieces:
        text = piece[0]
        before = runs[-1][-1][0] if runs else ""
        joined = before and not before[-1].isspace() and not text[:1].isspace()
        if joined and len(tokens(before[-1] + text[:1])) == 1:
            runs[-1].append(piece)
        elif text:
            runs.append([piece])
    opens = True
    for run in runs:
        parts = tokens(plain("".join(piece[0] for piece in run)))
        if not parts:
            continue
        first, last = min(end, start + run[0][1]), min(end, start + run[-1][2])
        # Alignment leaves a silence with the word beside it: after the end of a sentence, before its begin.
        longest = LONGEST_S + LONGEST_CHARACTER_S * sum(map(len, parts))
        if last - first > longest:
            first, last = (last - longest, last) if opens else (first, first + longest)
        opens = parts[-1].endswith(_SENTENCE_ENDS)
        share = sum(piece[3] for piece in run) / len(run)
        for (a, b), part in zip(spread(first, last, parts), parts, strict=True):
            yield a, b, part, min(1.0, share)
