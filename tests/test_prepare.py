"""Sources -> corpora: each layout as its publisher ships it, in small; faults named; pickles never run."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from annotator.encode import make_encoder
from annotator.pipeline import run
from annotator.pipeline.prepared import Prepared
from annotator.records import SENTIMENTS, Evidence, UsageError, Utterance
from annotator.settings import RunSettings
from train.corpus import load_corpus
from train.evaluate.asrun import compared
from train.prepare import emorynlp, features, iemocap, meld, prepare, splits, table
from train.prepare.pickles import load_pickle
from train.prepare.recordings import Index
from train.prepare.source import repair, seconds
from train.resume import load_state, save_state

from .media import run_ffmpeg, subtitles, talk

ROOT = Path(__file__).resolve().parents[1]
MELD_HEAD = (
    "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime\r\n"
)
MELD_ROWS = {
    "train_sent_emo.csv": (
        "1,You must\x92ve had your hands full.,The Interviewer,neutral,neutral,0,0,8,21,"
        '"00:16:16,059","00:16:21,731"\r\n'
        '2,That I did\x85 That I did.,Chandler,surprise,positive,0,3,8,21,"00:16:23,442","00:16:26,389"\r\n'
        '3,"Oh, no!",Chandler,fear,negative,2,0,8,21,"1:02:03,5","1:02:04,000"\r\n'
    ),
    "dev_sent_emo.csv": '1,What?,Monica,Surprise ,negative,0,0,4,7,"00:20:57,256","00:21:00,049"\r\n',
    "test_sent_emo.csv": '1,Fine.,Mark,joy,positive,0,0,3,19,"00:14:38,127","00:14:40,378"\r\n',
}


def meld_folder(folder: Path) -> Path:
    folder.mkdir()
    for name, rows in MELD_ROWS.items():
        # As published: Windows-1252 characters that were decoded as Latin-1, then written as UTF-8.
        (folder / name).write_bytes((MELD_HEAD + rows).encode())
    return folder


def rewrite(file: Path, old: str, new: str) -> None:
    text = file.read_bytes().decode()
    assert old in text
    file.write_bytes(text.replace(old, new).encode())


def test_meld(tmp_path: Path) -> None:
    found = meld.read(meld_folder(tmp_path / "meld"))
    rows = found.table
    assert found.labels == ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger")
    assert rows["split"].to_list() == ["train"] * 3 + ["validation", "test"]
    assert rows["dialogue_id"].to_list() == ["train-0", "train-0", "train-2", "validation-0", "test-0"]
    assert rows["utterance_id"].to_list() == [0, 1, 0, 0, 0]
    assert rows["source_utterance_id"].to_list() == [0, 3, 0, 0, 0]
    assert (
        rows["text"][0] == "You must’ve had your hands full." and rows["text"][1] == "That I did… That I did."
    )
    assert rows["start"][0] == 976.059 and rows["start"][2] == 3723.5
    assert rows["emotion"][3] == "surprise"
    # The sentiment is the data set's own: surprise is both.
    assert rows["sentiment"].to_list() == ["neutral", "positive", "negative", "negative", "positive"]


def test_meld_in_windows_1252(tmp_path: Path) -> None:
    folder = meld_folder(tmp_path / "meld")
    file = folder / "dev_sent_emo.csv"
    file.write_bytes(file.read_bytes().replace(b"What?", b"You\x92re caf\xe9?"))
    assert meld.read(folder).table["text"][3] == "You’re café?"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda f: rewrite(f / "train_sent_emo.csv", "fear", "dread"),
            r"train_sent_emo.csv, row 3 after the header: Emotion is 'dread'; known are .*Correct it",
        ),
        (lambda f: rewrite(f / "test_sent_emo.csv", "positive", "great"), r"row 1 .*Sentiment is 'great'"),
        (lambda f: rewrite(f / "dev_sent_emo.csv", ",0,0,4", ",x,0,4"), r"Dialogue_ID is 'x'.*whole number"),
        (lambda f: rewrite(f / "train_sent_emo.csv", "Chandler,fear", ",fear"), r"row 3 .*Speaker is empty"),
        (lambda f: rewrite(f / "train_sent_emo.csv", ",0,3,8", ",0,0,8"), r"'train-0' has utterance 0 twice"),
        (lambda f: (f / "dev_sent_emo.csv").unlink(), r"dev_sent_emo.csv doesn't exist"),
        (lambda f: (f / "dev_sent_emo.csv").write_text(""), r"dev_sent_emo.csv is empty"),
        (lambda f: (f / "dev_sent_emo.csv").write_text(MELD_HEAD), r"an empty split"),
        (lambda f: rewrite(f / "dev_sent_emo.csv", "Emotion", "Feeling"), r"no column Emotion; it has"),
    ],
)
def test_faulty_meld_is_refused_and_nothing_written(
    tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    folder = meld_folder(tmp_path / "meld")
    damage(folder)
    with pytest.raises(UsageError, match=message):
        prepare("meld", folder, tmp_path / "corpus")
    assert [f.name for f in tmp_path.iterdir()] == ["meld"]


def test_text_is_encoded_as_in_a_run_and_only_once(tmp_path: Path) -> None:
    folder, out = meld_folder(tmp_path / "meld"), tmp_path / "corpus"
    rewrite(folder / "test_sent_emo.csv", "Fine.", "")
    seen: list[tuple[int, int]] = []
    corpus = prepare("meld", folder, out, on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(5, 5)]
    assert corpus.header.encoders == {"text": {"name": "minilm"}} and corpus.header.widths == {"text": 384}
    known = corpus.features["text"]
    assert known.present.tolist() == [True, True, True, True, False] and not known.values[4].any()
    encoder = make_encoder("text", {"name": "minilm"}, None, "cpu")
    assert corpus.header.fingerprints == {"text": encoder.fingerprint}
    utterance = Utterance(0, 0, 0.0, 1.0, "SPEAKER_00", 0.0, corpus.table["text"][2])
    alone = encoder(Evidence(None, None), [utterance])
    np.testing.assert_allclose(alone.values[0], known.values[2], atol=1e-4)

    # A second preparation takes the vectors that are kept.
    (kept,) = (tmp_path / "corpus.work").glob("text-*")
    marked = load_state(kept, kept.stem)
    assert marked is not None
    marked["values"] = marked["values"] + 1
    save_state(kept, marked, kept.stem)
    again = prepare("meld", folder, out)
    np.testing.assert_array_equal(again.features["text"].values, marked["values"].numpy())


def test_unknown_source(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'dailydialog' is no source; use meld, mmeld, emorynlp"):
        prepare("dailydialog", tmp_path, tmp_path / "c")


def test_emorynlp(tmp_path: Path) -> None:
    head = "Dialogue_ID,Utterance_ID,Speaker,Utterance,Emotion,Season,Episode,Start_Time,End_Time\n"
    for name in ("train.csv", "dev.csv", "test.csv"):
        (tmp_path / name).write_text(
            head
            + '0,0,Monica Geller | Joey Tribbiani,"Yeah, right!",Joyful,1,2,00:00:02.877,00:00:07.548\n'
            + "0,1,Joey Tribbiani,No.,Mad,1,2,,\n"
        )
    found = emorynlp.read(tmp_path)
    assert found.labels[0] == "neutral" and set(found.table["emotion"]) == {"joyful", "mad"}
    assert found.table["sentiment"].to_list() == ["positive", "negative"] * 3
    assert found.table["start"].to_list() == [2.877, None] * 3


def test_shared_corpora_have_their_published_counts(shared: Path) -> None:
    dialogues = shared / "dialogues"
    if not dialogues.is_dir():
        pytest.skip("no dialogue corpora in ../shared/data")
    published = {
        "meld": (meld.read, [9989, 1109, 2610], [1038, 114, 280]),
        "emorynlp": (emorynlp.read, [9934, 1344, 1328], [713, 99, 85]),
    }
    for name, (read, utterances, scenes) in published.items():
        rows = read(dialogues / name).table
        by_split = [rows.filter(pl.col("split") == s) for s in ("train", "validation", "test")]
        assert [part.height for part in by_split] == utterances
        assert [part["dialogue_id"].n_unique() for part in by_split] == scenes


IEMOCAP_LABELS = """% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]

