"""The app and what its commands share."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from annotator.terminal import Plain, escaped

app = typer.Typer(
    name="annotate",
    help="Recordings of conversations to emotion-labelled transcripts.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain text: square brackets in the help are ours
)

Out = Annotated[Path, typer.Option("--out", help="The table to write: .parquet or .csv.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Only warnings, no progress.")]
Verbose = Annotated[
    bool, typer.Option("--verbose", help="Every detail, with tracebacks of single recordings.")
]


def say(text: str, *, err: bool = False) -> None:
    """Print a line, without anything that a terminal would take for a command."""
    typer.echo(escaped(text, keep="\n\t"), err=err)


def set_up_logging(quiet: bool, verbose: bool) -> None:
    """Log to standard error."""
    level = logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Plain("%(message)s"))
    logger = logging.getLogger("annotator")
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False


@app.callback(invoke_without_command=True)
def version(
    context: typer.Context,
    show: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if show:
        from annotator import __version__

        say(f"annotate {__version__}")
        raise typer.Exit
