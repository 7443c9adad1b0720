"""Face detectors behind one form: squares framed as the face network saw them in training.

Where each detector's box lies on a picture framed like FER2013's (48 x 48, brow to chin
with some margin) was measured on its training pictures, put at random sizes on a larger
canvas: the medians over 907 faces (YuNet) and 669 (CenterFace) are the constants below.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from annotator.records import SetupError, UsageError
from annotator.weights import CENTERFACE

YUNET_PX = 320  # side of the picture that the network takes; other sizes need another export
CENTERFACE_PX = 480  # longer side of the picture: finds faces of a fifteenth of the width, in 50 ms on a core
MAX_TILT = 40.0  # degrees; beyond it the landmarks are wrong more often than the head is
MAX_SHARED = 0.3  # intersection over union above which the weaker of two boxes is dropped

# How far the face's middle lies above the box's, and its side, in heights of the box.
YUNET_BOX, CENTERFACE_BOX = (0.01, 1.004), (0.016, 1.067)

# Detections that may begin a track, and those that may only go on with one: a face that
# turns away scores lower, and what lies where a face was a moment ago is likely the same.
YUNET_BEGIN, YUNET_GO_ON = 0.7, 0.4  # score, 0-1
CENTERFACE_BEGIN, CENTERFACE_GO_ON = 0.5, 0.3  # height of the map's peak, 0-1


@dataclass(frozen=True)
class FaceSettings:
    """How faces are looked for."""

    detector: Literal["auto", "yunet", "centerface"] = "auto"
    yunet_file: Path | None = None  # ONNX with a fixed 320 x 320 input
    detect_every_s: float = 0.5  # from one look for faces to the next; frames in between follow
    min_face_px: int = 32  # smaller squares hold too few pixels for an expression
    max_faces: int = 8  # a frame, the largest: bounds the time a crowd takes


@dataclass(frozen=True)
class Face:
    """A square around a face, in pixels of the frame, framed as in training."""

    x: float  # centre
    y: float
    side: float
    angle: float = 0.0  # degrees by which the eye line is turned clockwise, as seen
    begins: bool = True  # sure enough to begin a track

    def overlap(self, other: Face) -> float:
        """Intersection over union of the two upright squares, 0-1."""
        reach = (self.side + other.side) / 2
        width = min(reach - abs(self.x - other.x), self.side, other.side)
        height = min(reach - abs(self.y - other.y), self.side, other.side)
        if width <= 0 or height <= 0:
            return 0.0
        return width * height / (self.side**2 + other.side**2 - width * height)


class Detector(Protocol):
    """``(h, w, 3)`` RGB to the faces in it."""

    name: str

    def __call__(self, frame: NDArray[np.uint8]) -> list[Face]: ...


class CenterFaceDetector:
    """CenterFace (Xu, Yan, Yang & Cai, "CenterFace: Joint Face Detection and Alignment Using Face as Point",
    arXiv 1911.03599) through OpenCV: faces are the peaks of a map of a quarter of the picture's size.
    """

    name = "centerface"

    def __init__(self, file: Path) -> None:
        import cv2

        with _quiet_opencv():
            try:
                self._net: Any = cv2.dnn.readNetFromONNX(str(file))
            except cv2.error as error:
                raise SetupError(f"{file} does not load in OpenCV {cv2.__version__}: {error}") from error

    def __call__(self, frame: NDArray[np.uint8]) -> list[Face]:
        import cv2

        canvas, zoom = _letterbox(frame, CENTERFACE_PX, stride=32)
        blob = cv2.dnn.blobFromImage(canvas, 1.0, canvas.shape[1::-1], (0, 0, 0), swapRB=False)
        with _quiet_opencv():
            self._net.setInput(blob)
            heat, scale, offset, landmarks = (
                part[0] for part in self._net.forward(["537", "538", "539", "540"])
            )
        rows, columns = np.nonzero(heat[0] >= CENTERFACE_GO_ON)  # (n,)
        scores = heat[0, rows, columns]
        size = np.exp(scale[:, rows, columns]) * 4  # (2, n) height, width
        middle = (np.stack([rows, columns]) + offset[:, rows, columns] + 0.5) * 4  # (2, n) y, x
        corner = middle - size / 2
        boxes = np.stack([corner[1], corner[0], size[1], size[0]], axis=1)  # (n, 4)
        kept = cv2.dnn.NMSBoxes(boxes.tolist(), scores.tolist(), CENTERFACE_GO_ON, MAX_SHARED)
        faces = []
        for i in np.asarray(kept, np.intp).ravel():
            # Five pairs (y, x), as shares of the box from its corner.
            points = landmarks[:, rows[i], columns[i]].reshape(5, 2).astype(np.float64)
            points = points[:, ::-1] * size[::-1, i] + corner[::-1, i]
            faces.append(
                _framed(
                    float(middle[1, i]) / zoom,
                    float(middle[0, i]) / zoom,
                    float(size[0, i]) / zoom,
                    CENTERFACE_BOX,
                    _tilt(points),
                    begins=bool(scores[i] >= CENTERFACE_BEGIN),
                )
            )
        return faces


class YuNetDetector:
    """YuNet (Wu, Peng & Yu, Machine Intelligence Research 2023) through OpenCV, with five landmarks."""

    name = "yunet"

    def __init__(self, file: Path) -> None:
        import cv2

        with _quiet_opencv():  # OpenCV 5 warns of a target that it ignores and then works
            try:
                self._net: Any = cv2.FaceDetectorYN.create(
                    str(file), "", (YUNET_PX, YUNET_PX), YUNET_GO_ON, MAX_SHARED, 200
                )
            except cv2.error as error:
                raise SetupError(
                    f"{file} does not load as YuNet. Take the export with a fixed 320 x 320 input "
                    "(yunet_n_320_320.onnx), or use the detector centerface."
                ) from error

    def __call__(self, frame: NDArray[np.uint8]) -> list[Face]:
        canvas, zoom = _letterbox(frame, YUNET_PX, stride=YUNET_PX)
        _, rows = self._net.detect(canvas[:, :, ::-1])
        faces = []
        for row in [] if rows is None else rows.astype(np.float64):
            left, top, box_width, box_height = (float(value) for value in row[:4] / zoom)
            faces.append(
                _framed(
                    left + box_width / 2,
                    top + box_height / 2,
                    box_height,
                    YUNET_BOX,
                    _tilt(row[4:14].reshape(5, 2)),
                    begins=bool(row[14] >= YUNET_BEGIN),
                )
            )
        return faces


def _framed(
    x: float, y: float, height: float, box: tuple[float, float], angle: float, *, begins: bool
) -> Face:
    """The square of a detector's box: from its height, which stays the same when a head turns."""
    up, sides = box
    return Face(x, y - up * height, sides * height, angle if abs(angle) <= MAX_TILT else 0.0, begins)


