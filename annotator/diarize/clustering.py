"""From embeddings of overlapping windows to one speaker a window: how many voices, and which is whose.

Short recordings are clustered bottom-up by cosine distance. Longer ones are clustered with VBx, a hidden
Markov model whose states are speakers and which empties the states it doesn't need (Landini et al.,
"Bayesian HMM clustering of x-vector sequences (VBx)", Computer Speech & Language 71, 2022,
arXiv:2012.14952). Both start from nothing at each call.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage

Floats = NDArray[np.float32]
Halves = NDArray[np.float16]
Ints = NDArray[np.int64]

LINKED = 2500  # windows that are clustered bottom-up, at most: its memory grows with their square
FEW_WINDOWS = 300  # a minute of speech; below it VBx has too little to go on
SAME_VOICE = 0.40  # cosine distance up to which clusters of few windows are one voice
LEAST_WINDOWS = 8  # a voice heard in fewer windows is taken for another's
STATES = 16  # voices that VBx starts with, if no lower bound asks for more
STAY = 0.97  # chance that the next window has the same voice
# Weight of a window (F_A; the weight of a further speaker, F_B, is 1). Neighbours share most of their
# sound, and a voice changes with mood more than the model allows for.
EVIDENCE = 0.05
ITERATIONS = 20
REACH = 8  # windows before and after that are averaged before linking


@dataclass(frozen=True)
class VoiceSpace:
    """A linear space in which windows of one voice scatter evenly and voices differ by known amounts.

    Two-covariance probabilistic linear discriminant analysis: ``(x - mean) @ axes`` has identity
    covariance within a voice and ``spread`` between voices.
    """

    mean: Floats  # (256,)
    axes: Floats  # (256, d)
    spread: Floats  # (d,)

    @classmethod
    def load(cls, path: Path) -> VoiceSpace:
        from safetensors.numpy import load_file

        tensors = load_file(path)
        return cls(tensors["mean"], tensors["axes"], tensors["spread"])

    def project(self, embeddings: Halves) -> Floats:
        """(n, 256) -> (n, d)"""
        out = np.empty((len(embeddings), self.axes.shape[1]), np.float32)
        for at in range(0, len(embeddings), 4096):  # in full precision only a part at a time
            out[at : at + 4096] = (embeddings[at : at + 4096].astype(np.float32) - self.mean) @ self.axes
        return out


def directions(x: Floats) -> Floats:
    """Rows scaled to norm 1; rows of zeros stay."""
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    return np.asarray(x / np.maximum(norms, 1e-9), np.float32)


def cluster(embeddings: Halves, space: VoiceSpace, least: int, most: int | None) -> Ints:
    """A speaker for each window.

    Args:
        embeddings: of windows that are mostly speech, in time order, norm 1. (n, 256)
        least, most: bounds on the number of speakers; None means no upper bound.

    Returns: labels from 0 without gaps (n,). There are never more speakers than windows.
    """
    n = len(embeddings)
    if n <= 1 or most == 1:
        return np.zeros(n, np.int64)
    voices = space.project(embeddings)
    labels = (
        _bottom_up(embeddings.astype(np.float32))
        if n < FEW_WINDOWS
        else _vbx(voices, space.spread, max(STATES, least))
    )
    return bounded(labels, directions(voices), min(least, n), most)


def _bottom_up(embeddings: Floats) -> Ints:
    """Average linkage on cosine distance; small clusters go to the nearest large one."""
    labels = np.asarray(fcluster(linkage(embeddings, "average", metric="cosine"), SAME_VOICE, "distance"))
    return _without_small(labels.astype(np.int64), embeddings)


def _without_small(labels: Ints, vectors: Floats) -> Ints:
    names, counts = np.unique(labels, return_counts=True)
    kept = names[counts >= LEAST_WINDOWS]
    if len(kept) == 0:
        kept = names[[int(counts.argmax())]]
    centres = directions(np.stack([vectors[labels == name].mean(axis=0) for name in kept]))
    return np.asarray((vectors @ centres.T).argmax(axis=1), np.int64)


def first_guess(voices: Floats, states: int) -> Ints:
    """Ward linkage of averaged neighbours, then each window to the nearest centre. (n, d) -> (n,)

    At most ``LINKED`` windows, evenly spread, are linked.
    """
    smooth = directions(_averaged(directions(voices)))
    picked = np.unique(np.linspace(0, len(smooth) - 1, min(LINKED, len(smooth))).round().astype(np.int64))
    found = np.asarray(fcluster(linkage(smooth[picked], "ward"), states, "maxclust"))
    centres = np.stack([smooth[picked][found == name].mean(axis=0) for name in np.unique(found)])
    return np.asarray((smooth @ directions(centres).T).argmax(axis=1), np.int64)


def _averaged(x: Floats) -> Floats:
    """Mean over up to ``REACH`` rows on either side."""
    sums = np.concatenate([np.zeros((1, x.shape[1])), np.cumsum(x, axis=0, dtype=np.float64)])
    at = np.arange(len(x))
    first, last = np.maximum(at - REACH, 0), np.minimum(at + REACH + 1, len(x))
    return np.asarray((sums[last] - sums[first]) / (last - first)[:, None], np.float32)


def _vbx(voices: Floats, spread: Floats, states: int) -> Ints:
    """Variational inference of the speaker of each window; see the paper's equations 16 to 25."""
    n = len(voices)
    guess = first_guess(voices, states)
    states = int(guess.max()) + 1
    share = np.full((n, states), 0.1 / states)
    share[np.arange(n), guess] += 0.9
    prior = np.full(states, 1 / states)
    scaled = voices * np.sqrt(spread)  # (n, d)
    for _ in range(ITERATIONS):
        variance = 1 / (1 + EVIDENCE * share.sum(axis=0)[:, None] * spread)  # (states, d)
        mean = EVIDENCE * variance * (share.T @ scaled)
        score = EVIDENCE * (scaled @ mean.T - 0.5 * (variance + mean**2) @ spread)  # (n, states)
        before = share
        share, prior = _forward_backward(score, prior)
        if np.abs(share - before).max() < 1e-3:
            break
    return _without_small(share.argmax(axis=1), directions(voices))


