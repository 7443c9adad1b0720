"""Raw recordings of conversations to emotion-labelled transcripts.

    from annotator import RunSettings, read_table, run, write_report

    if __name__ == "__main__":        # recordings are worked on in processes of their own
        result = run("videos", "labels.parquet", RunSettings(max_speakers=6))
        result.table                  # a polars DataFrame, one row per utterance

    table, facts = read_table("labels.parquet")
    write_report("labels.parquet", "labels.html")

A notebook or an interactive session needs no ``__main__``. The command ``annotate`` does the same; see
docs/python.md.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from annotator.records import AnnotateError, RecordingError, SetupError, UsageError

if TYPE_CHECKING:
    __version__: str
    from annotator.pipeline import Progress, RunResult, run
    from annotator.read import read_table
    from annotator.report import write_report
    from annotator.settings import RunSettings

__all__ = [
    "AnnotateError",
    "Progress",
    "RecordingError",
    "RunResult",
    "RunSettings",
    "SetupError",
    "UsageError",
    "__version__",
    "read_table",
    "run",
    "write_report",
]

_LAZY = {
    "Progress": "annotator.pipeline",
    "RunResult": "annotator.pipeline",
    "RunSettings": "annotator.settings",
    "read_table": "annotator.read",
    "run": "annotator.pipeline",
    "write_report": "annotator.report",
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
