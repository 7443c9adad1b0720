"""What flows between the stages, and how they fail. Imports nothing of ours.

    AnnotateError
      UsageError       a bad option, path or key           exit 2
      SetupError       weights, disk, a missing library    exit 1
      RecordingError   one recording can't be annotated    a row in the failures file
      Stopped          by SIGINT or SIGTERM                exit 130, 143

Times are seconds from the start of the recording (presentation time 0).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # every command imports this file, and `annotate --help` needs no arrays
    import numpy as np
    from numpy.typing import NDArray

RATE_HZ = 16_000  # of all audio after decoding
MODALITIES = ("text", "audio", "face")
SENTIMENTS = ("positive", "neutral", "negative")  # in the order of Prediction
# Their columns in the table. "neutral" is a label of most models, whose column would have the same name.
SENTIMENT_COLUMNS = {"positive": "p_positive", "neutral": "p_neutral_sentiment", "negative": "p_negative"}
RESERVED_LABELS = tuple(column.removeprefix("p_") for column in SENTIMENT_COLUMNS.values())
DIALOGUE_GAP_S = 60.0  # without an utterance, and a new dialogue starts; the default


class AnnotateError(Exception):
    """Base of every error that a user may see. Its text says what is wrong and what to do."""

    exit_code = 1


class UsageError(AnnotateError):
    """The command can't be carried out as given."""

    exit_code = 2


class SetupError(AnnotateError):
    """The machine lacks something: weights, disk space, a library."""

    exit_code = 1


class Stopped(AnnotateError):
    """A signal ended the command; its text says how to go on.

    Args:
        number: the signal's.
    """

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = 128 + number


class RecordingError(AnnotateError):
    """One recording can't be annotated; the others can.

    Args:
        stage: where it failed (``find``, ``probe``, ``decode``, ``diarize``, ...).
        error: a short name of the kind of fault, stable for scripts (``not_media``, ``no_streams``, ...).
        message: a sentence for people.
    """

    def __init__(self, stage: str, error: str, message: str) -> None:
        super().__init__(message)
        self.stage, self.error, self.message = stage, error, message

    def __reduce__(self) -> tuple[type[RecordingError], tuple[str, str, str]]:
        # Crosses process boundaries; the default would pass the message alone.
        return (type(self), (self.stage, self.error, self.message))


@dataclass(frozen=True)
class SubtitleStream:
    """A subtitle stream inside a recording, as the file describes it."""

    index: int  # ffmpeg's, among all streams
    language: str | None  # ISO 639
    number: int = 1  # among the subtitle streams, from 1, as players count
    codec: str = "subrip"
    title: str | None = None
    disposition: tuple[str, ...] = ()  # default, forced, comment, hearing impaired, dub, original, ...


@dataclass(frozen=True)
class AudioStream:
    """A sound stream inside a recording, as the file describes it."""

    index: int  # ffmpeg's, among all streams
    number: int  # among the sound streams, from 1, as players count
    codec: str | None  # None when ffmpeg does not know it
    language: str | None = None  # ISO 639-1
    title: str | None = None
    disposition: tuple[str, ...] = ()  # default, comment, dub, original, visual impaired, ...
    layout: str | None = None  # mono, stereo, 5.1 ...; None where the file only counts three channels or more
    rate_hz: int | None = None
    channels: int | None = None


@dataclass(frozen=True)
class Media:
    """A recording as probed, before decoding."""

    path: Path
    duration_s: float | None  # as declared by the container; None when it does not say
    has_audio: bool
    has_video: bool
    width: int | None = None  # upright, pixels
    height: int | None = None
    audio: tuple[AudioStream, ...] = ()  # also those that can't be decoded
    frame_rate: float | None = None  # pictures a second
    subtitles: tuple[SubtitleStream, ...] = ()
    sidecars: tuple[Path, ...] = ()  # transcript and speaker files that lie beside it
    picture: int | None = None  # ffmpeg's index of the moving pictures, among all streams


@dataclass(frozen=True)
class Audio:
    """Decoded sound: 16-bit mono at 16 kHz, usually memory-mapped, so length costs no memory."""

    samples: NDArray[np.int16]  # (n,)

    @property
    def duration_s(self) -> float:
        return len(self.samples) / RATE_HZ

    def window(self, start: float, end: float) -> NDArray[np.float32]:
        """Samples from ``start`` to ``end`` seconds as float32 in [-1, 1); shorter at the ends."""
        import numpy as np

        first, last = max(0, round(start * RATE_HZ)), max(0, round(end * RATE_HZ))
        return self.samples[first:last].astype(np.float32) / np.float32(32768)


@dataclass(frozen=True)
class ChannelLevels:
    """How loud each channel of a recording is from moment to moment, before they are mixed."""

    level_db: NDArray[np.float16]  # (n, c) mean power of each step, dB of full scale; -120 for nothing
    start_s: float  # of the first step
    step_s: float
    correlation: float  # of the first two channels over all samples, -1 to 1; 0 where one is silent


