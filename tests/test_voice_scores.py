"""How much a voice sounds of each emotion, judged beside the speaker's other turns."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from annotator.encode import make_encoder
from annotator.encode.audio import AudioEncoder
from annotator.encode.voice import LEAST, VoiceScores, load_voice_scores
from annotator.records import RATE_HZ, Audio, Evidence, SetupError, UsageError
from tests.spoken import say
from train.starter.voice.fit import save_scores

LABELS = ("neutral", "joy", "anger")
WIDTH = 88  # of eGeMAPS


def model(**changes: object) -> VoiceScores:
    """Three emotions that the first three features show, among speakers who differ in all of them."""
    linear = np.eye(3, WIDTH + 1, dtype=np.float32)
    gate = np.zeros((3, 8), np.float32)
    plain = VoiceScores(
        features="egemaps",
        labels=LABELS,
        mean=np.zeros(WIDTH, np.float32),
        scale=np.ones(WIDTH, np.float32),
        linear=linear,
        basis=np.eye(2, WIDTH, dtype=np.float32),
        middle=np.zeros(WIDTH, np.float32),
        usual=1.0,
        centres=np.eye(3, dtype=np.float32) * 2,
        within=np.eye(3, dtype=np.float32) * 0.1,
        between=np.eye(3, dtype=np.float32),
        short_s=0.01,
        gate=gate,
        sharpness=np.ones(3, np.float32),
        doubt=np.zeros(3, np.float32),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def only(answer: int) -> NDArray[np.float32]:
    """A gate that believes one answer: 0 alone, 1 varied, 2 settled."""
    gate = np.zeros((3, 8), np.float32)
    gate[answer, -1] = 30
    return gate


def turns(classes: list[int], manner: NDArray[np.float64], seed: int = 0) -> NDArray[np.float32]:
    values = np.random.default_rng(seed).normal(0, 0.3, (len(classes), WIDTH))
    values[:, :3] += 2 * np.eye(3)[classes] + manner
    return values.astype(np.float32)


def told(
    scores: VoiceScores, values: NDArray[np.float32], speakers: str | None = None, seconds: float = 2.0
) -> NDArray[np.float32]:
    n = len(values)
    return scores(values, np.full(n, seconds), np.ones(n, np.bool_), list(speakers or "A" * n))[:, :-1]


def test_scores_are_log_probabilities_and_absent_turns_are_zeros() -> None:
    values = turns([0, 1, 2, 0], np.zeros(3))
    present = np.array([True, True, False, True])
    near = model(usual=0.1)
    found = near(values, np.full(4, 2.0), present, ["A", "B", "A", "A"])
    assert found.shape == (4, 4) and not found[2].any()
    assert found[0, 3] == found[3, 3] != found[1, 3], "how strange a speaker's voice is"
    found = found[:, :3]
    assert np.exp(found[present]).sum(1) == pytest.approx(1, abs=1e-5)
    assert np.exp(found[present]).min() >= LEAST * 0.99, "no voice rules an emotion out"
    assert model()(values[:0], np.zeros(0), present[:0], []).shape == (0, 4)


def test_a_manner_is_taken_away_where_the_turns_vary() -> None:
    """Who sounds angry when calm is told by how the turns differ; by itself each turn is misread."""
    manner = np.array([-1.8, 0.0, 1.8])
    classes = [0, 1, 2] * 5
    values = turns(classes, manner)
    alone = told(model(gate=only(0)), values).argmax(1)
    varied = told(model(gate=only(1)), values).argmax(1)
    assert (alone == classes).mean() < 0.7 and (varied == classes).all()


def test_one_mood_throughout_is_not_taken_for_a_manner() -> None:
    values = turns([2] * 12, np.array([0.3, 0.0, -0.3]))
    settled = told(model(gate=only(2), between=np.eye(3, dtype=np.float32) * 0.3), values)
    assert (settled.argmax(1) == 2).all()
    mixed = turns([0, 0, 0, 2, 0, 0, 0, 2], np.array([-0.5, 0.2, 0.3]))
    found = told(model(gate=only(2)), mixed).argmax(1)
    assert found.tolist() == [0, 0, 0, 2, 0, 0, 0, 2]


def test_short_turns_and_strange_voices_are_told_less_surely() -> None:
    values = turns([0, 1, 2], np.zeros(3))
    whole, short = (told(model(short_s=0.5), values, "ABC", seconds).max(1) for seconds in (3.0, 0.2))
    assert (short < whole).all()
    strange = values.copy()
    strange[:, 5:] *= 8  # what no score reads, and no training turn was like
    doubting = model(doubt=np.ones(3, np.float32))
    assert (told(doubting, strange, "ABC").max(1) < told(doubting, values, "ABC").max(1)).all()
    assert told(model(), strange, "ABC").argmax(1).tolist() == [0, 1, 2]
    odd = values.copy()
    odd[0] = 1e30
    assert np.isfinite(told(model(), odd, "ABC")).all()


def test_scores_do_not_depend_on_other_speakers_or_the_order_of_turns() -> None:
    values = turns([0, 1, 2, 0, 1, 2, 0, 0], np.array([0.5, 0, 0]))
    together = told(model(), values, "AABBAABB")
    rows = [0, 1, 4, 5]
    assert np.array_equal(together[rows], told(model(), values[rows]))
    assert told(model(), values[::-1], "BBAABBAA")[::-1] == pytest.approx(together, abs=1e-5)


def test_a_run_gives_what_the_model_says(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pieces = [(0.1 * rng.normal(0, 1, RATE_HZ)).astype(np.float32) for _ in range(3)]
    audio = Audio((np.concatenate([*pieces, np.zeros(RATE_HZ)]) * 8000).astype(np.int16))
    utterances = [say("x", start=i, end=i + 1, speaker="AAB"[i % 3]) for i in range(4)]
    raw = AudioEncoder("egemaps")(Evidence(audio, None), utterances)
    mean, deviation = raw.values[:3].mean(0), raw.values[:3].std(0) + 1e-3
    scores = model(mean=mean, scale=(1 / deviation).astype(np.float32))
    save_scores(scores, tmp_path / "voice.safetensors")
    spec = {"name": "egemaps", "weights": "voice.safetensors"}
    encoder = make_encoder("audio", spec, tmp_path, "cpu")
    found = encoder(Evidence(audio, None), utterances)
    assert encoder.width == 4 and found.present.tolist() == [True, True, True, False]
    stored = load_voice_scores(tmp_path / "voice.safetensors", WIDTH)
    wanted = stored(raw.values, np.ones(4), raw.present, ["A", "A", "B", "A"])
    assert found.values == pytest.approx(wanted, abs=1e-3) and found.values[:3].any(1).all()
    assert encoder.fingerprint != AudioEncoder("egemaps").fingerprint
    with pytest.raises(UsageError, match='leave out "speaker_norm"'):
        make_encoder("audio", {**spec, "speaker_norm": True}, tmp_path, "cpu")
    other = make_encoder("audio", spec, tmp_path, "cpu").fingerprint
    save_scores(replace(scores, usual=2.0), tmp_path / "voice.safetensors")
    assert make_encoder("audio", spec, tmp_path, "cpu").fingerprint != other
    save_scores(replace(scores, features="compare2016"), tmp_path / "voice.safetensors")
    with pytest.raises(UsageError, match="reads compare2016, not egemaps"):
        make_encoder("audio", spec, tmp_path, "cpu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gate": np.zeros((2, 8), np.float32)}, "gate is not"),
        ({"mean": np.full(WIDTH, np.nan, np.float32)}, "mean is not"),
        ({"linear": np.full((3, WIDTH + 1), 6e4, np.float32), "doubt": np.full(3, 1e7)}, "doubt is not"),
        ({"within": -np.eye(3, dtype=np.float32)}, "within is no covariance"),
        ({"within": np.zeros((3, 3), np.float32)}, "within is no covariance"),
        ({"usual": 0.0}, "usual and short_s"),
        ({"short_s": float("inf")}, "short_s"),
        ({"doubt": -np.ones(3, np.float32)}, "sharpness and doubt"),
    ],
)
def test_a_file_that_is_no_such_model_is_refused(
    change: dict[str, object], message: str, tmp_path: Path
) -> None:
    file = tmp_path / "voice.safetensors"
    save_scores(model(**change), file)
    with pytest.raises(SetupError, match=message):
        load_voice_scores(file, WIDTH)


def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "voice.safetensors"
    save_scores(model(), file)
    assert load_voice_scores(file, WIDTH).labels == LABELS
    arrays = load_file(file)
    for stored, config in (
        ({"mean": arrays["mean"]}, {"features": "egemaps", "labels": LABELS}),
        (arrays, {"features": "egemaps"}),
        ({**arrays, "more": arrays["mean"]}, {"labels": LABELS, "features": "x", "usual": 1, "short_s": 1}),
    ):
        save_file(stored, file, metadata={"config": json.dumps(config)})
        with pytest.raises(SetupError, match="no voice scores of this version"):
            load_voice_scores(file, WIDTH)
    with pytest.raises(SetupError, match="no voice scores of this version"):
        save_scores(model(), file)
        load_voice_scores(file, 2048)
