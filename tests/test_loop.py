"""The training loop: it learns, it resumes to the same weights, and what it writes can be used."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from annotator.records import UsageError
from model import Network, collate, compute_loss, load_checkpoint
from tests.corpora import LABELS, WIDTHS, synthetic_corpus, synthetic_features, synthetic_rows
from train import loop
from train.core import prior_of, rate_factor
from train.corpus import load_corpus, write_corpus
from train.evaluate import evaluate
from train.evaluate.calibration import calibrate
from train.evaluate.logits import targets
from train.loop import network_config, statistics, train_corpus
from train.settings import Epoch, TrainSettings

ROOT = Path(__file__).resolve().parents[1]
SMALL = {"co_width": 16, "co_heads": 2, "co_ffn": 16, "recurrent_width": 12, "graph_width": 12}
FAST = TrainSettings(epochs=4, batch_size=8, lr=0.01)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_checkpoint(folder).network.state_dict())


def same(first: Path, second: Path) -> bool:
    a, b = weights(first), weights(second)
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_it_learns_a_planted_signal_and_keeps_the_best_epoch(tmp_path: Path) -> None:
    corpus = synthetic_corpus(tmp_path / "corpus", (24, 8, 8), strength=1.5)
    seen: list[Epoch] = []
    before = torch.get_rng_state()
    trained = train_corpus(
        tmp_path / "corpus", tmp_path / "model", settings=dataclasses.replace(FAST, epochs=8), config=SMALL,
        oracle=True, on_epoch=seen.append,
    )  # fmt: skip
    assert torch.equal(torch.get_rng_state(), before)  # the caller's random numbers are left alone
    assert tuple(seen) == trained.history and seen[-1].loss < seen[0].loss
    assert trained.best.weighted_f1 == max(e.weighted_f1 for e in seen) > 0.7
    assert trained.oracle_test_best == max(e.oracle_weighted_f1 or 0 for e in seen)
    checkpoint = load_checkpoint(tmp_path / "model")
    assert checkpoint.labels == LABELS and checkpoint.encoders == corpus.header.encoders
    assert set(checkpoint.calibration) >= {"text+audio+face", "text", ""}
    assert sum(checkpoint.prior["fine"]) == pytest.approx(1) and checkpoint.name == "model"
    assert checkpoint.meta["validation"]["number"] == trained.best.number
    found = evaluate(tmp_path / "corpus", tmp_path / "model", "validation", tmp_path / "eval")
    assert found["weighted_f1"] == pytest.approx(trained.best.weighted_f1)
    assert not (tmp_path / "model.work").exists()


def test_normalisation_is_of_present_training_rows(tmp_path: Path) -> None:
    corpus = synthetic_corpus(tmp_path / "corpus")
    found = statistics(corpus.conversations("train"), corpus.modalities)
    rows = (corpus.table["split"] == "train").to_numpy()
    for modality, known in corpus.features.items():
        there = np.asarray(known.values)[rows & known.present]
        np.testing.assert_allclose(found[modality][0], there.mean(axis=0), atol=1e-6)
        np.testing.assert_allclose(found[modality][1], there.std(axis=0), atol=1e-6)


RUN = """
import os, signal, sys
from pathlib import Path
import torch
from train.loop import train_corpus
from train.settings import TrainSettings

torch.set_num_threads(1)
corpus, out, kill = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])

def after(epoch):
    if epoch.number == kill:
        os.kill(os.getpid(), signal.SIGKILL)

