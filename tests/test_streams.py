"""Which sound stream of a recording is heard, and what becomes of its channels."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from annotator import diarize, media
from annotator.media.streams import in_order
from annotator.records import RATE_HZ, Audio, AudioStream, RecordingError, Turn

from .media import run_ffmpeg, talk


def tone(hz: int, seconds: float = 1.0) -> list[str]:
    return ["-f", "lavfi", "-i", f"sine=f={hz}:d={seconds}:r=16000"]


def film(ffmpeg: str, path: Path, *tracks: tuple[int, str, str, str], video: bool = False) -> Path:
    """A recording with a tone a track: pitch, language, disposition and title."""
    inputs = [word for hz, *_ in tracks for word in tone(hz)]
    if video:
        inputs += ["-f", "lavfi", "-i", "testsrc=s=64x48:r=8:d=1"]
    facts: list[str] = []
    for number, (_, language, disposition, title) in enumerate(tracks):
        facts += ["-map", f"{number}:a", f"-disposition:a:{number}", disposition]
        facts += [f"-metadata:s:a:{number}", f"language={language}"]
        facts += [f"-metadata:s:a:{number}", f"title={title}"] if title else []
    if video:
        facts += ["-map", f"{len(tracks)}:v", "-c:v", "mpeg4"]
    run_ffmpeg(ffmpeg, *inputs, *facts, "-c:a", "aac", str(path))
    return path


def pitch_hz(audio: Audio) -> float:
    part = audio.samples[2000:10000]
    return float(np.argmax(np.abs(np.fft.rfft(part))) * RATE_HZ / len(part))


def heard_hz(path: Path, folder: Path, language: str | None = None, track: str | None = None) -> float:
    found = media.decode(media.probe(path), folder / "s.raw", None, language=language, audio_track=track)
    assert found.audio is not None
    return round(pitch_hz(found.audio), -1)


def chosen(path: Path, language: str | None = None, track: str | None = None) -> int:
    return in_order(media.probe(path).audio, language, track)[0].number


def wav(path: Path, channels: NDArray[np.float64]) -> Path:
    """Sound (n, c) as a plain WAV file, which only counts its channels."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels.shape[1])
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes((np.clip(channels, -1, 1) * 32767).astype("<i2").tobytes())
    return path


# --- streams ---


def test_streams_are_described(ffmpeg: str, tmp_path: Path) -> None:
    path = film(
        ffmpeg, tmp_path / "a.mkv", (300, "eng", "comment", "Director"), (500, "ger", "default+original", ""),
        video=True,
    )  # fmt: skip
    first, second = media.probe(path).audio
    assert (first.number, first.codec, first.language, first.title) == (1, "aac", "en", "Director")
    assert first.disposition == ("comment",) and first.layout == "mono"
    assert (second.number, second.language, second.title) == (2, "de", None)
    assert set(second.disposition) == {"default", "original"}
    assert media.described(first) == '1 (en, aac, mono, "Director", comment)'


@pytest.mark.parametrize("ending", [".mkv", ".mp4"])
def test_what_is_spoken_in_the_scene_is_heard(ffmpeg: str, tmp_path: Path, ending: str) -> None:
    path = film(
        ffmpeg, tmp_path / f"a{ending}",
        (300, "eng", "comment", ""), (400, "eng", "visual_impaired", ""),
        (500, "ger", "0", "Deutsch"), (600, "eng", "default", ""),
    )  # fmt: skip
    assert heard_hz(path, tmp_path) == 600
    assert chosen(path, language="de") == 3
    assert chosen(path, language="fr") == 4
    for track, number in (("1", 1), ("3", 3), ("German", 3), ("de", 3), ("deutsch", 3)):
        assert chosen(path, track=track) == number, track
    with pytest.raises(RecordingError, match=r"no sound track 'fr': it has 1 \(en, aac.*--audio-track"):
        heard_hz(path, tmp_path, track="fr")
    with pytest.raises(RecordingError, match="no sound track '5'"):
        chosen(path, track="5")


