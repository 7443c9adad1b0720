"""A table as a page to look at and to correct in: who sounds how and when, without a server.

The page loads the recordings beside it, and of a large table its own parts; it sends nothing. Its content
security policy admits its own style and script by their hashes and no other, so a hostile transcript can't
run or fetch anything.
"""

from __future__ import annotations

import base64
import hashlib
import os
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import polars as pl
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from annotator import folders
from annotator.files import make_folder, write_text
from annotator.read import checked, labels_of, read_table
from annotator.records import SENTIMENTS, UsageError
from annotator.report import beside, content, patterns, review, rows

__all__ = ["Page", "render", "write_report"]

REVIEWS = {"uncertain": review.uncertain, "random": review.by_chance}
ORDER_NAMES = {"uncertain": "what the model wavers over", "random": "by chance"}  # on the page
PART_RECORDINGS = 50  # of more, or of more bytes of utterances, the page loads its data in parts
PART_BYTES = 4 << 20
# The script of the page, in the order in which its pieces need each other.
SCRIPT = (
    "base",
    "data",
    "words",
    "charts",
    "player",
    "timeline",
    "transcript",
    "correct",
    "file",
    "filters",
    "start",
)


@dataclass(frozen=True)
class Page:
    """A page, and the files of its parts by name: none where all is in the page."""

    html: str
    parts: dict[str, str] = field(default_factory=dict)


def parts_folder(out: Path) -> Path:
    """Where the parts of a page lie."""
    return out.with_name(f"{out.name}.parts")


def write_report(
    table_file: str | Path, out: str | Path, media_base: str | Path | None = None, order: str | None = None
) -> int:
    """Read a Parquet or CSV table and write its page to ``out``, whole or not at all.

    A page of many recordings has a folder of parts beside it, ``NAME.html.parts``.

    Args:
        table_file: what `annotate run` wrote.
        out: the page, ``.html``.
        media_base: the folder that the recordings' names are relative to; by default that of the page.
        order: what to look at first, a key of ``REVIEWS``.

    Returns: how many of the table's recordings the page can play.

    Raises: UsageError when the file is not a table of `annotate run`, ``out`` is no place for a page, or
    there is no such folder or order; SetupError when the page can't be written.
    """
    table_file, out = Path(table_file), Path(out)
    if out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{out} is no name for a page: let it end with .html.")
    if out.is_dir():
        raise UsageError(f"{out} is a folder: give the name of the .html file to write.")
    if order is not None and order not in REVIEWS:
        raise UsageError(f"Unknown order {order!r} to review in: choose {' or '.join(REVIEWS)}.")
    table, facts = read_table(table_file)
    make_folder(out.parent)
    files = table["file"].unique(maintain_order=True).to_list()
    media = beside.addresses(files, out.parent if media_base is None else Path(media_base), out)
    folder = parts_folder(out)
    # A name on disk need not be text; the page is.
    title = table_file.name.encode("utf-8", "replace").decode("utf-8")
    page = render(
        table,
        title,
        facts,
        media=dict(zip(files, media, strict=True)),
        order=order,
        folder=quote(os.fsencode(folder.name)),
    )
    if page.parts:
        folders.claim(folder, "the folder of the page's parts")
    for name, part in page.parts.items():
        write_text(folder / name, part)
    write_text(out, page.html)
    # Those of an earlier page: this one has others, by other names.
    if (folder / folders.MARK).is_file():
        folders.keep_only(folder, page.parts)
    return sum(address is not None for address in media)


