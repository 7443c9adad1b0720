"""A checkpoint is a folder: ``model.safetensors`` (weights and normalisation) and ``model.json`` (the rest).

Both carry the same fingerprint, the SHA-256 of what they hold. Whatever else lies in the folder, such as the
weights of encoders, is left as it is.

Saving writes the two files and no more. Whoever wants the old one to stand until the new one does, saves to a
new folder and puts that into its place: :func:`annotator.files.written_folder`, as all training does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from model.config import MODALITIES, SENTIMENTS, ModelConfig
from model.header import (
    FORMAT_VERSION,
    HEADER,
    WEIGHTS,
    CheckpointError,
    check_header,
    describe_checkpoint,
)
from model.network import Network

MOST_WEIGHT = 1e9  # of any number in a network; what is trained has some tens, statistics some thousands

Array = TypeVar("Array", Tensor, NDArray[np.floating])


@dataclass
class Checkpoint:
    """A network and all that is needed to use it."""

    network: Network
    labels: tuple[str, ...]  # fine labels, in the order of the logits
    name: str
    version: str
    encoders: dict[str, dict[str, Any]]
    """By modality: what made its features. Free-form JSON; ``annotator`` compares it before it predicts."""
    calibration: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By the modalities present, joined with "+" ("text+audio"):
    {"fine": {"temperature": t, "bias": [C numbers] or null, "plausible_from": p}, "coarse": {t, 3 numbers}}.
    For p see :func:`plausible_sets`; it may be left out."""
    prior: dict[str, list[float]] = field(default_factory=dict)
    """Shares of the labels in training: {"fine": [C numbers], "coarse": [3 numbers]}."""
    meta: dict[str, Any] = field(default_factory=dict)
    """Free-form JSON: corpus, metrics, versions."""
    fingerprint: str = ""
    """SHA-256 of what was saved, hex; set by save and load."""

    @property
    def config(self) -> ModelConfig:
        return self.network.config


def save_checkpoint(folder: str | Path, checkpoint: Checkpoint, *, half: bool = False) -> str:
    """Write a checkpoint's two files into a folder, made if need be. Returns its fingerprint.

    Args:
        half: store parameters as float16, half the size; they are float32 again when loaded. Normalisation
            statistics stay float32: features may be larger than float16 can hold.

    Raises:
        CheckpointError: something in it is invalid (nothing is written), or the folder can't be written.
    """
    folder = Path(folder)
    network, parameters = checkpoint.network, dict(checkpoint.network.named_parameters())
    tensors = {
        name: tensor.detach().to("cpu", torch.float16 if half and name in parameters else torch.float32)
        for name, tensor in network.state_dict().items()
    }
    for name, tensor in tensors.items():
        if not tensor.isfinite().all() or float(tensor.abs().max()) > MOST_WEIGHT:
            raise CheckpointError(
                f"{name} holds values that are not finite, or beyond all measure; the training has diverged"
            )
    header: dict[str, Any] = {
        "format": FORMAT_VERSION,
        "name": checkpoint.name,
        "version": checkpoint.version,
        "labels": list(checkpoint.labels),
        "sentiments": list(SENTIMENTS),
        "config": network.config.to_json(),
        "encoders": checkpoint.encoders,
        "calibration": checkpoint.calibration,
        "prior": checkpoint.prior,
        "meta": checkpoint.meta,
    }
    check_header(header, network.config)
    try:
        text = json.dumps(header, ensure_ascii=False, allow_nan=False, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"the checkpoint's description can't be stored as JSON: {error}") from error
    fingerprint = _fingerprint(json.loads(text), tensors)
    contiguous = {name: tensors[name].contiguous() for name in sorted(tensors)}
    weights = save(contiguous, metadata={"fingerprint": fingerprint})
    described = json.dumps({**header, "fingerprint": fingerprint}, ensure_ascii=False, indent=1) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / WEIGHTS).write_bytes(weights)
        (folder / HEADER).write_bytes(described.encode())
    except OSError as error:
        raise CheckpointError(f"can't write the checkpoint {folder}: {error.strerror or error}") from error
    checkpoint.fingerprint = fingerprint
    return fingerprint


def load_checkpoint(folder: str | Path, device: torch.device | str = "cpu") -> Checkpoint:
    """Read and check a checkpoint; its network is float32, in eval mode, on ``device``.

    Raises:
        CheckpointError: a file is missing, damaged, of a newer format, or at odds with the other.
    """
    folder = Path(folder)
    about = describe_checkpoint(folder)
    with torch.random.fork_rng(devices=[]):  # loading must not shift anyone's random numbers
        with torch.device("meta"):  # takes no memory, whatever the sizes
            outline = Network(about.config)
        wanted = {name: tuple(t.shape) for name, t in outline.state_dict().items()}
        _compare(about.shapes, wanted, folder / WEIGHTS)
        network = Network(about.config)
    tensors = _read_tensors(folder / WEIGHTS)
    described = {key: value for key, value in about.header.items() if key != "fingerprint"}
    if _fingerprint(described, tensors) != about.fingerprint:
        raise CheckpointError(
            f"{folder}: what {HEADER} and {WEIGHTS} hold is not what was saved (its fingerprint differs); "
            "copy both again from where they came"
        )
    network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return Checkpoint(
        network=network.to(device).eval(),
        labels=about.labels,
        name=about.name,
        version=about.version,
        encoders=about.encoders,
        calibration=about.calibration,
        prior=about.prior,
        meta=about.meta,
        fingerprint=about.fingerprint,
    )


