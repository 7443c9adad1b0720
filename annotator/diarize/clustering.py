"""From embeddings of stretches of speech to speakers: how many voices, and which stretch is whose.

Each stretch is a vector of norm 1 without the directions in which one voice changes with its mood
(``VoiceSpace``). For each number of speakers, stretches that are long enough to know a voice by are clustered
in two or three ways, the others go to the nearest, and a search finds the path of voices that is nearest to
what was heard and changes voice where the segmentation hears a change. Of the ways, that one is taken whose
voices are furthest apart for what so little speech can tell (``apart``): two voices come before one voice
and a splinter. The number is the one beyond which a further voice brings too little, each stretch compared
with the others of its voice; more where all are far apart, fewer where two are as near as parts of one.
Nothing is remembered between recordings.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

FOUNDING_S = (0.5, 0.3, 0.0)  # stretches of so many seconds found voices, of fewer only where these are few
LINKED = 1500  # stretches that are clustered, at most: memory and time grow with more than their number
MANY = 60  # stretches from which the spectral clustering is a start too
MOST = 10  # speakers that are looked for, if no bound asks for more
# Cosines from which all voices are moods of one, in recordings with so many seconds of speech: of the two
# least alike, and of stretches on average.
LONG_S, ONE_VOICE, ONE_VOICE_MEAN = 180.0, 0.46, 0.40
COMMON = 0.9  # share of the recording's mean that is taken off: the room, and what voices have in common
NEIGHBOURS = 0.2  # share of the stretches that each is tied to in spectral clustering
NEARNESS = 10.0  # what a second of speech at cosine 1 is worth on a path ...
MOST_S = 3.0  # ... of up to so many seconds of one stretch
# Mean cosine that the k-th voice must bring, times k, in a long recording, and the seconds of speech at
# which it is half of that: moods bring more the more is said.
WORTH, HALF_WORTH_S = 0.09, 15.0
# Deviations by which all voices are apart: from the first on they count all the same in a short recording,
# below the second a third voice or a further one does not count at all.
SURELY_APART, BARELY_APART = 1.25, 0.15
# Two parts of one voice, as long as one likes, have this mean cosine; half of what a stretch of so many
# seconds says is its voice; deviation of the cosine of long parts, and what short ones add.
ONE_COSINE, HALF_S, SPREAD, SPREAD_SHORT = 0.72, 1.8, 0.08, 0.12
ROUNDS = 6
# Chance that the voice stays the same, by seconds of pause and by what the segmentation says of it:
# another voice, not comparable (of another window), the same voice.
PAUSES_S = (0.15, 0.4, 0.8, 2.0)
STAYS = np.array(
    [[0.5, 0.7, 0.88], [0.4, 0.6, 0.75], [0.25, 0.4, 0.5], [0.2, 0.3, 0.4], [0.1, 0.1, 0.1]], np.float64
)
ANOTHER, UNKNOWN, SAME = 0, 1, 2


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
        before: whether the segmentation hears the voice of the one before (n,): ``ANOTHER``, ``UNKNOWN``
            or ``SAME``; None where it does not tell.
    """

    embeddings: Floats
    seconds: Floats
    pauses: Floats
    before: Ints | None = None

    @property
    def stays(self) -> NDArray[np.float64]:
        """Chance that each has the voice of the one before (n,)."""
        before = np.full(len(self.seconds), UNKNOWN) if self.before is None else self.before
        return np.asarray(STAYS[np.searchsorted(PAUSES_S, self.pauses), before])


@dataclass(frozen=True)
class Told:
    """Whose each stretch is.

    Args:
        labels: from 0 without gaps (n,).
        likeness: cosine of each stretch to each voice, its own part in it left out (n, speakers).
    """

    labels: Ints
    likeness: Floats


def directions(x: NDArray[np.floating]) -> Floats:
    """Rows scaled to norm 1; rows of zeros stay."""
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    return np.asarray(x / np.maximum(norms, 1e-9), np.float32)


