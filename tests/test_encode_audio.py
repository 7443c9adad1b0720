"""Voice features: functionals and Whisper's states, of the speech alone, and a speaker's own manner."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from annotator.encode import make_encoder
from annotator.encode.audio import AudioEncoder, functionals, speaker_relative, trimmed
from annotator.encode.whisper import PAD, STATE, WhisperStates, carried_whisper, load_states, read_encoder
from annotator.records import RATE_HZ, Audio, Evidence, SetupError
from annotator.whisper_files import MODEL
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


@pytest.mark.parametrize(("name", "width"), [("egemaps", 88), ("compare2016", 6373), ("whisper", 2048)])
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
    assert isinstance(encoder, AudioEncoder)
    plain = encoder.features(trimmed(audio.window(0, 1)))
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


def test_pauses_around_speech_change_nothing() -> None:
    rng = np.random.default_rng(0)
    speech = np.concatenate([tone(120, 0.8), 0.01 * tone(120, 0.1), tone(150, 0.5)])
    room = rng.normal(0, 1e-4, RATE_HZ).astype(np.float32)
    heard = trimmed(np.concatenate([room, speech, room]))
    assert len(speech) <= len(heard) <= len(speech) + 4000, "a tenth of a second on either side"
    loud_room = 30 * room  # 20 dB below the speech
    heard = trimmed(np.concatenate([loud_room, speech, loud_room]))
    assert len(speech) - 400 <= len(heard) <= len(speech) + 4000
    assert np.array_equal(trimmed(speech), speech), "nothing within it"
    quiet = np.concatenate([room, 0.02 * speech, room])
    quiet[100:300] = 0.9  # somebody touches the microphone
    assert len(trimmed(quiet)) >= len(speech), "a click does not make the speech a pause"
    for little in (speech[:0], speech[:100], np.zeros(800, np.float32)):
        assert len(trimmed(little)) == len(little)
    broken = speech.copy()
    broken[5] = np.nan
    assert AudioEncoder("egemaps").features(trimmed(broken)) is None


def whisper_encoder(weights: dict[str, torch.Tensor]) -> WhisperEncoder:
    """transformers' encoder of Whisper base with the weights of a file of CTranslate2's."""
    config = WhisperConfig(
        d_model=512, encoder_layers=4, encoder_attention_heads=8, encoder_ffn_dim=2048, decoder_layers=1,
        decoder_attention_heads=8,
    )  # fmt: skip
    state = {"embed_positions.weight": weights["position_encodings/encodings"]}
    for conv in ("conv1", "conv2"):
        state |= {f"{conv}.{part}": weights[f"{conv}/{part}"] for part in ("weight", "bias")}
    for n in range(4):
        ours, theirs = f"layer_{n}/", f"layers.{n}."
        q, k, v = weights[ours + "self_attention/linear_0/weight"].chunk(3)
        q_bias, _, v_bias = weights[ours + "self_attention/linear_0/bias"].chunk(3)
        pairs = {"q_proj": (q, q_bias), "k_proj": (k, None), "v_proj": (v, v_bias)}
        joined = ours + "self_attention/linear_1/"
        pairs["out_proj"] = (weights[joined + "weight"], weights[joined + "bias"])
        for name, (weight, bias) in pairs.items():
            state[f"{theirs}self_attn.{name}.weight"] = weight
            if bias is not None:
                state[f"{theirs}self_attn.{name}.bias"] = bias
        for name, place in (("fc1", "linear_0"), ("fc2", "linear_1")):
            state |= {f"{theirs}{name}.{p}": weights[f"{ours}ffn/{place}/{p}"] for p in ("weight", "bias")}
        for name, place in (("self_attn_layer_norm", "self_attention"), ("final_layer_norm", "ffn")):
            for part, greek in (("weight", "gamma"), ("bias", "beta")):
                state[f"{theirs}{name}.{part}"] = weights[f"{ours}{place}/layer_norm/{greek}"]
    encoder: WhisperEncoder = WhisperForConditionalGeneration(config).model.encoder.eval()
    lacking = encoder.load_state_dict({k: v.float() for k, v in state.items()}, strict=False)
    assert (
        set(lacking.missing_keys) == {"layer_norm.weight", "layer_norm.bias"} and not lacking.unexpected_keys
    )
    return encoder


def test_states_are_those_of_the_reference() -> None:
    """Thirty seconds of sound, which transformers takes, through both."""
    with open(carried_whisper().whole() / MODEL, "rb") as file:  # type: ignore[operator]
        weights = read_encoder(file, 4)  # the reference norms the last
    sound = np.concatenate([tone(100 + 10 * i, 0.99) for i in range(30)])
    assert len(sound) + PAD == 30 * RATE_HZ
    own = WhisperStates(weights, (2, 3), "cpu").states(sound)
    samples = np.concatenate([sound, np.zeros(30 * RATE_HZ - len(sound), np.float32)])
    extractor = WhisperFeatureExtractor()  # type: ignore[no-untyped-call]
    mel = extractor(samples, sampling_rate=RATE_HZ, return_tensors="pt").input_features
    with torch.inference_mode():
        wanted = whisper_encoder(weights)(mel, output_hidden_states=True).hidden_states
    assert own.shape == (2, -(-len(sound) // STATE), 512)
    for found, layer in zip(own, (2, 3), strict=True):
        torch.testing.assert_close(found, wanted[layer][0, : len(found)], atol=2e-3, rtol=1e-3)


def test_pooled_states_of_long_sound_and_of_a_damaged_file() -> None:
    states = load_states()
    pooled = states.pooled(np.tile(tone(150, 1), 65))
    assert pooled.shape == (2048,) and np.isfinite(pooled).all()
    short = states.pooled(np.tile(tone(150, 1), 20))
    assert np.corrcoef(pooled, short)[0, 1] > 0.99, "the same sound, however long"
    whole = (carried_whisper().read(MODEL) or b"")[: 1 << 22]
    for damaged in (b"", whole[:1000], b"\x07" + whole[1:], whole):
        with pytest.raises(SetupError, match="can't be read as CTranslate2's"):
            read_encoder(BytesIO(damaged), 3)
