"""How sure a row is: plausible labels that hold the true one as often as promised, modalities alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from annotator.predict import Predictor
from annotator.records import Conversation, Features, Prediction
from model import Checkpoint, ModelConfig, Network, plausible_sets, save_checkpoint
from tests.corpora import synthetic_corpus
from train.evaluate import sets_of
from train.evaluate.calibration import FEWEST, calibrate, plausible_from
from train.evaluate.logits import targets

LABELS = ("neutral", "joy", "anger")
PRIOR = {"fine": [0.5, 0.3, 0.2], "coarse": [0.3, 0.5, 0.2]}
WIDTHS = {"text": 12, "audio": 8, "face": 6}


def drawn(rng: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of five labels, and labels drawn with other ones: a model that is wrong about itself."""
    found = rng.dirichlet(np.full(5, 0.4), rows).astype(np.float32)
    true = 0.5 * found + 0.5 * rng.dirichlet(np.ones(5), rows)
    return found, np.array([rng.choice(5, p=p / p.sum()) for p in true])


def test_nine_in_ten_true_labels_are_plausible_though_the_model_is_wrong_about_itself() -> None:
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(200):
        least = plausible_from(*drawn(rng, 60))
        assert least is not None
        found, true = drawn(rng, 100)
        shares.append((found[np.arange(100), true] >= least).mean())
    assert 0.89 < np.mean(shares) < 0.94, "split conformal prediction holds on average over calibrations"


def test_too_few_utterances_make_no_set() -> None:
    found, true = drawn(np.random.default_rng(1), FEWEST)
    assert plausible_from(found, true) is not None
    assert plausible_from(found[1:], true[1:]) is None
    fewer = np.where(np.arange(FEWEST) < 1, -1, true)  # one is not labelled
    assert plausible_from(found, fewer) is None
    calibration = {"text": {"fine": {"temperature": 1.0, "bias": None}}}
    assert not plausible_sets(calibration, found, np.ones((FEWEST, 1), np.bool_), ("text",)).any()


def test_equal_rows_are_covered_alike_though_weights_are_halved(tmp_path: Path) -> None:
    """All utterances of a length of dialogue are alike: the threshold is one of a handful of numbers."""
    corpus = synthetic_corpus(tmp_path / "corpus")
    torch.manual_seed(0)
    net = Network(ModelConfig.default(dict(corpus.header.widths), len(corpus.labels)))
    dialogues = [
        replace(d, conversation=all_alike(d.conversation)) for d in corpus.conversations("validation")
    ]
    checkpoint = Checkpoint(net, corpus.labels, "tiny", "1", {}, calibrate(net, dialogues, PRIOR), PRIOR)
    save_checkpoint(tmp_path / "model", checkpoint, half=True)
    found = predicted(Predictor(tmp_path / "model"), [d.conversation for d in dialogues])
    fine, _ = targets(dialogues)
    sets = np.concatenate([p.plausible for p in found])
    assert sets[np.arange(len(fine)), fine][fine >= 0].mean() >= 0.9


def all_alike(conversation: Conversation) -> Conversation:
    features = {
        m: Features(np.ones_like(f.values), np.ones_like(f.present)) for m, f in conversation.features.items()
    }
    return Conversation(np.zeros_like(conversation.speakers), features)


def predicted(predictor: Predictor, talks: list[Conversation]) -> list[Prediction]:
    return [p for p in predictor.predict(talks) if isinstance(p, Prediction)]


def talk(n: int, seed: int, *, modalities: tuple[str, ...] = tuple(WIDTHS)) -> Conversation:
    rng = np.random.default_rng(seed)
    features = {
        m: Features(rng.standard_normal((n, d)).astype(np.float32), (rng.random(n) < 0.7) & (m in modalities))
        for m, d in WIDTHS.items()
    }
    return Conversation(rng.integers(0, 3, n), features)


@pytest.mark.parametrize("missing", [True, False])
def test_what_a_modality_says_alone_is_a_run_of_it_alone_in_any_batch(tmp_path: Path, missing: bool) -> None:
    torch.manual_seed(0)
    made = ModelConfig.default if missing else ModelConfig.paper
    network = Network(made(WIDTHS, len(LABELS)))
    calibration = {"text": {"fine": {"temperature": 2.0, "bias": None, "plausible_from": 0.3}}}
    save_checkpoint(tmp_path, Checkpoint(network, LABELS, "tiny", "1", {}, calibration, PRIOR))
    talks = [talk(6, 1, modalities=("text",)), talk(9, 2)]
    together = predicted(Predictor(tmp_path), talks)
    for given, whole in zip(talks, together, strict=True):
        (single,) = predicted(Predictor(tmp_path), [given])
        np.testing.assert_array_equal(single.alone, whole.alone)
        for column, modality in enumerate(WIDTHS):
            (only,) = predicted(Predictor(tmp_path, modalities=(modality,)), [given])
            there = given.features[modality].present
            # A network that was never without the others has nothing to say of one alone.
            expected = np.where(there[:, None] & missing, only.emotion, np.nan)
            np.testing.assert_allclose(whole.alone[:, column], expected, atol=1e-6)


def test_coverage_of_a_subset_is_that_of_utterances_which_have_all_of_it() -> None:
    network = Network(ModelConfig.default(WIDTHS, len(LABELS)))
    sure = {"fine": {"temperature": 1.0, "bias": None, "plausible_from": 0.5}}
    calibration = {"text": sure, "text+audio": sure, "": sure}
    checkpoint = Checkpoint(network, LABELS, "tiny", "1", {}, calibration, PRIOR)
    emotion = np.tile(np.array([0.8, 0.1, 0.1], np.float32), (4, 1))
    present = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [1, 1, 0]], np.bool_)
    found = sets_of(checkpoint, emotion, present, np.array([1, 0, 1, 2]), ("text", "audio"))
    assert (found["coverage"], found["plausible"], found["plausible_n"]) == (0.5, 1.0, 2)
    assert found["coverage_by_label"] == {"neutral": 1.0, "anger": 0.0}
    assert sets_of(checkpoint, emotion, present, np.array([1, 0, 1, 2]), ("face",))["coverage"] is None