[8.0000 - 9.5000]\t{name}_M000\tfru\t[2.0000, 2.5000, 2.5000]
C-E2:\tFrustration;\t()
[1.0000 - 2.5000]\t{name}_F000\tneu\t[2.5000, 2.5000, 2.5000]
[3.0000 - 4.0000]\t{name}_F001\txxx\t[2.5000, 2.5000, 2.5000]
"""


def iemocap_release(folder: Path) -> Path:
    for session in range(1, 6):
        for name in (f"Ses0{session}F_impro01", f"Ses0{session}M_script01_1"):
            dialog = folder / f"Session{session}" / "dialog"
            for part in ("EmoEvaluation", "transcriptions"):
                (dialog / part).mkdir(parents=True, exist_ok=True)
            (dialog / "EmoEvaluation" / f"{name}.txt").write_text(IEMOCAP_LABELS.format(name=name))
            (dialog / "transcriptions" / f"{name}.txt").write_text(
                f"{name}_F000 [001.0000-002.5000]: Excuse me.\n{name}_F001 [003.0000-004.0000]: Um.\n"
                f"{name}_M000 [008.0000-009.5000]: Is there a problem?\n"
            )
    return folder


def test_iemocap(tmp_path: Path) -> None:
    folder = iemocap_release(tmp_path / "release")
    found = iemocap.read(folder)
    assert found.labels == ("hap", "sad", "neu", "ang", "exc", "fru") and found.speakers == ("F", "M")
    rows = found.table
    assert rows.filter(pl.col("split") == "test")["dialogue_id"].unique().sort().to_list() == [
        "Ses05F_impro01", "Ses05M_script01_1",
    ]  # fmt: skip
    assert rows.filter(pl.col("split") == "validation")["dialogue_id"].n_unique() == 1
    first = rows.filter(pl.col("dialogue_id") == "Ses01F_impro01")
    assert first["speaker"].to_list() == ["F", "M"] and first["emotion"].to_list() == ["neu", "fru"]
    assert first["text"].to_list() == ["Excuse me.", "Is there a problem?"]
    assert first["sentiment"].to_list() == ["neutral", "negative"]
    assert iemocap.read(folder).table.equals(rows)  # the seed fixes the validation dialogues
    context = iemocap.read(folder, keep_unlabelled=True).table.filter(
        pl.col("dialogue_id") == "Ses01F_impro01"
    )
    assert context["emotion"].to_list() == ["neu", None, "fru"]

    (folder / "Session3" / "dialog" / "transcriptions" / "Ses03F_impro01.txt").write_text("")
    with pytest.raises(UsageError, match="has no line of Ses03F_impro01_F000"):
        iemocap.read(folder)
    with pytest.raises(UsageError, match="holds no Ses"):
        iemocap.read(tmp_path / "elsewhere")


def test_table(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(
        "file,dialogue_id,utterance_id,start,end,speaker,text,emotion,sentiment,p_calm,p_glad,p_positive,split\n"
        "a.mp4,0,0,0.5,1.5,SPEAKER_00,'=well,glad,positive,.1,.9,.9,train\n"
        "a.mp4,0,1,2.5,3.5,SPEAKER_01,,,,.1,.9,.9,train\n"
        "b.mp4,0,0,0.5,1.5,SPEAKER_00,'tis so,Calm,neutral,.9,.1,.1,dev\n"
    )
    found = table.read(file)
    assert found.labels == ("calm", "glad")  # in the order of the columns of probabilities
    assert found.table["dialogue_id"].to_list() == ["a.mp4#0", "a.mp4#0", "b.mp4#0"]
    assert found.table["split"].to_list() == ["train", "train", "validation"]
    assert found.table["text"].to_list() == ["=well", None, "'tis so"]
    assert found.table["emotion"].to_list() == ["glad", None, "calm"]
    rewrite(file, ",Calm,", ",blue,")
    with pytest.raises(UsageError, match=r"a problem .*\n  row 3: the label 'blue' is none of calm, glad"):
        table.read(file)


def test_table_without_splits_or_sentiments(tmp_path: Path) -> None:
    rows = pl.DataFrame(
        {
            "dialogue_id": [d for d in range(20) for _ in range(2)],
            "utterance_id": [0, 1] * 20,
            "speaker": ["A", "B"] * 20,
            "text": ["yes", "no"] * 20,
            "emotion": ["joy", "surprise"] * 20,
        }
    )
    rows.write_parquet(tmp_path / "t.parquet")
    found = table.read(tmp_path / "t.parquet")
    counts = {s: part["dialogue_id"].n_unique() for (s,), part in found.table.group_by("split")}
    assert counts == {"train": 16, "validation": 2, "test": 2}
    assert found.labels == ("joy", "surprise")
    assert found.table["sentiment"].to_list() == ["positive", None] * 20  # surprise is either
    assert table.read(tmp_path / "t.parquet").table.equals(found.table)
    rows[:4].write_parquet(tmp_path / "few.parquet")
    with pytest.raises(UsageError, match="too few dialogues to set some apart"):
        table.read(tmp_path / "few.parquet")
    rows[::2].write_parquet(tmp_path / "one.parquet")
    with pytest.raises(UsageError, match="the emotion joy only"):
        table.read(tmp_path / "one.parquet")


def published(kind: str, dialogues: int = 14) -> tuple[Any, ...]:
    """A pickle's content in the layout of IEMOCAP or MELD."""
    random = np.random.default_rng(0)
    ids = [f"Ses01F_{i}" if kind == "iemocap" else i for i in range(dialogues)]
    classes = 6 if kind == "iemocap" else 7
    size = {d: 3 + i % 3 for i, d in enumerate(ids)}

    def vectors(width: int) -> dict[Any, Any]:
        return {d: [random.normal(size=width).astype("float32") for _ in range(n)] for d, n in size.items()}

    labels = {d: [int(random.integers(classes)) for _ in range(n)] for d, n in size.items()}
    speakers: dict[Any, Any] = {d: ["M" if i % 2 else "F" for i in range(n)] for d, n in size.items()}
    if kind == "meld":
        speakers = {d: np.eye(9)[[i % 4 for i in range(n)]] for d, n in size.items()}
    parts = (
        {d: [f"{d}_{i}" for i in range(n)] for d, n in size.items()},
        speakers,
        labels,
        vectors(10),
        {d: np.stack(v) for d, v in vectors(8).items()},
        vectors(6),
        {d: [f"said {i}" for i in range(n)] for d, n in size.items()},
        set(ids[:10]) if kind == "iemocap" else ids[:10],
        ids[10:],
    )
    if kind == "iemocap":
        return parts
    own = {0: 0, 4: 1, 6: 2}  # neutral, positive, negative as MELD numbers them
    return (*parts, {d: [own.get(e, 2 if e in (2, 3, 5) else 1) for e in labels[d]] for d in labels})


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("kind", ["iemocap", "meld"])
def test_published_features(tmp_path: Path, kind: str, protocol: int) -> None:
    name = "IEMOCAP_features.pkl" if kind == "iemocap" else "MELD_features_raw1.pkl"
    content = published(kind)
    (tmp_path / name).write_bytes(pickle.dumps(content, protocol))
    corpus = prepare("features", tmp_path, tmp_path / "corpus", seed=1)
    assert corpus.modalities == ("text", "audio", "face")
    assert corpus.header.widths == {"text": 10, "audio": 8, "face": 6}
    assert {s: c.dialogues for s, c in corpus.header.counts.items()} == {
        "train": 9,
        "validation": 1,
        "test": 4,
    }
    for labelled in [c for s in corpus.splits for c in corpus.conversations(s)]:
        key = labelled.dialogue_id if kind == "iemocap" else int(labelled.dialogue_id)
        assert labelled.fine.tolist() == content[2][key]
        for modality, part in (("text", 3), ("audio", 4), ("face", 5)):
            np.testing.assert_array_equal(
                labelled.conversation.features[modality].values, np.stack(content[part][key])
            )
        if kind == "meld":
            meaning = ("neutral", "positive", "negative")
            assert [SENTIMENTS[c] for c in labelled.coarse] == [meaning[c] for c in content[9][key]]
        else:
            assert labelled.conversation.speakers.tolist() == [int(s == "M") for s in content[1][key]]


