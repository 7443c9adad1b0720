"""The app and what its commands share."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer.core import TyperGroup

from annotator.choices import DEVICE
from annotator.terminal import escaped, set_up_logging

if TYPE_CHECKING:
    from annotator.settings import RunSettings

__all__ = ["app", "command", "say", "set_up_logging", "settings_of_run"]

Body = TypeVar("Body", bound=Callable[..., None])

# Panels of commands, and of options.
RUN, USE, TRAIN, INSTALLATION = "Annotate recordings", "Use a table", "Train models", "Installation"
MACHINE, LOG = "Machine", "Settings and log"

ORDER = (
    *("run", "merge", "report", "export", "agree", "faces"),
    *("prepare", "finetune", "train", "evaluate", "ablation", "share"),
    *("doctor", "download"),
)


class InOrder(TyperGroup):
    """Commands in the order in which they are needed."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=ORDER.index)


app = typer.Typer(
    name="annotate",
    cls=InOrder,
    help="Turn recordings of conversations into transcripts labelled with emotions.",
    epilog="""Examples:

  annotate doctor
  annotate run videos/ --out labels.parquet
  annotate report labels.parquet --out labels.html

`annotate COMMAND --help` shows the options of a command, with examples.""",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _device(value: str | None) -> str | None:
    if value is not None and not re.fullmatch(DEVICE, value):
        raise typer.BadParameter(f"{value!r} is not one of auto, cpu, cuda, cuda:N, mps.")
    return value


CorpusIn = Annotated[Path, typer.Argument(metavar="CORPUS", help="Folder that `annotate prepare` wrote.")]
Out = Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Table to write: .parquet or .csv.")]
Device = Annotated[
    str | None,
    typer.Option(
        metavar="DEVICE",
        help="Where the networks run: auto, cpu, cuda, cuda:N or mps.",
        show_default="auto",
        callback=_device,
        autocompletion=lambda: ["auto", "cpu", "cuda", "mps"],
        rich_help_panel=MACHINE,
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Settings file (TOML); command-line options override it.",
        rich_help_panel=LOG,
    ),
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", metavar="", help="Show warnings only, no progress.", rich_help_panel=LOG),
]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose", "-v", metavar="", help="Log every detail, with tracebacks.", rich_help_panel=LOG
    ),
]
LogFile = Annotated[
    Path | None,
    typer.Option(
        "--log-file",
        metavar="FILE",
        help="Also append the log to this file, with times.",
        rich_help_panel=LOG,
    ),
]
LogJson = Annotated[
    bool,
    typer.Option(
        "--log-json",
        metavar="",
        help="Log JSON, one object per line, to standard error and the log file.",
        rich_help_panel=LOG,
    ),
]


def say(text: str, *, err: bool = False) -> None:
    """Print a line, without anything that a terminal would take for a command."""
    typer.echo(escaped(text, keep="\n\t"), err=err)


def command(panel: str, *examples: str) -> Callable[[Body], Body]:
    """A command of the app in a panel of its help; its docstring is its help, and ends with examples."""

    def register(body: Body) -> Body:
        paragraphs = inspect.cleandoc(body.__doc__ or "").split("\n\n")
        about = "\n\n".join(paragraph.replace("\n", " ") for paragraph in paragraphs)  # Rich keeps line ends
        epilog = "\n".join(["Examples:", "", *(f"  {line}" for line in examples)])
        app.command(help=about, epilog=epilog, rich_help_panel=panel)(body)
        return body

    return register


def settings_of_run(config: Path | None, flags: dict[str, Any]) -> RunSettings:
    """Settings from a file and options, with the network shut off where they say so.

    Raises: UsageError.
    """
    from annotator.settings import load_settings

    settings = load_settings(config, flags)
    if settings.offline:
        from annotator.offline import enforce

        enforce()  # before the hub's libraries are imported
    return settings


@app.callback(invoke_without_command=True)
def version(
    context: typer.Context,
    show: Annotated[bool, typer.Option("--version", metavar="", help="Print the version and exit.")] = False,
) -> None:
    if show:
        from annotator import __version__

        say(f"annotate {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        context.get_help()  # prints it
        raise typer.Exit(2)
