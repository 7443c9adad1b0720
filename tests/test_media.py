"""Finding, probing and decoding, on real media that ffmpeg makes here."""

from __future__ import annotations

import errno
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from numpy.typing import NDArray

from annotator import media
from annotator.languages import iso_639_1
from annotator.media import child, sandbox
from annotator.media.decode import first_frame_s
from annotator.media.find import _label
from annotator.media.sound import Sound
from annotator.pipeline.stages import Task, reading_limit_s, working_limit_s
from annotator.records import RATE_HZ, RecordingError, SetupError, UsageError

BUNDLED: str = imageio_ffmpeg.get_ffmpeg_exe()
Frames = list[tuple[float, NDArray[np.uint8]]]


@pytest.fixture(autouse=True)
def _bundled_ffmpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    # The product must work with the bundled binary alone; another one can be tried from outside.
    monkeypatch.setenv("ANNOTATE_FFMPEG", os.environ.get("ANNOTATE_FFMPEG", BUNDLED))


def make(path: Path, *arguments: str | Path) -> Path:
    """Run ffmpeg, unsandboxed, to make a recording."""
    command = [
        BUNDLED,
        "-nostdin",
        "-hide_banner",
        "-loglevel",
        "error",
        "-y",
        *map(str, arguments),
        f"file:{path}",
    ]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return path


def lavfi(*graphs: str) -> list[str]:
    return [word for graph in graphs for word in ("-f", "lavfi", "-i", graph)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of tone, two seconds of film, and twelve whose frames fill any pipe."""
    folder = tmp_path_factory.mktemp("made")
    make(folder / "tone.wav", *lavfi("sine=f=440:d=1:r=16000"))
    h264 = ["-c:v", "libx264", "-preset", "ultrafast"]
    make(folder / "film.mp4", *lavfi("testsrc=s=64x48:r=25:d=2", "sine=d=2"), *h264, "-c:a", "aac")
    make(folder / "long.mkv", *lavfi("testsrc=s=640x360:r=10:d=12"), *h264)
    return folder


def decoded(path: Path, folder: Path, **options: float) -> tuple[media.Decoded, Frames]:
    frames: Frames = []
    result = media.decode(
        media.probe(path),
        folder / "sound.raw",
        lambda time_s, frame: frames.append((time_s, frame)),
        frame_rate_hz=options.get("frame_rate_hz", 4.0),
        max_width=int(options.get("max_width", 960)),
    )
    return result, frames


def samples(result: media.Decoded) -> NDArray[np.int16]:
    assert result.audio is not None
    return result.audio.samples


def onset_s(result: media.Decoded) -> float:
    return float(np.argmax(np.abs(samples(result)) > 500)) / RATE_HZ


def pitch_hz(part: NDArray[np.int16]) -> float:
    return float(np.argmax(np.abs(np.fft.rfft(part))) * RATE_HZ / len(part))


# --- find ---


def test_names_are_relative_to_what_the_inputs_share(made: Path, tmp_path: Path) -> None:
    for name in ("a/x.mp4", "b/x.mp4", "b/deep/Y.MP4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((made / "tone.wav").read_bytes())
    assert [entry.file for entry in media.find([tmp_path])] == ["a/x.mp4", "b/deep/Y.MP4", "b/x.mp4"]
    assert [entry.file for entry in media.find([tmp_path / "a/x.mp4"])] == ["x.mp4"]
    assert [entry.file for entry in media.find([tmp_path / "a", tmp_path / "b/x.mp4"])] == [
        "a/x.mp4",
        "b/x.mp4",
    ]
    twice = media.find([tmp_path / "b", tmp_path / "b/x.mp4", tmp_path / "a/../b", tmp_path / "b/deep"])
    assert [entry.file for entry in twice] == ["deep/Y.MP4", "x.mp4"]
    assert media.find([]) == []


def test_only_recordings_count_in_folders_and_anything_by_name(tmp_path: Path) -> None:
    for name in ("talk.mp4", "notes.txt", ".hidden.mp4", ".cache/x.mp4", "labels.work/part.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert [entry.file for entry in media.find([tmp_path])] == ["talk.mp4"]
    assert [entry.file for entry in media.find([tmp_path / "notes.txt"])] == ["notes.txt"]


def test_a_missing_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="gone.mp4"):
        media.find([tmp_path / "gone.mp4"])


def test_what_is_no_regular_file_gets_a_reason(made: Path, tmp_path: Path) -> None:
    root = tmp_path / "in"
    root.mkdir()
    (tmp_path / "secret.mp4").write_bytes(b"x")
    (tmp_path / "elsewhere").mkdir()
    os.mkfifo(root / "fifo.mp4")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "socket.mp4"))
    (root / "device.mp4").symlink_to("/dev/zero")
    (root / "empty.mp4").touch()
    (root / "out.mp4").symlink_to("../secret.mp4")
    (root / "dangling.mp4").symlink_to("nowhere.mp4")
    (root / "self.mp4").symlink_to("self.mp4")
    (root / "good.wav").write_bytes((made / "tone.wav").read_bytes())
    (root / "inside.wav").symlink_to("good.wav")
    (root / "loop").symlink_to(".")
    (root / "linked_folder").symlink_to("../elsewhere")
    found = media.find([root])
    assert {entry.file: entry.problem and entry.problem.error for entry in found} == {
        "dangling.mp4": "dangling_link",
        "device.mp4": "outside_link",
        "empty.mp4": "empty_file",
        "fifo.mp4": "not_a_regular_file",
        "good.wav": None,
        "inside.wav": None,
        "linked_folder": "outside_link",
        "out.mp4": "outside_link",
        "self.mp4": "unreadable",
        "socket.mp4": "not_a_regular_file",
    }
    assert all(entry.problem is None or entry.problem.stage == "find" for entry in found)
    assert media.find([root / "fifo.mp4"])[0].problem is not None


@pytest.fixture
def nobody() -> Iterator[Path]:
    """A folder that others may enter, seen without the rights of root."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


def test_no_permission_is_a_reason(nobody: Path) -> None:
    (nobody / "mine.mp4").write_bytes(b"x")
    (nobody / "mine.mp4").chmod(0)
    (nobody / "closed").mkdir(mode=0)
    was = os.geteuid()
    if was == 0:
        os.seteuid(65534)
    try:
        found = media.find([nobody])
    finally:
        os.seteuid(was)
    assert [(entry.file, entry.problem and entry.problem.error) for entry in found] == [
        ("closed", "no_permission"),
        ("mine.mp4", "no_permission"),
    ]


def test_strange_names_are_found_told_apart_and_read(made: Path, tmp_path: Path) -> None:
    names = [
        b"with space.mp4",
        b"-i.mp4",
        b"new\nline.mp4",
        b"new\n  Stream #0:0: Video: h264, 640x480.mp4",
        b"ctrl\x01\x1b[31m.mp4",
        b"%03d.mp4",
        b"http:x.mp4",
        b"quote'\"$(id).mp4",
        b"\xff.mp4",
        b"\\xff.mp4",
        b"\\x5cxff.mp4",
        "中文 é.mp4".encode(),
    ]
    content = (made / "tone.wav").read_bytes()
    for name in names:
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).write_bytes(content)
    found = media.find([tmp_path])
    assert len({entry.file for entry in found}) == len(names)
    for entry in found:
        entry.file.encode("utf-8")  # valid Unicode
        assert entry.problem is None
        probed = media.probe(entry.path)
        assert probed.has_audio and not probed.has_video and probed.duration_s == pytest.approx(1.0)
    assert {r"\xff.mp4", r"\x5cxff.mp4"} <= {entry.file for entry in found}
    result, _ = decoded(found[0].path, tmp_path)
    assert result.duration_s == pytest.approx(1.0)


