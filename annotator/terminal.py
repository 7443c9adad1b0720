"""What may stand on a terminal and in a log: names and messages quote what strangers wrote."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from pathlib import Path

from annotator.records import UsageError


def counted(number: int, singular: str, plural: str | None = None) -> str:
    """A number of things in words of the right number.

    >>> counted(1, "recording"), counted(2, "recording"), counted(0, "person", "people")
    ('1 recording', '2 recordings', '0 people')
    """
    return f"{number} {singular if number == 1 else plural or singular + 's'}"


def escaped(text: str, keep: str = "") -> str:
    """``text`` with control characters and lone surrogates shown as escapes.

    Args:
        keep: characters that stay as they are, such as line breaks of our own.
    """
    return "".join(
        letter if letter.isprintable() or letter in keep else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )


def set_up_logging(
    quiet: bool = False, verbose: bool = False, log_file: Path | None = None, log_json: bool = False
) -> None:
    """Log to standard error, above a progress bar where one is shown, and to a file if one is given.

    Args:
        quiet: warnings only, on standard error; the file has what it would have without.
        log_file: appended to, so that a run that is continued has one log.
        log_json: lines are JSON objects: ``time`` (UTC, ISO 8601), ``level``, ``message``.

    Raises: UsageError when the file can't be written.
    """
    level = logging.DEBUG if verbose else logging.INFO
    shown = AboveTheBar()
    shown.setLevel(logging.WARNING if quiet else level)
    shown.setFormatter(JsonLine() if log_json else Plain("%(message)s"))
    handlers: list[logging.Handler] = [shown]
    if log_file is not None:
        try:
            kept = logging.FileHandler(log_file, encoding="utf-8")
        except OSError as error:
            raise UsageError(
                f"The log file {log_file} can't be written ({error.strerror}): name another place."
            ) from error
        kept.setLevel(level)
        kept.setFormatter(JsonLine() if log_json else Plain("%(asctime)s %(levelname)s %(message)s"))
        handlers.append(kept)
    logger = logging.getLogger("annotator")
    for handler in logger.handlers:
        handler.close()
    logger.handlers[:] = handlers
    logger.setLevel(level)
    logger.propagate = False


class AboveTheBar(logging.Handler):
    """Lines on standard error; a progress bar that is there moves down."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        try:
            tqdm.write(self.format(record), file=sys.stderr)
        except Exception:
            self.handleError(record)


class Plain(logging.Formatter):
    """Log lines without anything that a terminal would take for a command."""

    def format(self, record: logging.LogRecord) -> str:
        return escaped(super().format(record), keep="\n\t")


class JsonLine(logging.Formatter):
    """A log line as a JSON object, in ASCII."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        return json.dumps({"time": time, "level": record.levelname.lower(), "message": record.getMessage()})
