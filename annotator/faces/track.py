"""Follow faces through the sampled frames of a recording."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annotator.records import FaceTracks

from .detect import Face, FaceSettings, make_detector  # noqa: TID251 - its own package
from .persons import join_tracks  # noqa: TID251 - its own package
from .picture import COLOURS, CROP_PX, face_crop, likeness, shot_changed, surroundings, thumbnail  # noqa: TID251 - its own package

MIN_OVERLAP = 0.3  # intersection over union of a followed face and its new detection
MIN_PEAK = 5.0  # correlation peak to side lobes: 10 to 27 on a face, under 4 where the face has left
# Of successive crops at 12 x 12 pixels: a face stays above 0.8 while it talks, two faces in one place in
# like surroundings, which no difference of whole pictures tells, are at 0.6.
MIN_LIKENESS, COARSE_PX = 0.7, 12
MAX_MISSED = 2  # detections in a row that may fail while the tracker holds on: a head turned away
CHUNK = 1024  # observations a chunk


def coarse(crop: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A crop ``(48, 48)`` averaged to ``(12, 12)``: the plan of a face without its small moves."""
    fold = CROP_PX // COARSE_PX
    small: NDArray[np.float32] = crop.reshape(COARSE_PX, fold, COARSE_PX, fold).mean((1, 3), dtype=np.float32)
    return small


@dataclass(frozen=True)
class _Observation:
    time_s: float
    box: tuple[float, float, float, float]
    crop: NDArray[np.uint8]


@dataclass
class _Track:
    number: int
    face: Face
    follower: Any  # dlib.correlation_tracker
    crop: NDArray[np.uint8]  # the latest
    pending: list[_Observation] = field(default_factory=list)  # followed, not yet confirmed by a detection
    missed: int = 0  # detections since the last that found it


class _Store:
    """Observations in fixed chunks: no copying while it grows, nothing kept in Python lists."""

    def __init__(self) -> None:
        self.count = 0
        self._chunks: list[tuple[NDArray[Any], ...]] = []

    def append(self, track: int, seen: _Observation) -> None:
        row = self.count % CHUNK
        if row == 0:
            self._chunks.append(
                (
                    np.empty(CHUNK, np.float64),
                    np.empty(CHUNK, np.int32),
                    np.empty((CHUNK, 4), np.float32),
                    np.empty((CHUNK, CROP_PX, CROP_PX), np.uint8),
                )
            )
        for column, value in zip(self._chunks[-1], (seen.time_s, track, seen.box, seen.crop), strict=True):
            column[row] = value
        self.count += 1

    def columns(self) -> tuple[NDArray[Any], ...]:
        """times (k,), tracks (k,), boxes (k, 4), crops (k, 48, 48), by time and track."""
        if not self._chunks:
            shapes: tuple[tuple[tuple[int, ...], type], ...] = (
                ((0,), np.float64),
                ((0,), np.int32),
                ((0, 4), np.float32),
                ((0, CROP_PX, CROP_PX), np.uint8),
            )
            return tuple(np.empty(shape, kind) for shape, kind in shapes)
        times, tracks, boxes, crops = (
            np.concatenate([chunk[i] for chunk in self._chunks])[: self.count] for i in range(4)
        )
        order = np.lexsort((tracks, times))
        return times[order], tracks[order], boxes[order], crops[order]


