"""The public names: a run from Python on an example recording, its table, its page, its progress."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import annotator
from annotator import Progress, RunResult, RunSettings, UsageError, read_table, run, write_report
from annotator.table import schema, write_table

from .tables import LABELS, table_of, utterance

RECORDINGS = Path(__file__).resolve().parents[1] / "examples" / "recordings"
TEXT_ONLY = RunSettings(modalities=("text",), workers=1, offline=True)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunResult, list[Progress]]:
    """One run, which all tests here look at, and what it told of its progress."""
    steps: list[Progress] = []
    out = tmp_path_factory.mktemp("python") / "labels.parquet"
    result = run(str(RECORDINGS / "meeting.m4a"), str(out), TEXT_ONLY, progress=steps.append)
    return result, steps


def test_a_run_returns_its_table(done: tuple[RunResult, list[Progress]]) -> None:
    result, _ = done
    assert (result.exit_code, result.total, result.annotated, result.failures) == (0, 1, 1, [])
    assert result.table is not None and dict(result.table.schema) == schema(LABELS)
    assert len(result.table) >= 15 and result.table["file"].unique().to_list() == ["meeting.m4a"]


def test_progress_goes_from_nothing_to_everything(done: tuple[RunResult, list[Progress]]) -> None:
    _, steps = done
    assert steps[0].done_s == 0 and steps[0].file is None and 60 < steps[0].total_s < 90
    assert steps[-1].done_s == steps[-1].total_s == steps[0].total_s
    assert [step.recordings_done for step in steps] == sorted(step.recordings_done for step in steps)
    assert (steps[-1].recordings_done, steps[-1].recordings, steps[-1].file) == (1, 1, "meeting.m4a")


def test_what_a_progress_function_raises_ends_the_run(done: tuple[RunResult, list[Progress]]) -> None:
    def enough(now: Progress) -> None:
        raise InterruptedError(f"enough of {now.recordings}")

    result, _ = done
    assert result.table is not None
    before = result.out.read_bytes()
    with pytest.raises(InterruptedError, match="enough of 1"):
        run([RECORDINGS / "meeting.m4a"], result.out, TEXT_ONLY, progress=enough)
    assert result.out.read_bytes() == before
    again = run([RECORDINGS / "meeting.m4a"], result.out, TEXT_ONLY, progress=False)
    assert again.annotated == 0 and again.table is not None and again.table.equals(result.table)


def test_a_table_is_read_as_it_was_written(done: tuple[RunResult, list[Progress]], tmp_path: Path) -> None:
    result, _ = done
    assert result.table is not None
    wide = result.table.with_columns(pl.col(pl.Float32).cast(pl.Float64))
    table, facts = read_table(str(result.out))
    assert set(facts) == {"conversation-annotator", "settings", "versions"}
    assert_frame_equal(table.drop("words"), wide.drop("words"))
    assert table["words"].list.len().equals(wide["words"].list.len())
    write_table(result.table, tmp_path / "labels.csv", {})
    from_csv, nothing = read_table(tmp_path / "labels.csv")
    assert nothing == {} and from_csv["words"].null_count() == len(from_csv)
    assert_frame_equal(from_csv.drop("words"), table.drop("words"))
    assert table["face_emotion"].null_count() == table["asr_confidence"].null_count() == len(table)


def test_what_a_table_lacks_is_null(tmp_path: Path) -> None:
    earlier = table_of(utterance()).drop("plausible", "overlap", "file_id").with_columns(mood=pl.lit("new"))
    write_table(earlier, tmp_path / "labels.parquet", {})
    table, _ = read_table(tmp_path / "labels.parquet")
    assert table.columns == list(schema(LABELS))
    assert table.select("plausible", "overlap", "file_id").row(0) == (None, None, None)


def test_a_page_is_written(done: tuple[RunResult, list[Progress]], tmp_path: Path) -> None:
    played = write_report(str(done[0].out), str(tmp_path / "labels.html"), str(RECORDINGS))
    assert played == 1 and "meeting.m4a" in (tmp_path / "labels.html").read_text("utf-8")
    with pytest.raises(UsageError, match=r"let it end with \.html"):
        write_report(done[0].out, tmp_path / "labels.pdf")


def test_every_public_name_is_there_and_the_import_is_light() -> None:
    for name in annotator.__all__:
        assert getattr(annotator, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = annotator.nothing
    heavy = "polars torch numpy pydantic transformers tqdm"
    code = f"import sys, annotator; print(*[m for m in '{heavy}'.split() if m in sys.modules])"
    light = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert light.stdout.strip() == ""
    code += "; annotator.read_table; print('torch' in sys.modules)"
    reading = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert reading.stdout.split() == ["False"]
