"""Who speaks when: speaker files, the two networks, clustering, and whole recordings."""

from __future__ import annotations

import itertools
import pickle
import re
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from annotator.diarize import DIARIZERS, DiarizerSettings, available, make_diarizer, read_rttm
from annotator.records import RATE_HZ, Audio, RecordingError, SetupError, Turn, UsageError
from tests.tiny_models import make_pyannote

# ---- speaker files


def rttm(folder: Path, content: str | bytes) -> Path:
    path = folder / "a.rttm"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_rttm_gives_turns_in_time_order(tmp_path: Path) -> None:
    content = (
        ";; a comment\n"
        "SPKR-INFO a 1 <NA> <NA> <NA> unknown Ann <NA> <NA>\n"
        "SPEAKER a 1 2.500 1.25 <NA> <NA> Bob <NA> <NA>\r\n"
        "\n"
        "SPEAKER a 1 0.0 3 <NA> <NA> Ann <NA>\n"
        "SPEAKER a 1 9 0.0 <NA> <NA> Nobody <NA> <NA>\n"
    )
    assert read_rttm(rttm(tmp_path, content)) == [Turn(0.0, 3.0, "Ann"), Turn(2.5, 3.75, "Bob")]


@pytest.mark.parametrize("content", ["", "\n\n", ";; nothing\n"])
def test_empty_rttm_has_no_turns(tmp_path: Path, content: str) -> None:
    assert read_rttm(rttm(tmp_path, content)) == []


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
def test_rttm_speakers_in_other_encodings(tmp_path: Path, encoding: str) -> None:
    line = "SPEAKER a 1 0 1 <NA> <NA> Zoë <NA> <NA>\n"
    assert read_rttm(rttm(tmp_path, line.encode(encoding))) == [Turn(0.0, 1.0, "Zoë")]


@pytest.mark.parametrize("times", ["-1 2", "1 -2", "nan 2", "1 inf", "one 2", "1 <NA>"])
def test_rttm_refuses_times_that_are_none(tmp_path: Path, times: str) -> None:
    good = "SPEAKER a 1 0 1 <NA> <NA> Ann <NA> <NA>\n"
    with pytest.raises(RecordingError, match="line 2") as caught:
        read_rttm(rttm(tmp_path, f"{good}SPEAKER a 1 {times} <NA> <NA> Bob <NA> <NA>\n"))
    assert (caught.value.stage, caught.value.error) == ("diarize", "bad_rttm")


def test_rttm_refuses_short_lines_and_what_is_no_rttm(tmp_path: Path) -> None:
    for content in (b"SPEAKER a 1 0 1 Ann\n", b"\x00\x01\x02\xff\n"):
        with pytest.raises(RecordingError, match="line 1"):
            read_rttm(rttm(tmp_path, content))
    with pytest.raises(RecordingError, match="can't be read"):
        read_rttm(tmp_path / "missing.rttm")


@given(st.binary(max_size=200))
@settings(max_examples=50, deadline=None)
def test_any_bytes_are_turns_or_a_refusal(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    try:
        turns = read_rttm(rttm(tmp_path_factory.mktemp("rttm"), content))
    except RecordingError:
        return
    assert all(0 <= turn.start < turn.end for turn in turns)


# ---- choosing


def test_unknown_diarizer_lists_the_choices() -> None:
    for refuse in (make_diarizer, available):
        with pytest.raises(UsageError, match=re.escape(", ".join(DIARIZERS))):
            refuse("magic", DiarizerSettings())


@pytest.mark.parametrize(
    "wrong", [{"speakers": 0}, {"min_speakers": -1}, {"min_speakers": 4, "max_speakers": 2}]
)
def test_impossible_numbers_of_speakers_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="--m|--speakers"):
        DiarizerSettings(**wrong)  # type: ignore[arg-type]


