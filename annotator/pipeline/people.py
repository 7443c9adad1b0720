"""``--link-speakers``: the same person gets the same name in all recordings of a table, by voice.

The voices lie in the parts and are compared when the parts are merged, in the order of the files. So the
names do not depend on which run, shard or machine made which part.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

Voices = Mapping[str, NDArray[np.float32]]  # name of a speaker -> (VOICE,) norm 1
VOICE = 192  # length of a voice: diarize.networks.EMBEDDING, without loading the networks
NUMBERED = re.compile(r"(?:SPEAKER|CHANNEL)_\d+")


def packed(voice: NDArray[np.float32]) -> str:
    """A voice as text, in half precision: what a part holds."""
    return base64.b64encode(voice.astype("<f2").tobytes()).decode("ascii")


def unpacked(text: str) -> NDArray[np.float32]:
    """The voice that ``packed`` made text of, (VOICE,) norm 1. Raises: TypeError, ValueError for others."""
    voice = np.frombuffer(base64.b64decode(text), "<f2").astype(np.float32)
    if len(voice) != VOICE or not np.isfinite(voice).all():
        raise ValueError("it is no voice")
    return np.asarray(voice / max(float(np.linalg.norm(voice)), 1e-9), np.float32)


def linked(table: pl.DataFrame, voices: Mapping[str, Voices], threshold: float) -> pl.DataFrame:
    """The table with ``PERSON_00``, ``PERSON_01``, ... for speakers known by number and with a voice.

    Speakers whom a transcript names keep that name; those too short to tell keep their number.

    Args:
        table: with columns ``file`` and ``speaker``.
        voices: of each file.
        threshold: cosine from which on two voices are one person, -1 to 1.
    """
    person = people([(file, voices[file]) for file in sorted(voices)], threshold)
    if not person:
        return table
    names = pl.DataFrame(
        [(file, speaker, f"PERSON_{k:02d}") for (file, speaker), k in person.items()],
        schema={"file": pl.String(), "speaker": pl.String(), "_person": pl.String()},
        orient="row",
    )
    joined = table.join(names, on=["file", "speaker"], how="left", maintain_order="left")
    return joined.with_columns(pl.coalesce("_person", "speaker").alias("speaker")).drop("_person")


def people(files: Sequence[tuple[str, Voices]], threshold: float) -> dict[tuple[str, str], int]:
    """A number for each speaker of each file, from 0 in order of appearance.

    File by file, its speakers are assigned to the people known so far so that the sum of the cosines is
    greatest; a pair below the threshold is not made. Two speakers of one file are never one person. The
    voice of a person is the mean of all that was assigned to them.
    """
    from scipy.optimize import linear_sum_assignment  # most runs link nobody

    sums: list[NDArray[np.float32]] = []
    found: dict[tuple[str, str], int] = {}
    for file, voices in files:
        names = [name for name in sorted(voices) if NUMBERED.fullmatch(name)]
        if not names:
            continue
        heard = np.stack([voices[name] for name in names])
        taken: dict[int, int] = {}
        if sums:
            known = np.stack([total / max(float(np.linalg.norm(total)), 1e-9) for total in sums])
            near = heard @ known.T
            # What is not allowed is worth nothing, so it never costs a pair that is.
            rows, columns = linear_sum_assignment(-np.maximum(near - threshold, 0.0))
            taken = {
                r: c for r, c in zip(rows.tolist(), columns.tolist(), strict=True) if near[r, c] >= threshold
            }
        for row, name in enumerate(names):
            if row in taken:
                sums[taken[row]] = sums[taken[row]] + heard[row]
                found[file, name] = taken[row]
            else:
                found[file, name] = len(sums)
                sums.append(heard[row])
    return found
