"""A table as a page to look at: who sounds how and when, in one file that needs nothing else.

The page loads nothing and sends nothing. Its content security policy admits its own style and
script by their hashes and nothing besides, so a hostile transcript can't run or fetch anything.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
from dataclasses import replace
from importlib import resources
from pathlib import Path

import polars as pl
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from annotator.read import SENTIMENTS, checked, labels_of, read_table
from annotator.records import SetupError, UsageError
from annotator.report import content

__all__ = ["render", "write_report"]


def write_report(table_file: Path, out: Path) -> None:
    """Read a Parquet or CSV table and write its page to ``out``, whole or not at all.

    Raises: UsageError when the file is not a table of `annotate run` or ``out`` is no place for a page;
    SetupError when the page can't be written.
    """
    if out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{out} is no name for a page: let it end with .html.")
    if out.is_dir():
        raise UsageError(f"{out} is a folder: give the name of the .html file to write.")
    table, facts = read_table(table_file)
    # A name on disk need not be text; the page is.
    title = table_file.name.encode("utf-8", "replace").decode("utf-8")
    page = render(table, title, facts)
    temporary = out.with_name(f".report.{secrets.token_hex(8)}.tmp")  # a name that nobody can foretell
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "x", encoding="utf-8", newline="\n") as file:
                file.write(page)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, out)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise SetupError(
            f"{out} can't be written: {error.strerror or error}. Free some space or choose another place."
        ) from error


def render(table: pl.DataFrame, title: str, facts: dict[str, str]) -> str:
    """The page of a table, as HTML.

    Args:
        table: rows as `annotate run` writes them, (n, columns), n may be 0.
        title: what the page is called, usually the table's file name.
        facts: what else to say of the run: a name and a text or JSON object each.

    Raises: UsageError when the table lacks columns or holds what such a table never holds.
    """
    table = checked(table, title)
    labels = labels_of(table.columns)
    whole, recordings, number = content.count(table, labels)
    shown = content.utterances(table, recordings, labels)
    full = [
        replace(recording, shown=len(data["rows"]))
        for recording, data in zip(recordings, shown, strict=False)
    ]
    styles = [bar.style for bar in whole.emotion]
    data = {
        "labels": [bar.name for bar in whole.emotion],
        "styles": styles,
        "sentiments": list(SENTIMENTS),
        "recordings": shown,
    }
    files = resources.files("annotator.report")
    css, script = ((files / name).read_text("utf-8") for name in ("page.css", "page.js"))
    environment = Environment(
        loader=PackageLoader("annotator.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["duration"] = content.duration
    models = table["model"].unique(maintain_order=True).to_list()
    return environment.get_template("page.html.j2").render(
        title=content.visible(title, content.NAME_CHARACTERS),
        css=Markup(css),
        script=Markup(script),
        policy=f"default-src 'none'; style-src {hash_source(css)}; script-src {hash_source(script)}; "
        "base-uri 'none'; form-action 'none'",
        data=content.encoded(data),
        whole=whole,
        recordings=number,
        full=full,
        listed=recordings[len(full) :][: content.listed(labels)],
        rest=number - len(full),
        models=[content.visible(model, content.NAME_CHARACTERS) for model in models[:10]],
        more_models=max(0, len(models) - 10),
        facts=content.readable(facts),
        colours_repeat=len(labels) > content.COLOURS,
        megabytes=content.PAGE_BYTES >> 20,
    )


def hash_source(text: str) -> str:
    """The content security policy's name for an inline style or script of exactly this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