def cluster(heard: Stretches, space: VoiceSpace, least: int, most: int | None) -> Told:
    """A speaker for each stretch.

    Args:
        least, most: bounds on the number of speakers; None means no upper bound.

    Returns: as many speakers as the bounds allow, but never more than stretches.
    """
    n = len(heard.seconds)
    plain = space.project(heard.embeddings)
    labels = np.zeros(n, np.int64)
    if n > 1 and most != 1:
        labels = _best(heard, space, plain, min(least, n), min(most or n, n))
    return Told(labels, likeness(plain, heard.seconds, labels))


def centres(voices: Floats, seconds: Floats, labels: Ints) -> Floats:
    """Mean direction of each label 0, 1, ..., weighed by seconds. -> (speakers, d)"""
    return directions(_sums(voices, seconds, labels))


def likeness(voices: Floats, seconds: Floats, labels: Ints) -> Floats:
    """Cosine of each stretch to the centre of each label, that of its own without it. -> (n, speakers)

    A stretch that is alone with its label is like nothing: 0.
    """
    sums = _sums(voices, seconds, labels)
    found = voices @ directions(sums).T
    rest = sums[labels] - voices * seconds[:, None]
    rest[np.bincount(labels)[labels] == 1] = 0
    found[np.arange(len(labels)), labels] = (voices * directions(rest)).sum(axis=1)
    return found


def _sums(voices: Floats, seconds: Floats, labels: Ints) -> Floats:
    sums = np.zeros((int(labels.max()) + 1, voices.shape[1]), np.float32)
    np.add.at(sums, labels, voices * seconds[:, None])
    return sums


def apart(sums: Floats, seconds: Floats, row: int | None = None) -> NDArray[np.float64]:
    """How much less alike groups are than parts of one voice, in deviations; the diagonal is infinite.

    Args:
        sums: of the vectors of each group, weighed by seconds (k, d).
        seconds: of each group (k,).
        row: only of this group to all.

    Returns: (k, k), or (k,) for one row.
    """
    which = slice(None) if row is None else [row]
    means = directions(sums)
    told = np.sqrt(seconds / (seconds + HALF_S))  # share of each group's norm that is voice
    expected = np.outer(told[which], told)
    found = (ONE_COSINE * expected - means[which] @ means.T) / (SPREAD + SPREAD_SHORT * (1 - expected))
    found[np.arange(len(found)), np.arange(len(sums))[which]] = np.inf
    return np.asarray(found if row is None else found[0], np.float64)


def _best(heard: Stretches, space: VoiceSpace, plain: Floats, least: int, most: int) -> Ints:
    """Labels for the number of speakers within the bounds that explains most for its size."""
    seconds = heard.seconds
    mean = (directions(heard.embeddings) * seconds[:, None]).sum(axis=0) / seconds.sum()
    voices = space.project(heard.embeddings, COMMON * mean)
    picked = _founding(seconds, max(2, least))
    top = min(most, max(MOST, least), len(picked))
    trees = [_merged(plain[picked], seconds[picked], top), _ward(plain[picked], top)]
    if len(picked) >= MANY:
        trees.append(_spectral(voices[picked], seconds[picked], top))
    found = {1: np.zeros(len(seconds), np.int64)}
    for count in range(2, top + 1):
        starts = [_spread(tree[count], picked, plain, seconds) for tree in trees if count in tree]
        paths = [_refined(voices, heard, start) for start in starts]
        found[count] = max(paths, key=lambda path: _distance(plain, seconds, path)[1])
    worth = {count: _worth(plain, seconds, path, count) for count, path in found.items()}
    if least == 1 and seconds.sum() >= LONG_S:
        # Of hundreds of stretches, the moods of one voice bring something too; but they are alike.
        means = centres(plain, seconds, found[max(worth, key=lambda k: worth[k])])
        if float((means @ means.T).min()) > ONE_VOICE and _mean_cosine(plain) > ONE_VOICE_MEAN:
            return found[1]
    allowed = [count for count in found if min(least, top) <= count <= most]
    count = max(allowed, key=lambda k: worth[k])
    if seconds.sum() < LONG_S:  # in longer ones a mood can be as far away
        while count + 1 in allowed and _distance(plain, seconds, found[count + 1])[0] >= SURELY_APART:
            count += 1
    while count > max(2, least) and _distance(plain, seconds, found[count])[0] < BARELY_APART:
        count -= 1
    return found[count]