def _forward_backward(
    score: NDArray[np.float64], prior: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Posterior of each state at each time, and the share of each in the changes of speaker.

    A speaker stays with the chance ``STAY``, else the next is drawn from ``prior``.
    """
    n, states = score.shape
    likely = np.exp(score - score.max(axis=1, keepdims=True)) + 1e-30
    forward, scale = np.empty((n, states)), np.empty(n)
    now = prior * likely[0]
    for t in range(n):
        if t:
            now = (STAY * now + (1 - STAY) * prior) * likely[t]
        scale[t] = now.sum()
        now = now / scale[t]
        forward[t] = now
    changes = np.zeros(states)
    backward = np.ones(states)
    for t in range(n - 1, 0, -1):
        ahead = likely[t] * backward / scale[t]
        changes += (1 - STAY) * prior * ahead
        forward[t] *= backward
        backward = STAY * ahead + (1 - STAY) * float(prior @ ahead)
    forward[0] *= backward
    share = forward / forward.sum(axis=1, keepdims=True)
    changes += share[0]
    return share, changes / changes.sum()


def bounded(labels: Ints, vectors: Floats, least: int, most: int | None) -> Ints:
    """Labels 0, 1, ... of ``least`` to ``most`` speakers: nearest ones joined, or the widest split."""
    names, labels = np.unique(labels, return_inverse=True)
    labels = labels.astype(np.int64)
    count = len(names)
    if count < least:
        # Few or odd windows can make fewer clusters than asked for; the remedy is plain Ward linkage.
        labels = first_guess(vectors, least)
        _, labels = np.unique(labels, return_inverse=True)
        return labels.astype(np.int64)
    while most is not None and count > most:
        centres = directions(np.stack([vectors[labels == k].mean(axis=0) for k in range(count)]))
        near = centres @ centres.T
        near[np.tril_indices(count)] = -np.inf
        one, other = divmod(int(near.argmax()), count)
        labels[labels == other] = one
        labels[labels > other] -= 1
        count -= 1
    return labels
