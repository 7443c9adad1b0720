"""A recording ready for the network: what a worker leaves, on disk whole or not at all.

What single stages give on the way is kept in files of the same form, see :func:`save_sealed`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from annotator import media, plain_json, seal
from annotator.files import written_whole
from annotator.pipeline.recordings import label
from annotator.records import Conversation, Features, Utterance, Word

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "u1", "BOOL": "?"}
Arrays = Mapping[str, NDArray[Any]]
Kind = TypeVar("Kind")


def save_sealed(path: Path, scratch: Path, plain: Any, arrays: Arrays) -> None:
    """Write JSON values and arrays whole or not at all, with the hash of all of it and the file's own key.

    Raises: SetupError when the disk is full or the folder can't be written.
    """
    sealed = seal.blank()
    metadata = {seal.KEY: sealed, "key": path.stem, "recording": json.dumps(plain, allow_nan=False)}
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    with written_whole(path, scratch) as temporary:
        save_file(contiguous, temporary, metadata=metadata)
        seal.close(temporary, sealed)


def of_sealed(path: Path, make: Callable[[Any, Arrays], Kind], *, mapped: bool = False) -> Kind | None:
    """What ``make`` gives of the values and arrays in a file; None where it is not whole or not in its place,
    or ``make`` can't do with it.

    Args:
        mapped: leave the arrays on the disk, read-only. Only for files that nobody writes in place.
    """
    try:
        with open(path, "rb") as file:
            content = mmap(file.fileno(), 0, access=ACCESS_READ) if mapped else file.read()
        if not seal.is_whole(content):
            return None
        size = int.from_bytes(content[:8], "little")
        header = plain_json.loads(content[8 : 8 + size])
        metadata = header.pop("__metadata__")
        if metadata["key"] != path.stem:
            return None
        arrays = {name: _array(content, 8 + size, **about) for name, about in header.items()}
        return make(plain_json.loads(metadata["recording"]), arrays)
    except (OSError, KeyError, TypeError, ValueError):
        return None


def _array(content: bytes | mmap, base: int, dtype: str, shape: list[int], data_offsets: list[int]) -> Any:
    first, last = data_offsets
    kind = np.dtype(DTYPES[dtype])
    return np.frombuffer(content, kind, (last - first) // kind.itemsize, base + first).reshape(shape)


@dataclass(frozen=True)
class Prepared:
    """A recording ready for the network."""

    utterances: tuple[Utterance, ...]
    features: Mapping[str, Features]
    face_coverage: tuple[float | None, ...]
    text_source: str | None
    language: str | None
    flags: tuple[str, ...]  # of the whole recording
    duration_s: float
    streams: Mapping[str, str | None] = field(default_factory=dict)  # what was chosen of those inside it
    rate_hz: int | None = None  # of the sound as it is recorded, with so many channels
    channels: int | None = None
    beside: Mapping[str, str] = field(default_factory=dict)  # files read: "speakers" and "transcript"
    seconds: Mapping[str, float] = field(default_factory=dict)  # per stage
    voices: Mapping[str, str] = field(default_factory=dict)  # of the speakers, packed; empty unless linked
    problems: tuple[Mapping[str, str], ...] = ()  # stage, error and message of what cost it its transcript
    streams_not_used: Mapping[str, str] = field(default_factory=dict)  # inside it, and why
    not_used: Mapping[str, str] = field(default_factory=dict)  # files beside it, and why, where that is known

    def conversations(self) -> list[Conversation]:
        """One a dialogue, in order."""
        result = []
        ids = np.array([u.dialogue_id for u in self.utterances])
        for dialogue in dict.fromkeys(ids.tolist()):
            rows = np.flatnonzero(ids == dialogue)
            numbers: dict[str, int] = {}
            speakers = [numbers.setdefault(self.utterances[i].speaker, len(numbers)) for i in rows]
            features = {m: Features(f.values[rows], f.present[rows]) for m, f in self.features.items()}
            result.append(Conversation(np.array(speakers, np.int64), features))
        return result

    def facts(self, recording: str) -> dict[str, Any]:
        """What the run's record and the table of recordings say of it, as JSON values.

        Args:
            recording: the file's name.
        """
        return {
            "duration_s": round(self.duration_s, 3),
            "speakers": len({u.speaker for u in self.utterances}),
            "text_source": self.text_source,
            "language": self.language if self.text_source is not None else None,
            "streams": dict(self.streams),
            "rate_hz": self.rate_hz,
            "channels": self.channels,
            "beside": {kind: label(name, recording) for kind, name in self.beside.items()},
            "problems": [{key: media.escaped(said) for key, said in p.items()} for p in self.problems],
            "streams_not_used": dict(self.streams_not_used),
            "not_used": {label(name, recording): reason for name, reason in self.not_used.items()},
            "seconds": {stage: round(spent, 3) for stage, spent in self.seconds.items()},
        }

    def save(self, path: Path, scratch: Path) -> None:
        """Write it whole or not at all."""
        arrays: dict[str, NDArray[Any]] = {}
        for modality, f in self.features.items():
            arrays[f"{modality}.values"] = f.values
            arrays[f"{modality}.present"] = f.present
        plain = asdict(self)
        del plain["features"]
        save_sealed(path, scratch, plain, arrays)

    @classmethod
    def load(cls, path: Path) -> Prepared | None:
        """What was saved; None where there is no file that is whole and in its place. It is made anew."""
        return of_sealed(path, cls._of)

    @classmethod
    def _of(cls, plain: dict[str, Any], arrays: Arrays) -> Prepared:
        modalities = [name.removesuffix(".values") for name in arrays if name.endswith(".values")]
        plain["utterances"] = tuple(
            Utterance(**{**u, "flags": tuple(u["flags"]), "words": tuple(Word(**w) for w in u["words"])})
            for u in plain["utterances"]
        )
        plain["face_coverage"] = tuple(plain["face_coverage"])
        plain["flags"], plain["problems"] = tuple(plain["flags"]), tuple(plain["problems"])
        plain["features"] = {m: Features(arrays[f"{m}.values"], arrays[f"{m}.present"]) for m in modalities}
        return cls(**plain)
