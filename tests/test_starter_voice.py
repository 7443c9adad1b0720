"""The voice of the bundle: clips through channels, models by folds, made recordings of moods."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile

from annotator.encode import make_encoder
from annotator.encode.audio import AudioEncoder, trimmed
from annotator.records import RATE_HZ, Audio, Evidence, Utterance
from train.prepare.meld import LABELS as MELD_LABELS
from train.starter.voice import (
    Voices,
    across_corpora,
    coded,
    draw_channel,
    load_voices,
    through,
    turn_scores,
    unseen_scores,
    voice_figures,
    without_corpus,
)
from train.starter.voice.clips import LEARNED, TESTED, cut_short
from train.starter.voice.figures import mostly_neutral, one_mood
from train.starter.voice.fit import own_parts, regression, save_scores, unheard, with_spread
from train.starter.voice.moods import LENGTHS, made_recordings

WIDTH = 40


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
    emotions = ("neutral", "boredom", "happiness", "anger")
    for corpus, by in (LEARNED | TESTED).items():
        (tmp_path / corpus).mkdir()
        rows = []
        for number, split in ((1, "train"), (2, "test")):
            for k, emotion in enumerate(emotions):
                file = f"{corpus}/{number}-{emotion}.flac"
                silence = np.zeros(RATE_HZ // 2, np.float32)
                sound = buzz(100 + 40 * k + 10 * number, 2.0)
                soundfile.write(tmp_path / file, np.concatenate([silence, sound, silence]), RATE_HZ)
                sex = ("female", "male")[number - 1]
                split = split if corpus in LEARNED else "test"
                rows.append({"file": file, by: f"{number}", "sex": sex, "emotion": emotion, "split": split})
        pl.DataFrame(rows).write_csv(tmp_path / f"{corpus}.csv")
    spec = {"name": "egemaps"}
    voices = load_voices(tmp_path, tmp_path / "work", spec)
    assert voices.clean.sum() == 5 * 2 * 3, "boredom is left out"
    assert (~voices.clean).sum() == 4 * 3 * 2 * 3, "through channels what is learned from"
    assert set(voices.labels) == {"neutral", "joy", "anger"}
    assert {voices.speakers[row] for row in voices.rows("test", clean=True)} == {f"{c}-02" for c in LEARNED}
    assert voices.seconds[voices.clean] == pytest.approx(2.15, abs=0.1), "without the silence"
    short = [s for key, s in zip(voices.recordings, voices.seconds, strict=True) if key.startswith("4-")]
    assert max(short) <= 1.85 and np.std(short) > 0.1
    row = next(
        i for i, key in enumerate(voices.recordings) if key == "0-emodb-01-0" and voices.labels[i] == "anger"
    )
    clip, _ = soundfile.read(tmp_path / "emodb" / "1-anger.flac", dtype="float32")
    encoder = make_encoder("audio", spec, None, "cpu")
    heard = Audio(np.round(trimmed(clip) * 32768).astype(np.int16))
    alone = encoder(Evidence(heard, None), [Utterance(0, 0, 0.0, heard.duration_s, "SPEAKER_00", 0.0)])
    assert np.array_equal(voices.values[row], alone.values[0])

    files = sorted((tmp_path / "work").rglob("*.safetensors"))
    written = {file: file.stat().st_mtime_ns for file in files}
    lost = next(file for file in files if file.name.startswith("1-"))
    lost.unlink()
    again = load_voices(tmp_path, tmp_path / "work", spec)
    assert np.array_equal(again.values, voices.values) and again.recordings == voices.recordings
    assert [file for file in files if file.stat().st_mtime_ns != written[file]] == [lost]


def test_a_clip_is_cut_within_itself() -> None:
    clip = np.arange(3 * RATE_HZ, dtype=np.float32)
    assert len(cut_short(clip, 1.0, 0.5)) == RATE_HZ and cut_short(clip, 1.0, 1.0)[-1] == clip[-1]
    assert np.array_equal(cut_short(clip, 5.0, 0.7), clip)


@pytest.fixture(scope="module")
def acted() -> Voices:
    """Speakers with manners of their own whose emotions move the same few features."""
    rng = np.random.default_rng(0)
    directions = rng.normal(0, 1.2, (len(MELD_LABELS), WIDTH))
    values, rows = [], []
    names = [f"ravdess-{n:02d}" for n in range(1, 9)] + [f"emodb-{n:02d}" for n in (3, 8, 9, 10, 13, 14)]
    for name in names:
        split = "test" if name in ("ravdess-07", "ravdess-08", "emodb-13", "emodb-14") else "train"
        manner = rng.normal(0, 2, WIDTH) + (3 if name.startswith("emodb") else 0)
        for clean in (True, False):
            for label in range(len(MELD_LABELS)):
                for _ in range(0 if MELD_LABELS[label] == "surprise" and name.startswith("emodb") else 5):
                    values.append(100 + manner + directions[label] + rng.normal(0, 0.8, WIDTH))
                    rows.append((MELD_LABELS[label], name, "male", split, f"{int(not clean)}-{name}", clean))
    labels, speakers, sexes, splits, recordings, clean_ones = zip(*rows, strict=True)
    found = np.array(values, np.float32)
    found[:, 7] = 5  # a feature that never varies
    seconds = np.random.default_rng(1).uniform(1, 3, len(found))
    return Voices(found, labels, speakers, sexes, splits, recordings, np.array(clean_ones), seconds)


@pytest.fixture(scope="module")
def fitted(acted: Voices, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("voice")
    unseen_scores(acted, folder, folder / "ships.safetensors")
    return folder


def test_models_tell_emotions_of_voices_unheard(acted: Voices, fitted: Path) -> None:
    written = {f: (f.stat().st_mtime_ns, f.read_bytes()) for f in fitted.glob("voice-*.safetensors")}
    assert len(written) == 5, "four folds and what ships"
    ships = (fitted / "ships.safetensors").read_bytes()
    assert ships in [content for _, content in written.values()]
    scores = unseen_scores(acted, fitted, fitted / "ships.safetensors")
    assert {f: (f.stat().st_mtime_ns, f.read_bytes()) for f in written} == written, "fitted once"
    assert set(scores) == set(acted.speakers)
    shipped = sorted(name for name in scores if scores[name] is scores["ravdess-08"])
    assert shipped == ["emodb-13", "emodb-14", "ravdess-07", "ravdess-08"], "others get a fold's"
    figures = voice_figures(acted, fitted, scores)
    assert figures["held_out"]["n"] == 2 * 35 and figures["actors"]["n"] == 8 * 35
    alone, together = (
        f["unweighted_average_recall"] for f in (figures["actors"]["alone"], figures["actors"])
    )
    assert together > 0.8 and together > alone + 0.1, "a manner known is a manner removed"
    assert figures["one mood"]["unweighted_average_recall"] > alone - 0.05
    assert figures["mostly neutral"]["unweighted_average_recall"] > alone - 0.05
    assert max(figures[name]["ece"] for name in ("actors", "one mood", "mostly neutral")) < 0.2
    long, brief = (figures[f"{turns} turns of a mood"]["unweighted_average_recall"] for turns in (200, 4))
    assert long > brief - 0.1, "one mood is no manner, however long it lasts"
    assert set(figures) >= {"channels", "male", "emodb unheard"}


def test_a_corpus_unheard_is_told_by_the_others(acted: Voices, tmp_path: Path) -> None:
    three = replace(acted, speakers=tuple(s.replace("emodb-1", "nemo-1") for s in acted.speakers))
    three = replace(three, recordings=tuple(s.replace("emodb-1", "nemo-1") for s in three.recordings))
    some = np.array([s.startswith("nemo") for s in three.speakers])
    tested = replace(
        three,
        values=np.concatenate([three.values, three.values[some], three.values[some]]),
        labels=three.labels + 2 * tuple(np.array(three.labels)[some]),
        speakers=three.speakers + tuple(f"{c}-1" for c in TESTED for _ in range(some.sum())),
        sexes=three.sexes + ("male",) * 2 * int(some.sum()),
        splits=three.splits + ("test",) * 2 * int(some.sum()),
        recordings=three.recordings + tuple(f"0-{c}-1" for c in TESTED for _ in range(some.sum())),
        clean=np.concatenate([three.clean, three.clean[some], three.clean[some]]),
        seconds=np.concatenate([three.seconds, three.seconds[some], three.seconds[some]]),
    )
    ships = unseen_scores(tested, tmp_path, tmp_path / "ships.safetensors")["urdu-1"]
    across = across_corpora(tested, tmp_path, ships)
    assert set(across) == {*LEARNED, *TESTED}
    assert across["emodb"]["n"] == 3 * 30 and across["emodb"]["unweighted_average_recall"] > 0.5
    fitted = {f.name: f.stat().st_mtime_ns for f in tmp_path.glob("voice-without-nemo-*.safetensors")}
    assert len(fitted) == 1
    without_corpus(replace(tested, digest="of other clips"), tmp_path, "nemo")
    again = {f.name: f.stat().st_mtime_ns for f in tmp_path.glob("voice-without-nemo-*.safetensors")}
    assert len(again) == 2 and again.items() > fitted.items(), "other clips make another model"


def test_scores_are_of_regressions_that_have_not_heard_the_clip(acted: Voices) -> None:
    rows = np.flatnonzero(np.array(acted.splits) == "train")
    heard = unheard(acted, rows)
    assert len(heard.rows) == 2 * len(rows) and heard.across.sum() == len(rows)
    ours = np.array([name == "ravdess-02" for name in acted.speakers])
    noise = np.random.default_rng(0).normal(100, 3, acted.values.shape).astype(np.float32)
    changed = replace(acted, values=np.where(ours[:, None], noise, acted.values))
    again = unheard(changed, rows)
    across = heard.across & ours[heard.rows]
    own = regression(acted, rows[~np.char.startswith(np.array(acted.speakers)[rows], "ravdess")])
    near = own.near(changed.values[heard.rows[across]])
    assert again.scores[across] == pytest.approx(own.linear_scores(near)), "of EmoDB's voices alone"


def test_what_is_the_speakers_is_found_whatever_they_say() -> None:
    """A speaker who was only ever angry is not taken for an angry speaker."""
    rng = np.random.default_rng(0)
    centres = rng.normal(0, 3, (7, 5))
    classes = np.array([0, 4, 6] * 10 + [6] * 10)
    keys = np.array(["a"] * 30 + ["b"] * 10)
    manner = np.where(keys == "a", 1.0, -1.0)[:, None]
    near = centres[classes] + manner + rng.normal(0, 0.01, (40, 5))
    weights = np.full(40, 1 / 40)
    found = own_parts(near, classes, keys, weights)
    difference = found[keys == "a"].mean(0) - found[keys == "b"].mean(0)
    assert (difference > 1.2).all() and (np.abs(found) < 2).all()


def test_short_turns_say_less(acted: Voices) -> None:
    rows = np.flatnonzero(np.array(acted.splits) == "train")
    heard = unheard(acted, rows)
    noisy = replace(heard, scores=heard.scores.copy())
    brief = acted.seconds[heard.rows] < 1.5
    noisy.scores[brief] += np.random.default_rng(0).normal(0, 0.5, noisy.scores[brief].shape)
    start = regression(acted, rows)
    assert with_spread(start, acted, noisy).short_s > with_spread(start, acted, heard).short_s


def test_made_recordings_are_of_one_speaker_in_one_channel(acted: Voices) -> None:
    heard = unheard(acted, np.flatnonzero(np.array(acted.splits) == "train"))
    made = list(made_recordings(acted, heard, np.random.default_rng(0)))
    seen = set()
    for recording in made:
        rows = heard.rows[recording.places]
        assert len({acted.recordings[row] for row in rows}) == 1
        assert len(rows) in (1, *LENGTHS), "as long for every kind"
        assert len(set(heard.across[recording.places].tolist())) == 1
        corpus, where, kind = recording.group.split(" ", 2)
        labels = [acted.labels[row] for row in rows]
        assert acted.speakers[rows[0]].startswith(corpus)
        for label in set(labels):
            again = np.bincount(rows[np.array(labels) == label])
            again = again[again > 0]
            assert again.max() - again.min() <= 1, "a clip comes again when all of them have been"
        if kind == "one":
            assert len(set(labels)) == 1
        if kind == "mostly neutral":
            assert len(set(labels)) == 2 and "neutral" in labels
        seen.add((corpus, where, kind))
    assert len(seen) == 2 * 2 * 4
    rows = np.flatnonzero(acted.clean)
    assert all(len({acted.labels[r] for r in own}) == 1 for own in one_mood(acted, rows))
    for own in mostly_neutral(acted, rows):
        assert 0.1 < np.mean([acted.labels[r] != "neutral" for r in own]) < 0.9


def test_turns_put_together_are_scored_as_in_a_run(tmp_path: Path, acted: Voices) -> None:
    """Clips drawn as the turns of a recording have the vectors that the encoder gives that recording."""
    clips = [buzz(100 + 15 * k, 0.5, seed=k) for k in range(8)]
    clips = [np.round(clip * 32768).astype(np.float32) / np.float32(32768) for clip in clips]
    raw = AudioEncoder("egemaps")
    values = np.stack([v for v in (raw.features(trimmed(clip)) for clip in clips) if v is not None])
    heard = Voices(
        values,
        ("joy",) * 8,
        ("ravdess-09",) * 8,
        ("male",) * 8,
        ("test",) * 8,
        ("0-ravdess-09-0",) * 6 + ("1-ravdess-09-0",) * 2,
        np.ones(8, np.bool_),
        np.array([len(trimmed(clip)) / RATE_HZ for clip in clips]),
    )
    rng = np.random.default_rng(0)
    rows = np.flatnonzero(np.array(acted.splits) == "train")
    spoken = replace(
        acted,
        values=rng.normal(values.mean(0), values.std(0) + 0.1, (len(acted.values), 88)).astype(np.float32),
    )
    start = regression(spoken, rows)
    model = replace(with_spread(start, spoken, unheard(spoken, rows)), features="egemaps")
    save_scores(model, tmp_path / "voice.safetensors")
    spec = {"name": "egemaps", "weights": "voice.safetensors"}
    encoder = make_encoder("audio", spec, tmp_path, "cpu")
    assert isinstance(encoder, AudioEncoder) and encoder.scores is not None
    scores = {"ravdess-09": encoder.scores}
    turns = turn_scores(heard, np.array([0, 1, -1, 2, 3, 4, 5, 6]), ["d0 anna"] * 8, scores)
    assert not turns[2].any()
    alone = turn_scores(heard, np.array([6]), ["d0 anna"], scores)
    assert np.array_equal(turns[7], alone[0]), "another channel is another manner"

    samples = np.concatenate([np.round(clip * 32768).astype(np.int16) for clip in clips[:6]])
    utterances = [Utterance(0, i, i / 2, i / 2 + 0.5, "SPEAKER_00", 0.0) for i in range(6)]
    found = encoder(Evidence(Audio(samples), None), utterances)
    assert np.array_equal(turns[[0, 1, 3, 4, 5, 6]], found.values)
