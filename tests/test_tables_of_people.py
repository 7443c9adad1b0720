"""Labelled tables as people and programs save them: separators, commas, encodings, NA, Excel, guesses."""

from __future__ import annotations

import logging
import shutil
import unicodedata
import zipfile
from pathlib import Path

import polars as pl
import pytest

from annotator.records import UsageError
from train.prepare import sheets, table, table_options

from .media import talk
from .spreadsheets import Cell, xlsx

HEAD = ["recording", "start", "end", "speaker", "label", "text"]
SAID = ["Good morning, everyone", "Über Größe; und mehr", 'He said "no"', "That is true"]


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    first = talk(folder / "rec1.wav", 24)
    for number in range(2, 5):
        shutil.copyfile(first, folder / f"rec{number}.wav")
    return folder


def rows(**more: list[str]) -> list[list[str]]:
    """Four recordings of four utterances by two people each, as cells, with further columns."""
    found = [[*HEAD, *more]]
    for recording in range(1, 5):
        for turn, start in enumerate((0.6, 6.0, 11.6, 18.0)):
            number = 4 * (recording - 1) + turn
            found.append(
                [
                    f"rec{recording}.wav", f"{start}", f"{start + 4.5}", f"p{recording}{turn % 2}",
                    ("happy", "sad", "sad", "happy")[(turn + recording) % 4], SAID[turn],
                    *(cells[number] for cells in more.values()),
                ]
            )  # fmt: skip
    return found


def written(
    path: Path, cells: list[list[str]], mark: str = ",", encoding: str = "utf-8", head: str = ""
) -> Path:
    def quoted(cell: str) -> str:
        return '"' + cell.replace('"', '""') + '"' if any(c in cell for c in f'{mark}"\n') else cell

    lines = [mark.join(map(quoted, row)) for row in cells]
    path.write_bytes((head + "\r\n".join(lines) + "\r\n").encode(encoding))
    return path