def test_published_roberta_features(tmp_path: Path) -> None:
    content = published("meld")
    (tmp_path / "MELD_features_raw1.pkl").write_bytes(pickle.dumps(content))
    layers = [{d: [np.full(4, float(k), "f4")] * len(v) for d, v in content[2].items()} for k in range(4)]
    ids = list(content[2])
    roberta = ({}, {}, {}, *layers, {}, ids[:8], ids[10:], ids[8:10])
    (tmp_path / "meld_features_roberta.pkl").write_bytes(pickle.dumps(roberta))
    found = features.read(tmp_path)
    assert found.features["text"].values.shape[1] == 4 and np.all(found.features["text"].values == 1.5)
    assert found.table.filter(pl.col("split") == "validation")["dialogue_id"].unique().sort().to_list() == [
        "8",
        "9",
    ]
    (tmp_path / "meld_features_roberta.pkl").write_bytes(pickle.dumps(roberta[:-1]))
    with pytest.raises(UsageError, match="expected 11 parts"):
        features.read(tmp_path)


def test_faulty_features_are_refused_and_nothing_written(tmp_path: Path) -> None:
    file = tmp_path / "IEMOCAP_features.pkl"

    def refused(change: Callable[[list[Any]], object], message: str) -> None:
        content = list(published("iemocap"))
        change(content)
        file.write_bytes(pickle.dumps(tuple(content)))
        with pytest.raises(UsageError, match=message):
            prepare("features", file, tmp_path / "corpus")
        assert not (tmp_path / "corpus").exists()

    def spoil(content: list[Any]) -> None:
        content[3]["Ses01F_2"][1][4] = np.nan

    refused(
        spoil, r"IEMOCAP_features.pkl: the text features of the dialogue 'Ses01F_2', utterance 1, hold NaN"
    )
    refused(lambda c: c[5].update(Ses01F_3=[np.zeros(9)] * 3), r"of width|of different lengths|are \(3, 9\)")
    refused(lambda c: c[2].update(Ses01F_0=[0, 17, 1]), r"utterance 1, has the label 17")
    refused(lambda c: c[4].pop("Ses01F_1"), r"the audio features have no dialogue 'Ses01F_1'")
    refused(lambda c: c[8].append("Ses01F_0"), r"'Ses01F_0'")
    refused(lambda c: c.pop(), r"expected 9 parts")
    file.write_bytes(pickle.dumps(published("iemocap"))[:500])
    with pytest.raises(UsageError, match="is no whole pickle"):
        features.read(file)
    with pytest.raises(UsageError, match="must hold one of IEMOCAP_features.pkl and MELD_features_raw1.pkl"):
        features.read(tmp_path / "corpus")


