"""Building the bundle: what data are kept, faces trained and resumed, pairs drawn within their split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from annotator import folders
from annotator.encode import make_encoder
from annotator.encode.face import FaceNet, FaceNetConfig, load_face_net
from annotator.encode.second import TwoReaders
from annotator.records import UsageError
from model import load_checkpoint
from train.prepare.meld import LABELS as MELD_LABELS
from train.starter import faces, fusion
from train.starter.__main__ import build
from train.starter.faces import augment, load_fer2013, refresh_batch_norm, train_faces
from train.starter.fusion import FacePool, draw_faces, draw_voices, rewritten, shown
from train.starter.voice import (
    Voices,
)

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


def test_a_voice_shows_the_emotion_often_and_else_mostly_none() -> None:
    found = shown(["anger"] * 4000, np.random.default_rng(0))
    share = {label: found.count(label) / len(found) for label in MELD_LABELS}
    assert 0.57 < share["anger"] < 0.66
    assert 0.25 < share["neutral"] < 0.33
    assert all(0 < share[label] < 0.04 for label in MELD_LABELS if label not in ("anger", "neutral"))


def test_pairs_are_drawn_by_label_within_the_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fusion, "TELLING", 1.0)
    monkeypatch.setattr(fusion, "STRANGE_TELLING", 1.0)
    rng = np.random.default_rng(0)
    speakers = {"train": ("nemo-a", "emodb-b"), "validation": ("nemo-c",), "test": ("nemo-d",)}
    rows = [
        (label, speaker, split)
        for split, names in speakers.items()
        for speaker in names
        for label in MELD_LABELS
        if not (speaker == "emodb-b" and label == "surprise")  # as in EmoDB
        for _ in range(3)
    ]
    code = np.array(
        [[MELD_LABELS.index(r[0]), "abcd".index(r[1][-1]), list(speakers).index(r[2])] for r in rows],
        np.float32,
    )
    voices = Voices(
        code,
        tuple(r[0] for r in rows),
        tuple(r[1] for r in rows),
        ("female",) * len(rows),
        tuple(r[2] for r in rows),
        tuple(r[1] for r in rows),
        np.ones(len(rows), bool),
        np.ones(len(rows)),
    )
    n = 400
    table = pl.DataFrame(
        {
            "split": [("train", "validation", "test")[i // 10 % 3] for i in range(n)],
            "dialogue_id": [f"d{i // 10}" for i in range(n)],
            "season": [1] * n,
            "episode": [1] * n,
            "speaker": [f"s{int(rng.integers(2))}" for _ in range(n)],
            "emotion": [MELD_LABELS[int(rng.integers(7))] for _ in range(n)],
        }
    )

    def telling(values: np.ndarray, *_: object) -> np.ndarray:
        """Scores that give the code back: what is drawn shows in the vector."""
        return np.pad(values, ((0, 0), (0, 5)))

    scores: dict[str, Any] = dict.fromkeys(voices.speakers, telling)
    drawn = draw_voices(table, voices, (scores, scores), rng)
    assert drawn.values.shape == (n, 8) and 0.8 < drawn.present.mean() < 1
    seen: dict[tuple[str, str], set[int]] = {}
    for i, row in enumerate(table.iter_rows(named=True)):
        if not drawn.present[i]:
            assert not drawn.values[i].any()
            continue
        label, speaker, split = drawn.values[i, :3].round().astype(int)
        assert MELD_LABELS[label] == row["emotion"] and list(speakers)[split] == row["split"]
        if row["emotion"] != "surprise":
            seen.setdefault((row["split"], row["speaker"]), set()).add(int(speaker))
    assert all(len(s) == 1 for s in seen.values())  # one voice for a speaker of an episode

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


def test_one_command_makes_a_bundle_that_labels(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the raw files, in the quick size: what comes out is whole, small, and says how good it is."""
    out, work = tmp_path / "bundle", tmp_path / "work"
    figures = build(shared, work, out, quick=True)
    assert sum(file.stat().st_size for file in out.iterdir()) < 10e6
    subsets = figures["pairs"]["subsets"]
    assert len(subsets) == 7 and all(0 < m["accuracy"] < 1 for m in subsets.values())
    card = (out / "CARD.md").read_text("utf-8")
    assert f"{100 * subsets['text']['accuracy']:.1f}" in card and "--quick" in card
    checkpoint = load_checkpoint(out)
    assert checkpoint.name == "starter" and checkpoint.labels == MELD_LABELS
    text = make_encoder("text", checkpoint.encoders["text"], out, "cpu")
    assert isinstance(text, TwoReaders) and text.second is not None
    assert text.first.encode_texts(["Hello."]).shape == (1, 384)
    assert text.second.encode_texts(["Bonjour."]).shape == (1, 384)
    assert checkpoint.meta["text_languages"] == ["en", "es", "fr"]
    french = checkpoint.meta["languages"]["left_out"]["fr"]["accuracy"]
    assert f"| fr | e5, not trained on it | {checkpoint.meta['languages']['left_out']['fr']['n']} |" in card
    assert f"{100 * french:.1f}" in card

    # A bundle that keeps the rest has another voice, and a network that has gone on from the first's.
    monkeypatch.setattr("train.starter.voice.fit.PENALTY", 50.0)
    quick = work / "quick"
    for file in (*quick.glob("voice-*.safetensors"), quick / "weights" / "voice.safetensors"):
        file.unlink()
    folders.remove(quick / "pairs")
    after = tmp_path / "next"
    assert set(build(shared, work, after, keep=out, quick=True)["pairs"]["subsets"]) == set(subsets)
    for name in ("faces.safetensors", "text.safetensors", "languages.safetensors"):
        assert (after / name).read_bytes() == (out / name).read_bytes()
    assert (after / "voice.safetensors").read_bytes() != (out / "voice.safetensors").read_bytes()
    was, now = load_checkpoint(out), load_checkpoint(after)
    weights = was.network.state_dict()
    for name, tensor in now.network.named_parameters():
        same = torch.equal(weights[name], tensor.detach())
        assert same or "audio" in name, "what has nothing to do with the voice stays"
    voice = "project.audio.weight"
    assert not torch.equal(weights[voice], now.network.state_dict()[voice])
    assert was.calibration != now.calibration
    with pytest.raises(UsageError, match="no starter bundle: it lacks model.json"):
        build(shared, work, after, keep=tmp_path, quick=True)


def test_dialogues_are_rewritten_as_recordings_are() -> None:
    table = pl.DataFrame(
        {
            "split": "train",
            "dialogue_id": ["d0"] * 6 + ["d1"] * 6,
            "utterance_id": pl.Series([*range(6)] * 2, dtype=pl.Int32),
            "speaker": ["A", "B", "A", "C", "A", "B"] * 2,
            "start": [float(i) for i in range(12)],
            "text": [f"Some words number {i} are said here!" for i in range(12)],
            "season": 1,
            "episode": 2,
        }
    )
    rng = np.random.default_rng(0)
    misheard = rewritten(table, "train", "misheard", rng)
    assert misheard["text"].to_list() != table["text"].to_list() and len(misheard) == 12
    whole = rewritten(table, "train", "episode", rng)
    assert whole["dialogue_id"].n_unique() == 1 and whole["utterance_id"].to_list() == list(range(12))
    few = rewritten(table, "train", "few speakers", rng)
    for dialogue in few.partition_by("dialogue_id"):
        assert dialogue["speaker"].n_unique() <= 2 and len(dialogue) >= 3
        assert dialogue["utterance_id"].to_list() == list(range(len(dialogue)))
    assert not len(rewritten(table, "test", "as it is", rng))
