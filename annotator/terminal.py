"""What may stand on a terminal: names and messages quote what strangers wrote."""

from __future__ import annotations

import logging


def escaped(text: str, keep: str = "") -> str:
    """``text`` with control characters and lone surrogates shown as escapes.

    Args:
        keep: characters that stay as they are, such as line breaks of our own.
    """
    return "".join(
        letter if letter.isprintable() or letter in keep else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )


class Plain(logging.Formatter):
    """Log lines without anything that a terminal would take for a command."""

    def format(self, record: logging.LogRecord) -> str:
        return escaped(super().format(record), keep="\n\t")
