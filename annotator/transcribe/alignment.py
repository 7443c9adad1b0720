"""When each token of a recognised text was said, from the decoder's cross-attention.

The attention of the heads that follow the sound is normalised over tokens, smoothed over time and averaged;
dynamic time warping finds the monotonic path of most attention (Radford et al. 2022, "Robust Speech
Recognition via Large-Scale Weak Supervision", and the word timing of its reference implementation).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

FRAME_S = 0.02  # seconds a position of the encoder's output


def token_starts(attention: NDArray[np.float32], smoothing: int = 7) -> NDArray[np.float64]:
    """Start of each token in seconds from the start of the stretch.

    Args:
        attention: (heads, tokens, frames), rows by the token that they predict.
        smoothing: frames of the median filter, odd.

    Shapes: returns (tokens,), not falling.
    """
    spread = attention.std(axis=1, keepdims=True)
    weights = (attention - attention.mean(axis=1, keepdims=True)) / np.maximum(spread, 1e-8)
    weights = median_filter(weights, size=(1, 1, smoothing), mode="reflect")
    starts = np.asarray(FRAME_S * warp(-weights.mean(axis=0)), dtype=np.float64)
    return starts


def warp(cost: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """First column of each row on the cheapest path from the top left to the bottom right.

    Steps go right, down, or both. With S_j = sum of a row's cost up to j, the recursion
    ``D_ij = c_ij + min(D_(i-1)(j-1), D_(i-1)j, D_i(j-1))`` is, for a whole row at once,
    ``D_i = S + cummin(min(D_(i-1) shifted, D_(i-1)) - S + c_i)``.

    Shapes: cost (n, m), n and m at least 1; returns (n,).

    >>> warp(np.array([[0.0, 0.0, 1.0, 1.0], [1.0, 1.0, 0.0, 0.0]]))
    array([0, 2])
    """
    n, m = cost.shape
    total = np.empty((n, m))
    cost = cost.astype(np.float64)
    total[0] = np.cumsum(cost[0])
    for i in range(1, n):
        above = total[i - 1].copy()
        above[1:] = np.minimum(above[1:], total[i - 1, :-1])
        along = np.cumsum(cost[i])
        total[i] = along + np.minimum.accumulate(above - along + cost[i])
    first = np.zeros(n, dtype=np.int64)
    i, j = n - 1, m - 1
    while i > 0:
        first[i] = j
        steps = [(total[i - 1, j], i - 1, j)]
        if j > 0:
            # A diagonal step is preferred to a straight one of the same cost.
            steps = [(total[i - 1, j - 1], i - 1, j - 1), *steps, (total[i, j - 1], i, j - 1)]
        _, i, j = min(steps, key=lambda step: step[0])
    return first