settings = TrainSettings(epochs=4, batch_size=8, lr=0.01)
train_corpus(corpus, out, settings=settings, config={config}, on_epoch=after, progress=False)
"""


def test_training_killed_and_resumed_gives_the_same_weights(tmp_path: Path) -> None:
    synthetic_corpus(tmp_path / "corpus")
    config = {**SMALL, "loss": "dynamic"}
    whole = train_corpus(tmp_path / "corpus", tmp_path / "whole", settings=FAST, config=config)
    script = tmp_path / "run.py"
    script.write_text(RUN.replace("{config}", repr(config)))
    command = [sys.executable, str(script), str(tmp_path / "corpus"), str(tmp_path / "killed")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    killed = subprocess.run([*command, "2"], env=environment, cwd=tmp_path)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed").exists() and (tmp_path / "killed.work").is_dir()
    seen: list[int] = []
    resumed = train_corpus(
        tmp_path / "corpus",
        tmp_path / "killed",
        settings=FAST,
        config=config,
        on_epoch=lambda e: seen.append(e.number),
    )
    assert seen == [3, 4]
    assert same(tmp_path / "whole", tmp_path / "killed")
    timeless = [[dataclasses.replace(e, seconds=0) for e in t.history] for t in (whole, resumed)]
    assert timeless[0] == timeless[1]


def test_the_seed_and_nothing_else_decides(tmp_path: Path) -> None:
    synthetic_corpus(tmp_path / "corpus")
    settings = dataclasses.replace(FAST, epochs=2)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.manual_seed(hash(name) % 1000)
        chosen = dataclasses.replace(settings, seed=seed)
        train_corpus(tmp_path / "corpus", tmp_path / name, settings=chosen, config=SMALL)
    assert same(tmp_path / "a", tmp_path / "b") and not same(tmp_path / "a", tmp_path / "c")


def test_state_of_another_training_is_not_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    synthetic_corpus(tmp_path / "corpus")

    class Stop(Exception):
        pass

    def stop(epoch: Epoch) -> None:
        raise Stop

    with pytest.raises(Stop):
        train_corpus(tmp_path / "corpus", tmp_path / "m", settings=FAST, config=SMALL, on_epoch=stop)
    seen: list[int] = []
    other = dataclasses.replace(FAST, epochs=2, seed=7)
    train_corpus(
        tmp_path / "corpus",
        tmp_path / "m",
        settings=other,
        config=SMALL,
        on_epoch=lambda e: seen.append(e.number),
    )
    assert seen == [1, 2] and "of another training" in caplog.text


class Broken(Exception):
    """What a caller's function raises after an epoch, as a kill between two epochs."""


def test_a_training_broken_off_goes_on_as_if_it_had_not_been(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    synthetic_corpus(tmp_path / "corpus")
    config = {**SMALL, "loss": "dynamic"}  # weights that follow from the losses of two epochs before

    def stop(epoch: Epoch) -> None:
        if epoch.number == 3:
            raise Broken

    train_corpus(tmp_path / "corpus", tmp_path / "whole", settings=FAST, config=config)
    with pytest.raises(Broken):
        train_corpus(tmp_path / "corpus", tmp_path / "m", settings=FAST, config=config, on_epoch=stop)
    seen: list[int] = []
    with caplog.at_level("INFO"):
        train_corpus(
            tmp_path / "corpus", tmp_path / "m", settings=FAST, config=config,
            on_epoch=lambda e: seen.append(e.number),
        )  # fmt: skip
    assert seen == [4] and "Going on after epoch 3" in caplog.text
    assert same(tmp_path / "whole", tmp_path / "m")
    # Whoever trains again into the same place replaces what was there.
    train_corpus(
        tmp_path / "corpus", tmp_path / "m", settings=dataclasses.replace(FAST, seed=1), config=config
    )
    assert not same(tmp_path / "whole", tmp_path / "m")


@pytest.mark.parametrize("other", ["train", "validation", "settings"])
def test_state_of_other_dialogues_or_settings_is_not_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, other: str
) -> None:
    corpus = synthetic_corpus(tmp_path / "corpus")
    sets = {name: corpus.conversations(name) for name in ("train", "validation")}
    config = network_config(corpus, "default", None, SMALL)
    start = Network(config)
    settings = dataclasses.replace(FAST, epochs=2)
    seen: list[int] = []

    def run(on_epoch: Any) -> None:
        loop.train(
            sets["train"], sets["validation"], config, settings, tmp_path / "m",
            labels=LABELS, encoders={}, start=start, progress=False, on_epoch=on_epoch,
        )  # fmt: skip

    def stop(epoch: Epoch) -> None:
        raise Broken

    before = {name: value.clone() for name, value in start.state_dict().items()}
    with pytest.raises(Broken):
        run(stop)
    start.load_state_dict(before)
    if other == "settings":
        settings = dataclasses.replace(settings, lr=settings.lr / 2)
    else:
        sets[other] = sets[other][1:]
    run(lambda epoch: seen.append(epoch.number))
    assert seen == [1, 2] and "of another training" in caplog.text


