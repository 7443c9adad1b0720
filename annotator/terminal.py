"""What may stand on a terminal: names and messages quote what strangers wrote."""

from __future__ import annotations

import logging


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


class Plain(logging.Formatter):
    """Log lines without anything that a terminal would take for a command."""

    def format(self, record: logging.LogRecord) -> str:
        return escaped(super().format(record), keep="\n\t")
