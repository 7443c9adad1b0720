"""The whole table for programs that handle corpora: Label Studio, audformat, Lhotse, MELD's CSV."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import polars as pl

from annotator.export.names import targets
from annotator.export.subtitles import clock
from annotator.read import ALONE, labels_of
from annotator.spreadsheet import for_spreadsheet

# What is known of each recording, by its name in the table; see ``annotator.read.read_recordings``.
Recordings = Mapping[str, Mapping[str, Any]]


def label_studio(table: pl.DataFrame, recordings: Recordings, out: Path) -> None:
    """``tasks.json`` to import (rows as predictions on local files) and ``config.xml`` to set up with.

    The path of a recording is relative to the local storage that Label Studio is told of. Where one of them
    has pictures, the view shows them, in step with the sound.
    """
    tasks = []
    has_pictures = any("no_video" not in facts["flags"] for facts in recordings.values())
    for (file,), rows in table.group_by("file", maintain_order=True):
        results: list[dict[str, Any]] = []
        lasts = recordings.get(str(file), {}).get("duration_s") or rows["end"].max()
        link = f"/data/local-files/?d={quote(str(file))}"
        for number, row in enumerate(rows.iter_rows(named=True)):
            region = {"start": row["start"], "end": row["end"], "channel": 0}
            shared = {"id": f"u{number}", "to_name": "audio", "original_length": lasts}
            labels = {**region, "labels": [row["emotion"]]}
            doubt = {"meta": {"text": _doubts(row)}} if _doubts(row) else {}
            results.append(
                {
                    **shared,
                    **doubt,
                    "from_name": "emotion",
                    "type": "labels",
                    "score": row["confidence"],
                    "value": labels,
                }
            )
            for column in ("speaker", "text"):
                if row[column] is not None:
                    words = {**region, "text": [row[column]]}
                    results.append({**shared, "from_name": column, "type": "textarea", "value": words})
        tasks.append(
            {
                # A player of pictures plays sound alone as well.
                "data": {"audio": link, **({"video": link} if has_pictures else {}), "file": file},
                "predictions": [{"model_version": rows["model"][0], "result": results}],
            }
        )
    _write(out / "tasks.json", json.dumps(tasks, ensure_ascii=False, indent=1) + "\n")
    choices = "".join(f"    <Label value={quoteattr(label)}/>\n" for label in labels_of(table.columns))
    beside = 'toName="audio" perRegion="true" editable="true" displayMode="region-list"'
    pictures = '  <Video name="video" value="$video" sync="together"/>\n' if has_pictures else ""
    in_step = ' sync="together"' if has_pictures else ""
    _write(
        out / "config.xml",
        f"""<View>
{pictures}  <Labels name="emotion" toName="audio">
{choices}  </Labels>
  <Audio name="audio" value="$audio"{in_step}/>
  <TextArea name="speaker" {beside}/>
  <TextArea name="text" {beside}/>
</View>
""",
    )


def _doubts(row: Mapping[str, Any]) -> list[str]:
    """What whoever corrects a row should know of it, as lines beside the region."""
    lines = {"plausible": row["plausible"], "quality": row["quality"]}
    return [f"{name}: {', '.join(values)}" for name, values in lines.items() if values]


def audformat_database(table: pl.DataFrame, recordings: Recordings, out: Path) -> None:
    """A database of audEERING's format: ``db.yaml`` and a segmented table ``utterances``."""
    import audformat  # type: ignore[import-untyped]
    import pandas

    labels = labels_of(table.columns)
    database = audformat.Database(
        "annotated",
        source="conversation-annotator",
        usage=audformat.define.Usage.OTHER,
        description="Labels of a model, not of people: " + ", ".join(table["model"].unique().sort()),
    )
    probability = audformat.Scheme("float", minimum=0, maximum=1)
    schemes_alone = {"emotion": audformat.Scheme("str", labels=labels), "confidence": probability}
    schemes = {
        "speaker": audformat.Scheme("str"),
        "text": audformat.Scheme("str"),
        "emotion": audformat.Scheme("str", labels=labels),
        "confidence": probability,
        "sentiment": audformat.Scheme("str", labels=["negative", "neutral", "positive"]),
        **{f"p_{label}": probability for label in labels},
        # The format has no lists: several labels or flags in one string, parted by semicolons.
        "plausible": audformat.Scheme("str"),
        "quality": audformat.Scheme("str"),
        **{name: schemes_alone[name.rpartition("_")[2]] for name in ALONE},
    }
    for name, scheme in schemes.items():
        database.schemes[name] = scheme
    index = audformat.segmented_index(
        table["file"].to_list(),
        [pandas.Timedelta(seconds=s) for s in table["start"]],
        [pandas.Timedelta(seconds=s) for s in table["end"]],
    )
    database["utterances"] = audformat.Table(index)
    for name in schemes:
        database["utterances"][name] = audformat.Column(scheme_id=name)
        values = table[name]
        if values.dtype == pl.Float64:
            values = values.clip(0, 1)
        if values.dtype == pl.List(pl.String):
            values = values.list.join(";")
        database["utterances"][name].set(values.to_list())
    database.save(str(out), storage_format="parquet")  # a CSV would need its formulas escaped