@dataclass(frozen=True)
class FaceTracks:
    """Faces found in the sampled frames of a recording, k observations in m frames."""

    frame_times: NDArray[np.float64]  # (m,) presentation time of each sampled frame, seconds
    cuts: NDArray[np.float64]  # (c,) times of shot changes, seconds
    times: NDArray[np.float64]  # (k,) time of each observation
    tracks: NDArray[np.int32]  # (k,) which track it belongs to; a track never crosses a cut
    boxes: NDArray[np.float32]  # (k, 4) left, top, right, bottom as shares of width and height
    crops: NDArray[np.uint8]  # (k, 48, 48) upright grey face
    persons: NDArray[np.int32]  # (k,) tracks joined by appearance; the same person has the same number


@dataclass(frozen=True, order=True)
class Turn:
    """One speaker speaks from ``start`` to ``end``. Turns of different speakers may overlap."""

    start: float
    end: float
    speaker: str
    # Share of the evidence for this speaker against the next, 0-1; None where nobody weighed it.
    confidence: float | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Word:
    """A word (or any piece of text without inner spaces) with its times."""

    start: float
    end: float
    text: str
    speaker: str | None = None  # as the transcript names it
    confidence: float | None = None  # 0-1, from recognition
    cue: int | None = None  # the subtitle cue or segment that it came from, for punctuation-free splitting
    change: bool = False  # the transcript marks a change of speaker before it


@dataclass(frozen=True)
class Transcript:
    """What is said, in time order. ``source`` is None when there is no transcript at all."""

    words: tuple[Word, ...] = ()
    source: str | None = None  # sidecar, embedded, whisper, ...
    language: str | None = None  # ISO 639-1
    flags: tuple[str, ...] = ()
    origin: str | None = None  # the file or stream that it was read from
    problems: tuple[RecordingError, ...] = ()  # transcripts of the recording that can't be read
    unused: tuple[tuple[str, str], ...] = ()  # files and streams that were passed over, and why

    @property
    def names_speakers(self) -> bool:
        """Whether it tells who says each of its words."""
        return bool(self.words) and all((word.speaker or "").strip() for word in self.words)


@dataclass(frozen=True)
class Utterance:
    """What one speaker says without a long pause: a row of the table, a node of the graph."""

    dialogue_id: int
    utterance_id: int  # within the dialogue, from 0
    start: float
    end: float
    speaker: str
    overlap: float | None  # share of it during which someone else speaks; None where no one listened for it
    text: str | None = None
    asr_confidence: float | None = None
    # Share of the evidence for the speaker against the next, 0-1; None where a file named the speaker.
    speaker_confidence: float | None = None
    flags: tuple[str, ...] = ()
    words: tuple[Word, ...] = ()  # those of the text, in order of time; empty without a transcript
    language: str | None = None  # of the text, ISO 639-1; None where nobody knows


@dataclass(frozen=True)
class Evidence:
    """What the encoders look at: the sound, and for each utterance the speaker's face crops."""

    audio: Audio | None
    faces: tuple[NDArray[np.uint8], ...] | None  # per utterance (k_i, 48, 48); None without video
    face_coverage: tuple[float | None, ...] | None = None  # per utterance, share of frames with the face


@dataclass(frozen=True)
class Features:
    """One modality's vectors, one an utterance. Rows where ``present`` is False are zero and mean nothing."""

    values: NDArray[np.float32]  # (n, d)
    present: NDArray[np.bool_]  # (n,)


@dataclass(frozen=True)
class Conversation:
    """A dialogue as the network sees it, from a run or from a corpus.

    Speakers are numbered in order of appearance; features hold one entry a modality of the checkpoint.
    """

    speakers: NDArray[np.int64]  # (n,)
    features: Mapping[str, Features]

    def __len__(self) -> int:
        return len(self.speakers)


@dataclass(frozen=True)
class Prediction:
    """Calibrated probabilities of a conversation's utterances."""

    emotion: NDArray[np.float32]  # (n, C), rows sum to 1
    sentiment: NDArray[np.float32]  # (n, 3): positive, neutral, negative
    used: NDArray[np.bool_]  # (n, 3): which of MODALITIES the prediction used
    alone: NDArray[np.float32]  # (n, 3, C): what each of MODALITIES says by itself; NaN where it is absent
    plausible: NDArray[np.bool_]  # (n, C): the true label is among them nine times in ten; none: not known

    @classmethod
    def joined(cls, parts: Sequence[Prediction], classes: int) -> Prediction:
        """The predictions of several conversations one after the other; none gives zero rows."""
        import numpy as np

        empty = cls(
            np.zeros((0, classes), np.float32),
            np.zeros((0, 3), np.float32),
            np.zeros((0, len(MODALITIES)), np.bool_),
            np.zeros((0, len(MODALITIES), classes), np.float32),
            np.zeros((0, classes), np.bool_),
        )
        whole = [empty, *parts]
        return cls(
            np.concatenate([p.emotion for p in whole]),
            np.concatenate([p.sentiment for p in whole]),
            np.concatenate([p.used for p in whole]),
            np.concatenate([p.alone for p in whole]),
            np.concatenate([p.plausible for p in whole]),
        )
