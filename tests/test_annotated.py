"""Corpora from annotation programs: ELAN, Praat, CHAT and Label Studio, and our own exports of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pympi
import pytest
from praatio import textgrid

from annotator.export import export
from annotator.records import UsageError
from annotator.table import write_table
from tests.tables import table_of, utterance
from train.prepare import SOURCES, prepare
from train.prepare.annotated import _read
from train.prepare.annotated.layout import AnnotatedUtterance, Names, Stretch, joined
from train.prepare.source import Source

from .media import talk

ROWS = [
    {"start": 0.5, "end": 3.0, "speaker": "Ann Lee", "text": "So good to see you!", "emotion": "joy"},
    {"start": 3.5, "end": 5.0, "speaker": "Ben", "text": "Größe & <b>?", "emotion": "anger"},
    {"start": 4.5, "end": 7.0, "speaker": "Ann Lee", "text": None, "emotion": "joy"},
    {"start": 8.0, "end": 10.0, "speaker": "Ben", "text": "No. Never.", "emotion": "anger"},
]


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    first = talk(folder / "rec0.wav", 12)
    for number in range(1, 6):
        shutil.copyfile(first, folder / f"rec{number}.wav")
    return folder


def labelled(folder: Path) -> Path:
    """A table of six recordings with the same four utterances of other people."""
    rows = [
        utterance(**{**row, "file": f"rec{n}.wav", "speaker": f"{row['speaker']} {n}"})
        for n in range(6)
        for row in ROWS
    ]
    write_table(table_of(*rows), folder / "labels.parquet", {})
    return folder / "labels.parquet"


def corpus(source: str, path: Path, media: Path | None, **options: Any) -> pl.DataFrame:
    found: Source = SOURCES[source](path, media=media, **options)
    return found.table.sort("recording", "start")


@pytest.mark.parametrize("kind", ["eaf", "textgrid", "chat"])
def test_exports_come_back_as_a_corpus(tmp_path: Path, media: Path, kind: str) -> None:
    export(labelled(tmp_path), kind, tmp_path / "out")
    found = corpus(kind, tmp_path / "out", media)
    assert found.height == 24 and found["recording"].unique().sort().to_list() == [
        f"rec{n}.wav" for n in range(6)
    ]
    first = found.filter(recording="rec0.wav")
    assert first["emotion"].to_list() == ["joy", "anger", "joy", "anger"]
    assert first["start"].to_list() == [0.5, 3.5, 4.5, 8.0] and first["end"].to_list() == [
        3.0,
        5.0,
        7.0,
        10.0,
    ]
    spaces = [name.replace("_", " ") for name in first["speaker"]]
    assert spaces == ["Ann Lee 0", "Ben 0", "Ann Lee 0", "Ben 0"]
    plain = {"chat": ["So good to see you!", "Größe b?", None, "No, Never."]}
    assert first["text"].to_list() == plain.get(kind, [row["text"] for row in ROWS])


def test_an_export_to_meld_goes_through_prepare_again(tmp_path: Path, media: Path) -> None:
    export(labelled(tmp_path), "meld-csv", tmp_path / "out")
    for path, beside in ((tmp_path / "out", media), (tmp_path / "out" / "meld.csv", None)):
        found = corpus("meld", path, beside)
        assert found["emotion"].to_list() == ["joy", "anger", "joy", "anger"] * 6
        assert found["text"].to_list()[:4] == [row["text"] for row in ROWS]
        assert set(found["split"]) == {"train", "validation", "test"}
    assert prepare("meld", tmp_path / "out", tmp_path / "corpus").table.height == 24


def test_elan_and_praat_read_what_is_written(tmp_path: Path) -> None:
    rows = [
        {"start": 0.5, "end": 3.0, "text": "one /> two"},
        {"start": 2.0, "end": 4.0, "text": "two"},  # begins within the first
        {"start": 2.5, "end": 3.5, "text": "lost"},  # lies within both
        {"start": 5.0, "end": 6.0, "speaker": "Ben", "text": "three"},
    ]
    write_table(table_of(*(utterance(**row) for row in rows)), tmp_path / "t.parquet", {})
    export(tmp_path / "t.parquet", "eaf", tmp_path / "eaf")
    export(tmp_path / "t.parquet", "textgrid", tmp_path / "grid")
    text = (tmp_path / "eaf" / "talk.eaf").read_text("utf-8")
    assert 'xsi:noNamespaceSchemaLocation="http://www.mpi.nl/tools/elan/EAFv3.0.xsd"' in text
    assert 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"' in text
    assert " />" not in text and 'TIME_VALUE="500"/>' in text and "one /&gt; two" in text
    document = pympi.Elan.Eaf(str(tmp_path / "eaf" / "talk.eaf"))
    said = [(a, b, value) for a, b, value in document.get_annotation_data_for_tier("SPEAKER_00")]
    assert sorted(said) == [(500, 3000, "one /> two"), (3000, 4000, "two")]
    assert [v for _, _, v, *_ in document.get_annotation_data_for_tier("Ben emotion")] == ["joy"]
    times = list(document.timeslots.values())
    assert times == sorted(times)
    grid = textgrid.openTextgrid(str(tmp_path / "grid" / "talk.TextGrid"), False, reportingMode="error")
    assert [tuple(e) for e in grid.getTier("SPEAKER_00 text").entries] == [
        (0.5, 3.0, "one /> two"), (3.0, 4.0, "two"),
    ]  # fmt: skip


def test_the_table_that_r_could_not_read(shared: Path, tmp_path: Path) -> None:
    found = export(shared / "cases" / "21-eaf-for-R" / "in" / "t.parquet", "eaf", tmp_path / "out")
    for path in found:
        document = pympi.Elan.Eaf(str(path))
        for tier in document.get_tier_names():
            spans = sorted((a, b) for a, b, *_ in document.get_annotation_data_for_tier(tier))
            assert all(one[1] <= two[0] for one, two in zip(spans, spans[1:], strict=False)), tier


# --- others' files ---


def said(folder: Path, kind: str, content: str | bytes, **told: str) -> list[AnnotatedUtterance]:
    path = folder / f"talk.{kind}"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return _read(path, kind, Names(told))


def eaf(tiers: str, slots: str, head: str = "") -> str:
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>{head}'
        '<ANNOTATION_DOCUMENT AUTHOR="" DATE="2020" FORMAT="2.8">'
        '<HEADER MEDIA_FILE="" TIME_UNITS="milliseconds"><MEDIA_DESCRIPTOR '
        'MEDIA_URL="file:///C:/My%20films/The%20talk.mp4" MIME_TYPE="video/mp4"/></HEADER>'
        f"<TIME_ORDER>{slots}</TIME_ORDER>{tiers}"
        '<LINGUISTIC_TYPE LINGUISTIC_TYPE_ID="default-lt" TIME_ALIGNABLE="true"/>'
        '<LINGUISTIC_TYPE LINGUISTIC_TYPE_ID="Emotion" TIME_ALIGNABLE="true"/></ANNOTATION_DOCUMENT>'
    )


def aligned(number: int, first: int, last: int, value: str) -> str:
    return (
        f'<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a{number}" TIME_SLOT_REF1="ts{first}" '
        f'TIME_SLOT_REF2="ts{last}"><ANNOTATION_VALUE>{value}</ANNOTATION_VALUE>'
        "</ALIGNABLE_ANNOTATION></ANNOTATION>"
    )


SLOTS = "".join(f'<TIME_SLOT TIME_SLOT_ID="ts{i}" TIME_VALUE="{1000 * i}"/>' for i in (1, 2, 3, 4, 6))


def test_tiers_of_labels_that_stand_alone_go_with_the_words_below_them(tmp_path: Path) -> None:
    tiers = (
        f'<TIER LINGUISTIC_TYPE_REF="default-lt" TIER_ID="Ann">{aligned(1, 1, 2, "Hi")}'
        f"{aligned(2, 3, 4, 'No')}</TIER>"
        f'<TIER LINGUISTIC_TYPE_REF="default-lt" TIER_ID="Ann_emotion">{aligned(3, 1, 2, "joy")}</TIER>'
        f'<TIER LINGUISTIC_TYPE_REF="default-lt" TIER_ID="B" PARTICIPANT="Ben">'
        f"{aligned(4, 4, 6, 'Oh')}</TIER>"
        f'<TIER LINGUISTIC_TYPE_REF="Emotion" PARENT_REF="B" TIER_ID="B-e">{aligned(5, 4, 6, "fear")}</TIER>'
    )
    assert said(tmp_path, "eaf", eaf(tiers, SLOTS)) == [
        AnnotatedUtterance("The talk.mp4", 1.0, 2.0, "Ann", "joy", "Hi"),
        AnnotatedUtterance("The talk.mp4", 3.0, 4.0, "Ann", None, "No"),
        AnnotatedUtterance("The talk.mp4", 4.0, 6.0, "Ben", "fear", "Oh"),
    ]


def test_a_tier_is_named_where_its_name_does_not_say(tmp_path: Path) -> None:
    tiers = (
        f'<TIER LINGUISTIC_TYPE_REF="default-lt" TIER_ID="Ann">{aligned(1, 1, 2, "Hi")}</TIER>'
        f'<TIER LINGUISTIC_TYPE_REF="default-lt" TIER_ID="Gefühl@Ann">{aligned(2, 1, 2, "froh")}</TIER>'
    )
    assert not any(one.label for one in said(tmp_path, "eaf", eaf(tiers, SLOTS)))
    assert said(tmp_path, "eaf", eaf(tiers, SLOTS), label="Gefühl") == [
        AnnotatedUtterance("The talk.mp4", 1.0, 2.0, "Ann", "froh", "Hi")
    ]
    with pytest.raises(UsageError, match="labels nothing: looked for label, emotion.*--column label=NAME"):
        SOURCES["eaf"](tmp_path)
    with pytest.raises(UsageError, match="A column can't mean 'mood'"):
        SOURCES["eaf"](tmp_path, columns={"mood": "Gefühl"})


def test_slots_without_a_time_lie_between_their_neighbours(tmp_path: Path) -> None:
    slots = (
        '<TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="1000"/><TIME_SLOT TIME_SLOT_ID="ts2"/>'
        '<TIME_SLOT TIME_SLOT_ID="ts3" TIME_VALUE="3000"/>'
    )
    tiers = (
        f'<TIER LINGUISTIC_TYPE_REF="default-lt" TIER_ID="emotion">{aligned(1, 1, 2, "joy")}'
        f"{aligned(2, 2, 3, 'fear')}</TIER>"
    )
    found = said(tmp_path, "eaf", eaf(tiers, slots))
    assert [(one.start, one.end, one.label, one.speaker) for one in found] == [
        (1.0, 2.0, "joy", None), (2.0, 3.0, "fear", None),
    ]  # fmt: skip


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_xml_that_could_hold_a_bomb_is_refused(tmp_path: Path, encoding: str) -> None:
    bomb = (
        '<!DOCTYPE x [<!ENTITY a "aaaaaaaa"><!ENTITY b "&a;&a;&a;"><!ENTITY f SYSTEM "file:///etc/passwd">]>'
    )
    content = eaf("", SLOTS, bomb).replace("UTF-8", encoding).encode(encoding)
    with pytest.raises(UsageError, match="declares a document type"):
        said(tmp_path, "eaf", content)


GRID = """File type = "ooTextFile"
Object class = "TextGrid"

