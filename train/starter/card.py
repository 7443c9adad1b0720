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
    rows.append(row("voice, the classifier alone", held_out, voice["held_out"]["plain"]))
    rows.append(row("voice, against the speaker's manner", held_out, voice["held_out"]["relative"]))
    rows.append(row("voice, the mean of the two", held_out, voice["held_out"]["both"]))
    rows.append(row("voice, the whole network", held_out, figures["voice_alone"]))
    across = "RAVDESS to EmoDB, six classes"
    rows.append(row("voice across corpora", across, figures["voice_across"]["plain"]))
    rows.append(
        row("voice across corpora, against the speaker's manner", across, figures["voice_across"]["relative"])
    )
    rows.append(row("face, the DenseNet alone, tempered on pictures set aside", "FER2013 public test", faces))
    rows += [row(name, "made pairs", m) for name, m in sorted(subsets.items(), key=lambda x: len(x[0]))]
    by_sex = ", ".join(
        f"{sex} {100 * m['relative']['unweighted_average_recall']:.1f}" for sex, m in voice["by_sex"].items()
    )
    teachers = " and ".join(figures["teachers"])
    taught = (
        f" The text adapter has also learned what {teachers}, trained on the same sentences, says of them."
        if teachers
        else ""
    )
    folds = [f["relative"]["unweighted_average_recall"] for f in voice["folds"] if "relative" in f]
    return TEMPLATE.read_text(encoding="utf-8").format(
        version=version,
        date=date,
        command=command,
        rows="\n".join(rows),
        by_sex=by_sex,
        taught=taught,
        folds=", ".join(f"{100 * f:.1f}" for f in folds),
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
