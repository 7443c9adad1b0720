"""``annotate run`` through the real entry point, on real media: tables, failures, faults, resuming."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from annotator.folders import claim
from annotator.table import schema

from .media import run_ffmpeg, subtitles, talk

ROOT = Path(__file__).resolve().parents[1]
ANNOTATE = [sys.executable, "-m", "annotator"]
MELD = ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger")


def annotate(
    *arguments: object, timeout: float = 1200, **environment: str
) -> subprocess.CompletedProcess[str]:
    # One worker: each takes seconds to start, and the recordings here are short.
    more = ["--workers", "1"] if arguments[0] == "run" else []
    return subprocess.run(
        [*ANNOTATE, *map(str, arguments), *more],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=os.environ | {"HF_HUB_OFFLINE": "1"} | environment,
    )


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, ffmpeg: str) -> Path:
    """Good recordings and bad ones, side by side."""
    root = tmp_path_factory.mktemp("videos")
    talk(root / "good.wav", 6)
    subtitles(root / "good.srt", [(0.5, 2.5, "I am so happy today!"), (3.6, 5.5, "Why would you do that?")])
    (root / "a").mkdir()
    (root / "b").mkdir()
    talk(root / "a" / "x.wav", 4, pitch_hz=200, seed=1)
    shutil.copyfile(root / "a" / "x.wav", root / "b" / "x.wav")  # one content under two names
    (root / "text.mp4").write_text("I am no film")
    (root / "empty.wav").write_bytes(b"")
    run_ffmpeg(ffmpeg, "-f", "lavfi", "-i", "testsrc=d=2:s=160x120:r=8", str(root / "mute.mp4"))
    run_ffmpeg(ffmpeg, "-f", "lavfi", "-i", "anullsrc=r=16000:cl=mono", "-t", "3", str(root / "silence.wav"))
    talk(root / "short.wav", 0.1)
    (root / "corrupt.mp4").write_bytes(b"\0\0\0\x20ftypisom" + bytes(range(256)) * 20)
    (root / "notes.txt").write_text("not asked for")
    return root


@pytest.fixture(scope="session")
def done(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    out = tmp_path_factory.mktemp("out") / "labels.parquet"
    return out, annotate("run", folder, "--out", out)


def test_a_batch_with_bad_inputs_ends_with_3_and_reasons(
    done: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    out, ended = done
    assert ended.returncode == 3, ended.stderr
    assert "Traceback" not in ended.stderr
    failures = pl.read_csv(out.with_suffix(".failures.csv"))
    assert failures.columns == ["file", "stage", "error", "message", "attempts"]
    assert failures["file"].to_list() == ["corrupt.mp4", "empty.wav", "mute.mp4", "text.mp4"]
    assert failures["message"].null_count() == 0
    assert dict(zip(failures["file"], failures["error"], strict=True))["mute.mp4"] == "no_sound"


def test_the_table_is_as_promised(done: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    table = pl.read_parquet(done[0])
    assert dict(table.schema) == schema(MELD)
    assert {"good.wav", "a/x.wav", "b/x.wav"} <= set(table["file"])
    assert table["file"].is_sorted()
    for names in (["p_" + m for m in MELD], ["p_positive", "p_neutral_sentiment", "p_negative"]):
        assert (table.select(pl.sum_horizontal(names)).to_series() - 1).abs().max() < 1e-5  # type: ignore[operator]
    good = table.filter(file="good.wav")
    assert good["text"].to_list() == ["I am so happy today!", "Why would you do that?"]
    assert good["text_source"].unique().to_list() == ["sidecar"]
    assert good["has_text"].all() and good["has_audio"].all() and not good["has_face"].any()
    assert good["face_coverage"].null_count() == len(good)
    mute = table.filter(file="a/x.wav")
    assert mute["text"].null_count() == len(mute) and not mute["has_text"].any()
    assert_frame_equal(mute.drop("file"), table.filter(file="b/x.wav").drop("file"))


def test_a_batch_of_nothing_but_faults_ends_with_3_in_a_csv_of_any_spelling(tmp_path: Path) -> None:
    (tmp_path / "broken.wav").write_text("no sound")
    out = tmp_path / "labels.CSV"
    ended = annotate("run", tmp_path / "broken.wav", "--out", out)
    assert ended.returncode == 3 and "Traceback" not in ended.stderr, ended.stderr
    assert "1 of the inputs failed" in ended.stderr
    assert len(pl.read_csv(out)) == 0


def test_an_address_for_a_path_is_refused_and_not_repeated(tmp_path: Path) -> None:
    table = "s3://me:secret@bucket/labels.parquet"
    for words in (("in.wav", "--out", table), (table, "--out", tmp_path / "labels.csv")):
        ended = annotate("run", *words)
        assert ended.returncode == 2 and "this machine" in ended.stderr
        assert "secret" not in ended.stderr + ended.stdout and not list(tmp_path.iterdir())


def test_a_recording_without_speech_is_counted_not_failed(
    done: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    record = json.loads(done[0].with_suffix(".run.json").read_text())
    by_file = {r["file"]: r for r in record["recordings"]}
    assert "no_speech" in by_file["silence.wav"]["flags"] and by_file["silence.wav"]["rows"] == 0
    assert record["counts"]["without_speech"] >= 1
    table = recordings(done[0]).filter(status="annotated", rows=0)
    assert f"No utterance was found in {len(table)} recording" in done[1].stdout
    assert record["counts"]["failed"] == 4
    assert record["seconds_per_stage"]["decode"] > 0
    assert record["versions"]["torch"]


def recordings(out: Path) -> pl.DataFrame:
    """The table of recordings without what a clock says."""
    return pl.read_parquet(out.with_suffix(".recordings.parquet")).drop(pl.selectors.starts_with("seconds_"))


def test_the_table_of_recordings_has_every_input(
    done: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    found = recordings(done[0])
    rows = {row["file"]: row for row in found.iter_rows(named=True)}
    assert found["file"].is_sorted() and found.columns == [
        *("file", "file_id", "duration_s", "status", "reason", "streams", "text_source", "language"),
        *("speakers", "rows", "flags", "rate_hz", "channels"),
    ]
    table = pl.read_parquet(done[0])
    counts = dict(table.group_by("file").len().iter_rows())
    annotated = {file: row["rows"] for file, row in rows.items() if row["status"] == "annotated"}
    assert {file: n for file, n in annotated.items() if n} == counts
    assert annotated["silence.wav"] == 0 and "no_speech" in rows["silence.wav"]["flags"]
    assert rows["good.wav"]["streams"] == ["audio: 1 (pcm_s16le, mono)", "transcript: good.srt"]
    assert rows["good.wav"]["text_source"] == "sidecar" and rows["good.wav"]["duration_s"] == pytest.approx(6)
    assert (rows["good.wav"]["rate_hz"], rows["good.wav"]["channels"]) == (16000, 1)
    assert rows["good.wav"]["file_id"] == table.filter(file="good.wav")["file_id"][0]
    assert {f for f, row in rows.items() if row["status"] == "failed"} == {
        *("corrupt.mp4", "empty.wav", "mute.mp4", "text.mp4")
    }
    assert rows["empty.wav"]["reason"] == "find: The file has no content."
    assert rows["notes.txt"]["status"] == "passed over" and rows["notes.txt"]["rows"] is None
    assert "not used: notes.txt (labels.run.json says why)" in done[1].stderr
    record = json.loads(done[0].with_suffix(".run.json").read_text())
    assert record["not_used"] == [{"file": "notes.txt", "reason": rows["notes.txt"]["reason"]}]
    with_times = pl.read_parquet(done[0].with_suffix(".recordings.parquet")).filter(file="good.wav")
    assert with_times["seconds_decode"][0] > 0 and with_times["seconds_encode_audio"][0] > 0


def test_nothing_temporary_is_left(done: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    work = done[0].with_suffix(".work")
    assert not [p for p in done[0].parent.rglob("*") if ".tmp" in p.name or p.suffix == ".pcm"]
    assert not (work / "scratch").exists()


def test_again_does_nothing_again_and_csv_equals_parquet(
    folder: Path, done: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    csv = tmp_path / "labels.csv"
    page = tmp_path / "labels.html"
    ended = annotate(
        "run", folder, "--out", csv, "--work-dir", done[0].with_suffix(".work"), "--report", page
    )
    assert ended.returncode == 3, ended.stderr
    assert "No utterance was found in" in ended.stdout
    # The page lies elsewhere: the command that lets it play is told.
    assert f"annotate report {csv} --out {page} --media-base {folder}" in ended.stdout
    record = json.loads(csv.with_suffix(".run.json").read_text())
    assert record["counts"]["annotated_now"] == 0
    lists = ("quality", "plausible")
    kinds = {name: kind for name, kind in schema(MELD).items() if name != "words"}
    kinds |= {name: pl.String() for name in lists}
    ours = pl.read_parquet(done[0]).drop("words").with_columns(pl.col(*lists).list.join(";"))
    theirs = pl.read_csv(csv, schema=kinds).with_columns(pl.col("quality").fill_null(""))
    assert_frame_equal(theirs, ours, check_exact=True)


def test_output_beside_the_recording_is_no_part_of_it(folder: Path, tmp_path: Path) -> None:
    """``talk.run.json`` lies where a transcript of ``talk.wav`` would."""
    shutil.copyfile(folder / "good.wav", tmp_path / "talk.wav")
    for expected in (1, 0):
        assert annotate("run", tmp_path / "talk.wav", "--out", tmp_path / "talk.parquet").returncode == 0
        record = json.loads((tmp_path / "talk.run.json").read_text())
        assert record["counts"]["annotated_now"] == expected


def test_edited_is_done_again_and_moved_is_not(folder: Path, tmp_path: Path) -> None:
    videos, out = tmp_path / "v", tmp_path / "labels.parquet"
    videos.mkdir()
    shutil.copyfile(folder / "good.wav", videos / "one.wav")
    shutil.copyfile(folder / "a" / "x.wav", videos / "two.wav")
    assert annotate("run", videos, "--out", out).returncode == 0
    before = pl.read_parquet(out)
    stat = (videos / "two.wav").stat()
    talk(videos / "two.wav", 4, pitch_hz=90, seed=5)
    os.utime(videos / "two.wav", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    (videos / "one.wav").rename(videos / "uno.wav")
    assert annotate("run", videos, "--out", out).returncode == 0
    record = json.loads(out.with_suffix(".run.json").read_text())
    assert record["counts"]["annotated_now"] == 1
    after = pl.read_parquet(out)
    assert_frame_equal(before.filter(file="one.wav").drop("file"), after.filter(file="uno.wav").drop("file"))
    assert set(before.filter(file="two.wav")["file_id"]) != set(after.filter(file="two.wav")["file_id"])


def test_killed_and_started_again_gives_the_table_of_a_clean_run(folder: Path, tmp_path: Path) -> None:
    videos = tmp_path / "v"
    videos.mkdir()
    for i in range(6):
        talk(videos / f"{i}.wav", 3 + i / 2, pitch_hz=100 + 20 * i, seed=i)
    clean, killed = tmp_path / "clean.parquet", tmp_path / "killed.parquet"
    process = subprocess.Popen(
        [*ANNOTATE, "run", str(videos), "--out", str(killed), "--workers", "1", "--batch-size", "1"],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    parts = killed.with_suffix(".work") / "parts"
    until = time.monotonic() + 900
    while process.poll() is None and len(list(parts.glob("*.parquet"))) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not killed.exists(), "it was to be killed in the middle"
    finished = {p.name: p.stat().st_mtime_ns for p in parts.glob("*.parquet")}
    assert 2 <= len(finished) < 6
    assert annotate("run", videos, "--out", killed).returncode == 0
    assert annotate("run", videos, "--out", clean).returncode == 0
    assert_frame_equal(pl.read_parquet(killed), pl.read_parquet(clean), check_exact=True)
    assert {n: (parts / n).stat().st_mtime_ns for n in finished} == finished, "finished parts were redone"
    assert not [p for p in tmp_path.rglob("*") if ".tmp" in p.name]


def test_shards_merge_to_the_whole(
    folder: Path, done: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    folders = []
    for i in range(2):
        ended = annotate("run", folder, "--out", tmp_path / f"s{i}.parquet", "--shard", f"{i}/2")
        assert ended.returncode in (0, 3), ended.stderr
        folders.append(tmp_path / f"s{i}.work")
    alone = annotate("merge", tmp_path / "m.parquet", "--from", folders[0])
    assert alone.returncode == 2 and "1/2" in alone.stderr
    ended = annotate("merge", tmp_path / "m.parquet", "--from", *folders)
    assert ended.returncode == 3, ended.stderr
    whole, merged = (json.loads(p.with_suffix(".run.json").read_text()) for p in (done[0], tmp_path / "m.x"))
    assert merged["counts"] == whole["counts"] and merged["shards"] == [[0, 2], [1, 2]]
    assert (
        merged["wall_seconds"] > 0 and merged["seconds_per_stage"].keys() == whole["seconds_per_stage"].keys()
    )
    stale = json.loads((folders[0] / "manifest-0-of-2.json").read_text()) | {"shard": [0, 3]}
    (folders[0] / "manifest-0-of-3.json").write_text(json.dumps(stale))
    refused = annotate("merge", tmp_path / "n.parquet", "--from", *folders)
    assert refused.returncode == 2 and "manifest-0-of-3.json" in refused.stderr and "stale" in refused.stderr
    assert_frame_equal(pl.read_parquet(tmp_path / "m.parquet"), pl.read_parquet(done[0]), check_exact=True)
    failed = [
        pl.read_csv(p.with_suffix(".failures.csv"))["file"].to_list() for p in (tmp_path / "m.x", done[0])
    ]
    assert failed[0] == failed[1]
    assert_frame_equal(recordings(tmp_path / "m.x"), recordings(done[0]), check_exact=True)


def test_sigterm_finishes_what_is_in_hand(folder: Path, tmp_path: Path) -> None:
    videos = tmp_path / "v"
    videos.mkdir()
    for i in range(5):
        talk(videos / f"{i}.wav", 4, pitch_hz=100 + 20 * i, seed=i)
    out = tmp_path / "labels.parquet"
    process = subprocess.Popen(
        [*ANNOTATE, "run", str(videos), "--out", str(out), "--workers", "1", "--batch-size", "1"],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    parts = out.with_suffix(".work") / "parts"
    until = time.monotonic() + 900
    while process.poll() is None and not list(parts.glob("*.parquet")) and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=900)
    assert process.returncode == 143, errors
    assert "Traceback" not in errors and "goes on from here" in errors
    assert not out.exists() and len(list(parts.glob("*.parquet"))) >= 1
    assert annotate("run", videos, "--out", out).returncode == 0
    assert pl.read_parquet(out)["file"].n_unique() == 5


def held(lock: Path) -> subprocess.Popen[str]:
    """A process that holds a lock file as a run does, until it is killed."""
    code = (
        "import sys, time; from pathlib import Path; from annotator.pipeline import locks\n"
        "with locks.held(Path(sys.argv[1]), Path('here')):\n    print('held', flush=True); time.sleep(300)"
    )
    command = [sys.executable, "-c", code, str(lock)]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    return holder


def test_a_second_run_on_one_output_is_refused(folder: Path, tmp_path: Path) -> None:
    """Whichever is shared, the table or the work folder; a dead holder's lock is taken over."""
    out, elsewhere = tmp_path / "labels.parquet", tmp_path / "elsewhere"
    claim(elsewhere, "the work folder")
    for lock, more in ((tmp_path / ".labels.lock", ["--work-dir", elsewhere]), (elsewhere / "lock", [])):
        with held(lock) as holder:
            asked = ["--work-dir", elsewhere] if not more else more
            table = out if more else tmp_path / "other.csv"
            ended = annotate("run", folder / "good.wav", "--out", table, *asked)
            holder.kill()
        assert ended.returncode == 1, ended.stderr
        assert f"process {holder.pid} on " in ended.stderr and "--out" in ended.stderr
        assert "Traceback" not in ended.stderr and not table.exists()
        assert lock.exists(), "what the dead one left"
    assert annotate("run", folder / "good.wav", "--out", out, "--work-dir", elsewhere).returncode == 0
    assert not list(tmp_path.rglob("*lock*"))