0
10
<exists>
3
"IntervalTier"
"Ann - words"
0
10
2
0
4
"Hello there"
4
10
""
"IntervalTier"
"Ann - emotion"
0
10
2
0
4
"joy"
4
10
""
"TextTier"
"points"
0
10
1
5
"click"
"""


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_short_textgrid_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    assert said(tmp_path, "textgrid", GRID.encode(encoding)) == [
        AnnotatedUtterance("talk", 0.0, 4.0, "Ann", "joy", "Hello there")
    ]


def test_labels_for_all_go_to_who_speaks(tmp_path: Path) -> None:
    grid = GRID.replace("Ann - emotion", "emotion").replace("Ann - words", "Ann")
    assert said(tmp_path, "textgrid", grid) == [
        AnnotatedUtterance("talk", 0.0, 4.0, "Ann", "joy", "Hello there")
    ]


CHAT = """@UTF8
@Begin
@Languages:\teng
@Participants:\tCHI Ruth Target_Child, MOT Mother
@Media:\tsession 1, audio
*CHI:\t<I want> [/] I want (be)cause &um xxx the doggie@c [= dog] (.) now !
\tplease . \x151000_2500\x15
%xemo:\tangry
%com:\tloud
*MOT:\tno +... \x153000_4000\x15
*MOT:\twithout a time .
%xemo:\tlost
@End
"""


def test_chat_as_clan_has_it(tmp_path: Path) -> None:
    assert said(tmp_path, "chat", CHAT) == [
        AnnotatedUtterance(
            "session 1", 1.0, 2.5, "Ruth", "angry", "I want I want because the doggie now! please."
        ),
        AnnotatedUtterance("session 1", 3.0, 4.0, "MOT", None, "no"),
    ]


def region(
    name: str, kind: str, value: object, start: float | None = 1.0, end: float = 2.0, key: str = "r1"
) -> Any:
    times = {} if start is None else {"start": start, "end": end}
    return {"id": key, "from_name": name, "to_name": "audio", "type": kind, "value": {**times, kind: value}}


def task(results: list[Any], **more: Any) -> dict[str, Any]:
    given = {"id": 1, "result": results, "was_cancelled": False}
    return {"data": {"audio": "/data/upload/3/1a2b3c4d-My%20talk.wav"}, "annotations": [given], **more}


def test_label_studio_regions_with_their_fields(tmp_path: Path) -> None:
    results = [
        region("emotion", "labels", ["Happy"]), region("transcription", "text", ["Hello"]),
        region("speaker", "choices", ["Ann"]), region("emotion", "labels", ["Sad"], 3.0, 4.5, "r2"),
    ]  # fmt: skip
    cancelled = {"was_cancelled": True, "result": [region("emotion", "labels", ["Wrong"])]}
    one = task(results)
    one["annotations"].append(cancelled)
    assert said(tmp_path, "label-studio", json.dumps([one])) == [
        AnnotatedUtterance("My talk.wav", 1.0, 2.0, "Ann", "Happy", "Hello"),
        AnnotatedUtterance("My talk.wav", 3.0, 4.5, None, "Sad", None),
    ]


def test_label_studio_min_and_whole_clips(tmp_path: Path) -> None:
    least = [
        {
            "audio": "/data/local-files/?d=clips%2Fa.wav", "id": 1, "annotator": 2,
            "label": [{"start": 0.5, "end": 1.5, "channel": 0, "labels": ["Happy"]}], "transcription": "x",
        },
        {"audio": "s3://bucket/b.wav", "emotion": "Sad", "speaker": "Ann", "id": 2},
    ]  # fmt: skip
    assert said(tmp_path, "label-studio", json.dumps(least[:1])) == [
        AnnotatedUtterance("clips/a.wav", 0.5, 1.5, None, "Happy")
    ]
    assert said(tmp_path, "label-studio", json.dumps(least[1:])) == [
        AnnotatedUtterance("b.wav", None, None, "Ann", "Sad")
    ]
    whole = task([region("emotion", "choices", ["Sad"], None)])
    assert said(tmp_path, "label-studio", json.dumps(whole)) == [
        AnnotatedUtterance("My talk.wav", None, None, None, "Sad")
    ]


def test_corrected_predictions_come_back(tmp_path: Path, media: Path) -> None:
    export(labelled(tmp_path), "label-studio", tmp_path / "out")
    tasks = json.loads((tmp_path / "out" / "tasks.json").read_text("utf-8"))
    with pytest.raises(UsageError, match="predictions of a model, and no annotation of a person"):
        SOURCES["label-studio"](tmp_path / "out")
    for one in tasks:
        one["annotations"] = [{"result": one["predictions"][0]["result"]}]
    (tmp_path / "done.json").write_text(json.dumps(tasks))
    found = corpus("label-studio", tmp_path / "done.json", media)
    assert found["emotion"].to_list() == ["joy", "anger", "joy", "anger"] * 6
    assert found["speaker"].to_list()[:2] == ["Ann Lee 0", "Ben 0"]


@pytest.mark.parametrize(
    ("kind", "content", "why"),
    [
        ("eaf", b"<a/>", "no EAF"),
        ("eaf", b"<ANNOTATION_DOCUMENT>", "no XML"),
        ("eaf", b"\xef\xbb\xbf\xff", "encoding that its first bytes promise"),
        ("textgrid", b'File type = "ooTextFile"', "no TextGrid"),
        (
            "textgrid",
            b'File type = "ooTextFile"\n"TextGrid"\n0\n1\n<exists>\n9\n',
            "can't be read as a TextGrid",
        ),
        ("chat", b"hello", "no CHAT file"),
        ("chat", b"@Begin\n*A:\thello .\n@End", "have no times"),
        ("label-studio", b"[1]", "a list of tasks"),
        ("label-studio", b"{", "no JSON"),
        ("label-studio", b"[" * 100_000, "no JSON"),
        ("label-studio", b'[{"data": {}, "annotations": []}]', "no recording in its data"),
    ],
)
def test_what_is_no_such_file_is_refused(tmp_path: Path, kind: str, content: bytes, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        said(tmp_path, kind, content)


def test_missing_and_empty_places(tmp_path: Path) -> None:
    refuse: Callable[..., Source] = SOURCES["eaf"]
    with pytest.raises(UsageError, match="doesn't exist"):
        refuse(tmp_path / "none")
    with pytest.raises(UsageError, match=r"holds no \.eaf file"):
        refuse(tmp_path)


def test_a_label_over_no_words_keeps_the_sentiment_beside_it() -> None:
    """Also where words follow later: it was lost then."""
    words, joy, good = Stretch(10.0, 12.0, "Hi"), Stretch(1.0, 2.0, "joy"), Stretch(1.0, 2.0, "positive")
    assert joined("talk", "Ann", [words], [joy], [good, Stretch(10.0, 12.0, "neutral")]) == [
        AnnotatedUtterance("talk", 1.0, 2.0, "Ann", "joy", None, "positive"),
        AnnotatedUtterance("talk", 10.0, 12.0, "Ann", None, "Hi", "neutral"),
    ]
