"""What the page says beyond single utterances: what follows what, agreement, what to look at first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from annotator.read import checked
from annotator.records import UsageError
from annotator.report import beside, patterns, review, rows, write_report
from annotator.table import write_table
from tests.tables import LABELS, table_of, utterance

JOY, ANGER = LABELS.index("joy"), LABELS.index("anger")


def talk(emotions: list[str], speakers: list[str], **given: Any) -> pl.DataFrame:
    return checked(
        table_of(
            *(
                utterance(start=2.0 * i, end=2.0 * i + 1, emotion=emotion, speaker=speaker, **given)
                for i, (emotion, speaker) in enumerate(zip(emotions, speakers, strict=True))
            )
        ),
        "labels",
    )


def test_an_answer_in_kind_is_marked() -> None:
    random = np.random.default_rng(0)
    emotions: list[str] = []
    for _ in range(150):  # B answers anger with anger, and all else with joy; A is as chance will have it
        first = str(random.choice(["joy", "anger", "neutral"]))
        emotions += [first, "anger" if first == "anger" else "joy"]
    found, shuffles = patterns.follows(talk(emotions, ["A", "B"] * 150), LABELS)
    assert shuffles == patterns.SHUFFLES
    another, same = found["another speaker"], found["the same speaker"]
    assert another.more[ANGER][ANGER] and another.less[JOY][ANGER] and not another.less[ANGER][ANGER]
    assert sum(map(sum, another.counts)) == 299 and sum(map(sum, same.counts)) == 0
    assert another.counts[ANGER][ANGER] > another.expected[ANGER][ANGER] + 10
    # Anger is answered in kind where it is A's; what A says after B is chance.
    assert found["A"].more[ANGER][ANGER] and not np.any(found["B"].more)
    assert sum(map(sum, found["A"].counts)) == 150


def test_people_are_told_one_by_one_where_their_names_mean_the_same() -> None:
    def recording(name: str) -> pl.DataFrame:
        return talk(["joy", "anger"] * 20, ["SPEAKER_00", "Anna"] * 20, file=name)

    one, _ = patterns.follows(recording("a.wav"), LABELS)
    two, _ = patterns.follows(pl.concat([recording("a.wav"), recording("b.wav")]), LABELS)
    assert list(one)[2:] == ["SPEAKER_00"] and list(two)[2:] == ["Anna"]


def test_chance_is_not_marked() -> None:
    random = np.random.default_rng(1)
    emotions = [str(e) for e in random.choice(LABELS, 400)]
    speakers = [str(s) for s in random.choice(["A", "B", "C"], 400)]
    found, _ = patterns.follows(talk(emotions, speakers), LABELS)
    assert not np.any([f.more for f in found.values()]) and not np.any([f.less for f in found.values()])
    assert sum(np.sum(found[who].counts) for who in ("another speaker", "the same speaker")) == 399


def test_nothing_follows_across_conversations_and_recordings() -> None:
    parts = [talk(["joy"], ["A"], file=f"{i}.wav", dialogue_id=i % 2) for i in range(3)]
    parts.append(talk(["anger"], ["A"], file="2.wav", dialogue_id=1))
    found, _ = patterns.follows(pl.concat(parts), LABELS)
    assert not np.any([f.counts for f in found.values()])


def test_modalities_agree_beyond_chance() -> None:
    table = table_of(
        utterance(text_emotion="joy", text_confidence=0.5, audio_emotion="joy", audio_confidence=0.5),
        utterance(text_emotion="anger", text_confidence=0.5, audio_emotion="anger", audio_confidence=0.5),
        utterance(text_emotion="anger", text_confidence=0.5, audio_emotion="joy", audio_confidence=0.5),
        utterance(text_emotion="joy", text_confidence=0.5),
    )
    [pair] = patterns.modalities(table, LABELS)
    assert (pair.one, pair.other, pair.utterances) == ("text", "audio", 3)
    assert pair.same == pytest.approx(2 / 3) and pair.kappa == pytest.approx(0.4)
    assert patterns.modalities(table_of(utterance()), LABELS) == []


def with_margin(margin: float, **given: Any) -> dict[str, Any]:
    none = {f"p_{label}": 0.0 for label in LABELS}
    return utterance(**none | {"p_joy": (1 + margin) / 2, "p_anger": (1 - margin) / 2} | given)


def test_the_least_margin_comes_first_and_no_speaker_fills_the_list() -> None:
    table = table_of(
        *(with_margin(0.01 * i, speaker="A") for i in range(5)),
        with_margin(0.15, speaker="B"),
        with_margin(0.05, file="b.wav", speaker="A"),
        with_margin(0.9, file="b.wav", speaker="B"),
    )
    order = review.uncertain(table, LABELS)
    assert sorted(order) == list(range(8))
    assert order[:2] == [0, 6] and order.index(5) < order.index(3) and order[-1] == 7
    assert review.uncertain(table.clear(), LABELS) == []


def test_an_order_of_chance_has_every_utterance_once_and_stays() -> None:
    rows = pl.DataFrame({"file": ["a.mp4"] * 500})
    order = review.by_chance(rows, LABELS)
    assert sorted(order) == list(range(500)) and order != sorted(order)
    assert order == review.by_chance(rows, LABELS)
    assert len(review.by_chance(pl.DataFrame({"file": ["a.mp4"] * 5000}), LABELS)) == review.MOST
    assert review.by_chance(rows.clear(), LABELS) == []


def test_an_unknown_order_is_refused(tmp_path: Path) -> None:
    write_table(table_of(utterance()), tmp_path / "labels.parquet", {})
    with pytest.raises(UsageError, match="choose uncertain"):
        write_report(tmp_path / "labels.parquet", tmp_path / "labels.html", order="newest")
    with pytest.raises(UsageError, match="There is no folder"):
        write_report(tmp_path / "labels.parquet", tmp_path / "labels.html", tmp_path / "gone")
    assert not (tmp_path / "labels.html").exists()


def test_only_recordings_in_the_folder_have_an_address(tmp_path: Path) -> None:
    base = tmp_path / "media"
    (base / "deep").mkdir(parents=True)
    for name in ("a.wav", "media/b #1.wav", "media/deep/c?.wav", "media/it's.wav"):
        (tmp_path / name).write_bytes(b"RIFF")
    (base / "link.wav").symlink_to(tmp_path / "a.wav")
    files = ["b #1.wav", "deep/c?.wav", "it's.wav", "gone.wav", "../a.wav", str(tmp_path / "a.wav"),
             "link.wav", "deep", "zero\0.wav", "x" * 5000, "deep/../b #1.wav"]  # fmt: skip
    found = beside.addresses(files, base, tmp_path / "page.html")
    assert found[:3] == ["media/b%20%231.wav", "media/deep/c%3F.wav", "media/it%27s.wav"]
    assert found[3:] == [None] * 8
    assert beside.addresses(["a.wav"], tmp_path, tmp_path / "page.html") == ["a.wav"]
    assert beside.addresses(["a.wav"], tmp_path, base / "page.html") == ["../a.wav"]


def word(start: float | None, end: float, text: str | None, confidence: float | None = 0.5) -> dict[str, Any]:
    return {"start": start, "end": end, "text": text, "confidence": confidence}


def test_words_are_found_in_the_text() -> None:
    said = [word(1.0, 1.5, " so"), word(1.5, 2.0, "so", None), word(2.0, 2.25, "good.", 2.0)]
    assert rows.placed("so so good.", said, 1.0) == [0, 2, 0, 50, 50, 3, 2, 50, 100, -1, 6, 5, 100, 125, -1]
    # A character beyond the basic plane counts two, as in JavaScript.
    assert rows.placed("😀 so", [word(0, 1, "😀"), word(1, 2, "so")], 0.0) == [
        0,
        2,
        0,
        100,
        50,
        3,
        2,
        100,
        200,
        50,
    ]
    assert rows.placed("so good", [word(0, 1, "bad")], 0.0) is None
    assert rows.placed("so good", [word(0, float("inf"), "so")], 0.0) is None
    assert rows.placed("so good", [word(0, 1, None), word(1, 2, " ")], 0.0) is None