def test_it_stops_early(tmp_path: Path) -> None:
    rows = synthetic_rows((8, 4, 2))
    write_corpus(tmp_path / "corpus", rows, LABELS, synthetic_features(rows, strength=0.0))
    # With so small a rate nothing changes, so no epoch beats the first.
    settings = TrainSettings(epochs=30, lr=1e-9, patience=2)
    trained = train_corpus(tmp_path / "corpus", tmp_path / "m", settings=settings, config=SMALL)
    assert len(trained.history) == 3 and trained.best.number == 1


def test_the_weights_are_those_of_the_best_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synthetic_corpus(tmp_path / "corpus", (6, 6, 2))
    settings = TrainSettings(epochs=1, batch_size=8, lr=0.01, schedule="constant")
    train_corpus(tmp_path / "corpus", tmp_path / "first", settings=settings, config=SMALL)
    falling = iter((0.9, 0.5, 0.1))
    true = loop.validate
    monkeypatch.setattr(
        loop, "validate", lambda *given: dataclasses.replace(true(*given), weighted_f1=next(falling))
    )
    longer = dataclasses.replace(settings, epochs=3)
    trained = train_corpus(tmp_path / "corpus", tmp_path / "best", settings=longer, config=SMALL)
    assert (trained.best.number, len(trained.history)) == (1, 3)
    assert same(tmp_path / "first", tmp_path / "best")


def test_calibration_is_of_the_validation_split(tmp_path: Path) -> None:
    synthetic_corpus(tmp_path / "corpus", (12, 12, 2), strength=0.3)
    train_corpus(tmp_path / "corpus", tmp_path / "m", settings=FAST, config=SMALL)
    made, corpus = load_checkpoint(tmp_path / "m"), load_corpus(tmp_path / "corpus")
    expected, other = (
        calibrate(made.network, corpus.conversations(split), made.prior)["text"]["fine"]["temperature"]
        for split in ("validation", "train")
    )
    found = made.calibration["text"]["fine"]["temperature"]
    assert found == pytest.approx(expected, rel=1e-4) and abs(expected - other) > 0.01


def test_one_modality_of_a_corpus(tmp_path: Path) -> None:
    synthetic_corpus(tmp_path / "corpus")
    settings = dataclasses.replace(FAST, epochs=1)
    train_corpus(tmp_path / "corpus", tmp_path / "m", settings=settings, config=SMALL, modalities=["audio"])
    assert load_checkpoint(tmp_path / "m").config.modalities == ("audio",)
    found = evaluate(tmp_path / "corpus", tmp_path / "m", "test", tmp_path / "eval")
    assert list(found["subsets"]) == ["audio"]
    with pytest.raises(UsageError, match="no features of smell; it has text, audio, face"):
        train_corpus(tmp_path / "corpus", tmp_path / "m", modalities=["smell"])


def test_paper_preset(tmp_path: Path) -> None:
    rows = synthetic_rows((4, 2, 2))
    fixed = write_corpus(
        tmp_path / "corpus", rows, LABELS, synthetic_features(rows), speakers=("S0", "S1", "S2")
    )
    config = network_config(fixed, "paper", None, {})
    assert (config.relations, config.n_speakers, config.input_dims) == ("speaker_pair", 3, WIDTHS)
    assert network_config(fixed, "default", None, {}).relations == "same_diff"
    paper = TrainSettings.paper(seed=3)
    assert (paper.epochs, paper.batch_size, paper.lr, paper.optimizer, paper.seed) == (
        60,
        32,
        0.005,
        "adam",
        3,
    )