def render(
    table: pl.DataFrame,
    title: str,
    facts: dict[str, str],
    *,
    media: dict[str, str | None] | None = None,
    order: str | None = None,
    folder: str = "parts",
) -> Page:
    """The page of a table.

    Args:
        table: rows as `annotate run` writes them, (n, columns), n may be 0.
        title: what the page is called, usually the table's file name.
        facts: what else to say of the run: a name and a text or JSON object each.
        media: file -> its address as seen from the page.
        order: what to look at first, a key of ``REVIEWS``.
        folder: address of the folder that the parts will lie in, as seen from the page.

    Raises: UsageError when the table lacks columns or holds what such a table never holds.
    """
    table = checked(table, title)
    labels = labels_of(table.columns)
    whole, listed = content.count(table, labels)
    sizes = listed["utterances"].to_list()
    parts = rows.in_parts(rows.recordings(table, sizes, labels), PART_RECORDINGS, PART_BYTES)
    inside = len(parts) <= 1
    files = (
        {} if inside else {part_name(number, text): part_page(text) for number, (_, text) in enumerate(parts)}
    )
    starts = [first for first, _ in parts]
    data = {
        "key": fingerprint(table),
        "labels": [bar.name for bar in whole.emotion],
        "names": labels,
        "styles": [bar.style for bar in whole.emotion],
        "sentiments": list(SENTIMENTS),
        "parts": [f"{folder}/{name}" for name in files],
        "starts": starts,
        "recordings": [described(row, (media or {}).get(row["file"])) for row in listed.to_dicts()],
        "review": at_places(REVIEWS[order](table, labels), sizes) if order else None,
        "review_name": ORDER_NAMES[order] if order else None,
    }
    script = Markup('"use strict";\n(() => {{\n{}}})();\n').format(Markup("\n").join(map(piece, SCRIPT)))
    css = text_of("page.css")
    after, shuffles = patterns.follows(table, labels)
    models = table["model"].unique(maintain_order=True).to_list()
    html = template("page.html.j2").render(
        title=content.visible(title, content.NAME_CHARACTERS),
        css=css,
        script=script,
        # `file:` beside 'self', because a page on disk is in some browsers none of its own folder.
        policy=f"default-src 'none'; style-src {hash_source(css)}; script-src {hash_source(script)}; "
        "media-src 'self' file:; frame-src 'self' file:; base-uri 'none'; form-action 'none'",
        data=content.encoded(data),
        bodies=parts[0][1] if inside and parts else "",
        whole=whole,
        recordings=len(listed),
        models=[content.visible(model, content.NAME_CHARACTERS) for model in models[:10]],
        more_models=max(0, len(models) - 10),
        facts=content.readable(facts),
        colours_repeat=len(labels) > content.COLOURS,
        pairs=patterns.modalities(table, labels),
        after={content.visible(who, content.NAME_CHARACTERS): found for who, found in after.items()},
        shuffles=shuffles,
    )
    return Page(html, files)


def described(recording: dict[str, Any], address: str | None) -> dict[str, Any]:
    """A recording as the page lists it; with the name in the table (``path``) where it is shown otherwise."""
    file = recording["file"]
    shown = content.visible(file, content.NAME_CHARACTERS)
    return {
        **recording,
        "file": shown,
        **({"path": file} if shown != file else {}),
        **({"media": address} if address is not None else {}),
    }


def at_places(order: list[int], sizes: list[int]) -> list[list[int]]:
    """Rows of the table as recording and row within it."""
    firsts = np.cumsum([0, *sizes])
    which = np.searchsorted(firsts, order, side="right") - 1
    return [[int(r), int(row - firsts[r])] for r, row in zip(which, order, strict=True)]


def fingerprint(table: pl.DataFrame) -> str:
    """By what a browser knows corrections of this table again: its utterances and labels."""
    known = table.select("file", "start", "end", "speaker", "text", "emotion")
    return hashlib.sha256(known.write_json().encode()).hexdigest()[:16]


def part_name(number: int, text: str) -> str:
    """By content, so that a page never gets a part of another one."""
    return f"part-{number:04}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.html"


def part_page(text: Markup) -> str:
    """A page that hands its data to the page that holds it, and does nothing else."""
    script = text_of("part.js")
    policy = f"default-src 'none'; script-src {hash_source(script)}; base-uri 'none'; form-action 'none'"
    return template("part.html.j2").render(policy=policy, bodies=text, script=script)


def text_of(name: str) -> Markup:
    """A file of this package, which goes into the page as it is."""
    return Markup((resources.files("annotator.report") / name).read_text("utf-8"))


def piece(name: str) -> Markup:
    return text_of(f"script/{name}.js")


def template(name: str) -> Template:
    environment = Environment(
        loader=PackageLoader("annotator.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["duration"] = content.duration
    return environment.get_template(name)


def hash_source(text: str) -> str:
    """The content security policy's name for an inline style or script of exactly this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
