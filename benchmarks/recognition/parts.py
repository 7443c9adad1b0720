"""The parts of the benchmark: each gives its figures and prints what they come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from annotator.records import RATE_HZ

from . import cost, espeak, references, runs, scores, spoken_dialogues
from .references import Recording
from .sounds import sounds

Figures = dict[str, float | int | str | None]
# Rows with speech by the corpus: for half of their time, and at least so long.
WITH_SPEECH, WITH_SPEECH_S = 0.5, 0.4
KILLS = ((1, 1.0), (3, 2.0))  # recordings that are prepared, and seconds after that


class NotRun(Exception):
    """A part that can't be measured here, with the remedy."""


@dataclass(frozen=True)
class Place:
    """Where the data lies, where recordings and tables go, and whether a tenth is enough."""

    data: Path
    folder: Path
    quick: bool


def of(table: pl.DataFrame, recording: Recording) -> pl.DataFrame:
    return table.filter(pl.col("file") == f"{recording.name}.wav").sort("start")


def run(place: Place, part: str, recordings: Sequence[Recording]) -> tuple[pl.DataFrame, Figures]:
    """The table of a run over recordings, and the figures that every run has."""
    table, took = runs.annotate(
        runs.written(recordings, place.folder / part / "in"), place.folder / part / "out" / "labels.parquet"
    )
    sound_s = sum(len(r.samples) for r in recordings) / RATE_HZ
    flags = table.explode("quality")["quality"].value_counts().sort("quality") if len(table) else None
    print(f"{part}: {len(recordings)} recordings, {sound_s / 60:.1f} minutes, {len(table)} utterances")
    if flags is not None:
        print("  flags: " + ", ".join(f"{flag} {count}" for flag, count in flags.iter_rows() if flag))
    return table, {
        f"{part}_minutes": sound_s / 60,
        f"{part}_processor_s": took,
        f"{part}_words_out_of_place": scores.out_of_place(table),
        f"{part}_words_unlike_text": scores.disagreeing(table),
    }


def word_error(place: Place, part: str, recordings: Sequence[Recording]) -> Figures:
    table, figures = run(place, part, recordings)
    total = scores.WordErrors(0, 0, 0, 0)
    print(f"  {'recording':16}{'error %':>9}{'wrong':>7}{'left out':>10}{'invented':>10}{'words':>7}")
    for recording in recordings:
        heard = scores.said(of(table, recording))
        errors, _ = scores.aligned(scores.normalised(recording.text), heard)
        total += errors
        print_errors(recording.name, errors)
    print_errors("all", total)
    languages = table["language"].drop_nulls().unique().sort().to_list()
    return figures | {
        f"{part}_word_error": total.percent,
        f"{part}_words": total.words,
        f"{part}_substituted": total.substituted,
        f"{part}_left_out": total.left_out,
        f"{part}_invented": total.invented,
        f"{part}_languages": ", ".join(languages),
    }


def print_errors(name: str, e: scores.WordErrors) -> None:
    print(f"  {name:16}{e.percent:9.1f}{e.substituted:7}{e.left_out:10}{e.invented:10}{e.words:7}")


def ravdess(place: Place) -> Figures:
    return word_error(place, "ravdess", references.ravdess(place.data, 10 if place.quick else 1))


def nemo(place: Place) -> Figures:
    return word_error(place, "nemo", references.nemo(place.data, 10 if place.quick else 1))


def ami(place: Place) -> Figures:
    clips = references.meetings(place.data, 2 if place.quick else None)
    table, figures = run(place, "ami", clips)
    words = [scores.said(of(table, clip)) for clip in clips]
    looped = [scores.in_loops(said) for said in words]
    for clip, said, loops in zip(clips, words, looped, strict=True):
        print(f"  {clip.name:8}{len(said):5} words, {loops:3} in loops")
    count = sum(map(len, words))
    return figures | {
        "ami_words": count,
        "ami_in_loops_percent": 100 * sum(looped) / max(1, count),
    } | without_text("ami", table, clips)  # fmt: skip