def test_a_second_interrupt_stops_at_once(tmp_path: Path) -> None:
    """Also while a large file is being read for its hash, which nothing can cut short."""
    film = tmp_path / "large.mp4"
    with open(film, "wb") as file:
        file.truncate(1 << 40)  # a sparse terabyte
    process = subprocess.Popen(
        [*ANNOTATE, "run", str(film), "--out", str(tmp_path / "labels.parquet"), "--workers", "1"],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    assert process.stderr is not None
    scratch = tmp_path / "labels.work" / "scratch"
    until = time.monotonic() + 900
    while process.poll() is None and not scratch.exists() and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(0.5)  # the scan begins
    process.send_signal(signal.SIGINT)
    while "once more" not in (line := process.stderr.readline()):
        assert line, "it ended after the first"
    process.send_signal(signal.SIGINT)
    try:
        assert process.wait(timeout=180) == 130
    finally:
        process.kill()
        said = process.communicate()[1]
    assert "Traceback" not in said
    assert not list(tmp_path.rglob("*lock*"))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["missing/", "--out", "t.parquet"], "missing"),
        (["{folder}", "--out", "t.xlsx"], ".parquet"),
        (["{empty}", "--out", "t.parquet"], "no recording"),
        (["{folder}", "--out", "t.parquet", "--frobnicate"], "frobnicate"),
        (["{folder}", "--out", "t.parquet", "--diarizer", "magic"], "'pyannote'"),
        (["{folder}", "--out", "t.parquet", "--model", "nowhere"], "annotate train"),
        (["{folder}", "--out", "t.parquet", "--device", "cuda:9"], "--device cpu"),
        (["{folder}", "--out", "t.parquet", "--config", "{toml}"], "batch_size"),
    ],
)
def test_usage_faults_exit_2_with_the_remedy(
    folder: Path, tmp_path: Path, arguments: list[str], expected: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "s.toml").write_text("bach_size = 3\n")
    places = {"folder": folder, "empty": tmp_path / "empty", "toml": tmp_path / "s.toml"}
    ended = annotate("run", *[a.format(**places) for a in arguments])
    assert ended.returncode == 2, ended.stderr
    assert expected in ended.stderr and "Traceback" not in ended.stderr
    assert not list(tmp_path.glob("t.*"))


