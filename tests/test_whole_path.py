"""Words, speakers and backends through ``annotate run``: what goes in comes out, whole and in its place."""

from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl
import pytest

from annotator import RunSettings, run

from .media import subtitles, talk
from .test_run import annotate
from .tiny_models import TEXT, make_pyannote, make_whisper

SLOW_S = 900  # loading all libraries on a busy machine


def rttm(path: Path, turns: list[tuple[float, float, str]]) -> None:
    lines = [f"SPEAKER {path.stem} 1 {a} {b - a:.3f} <NA> <NA> {who} <NA> <NA>" for a, b, who in turns]
    path.write_text("\n".join(lines) + "\n")


def begins(number: int) -> float:
    """Seconds at which a word of the CTM starts; every thirteenth together with the one before, about."""
    return 0.3 + number * 0.26 - (0.2 if number % 13 == 0 else 0.0)


TURNS = [(0.5, 4.0, "Ana"), (4.2, 7.0, "Ben"), (6.6, 9.0, "Ana"), (12.0, 18.0, "Ben"), (19.0, 22.0, "Cy")]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    """One recording with a .ctm and one with an .srt whose cues don't stop at the speakers' changes."""
    folder = tmp_path_factory.mktemp("talks")
    talk(folder / "words.wav", 24.0)
    shutil.copyfile(folder / "words.wav", folder / "cues.wav")
    with open(folder / "cues.wav", "ab") as file:
        file.write(b"\0\0")  # another content
    lines = []
    for number in range(90):
        # Inside turns, across their borders, in overlaps, in the gaps, and after the last one; some at once.
        start = begins(number)
        lines.append(f"words 1 {start:.2f} {0.05 + 0.03 * (number % 9):.2f} w{number} 0.9")
    (folder / "words.ctm").write_text("\n".join(lines) + "\n")
    rttm(folder / "words.rttm", TURNS)
    subtitles(
        folder / "cues.srt",
        [
            (0.6, 6.4, "I told you all of it yesterday. No, you never said a word."),
            (12.5, 21.8, "and then we went home again because it was late What did you do there"),
        ],
    )
    rttm(folder / "cues.rttm", TURNS)
    talk(folder / "named.wav", 11.0)
    subtitles(folder / "named.srt", [(0.5, 4.0, "ANA: I told you."), (4.2, 7.0, "BEN: You never did.")])
    settings = RunSettings(workers=1, modalities=("text",), device="cpu", offline=True)
    found = run([folder], folder / "out" / "labels.parquet", settings, progress=False).table
    assert found is not None
    return found


def test_no_word_of_a_ctm_is_lost_doubled_or_moved(table: pl.DataFrame) -> None:
    """Word error zero: all words once, in order within a speaker, each in the utterance of its time."""
    told = table.filter(pl.col("file") == "words.wav", pl.col("text").is_not_null())
    words = [
        (word, row["speaker"], row["start"], row["end"])
        for row in told.iter_rows(named=True)
        for word in row["text"].split()
    ]
    assert sorted(w for w, *_ in words) == sorted(f"w{n}" for n in range(90))
    for speaker in told["speaker"].unique():
        numbers = [int(w[1:]) for w, who, *_ in words if who == speaker]
        starts = [begins(n) for n in numbers]
        assert starts == sorted(starts)
    for word, _, start, end in words:
        number = int(word[1:])
        at = begins(number)
        length = 0.05 + 0.03 * (number % 9)
        # A given turn is kept as it is, also where a word runs over its edge.
        assert start - 0.5 <= at + length / 2 <= end + 0.5
    assert told["asr_confidence"].to_list() == pytest.approx([0.9] * len(told))


def test_given_turns_are_rows_as_they_are(table: pl.DataFrame) -> None:
    rows = table.filter(pl.col("file") == "words.wav").select("start", "end", "speaker").rows()
    assert set(TURNS) <= set(rows)
    assert table["speaker_confidence"].null_count() == len(table)


def test_a_transcript_that_names_all_speakers_needs_no_diarizer(table: pl.DataFrame) -> None:
    rows = table.filter(pl.col("file") == "named.wav")
    assert rows.select("start", "end", "text").rows() == [
        (0.5, 4.0, "I told you."),
        (4.2, 7.0, "You never did."),
    ]
    assert rows["overlap"].null_count() == 2
    assert table.filter(pl.col("file") != "named.wav")["overlap"].null_count() == 0


