"""Commands about the installation itself."""

from __future__ import annotations

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
def doctor() -> None:
    """Show what is installed, what each stage would use, and what is missing and how to get it."""
    from annotator import doctor as examination

    say(examination.report())
