# ruff: noqa: E501 - inputs and what is wanted of them, read by their lines
"""A folder with transcripts of all kinds, as the real command annotates it."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from .media import run_ffmpeg, talk

LENGTH_S = 12.0
LINES = [
    (0.6, 3.0, "Good morning everyone."),
    (3.0, 5.4, "I am really worried."),
    (6.0, 8.5, "We spent too much money."),
    (8.5, 11.0, "That is wonderful news."),
]
TEXTS = [text for *_, text in LINES]
RUSSIAN = [
    "Доброе утро, я хочу начать.",
    "Мне очень грустно.",
    "Мы потратили много денег.",
    "Это хорошая новость!",
]
ONE_VOICE = "SPEAKER x 1 0.600 11.2 <NA> <NA> SPEAKER_00 <NA> <NA>\n"
TWO_VOICES = "SPEAKER x 1 0.600 4.800 <NA> <NA> SPEAKER_00 <NA> <NA>\nSPEAKER x 1 6.000 5.000 <NA> <NA> SPEAKER_01 <NA> <NA>\n"


def clock(seconds: float, mark: str = ",") -> str:
    return f"00:00:{int(seconds):02}{mark}{round(seconds % 1 * 1000):03}"


def srt(texts: list[str]) -> str:
    cues = (f"{clock(a)} --> {clock(b)}\n{t}" for (a, b, _), t in zip(LINES, texts, strict=True))
    return "".join(f"{i}\n{cue}\n\n" for i, cue in enumerate(cues, 1))


def ass(names: list[str]) -> str:
    head = "[Script Info]\nScriptType: v4.00+\n\n[V4+ Styles]\nFormat: Name\nStyle: Default\n\n[Events]\n"
    head += "Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
    events = ""
    for (a, b, text), name in zip(LINES, names, strict=True):
        times = f"{clock(a, '.')[1:-1]},{clock(b, '.')[1:-1]}"
        events += f"Dialogue: 0,{times},Default,{name},0,0,0,,{text}\n"
        events += f"Dialogue: 1,{times},Default,{name},0,0,0,,{{\\blur2}}{text}\n"
        events += f"Dialogue: 0,{times},Default,,0,0,0,,{{\\p1}}m 0 0 l 100 0 100 100{{\\p0}}\n"
    return head + events


@dataclass(frozen=True)
class Run:
    """What the command left."""

    inputs: Path
    out: Path
    status: int
    said: str
    rows: pl.DataFrame
    failures: list[dict[str, str]]
    recordings: dict[str, dict[str, Any]]
    not_used: list[dict[str, str]]

    def of(self, file: str) -> pl.DataFrame:
        return self.rows.filter(pl.col("file") == file)

    def texts(self, file: str) -> list[str]:
        return [text for text in self.of(file)["text"] if text is not None]

    def speakers(self, file: str) -> list[str]:
        return self.of(file).filter(pl.col("text").is_not_null())["speaker"].to_list()

    def words(self, file: str) -> str:
        return " ".join(self.texts(file))


def write_inputs(folder: Path) -> None:
    """One recording of each kind; a speaker file beside each saves the diarization."""
    sound = talk(folder / "sound.wav", LENGTH_S)
    named = ["JOHN", "MARY"] * 2
    files: dict[str, str | bytes] = {
        "chevrons.srt": srt([f">> {n}: {t}" for n, t in zip(named, TEXTS, strict=True)]),
        "bare-chevrons.srt": srt([f">> {t}" for t in TEXTS]),
        "sounds.srt": srt([f"[laughs] {t}" for t in TEXTS]),
        "cyrillic.ru.srt": srt(RUSSIAN).encode("cp1251"),
        "late.srt": srt(TEXTS) + "5\n100:00:03,000 --> 100:00:05,400\nFar too late.\n",
        "frames.srt": "1\n00:00:00:15 --> 00:00:03:00\nGood morning.\n",
        "unknown.json": json.dumps({"title": "A film", "chapters": []}),
        "milliseconds.json": json.dumps(
            {"segments": [{"start": 1000 * a, "end": 1000 * b, "text": t} for a, b, t in LINES], "language": "english"}
        ),
        "named.ass": ass(["John", "Mary", "John", "Mary"]),
    }  # fmt: skip
    speakers: dict[str, str] = {}
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        stem = name.partition(".")[0]
        shutil.copy(sound, folder / f"{stem}.wav")
        speakers[stem] = ONE_VOICE
    speakers["several"] = ONE_VOICE.replace(" x ", " other ") + TWO_VOICES.replace(
        " x ", " several "
    ).replace("SPEAKER_00", "anna").replace("SPEAKER_01", "bob")
    speakers["a talk"] = TWO_VOICES.replace(" x ", " a talk ").replace("SPEAKER_00", "anna van dyk")
    speakers["nobody's"] = TWO_VOICES.replace("SPEAKER_00", "<NA>").replace("SPEAKER_01", "<NA>")
    speakers["neither"] = TWO_VOICES.replace(" x ", " one ", 1).replace(" x ", " two ", 1)
    for stem, text in speakers.items():
        (folder / f"{stem}.rttm").write_text(text)
        if not (folder / f"{stem}.wav").exists():
            shutil.copy(sound, folder / f"{stem}.wav")
    sound.unlink()


def write_films(folder: Path, scratch: Path, ffmpeg: str) -> None:
    """Films with several subtitle streams."""
    sound = talk(scratch / "sound.wav", LENGTH_S)
    for name, text in {
        "full": srt(TEXTS),
        "forced": "1\n00:00:06,000 --> 00:00:06,500\nYes, in Arabic.\n",
        "ru": srt(RUSSIAN),
    }.items():
        (scratch / f"{name}.srt").write_text(text)
    (scratch / "names.ass").write_text(ass(["John", "Mary", "John", "Mary"]))
    shown = {
        "forced-first": [
            "forced.srt",
            "full.srt",
            "-disposition:s:0",
            "default+forced",
            "-metadata:s:s:0",
            "language=eng",
        ],
        "other-language-first": [
            "ru.srt",
            "full.srt",
            "-metadata:s:s:0",
            "language=rus",
            "-metadata:s:s:1",
            "language=eng",
        ],
        "ass-inside": ["names.ass"],
    }
    for stem, options in shown.items():
        inputs = [str(scratch / o) for o in options if o.endswith((".srt", ".ass"))]
        rest = [o for o in options if not o.endswith((".srt", ".ass"))]
        given = [word for i in [str(sound), *inputs] for word in ("-i", i)]
        mapped = [word for i in range(len(inputs) + 1) for word in ("-map", str(i))]
        film = folder / f"{stem}.mka"
        run_ffmpeg(
            ffmpeg,
            *given,
            *mapped,
            "-c:a",
            "flac",
            "-c:s",
            "copy",
            "-metadata:s:a:0",
            "language=eng",
            *rest,
            str(film),
        )
        (folder / f"{stem}.rttm").write_text(ONE_VOICE)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, ffmpeg: str) -> Run:
    root = tmp_path_factory.mktemp("cases")
    inputs, scratch = root / "in", root / "scratch"
    inputs.mkdir()
    scratch.mkdir()
    write_inputs(inputs)
    write_films(inputs, scratch, ffmpeg)
    copy_cases(inputs, ffmpeg)
    return annotated(inputs, root / "labels.parquet")


def annotated(inputs: Path, out: Path, *options: str) -> Run:
    command = [sys.executable, "-m", "annotator", "run", str(inputs), "--out", str(out), "--offline"]
    command += ["--modalities", "text", "--workers", "1", "--transcriber", "subtitles", *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert "Traceback" not in done.stderr and out.exists(), done.stderr
    with out.with_suffix(".failures.csv").open(newline="", encoding="utf-8") as file:
        failures = list(csv.DictReader(file))
    record = json.loads(out.with_suffix(".run.json").read_text())
    recordings = {entry["file"]: entry for entry in record["recordings"]}
    return Run(
        inputs=inputs,
        out=out,
        status=done.returncode,
        said=done.stderr,
        rows=pl.read_parquet(out),
        failures=failures,
        recordings=recordings,
        not_used=record["not_used"],
    )


@pytest.mark.parametrize(
    ("file", "speakers"),
    [
        ("chevrons.wav", ["JOHN", "MARY"] * 2),
        ("bare-chevrons.wav", ["SPEAKER_00"] * 4),
        ("named.wav", ["John", "Mary"] * 2),
        ("ass-inside.mka", ["John", "Mary"] * 2),
    ],
)
def test_who_says_what(run: Run, file: str, speakers: list[str]) -> None:
    assert run.texts(file) == TEXTS
    assert run.of(file)["speaker"].to_list() == speakers


@pytest.mark.parametrize(
    "file",
    [
        *("sounds.wav", "late.wav", "milliseconds.wav"),
        *("forced-first.mka", "other-language-first.mka"),
    ],
)
def test_what_is_said(run: Run, file: str) -> None:
    assert run.words(file) == " ".join(TEXTS)
    assert set(run.speakers(file)) == {"SPEAKER_00"}


def test_languages_and_encodings(run: Run) -> None:
    assert run.words("cyrillic.wav") == " ".join(RUSSIAN)
    assert all("guessed_encoding" in flags for flags in run.of("cyrillic.wav")["quality"])
    assert run.of("cyrillic.wav")["language"].drop_nulls().unique().to_list() == ["ru"]
    assert run.of("milliseconds.wav")["language"].drop_nulls().unique().to_list() == ["en"]
    assert run.of("other-language-first.mka")["language"].drop_nulls().unique().to_list() == ["en"]


def test_words_after_the_end_are_dropped_and_flagged(run: Run) -> None:
    late = run.of("late.wav")
    assert late["end"].max() <= LENGTH_S  # type: ignore[operator]
    assert all("dropped_cues" in flags for flags in late["quality"])


def test_a_bad_transcript_costs_the_transcript_and_is_told(run: Run) -> None:
    frames = run.of("frames.wav")
    assert len(frames) and frames["text"].null_count() == len(frames)
    assert all("unreadable_transcript" in flags for flags in frames["quality"])
    (line,) = [f for f in run.failures if f["file"] == "frames.wav"]
    assert (line["stage"], line["error"], line["attempts"]) == ("transcribe", "bad_subtitles", "1")
    assert "frames.srt" in line["message"] and "save it with thousandths of seconds" in line["message"]
    assert run.status == 3
    assert run.recordings["frames.wav"]["problems"][0]["error"] == "bad_subtitles"


def test_a_kind_of_json_that_is_not_known_is_named(run: Run) -> None:
    (line,) = [line for line in run.said.splitlines() if line.startswith("not used: ")]
    assert "unknown.json" in line and "frames.srt" in line
    reasons = {other["file"]: other["reason"] for other in run.not_used}
    assert reasons["unknown.json"] == "it is JSON, but of no kind of transcript that is known"
    assert reasons["frames.srt"] == "it can't be read: the failures file says why"
    assert run.texts("unknown.wav") == [] and len(run.of("unknown.wav"))
    assert not [f for f in run.failures if f["file"] == "unknown.wav"]


def test_what_was_chosen_is_in_the_record(run: Run) -> None:
    assert run.recordings["chevrons.wav"]["beside"] == {
        "speakers": "chevrons.rttm",
        "transcript": "chevrons.srt",
    }
    assert run.recordings["forced-first.mka"]["streams"]["subtitles"] == "subtitle track 2 (subrip)"
    ((name, reason),) = run.recordings["forced-first.mka"]["streams_not_used"].items()
    assert "forced" in name and reason == "subtitle track 2 (subrip) is taken"


def test_speaker_files(run: Run) -> None:
    def turns(file: str) -> list[tuple[str, float]]:
        return list(zip(run.of(file)["speaker"], run.of(file)["start"], strict=True))

    assert turns("several.wav") == [("anna", 0.6), ("bob", 6.0)]
    assert turns("a talk.wav") == [("anna van dyk", 0.6), ("SPEAKER_01", 6.0)]
    assert turns("nobody's.wav") == [("SPEAKER_00", 0.6), ("SPEAKER_00", 6.0)]  # nobody's name is one voice
    (line,) = [f for f in run.failures if f["file"] == "neither.wav"]
    assert line["error"] == "bad_rttm" and "2 recordings and none is called 'neither'" in line["message"]
    assert {f["file"] for f in run.failures} == {"frames.wav", "neither.wav"}


def test_the_same_command_again_gives_the_same(run: Run) -> None:
    again = annotated(run.inputs, run.out)
    assert again.rows.equals(run.rows)
    assert (again.failures, again.not_used, again.status) == (run.failures, run.not_used, 3)


# The collection beside the project, where it is.

CASES = ("02-", "03-", "04-", "07-", "08-", "09-", "10-", "11-", "12-", "13-", "20-", "22-", "23-")


def copy_cases(inputs: Path, ffmpeg: str) -> None:
    """Copies of the collection's inputs below ``cases``, with their sound."""
    shared = Path(__file__).resolve().parents[2] / "shared" / "data" / "cases"
    if not shared.is_dir():
        return
    with (shared / "sounds.tsv").open(encoding="utf-8") as file:
        sounds = {row["recording"]: row["sound"] for row in csv.DictReader(file, delimiter="\t")}
    for case in sorted(shared.iterdir()):
        if case.name.startswith(CASES):
            for path in (case / "in").iterdir():
                target = inputs / "cases" / case.name[:2] / path.name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())
                if path.suffix == ".mkv":
                    turn = ONE_VOICE.replace("11.2", "23.3")
                    target.with_suffix(".rttm").write_text(turn)
            for recording, sound in sounds.items():
                if recording.startswith(f"{case.name}/in/"):
                    wav = inputs / "cases" / case.name[:2] / recording.rpartition("/")[2]
                    run_ffmpeg(ffmpeg, "-i", str(shared / sound), str(wav))