def test_titles_say_what_dispositions_leave_out(ffmpeg: str, tmp_path: Path) -> None:
    path = film(
        ffmpeg, tmp_path / "a.mkv",
        (300, "eng", "default", "Director's Commentary"), (400, "eng", "0", "Audio Description"),
        (500, "eng", "0", "Main (no commentary)"),
    )  # fmt: skip
    assert chosen(path) == 3
    assert chosen(path, track="director") == 1
    assert heard_hz(path, tmp_path, track="Audio description") == 400


def streams(*facts: tuple[str | None, tuple[str, ...], str | None]) -> list[AudioStream]:
    return [AudioStream(i, i, "aac", language, title, d) for i, (language, d, title) in enumerate(facts, 1)]


@pytest.mark.parametrize(
    ("first", "second", "language"),
    [
        (("en", ("dub",), None), ("ja", ("original",), None), None),
        (("en", ("default", "comment"), None), ("en", (), None), None),
        (("en", ("default", "descriptions"), None), ("en", (), None), None),
        (("en", ("default", "karaoke"), None), ("en", (), None), None),
        (("fr", ("default",), None), ("de", ("dub",), None), "de"),
        (("de", ("comment",), None), ("en", (), None), "de"),
        (("fr", (), None), (None, (), None), "de"),
        (("en", (), None), ("en", ("default",), None), None),
        (("en", ("hearing impaired",), None), ("en", (), None), None),
        (("de", (), "Kommentar des Regisseurs"), ("de", (), None), None),
        (("de", (), "Hörfilmfassung mit Audiodeskription"), ("de", (), None), None),
    ],
)
def test_the_second_of_two_is_heard(
    first: tuple[str | None, tuple[str, ...], str | None],
    second: tuple[str | None, tuple[str, ...], str | None],
    language: str | None,
) -> None:
    assert in_order(streams(first, second), language)[0].number == 2


def test_a_lone_track_is_taken_unless_it_says_otherwise() -> None:
    assert in_order(streams((None, (), None)), None, "en")[0].number == 1
    with pytest.raises(RecordingError):
        in_order(streams(("fr", (), None)), None, "en")


def broken(path: Path, codec: bytes, other: bytes) -> Path:
    """The first of a Matroska file's tracks in a codec that nobody has."""
    content = path.read_bytes()
    assert content.count(codec) >= 1
    path.write_bytes(content.replace(codec, other, 1))
    return path


@pytest.mark.parametrize("video", [False, True])
@pytest.mark.parametrize("other", [b"A_XYZ", b"A_AC4"])
def test_a_track_that_can_not_be_decoded_gives_way_and_is_told(
    ffmpeg: str, tmp_path: Path, video: bool, other: bytes
) -> None:
    path = tmp_path / "a.mkv"
    film(ffmpeg, path, (300, "eng", "default", ""), (500, "eng", "0", ""), video=video)
    broken(path, b"A_AAC", other)
    probed = media.probe(path)
    assert probed.has_audio and len(probed.audio) == 2
    frames: list[float] = []
    found = media.decode(probed, tmp_path / "s.raw", lambda time_s, _: frames.append(time_s))
    assert found.audio is not None and round(pitch_hz(found.audio), -1) == 500
    assert "other_audio_track" in found.flags and found.track is not None and found.track.number == 2
    assert len(frames) == (8 if video else 0) and frames == sorted(set(frames))


def test_a_broken_comment_costs_nothing(ffmpeg: str, tmp_path: Path) -> None:
    path = film(ffmpeg, tmp_path / "a.mkv", (300, "eng", "comment", ""), (500, "eng", "default", ""))
    broken(path, b"A_AAC", b"A_XYZ")
    found = media.decode(media.probe(path), tmp_path / "s.raw", None)
    assert found.audio is not None and "other_audio_track" not in found.flags


# --- channels ---


@pytest.mark.parametrize("count", [2, 3, 4, 6, 8, 10, 24])
def test_nameless_channels_are_all_heard_alike(tmp_path: Path, count: int) -> None:
    rate = RATE_HZ
    time = np.arange(rate) / rate
    sound = np.zeros((count * rate, count))
    for channel in range(count):
        sound[channel * rate : (channel + 1) * rate, channel] = 0.5 * np.sin(2 * np.pi * 440 * time)
    path = wav(tmp_path / "mics.wav", sound)
    assert (media.probe(path).audio[0].layout is None) == (count > 2)
    found = media.decode(media.probe(path), tmp_path / "s.raw", None)
    assert found.audio is not None and "phase_inverted" not in found.flags
    loud = np.abs(found.audio.samples.reshape(count, rate).astype(float)).max(axis=1)
    assert np.allclose(loud, 0.5 * 32768 / count, rtol=0.02)
    assert found.levels is not None and found.levels.level_db.shape[1] == count


