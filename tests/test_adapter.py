"""The text adapter: which sentences are taken, and that training it changes the vectors and resumes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from annotator.encode import make_encoder
from tests.tiny_models import make_roberta
from train.adapter import (
    ADAPTER,
    AdapterSettings,
    emorynlp,
    goemotions,
    line_key,
    sentence_sets,
    teach,
    train_adapter,
)
from train.adapter import dialogues as second_stage
from train.adapter.dialogues import Garble
from train.adapter.encoder import TrainedEncoder
from train.corpus import load_corpus
from train.prepare import prepare
from train.resume import save_state

TINY = AdapterSettings(
    network_epochs=1,
    rank=2,
    sentence_epochs=1,
    dialogue_epochs=2,
    sentence_batch=8,
    dialogue_batch=4,
    word_errors=0.5,
    limit=24,
)


@pytest.fixture(scope="module")
def dialogues(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of the layouts of GoEmotions, EmoryNLP and MELD."""
    root = tmp_path_factory.mktemp("dialogues")
    go, emory, meld = (root / name for name in ("goemotions", "emorynlp", "meld"))
    for folder in (go, emory, meld):
        folder.mkdir()
    (go / "emotions.txt").write_text("joy\nanger\namusement\nneutral\n")
    lines = ['I "love" it [NAME]\t0,2\tx', "I hate it\t1\tx", "it is a table\t3\tx"]
    for split in ("train", "dev", "test"):
        (go / f"{split}.tsv").write_text("\n".join(lines * 4))
    rows = [
        (0, "I told you not to open that door", "Mad"),
        (0, "Hi", "Joyful"),
        (1, "We are going to the zoo today", "Joyful"),
        (1, "Hi", "Neutral"),
    ]
    columns = ("Dialogue_ID", "Utterance", "Emotion")
    pl.DataFrame(rows, schema=columns, orient="row").write_csv(emory / "train.csv")
    said = {
        "joy": "What a wonderful day",
        "anger": "Leave me alone you fool",
        "neutral": "The bus leaves at nine",
    }
    for split in ("train", "dev", "test"):
        table = [
            {
                "Sr No.": 1 + 4 * d + u,
                "Utterance": said[emotion],
                "Speaker": ("Ann", "Bob")[u % 2],
                "Emotion": emotion,
                "Sentiment": {"joy": "positive", "anger": "negative"}.get(emotion, "neutral"),
                "Dialogue_ID": d,
                "Utterance_ID": u,
                "Season": 1,
                "Episode": 1,
                "StartTime": "00:00:01,000",
                "EndTime": "00:00:02,000",
            }
            for d in range(8 if split == "train" else 2)
            for u, emotion in enumerate(("joy", "anger", "neutral", "joy"))
        ]
        pl.DataFrame(table).write_csv(meld / f"{split}_sent_emo.csv")
    return root


def test_comments_keep_all_their_emotions(dialogues: Path) -> None:
    found = goemotions(dialogues / "goemotions")
    assert found.texts[:3] == ('I "love" it Alex', "I hate it", "it is a table") and len(found.texts) == 36
    assert found.labels[:3].tolist() == [[1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]]


def test_scenes_that_share_a_line_with_held_out_text_are_left_out(dialogues: Path) -> None:
    found = emorynlp(dialogues / "emorynlp", ["I told you NOT to open that door!", "Hi"])
    assert found.texts == ("We are going to the zoo today", "Hi")
    assert line_key("Hi there") is None


