"""What a user can set, from flags and a TOML file. Unknown keys are refused with the near miss."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from annotator import store
from annotator.choices import DEVICE, Channels, Diarizer, Engine, FaceDetector, Transcriber
from annotator.records import DIALOGUE_GAP_S, MODALITIES, UsageError
from annotator.threads import of_worker, processors

MOST_SHARDS = 100_000


class RunSettings(BaseModel):
    """Settings of ``annotate run``. A TOML file may hold any of them, with ``-`` or ``_`` in the keys."""

    # What is no value of theirs may be a password in the wrong place.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    model: str = "starter"
    diarizer: Diarizer = "auto"
    transcriber: Transcriber = "auto"
    pyannote_folder: Path | None = None  # pyannote's pipeline, saved with its config.yaml
    whisper_folder: Path | None = None  # a Whisper in CTranslate2's or Hugging Face's format
    speakers: int | None = Field(default=None, ge=1)
    min_speakers: int | None = Field(default=None, ge=1)
    max_speakers: int | None = Field(default=None, ge=1)
    language: str | None = None
    audio_track: str | None = None  # number among the sound streams, language or title
    subtitle_track: str | None = None  # the same among the subtitle streams
    channels: Channels | None = None  # None: speakers where two channels hold one each
    modalities: tuple[str, ...] = MODALITIES
    dialogue_gap: float = Field(default=DIALOGUE_GAP_S, gt=0)  # seconds
    device: str = "auto"
    batch_size: int = Field(default=32, ge=1)  # conversations a batch
    workers: int | None = Field(default=None, ge=1)  # None: as many as the processors allow, four at most
    threads: int | None = Field(default=None, ge=1)  # of a worker; None: its share of the processors
    engine: Engine = "local"  # where the workers are
    ray_address: str | None = None  # of a cluster that runs; None: $RAY_ADDRESS, or one for this run
    shard: tuple[int, int] | None = None  # i of N
    work_dir: Path | None = None
    store: str | None = None  # URL of what machines share
    fresh: bool = False
    retry_failed: bool = False
    offline: bool = False
    report: Path | None = None
    profile: bool = False  # tell where the time went
    face_detector: FaceDetector = "auto"
    frame_rate: float = Field(default=8.0, gt=0, le=30)  # sampled frames a second
    link_speakers: bool = False  # one name for one person in all recordings, by voice
    link_threshold: float = Field(default=0.7, ge=-1, le=1)  # cosine of two voices that are one person's
    network_memory: int = Field(default=2048, ge=1)  # MB that the network may use at a time, about

    @field_validator("modalities", mode="before")
    @classmethod
    def _modalities(cls, value: Any) -> Any:
        names = [n.strip() for n in value.split(",")] if isinstance(value, str) else list(value)
        for name in names:
            if name not in MODALITIES:
                raise ValueError(f"{name!r} is no modality: choose from {', '.join(MODALITIES)}")
        if not names:
            raise ValueError(f"at least one modality is needed: {', '.join(MODALITIES)}")
        return tuple(m for m in MODALITIES if m in names)

    @field_validator("shard", mode="before")
    @classmethod
    def _shard(cls, value: Any) -> Any:
        if value is None:
            return value
        if not isinstance(value, str):
            value = "/".join(map(str, value))
        match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", value.strip())
        if not match or not 0 <= int(match[1]) <= int(match[2]) or int(match[2]) == 0:
            raise ValueError(f"{value!r} is no shard: write i/N, such as 0/4, with i from 0 to N - 1")
        if int(match[2]) > MOST_SHARDS:
            raise ValueError(f"{value!r} are more than {MOST_SHARDS:,} shards")
        # 4/4 means the same as 0/4, so counting from one works too.
        return int(match[1]) % int(match[2]), int(match[2])

    @field_validator("work_dir")
    @classmethod
    def _work_dir(cls, value: Path | None) -> Path | None:
        if value is not None and store.is_address(value):
            raise ValueError("it is a folder of this machine: a URL belongs to --store")
        return value

    @field_validator("store")
    @classmethod
    def _store(cls, value: str | None) -> str | None:
        return None if value is None else store.checked(value)

    @field_validator("device")
    @classmethod
    def _device(cls, value: str) -> str:
        if not re.fullmatch(DEVICE, value):
            raise ValueError(f"{value!r} is no device: choose auto, cpu, cuda, cuda:N or mps")
        return value

    @field_validator("audio_track", "subtitle_track", mode="before")
    @classmethod
    def _track(cls, value: Any) -> Any:
        if value is not None and not str(value).strip():
            raise ValueError("it is empty: give a number, a language or a title")
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("language")
    @classmethod
    def _language(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[a-z]{2}", value):
            raise ValueError(f"{value!r} is no language code: two letters of ISO 639-1, such as en")
        return value

    @field_validator("report")
    @classmethod
    def _report(cls, value: Path | None) -> Path | None:
        # Found out now, not after hours of annotation.
        if value is not None and value.suffix.lower() not in (".html", ".htm"):
            raise ValueError(f"{value} does not end in .html")
        return value

    @model_validator(mode="after")
    def _speaker_bounds(self) -> RunSettings:
        low, high = self.min_speakers, self.max_speakers
        if low and high and low > high:
            raise ValueError(f"min-speakers ({low}) is above max-speakers ({high})")
        if self.speakers and (low or high):
            raise ValueError("give either speakers or min-speakers and max-speakers, not both")
        return self

    @model_validator(mode="after")
    def _engine(self) -> RunSettings:
        if self.ray_address is not None and self.engine != "ray":
            raise ValueError("ray-address is of the engine ray: add --engine ray")
        return self

    @property
    def worker_count(self) -> int:
        each = of_worker(1, self.threads or 1)
        return self.workers or max(1, min(processors() // each, 4))


def load_settings(config: Path | None, flags: dict[str, Any]) -> RunSettings:
    """Settings from a TOML file, overridden by the flags that were given (those not None).

    Raises: UsageError naming the file, the key, and the near miss of an unknown one.
    """
    values = read_toml(config, RunSettings.model_fields) if config is not None else {}
    values.update({name: value for name, value in flags.items() if value is not None})
    try:
        return RunSettings(**values)
    except ValidationError as error:
        raise UsageError(impossible(error)) from None


def read_toml(config: Path, known: Collection[str]) -> dict[str, Any]:
    """Values of a TOML file by name, with ``-`` or ``_`` in the keys.

    Raises: UsageError naming the file, the key, and the near miss of an unknown one.
    """
    try:
        raw = tomllib.loads(config.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"There is no settings file {config}: check the path of --config.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The settings file {config} can't be read: {error}.") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"The settings file {config} is not valid TOML: {error}.") from None
    values: dict[str, Any] = {}
    for key, value in raw.items():
        name = key.replace("-", "_")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise UsageError(
                f"Unknown key {key!r} in {config}.{hint} Known keys: {', '.join(sorted(known))}."
            )
        values[name] = value
    return values


def impossible(error: ValidationError) -> str:
    """A sentence that names every setting whose value can't be."""
    parts = []
    for e in error.errors():
        where = "--" + "-".join(str(p) for p in e["loc"][:1]).replace("_", "-") if e["loc"] else "settings"
        parts.append(f"{where}: {e['msg'].removeprefix('Value error, ')}")
    return "; ".join(parts) + "."