def test_labels_of_undecodable_names_never_meet() -> None:
    pieces = [b"\xff", b"\\", b"x", b"f", b"5c", b"\xc3"]
    names = {a + b + c + d for a in pieces for b in pieces for c in pieces for d in pieces}
    assert len({_label(os.fsdecode(name)) for name in names}) == len(names)


def test_content_hash_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert media.content_hash(tmp_path / "abc") == expected
    with pytest.raises(RecordingError, match="can't be read"):
        media.content_hash(tmp_path / "gone")


def test_sidecars_share_the_stem_and_stay_in_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (tmp_path / "secret.srt").write_text("secret")
    beside = ["talk.srt", "talk.en.srt", "talk.pt-BR.vtt", "talk.VTT", "talk.json", "talk.ctm", "talk.rttm"]
    for name in [*beside, "talk.mp4.srt", "talk2.srt", "talk.part2.srt", "talk.mp4", "talk.txt", "xtalk.srt"]:
        (folder / name).write_text("x")
    (folder / "talk.de.srt").symlink_to("../secret.srt")
    (folder / "talk.fr.srt").symlink_to("talk.srt")
    os.mkfifo(folder / "talk.es.srt")
    expected = sorted([*beside, "talk.mp4.srt", "talk.fr.srt"])
    assert [path.name for path in media.sidecars(folder / "talk.mp4")] == expected


# --- which ffmpeg ---


