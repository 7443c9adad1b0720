"""Two people for the TV-like example clip: a public-domain portrait that speaks, and one drawn from it.

The portrait is NASA's official photograph of the astronaut Eileen Collins, in the public domain, as
scikit-image ships it. The second person is the same picture mirrored, with another build, hair, skin, beard
and glasses. Nothing that they say or feel in the clip is hers: the scene is made up.
Places are in pixels of the portrait (512 x 512), x to the right and y down.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.data import astronaut

DETAIL = 3  # pictures are kept this many times larger than the portrait, so that close shots stay smooth
SIDE = 512  # pixels
MOUTH, FRAME = (52, 22, 24), (28, 24, 24)  # colours of an open mouth and of the glasses
Picture = NDArray[np.float32]  # (h, w, 3) RGB 0-255, or (h, w) a mask 0-1
Places = NDArray[np.float32]  # (h, w) one coordinate for each pixel

# Outlines by eye, for the portrait's own left and right.
PERSON = (
    ((150, 40), (200, 10), (250, 12), (305, 55), (306, 95), (285, 135), (262, 160), (262, 172), (300, 205))
    + (
        (308, 250),
        (350, 285),
        (365, 350),
        (370, 511),
        (15, 511),
        (25, 330),
        (60, 250),
        (112, 215),
        (112, 180),
    )
    + ((140, 150), (185, 145), (172, 120), (150, 95))
)
SURELY_PERSON = (
    ((175, 50), (215, 30), (270, 45), (285, 80), (265, 115), (255, 150), (250, 175), (280, 215), (285, 255))
    + ((330, 290), (345, 350), (300, 400), (280, 511), (60, 511), (45, 420), (50, 330), (85, 260), (135, 240))
    + ((130, 200), (160, 165), (195, 172), (190, 140), (180, 110), (172, 90))
)
HAIR = (
    ((148, 60), (170, 25), (215, 10), (260, 12), (296, 45), (306, 90), (290, 115), (274, 132), (271, 118))
    + ((268, 92), (262, 88), (245, 83), (226, 80), (205, 81), (192, 76), (186, 84), (182, 97), (181, 116))
    + ((170, 118), (150, 100))
)
BEARD = (
    (180, 118),
    (186, 128),
    (196, 142),
    (203, 135),
    (213, 132),
    (224, 134),
    (236, 132),
    (246, 136),
    (252, 142),
) + (
    (260, 132),
    (268, 122),
    (266, 150),
    (256, 168),
    (240, 180),
    (222, 182),
    (204, 177),
    (190, 165),
    (182, 145),
)


@dataclass(frozen=True)
class Pose:
    """What a face does in one frame. Lengths in pixels of the portrait; zero is the portrait as it is."""

    mouth: float = 0.0  # how far the jaw is down; -6 closes the lips of the portrait's smile
    smile: float = 0.0  # corners of the mouth, up
    inner_brows: float = 0.0  # up
    outer_brows: float = 0.0  # up
    eyelids: float = 0.0  # 0 as in the portrait to 1 closed


@dataclass(frozen=True)
class Person:
    """A cut-out picture and where its face is."""

    picture: Picture  # (DETAIL * 512, DETAIL * 512, 3)
    mask: Picture  # (DETAIL * 512, DETAIL * 512)
    glasses: (
        Picture  # (DETAIL * 512, DETAIL * 512), how much of them covers what: they don't move with the brows
    )
    mirrored: bool
    mouth_width: float  # from the middle to a corner

    def mirror(self, x: float) -> float:
        """Where a column of the portrait is in this picture."""
        return SIDE - 1 - x if self.mirrored else x


def portrait() -> Person:
    """The photograph, cut out of its background."""
    small = astronaut()
    labels = np.full(small.shape[:2], cv2.GC_BGD, np.uint8)
    cv2.fillPoly(labels, [np.array(PERSON)], cv2.GC_PR_FGD)
    cv2.fillPoly(labels, [np.array(SURELY_PERSON)], cv2.GC_FGD)
    cv2.setRNGSeed(1)
    cv2.grabCut(small, labels, None, np.zeros((1, 65)), np.zeros((1, 65)), 6, cv2.GC_INIT_WITH_MASK)
    person = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.float32)
    soft = np.clip(cv2.GaussianBlur(person, (0, 0), 1.2) * 1.6 - 0.6, 0, 1)  # inside the edge: no fringe
    cut = _enlarge(soft)
    return Person(_enlarge(small.astype(np.float32)), cut, np.zeros_like(cut), mirrored=False, mouth_width=20)


def stranger(model: Person) -> Person:
    """Somebody else: a bearded, broader man with dark hair, glasses and a blue suit."""
    picture = model.picture.copy()
    hue, saturation, value = cv2.split(cv2.cvtColor(picture / 255, cv2.COLOR_RGB2HSV))
    suit = np.clip((saturation - 0.4) * 6, 0, 1) * (np.arange(len(hue))[:, None] > 190 * DETAIL)
    blue = np.stack([value * 0.22, value * 0.36, value * 0.62], axis=-1) * 255
    picture += (blue - picture) * suit[..., None]

    hair, beard = _area(HAIR, 2.5), _area(BEARD, 2.5)
    grey = picture.mean(axis=-1, keepdims=True)
    picture += (grey * np.array([0.30, 0.25, 0.22]) - picture) * (hair * 0.95)[..., None]
    head = np.zeros_like(hair)
    head[: 185 * DETAIL] = 1
    skin = head * (1 - hair) * model.mask
    picture *= 1 - skin[..., None] * (1 - np.array([0.80, 0.70, 0.62]))
    stubble = cv2.GaussianBlur(np.random.default_rng(5).standard_normal(beard.shape), (0, 0), 1.2)
    beard *= np.clip(0.72 + 0.5 * stubble, 0, 1)
    lips = _oval(225, 146, 23, 9)
    beard *= 1 - cv2.GaussianBlur(lips, (0, 0), DETAIL)
    picture += (grey * np.array([0.32, 0.26, 0.23]) - picture) * beard[..., None]
    for brow_x, brow_y in ((203, 90), (251, 93)):  # heavier brows
        picture *= 1 - 0.65 * cv2.GaussianBlur(_oval(brow_x, brow_y, 13, 2.6), (0, 0), DETAIL)[..., None]
    glasses = np.maximum(_oval(202, 103, 17, 13, rim=1.2), _oval(249, 105, 17, 13, rim=1.2))
    for bridge_or_arm in (((219, 101), (232, 102)), ((185, 100), (176, 97)), ((266, 102), (272, 100))):
        begin, end = (np.array(place) * DETAIL for place in bridge_or_arm)
        cv2.line(glasses, begin, end, (1.0,), round(1.2 * DETAIL), cv2.LINE_AA)

    # Another build: a broader jaw, flatter hair at the sides. Each pixel says where it comes from.
    x, y = _grid()
    jaw = np.exp(-(((y - 158) / 30) ** 2) - ((x - 224) / 48) ** 2)
    sides = np.exp(-(((y - 82) / 38) ** 2)) * np.clip((np.abs(x - 227) - 42) / 20, 0, 1)
    shift = 0.13 * (224 - x) * jaw + 0.30 * (x - 227) * sides
    taller = 0.07 * (y - 100) * np.exp(-(((y - 100) / 70) ** 2)) * np.exp(-(((x - 224) / 80) ** 2))
    picture, mask, glasses = (
        np.ascontiguousarray(
            cv2.remap(layer, (x + shift) * DETAIL, (y - taller) * DETAIL, cv2.INTER_LINEAR)[:, ::-1]
        )
        for layer in (picture.astype(np.float32), model.mask, glasses)
    )
    return Person(picture, mask, glasses, mirrored=True, mouth_width=22.5)


def render(person: Person, pose: Pose, x: Places, y: Places) -> tuple[Picture, Picture]:
    """The posed person at places ``x``, ``y`` (h, w): colours (h, w, 3) and mask (h, w, 1)."""
    from_x, from_y, inside = pull(person, pose, x, y)
    posed = (from_x * DETAIL, from_y * DETAIL, cv2.INTER_LINEAR)
    colours = cv2.remap(person.picture, *posed)
    colours += (np.array(MOUTH, np.float32) - colours) * inside[..., None]
    worn = cv2.remap(person.glasses, x * DETAIL, y * DETAIL, cv2.INTER_LINEAR)
    colours += (np.array(FRAME, np.float32) - colours) * worn[..., None]
    return colours, cv2.remap(person.mask, *posed)[..., None]


def pull(person: Person, pose: Pose, x: Places, y: Places) -> tuple[Places, Places, Picture]:
    """Where each place of the posed face comes from in the picture, and whether it is open mouth (0-1)."""
    from_x, from_y = x.copy(), y.copy()

    def nudge(at_x: float, at_y: float, up: float, width: float, height: float) -> None:
        away = ((x - person.mirror(at_x)) / width) ** 2 + ((y - at_y) / height) ** 2
        from_y[...] += up * np.exp(-away)

    for corner_x in (203, 246):
        nudge(corner_x, 141, pose.smile, 11, 11)
    for brow_x, brow_y, up in (
        (194, 90, pose.outer_brows),
        (213, 90, pose.inner_brows),
        (238, 90, pose.inner_brows),
        (258, 92, pose.outer_brows),
    ):
        nudge(brow_x, brow_y, up, 10, 8)

    # The jaw. Below the line between the lips everything moves down (or up, which hides the teeth).
    y = from_y.copy()  # the mouth opens along its line as the smile has bent it
    corner = (x - person.mirror(224)) / person.mouth_width  # -1 and 1 at the corners of the mouth
    arch = np.clip(1 - corner**2, 0, 1)
    teeth, upper_lip = 142 + 7 * arch, 141 + 2.5 * arch
    line = teeth if pose.mouth > 0 else upper_lip
    drop = pose.mouth * np.clip(1 - (corner / 1.35) ** 2, 0, 1) ** 1.5  # zero beyond the cheeks
    below = np.clip((y - line - np.maximum(drop, 0)) / 1.2 + 1, 0, 1)  # feathered by about a pixel
    fading = np.clip((196 - y) / 46, 0, 1)  # from the chin to the collar
    from_y -= drop * below * fading
    inside = np.clip((y - line) / 1.2, 0, 1) * np.clip((line + drop - y) / 1.2, 0, 1) * (arch > 0.02)

    for eye_x, eye_y in ((203, 101), (248, 103)):  # the upper lid's skin, stretched down over the eye
        aside = ((x - person.mirror(eye_x)) / 13) ** 2
        lid = np.clip(y - (eye_y - 7), 0, None) * np.clip(eye_y + 4.5 - 6 * aside - y, 0, 1)
        from_y -= 0.85 * pose.eyelids * np.clip((1 - aside) * 2, 0, 1) * lid
    return from_x, from_y, inside.astype(np.float32)


def _grid() -> tuple[Places, Places]:
    """Coordinates in the portrait of each pixel of a detailed picture."""
    y, x = np.mgrid[: SIDE * DETAIL, : SIDE * DETAIL].astype(np.float32) / DETAIL
    return x, y


def _enlarge(picture: Picture) -> Picture:
    size = (SIDE * DETAIL, SIDE * DETAIL)
    larger: Picture = cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC)
    return np.clip(larger, 0, 255)


def _area(outline: tuple[tuple[int, int], ...], feather: float) -> Picture:
    """A mask with a soft edge; ``feather`` in pixels of the portrait."""
    mask = np.zeros((SIDE * DETAIL, SIDE * DETAIL), np.float32)
    cv2.fillPoly(mask, [np.array(outline) * DETAIL], (1.0,), cv2.LINE_AA)
    soft: Picture = cv2.GaussianBlur(mask, (0, 0), feather * DETAIL)
    return soft


def _oval(x: float, y: float, width: float, height: float, rim: float | None = None) -> Picture:
    """A mask of an ellipse by its half axes, filled or with a rim so wide; in pixels of the portrait."""
    mask = np.zeros((SIDE * DETAIL, SIDE * DETAIL), np.float32)
    centre, axes = (round(x * DETAIL), round(y * DETAIL)), (round(width * DETAIL), round(height * DETAIL))
    thickness = -1 if rim is None else round(rim * DETAIL)
    cv2.ellipse(mask, centre, axes, 0, 0, 360, (1.0,), thickness, cv2.LINE_AA)
    return mask