def _worth(voices: Floats, seconds: Floats, labels: Ints, count: int) -> float:
    """Mean cosine of the stretches to the rest of their voices, less what so many voices must bring."""
    own = np.take_along_axis(likeness(voices, seconds, labels), labels[:, None], axis=1)[:, 0]
    said = float(seconds.sum())
    must = WORTH * said / (said + HALF_WORTH_S) * sum(1 / k for k in range(2, count + 1))
    return float((own * seconds).sum()) / said - must


def _distance(voices: Floats, seconds: Floats, labels: Ints) -> tuple[float, float]:
    """How far each voice is from the one nearest to it (``apart``): the least, and the mean by seconds."""
    said = np.bincount(labels, seconds).astype(np.float32)
    nearest = apart(_sums(voices, seconds, labels), said).min(axis=1)
    return float(nearest.min()), float((nearest * said).sum() / said.sum())


def _merged(voices: Floats, seconds: Floats, most: int) -> dict[int, Ints]:
    """Bottom-up: of all groups, the two that are least apart become one. -> labels by number of groups"""
    n = len(voices)
    sums, said = voices * seconds[:, None], seconds.astype(np.float32)
    group, alive = np.arange(n), np.ones(n, bool)
    distance = apart(sums, said)
    found: dict[int, Ints] = {}
    for count in range(n, 1, -1):
        if count <= most:
            found[count] = np.unique(group, return_inverse=True)[1].astype(np.int64)
        one, other = np.unravel_index(int(distance.argmin()), distance.shape)
        sums[one] += sums[other]
        said[one] += said[other]
        group[group == other], alive[other] = one, False
        row = np.where(alive, apart(sums, said, int(one)), np.inf)
        distance[other], distance[:, other] = np.inf, np.inf
        distance[one], distance[:, one] = row, row
    return found


def _ward(voices: Floats, most: int) -> dict[int, Ints]:
    """Ward's clusterings, by number of groups."""
    tree = linkage(voices, "ward")
    return {count: fcluster(tree, count, "maxclust").astype(np.int64) - 1 for count in range(2, most + 1)}


def _spectral(voices: Floats, seconds: Floats, most: int) -> dict[int, Ints]:
    vectors = _spectrum(voices @ voices.T, seconds, most)
    return {count: _grouped(vectors[:, :count], seconds) for count in range(2, most + 1)}


def _mean_cosine(voices: Floats) -> float:
    """Mean cosine of two different rows."""
    n = len(voices)
    return float((voices.sum(axis=0, dtype=np.float64) ** 2).sum() - n) / (n * (n - 1))


def _founding(seconds: Floats, count: int) -> Ints:
    """Indices of the stretches that are clustered: long ones, evenly picked where they are too many."""
    long = next(
        picked
        for limit in FOUNDING_S
        if len(picked := np.flatnonzero(seconds >= limit)) >= 2 * count or limit == 0
    )
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


def _refined(voices: Floats, heard: Stretches, labels: Ints) -> Ints:
    """The best path of voices and the voices of the path, in turn; no voice is lost. -> labels (n,)"""
    seconds, stay = heard.seconds, heard.stays
    for _ in range(ROUNDS):
        worth = NEARNESS * np.minimum(seconds, MOST_S)[:, None]
        path = best_path(worth * (voices @ centres(voices, seconds, labels).T), stay)
        if len(np.unique(path)) <= labels.max() or (path == labels).all():
            break
        labels = path
    return labels


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
