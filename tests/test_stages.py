"""What single stages gave is kept: a later run does only what its settings change; a process for pictures."""

from __future__ import annotations

import os
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from annotator import faces, media
from annotator.pipeline.batch import run
from annotator.pipeline.looking import Look, Looker, LookSetup, Seen
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
