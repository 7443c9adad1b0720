"""Voice features: functionals, a speaker's own manner, and scores with their distance from training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from annotator.encode import make_encoder
from annotator.encode.audio import (
    LIMIT,
    WIDTHS,
    AudioEncoder,
    functionals,
    load_voice_scores,
    speaker_relative,
)
from annotator.records import RATE_HZ, Audio, Evidence, SetupError, UsageError
from tests.spoken import say


def tone(hz: float, seconds: float, level: float = 0.3) -> NDArray[np.float32]:
    """A voice-like buzz with ten harmonics and a little noise."""
    t = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    wave = sum(np.sin(2 * np.pi * hz * k * t) / k for k in range(1, 11))
    noise = np.random.default_rng(0).normal(0, 0.01, len(t))
    return np.asarray(level * (wave / np.abs(wave).max() + noise) / 1.1, np.float32)


def recorded(*pieces: NDArray[np.float32]) -> Audio:
    return Audio((np.concatenate(pieces) * 32767).astype(np.int16))


SILENCE = np.zeros(RATE_HZ, np.float32)


@pytest.mark.parametrize(("name", "width"), [("egemaps", 88), ("compare2016", 6373)])
def test_audio_features(name: str, width: int) -> None:
    audio = recorded(tone(120, 1), SILENCE, tone(240, 1))
    dither = (np.random.default_rng(0).integers(0, 2, RATE_HZ)).astype(np.int16)
    audio = Audio(np.concatenate([audio.samples, dither]))
    spans = [(0, 1), (1, 2), (2, 3), (2, 2.05), (3, 4), (9, 10), (0, 1)]
    encoder = make_encoder("audio", {"name": name}, None, "cpu")
    utterances = [say("x", start=start, end=end) for start, end in spans]
    features = encoder(Evidence(audio, None), utterances)
    assert features.values.shape == (7, width) == (7, encoder.width)
    assert features.present.tolist() == [True, False, True, False, False, False, True]
    assert np.isfinite(features.values).all() and not features.values[~features.present].any()
    assert np.array_equal(features.values[0], features.values[6]), "the same sound, the same features"
    assert np.array_equal(features.values, encoder(Evidence(audio, None), utterances).values)
    assert not np.array_equal(features.values[0], features.values[2])
    plain = functionals(audio.window(0, 1), name)
    assert plain is not None and np.array_equal(plain, features.values[0]), "training sees what a run sees"
    assert encoder(Evidence(None, None), utterances).present.sum() == 0


def test_audio_features_measure_pitch() -> None:
    import opensmile

    names = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals).feature_names
    pitch = names.index("F0semitoneFrom27.5Hz_sma3nz_amean")
    low, high = functionals(tone(120, 1), "egemaps"), functionals(tone(240, 1), "egemaps")
    assert low is not None and high is not None
    assert high[pitch] - low[pitch] == pytest.approx(12, abs=0.5), "an octave"


def test_sound_that_means_nothing_has_no_features() -> None:
    broken = tone(120, 1)
    broken[100] = np.nan
    assert functionals(broken, "egemaps") is None
    assert functionals(tone(120, 0.09), "egemaps") is None
    assert functionals(tone(120, 0.11), "egemaps") is not None
    assert functionals(tone(120, 1, level=2e-4), "egemaps") is None
    assert functionals(np.zeros(0, np.float32), "egemaps") is None
    with pytest.raises(UsageError, match="egemaps, compare2016"):
        functionals(broken, "is09")


def test_speaker_relative_features() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(5, 2, (14, 3)).astype(np.float32)
    values[:, 2] = 7.0
    present = np.ones(14, np.bool_)
    present[3] = False
    values[3] = 0
    speakers = ["A", "B"] * 5 + ["C"] * 4
    out = speaker_relative(values, present, speakers)
    assert out.shape == (14, 7) and np.array_equal(out[:, :3], values)
    a, b, c = ([i for i, s in enumerate(speakers) if s == name] for name in "ABC")
    assert out[a, 3:5].mean(0) == pytest.approx(0, abs=1e-6) and out[a, 3:5].std(0) == pytest.approx(
        1, abs=1e-5
    )
    assert not out[a, 5].any(), "what never changes stays zero"
    assert out[a, 6].all()
    assert not out[b, 3:].any() and not out[c, 3:].any(), "four turns are too few"


def test_speaker_norm_widens_the_encoder() -> None:
    audio = recorded(*(tone(100 + 20 * i, 0.5) for i in range(6)))
    utterances = [say("x", start=i / 2, end=i / 2 + 0.5) for i in range(6)]
    encoder = make_encoder("audio", {"name": "egemaps", "speaker_norm": True}, None, "cpu")
    plain = make_encoder("audio", {"name": "egemaps"}, None, "cpu")
    features = encoder(Evidence(audio, None), utterances)
    assert features.values.shape == (6, 177) and encoder.width == 177 and features.values[:, -1].all()
    assert np.array_equal(features.values[:, :88], plain(Evidence(audio, None), utterances).values)
    assert encoder.fingerprint != plain.fingerprint == AudioEncoder("egemaps").fingerprint


@pytest.fixture(params=["first version", "with distances"])
def voice_folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Scores of three labels over eGeMAPS; the first feature counts for nothing."""
    width = WIDTHS["egemaps"]
    torch.manual_seed(0)
    arrays = {"mean": torch.randn(width), "scale": torch.rand(width)}
    arrays |= {name: torch.randn(3, width + 1).half() for name in ("plain", "relative")}
    arrays["scale"][0] = 0
    config: dict[str, Any] = {"features": "egemaps", "labels": ["sadness", "joy", "anger"]}
    if request.param == "with distances":
        arrays["basis"] = torch.linalg.qr(torch.randn(width, 2))[0].T.contiguous().half()
        config |= {"usual": 1.5, "doubt": [2.0, 1.0]}
    save_file(arrays, tmp_path / "voice.safetensors", metadata={"config": json.dumps(config)})
    return tmp_path


