"""Texts that an encoder can't have learned to read count as absent, and say so."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from annotator.encode import as_read, make_encoder
from annotator.predict import Predictor
from annotator.records import Evidence, SetupError, Utterance
from annotator.weights import STARTER
from model import load_checkpoint, save_checkpoint
from tests.media import subtitles, talk

MINILM, E5 = {"name": "minilm"}, {"name": "e5"}


def say(text: str | None) -> Utterance:
    return Utterance(0, 0, 0.0, 1.0, "Ann", 0.0, text, flags=("clipped",))


def flags(
    text: str | None, language: str | None, spec: dict[str, str], trained: list[str] | None
) -> list[str]:
    (read,) = as_read([dataclasses.replace(say(text), language=language)], spec, trained)
    assert read.text == text and read.flags[0] == "clipped"
    return list(read.flags[1:])


@pytest.mark.parametrize(
    ("text", "language", "spec", "expected"),
    [
        ("I am so angry!", "en", MINILM, []),
        ("I am so angry!", None, MINILM, []),
        ("Ich bin so wütend!", "de", MINILM, ["text_unread"]),
        ("Я так злюсь!", None, MINILM, ["text_unread"]),
        ("怒っている OK", None, MINILM, ["text_unread"]),
        ("... 42!", None, MINILM, []),
        ("Je suis en colère !", "fr", E5, []),
        ("Ich bin so wütend!", "de", E5, ["language_untested"]),
        ("mi fengu", "jb", E5, ["text_unread"]),
        ("Jeg er så sint på deg!", "nb", E5, ["language_untested"]),
        ("Я так злюсь!", None, E5, []),
        (None, "de", MINILM, []),
        (" ", "de", MINILM, []),
    ],
)
def test_by_language_and_script(
    text: str | None, language: str | None, spec: dict[str, str], expected: list[str]
) -> None:
    assert flags(text, language, spec, ["en", "fr", "es"]) == expected


def test_who_says_nothing_of_languages_is_left_alone() -> None:
    assert flags("Ich bin so wütend!", "de", MINILM, None) == []


def test_what_is_not_read_is_absent_and_no_context_of_others() -> None:
    encoder = make_encoder("text", {**MINILM, "context": 2}, None, "cpu")
    foreign, english = say("Я так злюсь, уходи!"), say("I am so happy")
    read = as_read([foreign, english], MINILM, ["en"])
    features = encoder(Evidence(None, None), read)
    assert features.present.tolist() == [False, True] and not features.values[0].any()
    alone = encoder(Evidence(None, None), [english])
    assert (features.values[1] == alone.values[0]).all()


def test_a_run_keeps_the_words_and_gives_no_label_by_them(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(STARTER)
    spec = {"text": {"name": "minilm"}}
    english = dataclasses.replace(
        checkpoint, encoders=spec, meta={**checkpoint.meta, "text_languages": ["en"]}
    )
    save_checkpoint(tmp_path / "english", english)
    folder = tmp_path / "in"
    folder.mkdir()
    for name, line in {"talk.de": "Ich bin so wütend auf dich!", "other.en": "I am so angry!"}.items():
        stem, _, language = name.partition(".")
        talk(folder / f"{stem}.wav", 3.0)
        subtitles(folder / f"{stem}.{language}.srt", [(0.2, 2.5, line)])
    out = tmp_path / "labels.parquet"
    command = [
        "run",
        folder,
        "--out",
        out,
        "--model",
        tmp_path / "english",
        "--modalities",
        "text",
        "--offline",
    ]
    subprocess.run(
        [sys.executable, "-m", "annotator", *map(str, command), "--workers", "1"],
        check=True,
        capture_output=True,
    )
    rows = {row["file"]: row for row in pl.read_parquet(out).iter_rows(named=True)}
    german, known = rows["talk.wav"], rows["other.wav"]
    assert german["text"] == "Ich bin so wütend auf dich!" and "text_unread" in german["quality"]
    assert "no_evidence" in german["quality"] and not german["has_text"]
    assert "text_unread" not in known["quality"] and known["has_text"]


def test_a_checkpoint_that_names_no_languages_is_refused(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(STARTER)
    bad = dataclasses.replace(checkpoint, encoders={}, meta={"text_languages": ["English"]})
    save_checkpoint(tmp_path / "bad", bad)
    with pytest.raises(SetupError, match=r"no codes of ISO 639-1: mend text_languages"):
        Predictor(tmp_path / "bad")
