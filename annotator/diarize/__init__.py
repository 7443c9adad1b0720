"""Who speaks when: one protocol, two backends, and speaker files that lie beside a recording.

embedded   segmentation-3.0, CAM++ and clustering of our own; all weights ship with it
pyannote   pyannote.audio's community-1 pipeline, when its (gated) weights are at hand
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from annotator import bounds
from annotator.encodings import decode
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

_NOT_AVAILABLE = "<NA>"
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
    from .embedded import Embedded

    return Embedded(settings)


def _make_pyannote(settings: DiarizerSettings) -> Diarizer:
    _refuse_without_weights("pyannote", settings)
    from .pyannote import Pyannote

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
        from .weights import missing_embedded_weights

        return missing_embedded_weights()
    from .weights import missing_pyannote_weights

    return missing_pyannote_weights(settings.pyannote_folder)


def _check(name: str) -> None:
    if name not in DIARIZERS:
        raise UsageError(f"Unknown diarizer {name!r}: choose from {', '.join(DIARIZERS)}.")


def one_speaker_a_channel(levels: ChannelLevels) -> bool:
    """Whether the two channels of a recording hold one speaker each, as in a call; see ``channels.py``."""
    from .channels import one_speaker_a_channel as found

    return found(levels)


def by_channel(speech: Sequence[Turn], levels: ChannelLevels) -> Diarized:
    """Speech in a mix as turns of ``CHANNEL_1``, ``CHANNEL_2``, ..., by how loud each channel is."""
    from .channels import by_channel as split

    return Diarized(*split(speech, levels))


def make_voices(device: str) -> Callable[[Audio, Sequence[Utterance]], dict[str, NDArray[np.float32]]]:
    """What gives each speaker of a recording a vector of norm 1, to be compared across recordings.

    Raises: SetupError when it lacks weights.
    """
    _refuse_without_weights("embedded", DiarizerSettings())
    from .voices import Voices

    return Voices(device)


def read_rttm(path: Path, recording: str | None = None) -> list[Turn]:
    """Turns from a speaker file in NIST's RTTM format, in time order; an empty file gives none.

    Lines ``SPEAKER file channel start duration <NA> <NA> name <NA> <NA>``; other kinds of line are passed
    over, as are turns that last no time. File and speaker may hold spaces: fields are told by the numbers
    between them. Turns without a name (``<NA>``) are one speaker's with a free number, or one's for each
    channel if no turn has a name. Of several recordings in a file the turns of one are taken.

    Args:
        recording: its name without folder and ending, to find it by; the file's own by default.

    Raises: RecordingError (``bad_rttm``) that names the line at fault, says that it can't be read, or that
    none of its recordings is this one.
    """
    try:
        if path.stat().st_size > RTTM_LIMIT_BYTES:
            raise _bad_rttm(f"{path.name} is too large for a speaker file.")
        raw = path.read_bytes()
    except OSError as error:
        raise _bad_rttm(f"{path.name} can't be read: {error.strerror}.") from error
    try:
        text, _ = decode(raw)
    except UnicodeDecodeError as error:
        raise _bad_rttm(f"{path.name} is not {error.encoding.upper()}, as its first bytes promise.") from None
    turns: list[tuple[str, str, Turn]] = []  # recording, channel
    # Not splitlines(): it would also break at rare separators inside a name.
    for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), start=1):
        line = line.strip("\ufeff \t").strip()
        if not line or line.startswith((";", "#")):
            continue
        kind = line.split(maxsplit=1)[0]
        if kind.upper() != "SPEAKER":
            if not kind.isprintable():
                raise _bad_rttm(f"{path.name}, line {number}: this is not RTTM.")
            continue
        turns += _rttm_turn(line, f"{path.name}, line {number}")
        if len(turns) > bounds.MOST_TURNS:
            raise _bad_rttm(f"{path.name} has more than {bounds.MOST_TURNS:,} turns.")
    turns = _of_recording(turns, path.stem if recording is None else recording, path.name)
    at = bounds.crowd(sorted((t.start, t.end) for _, _, t in turns), bounds.TURNS_AT_ONCE)
    if at is not None:
        raise _bad_rttm(f"{path.name} has more than {bounds.TURNS_AT_ONCE} turns at once, at {at:.0f} s.")
    channels = {channel for _, channel, _ in turns}
    named = {turn.speaker for _, _, turn in turns} - {_NOT_AVAILABLE}
    if not named and len(channels) > 1:  # nothing else tells them apart
        return sorted(replace(turn, speaker=f"CHANNEL_{channel}") for _, channel, turn in turns)
    nobody = next(name for i in count() if (name := f"SPEAKER_{i:02d}") not in named)
    return sorted(
        replace(turn, speaker=nobody) if turn.speaker == _NOT_AVAILABLE else turn for _, _, turn in turns
    )


def _rttm_turn(line: str, where: str) -> list[tuple[str, str, Turn]]:
    """Recording, channel and turn of a SPEAKER line; none if it lasts no time.

    Raises: RecordingError (``bad_rttm``).
    """
    fields = line.partition(";;")[0].split()
    fields = [_NOT_AVAILABLE if field.upper() == _NOT_AVAILABLE else field for field in fields]
    if len(fields) < 8:
        raise _bad_rttm(f"{where}: {len(fields)} fields where RTTM has 8 or more.")
    # Behind the recording's name come channel, start, duration and two fields that are <NA> as a rule.
    at = next((i for i in range(3, len(fields) - 4) if _is_head(fields, i)), 3)
    start, duration = _seconds(fields[at]), _seconds(fields[at + 1])
    if start is None or duration is None:
        raise _bad_rttm(
            f"{where}: start {fields[at]!r} and duration {fields[at + 1]!r} "
            "must be numbers of seconds, 0 or more and below a million."
        )
    # Confidence and look-ahead time close a whole line; some leave one or both out.
    rest = fields[at + 4 :]
    for _ in range(2):
        if len(rest) > 1 and (rest[-1] == _NOT_AVAILABLE or _seconds(rest[-1]) is not None):
            rest.pop()
    end = start + duration
    if not start < end:  # a small duration can vanish in the sum
        return []
    return [(" ".join(fields[1 : at - 1]), fields[at - 1], Turn(start, end, " ".join(rest)))]


def _is_head(fields: Sequence[str], at: int) -> bool:
    """Whether start and duration stand at a place, with two empty fields behind them."""
    return (
        fields[at + 2 : at + 4] == [_NOT_AVAILABLE] * 2
        and _seconds(fields[at]) is not None
        and _seconds(fields[at + 1]) is not None
    )


def _of_recording(
    turns: list[tuple[str, str, Turn]], recording: str, name: str
) -> list[tuple[str, str, Turn]]:
    """Those of one recording, where a file holds several; names are compared without folder and ending."""
    names = {file for file, _, _ in turns}
    if len(names) < 2:
        return turns

    def plain(file: str, ending: bool) -> str:
        file = unicodedata.normalize("NFC", file.replace("\\", "/").rpartition("/")[2]).casefold()
        return file.rpartition(".")[0] if ending and "." in file else file

    wanted = plain(recording, ending=False)
    for ending in (False, True):
        fitting = {file for file in names if plain(file, ending) == wanted}
        if fitting:
            return [turn for turn in turns if turn[0] in fitting]
    raise _bad_rttm(
        f"{name} has {len(names)} recordings and none is called {recording!r}: rename one of them."
    )


def _bad_rttm(message: str) -> RecordingError:
    return RecordingError("diarize", "bad_rttm", message)


def _seconds(field: str) -> float | None:
    try:
        value = float(field)
    except ValueError:
        return None
    return value if 0 <= value < bounds.LATEST_S else None
