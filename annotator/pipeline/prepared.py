"""A recording ready for the network: what a worker leaves, on disk whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save_file

from annotator import media, plain_json, seal
from annotator.files import written_whole
from annotator.pipeline.recordings import label
from annotator.records import Conversation, Features, Utterance, Word


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
            arrays[f"{modality}.values"] = np.ascontiguousarray(f.values)
            arrays[f"{modality}.present"] = np.ascontiguousarray(f.present)
        plain = asdict(self)
        del plain["features"]
        sealed = seal.blank()
        metadata = {seal.KEY: sealed, "key": path.stem, "recording": json.dumps(plain, allow_nan=False)}
        with written_whole(path, scratch) as temporary:
            save_file(arrays, temporary, metadata=metadata)
            seal.close(temporary, sealed)

    @classmethod
    def load(cls, path: Path) -> Prepared | None:
        """What was saved; None where there is no file that is whole and in its place. It is made anew."""
        try:
            content = path.read_bytes()
            if not seal.is_whole(content):
                return None
            size = int.from_bytes(content[:8], "little")
            metadata = plain_json.loads(content[8 : 8 + size])["__metadata__"]
            if metadata["key"] != path.stem:
                return None
            return cls._of(plain_json.loads(metadata["recording"]), load(content))
        except (OSError, SafetensorError, KeyError, TypeError, ValueError):
            return None

    @classmethod
    def _of(cls, plain: dict[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Prepared:
        modalities = [name.removesuffix(".values") for name in arrays if name.endswith(".values")]
        plain["utterances"] = tuple(
            Utterance(**{**u, "flags": tuple(u["flags"]), "words": tuple(Word(**w) for w in u["words"])})
            for u in plain["utterances"]
        )
        plain["face_coverage"] = tuple(plain["face_coverage"])
        plain["flags"], plain["problems"] = tuple(plain["flags"]), tuple(plain["problems"])
        plain["features"] = {m: Features(arrays[f"{m}.values"], arrays[f"{m}.present"]) for m in modalities}
        return cls(**plain)
