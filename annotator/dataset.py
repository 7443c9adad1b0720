"""A table as a data set in the layout of a hub's repository, see ``annotator/hub.py``.

    README.md            the card, whose YAML header the hub reads
    data/train-00000-of-00001.parquet

``datasets.load_dataset(FOLDER)`` reads it. Nothing of the machine goes with it: names of recordings are
relative, and of the run's settings only those are kept that say how the rows were made.
"""

from __future__ import annotations

import json
import re
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import polars as pl

from annotator import hub, plain_json
from annotator.files import left_by_kill, sync, written_whole
from annotator.read import labels_of, read_table
from annotator.records import UsageError

DATA = "data/train-00000-of-00001.parquet"  # one split, which the hub calls train
CARD = "README.md"
LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]*")  # as the hub writes them: cc-by-4.0, mit, other
# Settings that say how the rows were made. The others name folders or describe the machine.
SETTINGS = (
    *(
        "diarizer",
        "transcriber",
        "speakers",
        "min_speakers",
        "max_speakers",
        "language",
        "channels",
        "modalities",
    ),
    *("dialogue_gap", "face_detector", "frame_rate", "link_speakers", "link_threshold"),
)
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
MEANING = {
    "file": "name of the recording, relative to the folder that was annotated",
    "file_id": "SHA-256 of the recording's content",
    "dialogue_id": "conversation within the recording, from 0",
    "utterance_id": "utterance within the conversation, from 0",
    "start": "seconds from the start of the recording",
    "end": "seconds from the start of the recording",
    "speaker": "a number in order of appearance, or the name that a transcript gives",
    "speaker_confidence": "share of the evidence for this speaker against the next",
    "overlap": "share of the utterance during which someone else speaks",
    "text": "what is said",
    "words": "the text word by word, with start and end in seconds",
    "text_source": "where the text comes from",
    "language": "ISO 639-1",
    "asr_confidence": "of recognised words, 0-1",
    "emotion": "the most probable label",
    "confidence": "its calibrated probability",
    "sentiment": "the most probable of positive, neutral and negative",
    "p_positive": "probability of that sentiment",
    "p_neutral_sentiment": "probability of that sentiment",
    "p_negative": "probability of that sentiment",
    "plausible": "the labels that hold the true one nine times in ten",
    "text_emotion": "what the text says alone",
    "text_confidence": "its probability",
    "audio_emotion": "what the voice says alone",
    "audio_confidence": "its probability",
    "face_emotion": "what the face says alone",
    "face_confidence": "its probability",
    "has_text": "whether the label used the text",
    "has_audio": "whether the label used the voice",
    "has_face": "whether the label used the face",
    "face_coverage": "share of sampled frames with the speaker's face",
    "quality": "flags",
    "model": "name and version of the model",
}


def share_table(table_file: Path, to: str, licence: str | None, *, private: bool = False) -> str:
    """Put a table into a hub's repository of a data set, or into a folder of the same layout.

    Args:
        to: ``hf:OWNER/NAME``, or a folder.
        licence: of the rows, as hubs write it, such as ``cc-by-4.0`` or ``other``.

    Returns: where it is.

    Raises:
        UsageError: it is no table, the licence or the repository's name is missing or faulty, or the folder
            holds something else.
        SetupError: the hub can't be reached, or refuses; the folder can't be written.
    """
    if not licence or not LICENCE.fullmatch(licence):
        raise UsageError(
            f"{f'{licence!r} is no name of a licence' if licence else 'A data set needs a licence'}: "
            "--licence cc-by-4.0, for one, or other. You need the right to pass on what people say there."
        )
    if not to.startswith(hub.PREFIX):
        return str(write_dataset(table_file, Path(to), licence))
    repository, _ = hub.parsed(to)
    with hub.upload(to, "dataset", table_file.stem, private=private) as (folder, done):
        write_dataset(table_file, folder, licence, title=repository.partition("/")[2])
    return done[0]


def write_dataset(table_file: Path, folder: Path, licence: str, title: str | None = None) -> Path:
    """Write a table as a data set into ``folder``, new, empty, or of an earlier such call.

    Raises: UsageError when it is no table, names recordings by absolute paths, or the folder holds something
    else; SetupError when the disk refuses.
    """
    table, facts = read_table(table_file)
    for file in table["file"].unique():
        if PurePosixPath(file).is_absolute() or PureWindowsPath(file).drive or ".." in file.split("/"):
            raise UsageError(
                f"{table_file} names the recording {file!r}, which tells of a machine's folders: make the "
                "names relative first."
            )
    if folder.is_file():
        raise UsageError(f"{folder} is a file: name a folder.")
    card_file, data_file = folder / CARD, folder / DATA
    left = [*left_by_kill(card_file), *left_by_kill(data_file)]
    held = {p for p in folder.rglob("*") if not p.is_dir()} - {*left}
    if held - {card_file, data_file} or (held and not is_shared_table(data_file)):
        raise UsageError(f"{folder} holds something else: choose another folder.")
    measures = pl.col(pl.Float64).exclude("start", "end")
    about = {"settings": json.dumps(kept_settings(facts), sort_keys=True)}
    if version := facts.get("conversation-annotator"):
        about["conversation-annotator"] = version
    with written_whole(card_file) as new_card, written_whole(data_file) as new_data:
        for stray in left:
            stray.unlink(missing_ok=True)
        table.with_columns(measures.cast(pl.Float32)).write_parquet(new_data, metadata=about)
        new_card.write_text(card(table, about, licence, title or table_file.stem), "utf-8")
        # Both are whole now. A kill from here on leaves data without a card, never with that of other data.
        card_file.unlink(missing_ok=True)
        sync(folder)
    return folder