# Relative difference of probabilities up to which they are the same: other kernels round otherwise.
TIE = 1e-5


def subset_key(present: Sequence[bool], modalities: Sequence[str] = MODALITIES) -> str:
    """The calibration's key of a row: [True, True, False] -> "text+audio"."""
    return "+".join(m for m, observed in zip(modalities, present, strict=True) if observed)


def apply_calibration(
    calibration: Mapping[str, Mapping[str, Any]],
    fine: Array,
    coarse: Array,
    present: Tensor | NDArray[np.bool_],
    modalities: Sequence[str] = MODALITIES,
) -> tuple[Array, Array]:
    """Logits -> probabilities, softmax(logits / temperature + bias), by the modalities that a row has.

    A subset without an entry gets the plain softmax (temperature 1, no bias).

    Args:
        calibration: as in :attr:`Checkpoint.calibration`.
        fine, coarse: (V, C) and (V, 3), both numpy or both torch.
        present: (V, M) bool; ``modalities`` names its columns: give the checkpoint's.

    Returns:
        (V, C) and (V, 3) float32 of the kind that was given; rows sum to 1.
    """
    observed = torch.as_tensor(present).bool().cpu()
    if observed.shape[1:] != (len(modalities),):
        raise ValueError(
            f"present has shape {tuple(observed.shape)}, expected a column for each of {modalities}"
        )
    subsets, row = torch.unique(observed, dim=0, return_inverse=True)
    entries = [calibration.get(subset_key(subset.tolist(), modalities), {}) for subset in subsets]
    return (
        _calibrated(fine, [e.get("fine", {}) for e in entries], row),
        _calibrated(coarse, [e.get("coarse", {}) for e in entries], row),
    )


def plausible_sets(
    calibration: Mapping[str, Mapping[str, Any]],
    fine: NDArray[np.float32],
    present: NDArray[np.bool_],
    modalities: Sequence[str] = MODALITIES,
) -> NDArray[np.bool_]:
    """The labels that a row's true one is likely among, by the modalities that it has: (V, C).

    Those with a probability of at least ``plausible_from``, and the likeliest in any case: split conformal
    prediction with the least sets (Sadinle, Lei & Wasserman, JASA 114, 2019). A subset of modalities whose
    calibration has no such number has no labels.

    Args:
        calibration: as in :attr:`Checkpoint.calibration`.
        fine: (V, C) calibrated probabilities.
        present: (V, M) bool; ``modalities`` names its columns.
    """
    plausible = np.zeros(fine.shape, np.bool_)
    subsets, rows = np.unique(present, axis=0, return_inverse=True)
    for number, subset in enumerate(subsets):
        entry = calibration.get(subset_key(subset.tolist(), modalities), {}).get("fine", {})
        if "plausible_from" in entry:
            of = np.flatnonzero(rows.ravel() == number)
            # The number is one of such probabilities, and single precision must not part equal ones.
            plausible[of] = fine[of] >= entry["plausible_from"] * (1 - TIE)
            plausible[of, fine[of].argmax(1)] = True
    return plausible


def _calibrated(logits: Array, entries: list[Mapping[str, Any]], row: Tensor) -> Array:
    tensor = torch.as_tensor(logits)
    temperature = torch.tensor([float(e.get("temperature", 1.0)) for e in entries], dtype=torch.float64)
    none = [0.0] * tensor.shape[1]
    bias = torch.tensor([e.get("bias") or none for e in entries], dtype=torch.float64)
    if not entries:  # no rows
        bias = bias.reshape(0, tensor.shape[1])
    scaled = tensor.double().cpu() / temperature[row, None] + bias[row]
    p = torch.softmax(scaled, -1).float()
    return p.to(tensor.device) if isinstance(logits, Tensor) else p.numpy()


def _fingerprint(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of what a checkpoint holds, hex."""
    text = json.dumps(header, ensure_ascii=False, allow_nan=False, sort_keys=True)
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass"))
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].contiguous().numpy().tobytes())
    return digest.hexdigest()


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError, RuntimeError) as error:
        raise CheckpointError(f"{path} can't be read as safetensors ({error}); fetch it again") from error
    for name, tensor in tensors.items():
        sound = tensor.dtype in (torch.float16, torch.float32) and tensor.isfinite().all()
        if not sound or float(tensor.abs().max()) > MOST_WEIGHT:
            raise CheckpointError(
                f"{path}: {name} holds values that are not finite numbers, or beyond all measure"
            )
        if name.startswith("std_") and not (tensor > 0).all():
            raise CheckpointError(f"{path}: {name} holds deviations that are not positive")
    return tensors


def _compare(
    shapes: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]], path: Path
) -> None:
    for name in wanted:
        if name not in shapes:
            raise CheckpointError(f"{path} lacks {name}, which its configuration calls for")
    for name, shape in shapes.items():
        if name not in wanted:
            raise CheckpointError(f"{path} holds {name}, which its configuration has no place for")
        if shape != wanted[name]:
            raise CheckpointError(
                f"{path}: {name} has shape {shape}, its configuration calls for {wanted[name]}"
            )
