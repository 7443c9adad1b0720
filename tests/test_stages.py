"""What single stages gave is kept: a later run does only what its settings change; a process for pictures."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from annotator import faces, media
from annotator.pipeline.batch import choose_backends, run
from annotator.pipeline.looking import Look, Looker, LookSetup, Seen
from annotator.pipeline.prepared import Prepared
from annotator.pipeline.shaping import files_behind, shaped_by
from annotator.pipeline.stages import Task, WorkerSetup, make_worker
from annotator.records import RecordingError
from annotator.settings import RunSettings
from annotator.weights import checkpoint_folder
from model.checkpoint import load_checkpoint, save_checkpoint

from .media import run_ffmpeg

CLIP = Path(__file__).parents[1] / "examples" / "recordings" / "tv_clip.mkv"
SETTINGS = RunSettings(workers=1, offline=True, device="cpu", profile=True)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory, ffmpeg: str) -> Path:
    """Seven seconds of two people, without their subtitles: words are recognised."""
    file = tmp_path_factory.mktemp("clip") / "clip.mkv"
    run_ffmpeg(
        ffmpeg, "-i", str(CLIP), "-t", "7", "-map", "0:v", "-map", "0:a", "-c", "copy", str(file)
    )  # fmt: skip
    return file


@dataclass(frozen=True)
class Ran:
    rows: pl.DataFrame
    stages: set[str]  # that cost anything
    new: int  # files of stages


def ran(clip: Path, out: Path, settings: RunSettings) -> Ran:
    work = settings.work_dir or out.with_suffix(".work")
    before = set(work.glob("stages/*"))
    result = run([clip], out, settings, progress=False)
    assert result.exit_code == 0 and result.table is not None and result.profile is not None
    return Ran(result.table, set(result.profile.stages), len(set(work.glob("stages/*")) - before))


@pytest.fixture(scope="module")
def first(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Ran, Path]:
    out = tmp_path_factory.mktemp("first") / "labels.parquet"
    return ran(clip, out, SETTINGS), out.with_suffix(".work")


def test_another_checkpoint_decodes_nothing(first: tuple[Ran, Path], clip: Path, tmp_path: Path) -> None:
    """One with another text encoder: text is encoded, and that is all."""
    whole, work = first
    assert {"decode", "diarize", "transcribe", "faces", "encode_audio", "encode_face"} <= whole.stages
    assert whole.rows["text"].is_not_null().any() and whole.rows["has_face"].any()
    checkpoint = load_checkpoint(checkpoint_folder("starter"))
    checkpoint.version += "-other"
    checkpoint.encoders["text"].pop("second")
    other = tmp_path / "other"
    save_checkpoint(other, checkpoint)
    for file in checkpoint_folder("starter").glob("*.safetensors"):
        if file.name != "model.safetensors":
            shutil.copy(file, other)
    settings = SETTINGS.model_copy(update={"model": str(other), "work_dir": work})
    again = ran(clip, tmp_path / "labels.parquet", settings)
    assert again.stages.isdisjoint(
        {"decode", "diarize", "transcribe", "utterances", "faces", "encode_audio", "encode_face"}
    )
    assert "encode_text" in again.stages and again.new == 1
    anew = ran(clip, tmp_path / "fresh.parquet", settings.model_copy(update={"work_dir": None}))
    assert_frame_equal(again.rows, anew.rows, check_exact=True)


def test_another_language_costs_recognition_and_what_follows(
    first: tuple[Ran, Path], clip: Path, tmp_path: Path
) -> None:
    settings = SETTINGS.model_copy(update={"language": "de", "work_dir": first[1]})
    again = ran(clip, tmp_path / "labels.parquet", settings)
    assert {"transcribe", "encode_text", "encode_audio"} <= again.stages
    assert again.new == 4, "neither turns nor faces were found anew: what is found, and three features"


def test_pictures_are_looked_at_again_where_the_process_dies(clip: Path, tmp_path: Path) -> None:
    recording, found = media.probe(clip), []
    looker = Looker(LookSetup(faces.FaceSettings("centerface"), 8.0, 1, tmp_path))
    try:
        for kill in (False, True):
            look = Look(recording, tmp_path / f"{kill}.safetensors", None, None)
            looker.start(look)
            if kill:
                assert looker.process is not None
                os.kill(looker.process, signal.SIGKILL)
            assert {"decode", "faces"} <= looker.spent().keys()
            found.append(Seen.load(look.out))
    finally:
        looker.close()
    seen, again = found
    assert seen is not None and again is not None and seen.watched.count == again.watched.count > 50
    assert (seen.tracks.crops == again.tracks.crops).all() and len(seen.tracks.crops) > 20


def test_what_a_stage_gave_of_another_content_is_not_kept(tmp_path: Path, ffmpeg: str) -> None:
    """A recording that is overwritten after it was hashed, and then put back."""
    talk = CLIP.with_name("call.m4a")
    short, long, file = tmp_path / "short.wav", tmp_path / "long.wav", tmp_path / "talk.wav"
    for made, seconds in ((short, "2"), (long, "5")):
        run_ffmpeg(ffmpeg, "-i", str(talk), "-t", seconds, "-ar", "16000", str(made))
    shutil.copy(short, file)
    settings = RunSettings(transcriber="none", modalities=("audio",), offline=True, device="cpu")
    folder = checkpoint_folder("starter")
    backends = choose_backends(settings, "cpu")
    (tmp_path / "scratch").mkdir()
    setup = WorkerSetup(
        settings, backends, {}, folder, tmp_path / "scratch", 1,
        shaping=shaped_by(settings, backends, {}, folder), stages=tmp_path / "stages",
    )  # fmt: skip
    worker = make_worker(setup)

    def prepared(stamps: Mapping[Path, Sequence[int]]) -> Prepared:
        out = tmp_path / "prepared" / "key.safetensors"
        worker(Task(media.probe(file), "key", out, stamps, content=media.content_hash(short)), Mock())
        found = Prepared.load(out)
        assert found is not None
        return found

    stamps = media.stamps(file)
    shutil.copy(long, file)
    with pytest.raises(RecordingError, match="changed"):
        prepared(stamps)
    assert not list((tmp_path / "stages").glob("*"))
    shutil.copy(short, file)
    assert prepared(media.stamps(file)).duration_s == pytest.approx(2.0, abs=0.1)
    assert list((tmp_path / "stages").glob("*")) and not list((tmp_path / "scratch").iterdir())


def test_files_that_an_encoder_reads_shape_what_it_gives(tmp_path: Path) -> None:
    model = tmp_path / "roberta"
    model.mkdir()
    for file in (model / "model.safetensors", tmp_path / "a.safetensors", tmp_path / "table.bin"):
        file.write_bytes(b"1")
    (tmp_path / "model.json").write_text("{}")
    specs: dict[str, dict[str, Any]] = {
        "hf": {"name": "hf", "path": "roberta"},
        "second": {"name": "minilm", "second": {"name": "hf", "path": str(model)}},
        "listed": {"name": "minilm", "weights": ["a.safetensors"]},
        "of another package": {"name": "loudness"},
    }
    before = {name: files_behind(spec, tmp_path) for name, spec in specs.items()}
    assert before["of another package"].keys() == {"a.safetensors", "table.bin"}
    for file in (model / "model.safetensors", tmp_path / "a.safetensors", tmp_path / "table.bin"):
        file.write_bytes(b"2")
    for name, spec in specs.items():
        assert files_behind(spec, tmp_path) != before[name], name
