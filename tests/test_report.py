"""The page: what it says, what it refuses, and that nothing in a table can act in it."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import os
import re
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from annotator.cli import app
from annotator.pipeline.batch import RunResult
from annotator.records import SetupError, UsageError
from annotator.report import content, render, write_report
from annotator.table import write_table
from tests.tables import LABELS, table_of, utterance

HOSTILE = (
    '</script><script>document.title="taken"</script><!-- <img src=x onerror=alert(1)> '
    "\"'`\x00\x1b[31m\u2028 &amp;"
)


class Page(HTMLParser):
    """The page as a browser takes it apart: elements, text outside scripts, and the contents of scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self.within = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.within = tag if tag in ("script", "style") else ""
        if tag == "script":
            self.scripts.append("")
        if tag == "style":
            self.styles.append("")

    def handle_endtag(self, tag: str) -> None:
        self.within = ""

    def handle_data(self, data: str) -> None:
        if self.within == "script":
            self.scripts[-1] += data
        elif self.within == "style":
            self.styles[-1] += data
        else:
            self.text += data

    @property
    def data(self) -> dict[str, Any]:
        """What the script works on, with the utterances of each recording where they are in the page."""
        found: dict[str, Any] = json.loads(self.scripts[0])
        if len(self.scripts) == 3:
            for recording, body in zip(
                found["recordings"], json.loads(self.scripts[1])["bodies"], strict=True
            ):
                recording |= body
        return found

    @property
    def policy(self) -> dict[str, str]:
        meta = next(a for tag, a in self.elements if a.get("http-equiv") == "Content-Security-Policy")
        return dict(part.strip().split(" ", 1) for part in str(meta["content"]).split(";"))

    def chart(self, caption: str) -> dict[str, tuple[str, str]]:
        """The first chart of this name: share and count of each of its lines."""
        found = self.text[self.text.index(f"\n{caption}\n") :].split("utterances", 1)[1].split("\n\n", 1)[1]
        lines = itertools.takewhile(str.strip, found.splitlines())
        return {
            m[1]: (m[2], m[3]) for m in (re.fullmatch(r"(.*?)(\d+%)([\d,]+)", line) for line in lines) if m
        }


def page_of(*rows: dict[str, Any], **facts: str) -> Page:
    return Page(render(table_of(*rows), "labels.parquet", facts).html)


def test_says_what_is_in_the_table() -> None:
    page = page_of(
        utterance(),
        utterance(start=2.5, end=4.0, speaker="SPEAKER_01", emotion="anger", sentiment="negative",
                  plausible=["anger", "neutral"], audio_emotion="neutral", audio_confidence=0.4,
                  text=None, has_text=False, quality=["no_transcript", "too_short"]),
        utterance(file="b/other.wav", emotion="neutral", sentiment="neutral", quality=["too_short"]),
        utterance(file="b/other.wav", start=90, end=95, dialogue_id=1, has_face=True),
    )  # fmt: skip
    tiles = dict(
        re.findall(r"\n(recordings|utterances|of speech|conversations|speakers)\D*?([\d:]+)", page.text)
    )
    assert tiles == {
        "recordings": "2", "utterances": "4", "of speech": "0:10", "conversations": "3", "speakers": "3",
    }  # fmt: skip
    emotion = page.chart("Emotion")
    assert list(emotion) == list(LABELS)
    assert (emotion["joy"], emotion["anger"], emotion["fear"]) == (("50%", "2"), ("25%", "1"), ("0%", "0"))
    assert page.chart("Sentiment") == {
        "positive": ("50%", "2"), "neutral": ("25%", "1"), "negative": ("25%", "1"),
    }  # fmt: skip
    assert page.chart("Modalities used") == {
        "text": ("75%", "3"), "audio": ("100%", "4"), "face": ("25%", "1"),
    }  # fmt: skip
    assert page.chart("Quality flags") == {"too_short": ("50%", "2"), "no_transcript": ("25%", "1")}
    assert "perceived expression" in page.text
    assert "not a measurement of what a person feels" in page.text
    assert "Model: starter 0.1.0" in page.text
    # Sorted by file.
    first, second = page.data["recordings"]
    assert (first["file"], second["file"]) == ("b/other.wav", "talk.mp4")
    assert second["speakers"] == ["SPEAKER_00", "SPEAKER_01"]
    start, end, speaker, text, label, p, every, sentiment, ps, used, flags, conversation, plausible, alone = (
        second["rows"][1]
    )
    assert (start, end, speaker, text, conversation) == (2.5, 4.0, 1, None, 0)
    assert (page.data["labels"][label], p, every) == ("anger", 70, [5, 5, 5, 5, 5, 5, 70])
    assert (page.data["sentiments"][sentiment], ps, used) == ("negative", 10, 0b010)
    assert [second["flags"][flag] for flag in flags] == ["no_transcript", "too_short"]
    assert [page.data["labels"][i] for i in plausible] == ["anger", "neutral"]
    names = [None if a is None else (page.data["labels"][a[0]], a[1]) for a in alone]
    assert names == [None, ("neutral", 40), None]