def test_a_run_without_a_diarizer_says_so_and_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    from annotator import SetupError
    from annotator.pipeline.batch import choose

    lacks = dict.fromkeys(("pyannote", "embedded"), "It lacks its weights.").get
    order = ("pyannote", "embedded")
    with pytest.raises(SetupError, match="No diarizer can run"):
        choose("diarizer", "auto", order, order, lacks)
    assert choose("diarizer", "auto", order, order, lacks, may_be_spared=True) == "embedded"
    assert "none can run" in caplog.text
    with pytest.raises(SetupError, match="lacks its weights"):
        choose("diarizer", "embedded", order, order, lacks, may_be_spared=True)


def test_a_cue_across_a_change_of_speaker_is_split_there(table: pl.DataFrame) -> None:
    told = table.filter(pl.col("file") == "cues.wav", pl.col("text").is_not_null())
    said = list(zip(told["speaker"], told["text"], strict=True))
    assert ("Ana", "I told you all of it yesterday.") in said
    assert ("Ben", "No, you never said a word.") in said
    ben = " ".join(text for who, text in said if who == "Ben" and "never" not in text)
    cy = " ".join(text for who, text in said if who == "Cy")
    assert f"{ben} {cy}" == "and then we went home again because it was late What did you do there"
    # The second cue runs to 21.8 s and Cy's turn begins at 19: about 70 % of its characters are Ben's.
    assert ben.endswith("late") or ben.endswith("was") or ben.endswith("What")
    for who, turns in (("Ana", TURNS[:1]), ("Cy", TURNS[4:])):
        for row in told.filter(speaker=who).iter_rows(named=True):
            assert min(row["end"], turns[0][1]) - max(row["start"], turns[0][0]) > 0.5


# Tiny models in folders of one's own, through the command


@pytest.mark.slow
def test_whisper_and_pyannote_from_folders_offline(tmp_path: Path) -> None:
    (tmp_path / "whisper").mkdir()
    (tmp_path / "pyannote").mkdir()
    whisper, pyannote = make_whisper(tmp_path / "whisper"), make_pyannote(tmp_path / "pyannote")
    talk(tmp_path / "talk.wav", 8.0)
    out = tmp_path / "labels.parquet"
    command = ["run", tmp_path / "talk.wav", "--out", out, "--offline", "--whisper-folder", whisper]
    backends = ["--transcriber", "whisper", "--diarizer", "pyannote", "--max-speakers", "2"]
    ended = annotate(*command, *backends, "--pyannote-folder", pyannote, timeout=SLOW_S)
    assert ended.returncode == 0, ended.stderr
    assert "diarizer: pyannote, as asked" in ended.stderr
    assert "transcriber: whisper, as asked" in ended.stderr
    assert "Traceback" not in ended.stderr
    table = pl.read_parquet(out)
    assert len(table) > 0 and table["speaker"].n_unique() <= 2
    told = table.filter(pl.col("text").is_not_null())
    words = " ".join(told["text"]).split()
    assert words and words == TEXT.split() * (len(words) // 3)
    assert told["text_source"].unique().to_list() == ["whisper"]
    assert told["language"].unique().to_list() == ["en"]
    # Other weights in the folder are other work.
    (pyannote / "config.yaml").write_text((pyannote / "config.yaml").read_text() + "# edited\n")
    again = annotate(*command, *backends, "--pyannote-folder", pyannote, timeout=SLOW_S)
    assert again.returncode == 0, again.stderr
    record = out.with_suffix(".run.json").read_text()
    assert '"annotated_now": 1' in record


@pytest.mark.slow
def test_auto_says_in_a_line_a_stage_what_it_took(tmp_path: Path) -> None:
    talk(tmp_path / "talk.wav", 3.0)
    command = ["run", tmp_path / "talk.wav", "--out", tmp_path / "labels.csv", "--offline"]
    hub, cache = str(tmp_path / "hub"), str(tmp_path)
    ended = annotate(*command, timeout=SLOW_S, HF_HUB_CACHE=hub, ANNOTATE_CACHE=cache, ANNOTATE_YUNET="")
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.splitlines()[:4] == [
        "diarizer: embedded (pyannote not available: see `annotate doctor`)",
        "transcriber: whisper",
        "recognition: whisper base",
        "face detector: centerface (yunet not available: see `annotate doctor`)",
    ]
    wrong = annotate(*command, "--whisper-folder", tmp_path / "typo", timeout=SLOW_S)
    assert wrong.returncode == 1
    assert "typo lacks config.json" in wrong.stderr