def is_shared_table(file: Path) -> bool:
    """Whether it is data that an earlier call wrote; what came from elsewhere is not replaced."""
    try:
        return "settings" in pl.read_parquet_metadata(file)
    except (OSError, pl.exceptions.PolarsError):
        return False


def kept_settings(facts: dict[str, str]) -> dict[str, Any]:
    """The run's settings without what names folders or describes the machine; nothing where it told none."""
    try:
        settings = plain_json.loads(facts.get("settings", "{}"))
    except ValueError:
        return {}
    return (
        {name: settings[name] for name in SETTINGS if name in settings} if isinstance(settings, dict) else {}
    )


def card(table: pl.DataFrame, about: dict[str, str], licence: str, title: str) -> str:
    """The card: YAML for the hub, then for people what the rows are, how many, and who labelled them."""
    labels = labels_of(table.columns)
    languages = sorted(x for x in table["language"].unique().drop_nulls() if re.fullmatch(r"[a-z]{2,3}", x))
    size = next((name for most, name in SIZES if len(table) < most), "n>1M")
    header = {
        "license": licence,
        "language": languages,
        "task_categories": ["text-classification"],
        "tags": ["emotion-recognition", "conversation", "machine-labelled"],
        "size_categories": [size],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": DATA}]}],
    }
    # JSON is YAML, and quotes whatever needs quotes.
    yaml = "\n".join(f"{name}: {json.dumps(value)}" for name, value in header.items() if value)
    speech_h = (table["end"] - table["start"]).sum() / 3600
    count = dict(table["emotion"].value_counts().iter_rows())
    models = ", ".join(f"`{plain(name)}`" for name in table["model"].unique(maintain_order=True))
    of_label = "\n".join(f"| {plain(label)} | {count.get(label, 0)} |" for label in labels)
    meanings = MEANING | {f"p_{label}": f"probability of {plain(label)}" for label in labels}
    columns = "\n".join(
        f"| `{plain(name)}` | {kind_of(table.schema[name])} | {meanings[name]} | {table[name].null_count()} |"
        for name in table.columns
    )
    settings = about["settings"]
    return f"""---
{yaml}
---

# {plain(title)}

Utterances of recorded conversations: who says what, when, and how it sounds. **The labels are
machine-made**, by {
        models or "no model"
    }: perceived expression as a network tells it, with the probability that it gives, not checked
by a person and no measure of what anybody felt. So are the speakers, and the words where `text_source` is
`whisper`. The recordings themselves are not part of the data set.

Made by conversation-annotator{
        " " + about["conversation-annotator"] if "conversation-annotator" in about else ""
    }{f" with the settings `{settings}`" if settings != "{}" else ""}.

| what | how many |
|---|--:|
| recordings | {table["file"].n_unique()} |
| conversations | {table.select(pl.struct("file", "dialogue_id").n_unique()).item()} |
| utterances | {len(table)} |
| utterances with text | {len(table) - table["text"].null_count()} |
| hours of speech | {speech_h:.2f} |

| label | utterances |
|---|--:|
{of_label}

There is one split, `train`: the rows of one recording belong together, so split by `file`.

## Columns

Missing is null, never zero and never neutral.

| column | type | meaning | null |
|---|---|---|--:|
{columns}

## Before use

Those recorded may be known by their words, names and the times. Pass the data on only with their consent,
and mind that the EU AI Act, Art. 5(1)(f), forbids inferring emotions from voice and face at work and in
education but for medical or safety reasons.
"""


def kind_of(kind: pl.DataType) -> str:
    """A column's type as the card names it; measures are stored with 32 bits.

    >>> kind_of(pl.List(pl.String()))
    'list of str'
    """
    if isinstance(kind, pl.List):
        inner = kind.inner
        return f"list of {'records' if isinstance(inner, pl.Struct) else kind_of(inner)}"  # type: ignore[arg-type]
    names = {pl.String(): "str", pl.Boolean(): "bool", pl.Int32(): "int", pl.Float64(): "float"}
    return names[kind]


def plain(text: str) -> str:
    """Text in one line of a card, where it can't end a cell, a code span or begin a tag."""
    return " ".join(text.split()).replace("`", "'").replace("|", "\\|").replace("<", "&lt;")