class Attack:
    def __init__(self, function: Any, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, tuple[object, ...]]:
        return self.call


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    import builtins
    import os

    canary = tmp_path / "canary"
    for number, attack in enumerate(
        (
            Attack(os.system, f"touch {canary}"),
            Attack(builtins.eval, f"open({str(canary)!r}, 'w')"),
            Attack(builtins.getattr, "", "join"),
            Attack(np.load, str(canary)),
            Attack(np.dtype, "V8"),
        )
    ):
        for protocol in (0, 2, 5):
            file = tmp_path / f"{number}.pkl"
            file.write_bytes(pickle.dumps({"a": [attack]}, protocol))
            with pytest.raises(UsageError, match="is refused: it holds .*nothing was run"):
                load_pickle(file)
            assert not canary.exists()


def test_plain_pickles_are_read_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / "p.pkl"
    content = {
        "array": np.arange(6, dtype=">i2").reshape(2, 3),
        "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "scalar": np.float32(1.5),
        "names": np.array(["a", "bc"]),
        "set": {1, 2},
        "nested": [(b"bytes", "text", None, True)],
    }
    for protocol in (2, 3, 4, 5):
        file.write_bytes(pickle.dumps(content, protocol))
        found = load_pickle(file)
        for key in ("array", "columns", "names"):
            np.testing.assert_array_equal(found[key], np.asarray(content[key]))
        assert found["scalar"] == 1.5 and found["set"] == {1, 2} and found["nested"] == content["nested"]
    # Python 2, protocol 2: the bytes of an array arrive as a string of Latin-1 characters.
    file.write_bytes(
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U\x08\x00\x00\x80?\x00\x00\x00@tb."
    )
    np.testing.assert_array_equal(load_pickle(file), np.array([1.0, 2.0], "f4"))


