"""Decode a recording in one sequential pass: sound to a file, pictures to a function, both at their times.

Times are presentation times, and 0 is where the first of the recording's streams starts. How they are kept:

- Sound: gaps inside are filled by ffmpeg (``aresample=async=1``); the silence before a late start is written
  here. ffmpeg could do that too (``first_pts=0``), but it builds its filters anew when a broadcast changes
  from stereo to surround, and would then put silence in a second time, as long as all that went before.
- Pictures: the frame handed over for time t is the one on the screen at t (``fps`` with ``round=up``),
  whatever the frame rate or its changes. ffmpeg fills the time before a late start with copies of the first
  frame; these are left out.

Both need the time of the first frame of each stream, which two small extra outputs log (``showinfo``). All
outputs have filters of their own: in one filter graph, ffmpeg would hold all pictures in memory until the
sound starts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annotator.media.child import (
    DECODE_THREADS,
    Ended,
    Limits,
    input_options,
    input_url,
    reason,
    run,
)
from annotator.media.probe import Picture, describe
from annotator.media.sound import Sound
from annotator.media.streams import in_order, preferred
from annotator.records import (
    RATE_HZ,
    Audio,
    AudioStream,
    ChannelLevels,
    Media,
    RecordingError,
    SubtitleStream,
)

THUMBNAIL_PX = (64, 36)  # width, height of the pictures in which cuts are looked for
MIN_THUMBNAIL_RATE_HZ = 12.0  # at least: between two pictures closer than that, people hardly move
OnFrame = Callable[[float, NDArray[np.uint8]], None]

# ffmpeg 4 to 6 tell the place in the file behind the time, 7 and later the duration of a picture; only sound
# has channels.
_FIRST_FRAME = re.compile(
    r"n: *0 pts: *\S+ +pts_time:(\S+)(?: +pos: *\S+)?(?: +duration: *\S+)?(?: +duration_time: *\S+)?"
    r" +fmt:\w+( +channels:)?"
)
_LATE_S = 0.04  # a start within one frame of film is no late start
_HELD_BYTES = 256 << 20  # of pictures, before it is known when they start
_MISSING_S, _MISSING_SHARE = 1.0, 0.005  # less than declared by both: the file was cut off
_ORDER = ("no_audio", "no_video", "other_audio_track", "truncated_media", "damaged_media", "phase_inverted")
_CENTRE = 2**0.5  # of a stated layout, where the dialogue is, by its sides: ffmpeg's own is half of it
# By codec: the format of a file of its own, and whether the text goes into it as it is.
_SUBTITLE_FORMS = {
    **dict.fromkeys(("ass", "ssa"), ("ass", True)),
    "webvtt": ("webvtt", True),
    **dict.fromkeys(("subrip", "srt"), ("srt", True)),
}
_TURNS = {0: "", 1: ",transpose=clock", 2: ",hflip,vflip", 3: ",transpose=cclock"}


@dataclass(frozen=True)
class Decoded:
    """What came out of a recording. ``flags``, as they apply, in this order: ``no_audio``, ``no_video``,
    ``other_audio_track`` (the one to be heard can't be decoded), ``truncated_media``, ``damaged_media``,
    ``phase_inverted``, ``silent``, ``clipped``, ``bad_samples``.
    """

    audio: Audio | None
    duration_s: float  # to the end of the sound or of the last picture, whichever is later
    flags: tuple[str, ...]
    track: AudioStream | None = None  # the sound stream that was heard
    levels: ChannelLevels | None = None  # of the stream's own channels, where they were decoded as they are


def decode(
    media: Media,
    audio_file: Path,
    on_frame: OnFrame | None,
    *,
    frame_rate_hz: float = 8.0,
    max_width: int = 960,
    language: str | None = None,
    audio_track: str | None = None,
    apart: bool = False,
    on_thumbnail: OnFrame | None = None,
    limits: Limits | None = None,
) -> Decoded:
    """Decode sound to ``audio_file`` and hand pictures to ``on_frame`` as they come, one at a time.

    Args:
        media: as probed.
        audio_file: gets 16-bit mono at 16 kHz, headerless; the result maps it, so it must stay in place.
        on_frame: called with a time in seconds and an upright RGB picture (h, w, 3) that it may keep. When it
            raises, ffmpeg is killed and the exception goes on. None leaves the pictures undecoded.
        frame_rate_hz: pictures a second, at times 0, 1 / rate, 2 / rate ...
        max_width: wider pictures are scaled down to it; none is scaled up.
        language, audio_track: which sound stream is wanted, see ``streams.in_order``.
        apart: average the channels as they are, whatever their layout, and tell their levels. A layout that
            the file states is mixed as it says otherwise, with the centre before the rest.
        on_thumbnail: called with a time in seconds and the whole picture at (36, 64, 3), at the times of
            ``on_frame`` and evenly between them, 12 a second or more. The two are not called in step: one may
            be ahead of the other.

    Raises:
        RecordingError: ``nothing_decoded``, ``timeout``, ``decoder_killed``, ``too_long``, ``no_such_track``.
        SetupError: the disk is full, or ffmpeg is missing.
    """
    limits = limits or Limits()
    picture = describe(media.path, limits).picture if on_frame is not None and media.has_video else None
    flags = [
        flag for flag, there in (("no_audio", media.has_audio), ("no_video", media.has_video)) if not there
    ]
    tracks = in_order(media.audio, language, audio_track)
    if not tracks and picture is None:
        return Decoded(None, min(media.duration_s or 0.0, limits.longest_s), tuple(flags))
    sound: Sound | None = None
    pictures: list[_Frames] = []  # those that were handed over
    track: AudioStream | None = None
    ended = Ended(0, ())
    for track in [*tracks, None]:  # None: the pictures alone
        if track is None and (picture is None or pictures):
            break
        tried: list[_Frames] = []
        if picture is not None and on_frame is not None and not pictures:
            fitted, longest_s = _fitted(picture, max_width), limits.longest_s
            tried.append(_Frames(picture, on_frame, frame_rate_hz, fitted, longest_s))
            if on_thumbnail is not None:
                steps = math.ceil(MIN_THUMBNAIL_RATE_HZ / frame_rate_hz)
                tried.append(_Frames(picture, on_thumbnail, frame_rate_hz * steps, THUMBNAIL_PX, longest_s))
        sound, ended = _pass(media, audio_file, tried, track, apart, None, limits)
        if tried and tried[0].count:
            pictures = tried
        if sound is not None and sound.audio() is not None:
            break
    if sound is not None and sound.better_channel is not None:
        sound, _ = _pass(media, audio_file, [], track, apart, sound.better_channel, limits)
        flags.append("phase_inverted")
    audio = sound.audio() if sound is not None else None
    if audio is None and not pictures:
        raise RecordingError(
            "decode",
            "nothing_decoded",
            f"Nothing in this recording can be decoded: {_why_nothing(ended, media.path)}.",
        )
    if audio is None:
        track = None
        if media.has_audio:
            flags.insert(0, "no_audio")
    elif track != preferred(media.audio, language, audio_track):
        flags.append("other_audio_track")
    shown_s = pictures[0].end_s(media.duration_s) if pictures else 0.0
    duration_s = max(audio.duration_s if audio is not None else 0.0, shown_s)
    if media.duration_s is not None:
        missing_s = media.duration_s - duration_s
        if missing_s > max(_MISSING_S, _MISSING_SHARE * media.duration_s):
            flags.append("truncated_media")
    if ended.status != 0:
        flags.append("damaged_media")
    flags.extend(sound.flags if sound is not None else ())
    own_channels = track is not None and (_apart(track, apart) or track.layout == "stereo")
    return Decoded(
        audio,
        duration_s,
        tuple(sorted(flags, key=lambda f: _ORDER.index(f) if f in _ORDER else len(_ORDER))),
        track,
        sound.levels() if sound is not None and own_channels else None,
    )


def extract_subtitles(media: Media, stream: SubtitleStream, limits: Limits | None = None) -> bytes:
    """A text subtitle stream of a recording: SubStation Alpha and WebVTT as they are, others as SubRip.

    Nothing is converted where the container holds what a file would: speakers, styles and layers stay, and an
    encoding that is not what the container promises is for the reader to tell. Empty when it has no cues.

    Raises:
        RecordingError: ``subtitles_unreadable``, ``timeout``, ``decoder_killed``.
    """
    import ffmpeg

    limits = limits or Limits()
    source = ffmpeg.input(input_url(media.path), **input_options(limits))[str(stream.index)]
    text = bytearray()

    def take(data: bytes) -> None:
        text.extend(data)
        if len(text) > limits.text_bytes:
            raise RecordingError(
                "decode", "subtitles_unreadable", "The subtitle stream is too large to be one."
            )

    form, copied = _SUBTITLE_FORMS.get(stream.codec, ("srt", False))
    options = {"format": form} | ({"scodec": "copy"} if copied else {})
    ended = run(
        lambda urls: _words(ffmpeg.output(source, urls[0], **options)),
        [take],
        read=media.path,
        wall_s=_wall_s(media, limits),
        limits=limits,
        stage="decode",
    )
    if ended.status != 0 and not text:
        raise RecordingError(
            "decode",
            "subtitles_unreadable",
            f"A subtitle stream can't be read: {_failure(ended, media.path)}.",
        )
    return bytes(text)


def _why_nothing(ended: Ended, path: Path) -> str:
    """Why a recording has neither sound nor pictures; what ffmpeg says of an empty one is no reason."""
    # "Ignoring maximum wav data size" is said of every WAV file without a single sample.
    complains = re.compile(
        "^(?!.*Ignoring maximum wav).*(error|invalid|fail|corrupt|not supported)", re.IGNORECASE
    )
    if ended.status == 0 and not any(map(complains.search, ended.log)):
        return "it lasts no time"
    return reason(ended.log, path)


def first_frames(line: str) -> Iterator[tuple[bool, float]]:
    """What a line of ffmpeg's log tells of first frames: whether it is one of sound, and its time in seconds.

    Two at once may share a line: ffmpeg's threads write theirs in pieces, and the second has no name then.
    """
    if line.startswith("[Parsed_"):
        for match in _FIRST_FRAME.finditer(line):
            yield match[2] is not None, 0.0 if match[1] == "NOPTS" else float(match[1])


def _pass(
    media: Media,
    audio_file: Path,
    pictures: Sequence[_Frames],
    track: AudioStream | None,
    apart: bool,
    channel: int | None,
    limits: Limits,
) -> tuple[Sound | None, Ended]:
    """One run of ffmpeg over the recording, for one sound stream and the pictures that are wanted."""
    sound = Sound(audio_file, limits.audio_bytes, channel) if track is not None else None
    sinks = [*([sound.feed] if sound is not None else []), *(frames.feed for frames in pictures)]

    def on_line(line: str) -> None:
        for of_sound, time_s in first_frames(line):
            if of_sound and sound is not None:
                sound.starts(time_s)
            elif not of_sound:
                for frames in pictures:
                    frames.starts(time_s)

    def read() -> Ended:
        return run(
            lambda urls: _command(media.path, urls, track, apart, pictures, limits),
            sinks,
            read=media.path,
            wall_s=_wall_s(media, limits),
            limits=limits,
            stage="decode",
            on_line=on_line,
            stall_s=limits.stall_s,
        )

    if sound is None:
        ended = read()
    else:
        with sound:
            ended = read()
            sound.finish()
    for frames in pictures:
        frames.finish()
    return sound, ended


def _command(
    path: Path,
    urls: Sequence[str],
    track: AudioStream | None,
    apart: bool,
    pictures: Sequence[_Frames],
    limits: Limits,
) -> list[str]:
    """ffmpeg's arguments. The outputs that only log come first: times must be known before frames."""
    import ffmpeg

    options: dict[str, Any] = {**input_options(limits), "threads": DECODE_THREADS}
    if pictures:
        # Turning happens after scaling, on a size that can't change: a stream may change its size midway, and
        # new filters at that point would put the time before them in a second time.
        options |= {"noautorotate": None, "reinit_filter:v": 0}
    source = ffmpeg.input(input_url(path), **options)
    logs, outputs = [], []
    waiting = list(urls)
    if track is not None:
        stream = source[str(track.index)]
        logs.append(ffmpeg.output(stream, "-", format="null", af="atrim=end_sample=1,ashowinfo"))
        outputs.append(
            ffmpeg.output(stream, waiting.pop(0), format="au", acodec="pcm_f32be", af=_heard(track, apart))
        )
    for frames in pictures:
        stream = source[str(frames.picture.index)]
        if frames is pictures[0]:
            logs.append(ffmpeg.output(stream, "-", format="null", vf="trim=end_frame=1,showinfo"))
        outputs.append(
            ffmpeg.output(stream, waiting.pop(0), format="rawvideo", pix_fmt="rgb24", vf=frames.filters)
        )
    return _words(ffmpeg.merge_outputs(*logs, *outputs))


def _apart(track: AudioStream, apart: bool) -> bool:
    """Whether all channels are decoded as they are: they are asked for, or nothing says what they are."""
    return track.layout is None or apart


def _heard(track: AudioStream, apart: bool) -> str:
    """The filters of the sound: 16 kHz, and all channels or a mix of one or two."""
    if track.layout is None:
        return f"aresample={RATE_HZ}:async=1,aformat=sample_fmts=flt"
    if apart:
        # A broadcast may change its layout midway; the file that is written can't.
        inside = re.search(r"\((\w+(?:\+\w+)+)\)", track.layout)
        layout = inside[1] if inside else track.layout
        return f"aresample={RATE_HZ}:async=1,aformat=sample_fmts=flt:channel_layouts={layout}"
    mixed = f"aresample={RATE_HZ}:async=1:rematrix_maxval=1:center_mix_level={_CENTRE:.4f}"
    return f"{mixed},aformat=sample_fmts=flt:channel_layouts=mono|stereo"


def _words(outputs: Any) -> list[str]:
    import ffmpeg

    return [str(word) for word in ffmpeg.get_args(outputs)]


def _wall_s(media: Media, limits: Limits) -> float:
    try:
        size = media.path.stat().st_size
    except OSError:  # it has gone: ffmpeg will say so
        size = 0
    return limits.decode_wall_s(media.duration_s, size)


def _failure(ended: Ended, path: Path) -> str:
    return reason([line for line in ended.log if "rror" in line or "nvalid" in line], path)


def _fitted(picture: Picture, max_width: int) -> tuple[int, int]:
    """Width and height of a picture as shown, scaled down to ``max_width`` where it is wider."""
    width, height = picture.shown
    if width <= max_width:
        return width, height
    return max_width, max(1, round(height * max_width / width))


class _Frames:
    """Cuts ffmpeg's raw RGB bytes into pictures and hands them on with their times."""

    def __init__(
        self, picture: Picture, on_frame: OnFrame, rate_hz: float, size: tuple[int, int], longest_s: float
    ) -> None:
        self.picture = picture
        self._on_frame = on_frame
        self._rate_hz = rate_hz
        self._most = longest_s * rate_hz  # frames: a leap in the times of two is filled up with the first
        width, height = size  # upright
        self._shape = (height, width, 3)
        self._size = height * width * 3
        stored_width, stored_height = (height, width) if picture.quarter_turns % 2 else (width, height)
        scale = f"scale={stored_width}:{stored_height}"
        self.filters = f"fps={rate_hz}:start_time=0:round=up,{scale}{_TURNS[picture.quarter_turns]}"
        self._frame = bytearray(self._size)
        self._filled = 0  # bytes of it
        self._held: list[bytearray] = []  # whole frames that wait for the time of the first
        self._start_s: float | None = None
        self._index = 0  # of the next frame, from time 0
        self.count = 0  # handed on

    def starts(self, time_s: float) -> None:
        """Tell when the first frame is shown. Only the first call counts."""
        if self._start_s is None:
            self._start_s = time_s

    def feed(self, data: bytes) -> None:
        """Take the next bytes from ffmpeg."""
        rest = memoryview(data)
        while rest:
            piece = rest[: self._size - self._filled]
            self._frame[self._filled : self._filled + len(piece)] = piece
            self._filled += len(piece)
            rest = rest[len(piece) :]
            if self._filled == self._size:
                self._held.append(self._frame)
                self._frame, self._filled = bytearray(self._size), 0
                self._hand_on()
        if self._index > self._most:
            raise RecordingError(
                "decode",
                "too_long",
                f"The pictures go on for more than {self._most / self._rate_hz / 3600:.3g} hours: cut the "
                "recording.",
            )
        if len(self._held) * self._size > _HELD_BYTES:
            raise RecordingError("decode", "no_timestamps", "ffmpeg does not tell when the pictures start.")

    def finish(self) -> None:
        """Hand on what still waits after the last bytes; a part of a frame is dropped."""
        self.starts(0.0)
        self._hand_on()

    def end_s(self, declared_s: float | None) -> float:
        """Where the pictures end: known to one frame, or exactly if the declared end lies within it."""
        last_s, end_s = (self._index - 1) / self._rate_hz, self._index / self._rate_hz
        return declared_s if declared_s is not None and last_s <= declared_s <= end_s else end_s

    def _hand_on(self) -> None:
        if self._start_s is None:
            return
        for frame in self._held:
            time_s = self._index / self._rate_hz
            self._index += 1
            if time_s >= self._start_s - _LATE_S:
                self.count += 1
                self._on_frame(time_s, np.frombuffer(frame, dtype=np.uint8).reshape(self._shape))
        self._held.clear()
