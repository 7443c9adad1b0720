"""What the tool relies on: any subset of modalities serves, and more of them is never worse."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pytest

from model import load_checkpoint
from tests.corpora import LABELS, synthetic_corpus
from train.evaluate.calibration import subsets
from train.evaluate.logits import hide, predict_logits, targets
from train.loop import train_corpus
from train.settings import TrainSettings

MODALITIES = ("text", "audio", "face")
SIZES = ("text_width", "audio_width", "face_width", "co_width", "recurrent_width", "graph_width")
SETTINGS = TrainSettings(epochs=20, batch_size=16, lr=4e-3, patience=None)


@dataclass(frozen=True)
class Found:
    """Accuracies on the test split."""

    utterances: int
    by_subset: dict[frozenset[str], float]
    half_missing: float  # at a missing rate of 0.5

    @property
    def noise(self) -> float:
        """Two standard errors, at most."""
        return float(2 * (0.25 / self.utterances) ** 0.5)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[float, Found]:
    """Of trainings with and without modality dropout, where each modality carries a part of the label."""
    folder = tmp_path_factory.mktemp("missing")
    corpus = synthetic_corpus(folder / "corpus", (120, 30, 200), strength=0.6, presence=1.0)
    test = corpus.conversations("test")
    talks = [c.conversation for c in test]
    right, _ = targets(test)
    result = {}
    for rate in (0.3, 0.0):
        out = folder / f"dropout-{rate}"
        small = {name: 24 for name in SIZES}
        config = {**small, "modality_dropout": rate}
        train_corpus(corpus.folder, out, settings=SETTINGS, config=config, progress=False)
        network = load_checkpoint(out).network
        random = np.random.default_rng(0)
        sparse = [hide(talk, 0.5, random) for talk in talks]
        by_subset = {
            frozenset(kept): float((predict_logits(network, talks, kept).fine.argmax(1) == right).mean())
            for kept in subsets(MODALITIES)
        }
        half = float((predict_logits(network, sparse).fine.argmax(1) == right).mean())
        result[rate] = Found(len(right), by_subset, half)
    return result


def test_no_subset_is_worse_than_its_best_part(found: dict[float, Found]) -> None:
    accuracy, noise = found[0.3].by_subset, found[0.3].noise
    assert len(accuracy) == 7
    assert min(accuracy.values()) > 1 / len(LABELS) + noise
    for subset, value in accuracy.items():
        for size in range(1, len(subset)):
            for part in combinations(subset, size):
                assert value >= accuracy[frozenset(part)] - noise, (subset, part)
    alone = max(value for subset, value in accuracy.items() if len(subset) == 1)
    assert accuracy[frozenset(MODALITIES)] > alone + noise


def test_modality_dropout_pays_where_half_is_missing(found: dict[float, Found]) -> None:
    assert found[0.3].half_missing > found[0.0].half_missing