def test_times_and_repairs() -> None:
    assert [seconds(t) for t in ("00:16:16,059", "1:02.5", "7.25", None, "soon")] == [
        976.059,
        62.5,
        7.25,
        None,
        None,
    ]
    assert repair("\x93Hi\x94 \x96 caf\xe9") == "“Hi” – café"


def test_prepared_corpora_load(tmp_path: Path) -> None:
    corpus = prepare("iemocap", iemocap_release(tmp_path / "release"), tmp_path / "corpus")
    assert load_corpus(tmp_path / "corpus").header == corpus.header
    assert corpus.header.speakers == ("F", "M") and corpus.modalities == ("text",)


BAD_ROWS = """clip,from,to,who,feeling,said,set
a.wav,0.5,1.0,Ana,joy,Hi,train
a.wav,-1.0,1.5,Ben,anger,No,train
a.wav,2.0,2.0,Ben,anger,No,train
a.wav,0.9,3.0,Ben,anger,Well,train
a.wav,2.5,3.5,Ben,joy,Well,train
b.wav,0.5,1.0,Cleo,anger,No,dev
a.wav,3.6,99,Ana,anger,No,train
a.wav,soon,3.9,Ana,anger,No,train
a.wav,3.9,4.0,,anger,No,train
c.wav,0.1,0.4,Ana,joy,Hi,test
c.wav,0.5,0.9,Dan,anegr,Hi,test
c.wav,1.5,1.9,Dan,anger,Hi,tset
"""


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    (tmp_path / "videos").mkdir()
    for name, seconds_long in (("a", 5.0), ("c", 2.0)):
        talk(tmp_path / "videos" / f"{name}.wav", seconds_long)
    (tmp_path / "labels.csv").write_text(BAD_ROWS)
    return tmp_path


