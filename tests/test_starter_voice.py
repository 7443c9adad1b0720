"""The voice of the bundle: clips through channels, classifiers by folds, and how sure they are."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile
from safetensors import safe_open
from safetensors.numpy import save_file

from annotator.encode import make_encoder
from annotator.encode.audio import WIDTHS, load_voice_scores
from annotator.records import RATE_HZ, Audio, Evidence, SetupError, Utterance
from train.starter.faces import MELD_LABELS
from train.starter.voice import (
    Voices,
    across_corpora,
    coded,
    draw_channel,
    encode_clip,
    load_voices,
    through,
    trimmed,
    turn_scores,
    unseen_scores,
    voice_figures,
)
from train.starter.voice.calibrate import fit_doubt
from train.starter.voice.scores import least_squares


def test_silence_at_the_ends_is_cut_and_the_rest_kept() -> None:
    rng = np.random.default_rng(0)
    sound = (0.1 * rng.standard_normal(16000)).astype(np.float32)
    silence = (1e-5 * rng.standard_normal(16000)).astype(np.float32)
    cut = trimmed(np.concatenate([silence, sound, silence]))
    assert 16000 <= len(cut) <= 16000 + 10 * 400
    assert cut.std() > 0.09


def buzz(hz: float, seconds: float = 0.6, seed: int = 0) -> np.ndarray:
    """A voice-like tone with five harmonics and a little noise."""
    t = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    wave = sum(np.sin(2 * np.pi * hz * k * t) / k for k in range(1, 6))
    noise = np.random.default_rng(seed).normal(0, 0.01, len(t))
    return np.asarray(0.2 * wave + noise, np.float32)


def test_a_recording_goes_through_one_channel() -> None:
    loud, soft = buzz(150), np.float32(0.1) * buzz(200, 0.4)
    levels, lengths = [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        channel = draw_channel(rng)
        out = through(channel, [loud, soft], rng)
        for x, before in zip(out, (loud, soft), strict=True):
            assert len(x) == round(len(before) / channel.speed)
            assert np.isfinite(x).all() and np.abs(x).max() <= 1
        first, second = (20 * np.log10(np.sqrt(np.mean(x**2))) for x in out)
        levels.append(first)
        lengths.append(len(out[0]))
        assert first - second > 5, "who speaks up stays louder"
    assert max(levels) - min(levels) > 10 and len(set(lengths)) > 5


@pytest.mark.parametrize(
    ("ending", "options"),
    [("opus", ("-c:a", "libopus")), ("mp3", ("-c:a", "libmp3lame")), ("m4a", ("-c:a", "aac"))],
)
def test_coded_clips_stay_in_their_places(ending: str, options: tuple[str, ...]) -> None:
    clips = [buzz(150), buzz(230, 0.3, seed=1), buzz(180, 0.5, seed=2)]
    out = coded(clips, ending, (*options, "-b:a", "48k"))
    for x, before in zip(out, clips, strict=True):
        assert len(x) == len(before) and not np.array_equal(x, before)
        assert np.corrcoef(x, before)[0, 1] > 0.9


def test_voices_are_encoded_once_and_as_in_a_run(tmp_path: Path) -> None:
    emotions = {"ravdess": ("calm", "happy", "angry"), "emodb": ("boredom", "sadness", "fear")}
    for corpus, by in (("ravdess", "actor"), ("emodb", "speaker")):
        (tmp_path / corpus).mkdir()
        rows = []
        for number, split in ((1, "train"), (2, "test")):
            for k, emotion in enumerate(emotions[corpus]):
                file = f"{corpus}/{number}-{emotion}.flac"
                soundfile.write(tmp_path / file, buzz(100 + 40 * k + 10 * number), RATE_HZ)
                sex = ("female", "male")[number - 1]
                rows.append({"file": file, by: number, "sex": sex, "emotion": emotion, "split": split})
        pl.DataFrame(rows).write_csv(tmp_path / f"{corpus}.csv")
    spec = {"name": "egemaps"}
    voices = load_voices(tmp_path, tmp_path / "work", spec, limit=100)
    assert len(voices.values) == 20 and voices.clean.sum() == 10, "boredom is left out"
    assert set(voices.labels) == {"neutral", "joy", "anger", "sadness", "fear"}
    assert {voices.speakers[row] for row in voices.rows("test", clean=True)} == {"ravdess-02", "emodb-02"}
    row = next(
        i
        for i, key in enumerate(voices.recordings)
        if key == "0-emodb-01-0" and voices.labels[i] == "sadness"
    )
    clip, _ = soundfile.read(tmp_path / "emodb" / "1-sadness.flac", dtype="float32")
    alone = encode_clip(make_encoder("audio", spec, None, "cpu"), trimmed(clip))
    assert alone is not None and np.array_equal(voices.values[row], alone)

    files = sorted((tmp_path / "work").rglob("*.safetensors"))
    written = {file: file.stat().st_mtime_ns for file in files}
    lost = next(file for file in files if file.name.startswith("1-"))
    lost.unlink()
    again = load_voices(tmp_path, tmp_path / "work", spec, limit=100)
    assert np.array_equal(again.values, voices.values) and again.recordings == voices.recordings
    assert [file for file in files if file.stat().st_mtime_ns != written[file]] == [lost]


@pytest.fixture(scope="module")
def acted() -> Voices:
    """Speakers with manners of their own whose emotions move the same few features."""
    rng = np.random.default_rng(0)
    width = WIDTHS["egemaps"]
    directions = rng.normal(0, 1, (len(MELD_LABELS), width))
    values, rows = [], []
    names = [f"ravdess-{n:02d}" for n in range(1, 11)] + ["emodb-03", "emodb-08", "emodb-13"]
    for name in names:
        split = "test" if name in ("ravdess-09", "ravdess-10", "emodb-13") else "train"
        manner = rng.normal(0, 2, width)
        for clean in (True, False):
            for label in range(len(MELD_LABELS)):
                for _ in range(0 if MELD_LABELS[label] == "surprise" and name.startswith("emodb") else 4):
                    values.append(100 + manner + directions[label] + rng.normal(0, 1.5, width))
                    rows.append((MELD_LABELS[label], name, "male", split, f"{int(not clean)}-{name}", clean))
    labels, speakers, sexes, splits, recordings, clean_ones = zip(*rows, strict=True)
    found = np.array(values, np.float32)
    found[:, 7] = 5  # a feature that never varies
    return Voices(found, labels, speakers, sexes, splits, recordings, np.array(clean_ones))


def test_voice_scores_tell_emotions_of_voices_unheard(acted: Voices, tmp_path: Path) -> None:
    file = tmp_path / "voice.safetensors"
    scores = unseen_scores(acted, tmp_path, file, "egemaps", folds=3)
    assert set(scores) == set(acted.speakers)
    shipped = [name for name in scores if scores[name] is scores["ravdess-09"]]
    assert shipped == ["emodb-13", "ravdess-09", "ravdess-10"], "training speakers get a fold's"
    figures = voice_figures(acted, scores)
    held_out = figures["held_out"]
    assert held_out["plain"]["n"] == held_out["relative"]["n"] == held_out["short"]["n"] == 56
    assert 0.4 < held_out["plain"]["unweighted_average_recall"]
    assert held_out["relative"]["unweighted_average_recall"] > 0.9, "a manner known is a manner removed"
    assert held_out["both"]["n"] == 56 and held_out["both"]["unweighted_average_recall"] > 0.8
    assert figures["all_folds"]["relative"]["ece"] < 0.1
    assert len(figures["folds"]) == 3 and set(figures["by_sex"]) == {"male"}
    across = across_corpora(acted, tmp_path, "egemaps", folds=3)
    assert across["relative"]["n"] == 3 * 24 and across["relative"]["unweighted_average_recall"] > 0.8

    written = {f: f.stat().st_mtime_ns for f in tmp_path.glob("*.safetensors")}
    assert len(written) == 3 + 1 + 2 * (3 + 1) + 1, "folds and whole, of all and of each corpus; what ships"
    as_shipped = file.read_bytes()
    written.pop(file)
    again = unseen_scores(acted, tmp_path, file, "egemaps", folds=3)
    assert {f: f.stat().st_mtime_ns for f in written} == written and file.read_bytes() == as_shipped
    assert all(np.array_equal(again[name].relative, scores[name].relative) for name in scores)


def test_turns_far_from_training_are_told_less_surely(acted: Voices, tmp_path: Path) -> None:
    file = tmp_path / "voice.safetensors"
    ships = replace(unseen_scores(acted, tmp_path, file, "egemaps", folds=3)["ravdess-09"], doubt=(2.0, 1.0))
    rows = np.flatnonzero(np.array(acted.speakers) == "ravdess-09")
    near, company = acted.values[rows], (np.ones(len(rows), bool), ["a"] * len(rows))
    # So few speakers fill so few directions that anybody else is far: let this one be usual.
    z = ships.standardised(near)
    left = np.sqrt(np.square(z - z @ ships.basis.T @ ships.basis).mean(1))
    ships = replace(ships, usual=float(left.mean()))
    certain = replace(ships, doubt=(0.0, 0.0))
    # As through another microphone: every functional lies elsewhere, for all turns alike.
    moved = np.random.default_rng(0).choice([-1, 1], near.shape[1]) * (ships.scale > 0)
    far = near + 0.6 * moved / np.maximum(ships.scale, 1e-6)
    before, after = (ships.log_distances(ships.standardised(v))[:, None] for v in (near, far))
    assert after.mean() > before.mean() + 0.05 and (after < 0.35).any()
    k = len(MELD_LABELS)
    told, plain = ships(far, *company), certain(far, *company)
    np.testing.assert_allclose(told[:, :k] * np.exp(2 * after), plain[:, :k], rtol=1e-4)
    np.testing.assert_allclose(told[:, k:-1] * np.exp(after), plain[:, k:-1], rtol=1e-4)

    # However far, and however near: what is not known doesn't grow on.
    ends = np.stack([ships.mean, ships.mean + 1e9])
    assert ships.log_distances(ships.standardised(ends)).tolist() == [0, 0.35]

    # Files of the first version have neither directions nor doubt, and say what they always said.
    with safe_open(file, "np") as stored:
        config = json.loads(stored.metadata()["config"])
        arrays = {name: stored.get_tensor(name) for name in stored.keys()}
    first = {name: config[name] for name in ("features", "labels")}
    old = tmp_path / "first.safetensors"
    save_file({n: a for n, a in arrays.items() if n != "basis"}, old, metadata={"config": json.dumps(first)})
    assert np.array_equal(load_voice_scores(old)(far, *company), plain)
    for wrong in ({"usual": 0.0}, {"doubt": [-1, 0]}, {"doubt": [1, 1e3]}):
        save_file(arrays, tmp_path / "wrong.safetensors", metadata={"config": json.dumps(config | wrong)})
        with pytest.raises(SetupError, match="usual is not positive, or doubt not from 0 to 8"):
            load_voice_scores(tmp_path / "wrong.safetensors")
    save_file(arrays, tmp_path / "wrong.safetensors", metadata={"config": json.dumps(first)})
    with pytest.raises(SetupError, match="no voice scores of this version: 'doubt'"):
        load_voice_scores(tmp_path / "wrong.safetensors")
    kept = tmp_path / "voice-all.safetensors"
    old.replace(kept)
    again = unseen_scores(acted, tmp_path, file, "egemaps", folds=3)["ravdess-09"]
    assert np.array_equal(again.basis, ships.basis), "what a first version left behind is fitted anew"


def test_growth_of_doubt_is_learned_from_another_corpus(acted: Voices, tmp_path: Path) -> None:
    """Doubt grows where the other corpus is recorded otherwise and its labels can't be told."""
    names = np.array(acted.speakers)
    german = np.char.startswith(names, "emodb")
    rng = np.random.default_rng(0)
    manner = np.stack([acted.values[names == name].mean(0) for name in names])
    moved = (
        acted.values
        - manner
        + german[:, None] * 3 * acted.values.std(0) * rng.choice([-1, 1], acted.values.shape[1])
    )
    mixed = np.where(german, rng.permutation(np.array(acted.labels, object)), np.array(acted.labels, object))
    unlike = replace(acted, values=moved.astype(np.float32), labels=tuple(mixed))
    far = fit_doubt(unlike, tmp_path / "unlike", "egemaps", ("ravdess",), folds=3)
    assert 0.5 < min(far) and max(far) <= 8
    alike = fit_doubt(acted, tmp_path / "alike", "egemaps", ("ravdess",), folds=3)
    assert alike[0] < far[0]


