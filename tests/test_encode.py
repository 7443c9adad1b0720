"""Encoders on real models: MiniLM from its wheel, openSMILE, a tiny face network that the tests make."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from annotator.encode import EncoderKind, Spec, check_encoder, kinds, make_encoder
from annotator.encode.adapters import save_adapter
from annotator.encode.face import FaceEncoder, FaceNet, FaceNetConfig, face_features
from annotator.encode.precision import has_fast_bf16, mixed_precision
from annotator.encode.text import TextEncoder, contextual_text
from annotator.encode.weights import minilm_folder
from annotator.records import Evidence, SetupError, UsageError
from tests.spoken import say
from tests.tiny_models import make_roberta
from train.joint import encode_trained

NOTHING = Evidence(audio=None, faces=None)


# Specs


@pytest.mark.parametrize(
    ("modality", "spec", "message"),
    [
        ("smell", {"name": "minilm"}, "text, audio, face"),
        ("text", {"name": "egemaps"}, "choose from minilm, e5, hf"),
        ("audio", {}, "choose from egemaps, compare2016"),
        ("audio", {"name": "egemaps", "speaker_nrom": True}, "'speaker_nrom'; its keys are speaker_norm"),
        ("audio", {"name": "egemaps", "speaker_norm": "no"}, "true or false"),
        ("audio", {"name": "egemaps", "weights": "voice.safetensors"}, "lacks its file voice.safetensors"),
        ("audio", {"name": "egemaps", "weights": "../voice.safetensors"}, "beside the checkpoint"),
        ("text", {"name": "hf"}, 'needs "path"'),
        ("text", {"name": "minilm", "context": -1}, "from 0, not -1"),
        ("text", {"name": "minilm", "context": True}, "from 0, not True"),
        ("face", {"name": "facenet"}, 'needs "weights"'),
        ("face", {"name": "facenet", "weights": "faces.safetensors"}, "lacks its file faces.safetensors"),
        ("face", {"name": "facenet", "weights": "../faces.safetensors"}, "beside the checkpoint"),
        ("face", {"name": "facenet", "weights": "/etc/x.safetensors"}, "beside the checkpoint"),
        ("face", {"name": "facenet", "weights": "faces.pt"}, "beside the checkpoint"),
        ("text", {"name": "minilm", "adapter": "..\\a.safetensors"}, "beside the checkpoint"),
        ("text", {"name": "minilm", "adapter": 3}, "beside the checkpoint"),
    ],
)
def test_a_wrong_spec_says_what_would_be_right(
    modality: str, spec: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        make_encoder(modality, spec, tmp_path, "cpu")
    assert message in str(caught.value)


def test_a_link_does_not_lead_out_of_the_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "elsewhere.safetensors").write_bytes(b"")
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "faces.safetensors").symlink_to(tmp_path / "elsewhere.safetensors")
    with pytest.raises(UsageError, match="leads out"):
        make_encoder("face", {"name": "facenet", "weights": "faces.safetensors"}, folder, "cpu")


def test_a_file_needs_a_checkpoint() -> None:
    with pytest.raises(UsageError, match="there is none"):
        make_encoder("face", {"name": "facenet", "weights": "faces.safetensors"}, None, "cpu")


def test_broken_parts_are_a_fault_of_the_set_up(tmp_path: Path) -> None:
    (tmp_path / "faces.safetensors").write_bytes(b"no tensors")
    with pytest.raises(SetupError, match="no face network"):
        make_encoder("face", {"name": "facenet", "weights": "faces.safetensors"}, tmp_path, "cpu")
    save_file({"x": torch.zeros(1)}, tmp_path / "faces.safetensors", metadata={"config": "{}"})
    with pytest.raises(SetupError, match="no face network"):
        make_encoder("face", {"name": "facenet", "weights": "faces.safetensors"}, tmp_path, "cpu")
    (tmp_path / "voice.safetensors").write_bytes(b"no tensors")
    with pytest.raises(SetupError, match="no voice scores"):
        make_encoder("audio", {"name": "egemaps", "weights": "voice.safetensors"}, tmp_path, "cpu")
    with pytest.raises(SetupError, match="no text encoder at"):
        make_encoder("text", {"name": "hf", "path": "nowhere"}, tmp_path, "cpu")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(SetupError, match="does not load"):
        make_encoder("text", {"name": "hf", "path": str(tmp_path)}, None, "cpu")


def broken(spec: Spec, folder: Path | None, device: str) -> Any:
    """An encoder of another package, which fails as it is told, or lacks its width."""
    if spec.get("fault"):
        raise {"key": KeyError("weights"), "usage": UsageError("give it weights")}[spec["fault"]]
    return object()


BROKEN = EncoderKind("audio", broken, ("fault",))


def test_a_fault_of_another_packages_encoder_names_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "strange_voices-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: strange-voices\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{kinds.GROUP}]\nstrange = {__name__}:BROKEN\n")
    monkeypatch.syspath_prepend(tmp_path)
    named = r"'strange' of strange-voices can't be set up \({}.*uninstall the package"
    for use in (check_encoder, lambda modality, spec, folder: make_encoder(modality, spec, folder, "cpu")):
        with pytest.raises(SetupError, match=named.format("KeyError: 'weights'")):
            use("audio", {"name": "strange", "fault": "key"}, None)
        with pytest.raises(UsageError, match="^give it weights$"):
            use("audio", {"name": "strange", "fault": "usage"}, None)
    with pytest.raises(SetupError, match=named.format("AttributeError")):
        check_encoder("audio", {"name": "strange"}, None)


def test_importing_the_stage_is_cheap() -> None:
    heavy = ("torch", "transformers", "opensmile", "cv2", "scipy")
    code = f"import sys, annotator.encode, annotator.faces; print([m for m in {heavy} if m in sys.modules])"
    root = Path(__file__).parents[1]
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert shown.stdout.strip() == "[]"


# Text


@pytest.fixture(scope="module")
def minilm() -> TextEncoder:
    encoder = make_encoder("text", {"name": "minilm"}, None, "cpu")
    assert isinstance(encoder, TextEncoder)
    return encoder


LINES = [
    "You sold my car?",
    "Only a little.",
    "",
    "Get out of my house, now!",
    "I said I am sorry. " * 60,
    "Ok",
]


def test_text_features(minilm: TextEncoder) -> None:
    utterances = [say(None), say("  \n"), *(say(line) for line in LINES)]
    features = minilm(NOTHING, utterances)
    assert features.values.shape == (8, 384) and features.values.dtype == np.float32
    assert features.present.tolist() == [False, False, True, True, False, True, True, True]
    assert not features.values[~features.present].any()
    assert (np.linalg.norm(features.values[features.present], axis=1) > 1).all()
    again = minilm(NOTHING, utterances)
    assert np.array_equal(features.values, again.values)
    assert minilm(NOTHING, []).values.shape == (0, 384)


def test_text_features_do_not_depend_on_batch_mates(minilm: TextEncoder) -> None:
    texts = [line for line in LINES if line]
    together = minilm.encode_texts(texts * 10)
    alone = np.concatenate([minilm.encode_texts([text]) for text in texts])
    assert np.abs(together.reshape(10, len(texts), -1) - alone).max() < 1e-5


def test_texts_are_batched_by_length_within_a_budget(minilm: TextEncoder) -> None:
    batches = minilm.batches(LINES * 5, 64)
    assert sorted(row for rows in batches for row in rows) == list(range(len(LINES) * 5))
    for rows in batches:
        width = minilm.tokenize([(LINES * 5)[row] for row in rows])["input_ids"].shape[1]
        assert len(rows) * width <= 64 or len(rows) == 1
    assert len(batches) > 5 and minilm.batches([], 64) == []


def test_vectors_with_gradients_are_those_without(minilm: TextEncoder) -> None:
    texts = [text for text in LINES if text] * 20
    found = encode_trained(minilm, texts)
    assert found.requires_grad
    near = 0.05 if has_fast_bf16(torch.device("cpu")) else 1e-4
    assert np.abs(found.detach().numpy() - minilm.encode_texts(texts)).max() < near


def test_similar_texts_are_near(minilm: TextEncoder) -> None:
    a, b, c = minilm.encode_texts(
        ["I am so angry at you!", "You make me furious!", "The train leaves at nine."]
    )

    def cosine(x: NDArray[np.float32], y: NDArray[np.float32]) -> float:
        return float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))

    assert cosine(a, b) > cosine(a, c) + 0.2


def test_long_texts_keep_their_end(minilm: TextEncoder) -> None:
    tokens = minilm.tokenize(["first " + "word " * 300 + "last", "short"])
    assert tokens["input_ids"].shape == (2, 128)
    shown = minilm.tokenizer.decode(tokens["input_ids"][0], skip_special_tokens=True)
    assert shown.endswith("last") and not shown.startswith("first")


def test_context_is_written_out() -> None:
    talk = [
        say("Long ago", "C", dialogue=0),
        say("You sold my car? ", "Ann", dialogue=1),
        say("Only a little.", "Bob", dialogue=1),
        say(None, "Ann", dialogue=1),
        say("Who are you?", "Cy", dialogue=1),
        say("Sorry!", "Bob", dialogue=1),
    ]
    assert contextual_text(talk, 5, 0) == "Sorry!"
    assert contextual_text(talk, 5, 2) == "I: Only a little.\nA: Who are you?\nI: Sorry!"
    assert contextual_text(talk, 5, 9) == "A: You sold my car?\nI: Only a little.\nB: Who are you?\nI: Sorry!"
    assert contextual_text(talk, 1, 3) == "I: You sold my car?"
    assert contextual_text(talk, 3, 3) is None
    renamed = [replace(u, speaker={"Ann": "x", "Bob": "y", "Cy": "z", "C": "w"}[u.speaker]) for u in talk]
    assert contextual_text(renamed, 5, 9) == contextual_text(talk, 5, 9)


def test_many_speakers_in_a_context() -> None:
    talk = [say("hm", f"S{i}") for i in range(40)]
    text = contextual_text(talk, 39, 39)
    assert text is not None and text.count("\n") == 39 and "I: hm" == text.splitlines()[-1]
    assert text.count("I: ") == 1


def test_an_adapter_comes_back_as_it_was_saved(minilm: TextEncoder, tmp_path: Path) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    trained = TextEncoder("minilm", minilm_folder())
    config = LoraConfig(r=2, lora_alpha=4, target_modules=["query", "value"])
    inject_adapter_in_model(config, trained.module)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weights in trained.module.named_parameters():
            if "lora_" in name:
                weights.copy_(torch.randn(weights.shape, generator=generator) * 0.1)
    texts = [line for line in LINES if line]
    expected = trained.encode_texts(texts)
    assert np.abs(expected - minilm.encode_texts(texts)).max() > 0.01
    save_adapter(trained.module, config, tmp_path / "text.safetensors")
    spec = {"name": "minilm", "adapter": "text.safetensors", "context": 1}
    loaded = make_encoder("text", spec, tmp_path, "cpu")
    assert isinstance(loaded, TextEncoder)
    assert np.abs(loaded.encode_texts(texts) - expected).max() < 1e-4
    assert loaded.fingerprint != minilm.fingerprint
    talk = [say("You sold my car?", "B"), say("Only a little.")]
    assert np.abs(loaded(NOTHING, talk).values[1] - loaded.encode_texts([talk[1].text or ""])[0]).max() > 0.01

    save_file(
        {"x": torch.zeros(1)},
        tmp_path / "other.safetensors",
        metadata={"config": json.dumps({"r": 2, "target_modules": ["query"]})},
    )
    with pytest.raises(SetupError, match="no adapter of this text encoder"):
        make_encoder("text", {"name": "minilm", "adapter": "other.safetensors"}, tmp_path, "cpu")


def test_training_reaches_the_text_encoder(minilm: TextEncoder) -> None:
    pooled = minilm.pool(minilm.tokenize(["I am sorry.", "Get out!"]))
    assert np.abs(pooled.detach().numpy() - minilm.encode_texts(["I am sorry.", "Get out!"])).max() < 1e-5
    pooled.sum().backward()  # type: ignore[no-untyped-call]
    assert any(weights.grad is not None for weights in minilm.module.parameters())
    minilm.module.zero_grad()


def test_any_hugging_face_encoder(tmp_path: Path, minilm: TextEncoder) -> None:
    make_roberta(tmp_path / "roberta")
    encoder = make_encoder("text", {"name": "hf", "path": "roberta"}, tmp_path, "cpu")
    features = encoder(NOTHING, [say("Hello"), say(None)])
    assert features.values.shape == (2, 24) and features.present.tolist() == [True, False]
    assert encoder.width == 24 and encoder.fingerprint != minilm.fingerprint


def test_text_fingerprint_is_stable(minilm: TextEncoder) -> None:
    assert len(minilm.fingerprint) == 16 and int(minilm.fingerprint, 16) >= 0
    other = TextEncoder.__new__(TextEncoder)
    other.__dict__.update(minilm.__dict__)
    other.__dict__.pop("fingerprint")
    assert other.fingerprint == minilm.fingerprint
    other.__dict__.pop("fingerprint")
    other.context = 1
    assert other.fingerprint != minilm.fingerprint


# Faces


@pytest.fixture(scope="module")
def face_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder with a tiny face network."""
    folder = tmp_path_factory.mktemp("checkpoint")
    torch.manual_seed(0)
    config = FaceNetConfig(growth=8, blocks=(1, 2), stem=8)
    net = FaceNet(config)
    save_file(
        net.state_dict(), folder / "faces.safetensors", metadata={"config": json.dumps(config.as_json())}
    )
    return folder