def test_all_faults_of_a_table_are_told_at_once(bad: Path) -> None:
    command = [sys.executable, "-m", "annotator", "prepare", "table", "labels.csv", "--media", "videos"]
    ended = subprocess.run(
        [*command, "--out", "corpus", "--column", "text=spoken"], capture_output=True, text=True, cwd=bad
    )
    assert ended.returncode == 2 and "Traceback" not in ended.stderr
    told = [line.strip() for line in ended.stderr.splitlines() if line.startswith("  ")]
    assert told == [
        "there is no column 'spoken' for the text; it has clip, from, to, who, feeling, said, set",
        "the speaker 'Ana' is in train (rows 1, 7-8) and test (row 10): put all into one, or allow it with "
        "--shared-speakers",
        "row 2: the start -1 is negative",
        "row 3: it ends at 2 and starts at 2",
        "row 5: Ben speaks from 2.5 to 3.5 in a.wav, and from 0.9 to 3 in row 4: they overlap",
        "row 6: there is no recording 'b.wav' in videos",
        "row 7: it ends at 99, the recording 'a.wav' at 5.0",
        "row 8: the start 'soon' is no time in seconds or hh:mm:ss",
        "row 9: the speaker is empty",
        "row 11: the label 'anegr' occurs once only (did you mean 'anger'?): correct it, label more, or "
        "empty the cell",
        "row 12: 'tset' is no split; use train, validation, test (dev, val and valid are validation)",
    ]
    assert "start     = column 'from' (guessed)" in ended.stderr
    assert sorted(p.name for p in bad.iterdir()) == ["labels.csv", "videos"]


def test_faulty_rows_are_left_out_only_when_asked_and_listed(bad: Path) -> None:
    found = table.read(bad / "labels.csv", media=bad / "videos", shared_speakers=True, skip_faulty=True)
    assert found.table["source_row"].to_list() == [1, 4, 10]
    assert found.unused is not None and found.unused["row"].to_list() == [2, 3, 5, 6, 7, 8, 9, 11, 12]
    assert found.provenance["left_out"] == 9
    with pytest.raises(UsageError, match="is in train"):  # no single row is to blame
        table.read(bad / "labels.csv", media=bad / "videos", skip_faulty=True)
    with pytest.raises(UsageError, match="A column can't mean 'emotions'.*"):
        table.read(bad / "labels.csv", columns={"emotions": "feeling"})
    with pytest.raises(UsageError, match=r"no column for the dialogue .*--column dialogue=NAME"):
        (bad / "bare.csv").write_text("who,feeling,said\nA,joy,x\n")
        table.read(bad / "bare.csv")