def test_admits_its_own_style_and_script_and_nothing_else() -> None:
    html = render(table_of(utterance(text=HOSTILE)), "labels.parquet", {}).html
    page = Page(html)
    policy = page.policy
    assert policy["default-src"] == "'none'"
    for kind, whole in (("script-src", page.scripts[2]), ("style-src", page.styles[0])):
        digest = base64.b64encode(hashlib.sha256(whole.encode()).digest()).decode()
        assert policy[kind] == f"'sha256-{digest}'"
    assert (policy["base-uri"], policy["form-action"]) == ("'none'", "'none'")
    # Recordings and parts come from beside the page: from its server, or from disk.
    assert policy["media-src"] == policy["frame-src"] == "'self' file:"
    assert set(policy) == {"default-src", "script-src", "style-src", "media-src", "frame-src", "base-uri",
                           "form-action"}  # fmt: skip
    # Nothing is fetched: no address, no attribute or rule that names one.
    assert not re.search(r"https?:|//[a-z]+\.|@import|url\(", html)
    assert not [a for _, a in page.elements if {"src", "srcset", "action", "style", "background"} & set(a)]
    links = [a["href"] for _, a in page.elements if "href" in a]
    assert links and all(str(link).startswith("#") for link in links)
    assert not [name for _, a in page.elements for name in a if name.startswith("on")]


def test_hostile_names_and_texts_stay_text() -> None:
    rows = table_of(utterance(file=HOSTILE, speaker=HOSTILE, text=HOSTILE, quality=[HOSTILE], model=HOSTILE))
    html = render(rows, HOSTILE, {HOSTILE: HOSTILE, "settings": json.dumps({HOSTILE: HOSTILE})}).html
    page, plain = Page(html), page_of(utterance(quality=["odd"]), settings='{"a": 1}', more="b")
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in plain.elements]
    assert len(page.scripts) == 3 and page.scripts[2] == plain.scripts[2]
    assert "<" not in page.scripts[0] + page.scripts[1] and not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", html)
    # Shown as it is, but for control characters, which are spelled out.
    shown = HOSTILE.replace("\x00", "\\x00").replace("\x1b", "\\x1b").replace("\u2028 ", " ")
    recording = page.data["recordings"][0]
    assert recording["rows"][0][3] == shown
    assert recording["speakers"] == recording["flags"] == [recording["file"]] == [shown]
    assert page.text.count('</script><script>document.title="taken"') >= 4


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(texts=st.lists(st.text(max_size=60), min_size=10, max_size=60), name=st.text(min_size=1, max_size=20))
def test_any_text_comes_through(texts: list[str], name: str) -> None:
    page = page_of(*(utterance(text=text, speaker=name, file=name) for text in texts))
    recording = page.data["recordings"][0]
    assert [row[3] for row in recording["rows"]] == [content.visible(text) for text in texts]
    assert recording["speakers"] == [content.visible(name)] and recording["file"] == content.visible(name)


def test_visible_spells_out_control_characters_and_shortens() -> None:
    assert content.visible("a\x1b[1mb\x7f\x85c") == "a\\x1b[1mb\\x7f\\x85c"
    assert content.visible("\u202egnp.exe") == "\\u202egnp.exe"
    assert content.visible("two\r\n\tlines") == "two lines"
    long = content.visible("a" * 5000 + "b" * 5000, 300)
    assert len(long) == 300 and long.startswith("aaa") and long.endswith("bbb") and " … " in long


def test_null_text_is_not_empty_text() -> None:
    page = page_of(utterance(text=None, has_text=False), utterance(start=3, end=4, text=""))
    assert [row[3] for row in page.data["recordings"][0]["rows"]] == [None, ""]
    assert "– no transcript" in page.scripts[2]


def test_empty_table_says_so() -> None:
    page = page_of()
    assert "No utterances" in page.text and "This table has no rows" in page.text
    assert page.data["recordings"] == []
    assert not [a for _, a in page.elements if a.get("id") == "filters"]


