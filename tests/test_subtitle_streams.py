"""Which subtitle stream inside a recording is taken, and what comes out of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from annotator import media
from annotator.pipeline.stages import transcriber_settings
from annotator.records import AudioStream, Media, RecordingError, SubtitleStream, Transcript, Turn
from annotator.settings import load_settings
from annotator.transcribe import TranscriberSettings, make_transcriber
from annotator.transcribe.streams import described, from_streams

from .media import run_ffmpeg, subtitles


def taken(
    *streams: tuple[str | None, str | None, str],
    sound: str | None = "en",
    language: str | None = None,
    track: str | None = None,
    turns: Sequence[Turn] = (Turn(0.0, 10.0, "SPEAKER_00"),),
    short: Sequence[int] = (),
) -> Transcript:
    """What is chosen of streams of language, title and dispositions; their text is their number.

    Those that are ``short`` have words for a tenth of the time, the others for all of it.
    """
    listed = [
        SubtitleStream(i + 1, language, i + 1, "subrip", title, tuple(filter(None, disposition.split(","))))
        for i, (language, title, disposition) in enumerate(streams)
    ]
    recording = Media(
        Path("film.mkv"), 10.0, True, True, audio=(AudioStream(0, 1, "aac", sound),), subtitles=tuple(listed)
    )

    def extract(recording: Media, stream: SubtitleStream) -> bytes:
        end = 1 if stream.number in short else 9
        return f"1\n00:00:00,000 --> 00:00:0{end},000\nnumber {stream.number}\n".encode()

    return from_streams(recording, extract, language, track, turns)


def number(transcript: Transcript) -> int | None:
    return int(transcript.words[-1].text) if transcript.words else None


@pytest.mark.parametrize(
    ("streams", "best"),
    [
        ([("en", "Forced", "default,forced"), ("en", None, "")], 2),
        ([("en", "English (forced)", ""), ("en", "English", "")], 2),
        ([("en", "Signs & Songs", "default"), ("en", "Full", "")], 2),
        ([("ar", None, "default"), ("en", None, "")], 2),
        ([("en", "Commentary", "default"), ("en", None, "")], 2),
        ([("en", None, "comment"), ("en", None, "")], 2),
        ([("en", "SDH", "default"), ("en", None, "")], 2),
        ([("en", None, "hearing impaired,default"), ("en", None, "")], 2),
        ([("en", None, "hearing impaired"), ("de", None, "default")], 1),
        ([("en", None, "forced"), ("de", None, "")], 2),
        ([("de", None, ""), (None, None, ""), ("fr", None, "")], 2),
        ([("en", None, ""), ("en", None, "default")], 2),
        ([("en", None, ""), ("en", None, "")], 1),
    ],
)
def test_the_stream_that_tells_all_in_the_language_that_is_heard(
    streams: list[tuple[str | None, str | None, str]], best: int
) -> None:
    found = taken(*streams)
    assert number(found) == best and found.source == "embedded"
    assert found.language == streams[best - 1][0]
    assert f"subtitle track {best}" in (found.origin or "")
    assert len(found.unused) == len(streams) - 1


def test_forced_lines_alone_are_no_transcript_but_a_full_track_that_is_called_so_is() -> None:
    streams = [("en", None, "forced")]
    few = taken(*streams, short=[1])
    assert few.words == () and "only some of the lines" in few.unused[0][1]
    assert number(taken(*streams)) == 1
    assert number(taken(*streams, short=[1], turns=())) == 1  # nothing else tells what is said
    assert number(taken(*streams, short=[1], track="1")) == 1  # asked for


def test_the_language_asked_for_goes_before_that_of_the_sound() -> None:
    streams = [("en", None, "default"), ("de", None, "")]
    assert number(taken(*streams, language="de")) == 2
    assert number(taken(*streams, sound="de")) == 2
    assert number(taken(*streams, sound=None)) == 1


@pytest.mark.parametrize(
    ("track", "best"),
    [("3", 3), (" 2 ", 2), ("de", 2), ("ger", 2), ("German", 2), ("sdh", 3), ("English SDH", 3), ("en", 1)],
)
def test_a_track_is_asked_for_by_number_language_or_title(track: str, best: int) -> None:
    streams = [("en", "Full", "default"), ("de", None, ""), ("en", "English SDH", "hearing impaired")]
    assert number(taken(*streams, track=track)) == best


@pytest.mark.parametrize("track", ["4", "fr", "Director", "0", "9" * 5000])
def test_a_track_that_is_not_there_is_named_with_those_that_are(track: str) -> None:
    with pytest.raises(
        RecordingError, match=r'subtitle track 1 \(en, subrip, "Full"\); .*--subtitle-track'
    ) as caught:
        taken(("en", "Full", ""), ("de", None, ""), track=track)
    assert caught.value.error == "no_such_track"


def test_a_stream_that_cannot_be_read_gives_way_to_the_next() -> None:
    streams = (
        SubtitleStream(1, "en", 1),
        SubtitleStream(2, "en", 2),
        SubtitleStream(3, "en", 3, "hdmv_pgs_subtitle"),
    )

    def extract(recording: Media, stream: SubtitleStream) -> bytes:
        if stream.number == 1:
            raise RecordingError("decode", "subtitles_unreadable", "It is broken.")
        return b"1\n00:00:00,000 --> 00:00:09,000\nnumber 2\n"

    found = from_streams(Media(Path("film.mkv"), 10.0, True, True, subtitles=streams), extract)
    assert (number(found), found.flags) == (2, ("unreadable_transcript",))
    assert [p.error for p in found.problems] == ["subtitles_unreadable"]
    assert found.unused[1:] == ((described(streams[2]), "subtitle track 2 (en, subrip) is taken"),)
    assert found.unused[0][0] == described(streams[0]) and "can't be read" in found.unused[0][1]
    pictures = from_streams(Media(Path("film.mkv"), 10.0, True, True, subtitles=streams[2:]), extract)
    assert pictures.words == () and "no text" in pictures.unused[0][1]


def test_streams_keep_what_their_codec_holds(ffmpeg: str, tmp_path: Path) -> None:
    srt = subtitles(tmp_path / "a.srt", [(0.2, 0.9, "<i>Plain</i> text.")])
    ass, vtt = tmp_path / "b.ass", tmp_path / "c.vtt"
    events = "Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
    ass.write_text(
        "[Script Info]\nScriptType: v4.00+\n\n[V4+ Styles]\nFormat: Name\nStyle: Default\n\n[Events]\n"
        + events
        + "Dialogue: 0,0:00:00.20,0:00:00.90,Default,John,0,0,0,,Named.\n"
        + "Dialogue: 0,0:00:00.20,0:00:00.90,Default,,0,0,0,,{\\p1}m 0 0 l 9 9{\\p0}\n"
    )
    vtt.write_text("WEBVTT\n\n00:00.200 --> 00:00.900\n<v Mary>Voiced.\n")
    film = tmp_path / "film.mkv"
    run_ffmpeg(
        ffmpeg, "-f", "lavfi", "-i", "sine=d=1",
        "-i", str(srt), "-i", str(ass), "-i", str(vtt),
        *[word for i in range(4) for word in ("-map", str(i))], "-c:s", "copy",
        "-metadata:s:a:0", "language=eng",
        "-metadata:s:s:0", "language=ger", "-metadata:s:s:0", "title=Deutsch: alles",
        "-disposition:s:0", "forced",
        "-disposition:s:2", "hearing_impaired+default", str(film),
    )  # fmt: skip
    probed = media.probe(film)
    assert [(s.number, s.codec, s.language, s.title, s.disposition) for s in probed.subtitles] == [
        (1, "subrip", "de", "Deutsch: alles", ("forced",)),
        (2, "ass", None, None, ()),
        (3, "webvtt", None, None, ("default", "hearing impaired")),
    ]
    said = {}
    for track in "123":
        settings = TranscriberSettings(media.extract_subtitles, subtitle_track=track)
        found = make_transcriber("subtitles", settings)(probed, None, [])
        said[track] = [(w.speaker, w.text) for w in found.words]
    assert said == {
        "1": [(None, "Plain"), (None, "text.")],
        "2": [("John", "Named.")],
        "3": [("Mary", "Voiced.")],
    }


def test_a_track_asked_for_goes_before_files_beside(ffmpeg: str, tmp_path: Path) -> None:
    """As a run asks for it; a file beside that can't be read is then not looked at."""
    inside = subtitles(tmp_path / "inside.srt", [(0.2, 0.9, "Inside.")])
    film = tmp_path / "film.mp4"
    run_ffmpeg(
        ffmpeg, "-f", "lavfi", "-i", "sine=d=1", "-i", str(inside), "-map", "0", "-map", "1",
        "-c:s", "mov_text", str(film),
    )  # fmt: skip
    subtitles(tmp_path / "film.srt", [(0.2, 0.9, "Beside.")])
    probed = media.probe(film)
    for track, text in ((None, "Beside."), ("1", "Inside.")):
        settings = transcriber_settings(load_settings(None, {"subtitle_track": track}), "cpu")
        found = make_transcriber("subtitles", settings)(probed, None, [])
        assert found.words[0].text == text
    (tmp_path / "film.srt").write_text("1\n00:00:00:15 --> 00:00:03:00\nFrames.\n")
    found = make_transcriber("subtitles", settings)(media.probe(film), None, [])
    assert (found.words[0].text, found.problems) == ("Inside.", ())


def test_the_frame_rate_is_probed(ffmpeg: str, tmp_path: Path) -> None:
    for rate, told in (("25", 25.0), ("30000/1001", 30_000 / 1001)):
        film = tmp_path / f"{told}.mkv"
        run_ffmpeg(ffmpeg, "-f", "lavfi", "-i", f"testsrc=s=64x48:r={rate}:d=1", "-c:v", "mpeg4", str(film))
        assert media.probe(film).frame_rate == pytest.approx(told)
