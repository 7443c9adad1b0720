"""What is in a recording, read from the description that ``ffmpeg -i`` prints.

ffmpeg's text is parsed because the bundled binary comes without ffprobe. A hostile file can at worst describe
itself wrongly; decoding then finds out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from annotator.languages import iso_639_1
from annotator.media.child import Limits, input_options, input_url, reason, run
from annotator.media.find import sidecars
from annotator.media.streams import dispositions, title
from annotator.records import AudioStream, Media, RecordingError, SubtitleStream

_NO_CODEC = frozenset({"none", "unknown"})
_STREAM = re.compile(
    r"\s+Stream #0:(\d+)(?:\[0x[0-9a-f]+\])?(?:\(([^)]*)\))?: (Audio|Video|Subtitle): (\w+)(.*)"
)
_DURATION = re.compile(r"\s+Duration: (\d+):(\d\d):(\d\d(?:\.\d+)?)[,\s]")
_SIZE = re.compile(
    r", (\d{1,5})x(\d{1,5})(?: \[SAR (\d+):(\d+) DAR \d+:\d+\])?(?:, SAR (\d+):(\d+) DAR \d+:\d+)?"
)
# 44100 Hz, 5.1(side), fltp; "6 channels" is all that some files say, with the speakers in brackets others do.
_LAYOUT = re.compile(r", (\d+) Hz, ([^,]+)")
_COUNTED = re.compile(r"(\d+) channels")
_NAMED = {"mono": 1, "stereo": 2, "downmix": 2, "quad": 4, "hexagonal": 6, "octagonal": 8, "cube": 8}
_TAG = re.compile(r" {6}(\w+) *: (.*)")
_RATE = re.compile(r", (\d+(?:\.\d+)?) fps,")
# Two digits are printed of rates that are a thousandth below a whole number.
_TELEVISION = {"23.98": 24_000 / 1001, "29.97": 30_000 / 1001, "59.94": 60_000 / 1001}
_ROTATION = re.compile(r"\s+(?:displaymatrix|Display Matrix): rotation of (-?\d+(?:\.\d+)?) degrees")
_WIDEST_PIXEL = 4  # a stranger shape than 4:1 is a mistake in the file


@dataclass(frozen=True)
class Picture:
    """The first moving-picture stream: its index, stored size in pixels, and how it is to be shown."""

    index: int
    width: int
    height: int
    pixel_aspect: Fraction = Fraction(1)  # width of a pixel by its height
    quarter_turns: int = 0  # clockwise, to bring it upright
    frame_rate: float | None = None  # pictures a second

    @property
    def shown(self) -> tuple[int, int]:
        """Width and height with square pixels, upright."""
        width = max(1, round(self.width * self.pixel_aspect))
        return (self.height, width) if self.quarter_turns % 2 else (width, self.height)


@dataclass(frozen=True)
class Description:
    """What ffmpeg says of a file."""

    duration_s: float | None
    audio: tuple[AudioStream, ...]
    picture: Picture | None
    subtitles: tuple[SubtitleStream, ...]

    @property
    def has_audio(self) -> bool:
        """Whether there is a sound stream of a codec that ffmpeg knows."""
        return any(stream.codec is not None for stream in self.audio)


def probe(path: Path, limits: Limits | None = None) -> Media:
    """Describe a recording without decoding it, with the transcripts that lie beside it.

    A duration that ffmpeg only estimates from the bit rate is not declared. A cover picture is no video.

    Raises:
        RecordingError: ``not_media``, ``no_streams`` (neither sound nor moving pictures), ``timeout``.
        SetupError: ffmpeg is missing or can't be started.
    """
    description = describe(path, limits or Limits())
    if not description.has_audio and description.picture is None:
        raise RecordingError("probe", "no_streams", "The file holds neither sound nor moving pictures.")
    width, height = description.picture.shown if description.picture is not None else (None, None)
    return Media(
        path=path,
        duration_s=description.duration_s,
        has_audio=description.has_audio,
        has_video=description.picture is not None,
        width=width,
        height=height,
        audio=description.audio,
        frame_rate=description.picture.frame_rate if description.picture is not None else None,
        subtitles=description.subtitles,
        sidecars=sidecars(path),
        picture=description.picture.index if description.picture is not None else None,
    )


def describe(path: Path, limits: Limits) -> Description:
    """Run ``ffmpeg -i`` on a file and read its answer. Errors as for :func:`probe`."""
    arguments = [word for name, value in input_options(limits).items() for word in _option(name, value)]
    command = [*arguments, "-i", input_url(path)]
    ended = run(lambda _: command, [], read=path, wall_s=limits.probe_s, limits=limits, stage="probe")
    # The first line of the description repeats the file's name, which may hold line breaks and look like
    # anything: what follows the name is read.
    url = input_url(path).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    text = "\n".join(ended.log)
    before, head, after = text.partition(f"from '{url}':\n")
    if not head and "Input #0" in text:  # ffmpeg prints rare control characters of a name as question marks
        before, head, after = text.partition("':\n")
    if not head:
        raise RecordingError(
            "probe", "not_media", f"This is not a recording that can be read: {reason(ended.log, path)}."
        )
    return _parse(after.split("\n"), estimated="Estimating duration from bitrate" in before)


def _option(name: str, value: str | int | None) -> list[str]:
    return [f"-{name}"] if value is None else [f"-{name}", str(value)]


def _parse(lines: Sequence[str], estimated: bool) -> Description:
    duration_s: float | None = None
    audio: list[AudioStream] = []
    picture: Picture | None = None
    subtitles: list[SubtitleStream] = []
    turning = False  # whether a rotation now read belongs to the picture
    tags: dict[str, str] | None = None  # of the stream that is being described
    tagged: list[Any] = []  # and that stream, the last of its kind
    for line in lines:
        if not estimated and duration_s is None and (match := _DURATION.match(line)):
            hours, minutes, seconds = match.groups()
            duration_s = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        elif match := _STREAM.match(line):
            index, language, kind, codec, rest = match.groups()
            turning, tags = False, None
            if kind == "Audio":
                audio.append(_sound(int(index), len(audio) + 1, language, codec, rest))
                tagged, tags = audio, {}
            elif kind == "Subtitle":
                subtitles.append(_subtitles(int(index), len(subtitles) + 1, language, codec, rest))
                tagged, tags = subtitles, {}
            elif codec in _NO_CODEC:
                continue
            elif kind == "Video" and picture is None and "(attached pic)" not in rest:
                picture = _picture(int(index), rest)
                turning = picture is not None
        elif turning and picture is not None and (match := _ROTATION.match(line)):
            turns = round(-float(match[1]) / 90) % 4
            picture = replace(picture, quarter_turns=turns)
        elif tags is not None and (match := _TAG.match(line)):
            tags.setdefault(match[1].lower(), match[2])
            tagged[-1] = replace(tagged[-1], title=title(tags))
        elif not line.startswith("    "):  # a chapter, a program, or data of another kind
            tags = None
    if duration_s is not None and duration_s <= 0:
        duration_s = None
    return Description(duration_s, tuple(audio), picture, tuple(subtitles))


def _subtitles(index: int, number: int, language: str | None, codec: str, rest: str) -> SubtitleStream:
    return SubtitleStream(
        index=index,
        number=number,
        language=iso_639_1(language),
        codec=codec,
        disposition=dispositions(rest),
    )


def _sound(index: int, number: int, language: str | None, codec: str, rest: str) -> AudioStream:
    match = _LAYOUT.search(rest)
    layout = match[2].strip() if match else None
    return AudioStream(
        index=index,
        number=number,
        codec=None if codec in _NO_CODEC else codec,
        language=iso_639_1(language),
        disposition=dispositions(rest),
        layout=None if layout is None or _COUNTED.fullmatch(layout) else layout,
        rate_hz=int(match[1]) if match else None,
        channels=_channels(layout or ""),
    )


def _channels(layout: str) -> int | None:
    """How many channels a layout has: ``10 channels (FL+FR+...)``, ``stereo``, ``5.1(side)``."""
    if match := _COUNTED.match(layout):
        return int(match[1])
    name = layout.partition("(")[0]
    if re.fullmatch(r"\d(?:\.\d){1,2}", name):
        return sum(map(int, name.split(".")))
    return _NAMED.get(name)


def _picture(index: int, rest: str) -> Picture | None:
    """The stream's size; None when ffmpeg could not tell it, since then nothing can be decoded either."""
    match = _SIZE.search(rest)
    if match is None:
        return None
    width, height = int(match[1]), int(match[2])
    if width == 0 or height == 0:
        return None
    aspect = Fraction(1)
    wide, tall = (int(match[3] or match[5] or 0), int(match[4] or match[6] or 0))
    if wide and tall and Fraction(1, _WIDEST_PIXEL) <= Fraction(wide, tall) <= _WIDEST_PIXEL:
        aspect = Fraction(wide, tall)
    rate = _RATE.search(rest)
    frame_rate = _TELEVISION.get(rate[1], float(rate[1])) if rate else None
    return Picture(index, width, height, aspect, frame_rate=frame_rate or None)
