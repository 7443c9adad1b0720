"""Follow faces through the sampled frames of a recording."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annotator.records import FaceTracks

from .cuts import CutDetector
from .detect import Detector, Face, FaceSettings, make_detector
from .persons import join_tracks
from .picture import COLOURS, CROP_PX, face_crop, likeness, surroundings, thumbnail

MIN_OVERLAP = 0.3  # intersection over union of a track's face and its next detection
# Of two crops at 12 x 12 pixels: a face stays above 0.8 while it talks, two faces in one place in
# like surroundings, which no difference of whole pictures tells, are at 0.6.
MIN_LIKENESS, COARSE_PX = 0.7, 12
MAX_MISSED = 2  # detections in a row that may fail before a track ends: a head turned away
MUCH_CHANGED = 8.0  # grey levels of 255 between two frames: look for faces now, not only when it is due
CHUNK = 1024  # observations a chunk


def coarse(crop: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A crop ``(48, 48)`` averaged to ``(12, 12)``: the plan of a face without its small moves."""
    fold = CROP_PX // COARSE_PX
    small: NDArray[np.float32] = crop.reshape(COARSE_PX, fold, COARSE_PX, fold).mean((1, 3), dtype=np.float32)
    return small


@dataclass
class _Track:
    number: int
    face: Face  # where the latest detection was,
    time_s: float  # when,
    crop: NDArray[np.uint8]  # and what it showed
    missed: int = 0  # detections since then


@dataclass(frozen=True)
class _Step:
    """A frame to go through, or faces that a detector finds on it."""

    time_s: float
    frame: NDArray[np.uint8]
    faces: Future[list[Face]] | None = None


class _Store:
    """Observations in fixed chunks: no copying while it grows, nothing kept in Python lists."""

    COLUMNS: Sequence[tuple[tuple[int, ...], type]] = (
        ((), np.float64),  # time
        ((), np.int32),  # track
        ((4,), np.float32),  # box
        ((CROP_PX, CROP_PX), np.uint8),  # crop
        ((COLOURS,), np.float16),  # of the surroundings
    )

    def __init__(self) -> None:
        self.count = 0
        self._chunks: list[tuple[NDArray[Any], ...]] = []

    def append(self, *values: Any) -> None:
        row = self.count % CHUNK
        if row == 0:
            self._chunks.append(tuple(np.empty((CHUNK, *shape), kind) for shape, kind in self.COLUMNS))
        for column, value in zip(self._chunks[-1], values, strict=True):
            column[row] = value
        self.count += 1

    def columns(self) -> tuple[NDArray[Any], ...]:
        """times (k,), tracks (k,), boxes (k, 4), crops (k, 48, 48), colours (k, 64), by time and track.

        The store is empty afterwards: chunks go as they are copied, so that nothing is held twice.
        """
        sizes = [min(CHUNK, self.count - CHUNK * i) for i in range(len(self._chunks))]
        firsts: list[NDArray[Any]] = [np.zeros(0), np.zeros(0)]
        if self._chunks:
            firsts = [np.concatenate([chunk[i] for chunk in self._chunks])[: self.count] for i in (0, 1)]
        place = np.empty(self.count, np.intp)
        place[np.lexsort((firsts[1], firsts[0]))] = np.arange(self.count)
        whole: tuple[NDArray[Any], ...] = tuple(
            np.empty((self.count, *shape), kind) for shape, kind in self.COLUMNS
        )
        for number, size in enumerate(sizes):
            for column, part in zip(whole, self._chunks[number], strict=True):
                column[place[number * CHUNK : number * CHUNK + size]] = part[:size]
            self._chunks[number] = ()
        self._chunks, self.count = [], 0
        return whole


