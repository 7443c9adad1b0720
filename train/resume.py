"""Training state on disk: written whole or not at all, without pickle, and only taken by the same training.

A state is tensors (safetensors) plus plain values (a JSON string in the file's metadata), so one rename
replaces both and a kill between epochs can't mix two of them. It carries the hash of its own content, and a
fingerprint of the data and the settings of the training that it belongs to.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from annotator import plain_json, seal
from annotator.files import written_whole

log = logging.getLogger("annotator")


def flatten(tree: Any, prefix: str, tensors: dict[str, Tensor]) -> Any:
    """Move the tensors of a state dict into ``tensors``; return the rest as JSON values."""
    if isinstance(tree, Tensor):
        tensors[prefix] = tree.detach().cpu().contiguous().clone()
        return {"__tensor__": prefix}
    if isinstance(tree, dict):
        # Optimizers use integer keys, which JSON would turn into strings.
        return {"__items__": [[k, flatten(v, f"{prefix}.{k}", tensors)] for k, v in tree.items()]}
    if isinstance(tree, (list, tuple)):
        return [flatten(v, f"{prefix}.{i}", tensors) for i, v in enumerate(tree)]
    return tree


def unflatten(tree: Any, tensors: dict[str, Tensor]) -> Any:
    """The inverse of :func:`flatten` (tuples come back as lists)."""
    if isinstance(tree, dict):
        if "__tensor__" in tree:
            return tensors[tree["__tensor__"]]
        return {k: unflatten(v, tensors) for k, v in tree["__items__"]}
    if isinstance(tree, list):
        return [unflatten(v, tensors) for v in tree]
    return tree


def fingerprint(*parts: Any) -> str:
    """Equal for equal parts: tensors, arrays, plain values, nested containers and dataclasses of these."""
    digest = hashlib.sha256()
    for piece in _pieces(parts):
        digest.update(len(piece).to_bytes(8, "little") + piece)
    return digest.hexdigest()


def _pieces(tree: Any) -> Iterable[bytes | memoryview]:
    if isinstance(tree, Tensor):
        tree = tree.detach().cpu().contiguous().numpy()
    if isinstance(tree, np.ndarray):
        array: NDArray[Any] = np.ascontiguousarray(tree)
        yield f"{array.dtype} {array.shape}".encode()
        yield array.tobytes()
    elif dataclasses.is_dataclass(tree):
        yield from _pieces({f.name: getattr(tree, f.name) for f in dataclasses.fields(tree)})
    elif isinstance(tree, Mapping):
        yield f"{len(tree)} entries".encode()
        for key in sorted(tree, key=repr):
            yield from _pieces(key)
            yield from _pieces(tree[key])
    elif isinstance(tree, (list, tuple)):
        yield f"{len(tree)} parts".encode()
        for part in tree:
            yield from _pieces(part)
    else:
        yield repr(tree).encode("utf-8", "surrogatepass")


def save_state(path: Path, state: dict[str, Any], fingerprint: str) -> None:
    """Write ``state`` (nested dicts, lists, tensors, JSON values) atomically to ``path``.

    Args:
        fingerprint: of the data and settings of the training.
    """
    tensors: dict[str, Tensor] = {}
    plain = flatten(state, "state", tensors)
    sealed = seal.blank()
    metadata = {seal.KEY: sealed, "fingerprint": fingerprint, "state": json.dumps(plain)}
    with written_whole(path) as temporary:
        save_file(tensors, temporary, metadata=metadata)
        seal.close(temporary, sealed)


def load_state(path: Path, fingerprint: str) -> dict[str, Any] | None:
    """What :func:`save_state` wrote; None, with a line that says why, where it can't be gone on from."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        log.warning("%s can't be read (%s): starting anew.", path, error.strerror)
        return None
    try:
        if not seal.is_whole(content):
            raise ValueError("it is not as it was written")
        size = int.from_bytes(content[:8], "little")
        metadata = plain_json.loads(content[8 : 8 + size])["__metadata__"]
        if metadata["fingerprint"] != fingerprint:
            log.warning("%s is of another training (data or settings): starting anew.", path)
            return None
        state: dict[str, Any] = unflatten(plain_json.loads(metadata["state"]), load(content))
    except (SafetensorError, KeyError, TypeError, ValueError):
        log.warning("%s is damaged: starting anew.", path)
        return None
    return state
