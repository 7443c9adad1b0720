"""Join face tracks into persons by how they look."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

SMALL = 12  # side of the averaged face, pixels: fine enough for a face's plan, coarse enough for its moves
FACE_SHARE = 0.5  # of the distance that is the face; the rest is hair, clothes and background
# Joined below this mean distance. The same person in the same framing lies at 0.05, over 20 s
# of a lively face at 0.15; of 4,950 pairs of different people (LFW) 5% have faces nearer than
# 0.27, which in equal surroundings makes 0.18. Two persons taken for one do more harm than
# one taken for two.
SAME_PERSON = 0.2
MAX_CLUSTERED = 1000  # tracks: the distances of more would not fit; the shorter ones join their nearest
BLOCK = 4096  # observations at a time


def mean_faces(tracks: NDArray[np.int32], crops: NDArray[np.uint8], n: int) -> NDArray[np.float32]:
    """Average standardised face of each track ``(n, 144)``, unit length, at 12 x 12 pixels.

    Args:
        tracks: ``(k,)`` indices below ``n``.
        crops: ``(k, 48, 48)``.
    """
    total = np.zeros((n, SMALL * SMALL), np.float32)
    for start in range(0, len(crops), BLOCK):
        block = crops[start : start + BLOCK]
        fold = block.shape[1] // SMALL
        x = block.reshape(len(block), SMALL, fold, SMALL, fold).mean((2, 4), dtype=np.float32)
        x = x.reshape(len(block), -1)
        x -= x.mean(1, keepdims=True)
        x /= np.maximum(x.std(1, keepdims=True), 1.0)
        np.add.at(total, tracks[start : start + BLOCK], x)
    unit: NDArray[np.float32] = total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-6)
    return unit


def look_distances(
    faces: NDArray[np.float32],
    colours: NDArray[np.float32],
    others_faces: NDArray[np.float32],
    others_colours: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Distances ``(n, m)``, 0 alike to about 1: correlation distance of faces, Hellinger distance of colours.

    Args:
        faces: ``(n, 144)`` unit vectors. colours: ``(n, 64)`` square roots of shares.
    """
    face = np.clip(1 - faces @ others_faces.T, 0, 1)
    colour = np.sqrt(np.clip(1 - colours @ others_colours.T, 0, 1))
    distances: NDArray[np.float32] = FACE_SHARE * face + (1 - FACE_SHARE) * colour
    return distances.astype(np.float32)


def cluster(distances: NDArray[np.float32], apart: NDArray[np.bool_], bound: float) -> NDArray[np.int64]:
    """Average-link clustering that never joins what must stay apart.

    Sokal & Michener's group average (1958); a pair of clusters stays apart as soon as any
    two of their members must.

    Args:
        distances: ``(n, n)`` symmetric. apart: ``(n, n)`` symmetric.
        bound: the mean distance below which clusters are joined.

    Returns: ``(n,)`` cluster of each, any numbers.
    """
    n = len(distances)
    d = np.where(apart, np.inf, distances).astype(np.float64)
    np.fill_diagonal(d, np.inf)
    sizes = np.ones(n)
    cluster_of = np.arange(n)
    while n > 1:
        i, j = divmod(int(d.argmin()), len(d))
        if not d[i, j] < bound:
            break
        merged = (sizes[i] * d[i] + sizes[j] * d[j]) / (sizes[i] + sizes[j])
        d[i], d[:, i] = merged, merged
        d[j], d[:, j] = np.inf, np.inf
        d[i, i] = np.inf
        sizes[i] += sizes[j]
        cluster_of[cluster_of == j] = i
        n -= 1
    return cluster_of


def join_tracks(
    times: NDArray[np.float64],
    tracks: NDArray[np.int32],
    crops: NDArray[np.uint8],
    colours: Mapping[int, NDArray[np.float32]],
) -> NDArray[np.int32]:
    """Person of each observation ``(k,)``, numbered from 0 in order of appearance.

    Two tracks seen in the same frame are two persons. The longest 1000 tracks are
    clustered; each further one joins the nearest of these persons, or is its own.

    Args:
        times, tracks: ``(k,)``, sorted by time. crops: ``(k, 48, 48)``.
        colours: of each track, the sum of its histograms ``(64,)``.
    """
    if len(tracks) == 0:
        return np.zeros(0, np.int32)
    names, index, counts = np.unique(tracks, return_inverse=True, return_counts=True)
    n = len(names)
    faces = mean_faces(index.astype(np.int32), crops, n)
    shares = np.stack([colours[int(name)] for name in names])
    shares = np.sqrt(shares / np.maximum(shares.sum(1, keepdims=True), 1e-6))
    together = _seen_together(times, index, n)

    longest = np.sort(np.argsort(-counts, kind="stable")[:MAX_CLUSTERED])
    apart = np.zeros((len(longest), len(longest)), np.bool_)
    place = np.full(n, -1)
    place[longest] = np.arange(len(longest))
    for a, b in together:
        if place[a] >= 0 and place[b] >= 0:
            apart[place[a], place[b]] = apart[place[b], place[a]] = True
    distances = look_distances(faces[longest], shares[longest], faces[longest], shares[longest])
    person_of = np.full(n, -1)
    person_of[longest] = longest[cluster(distances, apart, SAME_PERSON)]

    rivals: dict[int, set[int]] = {}
    for a, b in together:
        rivals.setdefault(a, set()).add(b)
        rivals.setdefault(b, set()).add(a)
    for track in np.flatnonzero(person_of < 0):
        near = look_distances(faces[track, None], shares[track, None], faces[longest], shares[longest])[0]
        others = {int(person_of[rival]) for rival in rivals.get(int(track), ())}
        free = [
            place for place in np.argsort(near, kind="stable") if int(person_of[longest[place]]) not in others
        ]
        joins = bool(free) and near[free[0]] < SAME_PERSON
        person_of[track] = person_of[longest[free[0]]] if joins else track
    by_observation = person_of[index]
    _, first, inverse = np.unique(by_observation, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int32)
    rank[np.argsort(first)] = np.arange(len(first), dtype=np.int32)
    return rank[inverse].astype(np.int32)


def _seen_together(times: NDArray[np.float64], index: NDArray[np.intp], n: int) -> set[tuple[int, int]]:
    """Pairs (a < b) of tracks with an observation at the same time."""
    pairs: set[tuple[int, int]] = set()
    starts = np.flatnonzero(np.r_[True, times[1:] != times[:-1]])
    for start, stop in zip(starts, np.r_[starts[1:], len(times)], strict=True):
        if stop - start > 1:
            present = sorted({int(track) for track in index[start:stop]})
            pairs.update((a, b) for i, a in enumerate(present) for b in present[i + 1 :])
    return pairs
