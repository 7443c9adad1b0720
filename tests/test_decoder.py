"""Language models that write, as text encoders: tiny ones of three families, with random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from annotator.encode import check_encoder, make_encoder
from annotator.encode.adapters import Projection
from annotator.encode.decoder import DecoderEncoder
from annotator.encode.weights import is_decoder
from annotator.records import Evidence, SetupError, UsageError, Utterance
from tests.tiny_models import make_decoder, make_roberta
from train.finetune.text import save_text_adapter, spec_with_adapter, trainable_encoder
from train.joint import encode_present

NOTHING = Evidence(None, None)


@pytest.fixture(scope="module", params=["qwen2", "llama", "gemma2"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_decoder(tmp_path_factory.mktemp("models") / request.param, request.param)


def encoder(folder: Path, **spec: object) -> DecoderEncoder:
    described = {"name": "hf", "path": str(folder), "precision": "float32", **spec}
    assert check_encoder("text", described, None) == 32
    made = make_encoder("text", described, None, "cpu")
    assert isinstance(made, DecoderEncoder)
    return made


def talk(count: int, dialogue: int = 0) -> list[Utterance]:
    texts = [None if i == 3 else f"Line {i}, my dear." for i in range(count)]
    return [
        Utterance(dialogue, i, float(i), i + 1.0, ("Ann", "Bob", "Cy")[i % 3], 0.0, text)
        for i, text in enumerate(texts)
    ]


def test_the_prompt_holds_names_and_the_dialogue_so_far(folder: Path) -> None:
    texts = encoder(folder, context=2).texts([*talk(6), *talk(1, dialogue=1)])
    assert texts[0] == "A conversation:\nAnn: Line 0, my dear.\nIn one word, Ann feels"
    assert texts[3] is None
    assert texts[5] == "\n".join(
        [
            "A conversation:",
            "Cy: Line 2, my dear.",
            "Bob: Line 4, my dear.",
            "Cy: Line 5, my dear.",
            "In one word, Cy feels",
        ]
    )
    assert texts[6] == texts[0]


def test_a_name_of_several_lines_stays_in_its_line(folder: Path) -> None:
    odd = Utterance(0, 0, 0.0, 1.0, "Ann\nBob: hi", 0.0, "One\ntwo.")
    (text,) = encoder(folder).texts([odd])
    assert text is not None and text.count("\n") == 2 and "Ann Bob: hi: One two.\n" in text


def test_lines_that_are_kept_change_nothing(folder: Path) -> None:
    """Keys and values of earlier lines are used again, over dialogues, gaps and prompts that are too long."""
    lines = [*talk(9), *talk(4, dialogue=1), *talk(2)]
    long = Utterance(2, 0, 0.0, 1.0, "Ann", 0.0, "word " * 1500)
    read = encoder(folder, context=2)
    found = read(NOTHING, [*lines, long, *talk(2, dialogue=2)])
    assert found.present.tolist() == [u.text is not None for u in [*lines, long, *talk(2)]]
    texts = read.texts([*lines, long, *talk(2, dialogue=2)])
    alone = read.encode_texts([text for text in texts if text is not None])
    np.testing.assert_allclose(found.values[found.present], alone, atol=2e-5)
    assert not found.values[~found.present].any()
    assert np.abs(alone - alone[0]).max() > 0.01
    assert len(read._ids(texts[len(lines)] or "")) == 1024


def test_the_prompt_keeps_its_first_token_and_its_opening(folder: Path) -> None:
    read = encoder(folder, context=2)
    opening = read.tokenizer("A conversation:", add_special_tokens=False)["input_ids"]
    first = [] if read.tokenizer.bos_token_id is None else [read.tokenizer.bos_token_id]
    for words in (1, 400, 1500):
        lines = [Utterance(0, i, 0.0, 1.0, "Ann", 0.0, "word " * words) for i in range(3)]
        ids = read._ids(read.texts(lines)[2] or "")
        assert ids[: len(first) + len(opening)] == first + opening and len(ids) <= 1024
        question = read._of_line("In one word, Ann feels")
        assert ids[-len(question) :] == question
    control = read.tokenizer.sep_token
    assert read.tokenizer.sep_token_id not in read._ids(f"A conversation:\nAnn: {control}\n")


def test_a_projection_moves_every_kind_of_vector(folder: Path) -> None:
    for pool in ("last", "mean"):
        read = encoder(folder, pool=pool)
        read.projection = Projection(32)
        with torch.no_grad():
            read.projection.weight.zero_()
            read.projection.bias.fill_(7)
        assert (read(NOTHING, talk(2)).values == 7).all() and (read.encode_texts(["Hi\n"]) == 7).all()


def test_layer_pool_and_precision(folder: Path) -> None:
    text = ["A conversation:\nAnn: Hello.\nIn one word, Ann feels"]
    full, first, mean, half = (
        encoder(folder, **spec) for spec in ({}, {"layer": 1}, {"pool": "mean"}, {"precision": "bfloat16"})
    )
    assert len({e.fingerprint for e in (full, first, mean, half)}) == 4
    reference = full.encode_texts(text)
    assert (encoder(folder, layer=3).encode_texts(text) == reference).all()
    for other in (first, mean):
        assert np.abs(other.encode_texts(text) - reference).max() > 1e-3
    assert len(first.module.layers) == 1  # type: ignore[arg-type]
    lines = [text for text in first.texts(talk(6)) if text is not None]
    kept = first(NOTHING, talk(6))
    np.testing.assert_allclose(kept.values[kept.present], first.encode_texts(lines), atol=2e-5)
    assert 0 < np.abs(half.encode_texts(text) - reference).max() < 0.2
    with_context = talk(4)
    np.testing.assert_allclose(
        mean(NOTHING, with_context).values[0],
        mean.encode_texts([mean.texts(with_context)[0] or ""])[0],
        atol=1e-5,
    )


def test_what_can_not_be(folder: Path, tmp_path: Path) -> None:
    for spec in ({"layer": 0}, {"layer": "2"}, {"pool": "max"}, {"precision": "int4"}):
        with pytest.raises(UsageError):
            encoder(folder, **spec)
    with pytest.raises(SetupError, match="no layer 4; it has 3"):
        make_encoder("text", {"name": "hf", "path": str(folder), "layer": 4}, None, "cpu")
    roberta = make_roberta(tmp_path / "roberta")
    assert is_decoder(folder) and not is_decoder(roberta) and not is_decoder(tmp_path)
    with pytest.raises(UsageError, match="has layer only where it is a language model"):
        make_encoder("text", {"name": "hf", "path": str(roberta), "layer": 1}, None, "cpu")


def test_an_adapter_learns_on_it_and_comes_back(folder: Path, tmp_path: Path) -> None:
    spec = {"name": "hf", "path": str(folder), "context": 2, "precision": "float32"}
    trained = trainable_encoder(spec, tmp_path, "cpu", rank=2, seed=0)
    dialogues = [talk(4), talk(3, dialogue=1)]
    texts = [text for d in dialogues for text in trained.texts(d)]
    adapter = [p for p in trained.module.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(adapter, lr=1.0)
    for _ in range(5):  # the second half of a new adapter is zero at first
        vectors, present = encode_present(trained, texts)
        assert present.tolist() == [True, True, True, False, True, True, True]
        optimizer.zero_grad()
        vectors.square().sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    vectors_then = trained.encode_texts([text for text in texts if text is not None])
    save_text_adapter(trained, tmp_path)
    loaded = make_encoder("text", spec_with_adapter(spec), tmp_path, "cpu")
    found = np.concatenate([loaded(NOTHING, d).values for d in dialogues])
    np.testing.assert_allclose(found[[text is not None for text in texts]], vectors_then, atol=1e-3)
    fresh = encoder(folder, context=2)
    assert np.abs(found - np.concatenate([fresh(NOTHING, d).values for d in dialogues])).max() > 0.02
