"""An hour of German, in which nobody taught the starter emotions: what does a run make of it?

python -m benchmarks.untested_language [--minutes 60]

Sentences of known emotion, spoken by voices of espeak-ng that feel nothing, so only the words tell.
Heard (by the embedded recogniser) and read (subtitles of the same words). It is a toy: 42 sentences, made
up for it. Exits 1 where the language is not found, a row with words lacks `language_untested` or its text,
or the labels follow the emotions no better than chance would.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from annotator.records import RATE_HZ
from benchmarks.recognition import espeak
from benchmarks.recognition.references import Recording
from benchmarks.recognition.runs import annotate

VOICES = ("de", "de+f2", "de+m3", "de+f4")
PAUSE_S = 1.0  # longer than what joins two sentences of a voice, which feel differently here
MARGIN = 5.0  # points of macro recall above what one label for everything has
SENTENCES = {
    "neutral": (
        "Der Zug fährt um neun Uhr vom Gleis drei ab.",
        "Ich habe den Brief heute Morgen zur Post gebracht.",
        "Die Sitzung findet im zweiten Stock statt.",
        "Das Büro ist von acht bis siebzehn Uhr geöffnet.",
        "Wir brauchen noch Milch und Brot.",
        "Die Unterlagen liegen auf dem Tisch.",
    ),
    "joy": (
        "Ich freue mich so sehr, das ist wunderbar!",
        "Wir haben gewonnen, das ist der schönste Tag meines Lebens!",
        "Vielen Dank, das ist ein tolles Geschenk!",
        "Ich bin so glücklich, dass du wieder da bist!",
        "Großartig, das hast du ganz toll gemacht!",
        "Ach, wie schön, ich liebe dich!",
    ),
    "sadness": (
        "Es tut mir so leid, er ist gestern gestorben.",
        "Ich vermisse dich so sehr, ich muss immer weinen.",
        "Ich bin so allein, niemand ruft mich an.",
        "Sie hat mich verlassen und mein Herz gebrochen.",
        "Ich bin furchtbar traurig, alles ist verloren.",
        "Leider habe ich meine Arbeit verloren.",
    ),
    "anger": (
        "Verschwinde, ich will dich nie wieder sehen!",
        "Ich hasse dich, du hast mich die ganze Zeit belogen!",
        "Halt endlich den Mund, du Idiot!",
        "Das ist eine Frechheit, ich bin stinksauer!",
        "Wie kannst du es wagen, mein Auto zu nehmen!",
        "Jetzt reicht es mir aber, raus hier!",
    ),
    "fear": (
        "Ich habe solche Angst, bitte lass mich nicht allein.",
        "Hilfe, da ist jemand im Haus!",
        "Pass auf, er hat eine Waffe!",
        "Ich fürchte, wir werden hier alle sterben.",
        "Bitte tun Sie mir nichts, ich habe Angst.",
        "Ich zittere am ganzen Körper, es ist so unheimlich.",
    ),
    "disgust": (
        "Das ist ja ekelhaft, mir wird schlecht.",
        "Igitt, da ist ein Haar in der Suppe!",
        "Das stinkt widerlich, nimm das weg.",
        "Pfui, das esse ich auf keinen Fall.",
        "Wie abstoßend, er hat sich nie gewaschen.",
        "Der Käse ist verschimmelt, wie eklig.",
    ),
    "surprise": (
        "Was, das gibt es doch gar nicht!",
        "Wirklich, du bist schwanger?",
        "Oh mein Gott, damit habe ich nicht gerechnet!",
        "Wie bitte, sie haben schon geheiratet?",
        "Unglaublich, woher wusstest du das?",
        "Moment mal, du kennst ihn?",
    ),
}


def hour(minutes: float, seed: int = 0) -> tuple[Recording, list[tuple[float, float, str, str, str]]]:
    """The recording, and start, end, speaker, emotion and text of each sentence."""
    rng = np.random.default_rng(seed)
    known = [(emotion, text) for emotion, texts in SENTENCES.items() for text in texts]
    sound = {(v, text): espeak.spoken(v, text).recording.samples for v in VOICES for _, text in known}
    pause = np.zeros(round(PAUSE_S * RATE_HZ), np.int16)
    lines: list[tuple[float, float, str, str, str]] = []
    sounds, at = [pause], PAUSE_S
    while at < 60 * minutes:
        for i in rng.permutation(len(known)):
            (emotion, text), voice = known[i], VOICES[len(lines) % len(VOICES)]
            samples = sound[voice, text]
            end = at + len(samples) / RATE_HZ
            lines.append((at, end, voice, emotion, text))
            sounds += [samples, pause]
            at = end + PAUSE_S
    speech = tuple((start, end) for start, end, *_ in lines)
    text = " ".join(line[-1] for line in lines)
    return Recording("stunde", np.concatenate(sounds), text, speech), lines


def clock(seconds: float) -> str:
    ms = round(1000 * seconds)
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02},{ms % 1000:03}"


def figures(table: pl.DataFrame, lines: list[tuple[float, float, str, str, str]]) -> dict[str, object]:
    """What a table says, against the sentence that each of its rows lies in most."""
    spoken = table.filter(pl.col("text").is_not_null())
    truth = []
    for start, end in spoken.select("start", "end").iter_rows():
        overlap = [min(end, line[1]) - max(start, line[0]) for line in lines]
        truth.append(lines[int(np.argmax(overlap))][3])
    found = spoken["emotion"].to_list()
    right = {e: [f == e for f, t in zip(found, truth, strict=True) if t == e] for e in SENTENCES}
    return {
        "rows": table.height,
        "with_text": spoken.height,
        "languages": spoken["language"].unique().to_list(),
        "untested": int(spoken["quality"].list.contains("language_untested").sum()),
        "unread": int(spoken["quality"].list.contains("text_unread").sum()),
        "recall": {e: round(100 * float(np.mean(r)), 1) for e, r in right.items() if r},
        "macro_recall": round(100 * float(np.mean([np.mean(r) for r in right.values() if r])), 1),
        "mean_confidence": round(float(np.mean(spoken["confidence"].to_numpy())), 3),
        "accuracy": round(100 * float(np.mean([f == t for f, t in zip(found, truth, strict=True)])), 1),
        "labels": dict(spoken.group_by("emotion").len().sort("emotion").iter_rows()),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60)
    options = parser.parse_args()
    recording, lines = hour(options.minutes)
    result: dict[str, dict[str, object]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for kind in ("read", "heard"):
            folder = Path(scratch, kind)
            path = recording.write(folder)
            if kind == "read":
                cues = [
                    f"{i}\n{clock(start)} --> {clock(end)}\n{speaker}: {text}\n"
                    for i, (start, end, speaker, _, text) in enumerate(lines, 1)
                ]
                path.with_suffix(".srt").write_text("\n".join(cues), encoding="utf-8")
            began = time.monotonic()
            table, processor_s = annotate(folder, Path(scratch, f"{kind}.parquet"))
            result[kind] = figures(table, lines) | {"processor_s": round(processor_s)}
            print(kind, round(time.monotonic() - began), "s", json.dumps(result[kind]), flush=True)
    short = [
        f"{kind} {what}"
        for kind, found in result.items()
        for what, holds in (
            ("languages", found["languages"] == ["de"]),
            ("text", found["with_text"] == found["rows"]),
            ("untested", found["untested"] == found["with_text"]),
            ("chance", float(str(found["macro_recall"])) > 100 / len(SENTENCES) + MARGIN),
        )
        if not holds
    ]
    print(f"falls short: {', '.join(short)}" if short else "nothing falls short")
    print(json.dumps({"benchmark": "untested_language", "figures": result, "short": short}))
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