def test_ffmpeg_is_the_chosen_one_then_the_systems_then_the_bundled_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ANNOTATE_FFMPEG", BUNDLED)
    assert media.ffmpeg_path() == BUNDLED
    monkeypatch.setenv("ANNOTATE_FFMPEG", str(tmp_path / "none"))
    with pytest.raises(SetupError, match="ANNOTATE_FFMPEG"):
        media.ffmpeg_path()
    monkeypatch.delenv("ANNOTATE_FFMPEG")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert media.ffmpeg_path() == BUNDLED
    system = tmp_path / "ffmpeg"
    system.write_bytes(b"not a program")
    system.chmod(0o755)
    child._choose.cache_clear()
    assert media.ffmpeg_path() == BUNDLED  # a broken one is passed over
    system.unlink()
    system.hardlink_to(BUNDLED) if system.parent.stat().st_dev == os.stat(
        BUNDLED
    ).st_dev else system.write_bytes(Path(BUNDLED).read_bytes())
    system.chmod(0o755)
    child._choose.cache_clear()
    assert media.ffmpeg_path() == str(system)


# --- probe ---


def test_probe_tells_streams_size_and_duration(made: Path) -> None:
    film = media.probe(made / "film.mp4")
    assert (film.has_audio, film.has_video, film.width, film.height) == (True, True, 64, 48)
    assert film.duration_s == pytest.approx(2.0, abs=0.1)


def test_a_cover_picture_is_no_video(tmp_path: Path) -> None:
    cover = make(tmp_path / "cover.png", *lavfi("testsrc=s=64x64:d=1"), "-frames:v", "1")
    song = make(
        tmp_path / "song.mp3", *lavfi("sine=d=1"), "-i", cover, "-map", "0", "-map", "1", "-c:v", "copy",
        "-id3v2_version", "3", "-disposition:v", "attached_pic",
    )  # fmt: skip
    probed = media.probe(song)
    assert probed.has_audio and not probed.has_video and probed.width is None
    result, frames = decoded(song, tmp_path)
    assert result.flags == ("no_video",) and not frames


def test_subtitle_streams_are_listed_and_extracted(tmp_path: Path) -> None:
    (tmp_path / "text.srt").write_text("1\n00:00:00,200 --> 00:00:00,900\nGrüße, NAME: ja?\n")
    film = make(
        tmp_path / "film.mkv", *lavfi("sine=d=1"), "-i", tmp_path / "text.srt", "-map", "0", "-map", "1",
        "-map", "1", "-c:s:0", "srt", "-c:s:1", "ass",
        "-metadata:s:s:0", "language=ger", "-metadata:s:s:1", "language=und",
    )  # fmt: skip
    probed = media.probe(film)
    assert [(stream.index, stream.language) for stream in probed.subtitles] == [(1, "de"), (2, None)]
    for stream in probed.subtitles:
        text = media.extract_subtitles(probed, stream).decode()
        clocks = {"subrip": r"00:00:00,20\d --> 00:00:00,90\d\n", "ass": r"0:00:00.20,0:00:00.90,"}
        assert re.search(clocks[stream.codec], text) and "Grüße, NAME: ja?" in text


def test_language_codes() -> None:
    tags = ["eng", "fre", "fra", "en-US", "zho", "yue", "und", "", None, "EN"]
    assert [iso_639_1(tag) for tag in tags] == ["en", "fr", "fr", "en", "zh", None, None, None, None, "en"]


@pytest.mark.parametrize(
    "content", [b"just a text\n" * 40, b"\x00" * 4096, b"RIFF", b"\x00\x00\x00\x18ftypmp42"]
)
def test_what_is_no_recording_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad\x1b.mp4"
    path.write_bytes(content)
    with pytest.raises(RecordingError) as caught:
        media.probe(path)
    assert (caught.value.stage, caught.value.error) == ("probe", "not_media")
    assert str(tmp_path) not in caught.value.message and "\x1b" not in caught.value.message


def test_a_playlist_shows_nothing_of_another_recording(made: Path, tmp_path: Path) -> None:
    target = made / "film.mp4"
    playlists = {
        "hls.mp4": f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nfile:{target}\n#EXT-X-ENDLIST\n",
        "concat.mp4": f"ffconcat version 1.0\nfile '{target}'\n",
        "dash.mp4": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>'
        '<AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1">'
        f"<BaseURL>file:{target}</BaseURL></Representation></AdaptationSet></Period></MPD>",
    }
    for name, text in playlists.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(RecordingError) as caught:
            media.probe(tmp_path / name)
        assert caught.value.error == "not_media" and "film" not in caught.value.message


def test_subtitles_alone_are_no_streams(tmp_path: Path) -> None:
    (tmp_path / "text.srt").write_text("1\n00:00:00,200 --> 00:00:00,900\nHello\n")
    with pytest.raises(RecordingError) as caught:
        media.probe(make(tmp_path / "only.mkv", "-i", tmp_path / "text.srt"))
    assert (caught.value.stage, caught.value.error) == ("probe", "no_streams")


# --- decode ---


