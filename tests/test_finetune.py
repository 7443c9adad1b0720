"""Fine-tuning: what is inherited, what is learnt, that little data wrecks nothing, and what is left."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from huggingface_hub import ModelCard

from annotator.hub import parsed
from annotator.labels import kind_of, same_label, sentiment_of
from annotator.predict import Predictor
from annotator.records import Features, UsageError
from annotator.weights import checkpoint_folder
from model import load_checkpoint
from tests.browser import Browser, looks
from tests.corpora import LABELS, synthetic_corpus, synthetic_features, synthetic_rows
from train.corpus import load_corpus, write_corpus
from train.evaluate import evaluate
from train.evaluate.calibration import calibrate
from train.finetune import FinetuneSettings, finetune, settings_from
from train.finetune.card import plain
from train.finetune.folds import check_folds, cross_validate
from train.finetune.settings import Plan
from train.finetune.start import coarse_of, start_probabilities
from train.loop import train_corpus
from train.options import fields_from, named_values
from train.prepare import prepare
from train.settings import TrainSettings
from train.share import share

ROOT = Path(__file__).resolve().parents[1]
SMALL = {"co_width": 16, "co_heads": 2, "co_ffn": 16, "recurrent_width": 12, "graph_width": 12}
SIZE, MODALITIES = (30, 10, 40), ("audio", "face")
STILL: dict[str, object] = {"graph_drop": "none"} | dict.fromkeys(
    ("dropout", "co_dropout", "feature_dropout", "context_dropout", "modality_dropout"), 0.0
)
FAST = FinetuneSettings(epochs=3, batch_size=8, head_epochs=1, text="frozen")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic_corpus(tmp_path_factory.mktemp("corpora") / "corpus", SIZE, MODALITIES).folder


@pytest.fixture(scope="module")
def start(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that has learnt the corpus' planted signal; its encoders have no files."""
    folder = tmp_path_factory.mktemp("start") / "start"
    torch.set_num_threads(1)
    settings = TrainSettings(epochs=6, batch_size=8, lr=0.01)
    train_corpus(corpus, folder, settings=settings, config=SMALL, progress=False)
    return folder


def renamed(folder: Path, names: Mapping[str, str], *, sentiments: bool = True) -> Path:
    """The synthetic corpus with other labels."""
    rows = synthetic_rows(SIZE)
    features = synthetic_features(rows, MODALITIES)
    rows = rows.with_columns(pl.col("emotion").replace_strict(names))
    if not sentiments:
        rows = rows.with_columns(sentiment=None)
    encoders = {m: {"name": f"planted-{m}"} for m in features}
    write_corpus(folder, rows, tuple(names.values()), features, encoders=encoders)
    return folder


def same(a: Path, b: Path) -> bool:
    x, y = (load_checkpoint(f).network.state_dict() for f in (a, b))
    return x.keys() == y.keys() and all(torch.equal(x[k], y[k]) for k in x)


