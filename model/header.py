"""What a checkpoint says of itself: read and checked, whoever wrote it, without loading PyTorch."""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open

from model.config import SENTIMENTS, ModelConfig, sentence

WEIGHTS, HEADER = "model.safetensors", "model.json"
FORMAT_VERSION = 1
MOST_BYTES = 64 << 20  # of model.json
MOST_CHARACTERS = 200  # of a label, a name or a version
TEMPERATURES = (1e-3, 1e9)  # the largest leaves nothing of the logits
MOST_BIAS = 1e3
_SUM_SLACK = 0.01  # of the shares of the labels; they are written with all their digits


class CheckpointError(Exception):
    """A checkpoint can't be read or written. Its text says what is wrong and what to do."""


@dataclass(frozen=True)
class Description:
    """All that a checkpoint says, but for its weights. Fields are those of ``Checkpoint``."""

    config: ModelConfig
    labels: tuple[str, ...]
    name: str
    version: str
    encoders: dict[str, dict[str, Any]]
    calibration: dict[str, dict[str, Any]]
    prior: dict[str, list[float]]
    meta: dict[str, Any]
    fingerprint: str
    header: Mapping[str, Any]  # as it stands in the file
    shapes: Mapping[str, tuple[int, ...]]  # of the weights, by name


def describe_checkpoint(folder: str | Path) -> Description:
    """Read and check what a checkpoint says. Its weights are not read, only that they are of this header.

    Raises:
        CheckpointError: a file is missing, damaged, of a newer format, or at odds with the other.
    """
    folder = Path(folder)
    weights_path, header_path = folder / WEIGHTS, folder / HEADER
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a checkpoint: there is no such folder")
    for path in (header_path, weights_path):
        if not is_regular(path):
            raise CheckpointError(f"{folder} is not a checkpoint: {path.name} is missing, or no file")
    shapes, fingerprint = _read_shapes(weights_path)
    header = read_header(header_path)
    if header.get("fingerprint") != fingerprint:
        raise CheckpointError(
            f"{folder}: {HEADER} and {WEIGHTS} belong to different checkpoints; copy both from one place"
        )
    try:
        if not isinstance(header.get("config"), dict):
            raise CheckpointError(f"'config' must be an object; got {_short(header.get('config'))}")
        config = ModelConfig.from_json(header["config"])
        check_header(header, config)
    except (ValueError, CheckpointError) as error:
        raise CheckpointError(f"{header_path}: {error}") from error
    return Description(
        config=config,
        labels=tuple(header["labels"]),
        name=header["name"],
        version=header["version"],
        encoders=header["encoders"],
        calibration=header["calibration"],
        prior=header["prior"],
        meta=header["meta"],
        fingerprint=fingerprint,
        header=header,
        shapes=shapes,
    )


def _read_shapes(path: Path) -> tuple[dict[str, tuple[int, ...]], str]:
    """Shapes of the tensors, and the fingerprint, without reading the numbers."""
    try:
        with safe_open(path, framework="np") as file:
            fingerprint = (file.metadata() or {}).get("fingerprint", "")
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}, fingerprint
    except (SafetensorError, OSError, RuntimeError) as error:
        raise CheckpointError(f"{path} can't be read as safetensors ({error}); fetch it again") from error


def is_regular(path: Path) -> bool:
    """Whether there is a file of content, which can be read without waiting for somebody."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def read_header(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            text = file.read(MOST_BYTES + 1)
        if len(text) > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES >> 20} MB")
        header = json.loads(text, parse_constant=_no_number)
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} can't be read as JSON ({error}); fetch it again") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path} is not the description of a checkpoint")
    version = header.get("format")
    if not isinstance(version, int) or version < 1:
        raise CheckpointError(
            f"{path} does not say its format version; it is not a checkpoint of this program"
        )
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has format {version}, this program reads up to {FORMAT_VERSION}; install a newer version"
        )
    return header


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class _Scaling(_Closed):
    """How the logits of one head become probabilities."""

    temperature: Annotated[float, Field(ge=TEMPERATURES[0], le=TEMPERATURES[1])]
    bias: list[Annotated[float, Field(ge=-MOST_BIAS, le=MOST_BIAS)]] | None = None
    plausible_from: Annotated[float, Field(ge=0, le=1)] = 0.0


class _Scalings(_Closed):
    fine: _Scaling | None = None
    coarse: _Scaling | None = None


class _Prior(_Closed):
    fine: list[Annotated[float, Field(ge=0, le=1)]]
    coarse: list[Annotated[float, Field(ge=0, le=1)]]


class _Header(_Closed):
    """The keys of model.json, by themselves; :func:`check_header` says how they hang together."""

    format: int
    name: str
    version: str
    labels: list[str]
    sentiments: list[str]
    config: dict[str, Any]
    encoders: dict[str, dict[str, Any]]
    calibration: dict[str, _Scalings]
    prior: _Prior
    meta: dict[str, Any]
    fingerprint: str = ""


def check_header(values: Mapping[str, Any], config: ModelConfig) -> None:
    """What a checkpoint says of itself, against its network.

    Raises: CheckpointError for an unknown key (the sentence names the near miss) or an impossible value.
    """
    try:
        header = _Header(**values)
    except ValidationError as error:
        raise CheckpointError(sentence(error, list(_Header.model_fields))) from error
    labels = header.labels
    if not all(map(_is_line, labels)) or ";" in "".join(labels):
        # A semicolon parts labels in the cell of a CSV table.
        raise CheckpointError(
            f"'labels' must be a list of names, without control characters and ';'; got {_short(labels)}"
        )
    if len(labels) != config.classes or len(set(labels)) != len(labels):
        raise CheckpointError(
            f"{len(labels)} labels ({', '.join(labels)}) for {config.classes} classes, or one twice"
        )
    if header.sentiments != list(SENTIMENTS):
        raise CheckpointError(f"'sentiments' must be {', '.join(SENTIMENTS)}; got {header.sentiments!r}")
    for key, text in (("name", header.name), ("version", header.version)):
        if not _is_line(text):
            raise CheckpointError(f"{key!r} must be a text of one line; got {_short(text)}")
    for modality in header.encoders:
        if modality not in config.modalities:
            raise CheckpointError(f"'encoders' must describe modalities of the network; got {modality!r}")
    sizes = {"fine": config.classes, "coarse": len(SENTIMENTS)}
    for head, size in sizes.items():
        shares = getattr(header.prior, head)
        if len(shares) != size or abs(sum(shares) - 1) > _SUM_SLACK:
            raise CheckpointError(
                f"'prior' of {head!r} must be {size} shares, of 1 in all; got {_short(shares)}"
            )
    for subset, scalings in header.calibration.items():
        names = subset.split("+") if subset else []
        if names != [m for m in config.modalities if m in names]:
            raise CheckpointError(
                f"'calibration' has an entry for {subset!r}, which is no subset of the modalities"
            )
        for head, size in sizes.items():
            scaling = getattr(scalings, head)
            if scaling is not None and scaling.bias is not None and len(scaling.bias) != size:
                raise CheckpointError(f"'calibration' of {subset!r}, {head!r}: bias must be {size} numbers")


def _is_line(value: str) -> bool:
    return 0 < len(value) <= MOST_CHARACTERS and value.isprintable()


def _short(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + "..."


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")
