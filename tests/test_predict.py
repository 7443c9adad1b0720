"""The predictor: what a conversation gets doesn't depend on its batch, and no evidence gives the prior."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from annotator.predict import Predictor
from annotator.records import Conversation, Features, Prediction, RecordingError, SetupError
from model import Checkpoint, ModelConfig, Network, load_checkpoint, save_checkpoint

LABELS = ("neutral", "joy", "anger")
PRIOR = {"fine": [0.5, 0.3, 0.2], "coarse": [0.3, 0.5, 0.2]}
WIDTHS = {"text": 12, "audio": 8, "face": 6}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("checkpoints") / "tiny"
    network = Network(ModelConfig.default(WIDTHS, len(LABELS), attention_span=5))
    calibration = {"text": {"fine": {"temperature": 2.0, "bias": None}}}
    checkpoint = Checkpoint(network, LABELS, "tiny", "3", {}, calibration=calibration, prior=PRIOR)
    save_checkpoint(path, checkpoint)
    return path


def talk(n: int, seed: int) -> Conversation:
    rng = np.random.default_rng(seed)
    features = {
        m: Features(rng.standard_normal((n, d)).astype(np.float32), rng.random(n) < 0.7)
        for m, d in WIDTHS.items()
    }
    return Conversation(rng.integers(0, 3, n), features)


def test_a_conversation_gets_the_same_bits_in_any_batch(folder: Path) -> None:
    predictor = Predictor(folder)
    talks = [talk(n, n) for n in (1, 40, 3, 17, 8, 25)]
    together = predicted(predictor, talks)
    pairs = predicted(predictor, talks, batch_size=2)
    tight = predicted(Predictor(folder, memory_bytes=1_500_000), talks)  # for 45 utterances
    for conversation, *others in zip(talks, together, pairs, tight, strict=True):
        (alone,) = predicted(predictor, [conversation])
        for other in others:
            np.testing.assert_array_equal(alone.emotion, other.emotion)
            np.testing.assert_array_equal(alone.sentiment, other.sentiment)
        assert alone.emotion.dtype == np.float32
        np.testing.assert_allclose(alone.emotion.sum(1), 1, atol=1e-6)
        np.testing.assert_allclose(alone.sentiment.sum(1), 1, atol=1e-6)


def predicted(predictor: Predictor, talks: list[Conversation], batch_size: int = 32) -> list[Prediction]:
    found = predictor.predict(talks, batch_size)
    assert all(isinstance(p, Prediction) for p in found)
    return [p for p in found if isinstance(p, Prediction)]


def test_no_evidence_gives_the_prior(folder: Path) -> None:
    talked = talk(9, 0)
    features = {m: Features(f.values, f.present.copy()) for m, f in talked.features.items()}
    for f in features.values():
        f.present[4] = False
    (found,) = predicted(Predictor(folder), [Conversation(talked.speakers, features)])
    assert not found.used[4].any()
    np.testing.assert_allclose(found.emotion[4], PRIOR["fine"], atol=1e-6)
    np.testing.assert_allclose(found.sentiment[4], PRIOR["coarse"], atol=1e-6)


def test_a_conversation_too_large_for_the_memory_is_told_apart(folder: Path) -> None:
    most = Predictor(folder, memory_bytes=300_000).most_utterances
    talks = [talk(3, 0), talk(most + 1, 1), talk(most, 2)]
    found = Predictor(folder, memory_bytes=300_000).predict(talks)
    assert [type(p) for p in found] == [Prediction, RecordingError, Prediction]
    assert isinstance(found[1], RecordingError) and found[1].error == "too_large"


def test_a_modality_that_is_not_allowed_is_not_used(folder: Path) -> None:
    predictor = Predictor(folder, modalities=("text",))
    talked = talk(9, 1)
    changed = Features(talked.features["audio"].values + 100, talked.features["audio"].present)
    other = Conversation(talked.speakers, {**talked.features, "audio": changed})
    first, second = predicted(predictor, [talked, other])
    np.testing.assert_array_equal(first.emotion, second.emotion)
    np.testing.assert_array_equal(first.used[:, 0], talked.features["text"].present)
    assert not first.used[:, 1:].any()


def test_name_and_labels(folder: Path) -> None:
    predictor = Predictor(folder)
    assert (predictor.name, predictor.labels) == ("tiny 3", LABELS)


def test_a_damaged_checkpoint_is_a_sentence(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "model.json").write_bytes((folder / "model.json").read_bytes())
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:200])
    with pytest.raises(SetupError, match="safetensors"):
        Predictor(tmp_path)


def test_a_checkpoint_that_changes_before_its_network_is_loaded_is_refused(
    tmp_path: Path, folder: Path
) -> None:
    shutil.copytree(folder, tmp_path / "tiny")
    predictor = Predictor(tmp_path / "tiny")
    checkpoint = load_checkpoint(folder)
    checkpoint.version = "4"
    save_checkpoint(tmp_path / "tiny", checkpoint)
    with pytest.raises(SetupError, match="was changed"):
        predictor.predict([talk(3, 0)])