def test_faulty_settings_are_refused(tmp_path: Path) -> None:
    corpus = synthetic_corpus(tmp_path / "corpus", (4, 2, 2))
    with pytest.raises(UsageError, match="lr: input should be greater than 0; got 0"):
        TrainSettings(lr=0)
    with pytest.raises(UsageError, match="optimizer: input should be .adam. or .adamw."):
        TrainSettings(optimizer="sgd")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="can't be built.*window_past"):
        network_config(corpus, "default", None, {"window_past": -1})
    with pytest.raises(UsageError, match="can't be built"):
        network_config(corpus, "default", None, {"windows": 3})
    with pytest.raises(UsageError, match="no preset"):
        network_config(corpus, "best", None, {})
    settings = TrainSettings(epochs=3, lr=1e30, clip=1e30, optimizer="adam", schedule="constant")
    with pytest.raises(UsageError, match="no longer finite.*lower rate"):
        train_corpus(tmp_path / "corpus", tmp_path / "m", settings=settings, config=SMALL)
    assert not (tmp_path / "m").exists()


def test_unlabelled_splits_are_refused(tmp_path: Path) -> None:
    rows = synthetic_rows((4, 2, 2)).with_columns(emotion=None)
    features = synthetic_features(synthetic_rows((4, 2, 2)))
    write_corpus(tmp_path / "corpus", rows, LABELS, features)
    with pytest.raises(UsageError, match="needs utterances with an emotion"):
        train_corpus(tmp_path / "corpus", tmp_path / "m")


def test_the_first_label_is_one_too(tmp_path: Path) -> None:
    first = pl.when(pl.col("split") == "validation").then(pl.lit(LABELS[0])).otherwise("emotion")
    rows = synthetic_rows((4, 2, 2))
    features = synthetic_features(rows, ("text",))
    write_corpus(tmp_path / "corpus", rows.with_columns(emotion=first), LABELS, features)
    settings = dataclasses.replace(FAST, epochs=1)
    trained = train_corpus(tmp_path / "corpus", tmp_path / "m", settings=settings, config=SMALL)
    assert 0 <= trained.best.accuracy <= 1


def test_weights_of_encoders_lie_beside_the_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "text.safetensors").write_bytes(b"adapter")
    rows = synthetic_rows((4, 2, 2))
    write_corpus(
        tmp_path / "corpus", rows, LABELS, synthetic_features(rows, ("text",)), weights=tmp_path,
        encoders={"text": {"name": "minilm", "adapter": "text.safetensors"}},
    )  # fmt: skip
    train_corpus(
        tmp_path / "corpus", tmp_path / "m", settings=dataclasses.replace(FAST, epochs=1), config=SMALL
    )
    assert (tmp_path / "m" / "text.safetensors").read_bytes() == b"adapter"


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    synthetic_corpus(tmp_path / "corpus")
    still = {
        **SMALL, "dropout": 0.0, "co_dropout": 0.0, "feature_dropout": 0.0, "modality_dropout": 0.0,
        "graph_drop": "none",
    }  # fmt: skip
    # Few steps of plain size: more would only magnify the rounding of sums in another order.
    config = {**still, "loss": "additive"}
    settings = dataclasses.replace(FAST, epochs=2, lr=1e-3)
    train_corpus(tmp_path / "corpus", tmp_path / "one", settings=settings, config=config)
    script = tmp_path / "run.py"
    script.write_text(
        RUN.replace("{config}", repr(config)).replace("epochs=4", "epochs=2").replace("lr=0.01", "lr=1e-3")
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {
        **os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    command = [sys.executable, str(script), str(tmp_path / "corpus"), str(tmp_path / "two"), "0"]
    started = [
        subprocess.Popen(command, env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)}, cwd=tmp_path)
        for rank in range(2)
    ]
    assert [process.wait(timeout=120) for process in started] == [0, 0]
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, atol=5e-4, rtol=1e-3, msg=name)


STILL = {
    **SMALL, "dropout": 0.0, "co_dropout": 0.0, "feature_dropout": 0.0, "modality_dropout": 0.0,
    "graph_drop": "none",
}  # fmt: skip


