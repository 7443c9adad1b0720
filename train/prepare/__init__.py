"""Corpora for training from data sets, published features and tables.

Each source reads its files into labelled utterances; here text, and where there are recordings voice and
face, are encoded by the same code as in a run, and the corpus is written. Vectors are kept beside the corpus
while it is made (``CORPUS.work``), so that an interrupted or repeated preparation encodes nothing twice.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from annotator.encode import Encoder, check_spec, make_encoder
from annotator.files import written_whole
from annotator.folders import claim
from annotator.records import Evidence, Features, SetupError, UsageError, Utterance
from annotator.settings import RunSettings
from annotator.terminal import counted
from annotator.weights import STARTER, checkpoint_folder
from model import CheckpointError, describe_checkpoint
from train.corpus import Corpus, checked, write_corpus
from train.options import named_values
from train.prepare import annotated, emorynlp, features, iemocap, meld, mmeld, table
from train.prepare.languages import dialogue_languages
from train.prepare.source import Source
from train.resume import load_state, save_state

log = logging.getLogger("annotator")

SOURCES: dict[str, Callable[..., Source]] = {
    "meld": meld.read,
    "mmeld": mmeld.read,
    "emorynlp": emorynlp.read,
    "iemocap": iemocap.read,
    "features": features.read,
    "table": table.read,
    **{kind: annotated.reader(kind) for kind in annotated.READERS},
}
LIKE_TABLES = ("table", *annotated.READERS)  # whose layout is told, and checked
WITH_MEDIA = ("meld", "iemocap", *LIKE_TABLES)
TEXT_ENCODER: dict[str, Any] = {"name": "minilm"}
BLOCK = 512  # utterances that are encoded and kept at a time, rounded up to whole dialogues

Progress = Callable[[int, int], None]  # (utterances done, of how many)


def prepare(
    source: str,
    path: Path,
    out: Path,
    *,
    encoders: Mapping[str, Mapping[str, Any] | None] | None = None,
    weights: Path | None = None,
    media: Path | None = None,
    model: Path | str | None = None,
    settings: RunSettings | None = None,
    device: str = "cpu",
    on_progress: Progress | None = None,
    **options: Any,
) -> Corpus:
    """Make the corpus ``out`` from a source.

    Args:
        source: a name of ``SOURCES``.
        path: the source's folder or file.
        encoders: by modality, in the place of the checkpoint's, as a checkpoint names them; None for
            a modality that is left out.
        weights: the folder of the files that ``encoders`` name, where no checkpoint is given.
        media: the folder of the source's recordings; their voice and face, and where there is none
            their text, become features too.
        model: a checkpoint whose encoders make the features: its folder, ``starter`` or
            ``hf:OWNER/NAME``; with ``media`` the starter by default.
        settings: of the run that looks through the recordings.
        device: ``cpu``, ``cuda``, ...
        on_progress: called after each block of encoded utterances.
        options: what the source's ``read`` takes beside the path (``seed``, ``labels``, ...).

    Raises:
        UsageError: the source is unknown or faulty; nothing is written.
        SetupError: the encoder lacks something.

    Rows that recordings gave nothing for are listed beside the corpus, in ``CORPUS.unused.csv``.
    """
    if source not in SOURCES:
        raise UsageError(f"{source!r} is no source; use {', '.join(SOURCES)}.")
    if media is not None:
        if source not in WITH_MEDIA:
            raise UsageError(f"{source} has no recordings: leave out --media.")
        options["media"] = Path(media)
    dataset = SOURCES[source](Path(path), **options)
    out = Path(out)
    wanted: dict[str, dict[str, Any]] = {"text": TEXT_ENCODER}
    if model is not None or dataset.recordings is not None:
        weights = checkpoint_folder(model or "starter")
        wanted = encoders_of(weights)
    if dataset.recordings is None:
        wanted = {"text": TEXT_ENCODER} | wanted  # of a checkpoint that has no text
    wanted = _replaced(wanted, encoders or {}, dataset)
    left_out = {m for m, spec in (encoders or {}).items() if spec is None}
    if dataset.recordings is not None:
        return _with_media(dataset, wanted, weights or STARTER, out, settings, device, on_progress)
    fingerprints: dict[str, str] = {}
    vectors = {m: f for m, f in dataset.features.items() if m not in left_out}
    specs = {m: spec for m, spec in dataset.encoders.items() if m not in left_out}
    has_text = dataset.table["text"].null_count() < dataset.table.height
    if has_text and "text" in wanted and "text" not in vectors:
        # Faults of the source come before the minutes of encoding.
        checked(out, dataset.table, dataset.labels, vectors, encoders=specs, speakers=dataset.speakers)
        encoder = make_encoder("text", wanted["text"], weights, device)
        vectors["text"] = encode_text(dataset.table, encoder, out.with_name(out.name + ".work"), on_progress)
        specs["text"], fingerprints["text"] = wanted["text"], encoder.fingerprint
    if not vectors:
        raise UsageError(f"Nothing of {path} would be left to learn from: no text, and no features.")
    corpus = write_corpus(
        out,
        dataset.table,
        dataset.labels,
        vectors,
        encoders=specs,
        fingerprints=fingerprints,
        weights=weights,
        speakers=dataset.speakers,
        provenance=dataset.provenance,
    )
    _write_unused(out, dataset.unused)
    return corpus


def _replaced(
    specs: Mapping[str, dict[str, Any]],
    changes: Mapping[str, Mapping[str, Any] | None],
    dataset: Source,
) -> dict[str, dict[str, Any]]:
    """The encoders with those that are given.

    Raises:
        UsageError: an encoder of something that the source doesn't have.
    """
    replaced = dict(specs)
    for modality, spec in changes.items():
        replaced.pop(modality, None)
        if spec is None:
            continue
        if modality in dataset.features:
            raise UsageError(
                f"The source has {modality} features of its own: leave out --encoder {modality}."
            )
        if modality != "text" and dataset.recordings is None:
            raise UsageError(f"An encoder of {modality} reads recordings, and there are none here (--media).")
        check_spec(modality, spec)
        replaced[modality] = dict(spec)
        if isinstance(spec.get("path"), str):  # as typed; in a spec it would be relative to the checkpoint
            replaced[modality]["path"] = str(Path(spec["path"]).expanduser().resolve())
    return replaced


def table_options(
    source: str,
    columns: Sequence[str],
    split_by: str | None,
    shared_speakers: bool,
    skip_faulty: bool,
    seed: int | None,
) -> dict[str, Any]:
    """The options of a source, as :func:`prepare` takes them, from those of the command line.

    Raises:
        UsageError: an option that the source doesn't have, or that can't be read.
    """
    options: dict[str, Any] = {} if seed is None else {"seed": seed}
    if seed is not None and source not in (*LIKE_TABLES, "iemocap", "features"):
        raise UsageError(f"{source} has its own splits: leave out --seed.")
    table_only = [
        name
        for name, value in (
            ("--column", columns),
            ("--split-by", split_by),
            ("--shared-speakers", shared_speakers),
            ("--skip-faulty", skip_faulty),
        )
        if value
    ]
    if source not in LIKE_TABLES:
        if table_only:
            raise UsageError(f"Only a table has {', '.join(table_only)}; {source} has its own layout.")
        return options
    if split_by not in (None, "speaker", "dialogue"):
        raise UsageError(f"Splits keep apart speaker or dialogue, not {split_by!r}.")
    return options | {
        "columns": named_values(columns, "--column", may_be_empty=True),
        "split_by": split_by,
        "shared_speakers": shared_speakers,
        "skip_faulty": skip_faulty,
    }


def encoders_of(checkpoint: Path) -> dict[str, dict[str, Any]]:
    """The encoders that a checkpoint names, by modality.

    Raises:
        SetupError: it can't be read.
    """
    try:
        return describe_checkpoint(checkpoint).encoders
    except CheckpointError as error:
        raise SetupError(str(error)) from error


def _with_media(
    dataset: Source,
    encoders: dict[str, dict[str, Any]],
    weights: Path,
    out: Path,
    settings: RunSettings | None,
    device: str,
    on_progress: Progress | None,
) -> Corpus:
    """The corpus of a source with recordings."""
    from train.prepare.media import encode_recordings

    assert dataset.recordings is not None
    # Faults of the source come before the hours of decoding.
    checked(out, dataset.table, dataset.labels, {}, speakers=dataset.speakers)
    encoded = encode_recordings(
        dataset.table,
        dataset.recordings,
        encoders,
        weights,
        out.with_name(out.name + ".work"),
        settings or RunSettings(),
        device,
        on_progress,
    )
    silent = dict(encoded.problems)
    # A row that has neither a recording nor words of its own teaches nothing.
    kept = np.array([row not in silent or text is not None for row, text in enumerate(encoded.text)])
    observed = {m: f for m, f in encoded.features.items() if f.present[kept].any()}
    table = dataset.table.with_columns(
        pl.Series("text", encoded.text, pl.String), pl.Series("text_source", encoded.text_source, pl.String)
    ).filter(pl.Series(kept))
    numbers = (
        dataset.table["source_row"].to_list()
        if "source_row" in dataset.table.columns
        else range(1, dataset.table.height + 1)
    )
    notes = [
        (int(numbers[row]), reason + ("; text only" if kept[row] else "; left out"))
        for row, reason in sorted(silent.items())
    ]
    unused = pl.DataFrame(notes, schema={"row": pl.Int64, "reason": pl.String}, orient="row")
    if dataset.unused is not None:
        unused = pl.concat([dataset.unused, unused]).sort("row")
    corpus = write_corpus(
        out,
        table,
        dataset.labels,
        {m: Features(f.values[kept], f.present[kept]) for m, f in observed.items()},
        encoders={m: encoders[m] for m in observed},
        fingerprints={m: encoded.fingerprints[m] for m in observed},
        weights=weights,
        speakers=dataset.speakers,
        provenance={
            **dataset.provenance,
            "whole_recordings": dataset.recordings.whole,
            "without_recording": len(notes),
        },
    )
    _write_unused(out, unused if unused.height else None)
    return corpus


def unused_file(corpus: Path) -> Path:
    """Where the rows are listed that a corpus could not use, or of which it has the text only."""
    return corpus.with_name(corpus.name + ".unused.csv")


def _write_unused(out: Path, rows: pl.DataFrame | None) -> None:
    file = unused_file(out)
    file.unlink(missing_ok=True)  # of an earlier preparation
    if rows is not None:
        with written_whole(file) as temporary:
            rows.write_csv(temporary)
        log.warning("%s not used, or without a recording: %s", counted(rows.height, "row"), file)


def encode_text(
    rows: pl.DataFrame, encoder: Encoder, work: Path, on_progress: Progress | None = None
) -> Features:
    """Features (n, d) of the texts of a corpus' rows; rows without text are absent.

    Args:
        work: a folder where finished blocks are kept and looked for.
    """
    claim(work, "the folder of texts encoded already")
    parts: list[Features] = []
    done = 0
    for block in _blocks(rows):
        inputs = [[u.dialogue_id, u.speaker, u.text, u.language] for u in block]
        key = json.dumps([encoder.fingerprint, inputs])
        file = work / f"text-{hashlib.sha256(key.encode()).hexdigest()[:32]}.safetensors"
        state = load_state(file, file.stem)
        if state is not None:
            part = Features(state["values"].numpy(), state["present"].numpy())
        else:
            import torch

            part = encoder(Evidence(audio=None, faces=None), block)
            tensors = {"values": torch.from_numpy(part.values), "present": torch.from_numpy(part.present)}
            save_state(file, tensors, file.stem)
        parts.append(part)
        done += len(block)
        if on_progress is not None:
            on_progress(done, rows.height)
    return Features(np.concatenate([p.values for p in parts]), np.concatenate([p.present for p in parts]))


def _blocks(rows: pl.DataFrame) -> Iterator[list[Utterance]]:
    """Whole dialogues, ``BLOCK`` utterances or a little more at a time, as a run would give them."""
    block: list[Utterance] = []
    dialogue, number = None, -1
    languages = dialogue_languages(rows)
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
                language=languages[row["dialogue_id"]],
            )
        )
    if block:
        yield block
