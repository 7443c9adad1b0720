"""Labelled conversations with features, split by dialogue: the format on disk.

    CORPUS/
      corpus.json            format, labels in order, sentiments, encoders, widths, counts, provenance
      utterances.parquet     one row an utterance: a dialogue's rows stand together, in order
      <modality>.npy         float32 (rows, width), aligned with the rows, memory-mapped
      <modality>_present.npy bool (rows,): where the modality was observed
      encoders/              the weights files that the encoders name, to lie beside a checkpoint

A corpus is written whole or not at all and checked whenever it is read, so that training never
starts on one that is damaged. Messages count rows from 1.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import ValidationError

from annotator.files import written_folder
from annotator.folders import check_replaceable
from annotator.records import MODALITIES, SENTIMENTS, Conversation, Features, UsageError
from train.corpus.check import check
from train.corpus.format import (
    ENCODERS,
    FORMAT,
    HEADER,
    OPTIONAL,
    REQUIRED,
    SPLITS,
    TABLE,
    UNLABELLED,
    Header,
    SplitCount,
    count,
    spans,
)

__all__ = [
    "ENCODERS",
    "SPLITS",
    "UNLABELLED",
    "Corpus",
    "Header",
    "LabelledConversation",
    "SplitCount",
    "checked",
    "encoder_files",
    "load_corpus",
    "split_name",
    "write_corpus",
]


@dataclass(frozen=True)
class LabelledConversation:
    """A dialogue and what people say it expresses."""

    conversation: Conversation
    fine: NDArray[np.int64]  # (n,) index into the labels, UNLABELLED where unknown
    coarse: NDArray[np.int64]  # (n,) index into SENTIMENTS, UNLABELLED where unknown
    dialogue_id: str
    first_row: int  # of the corpus' table, from 0

    def __len__(self) -> int:
        return len(self.fine)


@dataclass(frozen=True)
class Corpus:
    """A corpus as read: its table in memory, its features memory-mapped."""

    folder: Path
    header: Header
    table: pl.DataFrame
    features: Mapping[str, Features]

    @property
    def labels(self) -> tuple[str, ...]:
        return self.header.labels

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(self.features)

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(split for split in SPLITS if split in self.header.counts)

    def conversations(self, split: str) -> list[LabelledConversation]:
        """The dialogues of a split, in the order of the table.

        Raises:
            UsageError: the corpus has no such split.
        """
        name = split_name(split)
        if name not in self.splits:
            raise UsageError(
                f"{self.folder} has no {name} split; it has {', '.join(self.splits)}. Name one of these, or "
                f"prepare the corpus again with {name} dialogues."
            )
        fine = _codes(self.table["emotion"], self.labels)
        coarse = _codes(self.table["sentiment"], SENTIMENTS)
        names = self.table["speaker"].to_list()
        splits, ids = self.table["split"].to_list(), self.table["dialogue_id"].to_list()
        fixed = self.header.speakers
        dialogues = []
        for first, end in spans(ids):
            if splits[first] != name:
                continue
            # Order of appearance, unless a number means the same person or role throughout.
            order = list(fixed) if fixed else list(dict.fromkeys(names[first:end]))
            number = {speaker: index for index, speaker in enumerate(order)}
            conversation = Conversation(
                speakers=np.array([number[speaker] for speaker in names[first:end]], np.int64),
                features={
                    modality: Features(vectors.values[first:end], vectors.present[first:end])
                    for modality, vectors in self.features.items()
                },
            )
            dialogues.append(
                LabelledConversation(conversation, fine[first:end], coarse[first:end], ids[first], first)
            )
        return dialogues


def split_name(split: str) -> str:
    """``train``, ``validation`` or ``test`` for the names in use: ``dev``, ``val``, ``valid`` are validation.

    Raises:
        UsageError: no such name.
    """
    name = split.strip().lower()
    name = {"dev": "validation", "val": "validation", "valid": "validation"}.get(name, name)
    if name not in SPLITS:
        raise UsageError(
            f"{split!r} is no split; use {', '.join(SPLITS)} (dev, val and valid are validation)."
        )
    return name


def write_corpus(
    out: Path,
    table: pl.DataFrame,
    labels: tuple[str, ...],
    features: Mapping[str, Features],
    *,
    encoders: Mapping[str, dict[str, Any]] | None = None,
    fingerprints: Mapping[str, str] | None = None,
    weights: Path | None = None,
    speakers: tuple[str, ...] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Corpus:
    """Check and write a corpus to the folder ``out``; on any fault nothing is written.

    Args:
        table: the columns ``split, dialogue_id, utterance_id, speaker`` and, where known, ``emotion,
            sentiment, start, end, text``; further columns (ids of the source) are kept.
        features: one entry a modality, rows aligned with ``table``.
        encoders, fingerprints: what made the features, by modality.
        weights: the folder of the files that the encoders name; they are copied.
        speakers: all names, where a name means the same person or role in every dialogue.
        provenance: free-form JSON.

    Raises:
        UsageError: the corpus is faulty, or ``out`` is something other than a corpus.
    """
    header, table = checked(
        out, table, labels, features, encoders=encoders, speakers=speakers, provenance=provenance
    )
    header = header.model_copy(update={"fingerprints": dict(fingerprints or {})})
    _write(out, header, table, features, weights)
    return load_corpus(out)


def checked(
    out: Path,
    table: pl.DataFrame,
    labels: tuple[str, ...],
    features: Mapping[str, Features],
    *,
    encoders: Mapping[str, dict[str, Any]] | None = None,
    speakers: tuple[str, ...] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> tuple[Header, pl.DataFrame]:
    """The header and the table of a corpus that could be written to ``out``.

    Raises:
        UsageError: as :func:`write_corpus`, whose arguments these are.
    """
    check_replaceable(out, "corpus", _is_part, HEADER)
    missing = [
        pl.lit(None, pl.String).alias(name) for name in ("emotion", "sentiment") if name not in table.columns
    ]
    table = table.with_columns(missing)
    types = {name: kind for name, kind in (REQUIRED | OPTIONAL).items() if name in table.columns}
    try:
        table = table.cast(types)  # type: ignore[arg-type]  # polars' own stub is narrower than it takes
    except pl.exceptions.PolarsError as error:
        raise UsageError(f"The rows for {out} have a column of the wrong kind: {error}") from error
    header = Header(
        format=FORMAT,
        labels=labels,
        speakers=speakers,
        encoders=dict(encoders or {}),
        widths={modality: vectors.values.shape[1] for modality, vectors in features.items()},
        counts=count(table, labels),
        provenance=dict(provenance or {}),
    )
    check(out, header, table, features)
    return header, table


def _is_part(name: str) -> bool:
    """Whether a name directly below a corpus is one that :func:`write_corpus` gives."""
    return name in (TABLE, HEADER, ENCODERS) or name.endswith(".npy")


def encoder_files(encoders: Mapping[str, dict[str, Any]]) -> list[str]:
    """Names of the weights files that encoders name."""
    specs = [
        part for spec in encoders.values() for part in (spec, spec.get("second")) if isinstance(part, Mapping)
    ]
    return [str(spec[key]) for spec in specs for key in ("adapter", "weights") if spec.get(key)]


def _write(
    out: Path, header: Header, table: pl.DataFrame, features: Mapping[str, Features], weights: Path | None
) -> None:
    with written_folder(out, anew=False) as temporary:
        table.write_parquet(temporary / TABLE)
        for modality, vectors in features.items():
            np.save(temporary / f"{modality}.npy", vectors.values.astype(np.float32, copy=False))
            np.save(temporary / f"{modality}_present.npy", vectors.present)
        (temporary / HEADER).write_text(header.model_dump_json(indent=2) + "\n", encoding="utf-8")
        if weights is not None:
            for name in encoder_files(header.encoders):
                (temporary / ENCODERS).mkdir(exist_ok=True)
                shutil.copyfile(weights / name, temporary / ENCODERS / name)


def load_corpus(folder: Path) -> Corpus:
    """Read and check a corpus. Features stay on disk until they are used.

    Raises:
        UsageError: it is no corpus, or a faulty one; the message names the file, the row and the remedy.
    """
    folder = Path(folder)
    try:
        header = Header.model_validate_json((folder / HEADER).read_bytes())
    except OSError as error:
        raise UsageError(
            f"{folder} is no corpus: {HEADER} can't be read. Make one with annotate prepare."
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise UsageError(f"{folder / HEADER}: {where}: {first['msg']}. Prepare the corpus again.") from error
    if header.format != FORMAT:
        raise UsageError(
            f"{folder / HEADER}: format {header.format}, this version reads {FORMAT}. Prepare it again."
        )
    if header.sentiments != SENTIMENTS:
        raise UsageError(f"{folder / HEADER}: the sentiments must be {', '.join(SENTIMENTS)}, in this order.")
    try:
        table = pl.read_parquet(folder / TABLE, glob=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UsageError(f"{folder / TABLE} can't be read: {error}. Prepare the corpus again.") from error
    features = {}
    for modality in (*MODALITIES, *sorted(set(header.widths) - set(MODALITIES))):
        if modality in header.widths:
            values = _array(folder / f"{modality}.npy", mapped=True)
            features[modality] = Features(values, _array(folder / f"{modality}_present.npy", mapped=False))
    check(folder, header, table, features)
    return Corpus(folder, header, table, features)


def _codes(column: pl.Series, names: tuple[str, ...]) -> NDArray[np.int64]:
    number = {name: index for index, name in enumerate(names)}
    return np.array([UNLABELLED if name is None else number[name] for name in column], np.int64)


def _array(file: Path, mapped: bool) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(file, mmap_mode="r" if mapped else None, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UsageError(f"{file} can't be read as an array: {error}. Prepare the corpus again.") from error
    return array