class FaceTracker:
    """Finds and follows faces in frames that come one by one, about four a second.

    Memory: 2.3 kB an observation (one face in one frame), so 33 MB an hour for one face
    always in view at four frames a second, and twice that for a moment in ``finish``.
    Frames are not kept.

    Where a detector fails to find a followed face, the correlation tracker (Danelljan et
    al., BMVC 2014, as in dlib) bridges; what it saw counts only if a detection finds the
    face again, or the shot ends before the next detection is due.

    Raises: as ``make_detector``.
    """

    def __init__(self, settings: FaceSettings | None = None) -> None:
        self.settings = settings or FaceSettings()
        self._detector = make_detector(self.settings)
        self._every = self.settings.detect_every or self._detector.every
        self._store = _Store()
        self._alive: list[_Track] = []
        self._colours: dict[int, NDArray[np.float32]] = {}  # summed over a track's detections
        self._times: list[float] = []
        self._cuts: list[float] = []
        self._last: NDArray[np.uint8] | None = None  # thumbnail of the frame before
        self._since = 0  # frames since the last detection
        self._next = 0  # number of the next track

    @property
    def detector(self) -> str:
        """Name of the detector in use."""
        return self._detector.name

    def add(self, time_s: float, frame: NDArray[np.uint8]) -> None:
        """Look at the next frame.

        Args:
            time_s: presentation time, later than that of the frame before.
            frame: ``(h, w, 3)`` RGB, upright.
        """
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
            raise ValueError(f"a frame is (h, w, 3) uint8, not {frame.shape} {frame.dtype}")
        if self._times and time_s <= self._times[-1]:
            raise ValueError(f"frame at {time_s} s after one at {self._times[-1]} s")
        frame = np.ascontiguousarray(frame)
        now = thumbnail(frame)
        cut = self._last is not None and shot_changed(self._last, now)
        self._last = now
        self._times.append(time_s)
        if cut:
            self._cuts.append(time_s)
            for track in self._alive:
                self._end(track)
            self._alive = []
        self._alive = [track for track in self._alive if self._follow(track, frame)]
        self._since += 1
        if cut or len(self._times) == 1 or self._since >= self._every:
            self._since = 0
            self._detect(time_s, frame)
        else:
            for track in self._alive:
                self._observe(track, time_s, frame)
        # Two trackers may slide onto one face; the one that a detection confirmed later goes.
        self._alive = self._without_doubles()

    def finish(self) -> FaceTracks:
        """Everything found, with the tracks joined into persons."""
        for track in self._alive:
            self._end(track)
        self._alive = []
        times, tracks, boxes, crops = self._store.columns()
        persons = join_tracks(times, tracks, crops, self._colours)
        return FaceTracks(
            frame_times=np.asarray(self._times, np.float64),
            cuts=np.asarray(self._cuts, np.float64),
            times=times,
            tracks=tracks,
            boxes=boxes,
            crops=crops,
            persons=persons,
        )

    def _follow(self, track: _Track, frame: NDArray[np.uint8]) -> bool:
        """Move the track to where its face went; False when it is lost."""
        peak = track.follower.update(frame)
        at = track.follower.get_position()
        side = (at.width() + at.height()) / 2
        x, y = at.center().x, at.center().y
        height, width = frame.shape[:2]
        inside = 0 <= x < width and 0 <= y < height
        if peak >= MIN_PEAK and inside and side >= self.settings.min_face_px:
            track.face = replace(track.face, x=x, y=y, side=side)
            crop = face_crop(frame, track.face)
            if likeness(coarse(crop), coarse(track.crop)) >= MIN_LIKENESS:
                track.crop = crop
                return True
            self._since = self._every  # another face may be in its place: look now
        self._end(track)
        return False

    def _detect(self, time_s: float, frame: NDArray[np.uint8]) -> None:
        faces = [face for face in self._detector(frame) if face.side >= self.settings.min_face_px]
        faces = sorted(faces, key=lambda face: -face.side)[: self.settings.max_faces]
        pairs = sorted(
            (
                (track.face.overlap(face), i, j)
                for i, track in enumerate(self._alive)
                for j, face in enumerate(faces)
            ),
            reverse=True,
        )
        found: dict[int, int] = {}  # track -> face
        for overlap, i, j in pairs:
            if overlap >= MIN_OVERLAP and i not in found and j not in found.values():
                found[i] = j
        kept = []
        for i, track in enumerate(self._alive):
            if i in found:
                self._confirm(track, faces[found[i]], time_s, frame)
                kept.append(track)
                continue
            track.missed += 1
            if track.missed <= MAX_MISSED:
                self._observe(track, time_s, frame)
                kept.append(track)
            else:
                self._end(track)
        self._alive = kept
        for j, face in enumerate(faces):
            if j not in found.values() and face.begins:
                self._begin(face, time_s, frame)

    def _begin(self, face: Face, time_s: float, frame: NDArray[np.uint8]) -> None:
        import dlib

        track = _Track(self._next, face, dlib.correlation_tracker(), face_crop(frame, face))
        self._next += 1
        self._colours[track.number] = np.zeros(COLOURS, np.float32)
        self._alive.append(track)
        self._confirm(track, face, time_s, frame)

    def _confirm(self, track: _Track, face: Face, time_s: float, frame: NDArray[np.uint8]) -> None:
        """A detection found the track's face: what was followed until here is true."""
        import dlib

        if face.overlap(track.face) >= 0.5:
            # dlib's boxes grow in steps of a fifth; half-way to them the crops hold still.
            face = replace(
                face,
                x=(face.x + track.face.x) / 2,
                y=(face.y + track.face.y) / 2,
                side=(face.side + track.face.side) / 2,
            )
        track.face = face
        track.crop = face_crop(frame, face)
        track.missed = 0
        half = face.side / 2
        track.follower.start_track(
            frame, dlib.drectangle(face.x - half, face.y - half, face.x + half, face.y + half)
        )
        self._colours[track.number] += surroundings(frame, face)
        self._observe(track, time_s, frame)
        self._keep(track)

    def _observe(self, track: _Track, time_s: float, frame: NDArray[np.uint8]) -> None:
        height, width = frame.shape[:2]
        face, half = track.face, track.face.side / 2
        box = tuple(
            float(np.clip(value, 0, 1))
            for value in (
                (face.x - half) / width,
                (face.y - half) / height,
                (face.x + half) / width,
                (face.y + half) / height,
            )
        )
        track.pending.append(_Observation(time_s, (box[0], box[1], box[2], box[3]), track.crop))

    def _keep(self, track: _Track) -> None:
        for seen in track.pending:
            self._store.append(track.number, seen)
        track.pending = []

    def _end(self, track: _Track) -> None:
        if track.missed == 0:
            self._keep(track)
        track.pending = []

    def _without_doubles(self) -> list[_Track]:
        kept: list[_Track] = []
        for track in sorted(self._alive, key=lambda track: (track.missed, track.number)):
            if all(track.face.overlap(other.face) < 0.5 for other in kept):
                kept.append(track)
        return kept
