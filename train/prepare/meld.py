"""MELD (Poria et al., ACL 2019): TV dialogue, seven emotions, three sentiments; the official CSV files.

The sentiment comes from the data set's own column: surprise is positive about as often as it is
negative, so no map from emotion to sentiment exists.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from annotator.labels import KINDS
from annotator.records import SENTIMENTS, UsageError
from train.prepare.prosody import ENCODER, read_prosody
from train.prepare.source import Recordings, Source, chosen, read_rows, split_of
from train.prepare.table import from_cells

LABELS = tuple(KINDS)
FILES = {"train": "train_sent_emo.csv", "validation": "dev_sent_emo.csv", "test": "test_sent_emo.csv"}
NAMES = {
    "dialogue_id": "Dialogue_ID",
    "utterance_id": "Utterance_ID",
    "speaker": "Speaker",
    "text": "Utterance",
    "start": "StartTime",
    "end": "EndTime",
    "season": "Season",
    "episode": "Episode",
}
EXPORTED = "meld.csv"
# Their meanings in any table.
NAMED = {
    "dialogue_id": "dialogue",
    "utterance_id": "utterance",
    **{name: name for name in ("speaker", "text", "start", "end")},
}
NEEDED = ("Dialogue_ID", "Utterance_ID", "Speaker", "Utterance", "Emotion", "Sentiment")


# Where the published archives unpack to; each clip is one utterance, dia0_utt3.mp4.
CLIPS = {
    "train": ("train_splits", "train"),
    "validation": ("dev_splits_complete", "dev_splits", "dev"),
    "test": ("output_repeated_splits_test", "test_splits", "test"),
}


def read(path: Path, *, media: Path | None = None, prosody: Path | None = None) -> Source:
    """Read the folder that holds ``train_sent_emo.csv``, ``dev_sent_emo.csv``, ``test_sent_emo.csv``; or one
    file with these columns, as ``annotate export --to meld-csv`` writes it, whose splits are made.

    Args:
        media: the folder with the clips in their published folders, ``train_splits`` and so on.
        prosody: voice measurements of the clips, in their place (``prosody.py``).

    Raises:
        UsageError: both are given, a file or a column is missing, a cell is faulty, or there are no clips.
    """
    if media is not None and prosody is not None:
        raise UsageError("The voice comes from the clips or from their prosody: leave out one of the two.")
    alone = path / EXPORTED if path.is_dir() and not (path / FILES["train"]).exists() else path
    if alone.is_file():
        return _exported(alone, media, prosody)
    parts = []
    for split, name in FILES.items():
        parts.append(read_split(path / name, split, NAMES, NEEDED, "en"))
    provenance = {"source": "meld", "files": list(FILES.values())}
    table = pl.concat(parts)
    if prosody is not None:
        return Source(
            table=table,
            labels=LABELS,
            provenance={**provenance, "prosody": prosody.name},
            features={"audio": read_prosody(prosody, table)},
            encoders={"audio": ENCODER},
        )
    if media is None:
        return Source(table=table, labels=LABELS, provenance=provenance)
    names, paths = clips(table, media)
    return Source(
        table=table.with_columns(pl.Series("recording", names, pl.String)),
        labels=LABELS,
        provenance=provenance,
        recordings=Recordings(paths, whole=True),
    )


def read_split(
    file: Path, split: str, names: Mapping[str, str], needed: Sequence[str], language: str
) -> pl.DataFrame:
    """The corpus rows of a split's file with MELD's labels; ``names`` maps our columns to the file's."""
    rows = read_rows(file, needed, language)
    emotion = chosen(rows["Emotion"], {label: label for label in LABELS}, file)
    sentiment = chosen(rows["Sentiment"], {label: label for label in SENTIMENTS}, file)
    return split_of(rows, file, split, names, emotion, sentiment)


def _exported(file: Path, media: Path | None, prosody: Path | None) -> Source:
    """One table in MELD's columns, with the column ``File`` for the recording that times are counted in."""
    if prosody is not None:
        raise UsageError(f"{file} names recordings: give them with --media, and leave out --prosody.")
    rows = read_rows(file, (*NEEDED, "StartTime", "EndTime"), "en")
    columns = {NAMED[key]: column for key, column in NAMES.items() if key in NAMED}
    columns |= {
        "label": "Emotion",
        "sentiment": "Sentiment",
        "recording": "File" if "File" in rows.columns else "",
    }
    labels = {(cell or "").strip().lower() for cell in rows["Emotion"]} - {""}
    return from_cells(
        rows,
        file,
        source="meld",
        media=media,
        columns=columns,
        labels=LABELS if labels <= set(LABELS) else None,
    )


def clips(table: pl.DataFrame, media: Path) -> tuple[list[str | None], dict[str, Path]]:
    """The clip of each row, None where there is none, and where each is. A few are missing as published.

    Raises:
        UsageError: a split has no clip at all.
    """
    names: list[str | None] = []
    paths: dict[str, Path] = {}
    columns = table.select("split", "source_dialogue_id", "source_utterance_id").iter_rows()
    for split, dialogue, utterance in columns:
        candidates = [media / folder / f"dia{dialogue}_utt{utterance}.mp4" for folder in CLIPS[split]]
        clip = next((file for file in candidates if file.is_file()), None)
        names.append(None if clip is None else clip.relative_to(media).as_posix())
        if clip is not None:
            paths[clip.relative_to(media).as_posix()] = clip
    for split, folders in CLIPS.items():
        if not any(name and name.split("/")[0] in folders for name in names):
            raise UsageError(
                f"{media} has no clips of the {split} split: it must hold {folders[0]}/dia0_utt0.mp4 and so "
                "on, as the published archives unpack."
            )
    return names, paths
