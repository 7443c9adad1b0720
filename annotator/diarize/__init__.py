"""Who speaks when: one protocol, two backends, and speaker files that lie beside a recording.

embedded   Silero VAD, GE2E speaker embeddings and clustering; all weights come in wheels
pyannote   pyannote.audio's community-1 pipeline, when its (gated) weights are at hand
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from annotator.records import Audio, ChannelLevels, RecordingError, SetupError, Turn, UsageError, Utterance

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "DIARIZERS",
    "Diarized",
    "Diarizer",
    "DiarizerSettings",
    "available",
    "by_channel",
    "make_diarizer",
    "make_voices",
    "one_speaker_a_channel",
    "read_rttm",
]

RTTM_LIMIT_BYTES = 64 * 2**20  # far above any real file; keeps a stray one out of memory


class Diarized(list[Turn]):
    """Turns that may overlap, from a diarizer that can tell more than these.

    Args:
        turns: as they overlap.
        alone: the same with one speaker at a time, to give words to speakers by; None if it can't tell.
        flags: of the whole recording: ``speakers_alike``.
    """

    def __init__(
        self, turns: list[Turn], alone: list[Turn] | None = None, flags: tuple[str, ...] = ()
    ) -> None:
        super().__init__(turns)
        self.alone = alone
        self.flags = flags


class Diarizer(Protocol):
    """Finds the turns of each speaker, in time order; turns of different speakers may overlap.

    Speakers are called ``SPEAKER_00``, ``SPEAKER_01``, ... in order of appearance. No speech gives an
    empty list. Nothing is remembered from one recording to the next.
    """

    def __call__(self, audio: Audio) -> list[Turn]: ...


@dataclass(frozen=True)
class DiarizerSettings:
    """What a diarizer may be told.

    Args:
        speakers: their number when it is known; it goes before the two bounds.
        min_speakers, max_speakers: bounds when it is estimated.
        device: where networks run: ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        pyannote_folder: a local copy of the pyannote pipeline (with its ``config.yaml``).
        offline: never ask a model hub.

    Raises: UsageError for numbers that can't be met.
    """

    speakers: int | None = None
    min_speakers: int | None = None
    max_speakers: int | None = None
    device: str = "cpu"
    pyannote_folder: Path | None = None
    offline: bool = False

    def __post_init__(self) -> None:
        for name in ("speakers", "min_speakers", "max_speakers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"--{name.replace('_', '-')} is {value}: give a number of 1 or more.")
        if self.min_speakers and self.max_speakers and self.min_speakers > self.max_speakers:
            raise UsageError(
                f"--min-speakers {self.min_speakers} is above --max-speakers {self.max_speakers}: swap them."
            )

    @property
    def bounds(self) -> tuple[int, int | None]:
        """Least and largest number of speakers; None means that there is no upper bound."""
        if self.speakers is not None:
            return self.speakers, self.speakers
        return self.min_speakers or 1, self.max_speakers


def _make_embedded(settings: DiarizerSettings) -> Diarizer:
    _refuse_without_weights("embedded", settings)
    from .embedded import Embedded  # noqa: TID251 - own package

    return Embedded(settings)


def _make_pyannote(settings: DiarizerSettings) -> Diarizer:
    _refuse_without_weights("pyannote", settings)
    from .pyannote import Pyannote  # noqa: TID251 - own package

    diarizer: Diarizer = Pyannote(settings)
    return diarizer


def _refuse_without_weights(name: str, settings: DiarizerSettings) -> None:
    # Importing the libraries takes seconds: what is sure to fail does so before.
    if problem := available(name, settings):
        raise SetupError(problem)


DIARIZERS: dict[str, Callable[[DiarizerSettings], Diarizer]] = {
    "embedded": _make_embedded,
    "pyannote": _make_pyannote,
}


def make_diarizer(name: str, settings: DiarizerSettings) -> Diarizer:
    """The diarizer of that name, ready to run.

    Raises: UsageError for an unknown name; SetupError when it lacks weights or a library.
    """
    _check(name)
    return DIARIZERS[name](settings)


def available(name: str, settings: DiarizerSettings) -> str | None:
    """None if the diarizer can run now, without the network; else a sentence that says what it lacks."""
    _check(name)
    # Both look at files only; the libraries stay unloaded.
    if name == "embedded":
        from .weights import missing_embedded_weights  # noqa: TID251 - own package

        return missing_embedded_weights()
    from .weights import missing_pyannote_weights  # noqa: TID251 - own package

    return missing_pyannote_weights(settings.pyannote_folder)


def _check(name: str) -> None:
    if name not in DIARIZERS:
        raise UsageError(f"Unknown diarizer {name!r}: choose from {', '.join(DIARIZERS)}.")


def one_speaker_a_channel(levels: ChannelLevels) -> bool:
    """Whether the two channels of a recording hold one speaker each, as in a call; see ``channels.py``."""
    from .channels import one_speaker_a_channel as found  # noqa: TID251 - own package

    return found(levels)


def by_channel(speech: Sequence[Turn], levels: ChannelLevels) -> Diarized:
    """Speech in a mix as turns of ``CHANNEL_1``, ``CHANNEL_2``, ..., by how loud each channel is."""
    from .channels import by_channel as split  # noqa: TID251 - own package

    return Diarized(*split(speech, levels))


def make_voices(device: str) -> Callable[[Audio, Sequence[Utterance]], dict[str, NDArray[np.float32]]]:
    """What gives each speaker of a recording a vector of norm 1, to be compared across recordings.

    Raises: SetupError when it lacks weights.
    """
    _refuse_without_weights("embedded", DiarizerSettings())
    from .voices import Voices  # noqa: TID251 - own package

    return Voices(device)


def read_rttm(path: Path) -> list[Turn]:
    """Turns from a speaker file in NIST's RTTM format, in time order; an empty file gives none.

    Lines ``SPEAKER file channel start duration <NA> <NA> name ...``; other kinds of line are passed over,
    as are turns that last no time. Speaker names stay as they are. Text that is no UTF-8 is read as
    Latin-1.

    Raises: RecordingError (``bad_rttm``) that names the line at fault, or says that it can't be read.
    """
    try:
        if path.stat().st_size > RTTM_LIMIT_BYTES:
            raise RecordingError("diarize", "bad_rttm", f"{path.name} is too large for a speaker file.")
        raw = path.read_bytes()
    except OSError as error:
        raise RecordingError(
            "diarize", "bad_rttm", f"{path.name} can't be read: {error.strerror}."
        ) from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    turns = []
    # Not splitlines(): it would also break at rare separators inside a name.
    for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), start=1):
        fields = line.split()
        if not fields or fields[0].startswith((";", "#")) or fields[0] != "SPEAKER":
            if fields and not fields[0].isprintable():
                raise RecordingError("diarize", "bad_rttm", f"{path.name}, line {number}: this is not RTTM.")
            continue
        if len(fields) < 8:
            raise RecordingError(
                "diarize",
                "bad_rttm",
                f"{path.name}, line {number}: {len(fields)} fields where RTTM has 8 or more.",
            )
        start, duration = _seconds(fields[3]), _seconds(fields[4])
        if start is None or duration is None:
            raise RecordingError(
                "diarize",
                "bad_rttm",
                f"{path.name}, line {number}: start {fields[3]!r} and duration {fields[4]!r} "
                "must be numbers of seconds, 0 or more.",
            )
        end = start + duration
        if start < end < math.inf:  # a small duration can vanish in the sum
            turns.append(Turn(start, end, fields[7]))
    return sorted(turns)


def _seconds(field: str) -> float | None:
    try:
        value = float(field)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None
