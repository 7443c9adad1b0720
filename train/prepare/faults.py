"""What is wrong with a table, gathered so that all of it is told at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from annotator.records import UsageError


@dataclass
class Faults:
    """Faults of a table's rows, counted from 1 after the header."""

    of: Path
    whole: list[str] = field(default_factory=list)  # of the table, not of single rows
    rows: dict[str, list[int]] = field(default_factory=dict)  # message -> rows from 1

    def add(self, message: str, rows: Sequence[int] = ()) -> None:
        """Note a fault of rows (from 1), or of the table where none is given."""
        if rows:
            self.rows.setdefault(message, []).extend(rows)
        else:
            self.whole.append(message)

    @property
    def faulty(self) -> set[int]:
        """Rows that can't be used."""
        return {row for rows in self.rows.values() for row in rows}

    def raise_if_any(self, remedy: str) -> None:
        """Tell all of it.

        Raises:
            UsageError: there is a fault.
        """
        if not self.whole and not self.rows:
            return
        lines = [*self.whole]
        for message, rows in sorted(self.rows.items(), key=lambda item: min(item[1])):
            lines.append(f"{named(rows)}: {message}")
        count = "a problem" if len(lines) == 1 else f"{len(lines)} problems"
        raise UsageError(
            f"{self.of} has {count} (rows are counted from 1 after the header); nothing was written.\n  "
            + "\n  ".join(lines)
            + f"\n{remedy}"
        )

    def table(self) -> pl.DataFrame:
        """Unusable rows and why, as a file for people has them."""
        rows = sorted((row, message) for message, numbers in self.rows.items() for row in numbers)
        return pl.DataFrame(rows, schema={"row": pl.Int64, "reason": pl.String}, orient="row")


def named(rows: Sequence[int]) -> str:
    """Row numbers for people.

    >>> named([3]), named([4, 1, 2, 9])
    ('row 3', 'rows 1-2, 4, 9')
    >>> named([5, 6, 7, 8])
    'rows 5-8'
    """
    order = sorted(set(rows))
    spans: list[list[int]] = []
    for row in order:
        if spans and row == spans[-1][1] + 1:
            spans[-1][1] = row
        else:
            spans.append([row, row])
    shown = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)
    return f"row {shown}" if len(order) == 1 else f"rows {shown}"