def test_the_losses_of_an_epoch_are_means_over_its_utterances(tmp_path: Path) -> None:
    corpus = synthetic_corpus(tmp_path / "corpus", (11, 4, 2))  # the last step is smaller
    settings = TrainSettings(epochs=1, batch_size=4, lr=1e-12, schedule="constant")
    config = {**STILL, "alpha": 0.3}
    trained = train_corpus(tmp_path / "corpus", tmp_path / "m", settings=settings, config=config)
    checkpoint, dialogues = load_checkpoint(tmp_path / "m"), corpus.conversations("train")
    assert all((d.fine >= 0).all() and (d.coarse >= 0).all() for d in dialogues)
    with torch.no_grad():
        output = checkpoint.network(collate([d.conversation for d in dialogues], corpus.modalities))
        fine, coarse = (torch.from_numpy(t) for t in targets(dialogues))
        loss = compute_loss(output, fine, coarse, checkpoint.config)
    epoch = trained.history[0]
    assert epoch.loss == pytest.approx(float(loss.total), rel=1e-4)
    assert epoch.fine_loss == pytest.approx(float(loss.fine), rel=1e-4)
    assert epoch.coarse_loss == pytest.approx(float(loss.coarse), rel=1e-4)
    scores = evaluate(tmp_path / "corpus", tmp_path / "m", "validation", tmp_path / "eval")
    for name in ("accuracy", "weighted_f1", "macro_f1"):
        assert getattr(epoch, name) == pytest.approx(scores[name])
    assert epoch.number == 1 and 0 < epoch.seconds < 600 and epoch.oracle_weighted_f1 is None


def test_the_rate_rises_and_falls_by_step_or_stays(tmp_path: Path) -> None:
    synthetic_corpus(tmp_path / "corpus", (9, 4, 2))  # three steps an epoch
    settings = TrainSettings(epochs=3, batch_size=4, lr=0.01, warmup=0.5)
    trained = train_corpus(tmp_path / "corpus", tmp_path / "m", settings=settings, config=SMALL)
    expected = [0.01 * rate_factor(step, 9, 0.5) for step in (2, 5, 8)]
    assert [epoch.lr for epoch in trained.history] == pytest.approx(expected)
    constant = dataclasses.replace(settings, schedule="constant", epochs=2)
    trained = train_corpus(tmp_path / "corpus", tmp_path / "c", settings=constant, config=SMALL)
    assert [epoch.lr for epoch in trained.history] == [0.01, 0.01]


def test_of_epochs_that_are_as_good_the_first_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synthetic_corpus(tmp_path / "corpus", (6, 4, 2))
    true = loop.validate
    monkeypatch.setattr(loop, "validate", lambda *given: dataclasses.replace(true(*given), weighted_f1=0.5))
    settings = TrainSettings(epochs=9, batch_size=8, patience=1)
    trained = train_corpus(tmp_path / "corpus", tmp_path / "m", settings=settings, config=SMALL)
    assert (trained.best.number, len(trained.history)) == (1, 2)
    never = dataclasses.replace(settings, epochs=3, patience=None)
    trained = train_corpus(tmp_path / "corpus", tmp_path / "n", settings=never, config=SMALL)
    assert (trained.best.number, len(trained.history)) == (1, 3)


def test_the_optimizer_the_clipping_and_the_class_counts_are_used(tmp_path: Path) -> None:
    synthetic_corpus(tmp_path / "corpus", (6, 4, 2))
    settings = TrainSettings(epochs=1, batch_size=3, lr=0.01, weight_decay=0.5)
    plain = train_corpus(tmp_path / "corpus", tmp_path / "plain", settings=settings, config=STILL)
    for name, changes, config in (
        ("adam", {"optimizer": "adam"}, STILL),
        ("decay", {"weight_decay": 0.0}, STILL),
        ("clip", {"clip": 1e-9}, STILL),  # Adam's own small number outweighs such gradients
        ("counts", {}, {**STILL, "class_balance": 0.9}),
        ("batch", {"batch_size": 6}, STILL),
    ):
        train_corpus(
            tmp_path / "corpus", tmp_path / name, settings=dataclasses.replace(settings, **changes),
            config=config,
        )  # fmt: skip
        assert not same(tmp_path / "plain", tmp_path / name), name
    assert plain.best == plain.history[0]


