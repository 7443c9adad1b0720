"""What a manifest in a work folder may hold: everything that is read from one is checked against this."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

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
