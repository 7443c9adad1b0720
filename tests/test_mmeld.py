"""M-MELD: subtitles in other languages beside MELD's labels."""

from __future__ import annotations

from pathlib import Path

import pytest

from annotator.records import UsageError
from train.prepare import mmeld

HEAD = "Dialogue_ID,Utterance_ID,Speaker,Emotion,Sentiment,Text\n"
ENGLISH = "Dialogue_ID,Utterance_ID,Speaker,Emotion,Sentiment,Utterance\n"


def subtitles(folder: Path, language: str, text: str) -> None:
    for ending in ("train", "dev", "test"):
        rows = f"3,0,Ann,joy,positive,{text}\n3,4,Bob,anger,negative,Non!\n"
        (folder / f"{language}_{ending}.csv").write_text(HEAD + rows, "utf-8")


def test_languages_stand_side_by_side(tmp_path: Path) -> None:
    subtitles(tmp_path, "fr", "Ça va !")
    subtitles(tmp_path, "es", "¿Qué tal?")
    english = tmp_path / "meld"
    english.mkdir()
    for split in ("train", "dev", "test"):
        (english / f"{split}_sent_emo.csv").write_text(ENGLISH + "3,0,Ann,joy,positive,How are you?\n")
    found = mmeld.read(tmp_path, english=english)
    train = found.table.filter(found.table["split"] == "train")
    assert train["dialogue_id"].to_list() == ["en-train-3"] + ["es-train-3"] * 2 + ["fr-train-3"] * 2
    assert train["language"].to_list() == ["en", "es", "es", "fr", "fr"]
    assert train["text"].to_list() == ["How are you?", "¿Qué tal?", "Non!", "Ça va !", "Non!"]
    assert train["source_utterance_id"].to_list() == [0, 0, 4, 0, 4]
    assert found.table["split"].n_unique() == 3
    without = mmeld.read(tmp_path)
    assert set(without.table["language"]) == {"es", "fr"}


def test_faults_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no language: .* such as fr_train.csv"):
        mmeld.read(tmp_path)
    subtitles(tmp_path, "fr", "Ça va !")
    (tmp_path / "fr_dev.csv").unlink()
    with pytest.raises(UsageError, match=r"fr_dev\.csv"):
        mmeld.read(tmp_path)


def test_the_published_subtitles(shared: Path) -> None:
    folder = shared / "dialogues"
    if not (folder / "mmeld").is_dir():
        pytest.skip("no M-MELD in ../shared/data")
    table = mmeld.read(folder / "mmeld", english=folder / "meld").table
    counts = {
        language: [table.filter(language=language, split=s).height for s in ("train", "validation", "test")]
        for language in ("en", "es", "fr")
    }
    assert counts["en"] == [9989, 1109, 2610]
    assert sum(counts["fr"]) == 9699 and sum(counts["es"]) == 10_063
