"""What is taken from a frame: the crop of a face, and the colours around it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .detect import Face

CROP_PX = 48  # side of a crop, as the face network takes it
COLOURS = 64  # bins of a colour histogram, 4 a channel
THUMBNAIL = (64, 36)  # width, height at which frames are compared


def face_crop(frame: NDArray[np.uint8], face: Face) -> NDArray[np.uint8]:
    """The face as a grey ``(48, 48)`` picture with its eyes level.

    Beyond the frame's edge the edge pixels go on. Large faces are averaged down, since
    picking every n-th pixel would turn skin into noise.
    """
    import cv2

    fold = min(8, max(1, math.ceil(face.side / CROP_PX)))
    side = CROP_PX * fold
    zoom = side / face.side
    matrix = cv2.getRotationMatrix2D((face.x, face.y), face.angle, zoom)
    matrix[:, 2] += side / 2 - 0.5 - np.array([face.x, face.y])
    crop = cv2.warpAffine(
        frame, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    crop = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    small: NDArray[np.uint8] = cv2.resize(crop, (CROP_PX, CROP_PX), interpolation=cv2.INTER_AREA)
    return small


def thumbnail(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The frame at ``(36, 64, 3)``."""
    import cv2

    small: NDArray[np.uint8] = cv2.resize(frame, THUMBNAIL, interpolation=cv2.INTER_AREA)
    return small


def colour_histogram(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Shares ``(64,)`` of RGB colours in ``(..., 3)`` pixels, 4 steps a channel."""
    steps = (pixels.reshape(-1, 3) >> 6).astype(np.intp)
    bins = steps[:, 0] * 16 + steps[:, 1] * 4 + steps[:, 2]
    return (np.bincount(bins, minlength=COLOURS) / max(1, len(bins))).astype(np.float32)


def surroundings(frame: NDArray[np.uint8], face: Face) -> NDArray[np.float32]:
    """Colour histogram ``(64,)`` of hair, skin and clothes, two faces wide, down to the chest."""
    height, width = frame.shape[:2]
    left, right = (int(np.clip(face.x + share * face.side, 0, width)) for share in (-1, 1))
    top, bottom = (int(np.clip(face.y + share * face.side, 0, height)) for share in (-0.8, 1.5))
    step = max(1, int(face.side) // 24)
    return colour_histogram(frame[top:bottom:step, left:right:step])


def likeness(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Correlation of two grey pictures of one size, -1 to 1; 0 when one of them is flat."""
    x, y = a.astype(np.float32) - a.mean(), b.astype(np.float32) - b.mean()
    size = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return float((x * y).sum()) / size if size > 0 else 0.0