def test_least_squares_find_the_direction_and_give_absent_classes_nothing() -> None:
    rng = np.random.default_rng(0)
    labels = np.tile(np.array([0, 3, 4]), 60)
    rows = rng.normal(0, 0.3, (180, 400)).astype(np.float32)  # more features than clips
    rows[np.arange(180), labels] += 2
    weight = least_squares(rows, labels, rng.uniform(0.2, 1, 180))
    fresh = rng.normal(0, 0.3, (90, 400)).astype(np.float32)
    fresh[np.arange(90), labels[:90]] += 2
    found = (fresh @ weight[:, :-1].T + weight[:, -1]).argmax(1)
    assert (found == labels[:90]).mean() > 0.95 and set(found) == {0, 3, 4}


def test_a_fold_has_not_heard_its_speakers(acted: Voices, tmp_path: Path) -> None:
    before = unseen_scores(acted, tmp_path / "a", tmp_path / "a.safetensors", "egemaps", folds=3)
    ours = np.array([name == "ravdess-02" for name in acted.speakers])
    changed = np.where(ours[:, None], acted.values[::-1], acted.values)
    other = Voices(
        changed,
        acted.labels,
        acted.speakers,
        acted.sexes,
        acted.splits,
        acted.recordings,
        acted.clean,
    )
    after = unseen_scores(other, tmp_path / "b", tmp_path / "b.safetensors", "egemaps", folds=3)
    assert np.array_equal(after["ravdess-02"].mean, before["ravdess-02"].mean)
    assert not np.array_equal(after["ravdess-03"].mean, before["ravdess-03"].mean)


