"""What a manifest in a work folder may hold, and the facts in a part: what is read is checked by this."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from annotator import plain_json

MANIFEST_FORMAT = 2  # raised when a manifest says something else
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]  # so that no part leads out of its folder
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Shape(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")


class Failure(_Shape):
    """Why a recording has no part."""

    stage: str
    error: str
    message: str
    attempts: int


class Problem(_Shape):
    """Why a recording was annotated without its transcript."""

    stage: str
    error: str
    message: str


class File(_Shape):
    """What became of a recording."""

    file: str
    file_id: Hash | None
    part: Hash | None
    sha256: Hash | None = None
    failure: Failure | None = None
    problems: list[Problem] = []
    duration_s: Seconds = 0.0
    rows: int = 0
    speakers: int = 0
    flags: list[str] = []
    text_source: str | None = None
    language: str | None = None
    rate_hz: int | None = None
    channels: int | None = None
    streams: dict[str, str | None] = {}
    beside: dict[str, str | None] = {}
    seconds: dict[str, Seconds] = {}

    @model_validator(mode="after")
    def _whole(self) -> File:
        if self.part is None and self.failure is None:
            raise ValueError("neither a part nor a failure")
        if self.part is not None and (self.file_id is None or self.sha256 is None):
            raise ValueError("a part without its hashes")
        return self


class NotUsed(_Shape):
    """A file that no run used, and why."""

    file: str
    reason: str


class Run(_Shape):
    """The facts of a run."""

    started: str
    wall_seconds: Seconds
    seconds_per_stage: dict[str, Seconds]
    annotated_now: int
    device: str
    backends: dict[str, str | None]
    profile: dict[str, Any] = {}


class RunSettings(_Shape):
    """Those that a merge goes by."""

    link_speakers: bool
    link_threshold: float


class Manifest(_Shape):
    """Which file has which part, with the facts of each recording and of the run."""

    format: int
    shard: Annotated[list[int], Field(min_length=2, max_length=2)] | None
    run: Run
    settings_hash: Hash
    settings: RunSettings
    versions: dict[str, Any]
    model: str
    labels: list[str]
    files: list[File]
    not_used: list[NotUsed]

    @model_validator(mode="after")
    def _named(self) -> Manifest:
        if "conversation-annotator" not in self.versions:
            raise ValueError("it does not say which version wrote it")
        return self


class Facts(_Shape):
    """What a part says of its recording, beside its rows."""

    file_id: Hash
    duration_s: Seconds
    rows: int
    speakers: int
    flags: list[str]
    text_source: str | None
    language: str | None
    rate_hz: int | None
    channels: int | None
    streams: dict[str, str | None]
    beside: dict[str, str]
    problems: list[Problem]
    streams_not_used: dict[str, str]
    not_used: dict[str, str]
    seconds: dict[str, Seconds]

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