def test_a_stated_layout_is_mixed_as_stated_with_the_centre_first(ffmpeg: str, tmp_path: Path) -> None:
    loud = {}
    for name in ("FL", "FC", "LFE", "SL"):
        path = tmp_path / f"{name}.flac"
        run_ffmpeg(ffmpeg, *tone(440), "-af", f"pan=5.1(side)|{name}=c0", str(path))
        found = media.decode(media.probe(path), tmp_path / "s.raw", None)
        assert found.levels is None
        loud[name] = 0 if found.audio is None else int(np.abs(found.audio.samples.astype(int)).max())
    assert loud["FC"] > 1.9 * loud["FL"] > 1.9 * loud["SL"] > 0
    assert loud["LFE"] < 0.05 * loud["FC"]


def conversation(folder: Path, leak: float, seed: int = 0) -> NDArray[np.float64]:
    """Two voices (n, 2) that take turns, talk at once from 16 to 18 s, and are heard on both sides."""
    rng = np.random.default_rng(seed)
    voices = []
    for number, pitch in enumerate((110.0, 210.0)):
        with wave.open(str(talk(folder / f"v{number}.wav", 24, pitch, seed + number)), "rb") as file:
            voices.append(np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768)
    one, two = np.stack(voices)
    seconds = np.arange(len(one)) / RATE_HZ
    first = ((seconds > 1) & (seconds < 6)) | ((seconds > 12) & (seconds < 18))
    second = ((seconds > 6.5) & (seconds < 11.5)) | ((seconds > 16) & (seconds < 22))
    one, two = one * first, two * second * 0.5
    delay = int(0.004 * RATE_HZ)  # over a table: the other's sound comes later as well
    pair = np.stack([one + leak * np.roll(two, delay), two + leak * np.roll(one, delay)], axis=1)
    return pair + 0.001 * rng.standard_normal(pair.shape)


def share_right(turns: list[Turn], truth: dict[str, list[tuple[float, float]]]) -> float:
    """Share of 10 ms steps, of those with speech in truth, whose set of speakers is right."""
    steps = np.arange(0, 24, 0.01)

    def of(spans: dict[str, list[tuple[float, float]]]) -> NDArray[np.bool_]:
        return np.stack(
            [
                np.any([(steps >= a) & (steps < b) for a, b in spans.get(name, [(0, 0)])], axis=0)
                for name in ("CHANNEL_1", "CHANNEL_2")
            ]
        )

    found: dict[str, list[tuple[float, float]]] = {}
    for turn in turns:
        found.setdefault(turn.speaker, []).append((turn.start, turn.end))
    wanted, got = of(truth), of(found)
    spoken = wanted.any(axis=0)
    return float((wanted == got).all(axis=0)[spoken].mean())


TRUTH = {"CHANNEL_1": [(1.0, 6.0), (12.0, 18.0)], "CHANNEL_2": [(6.5, 11.5), (16.0, 22.0)]}


@pytest.mark.parametrize("leak", [0.0, 0.1, 0.25])
def test_a_speaker_a_channel_is_found_and_told_by_the_channel(tmp_path: Path, leak: float) -> None:
    path = wav(tmp_path / "call.wav", conversation(tmp_path, leak))
    levels = media.decode(media.probe(path), tmp_path / "s.raw", None).levels
    assert levels is not None and diarize.one_speaker_a_channel(levels)
    speech = [Turn(1, 11.5, "SPEAKER_00"), Turn(12, 22, "SPEAKER_00")]
    found = diarize.by_channel(speech, levels)
    assert {turn.speaker for turn in found} == {"CHANNEL_1", "CHANNEL_2"}
    assert share_right(found, TRUTH) > 0.9
    assert found.alone is not None
    assert all(a.end <= b.start for a, b in zip(found.alone, found.alone[1:], strict=False))


