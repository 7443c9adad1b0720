"""Published pickles without running them.

Unpickling calls whatever the file names. Here a file may name a handful of stand-ins only:
numbers, strings and plain containers pass, arrays are rebuilt by us from their bytes, and numpy's own
unpickling, which trusts the file's description of memory, is never reached.
"""

from __future__ import annotations

import collections
import io
import pickle
import pickletools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from annotator.records import UsageError

DEEPEST = 50  # containers in each other
SIMPLE_DTYPE = re.compile(r"[<>|=]?(?:[biuf][1248]|b1|f16|[SU]\d{1,6}|O8?|\?)")


class _Refused(Exception):
    """The file names something that isn't admitted."""


class _Dtype:
    """Stand-in for ``numpy.dtype``: a kind and size, later the byte order."""

    def __init__(self, name: object, *_: object) -> None:
        if not isinstance(name, str) or not SIMPLE_DTYPE.fullmatch(name):
            raise _Refused(f"an array of the kind {name!r}")
        self.name, self.order = name.lstrip("<>|="), "<" if name[0] not in ">|=" else name[0]

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] in ("<", ">", "|", "="):
            self.order = state[1]

    @property
    def is_object(self) -> bool:
        return self.name.startswith("O")

    def real(self) -> np.dtype[Any]:
        return np.dtype(self.order + self.name)


class _Array:
    """Stand-in for ``numpy.ndarray``: what the file says of it, made real by ``_resolve``."""

    shape: tuple[int, ...] = (0,)
    dtype: _Dtype
    content: Any = b""
    fortran = False

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, self.shape, self.dtype, self.fortran, self.content = state

    def real(self) -> Any:
        if self.dtype.is_object:
            return [_resolve(item) for item in self.content]
        array = np.frombuffer(_raw(self.content), self.dtype.real())
        return array.reshape(self.shape, order="F" if self.fortran else "C")


def _raw(content: Any) -> bytes:
    # Python 2 wrote bytes as its string type, which arrives decoded as Latin-1.
    return content.encode("latin1") if isinstance(content, str) else bytes(content)


def _array(*_: object) -> _Array:
    return _Array()


def _array_of_buffer(content: Any, dtype: _Dtype, shape: tuple[int, ...], order: str) -> _Array:
    array = _Array()
    array.__setstate__((1, shape, dtype, order == "F", content))
    return array


def _scalar(dtype: _Dtype, content: Any = b"") -> Any:
    if dtype.is_object:
        raise _Refused("a numpy scalar that holds an object")
    return np.frombuffer(_raw(content), dtype.real())[0]


def _encode(text: str, encoding: str = "latin1") -> bytes:
    return text.encode("latin1" if encoding == "latin1" else "utf-8")


def _bytes_of(content: Any = b"", *more: Any) -> bytearray:
    # A number would mean so many zeros.
    if not isinstance(content, (bytes, str)):
        raise _Refused("an array of bytes without its content")
    return bytearray(content, *more) if isinstance(content, str) else bytearray(content)


ADMITTED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("builtins", "list"): list,
    ("builtins", "dict"): dict,
    ("builtins", "tuple"): tuple,
    ("builtins", "bytearray"): _bytes_of,
    ("collections", "OrderedDict"): collections.OrderedDict,
}
for _core in ("numpy.core", "numpy._core"):
    ADMITTED[(f"{_core}.multiarray", "_reconstruct")] = _array
    ADMITTED[(f"{_core}.multiarray", "scalar")] = _scalar
    ADMITTED[(f"{_core}.numeric", "_frombuffer")] = _array_of_buffer


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        module = {"__builtin__": "builtins"}.get(module, module)
        if (module, name) not in ADMITTED:
            raise _Refused(f"{module}.{name}")
        return ADMITTED[(module, name)]


def _resolve(tree: Any, resolved_by_id: dict[int, Any] | None = None, depth: int = 0) -> Any:
    """Replace the stand-ins in a tree of containers by arrays.

    What is in several places is made once: lists of lists can have more places than memory has bytes.
    """
    resolved_by_id = {} if resolved_by_id is None else resolved_by_id
    if not isinstance(tree, (_Array, dict, list, tuple)):
        return tree
    if id(tree) in resolved_by_id:
        return resolved_by_id[id(tree)]
    if depth > DEEPEST:
        raise _Refused(f"containers nested more than {DEEPEST} deep")
    if isinstance(tree, _Array):
        resolved = tree.real()
    elif isinstance(tree, dict):
        resolved = {
            _resolve(key, resolved_by_id, depth + 1): _resolve(value, resolved_by_id, depth + 1)
            for key, value in tree.items()
        }
    else:
        resolved = type(tree)(_resolve(item, resolved_by_id, depth + 1) for item in tree)
    resolved_by_id[id(tree)] = resolved
    return resolved


def _check_marks(content: bytes) -> None:
    """Places that a pickle remembers things at are few more than its steps: it would be given all of them."""
    steps = 0
    for step, place, _ in pickletools.genops(content):
        steps += 1
        if step.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(place or 0) > steps:
            raise _Refused("a place that is far from all others")


def load_pickle(path: Path) -> Any:
    """Numbers, strings, containers and numpy arrays of a pickle of any protocol (Python 2's as Latin-1).

    Object arrays come back as lists.

    Raises:
        UsageError: the file is missing or damaged, or names anything else, which is not run.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{path} can't be read: {error.strerror}. Give the folder or file that holds it."
        ) from error
    try:
        _check_marks(content)
        return _resolve(_Unpickler(io.BytesIO(content), encoding="latin1").load())
    except _Refused as error:
        raise UsageError(
            f"{path} is refused: it holds {error}, and a pickle can run any code it names. Only numbers, "
            "text, lists, dicts and numpy arrays are read; nothing was run. Get the file from its publisher."
        ) from error
    except (
        pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError,
        MemoryError, OverflowError, RecursionError,
    ) as error:  # fmt: skip
        raise UsageError(
            f"{path} is no whole pickle ({type(error).__name__}: {error}). Fetch it again."
        ) from error