def test_the_same_labels_go_on_from_the_start_and_the_folder_is_whole(
    corpus: Path, start: Path, tmp_path: Path
) -> None:
    out = tmp_path / "my.ckpt"
    before = torch.get_rng_state()
    seen: list[int] = []
    tuned = finetune(
        corpus, start, out, FAST, name="mine", licence="apache-2.0", progress=False,
        on_epoch=lambda step: seen.append(step.number),
    )  # fmt: skip
    assert torch.equal(torch.get_rng_state(), before)
    assert seen == [1, 2, 3] and [s.number for s in tuned.history] == [0, 1, 2, 3]
    assert {s.stage for s in tuned.history} == {"start", "network"}  # there is no new head
    assert tuned.plan.overrides == ()
    known = load_checkpoint(out)
    assert (known.name, known.labels, known.meta["start"]) == ("mine", LABELS, "start 1")
    assert set(known.calibration) >= {"audio+face", "audio", ""}
    assert Predictor(out).labels == LABELS  # what a run takes
    assert not (tmp_path / "my.ckpt.work").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["my.ckpt"]

    figures = tuned.figures
    assert figures is not None and figures.split == "test" and figures.start is not None
    assert (interval := figures.bounds.scores["weighted_f1"]) is not None
    low, high = interval
    assert low < figures.metrics["weighted_f1"] < high
    assert figures.metrics["weighted_f1"] > figures.majority.scores["weighted_f1"] + 0.2
    metrics = json.loads((out / "evaluation" / "metrics.json").read_text())
    assert metrics["weighted_f1"] == figures.metrics["weighted_f1"]
    record = json.loads((out / "evaluation" / "finetune.json").read_text())
    assert len(record["history"]) == 4 and record["figures"]["majority"]["label"] in LABELS

    card = ModelCard.load(out / "CARD.md")
    assert card.data.license == "apache-2.0" and card.data.base_model == "start-1"
    (result, *_) = card.data.eval_results
    assert result.dataset_split == "test" and result.metric_type == "accuracy"
    for text in ("95 % intervals", "the start as it is", "| upset |", "| train | validation | test |"):
        assert text in card.text
    page = (out / "evaluation" / "index.html").read_text("utf-8")
    assert (
        "default-src 'none'" in page
        and "http:" not in page
        and "https:" not in page
        and page.count("data:image/png") == 2
    )
    with Browser(tmp_path / "browser") as browser:
        assert looks(browser, out / "evaluation" / "index.html") == []

    # Again into the same place: the earlier one is replaced, anything else is left alone.
    assert finetune(corpus, start, out, dataclasses.replace(FAST, epochs=1), progress=False).folder == out
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("mine")
    with pytest.raises(UsageError, match="exists and is no checkpoint"):
        finetune(corpus, start, tmp_path / "other", FAST, progress=False)


def test_other_labels_get_a_head_that_begins_with_what_the_names_say(start: Path, tmp_path: Path) -> None:
    # "neutral" means what the start calls "calm", "happy" what it calls "glad"; nobody knows "zorp".
    names = {"calm": "neutral", "glad": "happy", "upset": "zorp"}
    corpus = renamed(tmp_path / "corpus", names)
    tuned = finetune(corpus, start, tmp_path / "m", FAST, progress=False)
    assert tuned.plan.inherited_rows == {"neutral": "calm", "happy": "glad"}
    assert [o.what for o in tuned.plan.overrides] == ["labels"]
    assert "calm, glad, upset -> neutral, happy, zorp" in str(tuned.plan.overrides[0])
    # A head of which a row is new is no candidate before it is trained.
    assert [s.number for s in tuned.history] == [1, 2, 3]
    assert [s.stage for s in tuned.history] == ["head", "network", "network"]
    assert load_checkpoint(tmp_path / "m").labels == ("neutral", "happy", "zorp")
    figures = tuned.figures
    assert figures is not None and figures.start is not None
    assert figures.metrics["weighted_f1"] > figures.start.scores["weighted_f1"] + 0.1
    assert figures.start.scores["weighted_f1"] > figures.majority.scores["weighted_f1"]


def test_the_unchanged_start_speaks_in_the_new_labels() -> None:
    plan = Plan(("sad", "hurt", "sorrow"), {"sad": "sadness", "sorrow": "sadness"}, {})
    found = start_probabilities(np.array([[0.5, 0.5], [1.0, 0.0]]), ("sadness", "joy"), plan)
    assert found is not None
    np.testing.assert_allclose(found, [[0.5, 0, 0.5], [0.5, 0, 0.5]])
    assert start_probabilities(np.ones((1, 2)), ("a", "b"), Plan(("c", "d"), {}, {})) is None


