"""The commands. No logic here; heavy imports are inside the bodies, so that --help answers at once."""

from __future__ import annotations

import os
import sys

import typer

from annotator import check_own_model

# Imported in the order of the help, which is that of the alphabet.
from annotator.cli import tables, training, upkeep  # noqa: F401
from annotator.cli.base import app
from annotator.records import AnnotateError

__all__ = ["app", "main"]


def main() -> None:
    """Entry point: runs a command and turns every known fault into a sentence and an exit code."""
    # Nothing here may phone home, and no library may print bars of its own among ours.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("PYANNOTE_METRICS_ENABLED", "0")
    try:
        check_own_model()
        app()
    except AnnotateError as error:
        typer.echo(f"annotate: {error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        typer.echo("annotate: stopped; the same command goes on from what is finished.", err=True)
        sys.exit(130)