def test_samples_of_sixteen_bit_sound_come_through_unchanged(made: Path, tmp_path: Path) -> None:
    result, frames = decoded(made / "tone.wav", tmp_path)
    header = 78  # of the .wav that ffmpeg writes
    raw = np.frombuffer((made / "tone.wav").read_bytes()[header:], dtype="<i2")
    np.testing.assert_array_equal(samples(result), raw[-len(samples(result)) :])
    assert len(samples(result)) == RATE_HZ and result.flags == ("no_video",) and not frames
    assert not samples(result).flags.writeable


def test_film_gives_sound_and_frames(made: Path, tmp_path: Path) -> None:
    result, frames = decoded(made / "film.mp4", tmp_path, max_width=32)
    assert result.flags == () and result.duration_s == pytest.approx(2.0, abs=0.1)
    assert [time_s for time_s, _ in frames] == [index / 4 for index in range(8)]
    assert {frame.shape for _, frame in frames} == {(24, 32, 3)}
    larger, frames = decoded(made / "film.mp4", tmp_path, frame_rate_hz=2.0)
    assert {frame.shape for _, frame in frames} == {(48, 64, 3)} and len(frames) == 4


def test_frames_can_be_left_out(made: Path, tmp_path: Path) -> None:
    result = media.decode(media.probe(made / "film.mp4"), tmp_path / "sound.raw", None)
    assert result.audio is not None and result.flags == ()


def test_film_without_sound(tmp_path: Path) -> None:
    film = make(tmp_path / "mute.mkv", *lavfi("testsrc=s=64x48:r=25:d=1"), "-c:v", "ffv1")
    result, frames = decoded(film, tmp_path)
    assert result.audio is None and result.flags == ("no_audio",) and len(frames) == 4
    assert result.duration_s == pytest.approx(1.0)
    assert media.decode(media.probe(film), tmp_path / "sound.raw", None).audio is None


def test_the_time_of_a_first_frame_is_read_as_old_and_new_ffmpegs_write_it() -> None:
    picture = "n:   0 pts:      0 pts_time:0       duration:      1 fmt:rgb24 checksum:FF96925C mean"
    older = "n:   0 pts:      3 pts_time:0.12    pos:      48 fmt:rgb24"
    sound = "n:0 pts:72000 pts_time:1.5 fmt:fltp channels:1 checksum:00000000 plane_checksums: [ 00000000 ]"
    older_sound = "n:0 pts:336 pts_time:0.007 pos:13803 fmt:fltp channels:1 chlayout:mono rate:48000"
    of_pictures, of_sound = "[Parsed_showinfo_1 @ 0x7f4a] ", "[Parsed_ashowinfo_1 @ 0x7f4b] "
    assert first_frame_s(of_pictures + picture) == 0.0
    assert first_frame_s(of_pictures + older) == 0.12
    assert first_frame_s(of_sound + sound) == 1.5
    assert first_frame_s(of_sound + older_sound) == 0.007
    assert first_frame_s(of_sound + "n:0 pts:NOPTS pts_time:NOPTS fmt:s16") == 0.0
    assert first_frame_s("    title           : " + of_sound + sound) is None, "what a file says of itself"
    assert first_frame_s(of_sound + sound.replace("n:0", "n:10")) is None


def test_late_sound_stays_late(tmp_path: Path) -> None:
    film = make(
        tmp_path / "late.mp4", *lavfi("testsrc=s=64x48:r=25:d=4"), "-itsoffset", "1.5", *lavfi("sine=d=2"),
        "-map", "0", "-map", "1", "-c:v", "libx264", "-c:a", "aac",
    )  # fmt: skip
    result, _ = decoded(film, tmp_path)
    assert onset_s(result) == pytest.approx(1.5, abs=0.03)


