"""Commands about the installation itself."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from annotator.cli.base import app, say, set_up_logging


@app.command()
def download(
    parts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PART...]", help="yunet, whisper or pyannote. [default: all that can be had]"
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(help="For which device: cpu takes a smaller one than cuda.")
    ] = "auto",
) -> None:
    """Fetch pretrained parts once, so that later runs work with --offline."""
    from annotator import download as fetching

    set_up_logging(quiet=False, verbose=False)
    for line in fetching.download(parts or [], device):
        say(line)


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="For programs: one JSON object.")] = False,
) -> None:
    """Try out what a run needs, show what each stage would use, and name what would improve it most.

    Imports, folders, GPU, and four seconds of speech through a whole run; nothing is fetched.
    Exit code 1 where a run would not work.
    """
    from annotator import doctor as examination

    found = examination.examine()
    say(json.dumps(found.as_json(), indent=2) if as_json else found.text())
    if not found.works:
        raise typer.Exit(1)
