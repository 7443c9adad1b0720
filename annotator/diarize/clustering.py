"""From embeddings of stretches of speech to speakers: how many voices, and which stretch is whose.

Each stretch is a vector of norm 1 without the directions in which one voice changes with its mood
(``VoiceSpace``). Where little is said, stretches are joined bottom-up. Else, for each number of speakers,
two clusterings (bottom-up and spectral) are the starts of a search for the path of voices that is nearest
to what was heard and changes voice seldom; the number is the one beyond which a further voice brings too
little. Nothing is remembered from one recording to the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

FEW_S = 60.0  # speech in seconds up to which stretches are only joined bottom-up
SAME_VOICE = 0.25  # mean cosine from which groups of few stretches are one voice
LEAST_FEW_S = 0.5  # a voice heard for less is taken for another's ...
LEAST_S = 6.0  # ... in longer recordings
LINKED = 1500  # stretches that are clustered, at most: memory and time grow with more than their number
LONG_S = 0.6  # shorter stretches don't found a voice
MOST = 10  # speakers that are looked for, if no bound asks for more
# Cosines from which all voices are moods of one: of the two least alike, and of stretches on average.
ONE_VOICE, ONE_VOICE_MEAN = 0.46, 0.40
COMMON = 0.9  # share of the recording's mean that is taken off: the room, and what voices have in common
NEIGHBOURS = 0.2  # share of the stretches that each is tied to in spectral clustering
NEARNESS = 8.0  # what a second of speech at cosine 1 is worth on a path
WORTH = 0.7  # gain that the k-th voice must bring, times k, a second of speech
ROUNDS = 5
# Chance that the voice stays the same after a pause of up to so many seconds.
STAYS = ((0.1, 0.9), (0.8, 0.6), (2.0, 0.4), (np.inf, 0.1))


@dataclass(frozen=True)
class VoiceSpace:
    """Directions of embeddings in which one voice changes with its mood, to be projected away.

    Nuisance attribute projection (Solomonoff et al., "Advances in channel compensation for SVM speaker
    recognition", ICASSP 2005). (192, 6), orthonormal columns.
    """

    moods: Floats

    @classmethod
    def load(cls, path: Path) -> VoiceSpace:
        from safetensors.numpy import load_file

        return cls(load_file(path)["moods"])

    def project(self, embeddings: Floats, common: NDArray[np.floating] | float = 0.0) -> Floats:
        """Rows of norm 1 without the moods, and before without ``common``. (n, 192) -> (n, 192)"""
        x = np.asarray(directions(embeddings) - common, np.float32)
        return directions(x - (x @ self.moods) @ self.moods.T)


@dataclass(frozen=True)
class Stretches:
    """What of a recording is told apart, in time order.

    Args:
        embeddings: (n, 192).
        seconds: of speech in each (n,).
        pauses: seconds from the end of the one before (n,); the first counts as infinite.
    """

    embeddings: Floats
    seconds: Floats
    pauses: Floats


def directions(x: NDArray[np.floating]) -> Floats:
    """Rows scaled to norm 1; rows of zeros stay."""
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    return np.asarray(x / np.maximum(norms, 1e-9), np.float32)


def cluster(heard: Stretches, space: VoiceSpace, least: int, most: int | None) -> Ints:
    """A speaker for each stretch.

    Args:
        least, most: bounds on the number of speakers; None means no upper bound.

    Returns: labels from 0 without gaps (n,). There are never more speakers than stretches.
    """
    n = len(heard.seconds)
    if n <= 1 or most == 1:
        return np.zeros(n, np.int64)
    plain = space.project(heard.embeddings)
    if heard.seconds.sum() < FEW_S:
        labels = _few(plain, heard.seconds, least, most)
    else:
        labels = _many(heard, space, plain, least, most)
    _, labels = np.unique(labels, return_inverse=True)
    return labels.astype(np.int64)


def centres(voices: Floats, seconds: Floats, labels: Ints) -> Floats:
    """Mean direction of each label 0, 1, ..., weighed by seconds. -> (speakers, d)"""
    count = int(labels.max()) + 1
    sums = np.zeros((count, voices.shape[1]), np.float32)
    np.add.at(sums, labels, voices * seconds[:, None])
    return directions(sums)


def _few(voices: Floats, seconds: Floats, least: int, most: int | None) -> Ints:
    tree = linkage(voices, "average", metric="cosine")
    labels = np.asarray(fcluster(tree, 1 - SAME_VOICE, "distance"), np.int64) - 1
    labels = _without_small(labels, voices, seconds, LEAST_FEW_S)
    count = len(np.unique(labels))
    if count < least or (most is not None and count > most):
        wanted = least if count < least else most
        labels = np.asarray(fcluster(tree, wanted, "maxclust"), np.int64) - 1
    return labels


def _without_small(labels: Ints, voices: Floats, seconds: Floats, least_s: float) -> Ints:
    """Stretches of voices heard for too short go to the nearest other voice."""
    _, labels = np.unique(labels, return_inverse=True)
    total = np.bincount(labels, seconds)
    kept = np.flatnonzero(total >= min(least_s, float(total.max())))
    if len(kept) == len(total):
        return labels.astype(np.int64)
    near = voices @ centres(voices, seconds, labels.astype(np.int64))[kept].T
    return np.where(np.isin(labels, kept), labels, kept[near.argmax(axis=1)]).astype(np.int64)


def _many(heard: Stretches, space: VoiceSpace, plain: Floats, least: int, most: int | None) -> Ints:
    seconds = heard.seconds
    mean = (directions(heard.embeddings) * seconds[:, None]).sum(axis=0) / seconds.sum()
    voices = space.project(heard.embeddings, COMMON * mean)
    picked = _founding(seconds)
    near = voices[picked] @ voices[picked].T
    tree = linkage(voices[picked], "average", metric="cosine")
    vectors = _spectrum(near, seconds[picked], max(MOST, least))
    found: dict[int, tuple[float, Ints]] = {}
    for count in range(2, max(2, min(len(picked), max(MOST, least))) + 1):
        starts = [
            np.asarray(fcluster(tree, count, "maxclust"), np.int64) - 1,
            _grouped(vectors[:, :count], seconds[picked]),
        ]
        paths = [_refined(voices, heard, _spread(start, picked, voices, seconds)) for start in starts]
        value, path = max(paths, key=lambda pair: pair[0])
        found[count] = value / float(seconds.sum()) - WORTH * sum(1 / k for k in range(1, count + 1)), path
    if least == 1:
        # With the mean taken off, one voice falls apart into its moods; with it they are alike.
        _, free = max(found.values(), key=lambda pair: pair[0])
        means = centres(plain, seconds, free)
        if float((means @ means.T).min()) > ONE_VOICE and _likeness(plain) > ONE_VOICE_MEAN:
            return np.zeros(len(seconds), np.int64)
    allowed = [pair for count, pair in found.items() if least <= count <= (most or count)]
    labels = max(allowed, key=lambda pair: pair[0])[1] if allowed else np.zeros(len(seconds), np.int64)
    if len(np.unique(labels)) < least:
        labels = _spread(np.asarray(fcluster(tree, least, "maxclust")) - 1, picked, voices, seconds)
    return labels


def _likeness(voices: Floats) -> float:
    """Mean cosine of two different rows."""
    n = len(voices)
    return float((voices.sum(axis=0, dtype=np.float64) ** 2).sum() - n) / (n * (n - 1))


def _founding(seconds: Floats) -> Ints:
    """Indices of the stretches that are clustered: long ones, evenly picked where they are too many."""
    long = np.flatnonzero(seconds >= LONG_S)
    if len(long) < 2:
        long = np.arange(len(seconds))
    spread = np.linspace(0, len(long) - 1, min(LINKED, len(long))).round().astype(np.int64)
    return np.asarray(long[np.unique(spread)], np.int64)


def _spread(start: Ints, picked: Ints, voices: Floats, seconds: Floats) -> Ints:
    """Labels of all stretches from those of some: each of the others goes to the nearest voice."""
    _, start = np.unique(start, return_inverse=True)
    near = voices @ centres(voices[picked], seconds[picked], start.astype(np.int64)).T
    labels: Ints = near.argmax(axis=1).astype(np.int64)
    labels[picked] = start
    return labels


def _spectrum(near: Floats, seconds: Floats, most: int) -> NDArray[np.float64]:
    """Eigenvectors of the normalised Laplacian of the graph of nearest stretches. -> (n, most)"""
    n = len(near)
    tied = np.zeros((n, n))
    neighbours = np.argsort(-near, axis=1, kind="stable")[:, : max(4, round(NEIGHBOURS * n))]
    np.put_along_axis(tied, neighbours, 1.0, axis=1)
    tied = (tied + tied.T) / 2 * np.sqrt(np.outer(seconds, seconds))
    np.fill_diagonal(tied, 0.0)
    scale = 1 / np.sqrt(tied.sum(axis=1))
    _, vectors = np.linalg.eigh(np.eye(n) - tied * np.outer(scale, scale))
    return np.asarray(vectors[:, :most])


def _grouped(vectors: NDArray[np.float64], seconds: Floats) -> Ints:
    """k-means by cosine, k the number of columns; it starts at the longest stretch and those far from it."""
    points = directions(vectors.astype(np.float32))
    chosen = [int(seconds.argmax())]
    for _ in range(vectors.shape[1] - 1):
        chosen.append(int((points @ points[chosen].T).max(axis=1).argmin()))
    means = points[chosen]
    labels = np.zeros(len(points), np.int64)
    for _ in range(30):
        labels = (points @ means.T).argmax(axis=1).astype(np.int64)
        for k in range(len(means)):
            mine = labels == k
            if mine.any():
                means[k] = directions((points[mine] * seconds[mine, None]).sum(axis=0, keepdims=True))[0]
    return labels


def _refined(voices: Floats, heard: Stretches, labels: Ints) -> tuple[float, Ints]:
    """The best path of voices and the voices of the path, in turn. -> what it is worth, labels (n,)"""
    seconds = heard.seconds
    limits, chances = (np.array(column) for column in zip(*STAYS, strict=True))
    stay = chances[np.searchsorted(limits, heard.pauses, side="right").clip(max=len(limits) - 1)]
    for _ in range(ROUNDS):
        labels = _without_small(labels, voices, seconds, LEAST_S)
        _, labels = np.unique(labels, return_inverse=True)
        labels = labels.astype(np.int64)
        near = NEARNESS * np.minimum(seconds, 3.0)[:, None] * (voices @ centres(voices, seconds, labels).T)
        labels = best_path(near, stay)
    _, labels = np.unique(labels, return_inverse=True)
    labels = labels.astype(np.int64)
    own = (voices * centres(voices, seconds, labels)[labels]).sum(axis=1)
    same = labels[1:] == labels[:-1]
    others = max(int(labels.max()), 1)
    moves = np.where(same, np.log(stay[1:]), np.log((1 - stay[1:]) / others)).sum()
    return float(NEARNESS * (np.minimum(seconds, 3.0) * own).sum() + moves), labels


def best_path(near: Floats, stay: NDArray[np.float64]) -> Ints:
    """The labels with the largest sum of nearness and log-chances of their changes (Viterbi).

    Args:
        near: of each stretch to each voice (n, speakers).
        stay: chance that a stretch has the voice of the one before (n,); other voices share the rest.
    """
    n, count = near.shape
    came_from = np.empty((n, count), np.int16)
    same = np.eye(count, dtype=bool)
    keep, change = np.log(stay), np.log((1 - stay) / max(count - 1, 1))
    total = near[0].astype(np.float64)
    for t in range(1, n):
        moved = total[:, None] + np.where(same, keep[t], change[t])  # from, to
        came_from[t] = moved.argmax(axis=0)
        total = moved.max(axis=0) + near[t]
    path = np.empty(n, np.int64)
    path[-1] = int(total.argmax())
    for t in range(n - 1, 0, -1):
        path[t - 1] = came_from[t, path[t]]
    return path