def test_a_gap_in_the_sound_stays_a_gap(tmp_path: Path) -> None:
    cut = "aselect=lt(t\\,1)+gte(t\\,2)"
    film = make(tmp_path / "gap.mkv", *lavfi("sine=d=3:r=16000"), "-af", cut, "-c:a", "pcm_s16le")
    level = np.abs(samples(decoded(film, tmp_path)[0])).reshape(-1, RATE_HZ // 4)[:12].max(axis=1)
    assert level[[0, 1, 2, 9, 10, 11]].min() > 1000 and level[5:7].max() == 0


def test_late_pictures_stay_late(tmp_path: Path) -> None:
    film = make(
        tmp_path / "late.mkv", *lavfi("sine=d=4"), "-itsoffset", "2.1", *lavfi("testsrc=s=64x48:r=25:d=1"),
        "-map", "1", "-map", "0", "-c:v", "ffv1", "-c:a", "flac",
    )  # fmt: skip
    result, frames = decoded(film, tmp_path)
    assert [time_s for time_s, _ in frames][:3] == [2.25, 2.5, 2.75] and result.duration_s == pytest.approx(
        4, abs=0.05
    )


def test_frames_are_those_on_screen_at_their_time(tmp_path: Path) -> None:
    # Brightness tells the time of each picture; after one second only every 17th of 50 is kept.
    ramp = "nullsrc=s=32x32:r=50:d=4,format=gray,geq=lum='50*T',select='lt(t,1)+not(mod(n,17))'"
    film = make(tmp_path / "vfr.mkv", *lavfi(ramp), "-fps_mode", "vfr", "-c:v", "ffv1", "-pix_fmt", "gray")
    shown = np.array([n / 50 for n in range(200) if n < 50 or n % 17 == 0])
    result, frames = decoded(film, tmp_path)
    assert len(frames) >= 15
    for time_s, frame in frames:
        expected = shown[shown <= time_s + 1e-6].max()
        assert frame.mean() / 50 == pytest.approx(expected, abs=0.03), time_s


@pytest.mark.parametrize("turn", ["90", "180", "270"])
def test_rotated_film_is_upright(tmp_path: Path, turn: str) -> None:
    # ffmpeg's own upright picture is the measure.
    plain = make(tmp_path / "plain.mp4", *lavfi("testsrc=s=64x32:r=25:d=0.5"), "-c:v", "libx264", "-qp", "0")
    film = make(tmp_path / "turned.mp4", "-display_rotation", turn, "-i", plain, "-c", "copy")
    raw = make(tmp_path / "turned.raw", "-i", film, "-frames:v", "1", "-pix_fmt", "rgb24", "-f", "rawvideo")
    probed = media.probe(film)
    _, frames = decoded(film, tmp_path)
    frame = frames[0][1]
    assert frame.shape[:2] == (probed.height, probed.width) == ((32, 64) if turn == "180" else (64, 32))
    upright = np.frombuffer(raw.read_bytes(), dtype=np.uint8).reshape(frame.shape)
    assert np.abs(frame.astype(int) - upright).mean() < 12


@pytest.mark.parametrize("space", ["bt709", "smpte170m"])
def test_pictures_have_the_colours_of_the_film(tmp_path: Path, space: str) -> None:
    """As ffmpeg makes RGB of them in one step; they are scaled before."""
    # Soft and of a middling saturation, so that nothing is clipped and chroma has no sharp edges.
    soft = "eq=contrast=0.5:saturation=0.5,gblur=3,format=yuv420p"
    graph = f"testsrc2=s=640x360:r=25:d=0.2,{soft},setparams=colorspace={space}"
    film = make(tmp_path / "film.mp4", *lavfi(graph), "-c:v", "libx264", "-qp", "0")
    one_step = ("-vf", "scale=320:180", "-frames:v", "1", "-pix_fmt", "rgb24", "-f", "rawvideo")
    raw = make(tmp_path / "film.raw", "-i", film, *one_step)
    _, frames = decoded(film, tmp_path, max_width=320)
    frame = frames[0][1]
    assert frame.shape == (180, 320, 3)
    off = frame.astype(int) - np.frombuffer(raw.read_bytes(), dtype=np.uint8).reshape(frame.shape)
    assert np.abs(off.mean(axis=(0, 1))).max() < 1.5 and np.abs(off).mean() < 2


def test_wide_pixels_are_shown_wide(tmp_path: Path) -> None:
    graph = "testsrc=s=72x58:r=25:d=0.5,setsar=64/45"
    film = make(tmp_path / "dvd.mpg", *lavfi(graph), "-c:v", "mpeg2video", "-b:v", "1M", "-aspect", "16:9")
    probed = media.probe(film)
    assert probed.width is not None and probed.height is not None
    assert probed.width / probed.height == pytest.approx(16 / 9, rel=0.02)
    assert decoded(film, tmp_path)[1][0][1].shape == (probed.height, probed.width, 3)


def test_a_broadcast_that_changes_form_midway_keeps_its_times(tmp_path: Path) -> None:
    # Stereo to surround and small to large pictures, as between a film and an advertisement.
    for name, size, tone, channels, offset in (("1", "64x48", 440, 2, 0), ("2", "128x96", 880, 6, 4)):
        make(
            tmp_path / f"{name}.ts", *lavfi(f"testsrc=s={size}:r=25:d=4", f"sine=f={tone}:d=4"),
            "-c:v", "mpeg2video", "-c:a", "ac3", "-ac", str(channels), "-output_ts_offset", str(offset),
        )  # fmt: skip
    film = tmp_path / "both.ts"
    film.write_bytes((tmp_path / "1.ts").read_bytes() + (tmp_path / "2.ts").read_bytes())
    result, frames = decoded(film, tmp_path)
    assert result.duration_s == pytest.approx(8.0, abs=0.15) and abs(len(frames) - 32) <= 1
    assert pitch_hz(samples(result)[RATE_HZ : 3 * RATE_HZ]) == pytest.approx(440, abs=2)
    assert pitch_hz(samples(result)[5 * RATE_HZ : 7 * RATE_HZ]) == pytest.approx(880, abs=2)


@pytest.mark.parametrize("quiet", ["-1", "-0.95"])
def test_channels_that_cancel_each_other_are_not_mixed(tmp_path: Path, quiet: str) -> None:
    pan = f"pan=stereo|c0=c0|c1={quiet}*c0"
    upside = make(tmp_path / "inverted.wav", *lavfi("sine=f=440:d=1:r=16000"), "-af", pan)
    result, _ = decoded(upside, tmp_path)
    assert result.flags == ("no_video", "phase_inverted") and len(samples(result)) == RATE_HZ
    assert np.abs(samples(result)).max() > 3000


def test_one_silent_channel_is_mixed(tmp_path: Path) -> None:
    half = make(tmp_path / "half.wav", *lavfi("sine=f=440:d=1:r=16000"), "-af", "pan=stereo|c0=c0|c1=0*c0")
    result, _ = decoded(half, tmp_path)
    assert result.flags == ("no_video",) and np.abs(samples(result)).max() > 1500


def test_a_file_that_was_cut_off_is_flagged(tmp_path: Path) -> None:
    film = make(
        tmp_path / "whole.mp4", *lavfi("testsrc=s=64x48:r=25:d=8", "sine=d=8"),
        "-c:v", "libx264", "-c:a", "aac", "-movflags", "+faststart",
    )  # fmt: skip
    assert decoded(film, tmp_path)[0].flags == ()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(film.read_bytes()[: film.stat().st_size * 6 // 10])
    result, _ = decoded(cut, tmp_path)
    assert "truncated_media" in result.flags and 1 < result.duration_s < 7


def test_quality_of_sound_is_flagged(tmp_path: Path) -> None:
    silence = make(tmp_path / "silent.wav", *lavfi("anullsrc=r=16000"), "-t", "1")
    assert decoded(silence, tmp_path)[0].flags == ("no_video", "silent")
    loud = make(tmp_path / "loud.wav", *lavfi("sine=d=1"), "-af", "volume=30dB")
    assert decoded(loud, tmp_path)[0].flags == ("no_video", "clipped")
    tone = np.sin(np.arange(RATE_HZ) * 0.2).astype("<f4") * np.float32(0.5)
    tone[[100, 200]] = np.nan, np.inf
    tone[300] = -np.inf
    (tmp_path / "raw").write_bytes(tone.tobytes())
    bad = make(
        tmp_path / "bad.wav",
        "-f",
        "f32le",
        "-ar",
        "16000",
        "-ac",
        "1",
        "-i",
        tmp_path / "raw",
        "-c:a",
        "copy",
    )
    result, _ = decoded(bad, tmp_path)
    assert "bad_samples" in result.flags and "clipped" not in result.flags
    assert np.abs(samples(result)[1000:]).max() == pytest.approx(16384, abs=40)
    assert abs(int(samples(result)[100])) < 16385


@pytest.mark.parametrize("count", [1, 1600])
def test_very_short_sound(tmp_path: Path, count: int) -> None:
    short = make(tmp_path / "short.wav", *lavfi("sine=r=16000:d=1"), "-af", f"atrim=end_sample={count}")
    result, _ = decoded(short, tmp_path)
    assert len(samples(result)) == count and result.duration_s == pytest.approx(count / RATE_HZ)


def test_a_recording_with_nothing_in_it(tmp_path: Path) -> None:
    empty = make(tmp_path / "empty.wav", *lavfi("sine=d=1"), "-af", "atrim=end_sample=0")
    with pytest.raises(RecordingError) as caught:
        decoded(empty, tmp_path)
    assert caught.value.error == "nothing_decoded" and "it lasts no time" in str(caught.value)


def test_limits_stop_a_recording(made: Path, tmp_path: Path) -> None:
    film = media.probe(made / "film.mp4")
    with pytest.raises(RecordingError) as caught:
        media.probe(made / "film.mp4", media.Limits(probe_s=0.001))
    assert (caught.value.stage, caught.value.error) == ("probe", "timeout")
    slow = media.Limits(decode_s=0.001, decode_s_per_s=0)
    with pytest.raises(RecordingError) as caught:
        media.decode(film, tmp_path / "sound.raw", None, limits=slow)
    assert (caught.value.stage, caught.value.error) == ("decode", "timeout")
    with pytest.raises(RecordingError) as caught:
        media.decode(film, tmp_path / "sound.raw", None, limits=media.Limits(audio_bytes=1000))
    assert caught.value.error == "too_long"
    with pytest.raises((RecordingError, SetupError)):  # too little memory to decode in, or even to start
        media.decode(film, tmp_path / "sound.raw", None, limits=media.Limits(address_bytes=96 << 20))
    assert media.Limits().decode_wall_s(10.0) < media.Limits().decode_wall_s(None) == 86_400


def test_a_duration_that_the_size_belies_lends_no_time(made: Path, tmp_path: Path) -> None:
    """An index that says 136 years: ffmpeg may take what the bytes can hold, and the run what was decoded."""
    film = bytearray((made / "long.mkv").read_bytes())
    at = film.index(b"\x44\x89\x88") + 3  # the duration, a double
    film[at : at + 8] = struct.pack(">d", 4.3e12)  # milliseconds
    forged = tmp_path / "forged.mkv"
    forged.write_bytes(film)
    found = media.probe(forged)
    assert found.duration_s is not None and found.duration_s > 4e9
    limits = media.Limits()
    assert limits.decode_wall_s(found.duration_s, len(film)) < 60 + 4 * len(film)
    assert "truncated_media" in decoded(forged, tmp_path, max_width=64)[0].flags
    far = Task(found, "key", tmp_path / "out", {})
    assert reading_limit_s(far) == reading_limit_s(replace(far, media=media.probe(made / "film.mp4")))
    assert working_limit_s(10) < working_limit_s(1e4) < working_limit_s(1e6) == working_limit_s(1e9)


def test_pictures_that_never_end_are_given_up(made: Path, tmp_path: Path) -> None:
    film = media.probe(made / "film.mp4")
    with pytest.raises(RecordingError) as caught:
        media.decode(
            replace(film, audio=()),
            tmp_path / "x.raw",
            lambda time, frame: None,
            limits=media.Limits(audio_bytes=16_000),
        )
    assert caught.value.error == "too_long"


def test_a_full_disk_is_a_fault_of_the_machine(made: Path) -> None:
    with pytest.raises(SetupError, match="disk is full"):
        media.decode(media.probe(made / "film.mp4"), Path("/dev/full"), None)
    with pytest.raises(SetupError, match="can't be written"):
        media.decode(media.probe(made / "film.mp4"), made / "missing" / "sound.raw", None)


# --- the child process ---


def children() -> list[int]:
    return [
        int(pid) for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()
    ]


def test_no_secret_reaches_the_child_and_an_exception_ends_it(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = made / "long.mkv"
    monkeypatch.setenv("HF_TOKEN", "canary-7f3a")
    seen: list[tuple[int, bytes]] = []

    class Enough(Exception):
        pass

    def look(time_s: float, frame: NDArray[np.uint8]) -> None:
        for pid in children():
            process = Path(f"/proc/{pid}")
            seen.append((pid, (process / "environ").read_bytes() + (process / "cmdline").read_bytes()))
        raise Enough

    before = set(children())
    with pytest.raises(Enough):
        media.decode(media.probe(film), tmp_path / "sound.raw", look)
    ours = [(pid, told) for pid, told in seen if pid not in before]
    assert ours and all(b"PATH=" in told and b"canary" not in told for _, told in ours)
    assert not any(Path(f"/proc/{pid}").exists() for pid, _ in ours)
    assert set(children()) <= before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux can tie a child to its parent")
def test_ffmpeg_dies_with_its_parent(made: Path, tmp_path: Path) -> None:
    film = made / "long.mkv"
    program = (
        "import os, time\nfrom pathlib import Path\nfrom annotator import media\n"
        "def look(t, f):\n"
        "    print(Path(f'/proc/self/task/{os.getpid()}/children').read_text(), flush=True)\n"
        "    time.sleep(60)\n"
        f"media.decode(media.probe(Path({str(film)!r})), Path({str(tmp_path / 'sound.raw')!r}), look)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        try:
            pids = [int(pid) for pid in parent.stdout.readline().split()]
            assert pids and all(_runs(pid) for pid in pids)
        finally:
            parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 5
    while any(_runs(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(_runs(pid) for pid in pids)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_the_sandbox_writes_nothing(tmp_path: Path) -> None:
    target = tmp_path / "written.wav"
    command = ["-nostdin", *lavfi("sine=d=1"), f"file:{target}"]
    try:
        ended = child.run(lambda _: command, [], read=None, wall_s=20, limits=media.Limits(), stage="decode")
        assert ended.status != 0
    except RecordingError as error:
        assert error.error == "decoder_killed"  # the file-size limit's signal
    assert not target.exists() or target.stat().st_size == 0


@pytest.mark.skipif(media.landlock_abi() == 0, reason="this kernel has no Landlock")
def test_the_sandbox_opens_no_other_recording(made: Path, tmp_path: Path) -> None:
    # Even with the demuxers' whitelist gone.
    script = tmp_path / "list.ffconcat"
    script.write_text(f"ffconcat version 1.0\nfile '{made / 'tone.wav'}'\n")
    got: list[bytes] = []

    def read(allowed: Path, url: str, *options: str) -> child.Ended:
        got.clear()
        return child.run(
            lambda urls: ["-nostdin", *options, "-i", url, "-f", "s16le", *urls], [got.append], read=allowed,
            wall_s=20, limits=media.Limits(), stage="decode",
        )  # fmt: skip

    assert read(made / "tone.wav", f"file:{made / 'tone.wav'}").status == 0 and got
    refused = read(script, f"file:{script}", "-f", "concat", "-safe", "0")
    assert refused.status != 0 and not got
    assert any("Permission denied" in line for line in refused.log)


# --- containers ---


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *(
            (f"a.{ending}", ())
            for ending in ("aif", "aiff", "caf", "au", "w64", "ac3", "eac3", "tta", "opus")
        ),
        ("a.wv", ("-c:a", "wavpack")),
        ("a.dts", ("-strict", "-2", "-ar", "48000")),
        ("a.wave", ("-f", "wav")),
        ("a.aifc", ("-f", "aiff", "-c:a", "pcm_s16le")),
        ("a.snd", ("-f", "au")),
        ("a.rf64", ("-f", "wav", "-rf64", "always")),
        ("no ending", ("-f", "wav")),
        ("wrong.mp4", ("-f", "wav")),
        ("wrong.txt", ("-f", "flac")),
        ("wrong.srt", ("-f", "mp3")),
    ],
)
def test_containers_are_known_by_their_content(tmp_path: Path, name: str, options: tuple[str, ...]) -> None:
    path = make(tmp_path / name, *lavfi("sine=f=440:d=1:r=48000"), *options)
    result, _ = decoded(path, tmp_path)
    assert pitch_hz(samples(result)[2000:10000]) == pytest.approx(440, abs=3)
    by_name = name.startswith("a.") or name == "wrong.mp4"
    assert [found.file for found in media.find([tmp_path])] == ([name] if by_name else [])
    assert [found.problem for found in media.find([path])] == [None]


def test_a_broadcast_in_mxf_is_read(tmp_path: Path) -> None:
    film = make(
        tmp_path / "a.mxf", *lavfi("testsrc=s=720x576:r=25:d=1", "sine=f=440:d=1:r=48000"),
        "-c:v", "mpeg2video", "-c:a", "pcm_s16le",
    )  # fmt: skip
    result, frames = decoded(film, tmp_path)
    assert pitch_hz(samples(result)[2000:10000]) == pytest.approx(440, abs=3) and len(frames) == 4


REFUSING = """
import ctypes, errno, struct, sys
numbers = {157, 317, 444, 445, 446}  # prctl, seccomp and Landlock on x86-64
steps = [(0x20, 0, 0, 0)]
for i, number in enumerate(sorted(numbers)):
    steps.append((0x15, len(numbers) - i, 0, number))
steps += [(0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x00050000 | int(sys.argv[1]))]
program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
handed = struct.pack("HP", len(steps), ctypes.addressof(program))
assert libc.prctl(22, 2, ctypes.c_char_p(handed), 0, 0) == 0
assert libc.prctl(38, 1, 0, 0, 0) == -1 and ctypes.get_errno() == int(sys.argv[1])
from pathlib import Path
from annotator import media
found = media.probe(Path(sys.argv[2]))
print(found.has_audio, media.sandbox_lacks())
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers of the calls are those of x86-64")
@pytest.mark.parametrize("fault", [errno.EPERM, errno.ENOSYS, errno.EACCES, errno.EINVAL])
def test_decoding_goes_on_with_what_the_machine_has(fault: int, made: Path, tmp_path: Path) -> None:
    """A container or an old kernel that refuses prctl, seccomp and Landlock, for real."""
    script = tmp_path / "refusing.py"
    script.write_text(REFUSING)
    command = [sys.executable, str(script), str(fault), str(made / "tone.wav")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.stdout.startswith("True "), ended.stderr
    for measure in ("its parent", "no new rights", "no sockets", "no other files"):
        assert measure in ended.stdout


def test_a_recording_can_not_say_what_the_sandbox_lacks() -> None:
    log = child._Log(None)
    log.feed(b"Input #0\n" + sandbox.LACKS.encode() + b"everything\n")
    assert log.lines()[1].endswith("everything") and log.lacks is None


def test_sound_whose_start_is_never_told_is_a_fault_and_not_put_at_zero(tmp_path: Path) -> None:
    header = struct.pack(">4s5I", b".snd", 24, 0xFFFFFFFF, 6, 16000, 1)
    with (
        Sound(tmp_path / "sound", 1000) as sound,
        pytest.raises(RecordingError, match="when the sound starts"),
    ):
        sound.feed(header + struct.pack(">4f", 0.1, 0.2, 0.3, 0.4))
        sound.finish()