def test_joint_training_resumes_to_the_same_vectors(
    dialogues: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = tmp_path / "corpus"
    prepare("meld", dialogues / "meld", corpus)
    sets = sentence_sets(load_corpus(corpus), dialogues)
    best = train_adapter(corpus, sets, tmp_path / "whole", TINY, progress=False)
    assert 0 <= best["accuracy"] <= 1

    keep, calls = save_state, []

    def stop_after_the_first_dialogue_epoch(path: Path, state: dict[str, object], asked: str) -> None:
        keep(path, state, asked)
        calls.append(path.name)
        if path.name == "dialogues.safetensors":
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(second_stage, "save_state", stop_after_the_first_dialogue_epoch)
        with pytest.raises(KeyboardInterrupt):
            train_adapter(corpus, sets, tmp_path / "stopped", TINY, progress=False)
    assert calls == ["best.safetensors", "dialogues.safetensors"]
    assert (tmp_path / "stopped.work" / "sentences.safetensors").exists()
    assert not (tmp_path / "stopped").exists()
    assert train_adapter(corpus, sets, tmp_path / "stopped", TINY, progress=False)["loss"] == best["loss"]
    spec = {"name": "minilm", "adapter": ADAPTER}
    vectors = [
        make_encoder("text", spec, tmp_path / name, "cpu").encode_texts(["I am so angry"])  # type: ignore[attr-defined]
        for name in ("whole", "stopped")
    ]
    np.testing.assert_array_equal(vectors[0], vectors[1])
    plain = make_encoder("text", {"name": "minilm"}, None, "cpu").encode_texts(["I am so angry"])  # type: ignore[attr-defined]
    assert np.abs(vectors[0] - plain).max() > 1e-3


def test_a_teacher_labels_what_nobody_has_and_the_small_one_learns_it(
    dialogues: Path, tmp_path: Path
) -> None:
    corpus = tmp_path / "corpus"
    prepare("meld", dialogues / "meld", corpus)
    sets = sentence_sets(load_corpus(corpus), dialogues)
    settings = replace(TINY, taught_epochs=2, taught_batch=8, limit=None)
    teachers = [make_roberta(tmp_path / "roberta")] * 2
    taught = teach(load_corpus(corpus), sets, teachers, tmp_path / "taught", settings, progress=False)
    assert {s.name for s in taught.sets} == {"corpus", "emorynlp"}
    assert set(taught.beliefs) >= {"What a wonderful day", 'I "love" it Alex', "Hi"}
    for known in (*taught.beliefs.values(), *(row for s in taught.sets for row in s.labels)):
        assert known.sum() == pytest.approx(1, abs=1e-3) and (known >= 0).all()
    own = taught.sets[0]
    joy = own.labels[own.texts.index("What a wonderful day")]
    assert joy[load_corpus(corpus).labels.index("joy")] > 0.15, "the true label keeps its share"

    # What the teachers said stays on disk, and the trained checkpoint differs from one that was not taught.
    again = teach(load_corpus(corpus), sets, teachers, tmp_path / "taught", settings, progress=False)
    np.testing.assert_array_equal(again.beliefs["Hi"], taught.beliefs["Hi"])
    alone = train_adapter(corpus, sets, tmp_path / "alone", TINY, progress=False)
    found = train_adapter(corpus, sets, tmp_path / "student", TINY, taught=taught, progress=False)
    assert found["loss"] != alone["loss"]


def test_an_adapter_of_full_rank_keeps_what_was_learned() -> None:
    encoder = TrainedEncoder(AdapterSettings(rank=384))
    with torch.no_grad():
        for weight in encoder.trained.values():
            weight.add_(0.01 * torch.randn(weight.shape))
    before = encoder.text.encode_texts(["I hate you", "a table"])
    encoder.to_adapter()
    np.testing.assert_allclose(encoder.text.encode_texts(["I hate you", "a table"]), before, atol=1e-4)


def test_garbled_dialogues_lose_marks_that_no_recogniser_writes() -> None:
    garble = Garble(["other"], 1.0, np.random.default_rng(0))
    said = " ".join(str(text) for text in garble(["Oh!!! Why?! HELP... Wait…"] * 200))
    assert said.count("!") < 150 and said.count("Why?") > 100 and said.count("Help.") > 100


def test_garbled_words_come_from_the_vocabulary() -> None:
    text = " ".join(["word"] * 2000)
    garbled = str(Garble(["other"], 1.0, np.random.default_rng(0))([text])[0]).split()
    assert set(garbled) == {"word", "other"}
    assert 0.03 < 1 - len(garbled) / 2000 < 0.09
    assert 0.07 < garbled.count("other") / 2000 < 0.13
    assert Garble(["other"], 0.0, np.random.default_rng(0))([text]) == [text]
