"""Decode a recording in two sequential passes: sound to a file, pictures to a function, both at their times.

The two passes may go on side by side, in processes of their own: what is said does not wait for the pictures.

Times are presentation times, and 0 is where the first of the recording's streams starts. How they are kept:

- Sound: gaps inside are filled by ffmpeg (``aresample=async=1``); the silence before a late start is written
  here. ffmpeg could do that too (``first_pts=0``), but it builds its filters anew when a broadcast changes
  from stereo to surround, and would then put silence in a second time, as long as all that went before.
- Pictures: the frame handed over for time t is the one on the screen at t (``fps`` with ``round=up``),
  whatever the frame rate or its changes. ffmpeg fills the time before a late start with copies of the first
  frame; these are left out.

Both need the time of the first frame of their stream, which a small extra output logs (``showinfo``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
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
_MEANS = ":flags=area"  # each pixel the mean of those it stands for: a third of what bicubic costs, or less
MIN_THUMBNAIL_RATE_HZ = 12.0  # at least: between two pictures closer than that, people hardly move
OnFrame = Callable[[float, NDArray[np.uint8]], None]

_FIRST_FRAME = re.compile(r"^\[Parsed_a?showinfo_\d+ @ [^]]*\] n: *0 pts: *\S+ +pts_time:(\S+)")
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
class Heard:
    """The sound of a recording. ``flags``, as they apply: ``no_audio``, ``other_audio_track`` (the one to be
    heard can't be decoded), ``phase_inverted``, ``silent``, ``clipped``, ``bad_samples``.
    """

    audio: Audio | None
    flags: tuple[str, ...]
    ended: Ended
    track: AudioStream | None = None  # the sound stream that was heard
    levels: ChannelLevels | None = None  # of the stream's own channels, where they were decoded as they are


@dataclass(frozen=True)
class Watched:
    """The pictures of a recording, which were handed on as they came."""

    end_s: float  # of the last one; 0 where there was none
    count: int
    ended: Ended


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


def hear(
    media: Media,
    audio_file: Path,
    *,
    language: str | None = None,
    audio_track: str | None = None,
    apart: bool = False,
    watched: bool = False,
    limits: Limits | None = None,
) -> Heard:
    """Decode the sound to ``audio_file``.

    Args:
        media: as probed.
        audio_file: gets 16-bit mono at 16 kHz, headerless; the result maps it, so it must stay in place.
        language, audio_track: which sound stream is wanted, see ``streams.in_order``.
        apart: average the channels as they are, whatever their layout, and tell their levels. A layout that
            the file states is mixed as it says otherwise, with the centre before the rest.
        watched: whether the pictures are decoded as well, by :func:`watch`: one time is 0 for both.

    Raises: as :func:`decode`, but for ``nothing_decoded``.
    """
    limits = limits or Limits()
    wanted = preferred(media.audio, language, audio_track)
    beside = media.picture if watched else None
    sound: Sound | None = None
    ended = Ended(0, ())
    for track in in_order(media.audio, language, audio_track):
        sound, ended = _sound(media, audio_file, track, apart, None, beside, limits)
        if sound.audio() is None:
            continue
        flags = [] if track == wanted else ["other_audio_track"]
        if sound.better_channel is not None:
            sound, _ = _sound(media, audio_file, track, apart, sound.better_channel, beside, limits)
            flags.append("phase_inverted")
        own_channels = _apart(track, apart) or track.layout == "stereo"
        return Heard(
            sound.audio(),
            (*flags, *sound.flags),
            ended,
            track,
            sound.levels() if own_channels else None,
        )
    return Heard(None, ("no_audio", *(sound.flags if sound is not None else ())), ended)


def watch(
    media: Media,
    on_frame: OnFrame,
    *,
    frame_rate_hz: float = 8.0,
    max_width: int = 960,
    language: str | None = None,
    audio_track: str | None = None,
    on_thumbnail: OnFrame | None = None,
    limits: Limits | None = None,
) -> Watched:
    """Hand the pictures to ``on_frame`` as they come, one at a time.

    Args:
        media: as probed.
        on_frame: called with a time in seconds and an upright RGB picture (h, w, 3) that it may keep. When it
            raises, ffmpeg is killed and the exception goes on.
        frame_rate_hz: pictures a second, at times 0, 1 / rate, 2 / rate ...
        max_width: wider pictures are scaled down to it; none is scaled up.
        language, audio_track: of the sound that is heard beside them: one time is 0 for both.
        on_thumbnail: called with a time in seconds and the whole picture at (36, 64, 3), at the times of
            ``on_frame`` and evenly between them, 12 a second or more. The two are not called in step: one may
            be ahead of the other.

    Raises: as :func:`decode`, but for ``nothing_decoded``.
    """
    limits = limits or Limits()
    picture = describe(media.path, limits).picture if media.has_video else None
    if picture is None:
        return Watched(0.0, 0, Ended(0, ()))
    longest_s = limits.longest_s
    frames = [_Frames(picture, on_frame, frame_rate_hz, _fitted(picture, max_width), longest_s)]
    if on_thumbnail is not None:
        steps = math.ceil(MIN_THUMBNAIL_RATE_HZ / frame_rate_hz)
        rate_hz = frame_rate_hz * steps
        frames.append(_Frames(picture, on_thumbnail, rate_hz, THUMBNAIL_PX, longest_s, _MEANS))
    sound = next(iter(in_order(media.audio, language, audio_track)), None)
    source = _source(media.path, limits, pictures=True)
    stream = source[str(picture.index)]
    log = _null(stream, vf="trim=end_frame=1,showinfo")
    outputs = [dict(format="rawvideo", pix_fmt="rgb24", vf=f.filters) for f in frames]
    passing = [] if sound is None else [_passed_on(source, sound.index)]

    def starts(time_s: float) -> None:
        for each in frames:
            each.starts(time_s)

    ended = _pass(media, log, stream, outputs, passing, [f.feed for f in frames], starts, limits)
    for each in frames:
        each.finish()
    if not frames[0].count:
        return Watched(0.0, 0, ended)
    return Watched(frames[0].end_s(media.duration_s), frames[0].count, ended)


def together(media: Media, heard: Heard, watched: Watched | None, limits: Limits | None = None) -> Decoded:
    """What came out of a recording by both its passes, or its sound alone.

    Raises: RecordingError (``nothing_decoded``).
    """
    limits = limits or Limits()
    has_streams = in_order(media.audio) or (watched is not None and media.has_video)
    if not has_streams:
        flags = [f for f, has in (("no_audio", media.has_audio), ("no_video", media.has_video)) if not has]
        return Decoded(None, min(media.duration_s or 0.0, limits.longest_s), tuple(flags))
    passes = [heard.ended, *([watched.ended] if watched is not None else [])]
    if heard.audio is None and not (watched and watched.count):
        complaining = next((e for e in passes if e.status or e.log), passes[0])
        raise RecordingError(
            "decode",
            "nothing_decoded",
            f"Nothing in this recording can be decoded: {_why_nothing(complaining, media.path)}.",
        )
    flags = [*heard.flags, *([] if media.has_video else ["no_video"])]
    heard_s = heard.audio.duration_s if heard.audio is not None else 0.0
    duration_s = max(heard_s, watched.end_s if watched is not None else 0.0)
    if media.duration_s is not None:
        missing_s = media.duration_s - duration_s
        if missing_s > max(_MISSING_S, _MISSING_SHARE * media.duration_s):
            flags.append("truncated_media")
    if any(ended.status != 0 for ended in passes):
        flags.append("damaged_media")
    return Decoded(
        heard.audio,
        duration_s,
        tuple(sorted(flags, key=lambda f: _ORDER.index(f) if f in _ORDER else len(_ORDER))),
        heard.track,
        heard.levels,
    )


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
    """Decode sound to ``audio_file``, then hand pictures to ``on_frame``: see :func:`hear` and :func:`watch`.

    Args:
        on_frame: None leaves the pictures undecoded.

    Raises:
        RecordingError: ``nothing_decoded``, ``timeout``, ``decoder_killed``, ``too_long``, ``no_such_track``.
        SetupError: the disk is full, or ffmpeg is missing.
    """
    options: dict[str, Any] = {"language": language, "audio_track": audio_track, "limits": limits}
    heard = hear(media, audio_file, apart=apart, watched=on_frame is not None, **options)
    watched = None
    if on_frame is not None:
        watched = watch(
            media,
            on_frame,
            frame_rate_hz=frame_rate_hz,
            max_width=max_width,
            on_thumbnail=on_thumbnail,
            **options,
        )
    return together(media, heard, watched, limits)


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


def first_frame_s(line: str) -> float | None:
    """The time of the first frame in seconds, where a line of ffmpeg's log tells it."""
    match = _FIRST_FRAME.search(line)
    if match is None:
        return None
    return 0.0 if match[1] == "NOPTS" else float(match[1])


def _sound(
    media: Media,
    audio_file: Path,
    track: AudioStream,
    apart: bool,
    channel: int | None,
    beside: int | None,
    limits: Limits,
) -> tuple[Sound, Ended]:
    """One pass over the recording, for one sound stream; the stream ``beside`` it counts for the times."""
    sound = Sound(audio_file, limits.audio_bytes, channel)
    source = _source(media.path, limits, pictures=False)
    stream = source[str(track.index)]
    log = _null(stream, af="atrim=end_sample=1,ashowinfo")
    outputs = [dict(format="au", acodec="pcm_f32be", af=_heard(track, apart))]
    passing = [] if beside is None else [_passed_on(source, beside)]

    with sound:
        ended = _pass(media, log, stream, outputs, passing, [sound.feed], sound.starts, limits)
        sound.finish()
    return sound, ended


def _pass(
    media: Media,
    log: Any,
    stream: Any,
    outputs: Sequence[dict[str, Any]],
    passing: Sequence[Any],
    sinks: Sequence[Callable[[bytes], None]],
    starts: Callable[[float], None],
    limits: Limits,
) -> Ended:
    """One run of ffmpeg over the recording, for one of its streams. What only logs comes first: times must be
    known before samples and frames.
    """
    import ffmpeg

    def on_line(line: str) -> None:
        if (time_s := first_frame_s(line)) is not None:
            starts(time_s)

    def command(urls: Sequence[str]) -> list[str]:
        written = [ffmpeg.output(stream, url, **form) for url, form in zip(urls, outputs, strict=True)]
        return _words(ffmpeg.merge_outputs(log, *written, *passing))

    return run(
        command,
        sinks,
        read=media.path,
        wall_s=_wall_s(media, limits),
        limits=limits,
        stage="decode",
        on_line=on_line,
        stall_s=limits.stall_s,
    )


def _source(path: Path, limits: Limits, *, pictures: bool) -> Any:
    import ffmpeg

    options: dict[str, Any] = {**input_options(limits), "threads": DECODE_THREADS}
    if pictures:
        # Turning happens after scaling, on a size that can't change: a stream may change its size midway, and
        # new filters at that point would put the time before them in a second time.
        options |= {"noautorotate": None, "reinit_filter:v": 0}
    return ffmpeg.input(input_url(path), **options)


def _null(stream: Any, **options: Any) -> Any:
    """An output that goes nowhere."""
    import ffmpeg

    return ffmpeg.output(stream, "-", format="null", **options)


def _passed_on(source: Any, index: int) -> Any:
    """A stream that is read and not decoded.

    Of a broadcast, ffmpeg counts time from the first of the streams that are used, and mends leaps by what it
    sees in any of them: both passes have to see the same.
    """
    return _null(source[str(index)], c="copy")


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
    """Cuts ffmpeg's raw RGB bytes into pictures and hands them on with their times.

    Args:
        size: width and height, upright.
        scaler: options of ffmpeg's ``scale``, each after a colon.
    """

    def __init__(
        self,
        picture: Picture,
        on_frame: OnFrame,
        rate_hz: float,
        size: tuple[int, int],
        longest_s: float,
        scaler: str = "",
    ) -> None:
        self.picture = picture
        self._on_frame = on_frame
        self._rate_hz = rate_hz
        self._most = longest_s * rate_hz  # frames: a leap in the times of two is filled up with the first
        width, height = size
        self._shape = (height, width, 3)
        self._size = height * width * 3
        stored_width, stored_height = (height, width) if picture.quarter_turns % 2 else (width, height)
        scale = f"scale={stored_width}:{stored_height}"
        # Scaled as it is stored, then made RGB: both at once cost ffmpeg's scaler twice as much.
        rgb = f"format=yuv420p|yuv422p|yuv444p,{scale},format=rgb24"
        self.filters = (
            f"fps={rate_hz}:start_time=0:round=up,{scale}{scaler},{rgb}{_TURNS[picture.quarter_turns]}"
        )
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
