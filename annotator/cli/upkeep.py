"""Commands about the installation itself."""

from __future__ import annotations

import json
from typing import Annotated, get_args

import typer

from annotator.choices import Part
from annotator.cli.base import (
    INSTALLATION,
    Device,
    LogFile,
    LogJson,
    Quiet,
    Verbose,
    command,
    say,
    set_up_logging,
)


@command(
    INSTALLATION,
    "annotate download",
    "annotate download whisper --device cuda",
)
def download(
    parts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PART",
            help="yunet, whisper or pyannote.",
            show_default="all",
            autocompletion=lambda: list(get_args(Part)),
        ),
    ] = None,
    device: Device = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    log_file: LogFile = None,
    log_json: LogJson = False,
) -> None:
    """Download the optional models that improve results. Later runs need no network.

    With --device cpu the Whisper model is smaller than with --device cuda.
    """
    from annotator import download as fetching

    set_up_logging(quiet, verbose, log_file, log_json)
    for line in fetching.download(parts or [], device or "auto", progress=not quiet):
        say(line)


@command(
    INSTALLATION,
    "annotate doctor",
    "annotate doctor --json",
)
def doctor(
    as_json: Annotated[
        bool, typer.Option("--json", metavar="", help="Print one JSON object, for programs.")
    ] = False,
) -> None:
    """Check the installation, show which models a run would use, and what would improve it most.

    It tries imports, folders, the GPU, and four seconds of speech through a whole run. It downloads nothing.
    The exit code is 1 if a run would not work.
    """
    from annotator import doctor as examination

    found = examination.examine()
    say(json.dumps(found.as_json(), indent=2) if as_json else found.text())
    if not found.works:
        raise typer.Exit(1)
