"""Anything as a table or an annotated corpus is read or refused with a sentence; any bytes become text.

As ``test_fuzz.py``, whose settings it shares; `make fuzz` runs both.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from annotator import sidecars
from annotator.encodings import decode
from annotator.records import UsageError
from tests.test_fuzz import JSON, NUMBERS, PIECES, RAW, TEXTS, sought
from train.prepare import sheets, table
from train.prepare.annotated import _cells, _read
from train.prepare.annotated.layout import Names

WORDS = st.sampled_from([*TEXTS, *NUMBERS, "joy", "Ann", "emotion", "NA", "train", "1.0", "a.wav"])
HEADS = st.sampled_from(
    "recording start end speaker label text sentiment split turn dialogue sep=; emotion file".split()
)


def rows(mark: str) -> st.SearchStrategy[bytes]:
    """A table with this separator, mostly with the header's number of cells."""
    row = st.lists(WORDS, min_size=3, max_size=7).map(mark.join)
    head = st.lists(HEADS, min_size=2, max_size=7).map(mark.join)
    encoding = st.sampled_from(["utf-8", "utf-16", "utf-16-le", "cp1252"])
    return st.tuples(head, st.lists(row | PIECES, max_size=8), encoding).map(
        lambda parts: "\n".join([parts[0], *parts[1]]).encode(parts[2], "replace")
    )


TABLES = st.one_of(*(rows(mark) for mark in ",;\t|")) | RAW
ANNOTATIONS = st.lists(
    st.tuples(st.integers(-1, 9), st.integers(0, 9), WORDS).map(
        lambda a: (
            f'<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a{a[0]}" TIME_SLOT_REF1="ts{a[0]}" '
            f'TIME_SLOT_REF2="ts{a[1]}"><ANNOTATION_VALUE>{a[2]}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>'
        )
    ),
    max_size=5,
).map("".join)
EAF = st.tuples(ANNOTATIONS, ANNOTATIONS, st.sampled_from(NUMBERS)).map(
    lambda p: (
        "<ANNOTATION_DOCUMENT><HEADER/><TIME_ORDER>"
        + "".join(f'<TIME_SLOT TIME_SLOT_ID="ts{i}" TIME_VALUE="{i * 1000}"/>' for i in range(8))
        + f'<TIME_SLOT TIME_SLOT_ID="ts8" TIME_VALUE="{p[2]}"/><TIME_SLOT TIME_SLOT_ID="ts9"/></TIME_ORDER>'
        + f'<TIER TIER_ID="Ann" LINGUISTIC_TYPE_REF="x">{p[0]}</TIER>'
        + f'<TIER TIER_ID="Ann emotion" LINGUISTIC_TYPE_REF="x" PARENT_REF="Ann">{p[1]}</TIER>'
        + "</ANNOTATION_DOCUMENT>"
    ).encode("utf-8", "replace")
)
GRID = st.lists(PIECES, max_size=30).map(
    lambda parts: ('File type = "ooTextFile"\nObject class = "TextGrid"\n\n0\n9\n<exists>\n1\n'
                   '"IntervalTier"\n"Ann emotion"\n0\n9\n1\n' + "\n".join(parts)).encode("utf-8", "replace")
)  # fmt: skip
CHAT = st.lists(
    st.tuples(st.sampled_from(["*ANN", "%xemo", "@Media", "@Participants", "@Begin", ""]), PIECES, WORDS).map(
        lambda p: f"{p[0]}:\t{p[1]} {p[2]} \x15100_2000\x15"
    ),
    max_size=9,
).map(lambda lines: "\n".join(lines).encode("utf-8", "replace"))
LEAVES = WORDS | st.floats() | st.none() | st.booleans()
RESULTS = st.lists(
    st.fixed_dictionaries(
        {"from_name": st.sampled_from(["emotion", "speaker", "text"]) | LEAVES},
        optional={
            "id": LEAVES,
            "value": st.dictionaries(
                st.sampled_from(["start", "end", "labels", "text", "choices"]),
                st.lists(LEAVES, max_size=2) | LEAVES, max_size=4,
            ),
        },
    )
)  # fmt: skip


def as_tasks(results: list[Any]) -> bytes:
    return json.dumps([{"data": {"audio": "/d/a.wav"}, "annotations": [{"result": results}]}]).encode()


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("eaf", EAF | RAW),
        ("textgrid", GRID | RAW),
        ("chat", CHAT | RAW),
        ("label-studio", RESULTS.map(as_tasks) | JSON | RAW),
    ],
)
def test_any_annotated_file_is_read_or_refused(
    kind: str, content: st.SearchStrategy[bytes], tmp_path: Path
) -> None:
    path = tmp_path / "talk"

    def property_holds(raw: bytes) -> None:
        path.write_bytes(raw)
        try:
            found = _read(path, kind, Names())
        except UsageError as error:
            assert str(error)
            return
        for one in found:
            assert one.recording
            assert one.start is None or (math.isfinite(one.start) and one.end is not None)
        _cells(found)

    sought(property_holds, content)


@pytest.mark.parametrize("ending", [".csv", ".xlsx"])
def test_any_table_is_read_or_refused(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"labels{ending}"

    def property_holds(raw: bytes) -> None:
        path.write_bytes(raw)
        try:
            sheets.read_sheet(path)
            found = table.read(path)
        except UsageError as error:
            assert str(error)
            return
        assert found.table.height and len(found.labels) > 1

    sought(property_holds, TABLES if ending == ".csv" else RAW.map(lambda raw: b"PK\x03\x04" + raw) | RAW)


def test_any_bytes_become_text_and_any_name_is_understood_or_not() -> None:
    def property_holds(raw: bytes) -> None:
        try:
            text, guessed = decode(raw, "ru")
        except UnicodeDecodeError:
            assert raw.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff"))
            return
        text.encode("utf-8", "surrogatepass")
        sidecars.of(text, "talk.mp4")
        sidecars.owners(f"talk{text[:50]}.srt", {"talk": ["talk.mp4"]})

    sought(property_holds, RAW)
