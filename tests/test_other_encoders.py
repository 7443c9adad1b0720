"""A corpus with other encoders than the starter's: prepared, fine-tuned on, run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from annotator.pipeline import run
from annotator.records import Features, UsageError
from annotator.settings import RunSettings
from annotator.weights import STARTER
from model import load_checkpoint
from tests.corpora import LABELS, synthetic_features, synthetic_rows
from tests.media import talk
from train.corpus import load_corpus, write_corpus
from train.finetune import FinetuneSettings, finetune
from train.loop import train_corpus
from train.options import encoders_from
from train.prepare import prepare
from train.settings import TrainSettings

SMALL = {"co_width": 16, "co_heads": 2, "co_ffn": 16, "recurrent_width": 12, "graph_width": 12}
FAST = FinetuneSettings(epochs=8, batch_size=8, head_epochs=2, text="frozen")


def test_another_voice_encoder_from_recordings_to_a_run(tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    talk(videos / "talk.wav", 16)
    settings = RunSettings(workers=1)
    splits = ["train"] * 4 + ["validation"] * 2 + ["test"] * 2
    rows = {
        "file": ["talk.wav"] * 8,
        "dialogue": splits,  # each is a conversation of its own
        "start": [2.0 * i for i in range(8)],
        "end": [2.0 * i + 1.6 for i in range(8)],
        "speaker": ["Ana", "Ben"] * 4,
        "text": ["how lovely", "leave me alone"] * 4,
        "label": ["glad", "gloomy"] * 4,
        "split": splits,
    }
    pl.DataFrame(rows).write_csv(tmp_path / "labelled.csv")

    chosen = encoders_from(["audio=egemaps", "face=none"])
    corpus = prepare(
        "table", tmp_path / "labelled.csv", tmp_path / "corpus", media=videos, encoders=chosen,
        settings=settings, shared_speakers=True,
    )  # fmt: skip
    assert set(corpus.features) == {"text", "audio"}
    assert corpus.header.encoders["audio"] == {"name": "egemaps"}
    assert corpus.header.encoders["text"]["name"] == "minilm"  # the starter's still
    voice = corpus.features["audio"]
    assert voice.values.shape == (corpus.table.height, 88) and voice.present.all()
    assert len(np.unique(voice.values, axis=0)) == 8

    options = {"sentiments": {"glad": "positive", "gloomy": "negative"}, "progress": False}
    with pytest.raises(UsageError, match=r"trained on audio features of width 8 .*--renew audio"):
        finetune(corpus.folder, STARTER, tmp_path / "m", FAST, **options)  # type: ignore[arg-type]
    out = tmp_path / "moods"
    tuned = finetune(corpus.folder, STARTER, out, FAST, renew=["audio"], **options)  # type: ignore[arg-type]
    assert "encoder of audio: name whisper" in "\n".join(map(str, tuned.plan.overrides))
    assert load_checkpoint(out).encoders["audio"] == {"name": "egemaps"}
    assert sorted(f.name for f in out.glob("*.safetensors")) == [
        "faces.safetensors", "languages.safetensors", "model.safetensors", "text.safetensors",
    ]  # fmt: skip
    run([videos], tmp_path / "moods.csv", RunSettings(workers=1, model=str(out)), progress=False)
    found = pl.read_csv(tmp_path / "moods.csv")
    assert set(found["emotion"]) <= {"glad", "gloomy"} and found["has_audio"].all()
    assert found["p_glad"].is_finite().all()


def test_a_part_learnt_anew_helps_and_the_rest_is_inherited(tmp_path: Path) -> None:
    rows = synthetic_rows((40, 12, 40))
    features = synthetic_features(rows, ("audio", "face"))
    plain = {m: {"name": f"planted-{m}"} for m in features}
    write_corpus(tmp_path / "first", rows, LABELS, features, encoders=plain)
    train_corpus(
        tmp_path / "first", tmp_path / "start", progress=False, config=SMALL,
        settings=TrainSettings(epochs=6, batch_size=8, lr=0.01),
    )  # fmt: skip
    # Another encoder says the same, and more of it, in numbers of another scale and width.
    strong = synthetic_features(rows, ("audio",), strength=3.0, seed=5)["audio"]
    many = np.tile(strong.values, 8)[:, :44]
    wide = np.concatenate([100 + 40 * many, many], axis=1).astype(np.float32)
    wide[:, 7] = 3  # never varies here
    other = {"audio": Features(wide, strong.present), "face": features["face"]}
    named = {"audio": {"name": "egemaps"}, "face": plain["face"]}
    write_corpus(tmp_path / "other", rows, LABELS, other, encoders=named)
    tuned = finetune(
        tmp_path / "other", tmp_path / "start", tmp_path / "m", FAST, renew=["audio"], progress=False
    )
    assert tuned.figures is not None and tuned.figures.start is not None
    # The start, which can read the faces only, is far behind.
    interval = tuned.figures.start.difference.weighted_f1_interval
    assert interval is not None and interval[0] > 0.05
    assert [s.stage for s in tuned.history][:3] == ["head", "head", "network"]  # what is new comes first
    network, start = load_checkpoint(tmp_path / "m").network, load_checkpoint(tmp_path / "start").network
    assert network.config.input_dims == {"audio": 88, "face": 5}
    mean = network.get_buffer("mean_audio")
    assert mean[:7].mean() > 50 > mean[44:].abs().max()
    # What training can't tell anything about has no say later.
    weights = network.get_parameter("project.audio.weight")
    assert weights[:, 7].abs().max() == 0 < weights[:, 8].abs().max()
    assert (
        "Against the start as it is without audio: weighted F1 +" in (tmp_path / "m" / "CARD.md").read_text()
    )
    assert network.get_buffer("mean_face").equal(start.get_buffer("mean_face"))


def test_what_cannot_be_another_encoder_is_refused(tmp_path: Path) -> None:
    assert encoders_from(["text=hf,path=/models/m,context=2"]) == {
        "text": {"name": "hf", "path": "/models/m", "context": 2}
    }
    for option, message in (
        ("audio", "write NAME=VALUE"),
        ("voice=egemaps", "a modality is text, audio, face"),
        ("audio=egemaps,speaker_norm", "write NAME=VALUE"),
        ("audio=egemaps,name=compare2016", "names two encoders"),
    ):
        with pytest.raises(UsageError, match=message):
            encoders_from([option])
    table = tmp_path / "labelled.csv"
    table.write_text(
        "dialogue,utterance,speaker,text,label,split\n"
        + "".join(
            f"{s},{i},{s},hello there,{mood},{s}\n"
            for s in ("train", "validation", "test")
            for i, mood in enumerate(("joy", "anger"))
        )
    )
    for option, message in (
        ("audio=egemaps", "reads recordings, and there are none here"),
        ("text=egemaps", "No text encoder 'egemaps': choose from minilm, e5, hf"),
        ("text=minilm,size=9", "does not know 'size'"),
        ("text=none", "would be left to learn from: no text, and no features"),
    ):
        with pytest.raises(UsageError, match=message):
            prepare("table", table, tmp_path / "corpus", encoders=encoders_from([option]))
    assert not (tmp_path / "corpus").exists()

    rows = synthetic_rows((6, 2, 2))
    features = synthetic_features(rows, ("audio",))
    write_corpus(tmp_path / "nameless", rows, LABELS, features)
    assert load_corpus(tmp_path / "nameless").header.encoders == {}
    for renew, message in (
        (["text"], "only audio and face can be learnt anew"),
        (["face"], "has no face features"),
        (["audio"], "doesn't say which encoder made them"),
    ):
        with pytest.raises(UsageError, match=message):
            finetune(tmp_path / "nameless", STARTER, tmp_path / "m", FAST, renew=renew, progress=False)
    # Features whose encoder no run has; the start's own ones; none to learn from.
    named = {"audio": {"name": "published"}}
    write_corpus(tmp_path / "published", rows, LABELS, features, encoders=named)
    own = load_checkpoint(STARTER).encoders["audio"]
    values = np.zeros((rows.height, 8), np.float32)
    theirs = {"audio": Features(values, np.ones(rows.height, np.bool_))}
    write_corpus(tmp_path / "own", rows, LABELS, theirs, encoders={"audio": own}, weights=STARTER)
    untaught = features["audio"].present & (rows["split"] != "train").to_numpy()
    only = {"audio": Features(features["audio"].values, untaught)}
    write_corpus(tmp_path / "untaught", rows, LABELS, only, encoders=named)
    for corpus, message in (
        ("published", "'published'; the result could not be run on recordings: No audio encoder"),
        ("own", "has the start's own audio: leave out --renew audio"),
        ("untaught", "no training utterance has any to learn from"),
    ):
        with pytest.raises(UsageError, match=message):
            finetune(tmp_path / corpus, STARTER, tmp_path / "m", FAST, renew=["audio"], progress=False)
    assert not (tmp_path / "m").exists() and not (tmp_path / "m.work").exists()