def test_a_sentiment_that_cannot_be_told_is_asked_for(start: Path, tmp_path: Path) -> None:
    names = {"calm": "calm", "glad": "very zorp", "upset": "surprise"}
    folder = renamed(tmp_path / "corpus", names, sentiments=False)
    with pytest.raises(UsageError, match=r"of very zorp can't be told.*--sentiment 'very zorp'=\.\.\."):
        finetune(folder, start, tmp_path / "m", FAST, progress=False)
    assert [p.name for p in tmp_path.iterdir()] == ["corpus"]
    found = coarse_of(load_corpus(folder), {"very zorp": "none"})
    assert found == {"calm": "neutral", "very zorp": None, "surprise": None}
    with pytest.raises(UsageError, match="must be positive, neutral, negative or none"):
        coarse_of(load_corpus(folder), {"very zorp": "good"})
    with pytest.raises(UsageError, match="no label joy"):
        coarse_of(load_corpus(folder), {"joy": "positive"})
    tuned = finetune(
        folder, start, tmp_path / "m", dataclasses.replace(FAST, epochs=1), progress=False,
        sentiments={"very zorp": "positive"},
    )  # fmt: skip
    prior = load_checkpoint(tmp_path / "m").prior["coarse"]
    assert prior[0] > 0 and prior[1] > 0 and prior[2] == 0
    assert tuned.plan.coarse["very zorp"] == "positive"


def test_fifty_utterances_do_not_wreck_the_model(corpus: Path, start: Path, tmp_path: Path) -> None:
    few = load_corpus(corpus).table.with_row_index("row")
    train = few.filter(split="train").head(50)
    validation = few.filter(split="validation").head(12)
    rows = pl.concat([train, validation, few.filter(split="test")])
    source = load_corpus(corpus)
    at = rows["row"].to_numpy()
    features = {m: Features(f.values[at], f.present[at]) for m, f in source.features.items()}
    # Half of the labels are wrong: what there is to learn is mostly harmful.
    random = np.random.default_rng(1)
    wrong = (rows["split"] == "train").to_numpy() & (random.random(rows.height) < 0.5)
    shuffled = np.where(wrong, random.choice(LABELS, rows.height), rows["emotion"].to_numpy())
    rows = rows.drop("row").with_columns(pl.Series("emotion", shuffled, pl.String))
    write_corpus(tmp_path / "few", rows, LABELS, features, encoders=source.header.encoders)
    settings = FinetuneSettings(epochs=20, text="frozen")
    tuned = finetune(tmp_path / "few", start, tmp_path / "m", settings, progress=False)
    assert tuned.figures is not None and tuned.figures.start is not None
    assert tuned.figures.metrics["weighted_f1"] > tuned.figures.start.scores["weighted_f1"] - 0.03


def test_what_is_kept_is_the_best_and_calibrated_on_validation(start: Path, tmp_path: Path) -> None:
    """A rate that wrecks the network: the start stays the best, though other weights came after it."""
    folder = synthetic_corpus(tmp_path / "corpus", (12, 12, 12), MODALITIES).folder
    settings = dataclasses.replace(FAST, lr=1.0, average=0.0, anchor=0.0, epochs=1)
    tuned = finetune(folder, start, tmp_path / "m", settings, progress=False)
    assert (tuned.best.number, len(tuned.history)) == (0, 2)
    assert same(start, tmp_path / "m")
    made, corpus = load_checkpoint(tmp_path / "m"), load_corpus(folder)
    expected, other = (
        calibrate(made.network, corpus.conversations(split), made.prior)["audio"]["fine"]["temperature"]
        for split in ("validation", "train")
    )
    found = made.calibration["audio"]["fine"]["temperature"]
    assert found == pytest.approx(expected, rel=1e-4) and abs(expected - other) > 0.01


def test_the_anchor_keeps_weights_near_the_start(start: Path, tmp_path: Path) -> None:
    corpus = renamed(tmp_path / "corpus", {"calm": "calm", "glad": "glad", "upset": "zorp"})

    def moved(name: str) -> float:
        ours, theirs = (load_checkpoint(f).network.state_dict() for f in (tmp_path / name, start))
        return float(sum(((ours[k] - theirs[k]) ** 2).sum() for k in ours if not k.startswith("fine.")))

    for name, anchor in (("free", 0.0), ("held", 20.0)):
        settings = dataclasses.replace(FAST, anchor=anchor, lr=0.003, head_epochs=0, epochs=2)
        finetune(corpus, start, tmp_path / name, settings, progress=False)
    assert 0 < moved("held") < 0.5 * moved("free")


