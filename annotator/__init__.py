"""Raw recordings of conversations to emotion-labelled transcripts.

    from annotator import RunSettings, run

    if __name__ == "__main__":        # recordings are worked on in processes of their own
        result = run([Path("videos")], Path("labels.parquet"), RunSettings())
        result.table                  # a polars DataFrame, one row per utterance

The command ``annotate`` does the same; see the README.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from annotator.records import AnnotateError, RecordingError, SetupError, UsageError

if TYPE_CHECKING:
    __version__: str
    from annotator.pipeline import RunResult, run
    from annotator.settings import RunSettings

__all__ = [
    "AnnotateError",
    "RecordingError",
    "RunResult",
    "RunSettings",
    "SetupError",
    "UsageError",
    "__version__",
    "run",
]

_LAZY = {
    "RunResult": "annotator.pipeline",
    "RunSettings": "annotator.settings",
    "run": "annotator.pipeline",
}


def __getattr__(name: str) -> Any:
    # Heavy libraries load when they are first needed, so that `annotate --help` answers at once.
    if name == "__version__":
        from importlib.metadata import version

        return version("conversation-annotator")
    if name in _LAZY:
        check_own_packages("model")
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'annotator' has no attribute {name!r}")


def check_own_packages(*names: str) -> None:
    """Raises: SetupError when another top-level package or module of that name hides ours."""
    for name in names:
        ours = Path(__file__).resolve().parent.parent / name / "__init__.py"
        spec = importlib.util.find_spec(name)
        found = Path(spec.origin).resolve() if spec and spec.origin else None
        if found != ours:
            raise SetupError(
                f"The package {name!r} that Python finds is {found}, which hides ours ({ours}). "
                "Run from another folder, or take that one off PYTHONPATH."
            )