def test_parquet_and_csv_give_the_same_page(tmp_path: Path) -> None:
    table = table_of(
        utterance(text="=SUM(A1:A9)", speaker="+1 Ann", quality=["clipped", "too_short"]),
        utterance(start=3, end=4, text=None, has_text=False, speaker="@home", quality=["no_transcript"]),
        utterance(start=5, end=6, text="'quoted', \"twice\"; and; more\nlines", has_face=True),
        utterance(start=7, end=8, text="-"),
    )
    pages = []
    for name in ("labels.parquet", "labels.csv"):
        write_table(
            table, tmp_path / name, {"settings": '{"speakers": 3}', "conversation-annotator": "0.1.0"}
        )
        write_report(tmp_path / name, tmp_path / "pages" / f"{name}.html")
        pages.append(Page((tmp_path / "pages" / f"{name}.html").read_text("utf-8")))
    assert "'=SUM" in (tmp_path / "labels.csv").read_text("utf-8")
    assert pages[0].data == pages[1].data
    recording = pages[1].data["recordings"][0]
    texts = ["=SUM(A1:A9)", None, "'quoted', \"twice\"; and; more lines", "-"]
    assert [row[3] for row in recording["rows"]] == texts
    assert recording["speakers"] == ["+1 Ann", "@home", "SPEAKER_00"]
    assert [[recording["flags"][f] for f in row[10]] for row in recording["rows"]] == [
        ["clipped", "too_short"], ["no_transcript"], [], [],
    ]  # fmt: skip
    assert "speakers: 3" in pages[0].text and "How the table was made" not in pages[1].text


def test_csv_from_a_spreadsheet(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    write_table(table_of(utterance()), path, {})
    text = path.read_text("utf-8").replace("true", "TRUE").replace("false", "FALSE")
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    write_report(path, tmp_path / "page.html")
    page = Page((tmp_path / "page.html").read_text("utf-8"))
    assert page.data["recordings"][0]["rows"][0][9] == 0b011


def test_columns_of_ones_own_are_left_alone_and_other_labels_found() -> None:
    table = table_of(utterance()).rename({"p_surprise": "p_excited"}).with_columns(note=pl.lit("x"), p_x=0.5)
    page = Page(render(table, "labels.parquet", {}).html)
    assert page.data["labels"] == ["neutral", "excited", *LABELS[2:]]


def test_every_label_has_its_colour() -> None:
    assert content.colours(["hap", "sad", "neu", "ang", "exc", "fru"]) == [1, 3, 0, 2, 7, 8]
    for labels in (
        LABELS,
        ["neutral", "happy", "joy", "calm"],
        [f"label {i}" for i in range(content.COLOURS)],
    ):
        assert len(set(content.colours(labels))) == len(labels)
    assert len(content.colours([f"label {i}" for i in range(30)])) == 30


def many(files: int, **given: Any) -> pl.DataFrame:
    """The same utterance in many recordings."""
    names = pl.DataFrame({"file": [f"{i:05}.mp4" for i in range(files)]})
    return table_of(utterance(**given)).drop("file").join(names, how="cross")


def test_many_recordings_are_all_there_in_parts(tmp_path: Path) -> None:
    write_table(many(2057, text=HOSTILE), tmp_path / "labels.parquet", {})
    write_report(tmp_path / "labels.parquet", tmp_path / "labels.html")
    page = Page((tmp_path / "labels.html").read_text("utf-8"))
    data = page.data
    assert [r["file"] for r in data["recordings"]] == [f"{i:05}.mp4" for i in range(2057)]
    assert page.chart("Emotion")["joy"] == ("100%", "2,057")
    found = 0
    for first, name in zip(data["starts"], data["parts"], strict=True):
        part = Page((tmp_path / name).read_text("utf-8"))
        assert part.policy["default-src"] == "'none'" and "media-src" not in part.policy
        digest = base64.b64encode(hashlib.sha256(part.scripts[1].encode()).digest()).decode()
        assert part.policy["script-src"] == f"'sha256-{digest}'" and "<" not in part.scripts[0]
        bodies = json.loads(part.scripts[0])
        assert bodies["first"] == first == found
        found += len(bodies["bodies"])
        assert all(len(body["rows"]) == 1 for body in bodies["bodies"])
    assert found == 2057 and len(data["parts"]) > 1


def test_names_that_are_no_text_still_lead_to_parts_and_recordings(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    (folder / "00000.mp4").touch()
    write_table(many(51), tmp_path / "labels.parquet", {})
    out = tmp_path / os.fsdecode(b"\xe9 #1.html")
    write_report(tmp_path / "labels.parquet", out, folder)
    data = Page(out.read_text("utf-8")).data
    assert data["recordings"][0]["media"] == "caf%E9/00000.mp4"
    for address in data["parts"]:
        assert address.startswith("%E9%20%231.html.parts/")
        assert Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + unquote_to_bytes(address))).is_file()