def test_a_mix_is_no_speaker_a_channel(tmp_path: Path) -> None:
    call = conversation(tmp_path, 0.0)
    one, two = call.T
    mixes = {
        "both in the middle": np.stack([one + two, one + two], axis=1),
        "placed a little left and right": np.stack([one + 0.5 * two, 0.5 * one + two], axis=1),
        "one microphone is dead": np.stack([one + two, 0.001 * two], axis=1),
        "one speaker only": np.stack([one, 0.1 * one], axis=1),
        "one upside down": np.stack([one, -one], axis=1),
        "silence": np.zeros((RATE_HZ * 3, 2)),
    }
    for name, sound in mixes.items():
        levels = media.decode(media.probe(wav(tmp_path / "a.wav", sound)), tmp_path / "s.raw", None).levels
        assert levels is None or not diarize.one_speaker_a_channel(levels), name


def test_levels_of_a_late_sound_keep_their_time(ffmpeg: str, tmp_path: Path) -> None:
    call = wav(tmp_path / "call.wav", conversation(tmp_path, 0.1))
    late = tmp_path / "late.mkv"
    run_ffmpeg(
        ffmpeg, "-f", "lavfi", "-i", "testsrc=s=64x48:r=8:d=27", "-itsoffset", "3", "-i", str(call),
        "-c:v", "mpeg4", "-c:a", "pcm_s16le", str(late),
    )  # fmt: skip
    levels = media.decode(media.probe(late), tmp_path / "s.raw", None).levels
    assert levels is not None and levels.start_s == pytest.approx(3, abs=0.05)
    found = diarize.by_channel([Turn(4, 14.5, "X"), Turn(15, 25, "X")], levels)
    moved = [Turn(t.start - 3, t.end - 3, t.speaker) for t in found]
    assert share_right(moved, TRUTH) > 0.9


def test_real_voices_on_two_microphones(shared: Path, tmp_path: Path, ffmpeg: str) -> None:
    """Two actors of RAVDESS in turn, each microphone hearing the other at a quarter of the pressure."""
    parts: list[NDArray[np.float64]] = []
    spans: dict[str, list[tuple[float, float]]] = {"CHANNEL_1": [], "CHANNEL_2": []}
    at = 0.0
    clips = sorted((shared / "speech" / "ravdess").glob("03-01-0[35]-01-*-01-1[12].flac"))[:8]
    assert len(clips) == 8
    for clip in clips:
        run_ffmpeg(ffmpeg, "-i", str(clip), "-ar", "16000", "-ac", "1", str(tmp_path / "c.wav"))
        with wave.open(str(tmp_path / "c.wav"), "rb") as file:
            sound = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768
        loud = np.flatnonzero(np.abs(sound) > 0.02)
        sound = sound[loud[0] : loud[-1]]
        side = int(clip.stem.endswith("12"))
        pair = np.zeros((len(sound) + RATE_HZ // 2, 2))
        pair[: len(sound), side] = sound
        pair[64 : len(sound) + 64, 1 - side] = 0.25 * sound
        parts.append(pair)
        spans[f"CHANNEL_{side + 1}"].append((at, at + len(sound) / RATE_HZ))
        at += len(pair) / RATE_HZ
    noise = np.random.default_rng(0).standard_normal((round(at * RATE_HZ), 2)) * 0.0003
    path = wav(tmp_path / "call.wav", np.concatenate(parts) + noise[: sum(map(len, parts))])
    levels = media.decode(media.probe(path), tmp_path / "s.raw", None).levels
    assert levels is not None and diarize.one_speaker_a_channel(levels)
    found = diarize.by_channel([Turn(0, at, "X")], levels)
    for name, own in spans.items():
        for start, end in own:
            over = {
                who: sum(max(0.0, min(t.end, end) - max(t.start, start)) for t in found if t.speaker == who)
                for who in spans
            }
            assert over[name] > 0.85 * (end - start), (name, start, over)
            other = next(who for who in spans if who != name)
            assert over[other] < 0.15 * (end - start), (name, start, over)