def _letterbox(frame: NDArray[np.uint8], px: int, stride: int) -> tuple[NDArray[np.uint8], float]:
    """The frame with its longer side at ``px``, on black to multiples of ``stride``; its zoom."""
    import cv2

    height, width = frame.shape[:2]
    zoom = px / max(height, width)
    size = (max(1, round(width * zoom)), max(1, round(height * zoom)))
    canvas = np.zeros((-(-size[1] // stride) * stride, -(-size[0] // stride) * stride, 3), np.uint8)
    kind = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
    canvas[: size[1], : size[0]] = cv2.resize(frame, size, interpolation=kind)
    return canvas, zoom


@contextmanager
def _quiet_opencv() -> Iterator[None]:
    """Only errors: OpenCV warns of layers whose sizes differ by one, which it cuts to fit."""
    import cv2

    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)


def _tilt(points: NDArray[np.float64]) -> float:
    """Degrees by which a face is turned clockwise, as seen.

    From the line of the eyes and the one from eyes to mouth together: in faces of few
    pixels each alone comes out too upright, and in profile the eyes coincide.

    Args:
        points: ``(5, 2)``: the two eyes as seen from left to right, nose, the mouth's corners.
    """
    eyes = points[1] - points[0]
    down = points[3:].mean(0) - points[:2].mean(0)
    return math.degrees(math.atan2(eyes[1] - down[0], eyes[0] + down[1]))


def _yunet(settings: FaceSettings) -> Detector:
    if settings.yunet_file is None or not settings.yunet_file.is_file():
        where = "no file was given" if settings.yunet_file is None else f"{settings.yunet_file} is no file"
        raise SetupError(
            f"The face detector yunet needs its ONNX file and {where}. "
            "Name it in $ANNOTATE_YUNET, or use the detector centerface."
        )
    return YuNetDetector(settings.yunet_file)


def _centerface(settings: FaceSettings) -> Detector:
    return CenterFaceDetector(CENTERFACE.verified())


def _auto(settings: FaceSettings) -> Detector:
    has_file = settings.yunet_file is not None and settings.yunet_file.is_file()
    return (_yunet if has_file else _centerface)(settings)


DETECTORS: dict[str, Callable[[FaceSettings], Detector]] = {
    "auto": _auto,
    "yunet": _yunet,
    "centerface": _centerface,
}


def missing(name: str, yunet_file: Path | None) -> str | None:
    """What the face detector ``yunet`` or ``centerface`` lacks, with the remedy; None if nothing."""
    if name == "centerface":
        if CENTERFACE.find() is None:
            return f"its file {CENTERFACE.path} is missing. {CENTERFACE.remedy}"
        return None
    if yunet_file is None:
        return "run `annotate download yunet`, or name its .onnx file in ANNOTATE_YUNET"
    return None if yunet_file.is_file() else f"ANNOTATE_YUNET names {yunet_file}, and that is no file"


def make_detector(settings: FaceSettings) -> Detector:
    """The detector that the settings name.

    Raises:
        UsageError: an unknown name.
        SetupError: its file is missing, has another content or does not load.
    """
    if settings.detector not in DETECTORS:
        raise UsageError(f"No face detector {settings.detector!r}: choose from {', '.join(DETECTORS)}.")
    return DETECTORS[settings.detector](settings)
