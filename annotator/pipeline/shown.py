"""``annotate faces``: the frames of a recording with boxes around faces, the speaker's marked."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import polars as pl
from numpy.typing import NDArray

from annotator import faces, media
from annotator.files import written_folder
from annotator.pipeline.batch import choose_face_detector, run
from annotator.read import read_table
from annotator.records import Audio, FaceTracks, Media, RecordingError, UsageError, Utterance
from annotator.settings import RunSettings
from annotator.spreadsheet import for_spreadsheet

log = logging.getLogger("annotator")

USED_COLOUR, OTHER_COLOUR = (0, 200, 0), (160, 160, 160)  # blue, green, red


@dataclass(frozen=True)
class _Picture:
    """A frame to write for an utterance: which of the rows seen then are the speaker's."""

    name: str
    time_s: float
    rows: NDArray[np.intp]  # of the tracks
    used: NDArray[np.bool_]


def show_faces(recording: Path, out: Path, settings: RunSettings, table: Path | None = None) -> int:
    """Write a frame of each utterance with boxes around the faces, and ``faces.csv`` that says what was used.

    Args:
        recording: one file with pictures.
        out: a folder, new or empty.
        table: as written by a run over the recording; without one, its utterances are found anew.

    Returns: the number of frames.

    Raises: UsageError, SetupError, RecordingError.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is there already and not an empty folder: name a new one.")
    if not recording.is_file():
        raise UsageError(f"{recording} is no file: give one recording.")
    about = media.probe(recording)
    if not about.has_video:
        raise UsageError(f"{recording} has no pictures, so there are no faces to show.")
    with written_folder(out) as scratch:
        utterances = _utterances(recording, settings, table, scratch)
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            tracks, audio = _followed(about, settings, Path(folder) / "sound.pcm")
            pictures, rows = _plan(tracks, utterances, faces.choose(tracks, utterances, audio))
            _draw(about, settings, tracks, pictures, Path(folder) / "sound.pcm", scratch)
        for_spreadsheet(pl.DataFrame(rows, schema=COLUMNS, orient="row")).write_csv(scratch / "faces.csv")
    return len(pictures)


COLUMNS: Mapping[str, type[pl.DataType]] = {
    "start": pl.Float64,
    "end": pl.Float64,
    "speaker": pl.String,
    "frame": pl.String,  # its file; null where no face is in view
    "face": pl.String,  # used, ambiguous, or none in view
    "face_coverage": pl.Float64,
}


def _utterances(recording: Path, settings: RunSettings, table: Path | None, scratch: Path) -> list[Utterance]:
    """The utterances of the recording in a table, or in one that is made for it."""
    if table is None:
        log.info("finding the utterances; --table takes those of a run")
        made = scratch / "run" / "labels.parquet"
        made.parent.mkdir()
        result = run([recording], made, settings.model_copy(update={"workers": 1}), progress=False)
        if result.stopped_by is not None:
            raise KeyboardInterrupt
        if result.failures:
            failure = result.failures[0]
            raise RecordingError(failure["stage"], failure["error"], failure["message"])
        rows, _ = read_table(made)
        shutil.rmtree(made.parent)
    else:
        rows, _ = read_table(table)
        named = [name for name in rows["file"].unique().to_list() if Path(name).name == recording.name]
        if len(named) != 1:
            raise UsageError(
                f"{table} has {'no' if not named else 'more than one'} recording named {recording.name}: "
                "give the table of a run over it."
            )
        rows = rows.filter(pl.col("file") == named[0])
    return [
        Utterance(0, number, start, end, speaker, 0.0)
        for number, (start, end, speaker) in enumerate(rows.select("start", "end", "speaker").rows())
    ]


def _followed(about: Media, settings: RunSettings, sound: Path) -> tuple[FaceTracks, Audio | None]:
    """The faces as a run follows them."""
    detector, yunet = choose_face_detector(settings)
    tracker = faces.FaceTracker(faces.FaceSettings(detector or "auto", yunet))
    decoded = media.decode(
        about,
        sound,
        tracker.add,
        frame_rate_hz=settings.frame_rate,
        on_thumbnail=tracker.cuts.add,
    )
    return tracker.finish(), decoded.audio


def _plan(
    tracks: FaceTracks, utterances: Sequence[Utterance], shown: faces.SpeakerFaces
) -> tuple[list[_Picture], list[tuple[float, float, str, str | None, str, float | None]]]:
    """Which frame to write of each utterance, and the rows of ``faces.csv``.

    Of the frames that show the used face the middle one, else of those that show any.
    """
    pictures = []
    rows = []
    for number, utterance in enumerate(utterances):
        used, coverage = shown.rows[number], shown.coverage[number]
        seen = np.flatnonzero((tracks.times >= utterance.start) & (tracks.times <= utterance.end))
        candidates = used if len(used) else seen
        name = None
        if len(candidates):
            time_s = float(tracks.times[candidates[len(candidates) // 2]])
            name = f"{number:05d}_{time_s:09.2f}s.jpg"
            then = np.flatnonzero(tracks.times == time_s)
            pictures.append(_Picture(name, time_s, then, np.isin(then, used)))
        state = "used" if len(used) else "ambiguous" if shown.ambiguous[number] else "none in view"
        rows.append((utterance.start, utterance.end, utterance.speaker, name, state, coverage))
    return pictures, rows


def _draw(
    about: Media,
    settings: RunSettings,
    tracks: FaceTracks,
    pictures: Sequence[_Picture],
    sound: Path,
    folder: Path,
) -> None:
    """A second pass over the recording, which writes the planned frames as JPEG."""
    wanted: dict[float, list[_Picture]] = {}
    for picture in pictures:
        wanted.setdefault(picture.time_s, []).append(picture)

    def on_frame(time_s: float, frame: NDArray[np.uint8]) -> None:
        for picture in wanted.get(time_s, ()):
            drawn = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
            height, width = drawn.shape[:2]
            for row, used in zip(picture.rows, picture.used, strict=True):
                corners = np.round(tracks.boxes[row].reshape(2, 2) * (width, height)).astype(int)
                colour, thick = (USED_COLOUR, 3) if used else (OTHER_COLOUR, 1)
                cv2.rectangle(drawn, corners[0].tolist(), corners[1].tolist(), colour, thick)
            _, coded = cv2.imencode(".jpg", drawn)
            (folder / picture.name).write_bytes(coded.tobytes())

    media.decode(about, sound, on_frame, frame_rate_hz=settings.frame_rate)
