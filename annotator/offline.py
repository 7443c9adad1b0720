"""Whether anything may be asked of a network. Decided here alone, for this process and all that it starts."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from annotator.records import SetupError

OURS = "ANNOTATE_OFFLINE"
# Those that the libraries of the model hub read, when they are first imported.
THEIRS = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
_TRUE = frozenset({"1", "on", "true", "yes"})


def enforce() -> None:
    """From now on nothing is fetched, by nobody in this process and in those that it starts."""
    for name in (OURS, *THEIRS):
        os.environ[name] = "1"
    hub = sys.modules.get("huggingface_hub.constants")
    if hub is not None:  # it has read the variable already
        hub.HF_HUB_OFFLINE = True  # type: ignore[attr-defined]


@contextmanager
def when(asked: bool) -> Iterator[None]:
    """While the body runs, as :func:`enforce` has it; nothing where it is not asked for."""
    before = {name: os.environ.get(name) for name in (OURS, *THEIRS)}
    hub = sys.modules.get("huggingface_hub.constants")
    hubs = getattr(hub, "HF_HUB_OFFLINE", None)
    if asked:
        enforce()
    try:
        yield
    finally:
        for name, value in before.items() if asked else ():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        if asked and hub is not None:
            hub.HF_HUB_OFFLINE = hubs  # type: ignore[attr-defined]


def is_on() -> bool:
    """Whether ``--offline`` was given, or the environment forbids it."""
    return any(os.environ.get(name, "").strip().lower() in _TRUE for name in (OURS, *THEIRS))


def forbids_all() -> bool:
    """Whether nothing at all may be asked of a network; the variables of the hub's libraries say that of the
    hub alone.
    """
    return os.environ.get(OURS, "").strip().lower() in _TRUE


def refuse(what: str) -> None:
    """Raises: SetupError where nothing may be fetched."""
    if is_on():
        raise SetupError(
            f"{what} is not on this machine, and nothing is fetched offline: leave out --offline (or unset "
            f"{OURS}, {THEIRS[0]}), or fetch it before."
        )