def without_text(part: str, table: pl.DataFrame, recordings: Sequence[Recording]) -> Figures:
    """How many utterances with speech have no text; each of them is printed."""
    with_speech = without = 0
    for recording in recordings:
        for row in of(table, recording).iter_rows(named=True):
            share = references.share_of_speech(row["start"], row["end"], recording.speech)
            if share < WITH_SPEECH or row["end"] - row["start"] < WITH_SPEECH_S:
                continue
            with_speech += 1
            if row["text"] is None:
                without += 1
                print(
                    f"  no text: {recording.name} {row['start']:.2f} to {row['end']:.2f}, "
                    f"{100 * share:.0f} % speech, {row['quality']}"
                )
    all_without = table["text"].null_count()
    return {
        f"{part}_utterances": len(table),
        f"{part}_utterances_without_text": all_without,
        f"{part}_with_speech": with_speech,
        f"{part}_with_speech_without_text": without,
    }


def without_speech(place: Place) -> Figures:
    made = sounds(5 if place.quick else 1)
    table, figures = run(place, "sounds", made)
    invented = table.filter(pl.col("text").is_not_null())
    for row in invented.iter_rows(named=True):
        print(f"  {row['file']} {row['start']:.2f} to {row['end']:.2f}: {row['text']!r}")
    return figures | {
        "sounds_count": len(made),
        "sounds_taken_for_speech": table["file"].n_unique(),
        "sounds_with_words": invented["file"].n_unique(),
    }


def times(place: Place) -> Figures:
    if espeak.library() is None:
        raise NotRun(espeak.MISSING)
    a_dialogue = 4 if place.quick else 10
    numbers = (0,) if place.quick else (0, 1)
    made = [espeak.dialogue(language, n, a_dialogue) for language in espeak.SENTENCES for n in numbers]
    table, figures = run(place, "times", [one.recording for one in made])
    late: dict[str, list[float]] = {language: [] for language in espeak.SENTENCES}
    errors = {language: scores.WordErrors(0, 0, 0, 0) for language in espeak.SENTENCES}
    for one in made:
        language = one.recording.name.split("_")[1]
        heard = [
            (start, part)
            for start, word in scores.words_in_time(of(table, one.recording))
            for part in scores.normalised(word)
        ]
        found, right = scores.aligned([word for _, word in one.words], [word for _, word in heard])
        errors[language] += found
        late[language] += [heard[j][0] - one.words[i][0] for i, j in right]
    everything = np.abs(np.concatenate(list(late.values())))
    for language, values in late.items():
        off = np.abs(values)
        print(
            f"  {language}: {len(off)} words; start off by {1000 * np.median(off):.0f} ms (median), "
            f"{1000 * np.percentile(off, 90):.0f} ms (90 of 100); late by {1000 * np.median(values):.0f} ms; "
            f"word error {errors[language].percent:.1f} %"
        )
        figures |= {
            f"times_{language}_ms": 1000 * float(np.median(off)),
            f"times_{language}_late_ms": 1000 * float(np.median(values)),
            f"times_{language}_90_ms": 1000 * float(np.percentile(off, 90)),
            f"times_{language}_word_error": errors[language].percent,
        }
    return figures | {
        "times_words": len(everything),
        "times_ms": 1000 * float(np.median(everything)),
        "times_90_ms": 1000 * float(np.percentile(everything, 90)),
    }


def meetings_joined(place: Place) -> list[Recording]:
    """The meeting clips in two recordings of minutes."""
    clips = references.meetings(place.data, 4 if place.quick else None)
    half = len(clips) // 2
    return [references.joined(f"meeting_{i}", some) for i, some in enumerate((clips[:half], clips[half:]))]


def languages(place: Place) -> Figures:
    if espeak.library() is None:
        raise NotRun(espeak.MISSING)
    german = espeak.dialogue("de", 0, 4 if place.quick else 20).recording
    meetings = meetings_joined(place)
    table, figures = run(place, "languages", [german, *meetings])
    wrong = 0
    for recording, language in [(german, "de"), *((meeting, "en") for meeting in meetings)]:
        rows = of(table, recording).filter(pl.col("text").is_not_null())
        facts = (rows["text_source"].unique().to_list(), rows["language"].unique().to_list())
        wrong += facts != (["whisper"], [language])
        print(f"  {recording.name}: {len(rows)} utterances with text, {facts[0]}, {facts[1]}")
    return figures | {"languages_wrong": wrong} | without_text("languages", table, [german, *meetings])