def test_missing_weights_say_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert available("embedded", DiarizerSettings()) is None
    monkeypatch.setattr("annotator.diarize.weights.voice_weights", lambda: None)
    assert "pip install --no-deps resemblyzer" in str(available("embedded", DiarizerSettings()))
    with pytest.raises(SetupError, match="resemblyzer"):
        make_diarizer("embedded", DiarizerSettings())
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("ANNOTATE_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    elsewhere = DiarizerSettings(pyannote_folder=tmp_path / "nowhere")
    assert "config.yaml" in str(available("pyannote", elsewhere))
    needs = available("pyannote", DiarizerSettings())
    assert needs is not None and "annotate download pyannote" in needs
    with pytest.raises(SetupError, match="accept their"):
        make_diarizer("pyannote", DiarizerSettings())


# ---- the networks


def test_mel_spectrum_equals_librosas() -> None:
    librosa = pytest.importorskip("librosa")
    import torch

    from annotator.diarize.networks import mel_filters, mel_power

    x = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    theirs = librosa.feature.melspectrogram(y=x, sr=16_000, n_fft=400, hop_length=160, n_mels=40).T
    ours = mel_power(torch.nn.functional.pad(torch.from_numpy(x), (200, 200)), mel_filters()).numpy()
    assert ours.shape == theirs.shape == (101, 40)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def embedded():  # type: ignore[no-untyped-def]
    return make_diarizer("embedded", DiarizerSettings())


@pytest.fixture(scope="module")
def talk(ffmpeg: str) -> Audio:
    """The made meeting among the examples: three synthetic voices."""
    path = Path(__file__).resolve().parents[1] / "examples" / "recordings" / "meeting.m4a"
    command = [ffmpeg, "-v", "error", "-i", str(path), "-ac", "1", "-ar", str(RATE_HZ), "-f", "s16le", "-"]
    raw = subprocess.run(command, check=True, capture_output=True).stdout
    return Audio(np.frombuffer(raw, np.int16))


def test_blocks_give_what_the_whole_gives(embedded, talk, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    from annotator.diarize import embedded as module

    centres = np.arange(0, len(talk.samples) // 160, 20)
    whole = embedded.speech(talk, 1.0), embedded.embed(talk, centres, 1.0)
    monkeypatch.setattr(module, "BLOCK_S", 8)
    parts = embedded.speech(talk, 1.0), embedded.embed(talk, centres, 1.0)
    assert len(whole[0]) == -(-len(talk.samples) // 512)
    np.testing.assert_allclose(whole[0], parts[0], atol=1e-4)
    np.testing.assert_allclose(whole[1], parts[1], atol=2e-3)


def test_windows_are_read_in_blocks_of_bounded_size(embedded) -> None:  # type: ignore[no-untyped-def]
    """A memory map of an hour is never read whole."""
    largest = 0

    class Watched(np.ndarray):
        def __getitem__(self, key):  # type: ignore[no-untyped-def]
            nonlocal largest
            part = super().__getitem__(key)
            largest = max(largest, getattr(part, "size", 0))
            return part

    noise = np.random.default_rng(0).integers(-300, 300, RATE_HZ * 200).astype(np.int16)
    embedded(Audio(noise.view(Watched)))
    assert 0 < largest <= 70 * RATE_HZ


def test_level_ignores_digital_silence() -> None:
    from annotator.diarize.embedded import gain, loudness

    x = np.zeros(RATE_HZ * 100, np.int16)
    assert loudness(Audio(x)) is None
    x[:RATE_HZ] = 3277  # -20 dB
    level = loudness(Audio(x))
    assert level == pytest.approx(-20, abs=0.1)
    assert gain(-40.0, -20.0) == pytest.approx(10.0)
    assert gain(-200.0, -20.0) == pytest.approx(1000.0)


# ---- clustering


def made_voices(
    count: int, windows: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]:
    """Windows of a two-covariance model: unit scatter within a voice; turns of 15 windows."""
    rng = np.random.default_rng(seed)
    spread = np.linspace(12, 1, 64).astype(np.float32)
    centres = rng.standard_normal((count, 64)) * np.sqrt(spread)
    who = np.repeat(rng.permutation(np.arange(windows // 15 + 1) % count), 15)[:windows]
    return (centres[who] + rng.standard_normal((windows, 64))).astype(np.float32), who, spread


def agreement(a: NDArray[np.int64], b: NDArray[np.int64]) -> float:
    from scipy.optimize import linear_sum_assignment

    table = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(table, (a, b), 1)
    rows, columns = linear_sum_assignment(-table)
    return float(table[rows, columns].sum() / len(a))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_vbx_finds_the_number_of_voices(count: int) -> None:
    from annotator.diarize.clustering import STATES, _vbx

    voices, who, spread = made_voices(count, 900, count)
    labels = _vbx(voices, spread, STATES)
    assert labels.max() + 1 == count
    assert agreement(labels, who) > 0.98


def test_forward_backward_equals_the_sum_over_all_paths() -> None:
    from annotator.diarize.clustering import STAY, _forward_backward

    rng = np.random.default_rng(1)
    score, prior = rng.standard_normal((5, 3)), np.array([0.5, 0.3, 0.2])
    share, changes = _forward_backward(score, prior)
    expected, started = np.zeros((5, 3)), np.zeros(3)
    for path in itertools.product(range(3), repeat=5):
        chance = prior[path[0]] * np.exp(score[0, path[0]])
        for t in range(1, 5):
            stays = STAY * (path[t] == path[t - 1])
            chance *= (stays + (1 - STAY) * prior[path[t]]) * np.exp(score[t, path[t]])
        for t in range(5):
            expected[t, path[t]] += chance
            if t:
                drawn = (1 - STAY) * prior[path[t]]
                drawn /= drawn + STAY * (path[t] == path[t - 1])
                started[path[t]] += chance * drawn
        started[path[0]] += chance
    np.testing.assert_allclose(share, expected / expected.sum(axis=1, keepdims=True), rtol=1e-9)
    np.testing.assert_allclose(changes, started / started.sum(), rtol=1e-9)


@pytest.mark.parametrize(("least", "most", "found"), [(1, 2, 2), (7, 7, 7), (5, 9, 5), (1, 1, 1), (3, 3, 3)])
def test_number_of_speakers_stays_in_bounds(least: int, most: int, found: int) -> None:
    from annotator.diarize.clustering import VoiceSpace, cluster

    voices, _, spread = made_voices(5, 900, 0)
    same = VoiceSpace(np.zeros(64, np.float32), np.eye(64, dtype=np.float32), spread)
    for n in (60, 900):  # both ways of clustering
        labels = cluster(voices[:n].astype(np.float16), same, least, most)
        assert labels.shape == (n,)
        assert set(labels.tolist()) == set(range(labels.max() + 1))
        assert least <= labels.max() + 1 <= most
    assert labels.max() + 1 == found


@given(st.integers(1, 7), st.integers(1, 4), st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_cheapest_path_is_the_best_of_all(length: int, speakers: int, seed: int) -> None:
    from annotator.diarize.embedded import SWITCH, cheapest_path

    near = np.random.default_rng(seed).standard_normal((length, speakers)).astype(np.float32)

    def worth(path: tuple[int, ...]) -> float:
        changes = sum(a != b for a, b in itertools.pairwise(path))
        return float(sum(near[t, k] for t, k in enumerate(path)) - SWITCH * changes)

    best = max(worth(path) for path in itertools.product(range(speakers), repeat=length))
    assert worth(tuple(cheapest_path(near).tolist())) == pytest.approx(best, abs=1e-4)


def test_turns_name_speakers_in_order_and_keep_their_short_pauses() -> None:
    from annotator.diarize.embedded import turns_of

    active = np.zeros((1000, 3), np.bool_)
    active[100:200, 2] = active[250:300, 2] = True  # a pause of 0.5 s stays inside the turn
    active[280:400, 0] = True  # overlap
    active[430:440, 2] = True
    active[500:503, 1] = True  # too short to be a turn
    assert turns_of(active) == [
        Turn(1.0, 3.0, "SPEAKER_00"),
        Turn(2.8, 4.0, "SPEAKER_01"),
        Turn(4.3, 4.4, "SPEAKER_00"),
    ]
    assert turns_of(np.zeros((10, 1), np.bool_)) == []


def test_speech_starts_above_one_threshold_and_ends_below_another() -> None:
    from annotator.diarize.embedded import speech_frames

    probability = np.array([0.15, 0.9, 0.15, 0.15, 0.05, 0.15, 0.0, 0.0], np.float32)
    frames = speech_frames(probability, 8 * 512, 0.0, 0.0)
    assert len(frames) == 26
    assert np.flatnonzero(frames)[[0, -1]].tolist() == [3, 12]  # 32 ms to 128 ms


# ---- whole recordings


@pytest.mark.parametrize("samples", [0, 1, 159, 1600, RATE_HZ * 3])
def test_silence_has_no_turns(embedded, samples: int) -> None:  # type: ignore[no-untyped-def]
    assert embedded(Audio(np.zeros(samples, np.int16))) == []


@pytest.mark.parametrize("loud", [1, 30_000])
def test_noise_of_any_length_and_level_is_survived(embedded, loud: int) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(0)
    for samples in (1, 511, 1600, 20_000, RATE_HZ * 5):
        audio = Audio(rng.integers(-loud, loud + 1, samples).astype(np.int16))
        for turn in embedded(audio):
            assert 0 <= turn.start < turn.end <= audio.duration_s + 0.01


def test_made_meeting_and_no_memory_between_recordings(embedded, talk) -> None:  # type: ignore[no-untyped-def]
    first = embedded(talk)
    assert first[0].speaker == "SPEAKER_00"
    assert first == sorted(first)
    assert all(0 <= turn.start < turn.end <= talk.duration_s + 0.01 for turn in first)
    embedded(Audio(talk.samples[: RATE_HZ * 9]))
    assert embedded(talk) == first
    for count in (1, 2, 3):
        turns = make_diarizer("embedded", DiarizerSettings(speakers=count))(talk)
        assert len({turn.speaker for turn in turns}) == count
        named = [turn.speaker for turn in turns]
        assert list(dict.fromkeys(named)) == [f"SPEAKER_{k:02d}" for k in range(count)]


def test_real_meetings(embedded, shared: Path) -> None:  # type: ignore[no-untyped-def]
    pytest.importorskip("soundfile")
    from benchmarks.diarization import ami, assemble, measure, ravdess

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pyannote.metrics on its own dependencies
        clips = [meeting for meeting in ami(shared) if meeting.name in ("dev00", "trn05")]
        real = measure(clips, embedded)
        two = [assemble(ravdess(shared, (17, 18)), 2, seed=1, seconds=90.0)]
        made = measure(two, make_diarizer("embedded", DiarizerSettings(speakers=2)))
    assert real.error < 35
    assert made.error < 20
    assert made.right == [0]


# ---- pyannote, with a tiny pipeline of the same classes


@pytest.fixture(scope="module")
def tiny_pyannote(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pyannote(tmp_path_factory.mktemp("pyannote"))


@pytest.mark.slow  # importing pyannote.audio alone takes ten seconds
def test_pyannote_runs_from_a_folder(tiny_pyannote: Path) -> None:
    settings = DiarizerSettings(pyannote_folder=tiny_pyannote, max_speakers=2)
    assert available("pyannote", settings) is None
    diarizer = make_diarizer("pyannote", settings)
    noise = np.random.default_rng(0).integers(-3000, 3000, RATE_HZ * 4).astype(np.int16)
    turns = diarizer(Audio(noise))
    assert len({turn.speaker for turn in turns}) <= 2
    assert turns == sorted(turns)
    assert all(0 <= turn.start < turn.end <= 4.0 for turn in turns)
    assert not turns or turns[0].speaker == "SPEAKER_00"
    assert diarizer(Audio(np.zeros(RATE_HZ, np.int16))) == []


@pytest.mark.slow
def test_pyannote_hears_long_recordings_in_blocks(
    tiny_pyannote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from annotator.diarize import Diarized, pyannote

    monkeypatch.setattr(pyannote, "BLOCK_S", 10.0)
    monkeypatch.setattr(pyannote, "SHARED_S", 2.0)
    largest = 0

    class Watched(np.ndarray):
        def __getitem__(self, key):  # type: ignore[no-untyped-def]
            nonlocal largest
            part = super().__getitem__(key)
            largest = max(largest, getattr(part, "size", 0))
            return part

    noise = np.random.default_rng(0).integers(-3000, 3000, RATE_HZ * 34).astype(np.int16)
    diarizer = make_diarizer("pyannote", DiarizerSettings(pyannote_folder=tiny_pyannote, max_speakers=3))
    turns = diarizer(Audio(noise.view(Watched)))
    assert isinstance(turns, Diarized)
    assert 0 < largest <= 11 * RATE_HZ
    for found in (turns, turns.alone):
        assert found == sorted(found)
        assert all(0 <= turn.start < turn.end <= 34.0 for turn in found)
        assert {turn.speaker for turn in found} <= {f"SPEAKER_{k:02d}" for k in range(3)}
        assert max(turn.end for turn in found) > 30.0
    for before, after in itertools.pairwise(turns.alone):
        assert after.start >= before.end - 0.02  # a frame of the network
    assert pyannote.blocks_of(34.0)[-1][1] == 34.0 and len(pyannote.blocks_of(11.0)) == 1


@pytest.mark.slow
def test_pyannote_weights_that_would_run_code_are_refused(tiny_pyannote: Path, tmp_path: Path) -> None:
    import shutil

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "sprung",)  # type: ignore[return-value]

    folder = tmp_path / "copy"
    shutil.copytree(tiny_pyannote, folder)
    (folder / "segmentation" / "pytorch_model.bin").write_bytes(pickle.dumps({"state_dict": Trap()}))
    with pytest.raises(SetupError):
        make_diarizer("pyannote", DiarizerSettings(pyannote_folder=folder))
    assert not (tmp_path / "sprung").exists()
    good = (folder / "config.yaml").read_text()
    for config, reason in (
        ("pipeline: {name: os.system}", "is not a diarization"),
        ("- a list", "is not a diarization"),
        (good.replace("$model/plda", "someone/model"), "outside its folder"),
    ):
        (folder / "config.yaml").write_text(config)
        with pytest.raises(SetupError, match=reason):
            make_diarizer("pyannote", DiarizerSettings(pyannote_folder=folder))