def test_parts_of_an_earlier_page_go(tmp_path: Path) -> None:
    table, out, parts = tmp_path / "labels.parquet", tmp_path / "labels.html", tmp_path / "labels.html.parts"
    for text in ("one", "two"):
        write_table(many(51, text=text), table, {})
        write_report(table, out)
        named = {Path(name).name for name in Page(out.read_text("utf-8")).data["parts"]}
        assert {path.name for path in parts.iterdir() if not path.name.startswith(".")} == named != set()
    write_table(many(3), table, {})
    write_report(table, out)
    assert not parts.exists()


def test_a_folder_of_somebody_elses_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "labels.html.parts").mkdir()
    (tmp_path / "labels.html.parts" / "mine.txt").write_text("mine")
    write_table(many(51), tmp_path / "labels.parquet", {})
    with pytest.raises(UsageError, match="nothing of them may be lost"):
        write_report(tmp_path / "labels.parquet", tmp_path / "labels.html")
    assert [p.name for p in (tmp_path / "labels.html.parts").iterdir()] == ["mine.txt"]
    assert not (tmp_path / "labels.html").exists()


@pytest.mark.parametrize("labels", [16, 100])
def test_the_first_page_stays_small(labels: int) -> None:
    # The worst that fits: markup that grows when escaped, in names, texts, flags and labels; many recordings.
    rows = 2_500
    names = ["'" * 200 + f"{i}" for i in range(labels)]
    one = utterance(text="<&>" * 900, quality=["<" * 200, ">" * 200], emotion="joy")
    table = table_of(one).select(pl.exclude("file", "speaker", "emotion", *(f"p_{x}" for x in LABELS)))
    table = table.join(
        pl.DataFrame(
            {
                "file": ["'" * 300 + f"{i % 2500:05}" for i in range(rows)],
                "speaker": ["<" * 300 + f"{i}" for i in range(rows)],
                "emotion": [names[i % labels] for i in range(rows)],
            }
        ),
        how="cross",
    )
    at = table.columns.index("sentiment")
    shares = [pl.lit(1 / labels).alias(f"p_{name}") for name in names]
    page = render(table.select(*table.columns[:at], *shares, *table.columns[at:]), "labels.parquet", {})
    assert len(page.html.encode()) < 12 << 20
    assert len(Page(page.html).data["recordings"]) == 2500


def test_a_long_recording_is_whole() -> None:
    times = pl.DataFrame({"start": [float(i) for i in range(9_000)]}).with_columns(end=pl.col("start") + 1)
    table = table_of(utterance(text="on and " * 80)).drop("start", "end").join(times, how="cross")
    page = render(table, "labels.parquet", {})
    [rows] = [json.loads(Page(part).scripts[0])["bodies"][0]["rows"] for part in page.parts.values()] or [
        Page(page.html).data["recordings"][0]["rows"]
    ]
    assert len(rows) == 9_000


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.drop("has_face", "model"), "lacks the columns has_face, model"),
        (lambda t: t.drop("sentiment"), "lacks the column sentiment"),
        (
            lambda t: t.select(
                *t.columns[: t.columns.index("p_neutral")],
                *(pl.lit(0.1).alias(f"p_{i}") for i in range(101)),
                *t.columns[t.columns.index("sentiment") :],
            ),
            "it has 101 labels",
        ),
        (lambda t: t.drop([f"p_{label}" for label in LABELS]), "no p_<label> columns"),
        (lambda t: t.with_columns(start=pl.lit("soon")), "the column start holds something else"),
        (lambda t: t.with_columns(speaker=pl.lit(None, pl.String)), "the column speaker has empty"),
        (lambda t: t.with_columns(p_joy=float("nan")), "p_joy has values that are no numbers"),
        (lambda t: t.with_columns(confidence=7.0), "confidence has values that are no probabilities"),
        (lambda t: t.with_columns(end=-1.0), "end before they start"),
        (lambda t: t.with_columns(emotion=pl.lit("glee")), "the emotion 'glee' is none of neutral, surprise"),
        (lambda t: t.with_columns(sentiment=pl.lit("mixed")), "the sentiment 'mixed' is none of positive"),
        (lambda t: t.with_columns(has_text=pl.lit("maybe")), "the column has_text"),
    ],
)
@pytest.mark.parametrize("ending", [".parquet", ".csv"])
def test_refuses_what_is_no_table(tmp_path: Path, ending: str, change: Any, says: str) -> None:
    path = tmp_path / f"labels{ending}"
    write_table(change(table_of(utterance())), path, {})
    with pytest.raises(UsageError, match=re.escape(says)) as caught:
        write_report(path, tmp_path / "page.html")
    assert "annotate run" in str(caught.value) and str(path) in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ["missing.parquet", "folder.csv", "labels.txt", "zero.csv", "zero.parquet",
                                  "noise.parquet", "cut.parquet", "latin.csv", "ragged.csv"])  # fmt: skip
