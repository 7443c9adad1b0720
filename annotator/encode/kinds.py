"""Which encoders there are beside ours: those that installed packages bring.

A package names its encoders in entry points of the group ``annotator.encoders``, each an
:class:`EncoderKind`.
So every process of a run has them, and a checkpoint from a stranger can name no code that nobody installed.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from annotator.records import MODALITIES, AnnotateError, SetupError

if TYPE_CHECKING:
    from annotator.encode import Encoder

GROUP = "annotator.encoders"

Spec = Mapping[str, Any]


@dataclass(frozen=True)
class EncoderKind:
    """A sort of encoder that a spec may name.

    Args:
        modality: one of MODALITIES.
        make: from a spec, the folder that the files named in it lie in, and a device as torch names it.
        keys: what a spec may hold beside ``name``.
    """

    modality: str
    make: Callable[[Spec, Path | None, str], Encoder]
    keys: tuple[str, ...] = ()


def installed() -> dict[str, importlib.metadata.EntryPoint]:
    """The entry points of encoders that installed packages bring, by name; nothing is imported."""
    return {entry.name: entry for entry in importlib.metadata.entry_points(group=GROUP)}


def load(entry: importlib.metadata.EntryPoint) -> EncoderKind:
    """The kind that an entry point names.

    Raises: SetupError when it can't be imported, or is none.
    """
    try:
        kind = entry.load()
    except Exception as error:  # the code of others may fail in any way
        raise SetupError(
            f"The encoder {entry.name!r} of {_package(entry)} can't be loaded ({error}): mend it, or "
            "uninstall the package."
        ) from error
    if not isinstance(kind, EncoderKind) or kind.modality not in MODALITIES:
        raise SetupError(
            f"The encoder {entry.name!r} of {_package(entry)} is no annotator.encode.EncoderKind for "
            f"{', '.join(MODALITIES)}: mend it, or uninstall the package."
        )
    return kind


@contextmanager
def blamed_on_package(name: str) -> Iterator[None]:
    """Errors of an installed encoder's own code, while it is made, as one sentence that names its package.

    Raises: SetupError; an AnnotateError as it is.
    """
    try:
        yield
    except AnnotateError:
        raise
    except Exception as error:  # the code of others may fail in any way
        raise SetupError(
            f"The encoder {name!r} of {_package(installed()[name])} can't be set up "
            f"({type(error).__name__}: {error}): mend it, or uninstall the package."
        ) from error


def version(entry: importlib.metadata.EntryPoint) -> str:
    """Name and version of the package that brings an encoder."""
    return f"{_package(entry)} {entry.dist.version if entry.dist else ''}".strip()


def _package(entry: importlib.metadata.EntryPoint) -> str:
    return entry.dist.name if entry.dist else entry.value