def test_recordings_are_found_by_any_unique_name(tmp_path: Path) -> None:
    for name in ("x/one.wav", "y/one.wav", "y/two.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        talk(tmp_path / name, 0.5)
    (tmp_path / "secret.wav").symlink_to("/etc/hostname")
    index = Index.of(tmp_path)
    for cell in (
        "y/two.wav",
        "two",
        "./y/two.wav",
        "y\\two.wav",
        str(tmp_path / "y" / "two.wav"),
        "z/two.wav",
    ):
        found = index.look_up(cell)
        assert not isinstance(found, str) and found.file == "y/two.wav", cell
    assert "may be x/one.wav or y/one.wav" in str(index.look_up("one.wav"))
    assert "there is no recording '../../etc/passwd'" in str(index.look_up("../../etc/passwd"))
    assert "can't be used: It is a link to a place outside" in str(index.look_up("secret"))


def test_spaces_around_a_recordings_name_may_be_of_it(tmp_path: Path) -> None:
    for name in ("  take.wav", "plain.wav"):
        talk(tmp_path / name, 3)
    rows = [
        f"{name},{start},{start + 0.9},{who},{label},{split}"
        for name, who, split in (("  take.wav", "Ana", "train"), (" plain.wav ", "Ben", "test"))
        for start, label in ((0.0, "joy"), (1.0, "anger"))
    ]
    (tmp_path / "labels.csv").write_text("\n".join(["file,start,end,speaker,label,split", *rows, ""]))
    found = table.read(tmp_path / "labels.csv", media=tmp_path)
    assert found.table["recording"].unique().sort().to_list() == ["  take.wav", "plain.wav"]


def test_made_splits_keep_people_apart_where_they_can() -> None:
    dialogues = [f"d{i // 4}" for i in range(80)]
    people = [f"p{i // 8}-{i % 2}" for i in range(80)]  # two dialogues share two people
    labels = [("joy", "anger", "fear")[i % 3] for i in range(80)]
    made = splits.made_splits(dialogues, people, labels, seed=0)
    assert made is not None and made[1] == "speaker"
    frame = pl.DataFrame({"split": made[0], "dialogue": dialogues, "person": people, "label": labels})
    for column in ("dialogue", "person"):
        assert frame.group_by(column).agg(pl.col("split").n_unique())["split"].max() == 1
    shares = dict(frame["split"].value_counts().iter_rows())
    assert shares == {"train": 64, "validation": 8, "test": 8}
    assert frame.filter(split="train")["label"].n_unique() == 3
    assert splits.made_splits(dialogues, people, labels, seed=0) == made
    # Where one person is everywhere, dialogues are kept apart and it is said.
    everywhere = ["host" if i % 2 else p for i, p in enumerate(people)]
    made = splits.made_splits(dialogues, everywhere, labels, seed=0)
    assert made is not None and made[1] == "dialogue"
    assert splits.made_splits(dialogues, everywhere, labels, seed=0, by="speaker") is None
    # A rare label is learnt rather than measured.
    rare = ["rare" if d == "d3" else "joy" for d in dialogues]
    made = splits.made_splits(dialogues, people, rare, seed=0)
    assert made is not None and {s for s, label in zip(made[0], rare, strict=True) if label == "rare"} == {
        "train"
    }


def test_features_of_a_corpus_are_those_of_a_run_to_the_bit(tmp_path: Path) -> None:
    """Text, voice and face; and words of utterances without text come from subtitles."""
    videos = tmp_path / "videos"
    videos.mkdir()
    shutil.copyfile(ROOT / "examples" / "recordings" / "tv_clip.mkv", videos / "tv_clip.mkv")
    settings = RunSettings(workers=1)
    run(([videos]), tmp_path / "labels.csv", settings, progress=False)
    (kept,) = (tmp_path / "labels.work" / "prepared").iterdir()
    of_run = Prepared.load(kept)
    assert of_run is not None

    talk(videos / "talk.wav", 5)
    subtitles(videos / "talk.srt", [(0.5, 1.5, "I am so happy!"), (2.5, 4.0, "Why would you do that?")])
    rows = pl.read_csv(tmp_path / "labels.csv").with_columns(split=pl.lit("train"))
    more = rows.head(2).with_columns(
        file=pl.lit("talk.wav"), text=None, start=pl.Series([0.4, 2.4]), end=pl.Series([1.6, 4.1]),
        speaker=pl.Series(["Ana", "Ben"]), split=pl.lit("test"),
    )  # fmt: skip
    pl.concat([rows, more], how="vertical_relaxed").write_csv(tmp_path / "labelled.csv")
    corpus = prepare("table", tmp_path / "labelled.csv", tmp_path / "corpus", media=videos, settings=settings)
    here = (corpus.table["recording"] == "tv_clip.mkv").to_numpy()
    assert here.sum() == len(of_run.utterances) and set(corpus.features) == {"text", "audio", "face"}
    for modality, known in of_run.features.items():
        np.testing.assert_array_equal(corpus.features[modality].values[here], known.values)
        np.testing.assert_array_equal(corpus.features[modality].present[here], known.present)
        assert known.present.all()
    told = corpus.table.filter(recording="talk.wav")
    assert told["text"].to_list() == ["I am so happy!", "Why would you do that?"]
    assert told["text_source"].to_list() == ["sidecar", "sidecar"]
    assert corpus.table.filter(recording="tv_clip.mkv")["text_source"].unique().to_list() == ["corpus"]
    assert set(corpus.header.fingerprints) == {"text", "audio", "face"}
    assert (corpus.folder / "encoders" / "faces.safetensors").is_file()

    # Nothing is decoded again; and what the tool says by itself is held against the labels.
    marks = {f: f.stat().st_mtime_ns for f in (tmp_path / "corpus.work" / "prepared").iterdir()}
    prepare("table", tmp_path / "labelled.csv", tmp_path / "corpus", media=videos, settings=settings)
    assert marks == {f: f.stat().st_mtime_ns for f in (tmp_path / "corpus.work" / "prepared").iterdir()}
    gold = corpus.table.filter(recording="tv_clip.mkv")
    table_of_run = pl.read_csv(tmp_path / "labels.csv")
    as_run = compared(gold, table_of_run, {"tv_clip.mkv": "tv_clip.mkv"}, corpus.labels)
    assert as_run["accuracy"] == as_run["found"] == as_run["speaker_accuracy"] == 1.0
    missed = compared(gold, table_of_run.head(4), {"tv_clip.mkv": "tv_clip.mkv"}, corpus.labels)
    assert missed["found"] == 4 / 9 == missed["accuracy"]


def test_a_clip_of_several_times_its_length_is_left_out(tmp_path: Path, ffmpeg: str) -> None:
    folder = meld_folder(tmp_path / "meld")
    media = tmp_path / "raw"
    stated = meld.read(folder).table
    for row in stated.iter_rows(named=True):
        lasts = (row["end"] or 0.0) - (row["start"] or 0.0)
        wrong = row["split"] == "validation"
        split = {
            "train": "train_splits",
            "validation": "dev_splits_complete",
            "test": "output_repeated_splits_test",
        }
        clip = (
            media
            / split[row["split"]]
            / f"dia{row['source_dialogue_id']}_utt{row['source_utterance_id']}.mp4"
        )
        clip.parent.mkdir(parents=True, exist_ok=True)
        talk(media / "talk.wav", 20.0 if wrong else max(1.0, min(lasts, 3.0)))
        run_ffmpeg(ffmpeg, "-i", str(media / "talk.wav"), str(clip))
    for _ in range(2):  # the second time from what is kept
        corpus = prepare(
            "meld", folder, tmp_path / "corpus", media=media, settings=RunSettings(workers=1),
            encoders={"face": None, "text": None},
        )  # fmt: skip
        held = corpus.table["split"].to_list()
        assert corpus.features["audio"].present.tolist() == [split != "validation" for split in held]
        (reason,) = pl.read_csv(tmp_path / "corpus.unused.csv")["reason"]
        assert "it lasts 20.0 s, its utterance" in reason and reason.endswith("; text only")


def test_meld_clips(tmp_path: Path, ffmpeg: str) -> None:
    folder = meld_folder(tmp_path / "meld")
    media = tmp_path / "raw"
    for place, seconds_long in (
        ("train_splits/dia0_utt0", 1.5), ("dev_splits_complete/dia0_utt0", 2.0),
        ("output_repeated_splits_test/dia0_utt0", 1.0),
    ):  # fmt: skip
        (media / place).parent.mkdir(parents=True)
        talk(media / "talk.wav", seconds_long)
        run_ffmpeg(ffmpeg, "-i", str(media / "talk.wav"), str(media / f"{place}.mp4"))
    (media / "train_splits" / "dia0_utt3.mp4").write_bytes(b"broken as published")
    corpus = prepare("meld", folder, tmp_path / "corpus", media=media, settings=RunSettings(workers=1))
    # A clip that is missing or broken leaves the utterance its text: the splits stay those of the papers.
    assert corpus.table.height == 5 and corpus.features["text"].present.all()
    assert corpus.features["audio"].present.tolist() == [True, False, False, True, True]
    unused = pl.read_csv(tmp_path / "corpus.unused.csv")
    assert unused["row"].to_list() == [2, 3]
    assert "dia0_utt3.mp4" in unused["reason"][0] and unused["reason"][1].endswith("; text only")
    with pytest.raises(UsageError, match="no clips of the train split.*train_splits/dia0_utt0.mp4"):
        meld.read(folder, media=tmp_path)
    with pytest.raises(UsageError, match="emorynlp has no recordings"):
        prepare("emorynlp", tmp_path, tmp_path / "c", media=media)


def test_iemocap_recordings(tmp_path: Path) -> None:
    folder = iemocap_release(tmp_path / "release")
    with pytest.raises(UsageError, match="lacks recordings"):
        iemocap.read(folder, media=folder)
    rows = iemocap.read(folder).table
    for name in rows["source_name"]:
        file = folder / f"Session{name[4]}" / "sentences" / "wav" / name[: name.rindex("_")] / f"{name}.wav"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
    sentences = iemocap.read(folder, media=folder)
    assert sentences.recordings is not None and sentences.recordings.whole
    assert sentences.table["recording"].to_list() == sentences.table["source_name"].to_list()
    for name in rows["dialogue_id"].unique():
        file = folder / f"Session{name[4]}" / "dialog" / "wav" / f"{name}.wav"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
    dialogues = iemocap.read(folder, media=folder)  # whole dialogues go before single sentences
    assert dialogues.recordings is not None and not dialogues.recordings.whole
    assert dialogues.table["recording"].to_list() == dialogues.table["dialogue_id"].to_list()