def costs(place: Place) -> Figures:
    sets: dict[str, Sequence[Recording]] = {"ami": meetings_joined(place)}
    if espeak.library() is not None:
        each = 4 if place.quick else 20
        sets["espeak"] = [espeak.dialogue(name, 0, each).recording for name in espeak.SENTENCES]
    figures = cost.measure(sets, place.folder / "cost")
    for name in sets:
        four, one = figures[f"{name}_batch_4"], figures[f"{name}_batch_1"]
        print(
            f"cost, {name}: {figures[f'{name}_speech_s']:.0f} s of speech; processor seconds a second: "
            f"{four:.3f} in batches of 4, {one:.3f} one at a time"
        )
    print(
        f"  loading {figures['load_mb']:.0f} MB, with recognition {figures['growth_mb']:.0f} MB at most; "
        f"{figures['stays_mb']:.0f} MB stay"
    )
    dearest: Figures = {"cost_dearest": max(figures[f"{name}_batch_4"] for name in sets)}
    return dearest | {f"cost_{name}": value for name, value in figures.items()}


def labels(place: Place) -> Figures:
    from train.evaluate.metrics import confusion_matrix, score

    if espeak.library() is None:
        raise NotRun(espeak.MISSING)
    dialogues = spoken_dialogues.dialogues(place.data, 3 if place.quick else 30)
    lines = [line for dialogue in dialogues for line in dialogue.lines]
    names = [*sorted({line.emotion for line in lines}), None]
    truth = np.array([names.index(line.emotion) for line in lines])
    figures: Figures = {"labels_utterances": len(lines)}
    found: dict[str, list[str | None]] = {}
    for kind in ("written", "recognised"):
        folder = place.folder / "labels" / kind
        for dialogue in dialogues:
            dialogue.write(folder / "in", with_text=kind == "written")
        table, _ = runs.annotate(folder / "in", folder / "out" / "labels.parquet")
        found[kind] = [label for d in dialogues for label in spoken_dialogues.labels_of(table, d)]
        told = np.array([names.index(label) if label in names else len(names) - 1 for label in found[kind]])
        scored = score(confusion_matrix(truth, told, len(names)))
        figures |= {
            f"labels_{kind}_accuracy": 100 * scored.accuracy,
            f"labels_{kind}_weighted_f1": 100 * scored.weighted_f1,
            f"labels_{kind}_missing": found[kind].count(None),
        }
        errors = scores.WordErrors(0, 0, 0, 0)
        for dialogue in dialogues:
            heard = scores.said(of(table, dialogue.recording))
            errors += scores.aligned(scores.normalised(dialogue.recording.text), heard)[0]
        figures[f"labels_{kind}_word_error"] = errors.percent
        print(
            f"labels, {kind}: accuracy {100 * scored.accuracy:.1f} %, weighted F1 "
            f"{100 * scored.weighted_f1:.1f}, word error {errors.percent:.1f} %, {len(lines)} utterances"
        )
    same = sum(a == b for a, b in zip(*found.values(), strict=True))
    return figures | {"labels_same_percent": 100 * same / len(lines)}


def resume(place: Place) -> Figures:
    clips = references.meetings(place.data, 4 if place.quick else 7)
    folder = runs.written(clips, place.folder / "resume" / "in")
    whole, _ = runs.annotate(folder, place.folder / "resume" / "whole" / "labels.parquet")
    out = place.folder / "resume" / "killed" / "labels.parquet"
    kills = sum(runs.killed(folder, out, prepared, later) for prepared, later in KILLS)
    again, _ = runs.annotate(folder, out)
    words = sum(len(row) for row in whole["words"].drop_nulls())
    print(f"resume: killed {kills} times, {words} words, the same: {again.equals(whole)}")
    return {
        "resume_kills_missed": len(KILLS) - kills,
        "resume_words": words,
        "resume_differs": int(not again.equals(whole)),
    }


PARTS: dict[str, Callable[[Place], Figures]] = {
    "ravdess": ravdess,
    "nemo": nemo,
    "ami": ami,
    "sounds": without_speech,
    "times": times,
    "languages": languages,
    "cost": costs,
    "labels": labels,
    "resume": resume,
}
LIMITS: dict[str, float] = {
    "ravdess_word_error": 4.0,
    "ami_in_loops_percent": 2.0,
    "sounds_with_words": 1,
    "times_ms": 80,
    **{
        f"{part}_{what}": 0
        for part in ("ravdess", "nemo", "ami", "sounds", "times", "languages")
        for what in ("words_out_of_place", "words_unlike_text")
    },
    "languages_wrong": 0,
    "languages_with_speech_without_text": 0,
    "cost_dearest": 0.13,
    "cost_growth_mb": 600,
    "resume_kills_missed": 0,
    "resume_differs": 0,
}
