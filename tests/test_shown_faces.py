"""``annotate faces``: which face was used, to look at."""

from __future__ import annotations

import subprocess
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest

from annotator.pipeline.shown import show_faces
from annotator.records import UsageError
from annotator.settings import RunSettings

from .tables import table_of, utterance

SETTINGS = RunSettings(face_detector="centerface", device="cpu")


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory, ffmpeg: str) -> Path:
    """Three seconds of a portrait, a second of a plain wall; no sound."""
    skimage_data = pytest.importorskip("skimage.data")
    path: Path = tmp_path_factory.mktemp("film") / "talk.mp4"
    face = cv2.resize(skimage_data.astronaut(), (360, 360), interpolation=cv2.INTER_AREA)
    wall = np.full_like(face, 90)
    frames = b"".join(picture.tobytes() for picture in [face] * 24 + [wall] * 8)
    command = [
        ffmpeg,
        "-loglevel",
        "error",
        "-f",
        "rawvideo",
        "-pix_fmt",
        "rgb24",
        "-s",
        "360x360",
        "-r",
        "8",
    ]
    subprocess.run([*command, "-i", "-", "-pix_fmt", "yuv420p", str(path)], input=frames, check=True)
    return path


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("table") / "labels.parquet"
    spans = ((0.0, 0.9), (1.0, 2.9), (3.2, 3.9))
    rows = [
        utterance(file="a/talk.mp4", start=a, end=b, utterance_id=i, speaker="=A")
        for i, (a, b) in enumerate(spans)
    ]
    table_of(*rows).write_parquet(path)
    return path


def test_frames_show_which_face_was_used(recording: Path, table: Path, tmp_path: Path) -> None:
    out = tmp_path / "shown"
    assert show_faces(recording, out, SETTINGS, table) == 2
    rows = pl.read_csv(out / "faces.csv")
    assert rows["face"].to_list() == ["used", "used", "none in view"]
    assert rows["face_coverage"].to_list() == [1.0, 1.0, 0.0]
    assert rows["speaker"].to_list() == ["'=A"] * 3, "no formula for a spreadsheet"
    assert sorted(path.name for path in out.iterdir()) == sorted([*rows["frame"].to_list()[:2], "faces.csv"])
    picture = cv2.imread(str(out / rows["frame"][0]))
    assert picture is not None
    assert picture.shape == (360, 360, 3)
    blue, green, red = (picture[:, :, i].astype(int) for i in range(3))
    ys, xs = np.nonzero((green > 150) & (red < 90) & (blue < 90))
    # The box of the face, which is at (158, 82) of the picture and about 93 wide.
    assert (xs.min() + xs.max()) / 2 == pytest.approx(158, abs=12)
    assert (ys.min() + ys.max()) / 2 == pytest.approx(82, abs=12)


def test_faults_are_sentences(recording: Path, table: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.mp4"
    other.write_bytes(recording.read_bytes())
    with pytest.raises(UsageError, match="no recording named other.mp4"):
        show_faces(other, tmp_path / "out", SETTINGS, table)
    with pytest.raises(UsageError, match="is no file"):
        show_faces(tmp_path / "gone.mp4", tmp_path / "out", SETTINGS, table)
    with pytest.raises(UsageError, match="not an empty folder"):
        show_faces(recording, tmp_path, SETTINGS, table)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.mp4"], "nothing is left behind"