def lhotse(table: pl.DataFrame, recordings: Recordings, out: Path) -> None:
    """``supervisions.jsonl``: a supervision an utterance, the labels under ``custom``; ``recordings.jsonl``.

    Recordings go by their paths without the ending, where that tells them apart; their sources are as in the
    table. Those whose length or sampling rate is not known have supervisions only.
    """
    labels = labels_of(table.columns)
    names = targets(table["file"].unique(maintain_order=True).to_list(), "")
    lines, sources = [], []
    for (file,), rows in table.group_by("file", maintain_order=True):
        recording = str(names[str(file)])
        facts = recordings.get(str(file), {})
        channels = list(range(facts.get("channels") or 1))
        if facts.get("rate_hz") and facts.get("duration_s"):
            sources.append(_lhotse_recording(recording, str(file), facts, channels))
        for number, row in enumerate(rows.iter_rows(named=True)):
            channel = re.fullmatch(r"CHANNEL_(\d+)", row["speaker"])
            of_all: int | list[int] = channels if len(channels) > 1 else 0
            entry: dict[str, Any] = {
                "id": f"{recording}-{number}",
                "recording_id": recording,
                "start": row["start"],
                "duration": round(row["end"] - row["start"], 6),
                "channel": int(channel[1]) - 1 if channel and int(channel[1]) <= len(channels) else of_all,
                "speaker": row["speaker"],
                "custom": {
                    "emotion": row["emotion"],
                    "confidence": row["confidence"],
                    "sentiment": row["sentiment"],
                    **{f"p_{label}": row[f"p_{label}"] for label in labels},
                    **{name: row[name] for name in ("plausible", *ALONE, "quality")},
                },
            }
            if row["text"] is not None:
                entry["text"] = row["text"]
            lines.append(json.dumps(entry, ensure_ascii=False))
    _write(out / "supervisions.jsonl", "".join(line + "\n" for line in lines))
    _write(out / "recordings.jsonl", "".join(line + "\n" for line in sources))


def _lhotse_recording(name: str, file: str, facts: Mapping[str, Any], channels: list[int]) -> str:
    samples = round(facts["duration_s"] * facts["rate_hz"])
    return json.dumps(
        {
            "id": name,
            "sources": [{"type": "file", "channels": channels, "source": file}],
            "sampling_rate": facts["rate_hz"],
            "num_samples": samples,
            "duration": samples / facts["rate_hz"],
            "channel_ids": channels,
        },
        ensure_ascii=False,
    )


def meld_csv(table: pl.DataFrame, recordings: Recordings, out: Path) -> None:
    """``meld.csv`` with MELD's columns, which ``annotate prepare meld`` reads again.

    Season and episode are empty, and ``File`` names the recording. Dialogues are numbered through all
    recordings, utterances from 0 within each.
    """
    numbered = table.with_columns(
        (pl.struct("file", "dialogue_id").rank("dense") - 1).alias("Dialogue_ID"),
        pl.int_range(pl.len()).over("file", "dialogue_id").alias("Utterance_ID"),
    )
    times = {
        name: pl.Series(name, [clock(seconds, ",") for seconds in numbered[column]], dtype=pl.String)
        for name, column in (("StartTime", "start"), ("EndTime", "end"))
    }
    empty = pl.lit(None, pl.String)
    written = numbered.select(
        pl.int_range(1, pl.len() + 1).alias("Sr No."),
        pl.col("text").alias("Utterance"),
        pl.col("speaker").alias("Speaker"),
        pl.col("emotion").alias("Emotion"),
        pl.col("sentiment").alias("Sentiment"),
        "Dialogue_ID",
        "Utterance_ID",
        empty.alias("Season"),
        empty.alias("Episode"),
    ).with_columns(*times.values(), numbered["file"].alias("File"))
    for_spreadsheet(written).write_csv(out / "meld.csv")


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")
