"""The corpus on disk: what is written is read back; every fault is a sentence with file, row and remedy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from annotator.records import SENTIMENTS, Features, UsageError
from tests.corpora import LABELS, WIDTHS, synthetic_corpus, synthetic_features, synthetic_rows
from train.corpus import UNLABELLED, load_corpus, split_name, write_corpus


def test_round_trip(tmp_path: Path) -> None:
    rows = synthetic_rows((5, 2, 3))
    features = synthetic_features(rows)
    write_corpus(tmp_path / "c", rows, LABELS, features, encoders={"text": {"name": "minilm"}})
    corpus = load_corpus(tmp_path / "c")
    assert corpus.splits == ("train", "validation", "test") and corpus.modalities == tuple(WIDTHS)
    assert corpus.header.encoders == {"text": {"name": "minilm"}}
    assert corpus.header.counts["train"].dialogues == 5
    seen = 0
    for split in corpus.splits:
        for labelled in corpus.conversations(split):
            at = slice(labelled.first_row, labelled.first_row + len(labelled))
            assert set(rows["split"][at]) == {split} and set(rows["dialogue_id"][at]) == {
                labelled.dialogue_id
            }
            assert [LABELS[i] for i in labelled.fine] == rows["emotion"][at].to_list()
            assert [SENTIMENTS[i] for i in labelled.coarse] == rows["sentiment"][at].to_list()
            # Speakers are numbered in order of appearance.
            names = rows["speaker"][at].to_list()
            order = list(dict.fromkeys(names))
            assert labelled.conversation.speakers.tolist() == [order.index(name) for name in names]
            for modality, known in labelled.conversation.features.items():
                assert np.array_equal(known.values, features[modality].values[at])
                assert np.array_equal(known.present, features[modality].present[at])
            seen += len(labelled)
    assert seen == rows.height
    assert isinstance(corpus.features["text"].values, np.memmap)


def test_unlabelled_and_fixed_speakers(tmp_path: Path) -> None:
    rows = pl.DataFrame(
        {
            "split": ["train"] * 3,
            "dialogue_id": ["d"] * 3,
            "utterance_id": [0, 1, 2],
            "speaker": ["M", "F", "M"],
            "emotion": ["calm", None, "glad"],
        }
    )
    corpus = write_corpus(tmp_path / "c", rows, LABELS, {}, speakers=("F", "M"))
    (labelled,) = corpus.conversations("train")
    assert labelled.fine.tolist() == [0, UNLABELLED, 1]
    assert labelled.coarse.tolist() == [UNLABELLED] * 3
    assert labelled.conversation.speakers.tolist() == [1, 0, 1]
    assert corpus.modalities == ()


def test_split_names() -> None:
    assert [split_name(name) for name in ("dev", "val", "Valid", "test")] == ["validation"] * 3 + ["test"]
    with pytest.raises(UsageError, match="no split"):
        split_name("holdout")


def test_split_that_the_corpus_lacks(tmp_path: Path) -> None:
    rows = synthetic_rows((3, 2, 1)).filter(pl.col("split") != "test")
    corpus = write_corpus(tmp_path / "c", rows, LABELS, {})
    with pytest.raises(UsageError, match="has no test split; it has train, validation"):
        corpus.conversations("test")


def changed(rows: pl.DataFrame, column: str, row: int, value: object) -> pl.DataFrame:
    values = rows[column].to_list()
    values[row] = value
    return rows.with_columns(pl.Series(column, values, strict=False))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda r: changed(r, "emotion", 4, "grumpy"), r"row 5: emotion is 'grumpy'; it must be one of calm"),
        (lambda r: changed(r, "sentiment", 2, "good"), r"row 3: sentiment is 'good'"),
        (lambda r: changed(r, "split", 0, "holdout"), r"row 1: split is 'holdout'"),
        (lambda r: changed(r, "speaker", 1, None), r"row 2: speaker is empty; fill it in"),
        (lambda r: changed(r, "dialogue_id", r.height - 1, "train-0"), r"'train-0' is in test, and in train"),
        (lambda r: r.reverse(), r"follows utterance"),
        (lambda r: pl.concat([r[1:], r[:1]]), r"is in train|goes on after another"),
        (lambda r: r.drop("speaker"), r"no column 'speaker'"),
        (lambda r: r[:0], r"no rows"),
        (lambda r: changed(r, "utterance_id", 0, "first"), r"column of the wrong kind"),
        (lambda r: r.with_columns(emotion=None, sentiment=None), r"no utterance of the train split has"),
    ],
)  # fmt: skip
def test_faulty_rows_are_refused_and_nothing_is_written(
    tmp_path: Path, fault: Callable[[pl.DataFrame], pl.DataFrame], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        write_corpus(tmp_path / "c", fault(synthetic_rows((4, 2, 2))), LABELS, {})
    assert list(tmp_path.iterdir()) == []


def test_faulty_features_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    rows = synthetic_rows((4, 2, 2))
    good = synthetic_features(rows)["text"]
    holed = good.values.copy()
    holed[6, 2] = np.nan
    for features, message in (
        (Features(holed, good.present), r"text.npy, row 7: the features hold NaN or infinity"),
        (Features(good.values[:-1], good.present), r"rows, utterances.parquet has"),
        (Features(good.values, good.present[:-1]), r"text_present.npy isn't one truth value a row"),
        (Features(good.values.astype(np.float64), good.present), r"not float32"),
    ):
        with pytest.raises(UsageError, match=message):
            write_corpus(tmp_path / "c", rows, LABELS, {"text": features})
    assert list(tmp_path.iterdir()) == []


def edit_header(folder: Path, **changes: Any) -> None:
    header = json.loads((folder / "corpus.json").read_text())
    (folder / "corpus.json").write_text(json.dumps(header | changes))


def nan_on_disk(folder: Path) -> None:
    values = np.load(folder / "audio.npy")
    values[3] = np.inf
    np.save(folder / "audio.npy", values)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "corpus.json").unlink(), r"is no corpus"),
        (lambda f: (f / "corpus.json").write_text("{"), r"corpus.json: .*Prepare the corpus again"),
        (lambda f: edit_header(f, format=99), r"format 99"),
        (lambda f: edit_header(f, surprise=1), r"surprise"),
        (
            lambda f: edit_header(f, labels=["calm", "glad"]),
            r"emotion is 'upset'; it must be one of calm, glad",
        ),
        (
            lambda f: edit_header(f, widths={**WIDTHS, "text": 9}),
            r"text.npy has features of width 8, .* says 9",
        ),
        (lambda f: (f / "utterances.parquet").write_bytes(b"no"), r"utterances.parquet can't be read"),
        (lambda f: (f / "text.npy").write_bytes(b"no"), r"text.npy can't be read as an array"),
        (lambda f: (f / "face_present.npy").unlink(), r"face_present.npy can't be read"),
        (nan_on_disk, r"audio.npy, row 4: the features hold NaN or infinity"),
        (
            lambda f: pl.read_parquet(f / "utterances.parquet")[:-1].write_parquet(f / "utterances.parquet"),
            r"doesn't hold the counts",
        ),
        (
            lambda f: (
                pl.read_parquet(f / "utterances.parquet")
                .filter(pl.col("split") != "test")
                .write_parquet(f / "utterances.parquet")
            ),
            r"the test split is empty",
        ),
    ],
)
def test_a_damaged_corpus_is_refused(tmp_path: Path, damage: Callable[[Path], object], message: str) -> None:
    folder = tmp_path / "c"
    synthetic_corpus(folder, (4, 2, 2))
    damage(folder)
    with pytest.raises(UsageError, match=message):
        load_corpus(folder)


def test_a_pickled_array_is_not_run(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    corpus = synthetic_corpus(folder, (4, 2, 2))
    np.save(folder / "text.npy", np.array([{}] * corpus.table.height, dtype=object), allow_pickle=True)
    with pytest.raises(UsageError, match="can't be read as an array"):
        load_corpus(folder)


def test_a_corpus_replaces_a_corpus_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    synthetic_corpus(folder, (4, 2, 2))
    again = synthetic_corpus(folder, (6, 2, 2), modalities=("text",))
    assert again.header.counts["train"].dialogues == 6
    assert sorted(f.name for f in folder.iterdir()) == [
        "corpus.json", "text.npy", "text_present.npy", "utterances.parquet",
    ]  # fmt: skip
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("precious")
    with pytest.raises(UsageError, match="is no corpus: nothing was written"):
        synthetic_corpus(mine)
    assert (mine / "thesis.txt").read_text() == "precious"
    assert sorted(f.name for f in tmp_path.iterdir()) == ["c", "mine"]


def test_the_weights_that_encoders_name_travel_with_the_corpus(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "text.safetensors").write_bytes(b"weights")
    rows = synthetic_rows((4, 2, 2))
    encoders = {"text": {"name": "minilm", "adapter": "text.safetensors"}}
    features = {"text": synthetic_features(rows)["text"]}
    corpus = write_corpus(
        tmp_path / "c", rows, LABELS, features, encoders=encoders, weights=tmp_path / "weights"
    )
    assert (corpus.folder / "encoders" / "text.safetensors").read_bytes() == b"weights"
