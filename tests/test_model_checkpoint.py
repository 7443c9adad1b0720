"""Checkpoints: the round trip, replacing one, and a sentence for everything that can be wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from model import (
    Checkpoint,
    CheckpointError,
    ModelConfig,
    Network,
    apply_calibration,
    describe_checkpoint,
    load_checkpoint,
    plausible_sets,
    save_checkpoint,
    subset_key,
)

CONFIG = ModelConfig.default(
    {"text": 6, "audio": 5}, 3, text_width=8, audio_width=8, co_width=8, co_ffn=8, recurrent_width=4
)


def made(seed: int = 0, **changes: Any) -> Checkpoint:
    torch.manual_seed(seed)
    network = Network(CONFIG)
    network.set_normalisation({"text": (np.full(6, 3e5), np.full(6, 1e6))})
    values: dict[str, Any] = {
        "labels": ("angry", "glad", "sad"),
        "name": "test",
        "version": "1.2",
        "encoders": {"text": {"name": "minilm", "width": 6}},
        "calibration": {"text+audio": {"fine": {"temperature": 1.5, "bias": [0.1, 0, -0.1]}}},
        "prior": {"fine": [0.5, 0.3, 0.2], "coarse": [0.2, 0.3, 0.5]},
        "meta": {"corpus": "é"},
    }
    return Checkpoint(network, **{**values, **changes})


def weights(checkpoint: Checkpoint) -> torch.Tensor:
    return torch.cat([t.flatten() for t in checkpoint.network.state_dict().values()])


def test_round_trip(tmp_path: Path) -> None:
    saved = made()
    fingerprint = save_checkpoint(tmp_path / "a" / "m", saved)
    state = torch.get_rng_state()
    loaded = load_checkpoint(tmp_path / "a" / "m")
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(weights(saved), weights(loaded))
    assert not loaded.network.training
    assert loaded.config == CONFIG and loaded.fingerprint == saved.fingerprint == fingerprint
    for name in ("labels", "name", "version", "encoders", "calibration", "prior", "meta"):
        assert getattr(loaded, name) == getattr(saved, name)
    assert sorted(p.name for p in (tmp_path / "a" / "m").iterdir()) == ["model.json", "model.safetensors"]
    assert save_checkpoint(tmp_path / "again", made()) == fingerprint
    assert (tmp_path / "again/model.safetensors").read_bytes() == (
        tmp_path / "a/m/model.safetensors"
    ).read_bytes()


def test_half_precision_is_smaller_and_keeps_the_statistics(tmp_path: Path) -> None:
    saved = made()
    save_checkpoint(tmp_path / "full", saved)
    save_checkpoint(tmp_path / "half", saved, half=True)
    sizes = [(tmp_path / f / "model.safetensors").stat().st_size for f in ("full", "half")]
    assert sizes[1] < 0.7 * sizes[0]
    loaded = load_checkpoint(tmp_path / "half")
    assert {t.dtype for t in loaded.network.state_dict().values()} == {torch.float32}
    assert torch.equal(loaded.network.get_buffer("mean_text"), torch.full((6,), 3e5))
    assert torch.allclose(loaded.network.fine.weight, saved.network.fine.weight, atol=1e-3)


def test_replacing_leaves_other_files_alone(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "m", made())
    (tmp_path / "m" / "encoder").mkdir()
    (tmp_path / "m" / "encoder" / "face.safetensors").write_bytes(b"x")
    newer = made(seed=1)
    save_checkpoint(tmp_path / "m", newer)
    assert torch.equal(weights(load_checkpoint(tmp_path / "m")), weights(newer))
    names = sorted(p.name for p in (tmp_path / "m").iterdir())
    assert names == ["encoder", "model.json", "model.safetensors"]
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    header = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    change(header)
    (folder / "model.json").write_text(json.dumps(header), encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda h: h.update(format=99), "install a newer version"),
        (lambda h: h.update(calibrated={}), r"unknown key 'calibrated' \(did you mean 'calibration'"),
        (lambda h: h.pop("format"), "does not say its format version"),
        (lambda h: h.update(fingerprint="0"), "belong to different checkpoints"),
        (lambda h: h["config"].update(windw_past=3), "did you mean 'window_past'"),
        (lambda h: h.update(config=[]), "'config' must be an object"),
        (lambda h: h["config"].update(graph_width=12), r"classifier\.hidden\.weight has shape"),
        (lambda h: h["config"].update(unimodal_heads=True), "lacks unimodal.text.weight"),
        (lambda h: h["config"].update(missing=False, modality_dropout=0.0), "has no place for"),
        (lambda h: h["labels"].append("one more"), "4 labels"),
        (lambda h: h.update(labels=["a", "a", "b"]), "or one twice"),
        (lambda h: h.update(labels="abc"), "labels: input should be a valid list; got 'abc'"),
        (lambda h: h.update(sentiments=["negative", "neutral", "positive"]), "'sentiments' must be positive"),
        (lambda h: h.update(name=""), "'name' must be a text"),
        (lambda h: h["encoders"].update(face={}), "'encoders' must describe"),
        (lambda h: h["prior"].update(fine=[1.0]), "must be 3 shares"),
        (lambda h: h["calibration"].update({"audio+text": {}}), "no subset of the modalities"),
        (
            lambda h: h["calibration"].update(text={"fine": {"temperature": 0}}),
            r"calibration\.text\.fine\.temperature: input should be greater",
        ),
        (lambda h: h["calibration"].update(text={"fine": {"temperature": 1, "bias": [1]}}), "bias must be 3"),
    ],
)
def test_what_is_wrong_is_said(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], sentence: str
) -> None:
    save_checkpoint(tmp_path / "m", made())
    edit(tmp_path / "m", change)
    with pytest.raises(CheckpointError, match=sentence):
        load_checkpoint(tmp_path / "m")


def test_a_description_is_what_loading_gives_but_for_the_network(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "m", made())
    described, loaded = describe_checkpoint(tmp_path / "m"), load_checkpoint(tmp_path / "m")
    names = ("labels", "name", "version", "encoders", "calibration", "prior", "meta", "fingerprint", "config")
    for name in names:
        assert getattr(described, name) == getattr(loaded, name)
    state = loaded.network.state_dict()
    assert described.shapes == {name: tuple(tensor.shape) for name, tensor in state.items()}


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    with pytest.raises(CheckpointError, match="no such folder"):
        load_checkpoint(folder)
    save_checkpoint(folder, made())
    whole = (folder / "model.safetensors").read_bytes()
    for data in (whole[:-20], b"\x80\x04pickle", b""):
        (folder / "model.safetensors").write_bytes(data)
        with pytest.raises(CheckpointError, match="safetensors .*fetch it again"):
            load_checkpoint(folder)
    (folder / "model.safetensors").write_bytes(whole)
    tensors = load_file(folder / "model.safetensors")
    tensors["fine.bias"][0] = float("nan")
    fingerprint = json.loads((folder / "model.json").read_text(encoding="utf-8"))["fingerprint"]
    save_file(tensors, folder / "model.safetensors", metadata={"fingerprint": fingerprint})
    with pytest.raises(CheckpointError, match=r"fine\.bias holds values that are not finite"):
        load_checkpoint(folder)
    (folder / "model.json").write_text("{", encoding="utf-8")
    with pytest.raises(CheckpointError, match="can't be read as JSON"):
        load_checkpoint(folder)
    (folder / "model.json").unlink()
    with pytest.raises(CheckpointError, match="model.json is missing"):
        load_checkpoint(folder)


def test_nothing_is_written_of_an_invalid_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="2 labels"):
        save_checkpoint(tmp_path / "m", made(labels=("a", "b")))
    with pytest.raises(CheckpointError, match="as JSON"):
        save_checkpoint(tmp_path / "m", made(meta={"f1": float("nan")}))
    diverged = made()
    with torch.no_grad():
        diverged.network.fine.bias[0] = float("inf")
    with pytest.raises(CheckpointError, match="diverged"):
        save_checkpoint(tmp_path / "m", diverged)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="can't write the checkpoint"):
        save_checkpoint(tmp_path / "file" / "m", made())


def test_calibration_by_the_modalities_of_a_row() -> None:
    names = ("text", "audio")
    calibration: dict[str, dict[str, Any]] = {
        "text+audio": {"fine": {"temperature": 2.0, "bias": [1.0, 0, 0]}, "coarse": {"temperature": 0.5}},
        "text": {"fine": {"temperature": 4.0, "bias": None}},
    }
    draw = np.random.default_rng(0)
    fine, coarse = draw.normal(size=(4, 3)).astype("f4"), draw.normal(size=(4, 3)).astype("f4")
    present = np.array([[1, 1], [1, 0], [0, 1], [0, 0]], bool)
    p, q = apply_calibration(calibration, fine, coarse, present, names)

    def softmax(x: Any) -> Any:
        return np.exp(x) / np.exp(x).sum()

    bias = np.array([1.0, 0, 0])
    expected = [fine[0] / 2 + bias, fine[1] / 4, fine[2], fine[3]]
    for row, logits in enumerate(expected):
        assert np.allclose(p[row], softmax(logits), atol=1e-6)
    assert np.allclose(q[0], softmax(coarse[0] * 2), atol=1e-6)
    assert np.allclose(q[1], softmax(coarse[1]), atol=1e-6)
    assert p.dtype == np.float32 and np.allclose(p.sum(1), 1)
    tensors = apply_calibration(
        calibration, torch.from_numpy(fine), torch.from_numpy(coarse), torch.from_numpy(present), names
    )
    assert isinstance(tensors[0], torch.Tensor) and np.allclose(tensors[0], p)
    none = apply_calibration(calibration, fine[:0], coarse[:0], present[:0], names)
    assert none[0].shape == (0, 3)
    with pytest.raises(ValueError, match="a column for each"):
        apply_calibration(calibration, fine, coarse, present)


def test_subset_key() -> None:
    assert subset_key([True, False, True]) == "text+face"
    assert subset_key([False, False, False]) == ""


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda h: h.update(labels=["x" * 200, "b", "c"]), None),
        (
            lambda h: h.update(labels=["x" * 201, "b", "c"]),
            "'labels' must be a list of names.*got .{200}[.]{3}$",
        ),
        (lambda h: h.update(labels=["a;b", "b", "c"]), "without control characters and ';'"),
        (lambda h: h.update(labels=["a\nb", "b", "c"]), "without control characters"),
        (lambda h: h.update(name="n" * 200), None),
        (lambda h: h.update(name="n" * 201), "'name' must be a text of one line"),
        (lambda h: h.update(version="1\n2"), "'version' must be a text of one line"),
        (lambda h: h["prior"].update(fine=[0.5, 0.3, 0.209]), None),
        (
            lambda h: h["prior"].update(fine=[0.5, 0.3, 0.211]),
            "'prior' of 'fine' must be 3 shares, of 1 in all",
        ),
        (lambda h: h["prior"].update(coarse=[0.5, 0.3, 0.18]), "'prior' of 'coarse' must be 3 shares"),
        (
            lambda h: h["calibration"].update({"": {"fine": {"temperature": 1e9, "bias": [1e3, 0, -1e3]}}}),
            None,
        ),
        (lambda h: h["calibration"].update(text={"fine": {"temperature": 1.1e9}}), "less than or equal"),
        (lambda h: h["calibration"].update(text={"fine": {"temperature": 1e-3}}), None),
        (
            lambda h: h["calibration"].update(text={"coarse": {"temperature": 1, "bias": [0, 0]}}),
            "'coarse': bias",
        ),
        (lambda h: h["calibration"].update(text={"coarse": {"temperature": 1, "bias": [2e3, 0, 0]}}), "bias"),
        (lambda h: h.update(format=0), "does not say its format version"),
        (lambda h: h.update(format="1"), "does not say its format version"),
        (lambda h: h.update(format=2), "has format 2, this program reads up to 1; install a newer version"),
        (lambda h: h["meta"].update(more=[1, {}]), None),
    ],
)
def test_a_header_is_checked_at_its_bounds(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], sentence: str | None
) -> None:
    save_checkpoint(tmp_path / "m", made())
    edit(tmp_path / "m", change)
    if sentence is None:
        assert describe_checkpoint(tmp_path / "m").labels[1:] in (("b", "c"), ("glad", "sad"))
        return
    with pytest.raises(CheckpointError, match=sentence):
        describe_checkpoint(tmp_path / "m")


def test_what_is_no_description_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path / "m", made())
    file = tmp_path / "m" / "model.json"
    text = file.read_text(encoding="utf-8")
    for content, sentence in (
        ("[1]", "is not the description of a checkpoint"),
        (text.replace('"meta": {', '"meta": {"f1": NaN,'), "NaN is no number"),
        ("[" * 100_000, "can't be read as JSON"),
    ):
        file.write_text(content, encoding="utf-8")
        with pytest.raises(CheckpointError, match=sentence):
            describe_checkpoint(tmp_path / "m")
    file.write_text(text, encoding="utf-8")
    monkeypatch.setattr("model.header.MOST_BYTES", len(text.encode()) - 1)
    with pytest.raises(CheckpointError, match="it has more than 0 MB"):
        describe_checkpoint(tmp_path / "m")
    monkeypatch.setattr("model.header.MOST_BYTES", len(text.encode()))
    assert describe_checkpoint(tmp_path / "m").name == "test"
    file.unlink()
    file.mkdir()
    with pytest.raises(CheckpointError, match="model.json is missing, or no file"):
        describe_checkpoint(tmp_path / "m")


def test_numbers_beyond_all_measure_are_neither_written_nor_read(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    for value, fine in ((1e9, True), (-1e9, True), (1.1e9, False), (-1.1e9, False)):
        checkpoint = made()
        with torch.no_grad():
            checkpoint.network.fine.bias[1] = value
        if fine:
            save_checkpoint(folder, checkpoint)
            assert load_checkpoint(folder).network.fine.bias[1] == value
        else:
            with pytest.raises(CheckpointError, match=r"fine\.bias holds values.* beyond all measure"):
                save_checkpoint(folder, checkpoint)
    save_checkpoint(folder, made())
    fingerprint = describe_checkpoint(folder).fingerprint
    tensors = load_file(folder / "model.safetensors")
    for name, value, sentence in (
        ("fine.bias", 2e9, "beyond all measure"),
        ("std_text", 0.0, "deviations that are not positive"),
        ("fine.bias", 0.125, "is not what was saved"),
    ):
        changed = {n: t.clone() for n, t in tensors.items()}
        changed[name][1] = value
        save_file(changed, folder / "model.safetensors", metadata={"fingerprint": fingerprint})
        with pytest.raises(CheckpointError, match=sentence):
            load_checkpoint(folder)
    save_file(
        {n: t.double() for n, t in tensors.items()}, folder / "model.safetensors",
        metadata={"fingerprint": fingerprint},
    )  # fmt: skip
    with pytest.raises(CheckpointError, match="not finite numbers"):
        load_checkpoint(folder)


def test_labels_are_plausible_from_a_probability_on() -> None:
    calibration: dict[str, dict[str, Any]] = {
        "text+audio": {"fine": {"temperature": 1.0, "plausible_from": 0.25}},
        "text": {"fine": {"temperature": 1.0, "plausible_from": 0.9}},
        "audio": {"coarse": {"temperature": 1.0}},
    }
    fine = np.array(
        [
            [0.5, 0.25, 0.25 * (1 - 9e-6)],  # as good as 0.25: other kernels round otherwise
            [0.5, 0.26, 0.25 * (1 - 2e-5)],
            [0.4, 0.35, 0.25],
            [0.8, 0.1, 0.1],
        ],
        np.float32,
    )
    present = np.array([[1, 1], [1, 1], [1, 0], [0, 1]], bool)
    found = plausible_sets(calibration, fine, present, ("text", "audio"))
    assert found.tolist() == [[True, True, True], [True, True, False], [True, False, False], [False] * 3]