def test_turns_put_together_are_scored_as_in_a_run(acted: Voices, tmp_path: Path) -> None:
    """Clips drawn as the turns of a recording have the vectors that the encoder gives that recording."""
    clips = [buzz(100 + 15 * k, 0.5, seed=k) for k in range(8)]
    raw = make_encoder("audio", {"name": "egemaps"}, None, "cpu")
    values = np.stack([v for v in (encode_clip(raw, clip) for clip in clips) if v is not None])
    heard = Voices(
        values,
        ("joy",) * 8,
        ("ravdess-09",) * 8,
        ("male",) * 8,
        ("test",) * 8,
        ("0-ravdess-09-0",) * 6 + ("1-ravdess-09-0",) * 2,
        np.ones(8, np.bool_),
    )
    file = tmp_path / "voice.safetensors"
    scores = unseen_scores(acted, tmp_path, file, "egemaps", folds=3)
    rows = np.array([0, 1, -1, 2, 3, 4, 5, 6])
    turns = turn_scores(heard, rows, ["d0 anna"] * 8, scores)
    assert turns[:, -1].tolist() == [1, 1, 0, 1, 1, 1, 1, 0], "another channel is another manner"
    assert not turns[2].any()

    samples = np.concatenate([np.round(clip * 32768).astype(np.int16) for clip in clips[:6]])
    utterances = [Utterance(0, i, i / 2, i / 2 + 0.5, "SPEAKER_00", 0.0) for i in range(6)]
    spec = {"name": "egemaps", "speaker_norm": True, "weights": file.name}
    encoder = make_encoder("audio", spec, tmp_path, "cpu")
    found = encoder(Evidence(Audio(samples), None), utterances)
    assert np.array_equal(turns[[0, 1, 3, 4, 5, 6]], found.values)
