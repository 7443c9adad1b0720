"""Training states and finished folders: nothing damaged or of another training is taken, nothing is lost."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from annotator.records import Evidence, Features, Utterance
from train.prepare import encode_text
from train.resume import fingerprint, load_state, save_state

from .test_work_folder import flip

STATE: dict[str, Any] = {"weights": {"a": torch.arange(6.0)}, "optimizer": {0: [1, 2.5, None]}, "epoch": 3}


@dataclass(frozen=True)
class Part:
    """Something that a training is made of."""

    texts: tuple[str, ...]
    labels: Any


def test_a_state_is_taken_by_its_own_training_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    import random

    path = tmp_path / "state.safetensors"
    assert load_state(path, "one") is None and not caplog.text
    save_state(path, STATE, "one")
    found = load_state(path, "one")
    assert found is not None and torch.equal(found["weights"]["a"], STATE["weights"]["a"])
    assert found["optimizer"] == {0: [1, 2.5, None]} and found["epoch"] == 3
    with caplog.at_level(logging.WARNING, logger="annotator"):
        assert load_state(path, "two") is None and "of another training" in caplog.text
        whole, draw = path.read_bytes(), random.Random(0)
        for damage in range(20):
            caplog.clear()
            flip(path, draw)
            assert load_state(path, "one") is None and "damaged: starting anew" in caplog.text, damage
            path.write_bytes(whole)
        path.write_bytes(whole[:40])
        assert load_state(path, "one") is None


def test_a_fingerprint_is_of_all_that_a_training_is_made_of() -> None:
    labels = np.zeros((2000, 2), np.float32)
    part = Part(("a", "b"), labels)
    known = fingerprint([part], {"x": torch.ones(2)}, 3)
    assert known == fingerprint([Part(("a", "b"), labels.copy())], {"x": torch.ones(2)}, 3)
    changed = labels.copy()
    changed[1000, 1] = 1  # where a printed array has dots
    for other in (
        fingerprint([Part(("a", "b"), changed)], {"x": torch.ones(2)}, 3),
        fingerprint([Part(("ab", ""), labels)], {"x": torch.ones(2)}, 3),
        fingerprint([part], {"x": torch.zeros(2)}, 3),
        fingerprint([part], {"y": torch.ones(2)}, 3),
        fingerprint([part], {"x": torch.ones(2)}, 4),
        fingerprint([part, part], {"x": torch.ones(2)}, 3),
    ):
        assert other != known


class Counting:
    """An encoder that counts how often it is asked."""

    modality, name, width, fingerprint = "text", "minilm", 2, "0" * 16

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, evidence: Evidence, utterances: list[Utterance]) -> Features:
        self.asked += 1
        return Features(np.full((len(utterances), 2), 7, np.float32), np.ones(len(utterances), np.bool_))


def test_texts_encoded_before_are_encoded_again_where_they_are_damaged(tmp_path: Path) -> None:
    rows = pl.DataFrame({"dialogue_id": ["d"], "utterance_id": [0], "speaker": ["A"], "text": ["So."]})
    encoder, work = Counting(), tmp_path / "work"
    for asked in (1, 1):
        encode_text(rows, encoder, work)  # type: ignore[arg-type]
        assert encoder.asked == asked
    (kept,) = work.glob("text-*")
    kept.write_bytes(kept.read_bytes()[:-3])
    found = encode_text(rows, encoder, work)  # type: ignore[arg-type]
    assert encoder.asked == 2 and (found.values == 7).all()