def crops(n: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 255, (n, 48, 48), np.uint8)


def test_face_features(face_folder: Path) -> None:
    encoder = make_encoder("face", {"name": "facenet", "weights": "faces.safetensors"}, face_folder, "cpu")
    groups = (crops(3), crops(0), crops(70, 1), crops(3), crops(3)[:, :, ::-1])
    utterances = [say(None)] * 5
    features = encoder(Evidence(None, groups), utterances)
    assert features.values.shape == (5, encoder.width) and features.present.tolist() == [
        True,
        False,
        True,
        True,
        True,
    ]
    assert not features.values[1].any() and np.isfinite(features.values).all()
    assert np.array_equal(features.values[0], features.values[3])
    assert features.values[4] == pytest.approx(features.values[0], abs=1e-6), (
        "a mirror image is the same face"
    )
    assert not np.array_equal(features.values[0], features.values[2])
    assert encoder(Evidence(None, None), utterances).present.sum() == 0
    assert encoder(Evidence(None, ()), []).values.shape == (0, encoder.width)
    with pytest.raises(ValueError, match="5 groups of crops for 1"):
        encoder(Evidence(None, groups), utterances[:1])


def test_face_features_are_the_same_to_the_bit_in_any_company(face_folder: Path) -> None:
    encoder = FaceEncoder(face_folder / "faces.safetensors")
    groups = [crops(n, n) for n in (1, 5, 40, 2)]
    together = face_features(encoder.net, groups)
    for i, group in enumerate(groups):
        assert np.array_equal(face_features(encoder.net, [group])[0], together[i])
    assert np.array_equal(face_features(encoder.net, groups[::-1]), together[::-1])


