"""The card of the starter bundle, written from the figures of its own training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

TEMPLATE = Path(__file__).with_name("card.md")


def write_card(figures: Mapping[str, Any], *, version: str, date: str, command: str) -> str:
    """The card's text. ``figures`` is what ``train.starter`` gathers; fractions 0 to 1."""

    def row(name: str, test: str, m: Mapping[str, Any]) -> str:
        cells = [m.get(k) for k in ("accuracy", "weighted_f1", "unweighted_average_recall", "ece")]
        shown = ["–" if c is None else f"{100 * c:.1f}" for c in cells]
        return f"| {name} | {test} | {m['n']} | {' | '.join(shown)} |"

    pairs, voice, faces = figures["pairs"], figures["voice"], figures["faces"]
    subsets = dict(pairs["subsets"])
    rows = [row("text", "MELD test, gold text", subsets.pop("text"))]
    rows.append(row("(most frequent class)", "MELD test", figures["majority"]))
    held_out = "RAVDESS actors 17-20"
    rows.append(row("voice, all turns of a speaker known", held_out, voice["held_out"]))
    rows.append(row("voice, each turn by itself", held_out, voice["held_out"]["alone"]))
    rows.append(row("voice, the whole network", "RAVDESS actors 19-20", figures["voice_alone"]["held_out"]))
    rows.append(row("face, the DenseNet alone, tempered on pictures set aside", "FER2013 public test", faces))
    rows += [row(name, "made pairs", m) for name, m in sorted(subsets.items(), key=lambda x: len(x[0]))]
    teachers = " and ".join(figures["teachers"])
    taught = (
        f" The text adapter has also learned what {teachers}, trained on the same sentences, says of them."
        if teachers
        else ""
    )
    return TEMPLATE.read_text(encoding="utf-8").format(
        version=version,
        date=date,
        command=command,
        rows="\n".join(rows),
        voices="\n".join(_voices(figures)),
        taught=taught,
        **{
            k: figures[k]
            for k in (
                "network_parameters",
                "face_parameters",
                "text_parameters",
                "voice_parameters",
                "faces_dropped",
            )
        },
    )


def _voices(figures: Mapping[str, Any]) -> list[str]:
    """Rows of the voice's table: recall and calibration error, beside the other turns and of each alone."""
    voice, across = figures["voice"], figures["voice_across"]
    named = {
        "RAVDESS, 20 actors in five folds, all moods": voice.get("actors"),
        "- one mood throughout": voice.get("one mood"),
        "- mostly neutral": voice.get("mostly neutral"),
        **{f"unheard speakers, {name}": m for name, m in voice.items() if name.endswith("of a mood")},
        "RAVDESS actors 17-20": voice.get("held_out"),
        "- women": voice.get("female"),
        "- men": voice.get("male"),
        **{f"- turns of {seconds} s": m for seconds, m in figures["voice_short"].items()},
        "EmoDB, two speakers unheard": voice.get("emodb unheard"),
        "nEMO, two speakers unheard": voice.get("nemo unheard"),
        "unheard speakers through channels": voice.get("channels"),
        "nothing of RAVDESS heard": across["ravdess"],
        "nothing of EmoDB heard (six emotions)": across["emodb"],
        "nothing of nEMO heard (six)": across["nemo"],
        "URDU, natural talk (four)": across["urdu"],
        "TESS (seven)": across["tess"],
    }
    rows = []
    for name, m in named.items():
        if m is not None:
            cells = [
                100 * scores[k] for scores in (m, m["alone"]) for k in ("unweighted_average_recall", "ece")
            ]
            rows.append(f"| {name} | {m['n']} | " + " | ".join(f"{c:.1f}" for c in cells) + " |")
    return rows
