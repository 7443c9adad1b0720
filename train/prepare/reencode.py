"""Text of a corpus encoded anew for a checkpoint whose encoder is another.

Text can always be encoded again, since the corpus holds it; voice and face lie in the recordings.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from annotator.encode import make_encoder
from annotator.records import MODALITIES, Features
from train.corpus import Corpus, encoder_files
from train.prepare import encode_text


def fitting_text(
    corpus: Corpus,
    encoders: Mapping[str, Mapping[str, Any]],
    folder: Path,
    device: str,
    *,
    splits: Sequence[str] | None = None,
    work: Path | None = None,
) -> Corpus:
    """The corpus with text features of a checkpoint's encoder, encoded anew where it has others.

    Args:
        encoders: the checkpoint's.
        folder: the checkpoint's.
        splits: encode only these; in the others text is absent then.
        work: where vectors are kept for the next time; nowhere when None.

    Raises:
        SetupError: the encoder lacks something.
    """
    spec = encoders.get("text")
    if spec is None or "text" not in corpus.table.columns:
        return corpus
    if corpus.table["text"].null_count() == corpus.table.height:
        return corpus
    if corpus.header.encoders.get("text") == spec and not encoder_files({"text": dict(spec)}):
        return corpus  # nothing beside the checkpoint shapes it
    encoder = make_encoder("text", spec, folder, device)
    if corpus.header.fingerprints.get("text") == encoder.fingerprint:
        return corpus
    wanted = pl.lit(True) if splits is None else pl.col("split").is_in(list(splits))
    rows = corpus.table.with_row_index("row").filter(wanted)
    with tempfile.TemporaryDirectory() as scratch:
        part = encode_text(rows.drop("row"), encoder, work or Path(scratch))
    at = rows["row"].to_numpy()
    values = np.zeros((corpus.table.height, encoder.width), np.float32)
    present = np.zeros(corpus.table.height, np.bool_)
    values[at], present[at] = part.values, part.present
    header = corpus.header.model_copy(
        update={
            "encoders": {**corpus.header.encoders, "text": dict(spec)},
            "fingerprints": {**corpus.header.fingerprints, "text": encoder.fingerprint},
            "widths": {**corpus.header.widths, "text": encoder.width},
        }
    )
    features = {**corpus.features, "text": Features(values, present)}
    ordered = {m: features[m] for m in sorted(features, key=MODALITIES.index)}
    return dataclasses.replace(corpus, header=header, features=ordered)
