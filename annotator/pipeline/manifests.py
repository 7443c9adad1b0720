"""What a manifest in a work folder may hold, the facts in a part, and what is noted of a failure.

Others may have written them, so what is read is checked by this: no key that a run doesn't write, no text
that is none, no number that a table can't hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from annotator import plain_json
from annotator.settings import MOST_SHARDS

MANIFEST_FORMAT = 2  # raised when a manifest says something else
MOST_ATTEMPTS = 1_000_000
_DEEPEST = 20  # of settings and profiles, whose own shape nobody here knows


def _text(value: str) -> str:
    value.encode()  # JSON may hold halves of characters, which no file can; raises ValueError
    return value


def _shallow(tree: Any, most: int = _DEEPEST) -> Any:
    if isinstance(tree, dict | list):
        if most == 0:
            raise ValueError("it is nested too deeply")
        for value in tree.values() if isinstance(tree, dict) else tree:
            _shallow(value, most - 1)
    return tree


Text = Annotated[str, AfterValidator(_text)]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]  # so that no part leads out of its folder
Seconds = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, lt=1 << 31)]  # as the tables have them


class _Shape(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class Problem(_Shape):
    """Why a recording was annotated without its transcript."""

    stage: Text
    error: Text
    message: Text


class Failure(Problem):
    """Why a recording has no part."""

    attempts: Annotated[Count, Field(ge=1)]


class File(_Shape):
    """What became of a recording."""

    file: Text
    file_id: Hash | None
    part: Hash | None
    sha256: Hash | None = None
    failure: Failure | None = None
    problems: list[Problem] = []
    duration_s: Seconds = 0.0
    rows: Count = 0
    speakers: Count = 0
    flags: list[Text] = []
    text_source: Text | None = None
    language: Text | None = None
    rate_hz: Count | None = None
    channels: Count | None = None
    streams: dict[Text, Text | None] = {}
    streams_not_used: dict[Text, Text] = {}
    beside: dict[Text, Text | None] = {}
    seconds: dict[Text, Seconds] = {}

    @model_validator(mode="after")
    def _whole(self) -> File:
        if self.part is None and self.failure is None:
            raise ValueError("neither a part nor a failure")
        if self.part is not None and (self.file_id is None or self.sha256 is None):
            raise ValueError("a part without its hashes")
        return self


class NotUsed(_Shape):
    """A file that no run used, and why."""

    file: Text
    reason: Text


class Run(_Shape):
    """The facts of a run."""

    started: Text
    wall_seconds: Seconds
    seconds_per_stage: dict[Text, Seconds]
    annotated_now: Count
    device: Text
    backends: dict[Text, Text | None]
    profile: Annotated[dict[Text, Any], AfterValidator(_shallow)] = {}


class RunSettings(_Shape):
    """Those that a merge goes by; the others are only told."""

    model_config = ConfigDict(extra="allow")

    link_speakers: bool
    link_threshold: Annotated[float, Field(ge=-1, le=1)]

    @model_validator(mode="after")
    def _flat(self) -> RunSettings:
        _shallow(self.model_extra)
        return self


class Manifest(_Shape):
    """Which file has which part, with the facts of each recording and of the run."""

    format: Count
    shard: Annotated[list[Count], Field(min_length=2, max_length=2)] | None
    run: Run
    settings_hash: Hash
    settings: RunSettings
    versions: dict[Text, Text]
    model: Text
    labels: list[Text]
    files: list[File]
    not_used: list[NotUsed]

    @model_validator(mode="after")
    def _named(self) -> Manifest:
        if "conversation-annotator" not in self.versions:
            raise ValueError("it does not say which version wrote it")
        if self.shard is not None and not self.shard[0] < self.shard[1] <= MOST_SHARDS:
            raise ValueError("there is no such shard")
        return self


class Facts(_Shape):
    """What a part says of its recording, beside its rows."""

    file_id: Hash
    duration_s: Seconds
    rows: Count
    speakers: Count
    flags: list[Text]
    text_source: Text | None
    language: Text | None
    rate_hz: Count | None
    channels: Count | None
    streams: dict[Text, Text | None]
    beside: dict[Text, Text]
    problems: list[Problem]
    streams_not_used: dict[Text, Text]
    not_used: dict[Text, Text]
    seconds: dict[Text, Seconds]

    @model_validator(mode="after")
    def _subtitles(self) -> Facts:
        if "subtitles" not in self.streams:
            raise ValueError("it does not say which subtitles were taken")
        return self


def are_facts(found: Mapping[str, Any]) -> bool:
    """Whether the facts in a part are as a run writes them."""
    try:
        Facts.model_validate(dict(found))
    except ValueError:
        return False
    return True


def as_failure(found: Any) -> dict[str, Any] | None:
    """What is noted of a failure; None where it is not as a run writes it."""
    try:
        # Tried again, a recording has failed once more, which its manifest is to hold, too.
        return found if Failure.model_validate(found).attempts < MOST_ATTEMPTS else None
    except ValueError:
        return None


def read_manifest(path: Path) -> dict[str, Any] | None:
    """A manifest; None when it is none that this version wrote."""
    try:
        return as_manifest(plain_json.read(path))
    except (OSError, ValueError):
        return None


def as_manifest(found: Any) -> dict[str, Any]:
    """A manifest that was read. Raises: ValueError when it is none that this version wrote."""
    if Manifest.model_validate(found).format != MANIFEST_FORMAT:
        raise ValueError("it is of another version")
    manifest: dict[str, Any] = found
    return manifest