def test_face_features_mean_what_the_network_says(face_folder: Path) -> None:
    encoder = FaceEncoder(face_folder / "faces.safetensors")
    group = crops(4)
    from annotator.encode.face import standardise

    with torch.no_grad():
        x = torch.from_numpy(standardise(group))
        expected = ((encoder.net.features(x) + encoder.net.features(x.flip(-1))) / 2).mean(0).numpy()
    found = face_features(encoder.net, [group])[0]
    assert np.abs(found - expected).max() < 0.03 * np.abs(expected).max(), "bf16 where the processor has it"


def test_face_fingerprint_follows_the_weights(face_folder: Path, tmp_path: Path) -> None:
    encoder = FaceEncoder(face_folder / "faces.safetensors")
    weights = {name: value.contiguous() for name, value in encoder.net.state_dict().items()}
    metadata = {"config": json.dumps(encoder.net.config.as_json())}
    save_file(weights, tmp_path / "same.safetensors", metadata=metadata)
    assert FaceEncoder(tmp_path / "same.safetensors").fingerprint == encoder.fingerprint
    weights["densenet.classifier.bias"] += 1
    save_file(weights, tmp_path / "other.safetensors", metadata=metadata)
    assert FaceEncoder(tmp_path / "other.safetensors").fingerprint != encoder.fingerprint


@pytest.mark.parametrize("has", [True, False])
def test_bf16_only_where_the_processor_has_it(has: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Emulated, it makes training a text encoder 17 times slower."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": has})
    weight = torch.eye(4)
    with mixed_precision(torch.device("cpu")):
        assert (weight @ weight).dtype == (torch.bfloat16 if has else torch.float32)
    with mixed_precision(torch.device("cpu"), enabled=False):
        assert (weight @ weight).dtype == torch.float32
