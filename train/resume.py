"""Training state on disk: written whole or not at all, without pickle.

A state is tensors (safetensors) plus plain values (a JSON string in the file's metadata),
so one rename replaces both and a kill between epochs can't mix two of them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from annotator.table import written_whole


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


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` (nested dicts, lists, tensors, JSON values) atomically to ``path``."""
    tensors: dict[str, Tensor] = {}
    plain = flatten(state, "state", tensors)
    with written_whole(path) as temporary:
        save_file(tensors, temporary, metadata={"state": json.dumps(plain)})


def load_state(path: Path) -> dict[str, Any]:
    """Read what :func:`save_state` wrote."""
    with safe_open(path, framework="pt") as file:
        plain = json.loads(file.metadata()["state"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    state: dict[str, Any] = unflatten(plain, tensors)
    return state
