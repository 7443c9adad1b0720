"""Building the bundle: what data are kept, faces trained and resumed, pairs drawn within their split."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from annotator.encode.face import FaceNet, FaceNetConfig, load_face_net
from train.starter import faces, fusion
from train.starter.faces import MELD_LABELS, augment, load_fer2013, refresh_batch_norm, train_faces
from train.starter.fusion import FacePool, draw_faces, draw_voices, shown
from train.starter.voice import Voices, through_a_channel, trimmed

TINY = FaceNetConfig(growth=4, blocks=(1, 1, 1), stem=8)


def jpeg(image: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".jpg", image)[1])


@pytest.fixture(scope="module")
def fer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of FER2013's layout: 80 different pictures, and repeated, contradicting and flat ones."""
    rng = np.random.default_rng(0)
    pictures = [jpeg(rng.integers(0, 256, (48, 48), np.uint8)) for _ in range(80)]
    rows = [("train", p, i % 7) for i, p in enumerate(pictures[:60])]
    rows += [("val", p, i % 7) for i, p in enumerate(pictures[60:])]
    rows += [("train", pictures[0], 0)]  # the same again
    rows += [("train", pictures[1], 5)]  # again with another label
    rows += [("train", pictures[60], 0)]  # of the test set
    rows += [("train", jpeg(np.full((48, 48), 90, np.uint8)), 3)]  # flat
    path = tmp_path_factory.mktemp("fer") / "fer2013.parquet"
    table = {"split": [r[0] for r in rows], "jpeg": [r[1] for r in rows], "label": [r[2] for r in rows]}
    pq.write_table(pa.table(table), path)
    return path


def test_duplicates_and_flat_pictures_are_dropped(fer: Path) -> None:
    splits = load_fer2013(fer)
    kept = len(splits.train[0]) + len(splits.dev[0])
    assert kept == 59  # 60 but for the one with two labels
    assert splits.dropped == 64 - 59
    assert len(splits.test[0]) == 20
    test = {x.tobytes() for x in splits.test[0]}
    assert not any(x.tobytes() in test for x in splits.train[0])
    names = [MELD_LABELS[i] for i in splits.test[1][:7]]
    assert names == ["anger", "disgust", "fear", "joy", "sadness", "surprise", "neutral"]


def test_augmented_crops_stay_crops() -> None:
    crops = np.random.default_rng(0).integers(0, 256, (200, 48, 48), np.uint8)
    out = augment(crops, np.random.default_rng(1))
    assert out.shape == crops.shape and out.dtype == np.uint8
    assert (out != crops).reshape(200, -1).any(1).all()
    np.testing.assert_array_equal(out, augment(crops, np.random.default_rng(1)))