VOICE = {"name": "egemaps", "speaker_norm": True, "weights": "voice.safetensors"}


def test_voice_scores_are_what_the_weights_say(voice_folder: Path) -> None:
    audio = recorded(*(tone(100 + 20 * i, 0.5) for i in range(7)), SILENCE)
    utterances = [say("x", start=i / 2, end=i / 2 + 0.5, speaker="AB"[i == 6]) for i in range(8)]
    encoder = make_encoder("audio", VOICE, voice_folder, "cpu")
    found = encoder(Evidence(audio, None), utterances)
    assert found.values.shape == (8, 7) and encoder.width == 7
    assert found.present.tolist() == [True] * 7 + [False] and not found.values[7].any()
    assert found.values[:, 6].tolist() == [1] * 6 + [0] * 2, "one turn is too few to know a manner by"
    assert not found.values[6, 3:].any() and found.values[6, :3].any()

    raw = make_encoder("audio", {"name": "egemaps", "speaker_norm": True}, None, "cpu")
    values = raw(Evidence(audio, None), utterances).values.astype(np.float64)
    scores = load_voice_scores(voice_folder / "voice.safetensors")
    near = np.clip((values[:, :88] - scores.mean) * scores.scale, -LIMIT, LIMIT)
    left = np.sqrt(np.square(near - near @ scores.basis.T @ scores.basis).mean(1))
    far = np.clip(np.log(left / scores.usual), 0, 0.35)[:, None]
    expected = (near @ scores.plain[:, :-1].T + scores.plain[:, -1]) / np.exp(scores.doubt[0] * far)
    assert found.values[:7, :3] == pytest.approx(expected[:7], abs=1e-3)
    own = np.clip(values[:, 88:176], -LIMIT, LIMIT) @ scores.relative[:, :-1].T + scores.relative[:, -1]
    own /= np.exp(scores.doubt[1] * far)
    assert found.values[:6, 3:6] == pytest.approx(own[:6], abs=1e-3)
    assert len(scores.basis) == 0 or (0 < far[:7, 0]).any(), "some turn lies far"

    plain = make_encoder("audio", {**VOICE, "speaker_norm": False}, voice_folder, "cpu")
    assert plain.width == 3
    assert np.array_equal(plain(Evidence(audio, None), utterances).values, found.values[:, :3])


def test_voice_scores_are_the_same_to_the_bit_in_any_company(voice_folder: Path) -> None:
    scores = load_voice_scores(voice_folder / "voice.safetensors")
    values = np.random.default_rng(0).normal(0, 3, (9, 88)).astype(np.float32)
    values[:, 5] = 7  # never changes
    values[2] = 1e30  # odd beyond measure
    present = np.ones(9, np.bool_)
    together = scores(values, present, list("AAAAABBBB"))
    assert np.isfinite(together).all() and np.abs(together).max() < 1000
    assert np.array_equal(together[:5], scores(values[:5], present[:5], ["X"] * 5))
    for i in range(9):
        assert np.array_equal(together[i, :3], scores(values[i : i + 1], present[:1], None)[0])
    other = values.copy()
    other[:, 0] += 100
    assert np.array_equal(scores(other, present, None), scores(values, present, None))
    assert scores(values[:0], present[:0], []).shape == (0, 7)


def test_voice_weights_fit_their_features_and_show_in_the_fingerprint(voice_folder: Path) -> None:
    with pytest.raises(UsageError, match="reads egemaps, not compare2016"):
        make_encoder("audio", {**VOICE, "name": "compare2016"}, voice_folder, "cpu")
    before = make_encoder("audio", VOICE, voice_folder, "cpu").fingerprint
    assert before != AudioEncoder("egemaps", speaker_norm=True).fingerprint
    file = voice_folder / "voice.safetensors"
    scores = load_voice_scores(file)
    arrays = {
        "mean": torch.from_numpy(scores.mean),
        "scale": torch.from_numpy(scores.scale),
        "plain": torch.from_numpy(scores.plain),
        "relative": torch.from_numpy(scores.relative) + 1,
    }
    config = json.dumps({"features": "egemaps", "labels": scores.labels})
    save_file(arrays, file, metadata={"config": config})
    assert make_encoder("audio", VOICE, voice_folder, "cpu").fingerprint != before
    save_file(arrays | {"mean": torch.full((88,), torch.nan)}, file, metadata={"config": config})
    with pytest.raises(SetupError, match="mean is not"):
        load_voice_scores(file)
    save_file(arrays | {"plain": torch.zeros(2, 89)}, file, metadata={"config": config})
    with pytest.raises(SetupError, match="plain is not"):
        load_voice_scores(file)