def test_refuses_files_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.csv").mkdir()
    for empty in ("labels.txt", "zero.csv", "zero.parquet"):
        (tmp_path / empty).touch()
    (tmp_path / "noise.parquet").write_bytes(b"PAR1" + bytes(range(256)) * 4 + b"PAR1")
    write_table(table_of(utterance()), tmp_path / "good.parquet", {})
    whole = (tmp_path / "good.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "latin.csv").write_bytes("file,text\na,größer\n".encode("latin-1"))
    (tmp_path / "ragged.csv").write_text("file,text\na,b,c,d\n")
    with pytest.raises(UsageError, match="annotate run INPUT --out FILE"):
        write_report(tmp_path / name, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_refuses_places_that_are_no_page(tmp_path: Path) -> None:
    path = tmp_path / "labels.parquet"
    write_table(table_of(utterance()), path, {})
    before = path.read_bytes()
    with pytest.raises(UsageError, match=r"end with \.html"):
        write_report(path, path)
    assert path.read_bytes() == before
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        write_report(path, tmp_path / "folder.html")
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match="can't be written"):
        write_report(path, tmp_path / "file" / "page.html")


@pytest.mark.parametrize(
    ("page", "address"), [("labels.html", "videos/talk.mp4"), ("pages/labels.html", None)]
)
def test_the_page_of_a_run_plays_what_lies_below_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: str, address: str | None
) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "talk.mp4").touch()
    table, out = table_of(utterance()), tmp_path / "labels.parquet"

    def instead(*_: Any, **__: Any) -> RunResult:
        write_table(table, out, {})
        recordings = pl.DataFrame({"file": ["talk.mp4"], "status": ["annotated"], "rows": [1]})
        recordings.write_parquet(out.with_suffix(".recordings.parquet"))
        return RunResult(out, 1, table=table)

    monkeypatch.setattr("annotator.pipeline.run", instead)
    monkeypatch.setattr("annotator.cli.tables.set_up_logging", lambda *_: None)
    arguments = ["run", str(tmp_path / "videos"), "--out", str(out), "--report", str(tmp_path / page)]
    ended = CliRunner().invoke(app, arguments)
    assert ended.exit_code == 0
    assert ("--media-base" in ended.output) == (address is None)
    [recording] = Page((tmp_path / page).read_text("utf-8")).data["recordings"]
    assert recording.get("media") == address


def test_writes_whole_or_not_at_all(tmp_path: Path) -> None:
    path, out = tmp_path / "labels.parquet", tmp_path / "page.html"
    write_table(table_of(utterance()), path, {})
    out.write_text("the page of before")
    write_report(path, out)
    first = out.read_bytes()
    write_report(path, out)
    assert out.read_bytes() == first and first.startswith(b"<!doctype html>")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["labels.parquet", "page.html"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_stay_apart_for_colour_blind_eyes(scheme: str) -> None:
    """Distance in CIE Lab of every two colours, seen as Machado et al. (2009) simulate colour blindness."""
    rules = (resources.files("annotator.report") / "page.css").read_text("utf-8").split("@media")
    colours = dict(re.findall(r"--(k\d+): #([0-9a-f]{6})", rules[0]))
    if scheme == "dark":
        colours |= dict(re.findall(r"--(k\d+): #([0-9a-f]{6})", rules[1]))
    assert len(colours) == content.COLOURS
    coded = np.array([[int(c[i : i + 2], 16) / 255 for i in (0, 2, 4)] for c in colours.values()])  # (12, 3)
    linear = np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)
    seen_by = {
        "trichromat": np.eye(3),
        "protanope": [[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0520]],
        "deuteranope": [[0.3673, 0.8606, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]],
        "tritanope": [[1.2555, -0.0767, -0.1788], [-0.0784, 0.9309, 0.1476], [0.0047, 0.6914, 0.3039]],
    }
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    for who, matrix in seen_by.items():
        xyz = np.clip(linear @ np.array(matrix).T, 0, 1) @ to_xyz.T / np.array([0.9505, 1.0, 1.089])
        f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
        lab = np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], 1)
        apart = np.linalg.norm(lab[:, None] - lab[None], axis=-1)[np.triu_indices(len(lab), 1)]
        assert apart.min() > 12, who
