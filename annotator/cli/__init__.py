"""The commands. No logic here; heavy imports are inside the bodies, so that --help answers at once."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from annotator import check_own_packages
from annotator.cli import corpora, tables, training, upkeep  # noqa: F401 - their commands
from annotator.cli.base import app, say
from annotator.records import AnnotateError, SetupError

__all__ = ["app", "main"]

INTERRUPTED = 130


@contextmanager
def own_temporary_folder() -> Iterator[None]:
    """A folder in ``$TMPDIR`` for the temporary files of this process and its workers; it goes at the end.

    Libraries leave files there, and nobody else can have put any under names that are known beforehand.

    Raises: SetupError when there is no such folder to write to.
    """
    try:
        folder = tempfile.mkdtemp(prefix="annotate-")
    except OSError as error:
        raise SetupError(
            f"There is no folder for temporary files ({error.strerror}): set TMPDIR to one to write to."
        ) from error
    changed = {"TMPDIR": folder, "TORCHINDUCTOR_CACHE_DIR": os.path.join(folder, "torchinductor")}
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    tempfile.tempdir = folder
    try:
        yield
    finally:
        tempfile.tempdir = None
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Entry point: runs a command and turns every known fault into a sentence and an exit code."""
    atexit.register(gc.freeze)  # else Python looks once more through all that PyTorch has made: a second
    # Nothing here may phone home, and no library may print bars of its own among ours.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("PYANNOTE_METRICS_ENABLED", "0")
    os.environ["PYTHONSAFEPATH"] = "1"  # nor may a worker take a file of the current folder for a module
    try:
        check_own_packages("model", "train")
        with own_temporary_folder():
            code = app(prog_name="annotate", standalone_mode=False)
    except AnnotateError as error:
        say(f"annotate: {error}", err=True)
        sys.exit(error.exit_code)
    except typer.TyperException as error:  # an option or a value that is none
        say(f"annotate: {error.format_message()}", err=True)
        command = getattr(getattr(error, "ctx", None), "command_path", "annotate")
        say(f"`{command} --help` lists the options.", err=True)
        sys.exit(error.exit_code)
    if code == INTERRUPTED:  # no command ends with it by itself: Typer does, for a Ctrl-C
        say("annotate: stopped. The same command goes on from what is finished.", err=True)
    sys.exit(code)