class FaceTracker:
    """Finds and follows faces in frames that come one by one, about eight a second.

    A detector looks twice a second, and at once where the picture has changed much.
    Two detections that overlap and look alike are one track; on the frames between them the
    face is where a straight line leads, if what is there looks like it.

    Memory: 2.5 kB an observation (one face in one frame), so 71 MB an hour for one face
    always in view at eight frames a second. Of the frames themselves, only those since the
    oldest detection that still waits for its next, 1.5 s at most, and those that wait for a
    detector, half a second for each of ``2 * threads``.

    Args:
        threads: detectors at work side by side. When to look is told by the pictures alone, so
            the result does not depend on it.

    Raises: as ``make_detector``.
    """

    def __init__(self, settings: FaceSettings | None = None, threads: int = 1) -> None:
        self.settings = settings or FaceSettings()
        self.cuts = CutDetector()  # to be given thumbnails; without any, all is one shot
        self._idle: SimpleQueue[Detector] = SimpleQueue()  # a detector holds the picture that it looks at
        for _ in range(threads):
            self._idle.put(make_detector(self.settings))
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None
        self._most = 2 * threads if threads > 1 else 0  # detections that may wait
        self._waiting: deque[_Step] = deque()  # frames, and detections before them, in order
        self._looks = 0  # detections among them
        self._before: tuple[float, NDArray[np.uint8]] | None = None  # the frame before
        self._store = _Store()
        self._alive: list[_Track] = []
        self._times: list[float] = []
        self._held: list[tuple[float, NDArray[np.uint8]]] = []  # frames between detections
        self._last: NDArray[np.int16] | None = None  # thumbnail of the frame before
        self._looked_s = -math.inf  # time of the last detection
        self._next = 0  # number of the next track

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
        now = thumbnail(frame).astype(np.int16)
        changed = self._last is None or float(np.abs(now - self._last).mean()) > MUCH_CHANGED
        self._last = now
        self._times.append(time_s)
        if changed:
            self._look_back()
        if changed or time_s - self._looked_s >= self.settings.detect_every_s - 0.01:
            self._look(time_s, frame)
        self._waiting.append(_Step(time_s, frame))
        self._before = time_s, frame
        self._go_through(self._most)

    def finish(self) -> FaceTracks:
        """Everything seen, with tracks ended at the cuts and joined into persons."""
        cuts = np.asarray(self.cuts.cuts(), np.float64)
        self._look_back()
        self._go_through(0, to_the_end=True)
        self.close()
        self._alive, self._held, self._before = [], [], None
        times, tracks, boxes, crops, colours = self._store.columns()
        shots = np.searchsorted(cuts, times, "right")
        _, pieces = np.unique(np.stack([tracks, shots]), axis=1, return_inverse=True)
        tracks = pieces.reshape(-1).astype(np.int32)  # numbered as before, so still sorted within a frame
        summed = np.zeros((int(tracks.max(initial=-1)) + 1, COLOURS), np.float32)
        np.add.at(summed, tracks, colours.astype(np.float32))
        return FaceTracks(
            frame_times=np.asarray(self._times, np.float64),
            cuts=cuts,
            times=times,
            tracks=tracks,
            boxes=boxes,
            crops=crops,
            persons=join_tracks(times, tracks, crops, dict(enumerate(summed))),
        )

    def close(self) -> None:
        """End the threads of a tracker that is given up; :meth:`finish` does so by itself."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def _look_back(self) -> None:
        """Look for faces on the last frame of what may be a shot, if that was not done."""
        if self._before is not None and self._before[0] > self._looked_s:
            self._look(*self._before)

    def _look(self, time_s: float, frame: NDArray[np.uint8]) -> None:
        """Have a detector look at a frame."""
        self._looked_s = time_s
        self._looks += 1
        faces: Future[list[Face]]
        if self._pool is not None:
            faces = self._pool.submit(self._faces, frame)
        else:
            faces = Future()
            faces.set_result(self._faces(frame))
        self._waiting.append(_Step(time_s, frame, faces))

    def _faces(self, frame: NDArray[np.uint8]) -> list[Face]:
        detector = self._idle.get()
        try:
            return detector(frame)
        finally:
            self._idle.put(detector)

    def _go_through(self, most: int, to_the_end: bool = False) -> None:
        """Follow faces as far as detectors have looked, and further where more than ``most`` would wait."""
        while self._waiting:
            step = self._waiting[0]
            if step.faces is not None and not (to_the_end or self._looks > most or step.faces.done()):
                return
            self._waiting.popleft()
            if step.faces is not None:
                self._looks -= 1
                self._detected(step.time_s, step.frame, step.faces.result())
                continue
            self._held.append((step.time_s, step.frame))
            oldest = min((track.time_s for track in self._alive), default=step.time_s)
            self._held = [held for held in self._held if held[0] > oldest or held[0] == step.time_s]

    def _detected(self, time_s: float, frame: NDArray[np.uint8], found: Sequence[Face]) -> None:
        faces = [face for face in found if face.side >= self.settings.min_face_px]
        faces = sorted(faces, key=lambda face: -face.side)[: self.settings.max_faces]
        pairs = sorted(
            (
                (track.face.overlap(face), i, j)
                for i, track in enumerate(self._alive)
                for j, face in enumerate(faces)
            ),
            reverse=True,
        )
        crops = [face_crop(frame, face) for face in faces]
        matched: dict[int, int] = {}  # track -> face
        for overlap, i, j in pairs:
            if overlap < MIN_OVERLAP or i in matched or j in matched.values():
                continue
            if likeness(coarse(self._alive[i].crop), coarse(crops[j])) >= MIN_LIKENESS:
                matched[i] = j
        kept = []
        for i, track in enumerate(self._alive):
            if i in matched:
                self._go_on(track, faces[matched[i]], crops[matched[i]], time_s, frame)
                kept.append(track)
            elif track.missed < MAX_MISSED:
                track.missed += 1
                kept.append(track)
        for j, face in enumerate(faces):
            if j not in matched.values() and face.begins:
                track = _Track(self._next, face, time_s, crops[j])
                self._next += 1
                kept.append(track)
                self._observe(track.number, time_s, face, crops[j], frame)
        self._alive = kept

    def _go_on(
        self, track: _Track, face: Face, crop: NDArray[np.uint8], time_s: float, frame: NDArray[np.uint8]
    ) -> None:
        """The track's face was detected again: it was in between on the frames between."""
        for held_s, held in self._held:
            if not track.time_s < held_s < time_s:
                continue
            between = _between(track.face, face, (held_s - track.time_s) / (time_s - track.time_s))
            shown = face_crop(held, between)
            if max(likeness(coarse(shown), coarse(end)) for end in (track.crop, crop)) >= MIN_LIKENESS:
                self._observe(track.number, held_s, between, shown, held)
        self._observe(track.number, time_s, face, crop, frame)
        track.face, track.time_s, track.crop, track.missed = face, time_s, crop, 0

    def _observe(
        self, track: int, time_s: float, face: Face, crop: NDArray[np.uint8], frame: NDArray[np.uint8]
    ) -> None:
        height, width = frame.shape[:2]
        half = face.side / 2
        edges = np.array([face.x - half, face.y - half, face.x + half, face.y + half])
        box = np.clip(edges / (width, height, width, height), 0, 1)
        self._store.append(time_s, track, box, crop, surroundings(frame, face))


def _between(a: Face, b: Face, share: float) -> Face:
    """The face a share of the way from a to b."""
    x, y, side, angle = (
        getattr(a, name) + share * (getattr(b, name) - getattr(a, name))
        for name in ("x", "y", "side", "angle")
    )
    return Face(x, y, side, angle)
