"""What single stages gave for a recording, kept by its content and by the settings that shape that stage.

So another checkpoint costs no decoding, recognition or diarization, another language finds no faces and no
speakers anew, and a run that was killed goes on within a recording.

    look    faces followed through its pictures
    turns   who speaks when, by a diarizer
    found   all that is known of it before anything is encoded
    text, audio, face    features by the encoders
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from annotator import diarize, media
from annotator.files import Unwritable, rename
from annotator.pipeline.prepared import Arrays, of_sealed, save_sealed
from annotator.pipeline.workdir import hash_json
from annotator.records import Features, Media, Turn

log = logging.getLogger("annotator")

Kind = TypeVar("Kind")
Shaping = Mapping[str, Any]  # of each stage: all that decides what it gives, beside the recording
BY_RECORDING = ("look", "turns")  # stages that look at the recording alone, not at files beside it


class Kept:
    """The files of one recording.

    Args:
        shaping: see above; None where nothing is kept.
        folder: where they lie.
        content: SHA-256 of the recording.
        beside: the same of the files beside it, with what their names say.
        order: indices of its sound streams, the one to hear first.
        fresh: nothing is taken from earlier runs.
    """

    def __init__(
        self,
        shaping: Shaping | None,
        folder: Path | None,
        content: str | None,
        beside: Sequence[Any],
        order: Sequence[int],
        fresh: bool,
    ) -> None:
        self._shaping, self._folder, self._fresh = shaping, folder, fresh
        self._of = [content, list(order)]
        self._beside = list(beside)
        self._keeps = shaping is not None and folder is not None and content is not None

    def file(self, stage: str) -> Path | None:
        """Where a stage's result lies; None where nothing is kept."""
        if not self._keeps:
            return None
        assert self._shaping is not None and self._folder is not None
        beside = [] if stage in BY_RECORDING else self._beside
        return self._folder / f"{hash_json([stage, self._of, beside, self._shaping[stage]])}.safetensors"

    def load(self, stage: str, read: Callable[[Path], Kind | None]) -> Kind | None:
        """What an earlier run left of a stage; None where there is nothing that is whole."""
        file = self.file(stage)
        return None if file is None or self._fresh else read(file)

    def save(self, stage: str, write: Callable[[Path], None]) -> None:
        """Keep what ``write`` puts into a file. A disk that is full for it costs a later run some time."""
        file = self.file(stage)
        if file is not None:
            try:
                write(file)
            except Unwritable as error:
                log.warning("What a stage gave is not kept: %s", error)

    def take(self, stage: str, made: Path) -> Path:
        """Keep a finished file, named as the stage's. Returns where it is then: where it was, if it can't."""
        file = self.file(stage)
        if file is None:
            return made
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            rename(made, file)
        except OSError as error:
            log.warning("What a stage gave is not kept: %s", error.strerror)
            return made
        return file


def sound_order(recording: Media, language: str | None, track: str | None) -> list[int]:
    """Indices of the sound streams in the order in which they are tried."""
    return [stream.index for stream in media.in_order(recording.audio, language, track)]


def save_turns(turns: Sequence[Turn], path: Path, scratch: Path) -> None:
    diarized = turns if isinstance(turns, diarize.Diarized) else diarize.Diarized(list(turns))
    plain = {
        "turns": [asdict(turn) for turn in diarized],
        "alone": [asdict(turn) for turn in diarized.alone] if diarized.alone is not None else None,
        "flags": diarized.flags,
    }
    save_sealed(path, scratch, plain, {})


def load_turns(path: Path) -> diarize.Diarized | None:
    """Turns as a diarizer gave them; None where there is no file that is whole and in its place."""

    def made(plain: Any, arrays: Arrays) -> diarize.Diarized:
        alone = None if plain["alone"] is None else [Turn(**turn) for turn in plain["alone"]]
        return diarize.Diarized([Turn(**turn) for turn in plain["turns"]], alone, tuple(plain["flags"]))

    return of_sealed(path, made)


def save_features(features: Features, path: Path, scratch: Path) -> None:
    save_sealed(path, scratch, None, {"values": features.values, "present": features.present})


def load_features(path: Path, count: int) -> Features | None:
    """Features of so many utterances; None where there is no file of them that is whole and in its place."""

    def made(plain: Any, arrays: Arrays) -> Features:
        found = Features(np.asarray(arrays["values"], np.float32), np.asarray(arrays["present"], np.bool_))
        if not len(found.values) == len(found.present) == count:
            raise ValueError("it is of other utterances")
        return found

    return of_sealed(path, made)