FOUR = [
    "Good morning everyone.",
    "I am really worried about it.",
    "We spent too much money.",
    "That is wonderful news.",
]


def test_the_collection_gives_what_it_wants(run: Run, shared: Path) -> None:
    if not (shared / "cases").is_dir():
        pytest.skip("the collection of cases is not beside the project")
    all_of_it = {
        **dict.fromkeys(("11/j1_whispercpp", "11/j3_hf", "11/j4_openai_words", "11/j7_deepgram"), FOUR),
        **dict.fromkeys(("07/s1_chevron", "07/s2_chevron_bare", "08/s3_bracketname", "08/s5_zoom_lower"), FOUR),
        **dict.fromkeys(("08/s8_spk_nocolon", "22/j9_wx_wordsegments"), FOUR),
        **dict.fromkeys(("11/j10_lastnull", "11/j11_ms", "23/j11_ms"), [FOUR[0], "I am really worried."]),
        **dict.fromkeys(("20/t1_spaced", "20/t2_arrow"), [FOUR[0], "I am really worried."]),
        "23/t4_100h": [FOUR[0]],
        "08/s9_inline_dash": [FOUR[0], "I am really worried.", *FOUR[2:]],
        "10/v1_youtube": ["good morning everyone", "let us begin", "I am worried"],
        "09/e3_gbk": ["大家早上好， 我想先谈预算。 我真的很担心这件事情。", "我们已经花了太多的钱。 这真是个好消息， 恭喜你们。"],
    }  # fmt: skip
    for stem, texts in all_of_it.items():
        assert run.words(f"cases/{stem}.wav") == " ".join(texts), stem
    assert run.texts("cases/07/s2_chevron_bare.wav") == FOUR
    assert run.words("cases/09/e1_cp1251.wav").startswith("Доброе утро, я хочу начать")
    for film in ("02/B02_forced_first", "03/B03_arabic_first"):
        rows = run.of(f"cases/{film}.mkv")
        assert rows["language"].unique().to_list() == ["en"]
        words = run.words(f"cases/{film}.mkv")
        assert words.startswith("Good morning everyone, I would like to begin with the budget. I am really")
        assert words.endswith("Well, this is wonderful news, congratulations.")
    speakers = {
        "04/B04_ass.mkv": ["John", "Mary", "John"],
        "07/s1_chevron.wav": ["JOHN", "MARY"] * 2,
        "08/s3_bracketname.wav": ["John", "Mary"] * 2,
        "08/s5_zoom_lower.wav": ["jsmith", "maria.k"] * 2,
        "08/s8_spk_nocolon.wav": ["SPEAKER_00", "SPEAKER_01"] * 2,
        "11/j7_deepgram.wav": ["SPEAKER_00", "SPEAKER_01"] * 2,
        "22/j9_wx_wordsegments.wav": ["SPEAKER_00", "SPEAKER_01"] * 2,
    }
    for file, names in speakers.items():
        assert run.speakers(f"cases/{file}") == names, file
    for file in ("12/my talk.wav", "13/r2_multi.wav"):
        assert run.of(f"cases/{file}")["speaker"].to_list() == ["anna", "bob"], file
        assert run.of(f"cases/{file}")["start"].to_list() == [0.6, 6.0], file
    assert "dropped_cues" in run.of("cases/23/t4_100h.wav")["quality"][0]
