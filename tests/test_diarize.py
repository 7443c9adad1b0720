"""Who speaks when: speaker files, the two networks, clustering, and whole recordings."""

from __future__ import annotations

import itertools
import pickle
import re
import subprocess
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from annotator.diarize import DIARIZERS, DiarizerSettings, available, make_diarizer, read_rttm
from annotator.records import RATE_HZ, Audio, RecordingError, SetupError, Turn, UsageError
from annotator.wheels import own_file
from tests.tiny_models import make_pyannote

if TYPE_CHECKING:
    pass

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


@pytest.mark.parametrize("content", ["\x0b\n", "", "\n\n", ";; nothing\n"])
def test_empty_rttm_has_no_turns(tmp_path: Path, content: str) -> None:
    assert read_rttm(rttm(tmp_path, content)) == []


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
def test_rttm_speakers_in_other_encodings(tmp_path: Path, encoding: str) -> None:
    line = "SPEAKER a 1 0 1 <NA> <NA> Zoë <NA> <NA>\n"
    assert read_rttm(rttm(tmp_path, line.encode(encoding))) == [Turn(0.0, 1.0, "Zoë")]


@pytest.mark.parametrize("times", ["5 1e-320", "5 0"])
def test_rttm_turns_that_last_no_time_are_passed_over(tmp_path: Path, times: str) -> None:
    """Found by fuzzing: a duration that vanishes in the sum."""
    assert read_rttm(rttm(tmp_path, f"SPEAKER a 1 {times} <NA> <NA> Ann <NA> <NA>")) == []


@pytest.mark.parametrize("times", ["-1 2", "1 -2", "nan 2", "1 inf", "one 2", "1 <NA>", "1e308 1.0"])
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
    absent = own_file("annotator.diarize", "nowhere.safetensors", "0" * 64)
    monkeypatch.setattr("annotator.diarize.weights.VOICE", absent)
    assert "nowhere.safetensors" in str(available("embedded", DiarizerSettings()))
    with pytest.raises(SetupError, match="Install conversation-annotator again"):
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


@pytest.mark.slow  # importing pyannote.audio alone takes ten seconds
def test_activity_network_equals_pyannotes() -> None:
    import torch
    from pyannote.audio.core.task import Problem, Resolution, Specifications
    from pyannote.audio.models.segmentation import PyanNet
    from safetensors.torch import load_file

    from annotator.diarize.networks import POWERSET, SpeakerActivity
    from annotator.diarize.weights import ACTIVITY

    path = ACTIVITY.verified()
    theirs = PyanNet(
        sincnet={"stride": 10},
        lstm={"hidden_size": 128, "num_layers": 4, "bidirectional": True, "monolithic": True},
        linear={"hidden_size": 128, "num_layers": 2},
    )
    theirs.specifications = Specifications(
        problem=Problem.MONO_LABEL_CLASSIFICATION,
        resolution=Resolution.FRAME,
        duration=10.0,
        classes=["a", "b", "c"],
        powerset_max_classes=2,
        permutation_invariant=True,
    )
    theirs.build()
    theirs.load_state_dict(load_file(path))
    sound = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 160_000)).astype(np.float32)) / 10
    with torch.inference_mode():
        expected, found = theirs.eval()(sound[:, None]), SpeakerActivity.load(path)(sound)
    assert found.shape == (2, 589, len(POWERSET))
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


def test_mel_energies_follow_a_tone() -> None:
    import torch

    from annotator.diarize.networks import mel_energies

    def loudest(hertz: float) -> int:
        time = torch.arange(16_000) / RATE_HZ
        found = mel_energies(torch.sin(2 * torch.pi * hertz * time))
        assert found.shape == (98, 80)
        return int(found.mean(dim=0).argmax())

    assert loudest(200) < loudest(1000) < loudest(4000)


def test_the_empty_band_above_a_telephone_is_constant() -> None:
    """The rounding of 16 bits there is as lively as speech to a logarithm."""
    import torch
    from scipy.signal import resample_poly

    from annotator.diarize.networks import mel_energies

    speech = np.random.default_rng(0).standard_normal(16_000) * 0.1
    telephone = (resample_poly(speech, 2, 1) * 32767).clip(-32768, 32767).astype(np.int16)
    found = mel_energies(torch.from_numpy(telephone.astype(np.float32) / 32768))
    assert float(found[:, 70:].std(dim=0).max()) < 0.05 < float(found[:, 20:50].std(dim=0).min())


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


def test_a_stretch_sounds_the_same_wherever_it_lies(embedded, talk) -> None:  # type: ignore[no-untyped-def]
    later = Audio(np.concatenate([np.zeros(RATE_HZ * 7, np.int16), talk.samples]))
    frames = np.arange(300, 450)
    here, there = embedded.embed(talk, [frames], 1.0), embedded.embed(later, [frames + 700], 1.0)
    np.testing.assert_allclose(here, there, atol=1e-3)
    assert here.shape == (1, 192)


class Watched(np.ndarray):
    """Samples that remember the largest part that was read of them."""

    largest = 0

    def __getitem__(self, key):  # type: ignore[no-untyped-def]
        part = super().__getitem__(key)
        Watched.largest = max(Watched.largest, getattr(part, "size", 0))
        return part


def watched(samples: NDArray[np.int16]) -> Watched:
    Watched.largest = 0
    return samples.view(Watched)