def test_training_resumes_to_the_same_weights(
    fer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train_faces(fer, tmp_path / "whole", config=TINY, epochs=2, batch=16)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(faces, "refresh_batch_norm", stop)  # after the first epoch's state is on disk
        with pytest.raises(KeyboardInterrupt):
            train_faces(fer, tmp_path / "stopped", config=TINY, epochs=2, batch=16)
    assert train_faces(fer, tmp_path / "stopped", config=TINY, epochs=2, batch=16) == whole
    first, second = (load_file(tmp_path / f / "faces.safetensors") for f in ("whole", "stopped"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    log = [json.loads(x) for x in (tmp_path / "stopped" / "faces.log.jsonl").read_text().splitlines()]
    assert [x["epoch"] for x in log] == [2]
    assert load_face_net(tmp_path / "whole" / "faces.safetensors").config == TINY


def test_batch_norm_is_estimated_anew() -> None:
    torch.manual_seed(0)
    net = FaceNet(TINY)
    crops = np.random.default_rng(0).integers(0, 256, (64, 48, 48), np.uint8)
    before = net.densenet.features.norm0.running_mean.clone()
    refresh_batch_norm(net, crops, 0, batches=2)
    after = net.densenet.features.norm0.running_mean
    assert not torch.equal(before, after) and not net.training
    refresh_batch_norm(net, crops, 0, batches=2)
    assert torch.equal(after, net.densenet.features.norm0.running_mean)


def test_silence_at_the_ends_is_cut_and_the_rest_kept() -> None:
    rng = np.random.default_rng(0)
    sound = (0.1 * rng.standard_normal(16000)).astype(np.float32)
    silence = (1e-5 * rng.standard_normal(16000)).astype(np.float32)
    cut = trimmed(np.concatenate([silence, sound, silence]))
    assert 16000 <= len(cut) <= 16000 + 10 * 400
    assert cut.std() > 0.09


def test_a_channel_changes_the_sound_but_not_its_length() -> None:
    tone = np.sin(np.arange(16000) / 20).astype(np.float32)
    out = [through_a_channel(tone, np.random.default_rng(seed)) for seed in range(20)]
    for x in out:
        assert len(x) == len(tone) and np.isfinite(x).all() and np.abs(x).max() <= 1
    levels = [20 * np.log10(np.sqrt(np.mean(x**2))) for x in out]
    assert max(levels) - min(levels) > 10


def test_a_voice_shows_the_emotion_often_and_else_mostly_none() -> None:
    found = shown(["anger"] * 4000, np.random.default_rng(0))
    share = {label: found.count(label) / len(found) for label in MELD_LABELS}
    assert 0.57 < share["anger"] < 0.66
    assert 0.25 < share["neutral"] < 0.33
    assert all(0 < share[label] < 0.04 for label in MELD_LABELS if label not in ("anger", "neutral"))


def test_pairs_are_drawn_by_label_within_the_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fusion, "TELLING", 1.0)
    rng = np.random.default_rng(0)
    speakers = {"train": ("a", "b"), "validation": ("c",), "test": ("d",)}
    rows = [
        (label, speaker, split)
        for split, names in speakers.items()
        for speaker in names
        for label in MELD_LABELS
        if not (speaker == "b" and label == "surprise")  # as in EmoDB
        for _ in range(3)
    ]
    code = np.array(
        [[MELD_LABELS.index(r[0]), "abcd".index(r[1]), list(speakers).index(r[2])] for r in rows], np.float32
    )
    voices = Voices(
        code,
        tuple(r[0] for r in rows),
        tuple(r[1] for r in rows),
        tuple(r[2] for r in rows),
        np.ones(len(rows), bool),
    )
    n = 400
    table = pl.DataFrame(
        {
            "split": [("train", "validation", "test")[i // 10 % 3] for i in range(n)],
            "dialogue_id": [f"d{i // 10}" for i in range(n)],
            "speaker": [f"s{int(rng.integers(2))}" for _ in range(n)],
            "emotion": [MELD_LABELS[int(rng.integers(7))] for _ in range(n)],
        }
    )
    drawn = draw_voices(table, voices, rng)
    assert 0.8 < drawn.present.mean() < 1
    seen: dict[tuple[str, str], set[int]] = {}
    for i, row in enumerate(table.iter_rows(named=True)):
        if not drawn.present[i]:
            assert not drawn.values[i].any()
            continue
        label, speaker, split = drawn.values[i].astype(int)
        assert MELD_LABELS[label] == row["emotion"] and list(speakers)[split] == row["split"]
        if row["emotion"] != "surprise":
            seen.setdefault((row["dialogue_id"], row["speaker"]), set()).add(int(speaker))
    assert all(len(s) == 1 for s in seen.values())  # one voice for a speaker of a dialogue

    torch.manual_seed(0)
    net = FaceNet(TINY).eval()
    labels = np.repeat(np.arange(7), 4)
    pools = {
        split: FacePool(rng.integers(0, 256, (28, 48, 48), np.uint8), labels)
        for split in ("train", "validation", "test")
    }
    found = draw_faces(table, pools, net, rng)
    assert found.values.shape == (n, net.width) and 0.5 < found.present.mean() < 0.9
    assert found.values[found.present].any(1).all() and not found.values[~found.present].any()