def test_what_a_checkpoint_tells_of_its_training(tmp_path: Path) -> None:
    corpus = synthetic_corpus(tmp_path / "corpus", (6, 4, 2))
    settings = TrainSettings(epochs=2, batch_size=8, seed=5)
    trained = train_corpus(
        tmp_path / "corpus", tmp_path / "a.b", settings=settings, config=SMALL, name="mine", progress=False
    )
    checkpoint = load_checkpoint(tmp_path / "a.b")
    assert (checkpoint.name, checkpoint.version) == ("mine", "1")
    assert checkpoint.prior == prior_of(corpus.conversations("train"), len(LABELS))
    meta = checkpoint.meta
    assert meta["settings"] == dataclasses.asdict(settings) and meta["epochs"] == 2
    assert meta["validation"] == dataclasses.asdict(trained.best)
    assert meta["torch"] == torch.__version__ and meta["fingerprints"] == corpus.header.fingerprints
    assert meta["corpus"]["name"] == "corpus"
    assert meta["corpus"]["counts"]["train"]["dialogues"] == 6
    assert trained.folder == tmp_path / "a.b" and trained.oracle_test_best is None


def test_a_preset_brings_its_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synthetic_corpus(tmp_path / "corpus", (4, 2, 2))
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(loop, "train", lambda *parts, **named: asked.append((parts, named)))
    train_corpus(tmp_path / "corpus", tmp_path / "first.ckpt")
    train_corpus(tmp_path / "corpus", tmp_path / "m", preset="paper", oracle=True, progress=False)
    (first, first_named), (paper, paper_named) = asked
    assert first[3] == TrainSettings() and paper[3] == TrainSettings.paper()
    assert first[2].missing and not paper[2].missing
    assert [len(part) for part in paper[:2]] == [4, 2] and len(paper_named["oracle"]) == 2
    assert first_named["oracle"] is None and first_named["name"] == "first"
    assert (first_named["progress"], paper_named["progress"]) == (True, False)
    assert first_named["encoder_weights"] == [] and first_named["labels"] == LABELS


def test_a_configuration_takes_what_the_corpus_has(tmp_path: Path) -> None:
    rows = synthetic_rows((4, 2, 2))
    features = synthetic_features(rows)
    free = write_corpus(tmp_path / "free", rows, LABELS, features)
    assert network_config(free, "paper", None, {}).relations == "same_diff"
    assert network_config(free, "paper", None, {}).classes == len(LABELS)
    fixed = write_corpus(tmp_path / "fixed", rows, LABELS, features, speakers=("S0", "S1", "S2"))
    chosen = network_config(fixed, "paper", ["face", "text"], {"relations": "same_diff", "n_speakers": 1})
    assert (chosen.relations, chosen.n_speakers) == ("same_diff", 1), "what is asked for comes first"
    assert chosen.modalities == ("text", "face")
    with pytest.raises(UsageError, match="no features of smell, taste; it has text, audio, face. Prepare"):
        network_config(free, "default", ["smell", "text", "taste"], {})
    with pytest.raises(UsageError, match="'best' is no preset; use default or paper"):
        network_config(free, "best", None, {})


def test_nothing_is_normalised_of_a_modality_that_nobody_has(tmp_path: Path) -> None:
    corpus = synthetic_corpus(tmp_path / "corpus", (4, 2, 2))
    dialogues = corpus.conversations("train")
    one = dialogues[0].conversation
    without = dataclasses.replace(
        dialogues[0],
        conversation=dataclasses.replace(one, features={"text": one.features["text"]}),
    )
    found = statistics([without, dialogues[1]], ("audio",))
    kept = dialogues[1].conversation.features["audio"]
    np.testing.assert_allclose(found["audio"][0], kept.values[kept.present].mean(axis=0), atol=1e-6)
    with pytest.raises(UsageError, match="No training utterance has audio: train without it"):
        statistics([without], ("text", "audio"))


def test_a_foreign_work_folder_is_left_alone(tmp_path: Path) -> None:
    synthetic_corpus(tmp_path / "corpus", (4, 2, 2))
    (tmp_path / "m.work").mkdir()
    (tmp_path / "m.work" / "thesis.txt").write_text("years")
    with pytest.raises(UsageError, match="m.work"):
        train_corpus(tmp_path / "corpus", tmp_path / "m", settings=FAST, config=SMALL)
    assert (tmp_path / "m.work" / "thesis.txt").read_text() == "years"
