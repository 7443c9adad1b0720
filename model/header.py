"""What a checkpoint says of itself: read and checked, whoever wrote it, without loading PyTorch."""

from __future__ import annotations

import json
import math
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from safetensors import SafetensorError, safe_open

from model.config import SENTIMENTS, ModelConfig

WEIGHTS, HEADER, NEXT = "model.safetensors", "model.json", ".next.json"
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
    if header.get("fingerprint") != fingerprint and is_regular(folder / NEXT):
        header = read_header(folder / NEXT)  # a save was interrupted between its two renames
    if header.get("fingerprint") != fingerprint:
        raise CheckpointError(
            f"{folder}: {HEADER} and {WEIGHTS} belong to different checkpoints; copy both from one place"
        )
    try:
        config = ModelConfig.from_json(mapping(header, "config"))
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


def mapping(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = values.get(key)
    if not isinstance(value, dict):
        raise CheckpointError(f"{key!r} must be an object; got {_short(value)}")
    return value


def check_header(header: Mapping[str, Any], config: ModelConfig) -> None:
    labels = header.get("labels")
    if not isinstance(labels, list) or not all(map(_is_name, labels)) or ";" in "".join(labels):
        # A semicolon parts labels in the cell of a CSV table.
        raise CheckpointError(
            f"'labels' must be a list of names, without control characters and ';'; got {_short(labels)}"
        )
    if len(labels) != config.classes or len(set(labels)) != len(labels):
        raise CheckpointError(
            f"{len(labels)} labels ({', '.join(labels)}) for {config.classes} classes, or one twice"
        )
    if header.get("sentiments") != list(SENTIMENTS):
        raise CheckpointError(
            f"'sentiments' must be {', '.join(SENTIMENTS)}; got {header.get('sentiments')!r}"
        )
    for key in ("name", "version"):
        if not _is_name(header.get(key)):
            raise CheckpointError(f"{key!r} must be a text of one line; got {_short(header.get(key))}")
    for modality, described in mapping(header, "encoders").items():
        if modality not in config.modalities or not isinstance(described, dict):
            raise CheckpointError(f"'encoders' must describe modalities of the network; got {modality!r}")
    sizes = {"fine": config.classes, "coarse": len(SENTIMENTS)}
    prior = mapping(header, "prior")
    for head in {**sizes, **prior}:
        shares: Any = prior.get(head)
        whole = head in sizes and _numbers(shares, sizes[head], most=1.0) and min(shares) >= 0
        if not whole or abs(sum(shares) - 1) > _SUM_SLACK:
            raise CheckpointError(
                f"'prior' of {head!r} must be {sizes.get(head, 0)} shares, of 1 in all; got {_short(shares)}"
            )
    for subset, heads in mapping(header, "calibration").items():
        names = subset.split("+") if subset else []
        if names != [m for m in config.modalities if m in names] or not isinstance(heads, dict):
            raise CheckpointError(
                f"'calibration' has an entry for {subset!r}, which is no subset of the modalities"
            )
        for head, entry in heads.items():
            temperature = entry.get("temperature") if isinstance(entry, dict) else None
            least, most = TEMPERATURES
            if head not in sizes or not _numbers([temperature], 1, most) or float(temperature or 0) < least:
                raise CheckpointError(
                    f"'calibration' of {subset!r}, {head!r} needs a positive temperature, {least} to {most:g}"
                )
            if entry.get("bias") is not None and not _numbers(entry["bias"], sizes[head], MOST_BIAS):
                raise CheckpointError(
                    f"'calibration' of {subset!r}, {head!r}: bias must be {sizes[head]} numbers"
                )
            least_p = entry.get("plausible_from", 0.0)
            if not _numbers([least_p], 1, 1.0) or least_p < 0:
                raise CheckpointError(
                    f"'calibration' of {subset!r}, {head!r}: plausible_from must be a probability"
                )
    mapping(header, "meta")


def _numbers(values: Any, n: int, most: float) -> bool:
    """Whether these are so many numbers, none further than ``most`` from 0."""
    return (
        isinstance(values, list)
        and len(values) == n
        and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
        # Compared before anything else: an integer may be larger than a float can be.
        and all(-most <= v <= most for v in values)
        and all(map(math.isfinite, values))
    )


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MOST_CHARACTERS and value.isprintable()


def _short(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + "..."


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")