def test_a_backend_that_lacks_its_weights_says_so_with_1(folder: Path, tmp_path: Path) -> None:
    ended = annotate(
        "run", folder / "good.wav", "--out", tmp_path / "t.parquet", "--diarizer", "pyannote", "--offline"
    )
    assert ended.returncode == 1
    assert "pyannote" in ended.stderr and "Traceback" not in ended.stderr


def test_a_conversation_too_large_costs_its_recording_only(folder: Path, tmp_path: Path) -> None:
    videos, out = tmp_path / "v", tmp_path / "labels.parquet"
    videos.mkdir()
    shutil.copyfile(folder / "good.wav", videos / "small.wav")
    talk(videos / "large.wav", 3, seed=9)
    # One megabyte is enough for some 16 utterances.
    cues = [(i * 0.15, i * 0.15 + 0.1, f"{'AB'[i % 2]}{i % 2}: word") for i in range(40)]
    subtitles(videos / "large.srt", cues)
    (tmp_path / "small.toml").write_text("network-memory = 1\n")
    ended = annotate("run", videos, "--out", out, "--config", tmp_path / "small.toml")
    assert ended.returncode == 3, ended.stderr
    failure = pl.read_csv(out.with_suffix(".failures.csv")).row(0, named=True)
    assert (failure["file"], failure["stage"], failure["error"]) == ("large.wav", "predict", "too_large")
    assert "network-memory" in failure["message"]
    assert pl.read_parquet(out)["file"].unique().to_list() == ["small.wav"]
    assert annotate("run", videos, "--out", out).returncode == 0  # with memory again, it is done
    assert pl.read_parquet(out)["file"].n_unique() == 2


def test_help_loads_no_heavy_library() -> None:
    """What makes --help answer at once; benchmarks/startup.py has the time."""
    ended = annotate("--help")
    assert ended.returncode == 0
    for command in ("run", "report", "merge", "prepare", "train", "evaluate", "doctor"):
        assert command in ended.stdout
    code = "import sys, annotator.cli; print({'torch', 'polars', 'numpy', 'cv2'} & set(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "set()"


def test_doctor_names_every_stage() -> None:
    ended = annotate("doctor")
    assert ended.returncode == 0, ended.stderr
    for word in ("ffmpeg", "pyannote", "embedded", "whisper", "yunet", "centerface", "starter"):
        assert word in ended.stdout
