"""Face detectors behind one form: squares framed as the face network saw them in training.

Where each detector's box lies on a picture framed like FER2013's (48 x 48, brow to chin
with some margin) was measured on its training pictures, put at random sizes on a larger
canvas: the medians over 907 faces (YuNet) and 374 (HOG) are the constants below.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from annotator.records import SetupError, UsageError

YUNET_PX = 320  # side of the picture that the network takes; other sizes need another export
MAX_WIDTH_PX = 960  # wider frames cost time and show no more faces
MAX_TILT = 40.0  # degrees; beyond it the landmarks are wrong more often than the head is
HOG_ZOOM = 1.5  # dlib's window is 80 px: zoomed, faces from about 60 px up are found

# Detections that may begin a track, and those that may only go on with one: a face that
# turns away scores lower, and what lies where a face was a moment ago is likely the same.
YUNET_BEGIN, YUNET_GO_ON = 0.7, 0.4  # score, 0-1
HOG_BEGIN, HOG_GO_ON = 0.2, -0.3  # distance from the hyperplane: faces 1.3 to 2, folds of cloth up to 0.1


@dataclass(frozen=True)
class FaceSettings:
    """How faces are looked for."""

    detector: Literal["auto", "yunet", "hog"] = "auto"
    yunet_file: Path | None = None  # ONNX with a fixed 320 x 320 input
    detect_every: int | None = None  # frames from one detection to the next; None: as suits the detector
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
    every: int  # frames from one detection to the next that suit its speed

    def __call__(self, frame: NDArray[np.uint8]) -> list[Face]: ...


class HogDetector:
    """dlib's frontal face detector (Dalal & Triggs, CVPR 2005; King, arXiv 1502.00046): no weights file."""

    name = "hog"
    every = 4

    def __init__(self) -> None:
        import dlib

        self._detect: Any = dlib.get_frontal_face_detector()

    def __call__(self, frame: NDArray[np.uint8]) -> list[Face]:
        import cv2

        zoom = HOG_ZOOM * min(1.0, MAX_WIDTH_PX / frame.shape[1])
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        kind = cv2.INTER_LINEAR if zoom > 1 else cv2.INTER_AREA
        grey = cv2.resize(grey, None, fx=zoom, fy=zoom, interpolation=kind)
        boxes, scores, _ = self._detect.run(grey, 0, HOG_GO_ON)
        faces = []
        for box, score in zip(boxes, scores, strict=True):
            side = box.width() / 0.857 / zoom
            x = (box.left() + box.right() + 1) / 2 / zoom
            y = (box.top() + box.bottom() + 1) / 2 / zoom - 0.06 * side  # the box sits low: chin, no brow
            faces.append(Face(x, y, side, begins=score >= HOG_BEGIN))
        return faces


class YuNetDetector:
    """YuNet (Wu, Peng & Yu, Machine Intelligence Research 2023) through OpenCV, with five landmarks."""

    name = "yunet"
    every = 2

    def __init__(self, file: Path) -> None:
        import cv2

        level = cv2.utils.logging.getLogLevel()
        # OpenCV 5 warns of a target that it ignores and then works.
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
        try:
            self._net: Any = cv2.FaceDetectorYN.create(
                str(file), "", (YUNET_PX, YUNET_PX), YUNET_GO_ON, 0.3, 200
            )
        except cv2.error as error:
            raise SetupError(
                f"{file} does not load as YuNet. Take the export with a fixed 320 x 320 input "
                "(yunet_n_320_320.onnx), or use the detector hog."
            ) from error
        finally:
            cv2.utils.logging.setLogLevel(level)

    def __call__(self, frame: NDArray[np.uint8]) -> list[Face]:
        import cv2

        height, width = frame.shape[:2]
        zoom = YUNET_PX / max(height, width)
        size = (max(1, round(width * zoom)), max(1, round(height * zoom)))
        kind = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
        canvas = np.zeros((YUNET_PX, YUNET_PX, 3), np.uint8)
        canvas[: size[1], : size[0]] = cv2.resize(frame, size, interpolation=kind)[:, :, ::-1]
        _, rows = self._net.detect(canvas)
        faces = []
        for row in [] if rows is None else rows.astype(np.float64):
            left, top, box_width, box_height = (float(value) for value in row[:4] / zoom)
            angle = _tilt(row[4:14].reshape(5, 2))
            # Box height, not width: it stays the same when a head turns.
            faces.append(
                Face(
                    left + box_width / 2,
                    top + box_height / 2 - 0.01 * box_height,
                    box_height * 1.004,
                    angle if abs(angle) <= MAX_TILT else 0.0,
                    begins=bool(row[14] >= YUNET_BEGIN),
                )
            )
        return faces


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
            "Name it in $ANNOTATE_YUNET, or use the detector hog, which needs none."
        )
    return YuNetDetector(settings.yunet_file)


def _auto(settings: FaceSettings) -> Detector:
    has_file = settings.yunet_file is not None and settings.yunet_file.is_file()
    return _yunet(settings) if has_file else HogDetector()


DETECTORS: dict[str, Callable[[FaceSettings], Detector]] = {
    "auto": _auto,
    "yunet": _yunet,
    "hog": lambda settings: HogDetector(),
}


def make_detector(settings: FaceSettings) -> Detector:
    """The detector that the settings name.

    Raises:
        UsageError: an unknown name.
        SetupError: its file is missing or does not load.
    """
    if settings.detector not in DETECTORS:
        raise UsageError(f"No face detector {settings.detector!r}: choose from {', '.join(DETECTORS)}.")
    return DETECTORS[settings.detector](settings)