@pytest.fixture(scope="module")
def expected(media: Path, tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    """What ``rows()`` say."""
    return table.read(written(tmp_path_factory.mktemp("plain") / "a.csv", rows()), media=media).table


def with_commas(cells: list[list[str]]) -> list[list[str]]:
    return [[c.replace(".", ",") if i in (1, 2) else c for i, c in enumerate(row)] for row in cells]


@pytest.mark.parametrize(
    ("mark", "encoding", "head", "commas"),
    [
        (",", "utf-8", "", False),
        (";", "utf-8-sig", "", True),
        (";", "cp1252", "", True),
        ("\t", "utf-16", "", False),
        ("\t", "utf-16-le", "", True),
        ("\t", "utf-8", "", False),
        ("|", "utf-8", "", False),
        (";", "utf-8", "sep=;\r\n", True),
        (",", "utf-8", '"sep=,"\n', False),
    ],
)
def test_text_in_any_form_reads_the_same(
    tmp_path: Path,
    media: Path,
    expected: pl.DataFrame,
    mark: str,
    encoding: str,
    head: str,
    commas: bool,
) -> None:
    cells = with_commas(rows()) if commas else rows()
    paths = [
        written(tmp_path / f"b{ending}", cells, mark, encoding, head) for ending in (".csv", ".tsv", ".txt")
    ]
    assert table.read(paths[0], media=media).table.equals(expected)
    for path in paths[1:]:
        assert sheets.read_sheet(path).equals(sheets.read_sheet(paths[0]))
    assert expected["text"].to_list()[:4] == SAID and expected["start"][0] == 0.6


def test_excel_reads_as_text_does(
    tmp_path: Path, media: Path, expected: pl.DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "annotator")
    plain = rows()
    cells: list[list[Cell]] = [[*plain[0]]]
    for row in plain[1:]:
        cells.append([row[0], float(row[1]), (float(row[2]) / 86400,), *row[3:]])
    book = xlsx(tmp_path / "a.xlsx", {"Labels": [*cells, [], []], "Notes": [["about"], ["this"]]})
    found = table.read(book, media=media)
    assert found.table.equals(expected)
    assert "sheet Labels is read; not used: Notes" in caplog.text


def test_what_is_no_sheet_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, content in (("a.xlsx", b"PK\3\4 broken"), ("b.xlsx", b"no zip"), ("c.ods", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UsageError, match="can't be read as a sheet.*save it as CSV"):
            table.read(tmp_path / name)
    with zipfile.ZipFile(tmp_path / "bomb.xlsx", "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("xl/worksheets/sheet1.xml", "0" * 3_000_000)
    monkeypatch.setattr(sheets, "MOST_BYTES", 1 << 20)
    with pytest.raises(UsageError, match="unpacks to more than"):
        table.read(tmp_path / "bomb.xlsx")


def test_a_row_with_too_many_cells_is_named(tmp_path: Path, media: Path) -> None:
    cells = rows()
    path = written(tmp_path / "a.csv", cells)
    path.write_text(path.read_text().replace('"Good morning, everyone"', "Good morning, everyone", 1))
    with pytest.raises(UsageError, match=r"row 1 after the header has 7 cells, the header 6 .*double quotes"):
        table.read(path, media=media)


def test_missing_is_missing(tmp_path: Path, media: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "annotator")
    cells = rows()
    markers = ["NA", "NaN", "nan", "null", "NULL", "N/A", "#N/A", "<NA>", ""]
    for row, missing in zip(cells[2:], markers, strict=False):
        row[4] = row[5] = missing
    found = table.read(written(tmp_path / "a.csv", cells), media=media)
    assert found.labels == ("happy", "sad")
    assert found.table["emotion"].null_count() == found.table["text"].null_count() == len(markers)
    assert f"{2 * (len(markers) - 1)} cells say NA" in caplog.text
    cells[3][3] = "NA"
    with pytest.raises(UsageError, match="row 3: the speaker is empty"):
        table.read(written(tmp_path / "a.csv", cells), media=media)


@pytest.mark.parametrize("name", ["valence", "fold", "turn"])
def test_a_guess_that_does_not_fit_is_dropped_and_told(
    tmp_path: Path, media: Path, expected: pl.DataFrame, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "annotator")
    odd = {"valence": "3.5", "fold": "2", "turn": "first"}[name]
    cells = rows(**{name: [odd] * 16})
    assert table.read(written(tmp_path / "b.csv", cells), media=media).table.equals(expected)
    assert f"column {name!r} is not the " in caplog.text and repr(odd) in caplog.text
    with pytest.raises(UsageError, match=f"{odd}"):  # what is told is not dropped
        meaning = {"valence": "sentiment", "fold": "split", "turn": "utterance"}[name]
        table.read(tmp_path / "b.csv", media=media, columns={meaning: name})


def test_the_next_guess_is_taken(tmp_path: Path, media: Path) -> None:
    cells = rows(sentiment=["3.5"] * 16, polarity=["positive"] * 16)
    found = table.read(written(tmp_path / "b.csv", cells), media=media)
    assert found.provenance["columns"]["sentiment"] == "polarity"
    assert found.table["sentiment"].unique().to_list() == ["positive"]


def test_a_number_is_the_same_with_a_point(tmp_path: Path, media: Path) -> None:
    cells = rows(turn=[f"{i % 4}.0" for i in range(16)], dialogue=[f"{i // 4}.0" for i in range(16)])
    whole = rows(turn=[f"{i % 4}" for i in range(16)], dialogue=[f"{i // 4}" for i in range(16)])
    expected = table.read(written(tmp_path / "a.csv", whole), media=media).table
    assert table.read(written(tmp_path / "b.csv", cells), media=media).table.equals(expected)
    assert expected["source_utterance_id"].to_list()[:4] == [0, 1, 2, 3]


def test_numbers_that_come_twice_are_no_utterances(
    tmp_path: Path, media: Path, expected: pl.DataFrame
) -> None:
    cells = rows(turn=["1"] * 16)
    assert table.read(written(tmp_path / "b.csv", cells), media=media).table.equals(expected)


def test_a_meaning_can_be_left_out(tmp_path: Path, media: Path) -> None:
    cells = rows(sentiment=["negative"] * 16)
    path = written(tmp_path / "a.csv", cells)
    options = table_options("table", ["sentiment="], None, False, False, None)
    left_out = table.read(path, media=media, **options)
    assert "sentiment" not in left_out.provenance["columns"]
    assert left_out.table.filter(emotion="happy")["sentiment"].unique().to_list() == ["positive"]
    assert table.read(path, media=media).table["sentiment"].unique().to_list() == ["negative"]
    with pytest.raises(UsageError, match="no column for the label"):
        table.read(path, media=media, columns={"label": ""})


@pytest.mark.parametrize("taken_apart", [False, True])
def test_recordings_are_named_with_umlauts_taken_apart_or_not(
    tmp_path: Path, media: Path, taken_apart: bool
) -> None:
    folder = tmp_path / "media"
    shutil.copytree(media, folder)
    stored = unicodedata.normalize("NFD" if taken_apart else "NFC", "Gespräch.wav")
    named = unicodedata.normalize("NFC" if taken_apart else "NFD", "GESPRÄCH")
    (folder / "rec4.wav").rename(folder / stored)
    cells = [[named if cell == "rec4.wav" else cell for cell in row] for row in rows()]
    found = table.read(written(tmp_path / "a.csv", cells), media=folder)
    assert found.table["recording"].unique(maintain_order=True).to_list()[-1] == stored


def test_a_semicolon_in_a_text_is_no_separator(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\n" + "one; two; three,x\n" * 5)
    assert sheets.read_sheet(tmp_path / "a.csv").columns == ["text", "label"]
    (tmp_path / "b.csv").write_text("text\n" + "one; two, three\n")
    with pytest.raises(UsageError, match="2 cells, the header 1"):
        sheets.read_sheet(tmp_path / "b.csv")


def test_the_tables_of_the_cases(shared: Path, tmp_path: Path) -> None:
    """Those that people sent, with the sound that belongs to them."""
    folder = tmp_path / "media"
    folder.mkdir()
    sound = talk(tmp_path / "talk.wav", 24)
    for recording in (*(f"rec{n}.wav" for n in range(1, 5)), unicodedata.normalize("NFD", "Gespräch.wav")):
        shutil.copyfile(sound, folder / recording)
    for case, name, count in (
        ("16-table-separators", "c1_excel_semicolon.csv", 16), ("16-table-separators", "c3b_tab.csv", 16),
        ("18-guessed-column-blocks", "c5_valence.csv", 16),
        ("18-guessed-column-blocks", "c7_turnfloat.csv", 16),
        ("19-table-nfc-names", "c9_nfc.csv", 20),
    ):  # fmt: skip
        found = table.read(shared / "cases" / case / "in" / name, media=folder)
        assert found.labels == ("happy", "sad") and found.table.height == count, name
        assert found.table["start"].is_between(0.5, 19).all()
    with pytest.raises(UsageError, match="a problem .*\n  row 11: the speaker is empty"):
        table.read(shared / "cases" / "17-table-NA" / "in" / "c24_r_na.csv", media=folder)
    kept = table.read(
        shared / "cases" / "17-table-NA" / "in" / "c24_r_na.csv",
        media=folder, skip_faulty=True,
    )  # fmt: skip
    assert kept.labels == ("happy", "sad") and kept.table["text"].null_count() == 1
    assert isinstance(kept.unused, pl.DataFrame) and kept.unused["row"].to_list() == [11]


def test_apostrophes_before_formulas_are_taken_off(tmp_path: Path, media: Path) -> None:
    cells = rows()
    for row in cells[1:]:
        row[3], row[5] = f"'={row[3]}", "'+1 'so'"
    read = table.read(written(tmp_path / "t.csv", cells), media=media, split_by="dialogue")
    assert read.table["speaker"].str.starts_with("=p").all()
    assert read.table["text"].to_list() == ["+1 'so'"] * 16
