"""Corpora for training from data sets, published features and tables.

Each source reads its files into labelled utterances; here text is encoded, by the same encoder code
as in a run, and the corpus is written. Vectors are kept beside the corpus while it is made
(``CORPUS.work``), so that an interrupted or repeated preparation encodes nothing twice.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from annotator.encode import Encoder, make_encoder
from annotator.records import Evidence, Features, UsageError, Utterance
from train.corpus import Corpus, checked, write_corpus
from train.prepare import emorynlp, features, iemocap, meld, table
from train.prepare.source import Source

SOURCES: dict[str, Callable[..., Source]] = {
    "meld": meld.read,
    "emorynlp": emorynlp.read,
    "iemocap": iemocap.read,
    "features": features.read,
    "table": table.read,
}
TEXT_ENCODER: dict[str, Any] = {"name": "minilm"}
BLOCK = 512  # utterances that are encoded and kept at a time, rounded up to whole dialogues

Progress = Callable[[int, int], None]  # (utterances done, of how many)


def prepare(
    source: str,
    path: Path,
    out: Path,
    *,
    text_encoder: Mapping[str, Any] | None = None,
    weights: Path | None = None,
    device: str = "cpu",
    on_progress: Progress | None = None,
    **options: Any,
) -> Corpus:
    """Make the corpus ``out`` from a source.

    Args:
        source: a name of ``SOURCES``.
        path: the source's folder or file.
        text_encoder: which encoder makes the text features, as a checkpoint names it.
        weights: the folder that holds the encoder's own weights, if it has any.
        device: ``cpu``, ``cuda``, ...
        on_progress: called after each block of encoded utterances.
        options: what the source's ``read`` takes beside the path (``seed``, ``labels``, ...).

    Raises:
        UsageError: the source is unknown or faulty; nothing is written.
        SetupError: the encoder lacks something.
    """
    if source not in SOURCES:
        raise UsageError(f"{source!r} is no source; use {', '.join(SOURCES)}.")
    read = SOURCES[source](Path(path), **options)
    out = Path(out)
    fingerprints: dict[str, str] = {}
    values, encoders = dict(read.features), dict(read.encoders)
    if "text" not in values and read.table["text"].null_count() < read.table.height:
        spec = dict(text_encoder or TEXT_ENCODER)
        # Faults of the source come before the minutes of encoding.
        checked(out, read.table, read.labels, values, encoders=encoders, speakers=read.speakers)
        encoder = make_encoder("text", spec, weights, device)
        values["text"] = encode_text(read.table, encoder, out.with_name(out.name + ".work"), on_progress)
        encoders["text"], fingerprints["text"] = spec, encoder.fingerprint
    return write_corpus(
        out,
        read.table,
        read.labels,
        values,
        encoders=encoders,
        fingerprints=fingerprints,
        weights=weights,
        speakers=read.speakers,
        provenance=read.provenance,
    )


def encode_text(
    rows: pl.DataFrame, encoder: Encoder, work: Path, on_progress: Progress | None = None
) -> Features:
    """Features (n, d) of the texts of a corpus' rows; rows without text are absent.

    Args:
        work: a folder where finished blocks are kept and looked for.
    """
    work.mkdir(parents=True, exist_ok=True)
    parts: list[Features] = []
    done = 0
    for block in _blocks(rows):
        key = json.dumps([encoder.fingerprint, [[u.dialogue_id, u.speaker, u.text] for u in block]])
        kept = work / f"text-{hashlib.sha256(key.encode()).hexdigest()[:32]}.npz"
        if kept.is_file():
            with np.load(kept, allow_pickle=False) as arrays:
                part = Features(arrays["values"], arrays["present"])
        else:
            part = encoder(Evidence(audio=None, faces=None), block)
            temporary = kept.with_suffix(f".{os.getpid()}.tmp")
            with open(temporary, "wb") as file:
                np.savez(file, values=part.values, present=part.present)
            os.replace(temporary, kept)
        parts.append(part)
        done += len(block)
        if on_progress is not None:
            on_progress(done, rows.height)
    return Features(np.concatenate([p.values for p in parts]), np.concatenate([p.present for p in parts]))


def _blocks(rows: pl.DataFrame) -> Iterator[list[Utterance]]:
    """Whole dialogues, ``BLOCK`` utterances or a little more at a time, as a run would give them."""
    block: list[Utterance] = []
    dialogue, number = None, -1
    for row in rows.iter_rows(named=True):
        if row["dialogue_id"] != dialogue:
            if len(block) >= BLOCK:
                yield block
                block, number = [], -1
            dialogue, number = row["dialogue_id"], number + 1
        start, end = row.get("start"), row.get("end")
        block.append(
            Utterance(
                dialogue_id=number,
                utterance_id=row["utterance_id"],
                start=float(row["utterance_id"]) if start is None else start,
                end=float(row["utterance_id"]) if end is None else end,
                speaker=row["speaker"],
                overlap=0.0,
                text=row["text"] or None,
            )
        )
    if block:
        yield block