def test_batches_that_are_accumulated_make_the_step_of_a_large_one(
    corpus: Path, start: Path, tmp_path: Path
) -> None:
    for name, batch, times in (("one", 8, 1), ("two", 4, 2)):
        settings = dataclasses.replace(FAST, batch_size=batch, accumulate=times, epochs=1)
        tuned = finetune(corpus, start, tmp_path / name, settings, config=STILL, progress=False)
    assert {o.why for o in tuned.plan.overrides} == {"as asked"}
    one, two = (load_checkpoint(tmp_path / n).network.state_dict() for n in ("one", "two"))
    for key, tensor in one.items():
        torch.testing.assert_close(two[key], tensor, atol=2e-4, rtol=1e-3, msg=key)


def test_parts_of_unequal_weight_make_the_step_of_the_whole(
    corpus: Path, start: Path, tmp_path: Path
) -> None:
    config = {**STILL, "class_balance": 0.99}
    losses = []
    for name, batch, times in (("one", 9, 1), ("parts", 3, 3)):
        settings = dataclasses.replace(FAST, batch_size=batch, accumulate=times, epochs=1)
        tuned = finetune(corpus, start, tmp_path / name, settings, config=config, progress=False)
        losses.append(tuned.history[-1].loss)
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


RUN = """
import os, signal, sys, threading
from pathlib import Path
import torch
from train.finetune import FinetuneSettings, finetune

torch.set_num_threads(1)
corpus, start, out, kill = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])

def after(step):
    if step.number == kill:
        threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGKILL)).start()

finetune(corpus, start, out, FinetuneSettings({settings}), config={config}, on_epoch=after, progress=False)
"""
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A corpus of text alone, and a start that reads it with the embedded encoder."""
    root = tmp_path_factory.mktemp("talk")
    said = {"joy": "What a wonderful day", "anger": "Leave me alone you fool", "neutral": "The bus is here"}
    sentiment = {"joy": "positive", "anger": "negative", "neutral": "neutral"}
    rows = [
        {"scene": d, "who": f"S{u % 2}", "label": e, "sentiment": sentiment[e], "text": f"{said[e]} {d}"}
        | {"split": split}
        for d, split in enumerate(["train"] * 12 + ["dev"] * 4 + ["test"] * 4)
        for u, e in enumerate((*said, "joy"))
    ]
    pl.DataFrame(rows).write_csv(root / "labels.csv")
    torch.set_num_threads(1)
    prepare("table", root / "labels.csv", root / "known", shared_speakers=True)
    settings = TrainSettings(epochs=1, batch_size=8)
    train_corpus(root / "known", root / "start", settings=settings, config=SMALL, progress=False)
    (root / "labels.csv").write_text((root / "labels.csv").read_text().replace(",neutral,", ",zorp,"))
    prepare("table", root / "labels.csv", root / "corpus", shared_speakers=True)
    return root / "corpus", root / "start"


def test_killed_in_an_epoch_it_goes_on_to_the_same_weights(talk: tuple[Path, Path], tmp_path: Path) -> None:
    corpus, start = talk
    settings = FinetuneSettings(epochs=3, batch_size=4, head_epochs=1, text="adapter", rank=2, patience=None)
    whole = finetune(corpus, start, tmp_path / "whole", settings, progress=False)
    assert [s.stage for s in whole.history] == ["head", "network", "text"]
    script = tmp_path / "run.py"
    shown = "epochs=3, batch_size=4, head_epochs=1, text='adapter', rank=2, patience=None"
    script.write_text(RUN.replace("{settings}", shown).replace("{config}", "None"))
    command = [sys.executable, str(script), str(corpus), str(start), str(tmp_path / "killed")]
    killed = subprocess.run([*command, "2"], env=ENVIRONMENT, cwd=tmp_path, timeout=300)
    assert killed.returncode == -signal.SIGKILL and not (tmp_path / "killed").exists()
    seen: list[int] = []
    resumed = finetune(
        corpus, start, tmp_path / "killed", settings, progress=False, on_epoch=lambda s: seen.append(s.number)
    )
    assert seen == [3]
    assert same(tmp_path / "whole", tmp_path / "killed")
    timeless = [[dataclasses.replace(s, seconds=0) for s in t.history] for t in (whole, resumed)]
    assert timeless[0] == timeless[1]

    # The adapter lies beside the network and differs from a fresh one; the corpus is encoded anew for it.
    assert whole.best.stage == "text"
    files = [(tmp_path / n / "text.safetensors").read_bytes() for n in ("whole", "killed")]
    assert files[0] == files[1]
    assert load_checkpoint(tmp_path / "whole").encoders["text"]["adapter"] == "text.safetensors"
    found = evaluate(corpus, tmp_path / "whole", "validation", tmp_path / "eval")
    assert found["weighted_f1"] == pytest.approx(whole.best.weighted_f1)


@pytest.mark.slow
def test_two_processes_fine_tune_as_one(corpus: Path, start: Path, tmp_path: Path) -> None:
    settings = dataclasses.replace(FAST, epochs=1)
    finetune(corpus, start, tmp_path / "one", settings, config=STILL, progress=False)
    script = tmp_path / "run.py"
    shown = "epochs=1, batch_size=8, head_epochs=1, text='frozen'"
    script.write_text(RUN.replace("{settings}", shown).replace("{config}", repr(STILL)))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {**ENVIRONMENT, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, str(script), str(corpus), str(start), str(tmp_path / "two"), "0"]
    started = [
        subprocess.Popen(command, env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)}, cwd=tmp_path)
        for rank in range(2)
    ]
    assert [process.wait(timeout=300) for process in started] == [0, 0]
    one, two = (load_checkpoint(tmp_path / n).network.state_dict() for n in ("one", "two"))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, atol=5e-4, rtol=1e-3, msg=name)


def test_it_refuses_what_does_not_fit(corpus: Path, start: Path, tmp_path: Path) -> None:
    rows = synthetic_rows((6, 2, 2))
    features = synthetic_features(rows, MODALITIES)
    other = {m: {"name": f"other-{m}"} for m in features}
    write_corpus(tmp_path / "other", rows, LABELS, features, encoders=other)
    with pytest.raises(UsageError, match="trained on audio features of width 6 from .*--media"):
        finetune(tmp_path / "other", start, tmp_path / "m", FAST, progress=False)
    only = {"face": features["face"]}
    write_corpus(tmp_path / "face", rows, LABELS, only, encoders={"face": {"name": "planted-face"}})
    tuned = finetune(
        tmp_path / "face", start, tmp_path / "m", dataclasses.replace(FAST, epochs=1), progress=False
    )
    assert [o.what for o in tuned.plan.overrides] == ["audio"]
    clash = renamed(tmp_path / "clash", {"calm": "neutral", "glad": "positive", "upset": "negative"})
    with pytest.raises(UsageError, match="column of the sentiment"):
        finetune(clash, start, tmp_path / "m2", FAST, progress=False)
    for change, message in (
        ({"recurrent_width": 24}, "would change the shape"),
        ({"windows": 3}, "can't be changed so.*windows"),
    ):
        with pytest.raises(UsageError, match=message):
            finetune(corpus, start, tmp_path / "m2", FAST, config=change, progress=False)
    with pytest.raises(UsageError, match="no text to train"):
        finetune(tmp_path / "face", start, tmp_path / "m2", FinetuneSettings(text="adapter"), progress=False)
    assert not (tmp_path / "m2").exists() and not (tmp_path / "m2.work").exists()
    for wrong in ({"lr": 0.0}, {"patience": -1}, {"text": "some"}, {"choose": "luck"}, {"anchor": -1.0}):
        with pytest.raises(UsageError):
            FinetuneSettings(**wrong)
    assert settings_from(patience=0, lr=None).patience is None


def test_folds_test_every_dialogue_once(start: Path, tmp_path: Path) -> None:
    corpus = synthetic_corpus(tmp_path / "corpus", (6, 3, 3), MODALITIES)
    settings = dataclasses.replace(FAST, epochs=1)
    out = tmp_path / "m"
    tuned = finetune(corpus.folder, start, out, settings, progress=False)
    assert "`--folds 5` would test on all 12" in tuned.summary()[-1]
    assert "`--folds 5` would test on all 12" in (out / "CARD.md").read_text()
    pooled = cross_validate(corpus.folder, start, out, settings, 3, progress=False)
    assert pooled.scores.n == corpus.table.height and pooled.bounds.dialogues == 12
    assert pooled.bounds.draws and pooled.apart == "dialogues"
    assert pooled.said() in (out / "CARD.md").read_text()
    assert json.loads((out / "evaluation" / "folds.json").read_text())["scores"]["n"] == pooled.scores.n
    assert sorted(p.name for p in tmp_path.iterdir()) == ["corpus", "m"]


def test_folds_keep_people_apart_where_that_can_be(tmp_path: Path) -> None:
    rows = synthetic_rows((6, 3, 3)).with_columns(speaker=pl.col("dialogue_id") + "'s")
    pairs = {f"train-{i}'s": f"P{i // 2}" for i in range(6)}  # two dialogues each of three people
    rows = rows.with_columns(pl.col("speaker").replace(pairs))
    write_corpus(tmp_path / "corpus", rows, LABELS, synthetic_features(rows, MODALITIES))
    _, fold, apart = check_folds(tmp_path / "corpus", 4, seed=0)
    assert apart == "people" and set(fold.values()) == {0, 1, 2, 3} and len(fold) == 12
    assert all(fold[f"train-{i}"] == fold[f"train-{i + 1}"] for i in (0, 2, 4))
    for folds in (2, 13):
        with pytest.raises(UsageError, match="give 3 to as many as there are labelled dialogues.*has 12"):
            check_folds(tmp_path / "corpus", folds, seed=0)


def test_balance_and_mixed_precision_train(corpus: Path, start: Path, tmp_path: Path) -> None:
    settings = dataclasses.replace(FAST, balance=1.0, autocast=True, epochs=2)
    tuned = finetune(corpus, start, tmp_path / "m", settings, progress=False)
    assert load_checkpoint(tmp_path / "m").config.logit_adjustment == 1.0
    assert [o.what for o in tuned.plan.overrides] == ["logit_adjustment"]
    assert tuned.best.weighted_f1 > 0.5


def test_share_to_a_folder_and_back(corpus: Path, start: Path, tmp_path: Path) -> None:
    finetune(corpus, start, tmp_path / "m", dataclasses.replace(FAST, epochs=1), progress=False)
    assert share(tmp_path / "m", str(tmp_path / "repository")) == str(tmp_path / "repository")
    names = {p.name for p in (tmp_path / "repository").iterdir()}
    assert names == {"README.md", "model.json", "model.safetensors", "evaluation"}
    assert ModelCard.load(tmp_path / "repository" / "README.md").data.library_name == "conversation-annotator"
    again = checkpoint_folder(str(tmp_path / "repository"))
    assert same(again, tmp_path / "m")
    with pytest.raises(UsageError, match="no CARD.md"):
        share(start, str(tmp_path / "bare"))
    with pytest.raises(UsageError, match="holds something else"):
        share(tmp_path / "m", str(corpus))
    for name in ("hf:model", "hf:a/b/c", "hf:../x", "hf:a/b c"):
        with pytest.raises(UsageError, match="is no repository"):
            parsed(name)


def test_names_of_labels() -> None:
    assert [kind_of(n) for n in ("Happy", "ANG", "zorp")] == ["joy", "anger", None]
    assert same_label("Calm", ("neutral", "calm")) == "calm" and same_label("mad", ("anger",)) == "anger"
    assert (sentiment_of("peaceful"), sentiment_of("surprised")) == ("positive", None)
    assert named_values(["a=b=c"], "--x") == {"a": "b=c"}
    assert fields_from(["gated=true", "alpha=0.3"]) == {"gated": True, "alpha": 0.3}
    for wrong in (["a"], ["=b"], ["a="], ["a=1", "a=2"]):
        with pytest.raises(UsageError):
            named_values(wrong, "--x")
    assert plain("a|b<script>") == "a\\|b&lt;script&gt;"
