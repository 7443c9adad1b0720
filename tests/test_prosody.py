"""Voice measurements beside MELD's text: joined by key, relative to the speaker, missing where missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from annotator.records import UsageError
from tests.test_prepare import meld_folder
from train.prepare import prepare
from train.prepare.meld import read
from train.prepare.prosody import KEY, MEASURES, WIDTH, read_prosody

HEAD = ",".join((*KEY, *MEASURES)) + "\n"
ROWS = (
    "train,0,0,2.0,60,5,120,20,100,4,6\n"
    "train,0,3,1.0,70,5,,0,0,,8\n"  # unvoiced: no pitch, no syllables
    "test,0,0,3.0,65,5,200,20,100,4,6\n"
    "train,2,0,1.0,66,5,150,20,100,5,6\n"
)


def measured(folder: Path, text: str = HEAD + ROWS) -> Path:
    file = folder / "prosody.csv"
    file.write_text(text)
    return file


def test_a_row_takes_its_own_measures_and_an_unmeasured_one_is_absent(tmp_path: Path) -> None:
    source = read(meld_folder(tmp_path / "meld"), prosody=measured(tmp_path))
    voice = source.features["audio"]
    # train 0-0, 0-3, 2-0, then dev, which has no row, and test
    assert voice.present.tolist() == [True, True, True, False, True]
    assert voice.values.shape == (5, WIDTH) and np.isfinite(voice.values).all()
    np.testing.assert_allclose(voice.values[0, :2], [np.log(2), 60], rtol=1e-6)
    assert voice.values[1, 3] == pytest.approx((120 + 150) / 2)  # the training mean
    assert not voice.values[3].any()
    # Each speaker of these dialogues says one line: nothing to be measured against.
    np.testing.assert_allclose(voice.values[:, len(MEASURES) :], 0, atol=1e-5)


def test_relative_measures_are_less_the_speakers_mean(tmp_path: Path) -> None:
    source = read(meld_folder(tmp_path / "meld"), prosody=measured(tmp_path))
    one = source.table.with_columns(speaker=source.table["speaker"].replace("The Interviewer", "Chandler"))
    voice = read_prosody(tmp_path / "prosody.csv", one)
    np.testing.assert_allclose(voice.values[:2, len(MEASURES) + 1], [-5, 5], rtol=1e-6)


def test_it_becomes_the_voice_of_the_corpus(tmp_path: Path) -> None:
    corpus = prepare("meld", meld_folder(tmp_path / "meld"), tmp_path / "out", prosody=measured(tmp_path))
    assert set(corpus.modalities) == {"text", "audio"}
    assert corpus.header.encoders["audio"] == {"name": "prosody"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD.replace("avg_pitch", "pitch") + ROWS, "no column avg_pitch"),
        (HEAD + ROWS.replace("200", "high"), "is no number"),
    ],
)
def test_faulty_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read(meld_folder(tmp_path / "meld"), prosody=measured(tmp_path, text))