def test_windows_are_read_in_blocks_of_bounded_size(embedded) -> None:  # type: ignore[no-untyped-def]
    """A memory map of an hour is never read whole."""
    noise = np.random.default_rng(0).integers(-300, 300, RATE_HZ * 200).astype(np.int16)
    embedded(Audio(watched(noise)))
    assert 0 < Watched.largest <= 65 * RATE_HZ


def test_level_ignores_digital_silence() -> None:
    from annotator.diarize.embedded import gain, loudness

    x = np.zeros(RATE_HZ * 100, np.int16)
    assert loudness(Audio(x)) is None
    x[:RATE_HZ] = 3277  # -20 dB
    level = loudness(Audio(x))
    assert level == pytest.approx(-20, abs=0.1)
    assert gain(-40.0) == pytest.approx(10.0)
    assert gain(-200.0) == pytest.approx(1000.0)


# ---- from frames to turns


def test_stretches_are_cut_at_pauses_and_changes_but_not_between_windows() -> None:
    from annotator.diarize.embedded import part_of, stretches_alone, voices_of

    active = np.zeros((3000, 3), np.bool_)
    active[700:800, 0] = True  # one voice, which the next window (from 750) has in another column
    active[750:800, :] = [False, True, False]
    active[830:900, 1] = active[900:1000, 2] = True  # a pause; a change without one
    active[980:1000, 0] = True  # both at once
    assert part_of(np.array([0, 749, 750, 2999]), 3000).tolist() == [0, 0, 1, 4]
    found = [(int(frames[0]), int(frames[-1]) + 1) for frames in stretches_alone(active)]
    assert found == [(700, 800), (830, 900), (900, 980)]
    named = voices_of(active, stretches_alone(active), np.array([0, 0, 1]))
    assert named[700:900, 0].sum() == 170 and not named[700:900, 1].any()
    assert named[900:1000, 1].all()
    assert not named[:700].any() and not named[1000:].any()


def test_two_who_speak_at_once_are_two_speakers() -> None:
    from annotator.diarize.embedded import voices_in_overlap

    active, label = np.zeros((400, 3), np.bool_), np.full(400, -1)
    active[0:100, 0], active[100:200, 1], active[200:300, 2] = True, True, True
    label[0:100], label[100:200], label[200:300] = 0, 1, 0  # two columns were found to be one voice
    active[90:100, 2], label[90:100] = True, -1  # 0 by its first column, and by its third
    active[100:110, 0], label[100:110] = True, -1  # 0 and 1
    active[300:310, 1:] = True
    both = np.concatenate([np.arange(90, 110), np.arange(300, 310)])
    found = np.sort(voices_in_overlap(active, label, both), axis=1)
    assert (found == [0, 1]).all(), "the nearest other voice, not the same one twice"
    single = np.where(label == 1, 0, label)
    found = voices_in_overlap(active, single, both)
    assert (found == [0, -1]).all(), "there is no other voice in the recording"


def test_turns_name_speakers_in_order_and_keep_their_short_pauses() -> None:
    from annotator.diarize.embedded import turns_of

    active = np.zeros((1000, 3), np.bool_)
    active[100:200, 2] = active[250:300, 2] = True  # a pause of half a second stays inside the turn
    active[280:400, 0] = True  # overlap
    active[430:440, 2] = True
    active[500:503, 1] = True  # too short to be a turn
    assert turns_of(active) == [
        Turn(1.0, 3.0, "SPEAKER_00"),
        Turn(2.8, 4.0, "SPEAKER_01"),
        Turn(4.3, 4.4, "SPEAKER_00"),
    ]
    assert all(turn.confidence is None for turn in turns_of(active))
    label = np.where(active[:, 0], 0, np.where(active[:, 2], 2, -1))
    weighed = turns_of(active, label, np.where(label == 2, 0.01, 0.0).astype(np.float32))
    assert weighed == turns_of(active)  # confidence does not tell turns apart
    first, second, third = (turn.confidence for turn in weighed)
    assert first is not None and third is not None
    assert first > 0.99 > third > 0.5 and second == 0.5  # ten seconds, a tenth of one, no evidence
    assert turns_of(np.zeros((10, 1), np.bool_)) == []


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
    heard = embedded.hear(talk)
    for count in (1, 2, 3):
        turns = embedded.turns(heard, count, count)
        assert len({turn.speaker for turn in turns}) == count
        named = [turn.speaker for turn in turns]
        assert list(dict.fromkeys(named)) == [f"SPEAKER_{k:02d}" for k in range(count)]


def test_real_meetings(embedded, shared: Path) -> None:  # type: ignore[no-untyped-def]
    pytest.importorskip("soundfile")
    from benchmarks.conversations import ami, assemble, call, ravdess
    from benchmarks.diarization import measure, speakers_by

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pyannote.metrics on its own dependencies
        clips = [meeting for meeting in ami(shared) if meeting.name in ("dev00", "trn05")]
        speakers = speakers_by("embedded")
        real = measure(clips, speakers).figures()
        voices = ravdess(shared, (17, 18))
        made = measure([assemble(voices, 2, seed=1, seconds=60.0), call(voices, seed=2)], speakers).figures()
    assert real["der"] < 35
    assert made["der"] < 35 and made["der_given"] < 15
    assert made["change_s"] < 0.15


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
    noise = np.random.default_rng(0).integers(-3000, 3000, RATE_HZ * 34).astype(np.int16)
    diarizer = make_diarizer("pyannote", DiarizerSettings(pyannote_folder=tiny_pyannote, max_speakers=3))
    turns = diarizer(Audio(watched(noise)))
    assert isinstance(turns, Diarized) and turns.alone is not None
    assert 0 < Watched.largest <= 11 * RATE_HZ
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
