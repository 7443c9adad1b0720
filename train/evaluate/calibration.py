"""Temperatures (Guo et al., ICML 2017), one for each subset of modalities, fitted on validation.

Beside them how likely a label must be to count as plausible (split conformal prediction; Sadinle, Lei and
Wasserman, JASA 114, 2019).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from model import Network, apply_calibration
from train.corpus import LabelledConversation
from train.evaluate.logits import predict_logits, targets

RANGE = (0.05, 20.0)  # of temperatures that are tried
FEWEST = 20  # labelled utterances below which a temperature would be noise
COVERAGE = 0.9  # share of held-out utterances whose true label is among the plausible ones
PRIOR_ONLY = 1e6  # a temperature that leaves nothing of the logits, so that the bias alone speaks


def subsets(modalities: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """All subsets with at least one modality, the whole first, in the order of the modalities.

    >>> list(subsets(["text", "audio"]))
    [('text', 'audio'), ('text',), ('audio',)]
    """
    for size in range(len(modalities), 0, -1):
        yield from combinations(modalities, size)


def fit_temperature(logits: NDArray[np.floating], target: NDArray[np.int64]) -> float | None:
    """The temperature with the least negative log likelihood; None with too few labelled rows.

    Args:
        logits: (n, C).
        target: (n,) class, below 0 where unknown.
    """
    labelled = target >= 0
    if labelled.sum() < FEWEST:
        return None
    rows, right = logits[labelled].astype(np.float64), target[labelled]

    def loss(log_temperature: float) -> float:
        scaled = rows / np.exp(log_temperature)
        return float((logsumexp(scaled, axis=1) - scaled[np.arange(len(right)), right]).mean())

    minimum = minimize_scalar(loss, bounds=tuple(np.log(RANGE)), method="bounded")
    return float(np.exp(minimum.x))


def plausible_from(probabilities: NDArray[np.floating], target: NDArray[np.int64]) -> float | None:
    """The probability from which on a label is plausible, so that ``COVERAGE`` of the true ones are.

    For a new utterance like these, the chance that its true label has at least this probability is no less
    than ``COVERAGE``: over all labels together, not for each of them. None with too few labelled rows.

    Args:
        probabilities: (n, C), of utterances whose labels nothing has learned from. A temperature, and the
            choice of the best epoch, leave the figure a little too good.
        target: (n,) class, below 0 where unknown.
    """
    labelled = np.flatnonzero(target >= 0)
    if len(labelled) < FEWEST:
        return None
    of_true = np.sort(probabilities[labelled, target[labelled]])
    return float(of_true[int((len(labelled) + 1) * (1 - COVERAGE) + 1e-9) - 1])


def calibrate(
    network: Network, validation: Sequence[LabelledConversation], prior: dict[str, list[float]]
) -> dict[str, dict[str, Any]]:
    """Calibration for a checkpoint, by the modalities that an utterance has.

    Each subset's temperature is fitted on the validation utterances that have all of it, with the rest
    hidden. An utterance with nothing gets the training prior, under the key "".
    """
    fine, coarse = targets(validation)
    conversations = [c.conversation for c in validation]
    modalities = network.config.modalities
    observed = [m for m in modalities if any(m in c.features for c in conversations)]
    calibration: dict[str, dict[str, Any]] = {}
    for subset in subsets(observed):
        logits = predict_logits(network, conversations, subset)
        columns = [modalities.index(m) for m in subset]
        whole = logits.present[:, columns].all(axis=1)
        entry: dict[str, dict[str, Any]] = {}
        for head, rows, target in (("fine", logits.fine, fine), ("coarse", logits.coarse, coarse)):
            temperature = fit_temperature(rows[whole], target[whole])
            if temperature is not None:
                entry[head] = {"temperature": temperature, "bias": None}
        if "fine" in entry:
            probabilities, _ = apply_calibration(
                {"+".join(subset): entry},
                logits.fine[whole],
                logits.coarse[whole],
                logits.present[whole],
                modalities,
            )
            entry["fine"]["plausible_from"] = plausible_from(probabilities, fine[whole])
        if entry:
            calibration["+".join(subset)] = entry
    calibration[""] = {
        head: {"temperature": PRIOR_ONLY, "bias": np.log(np.maximum(shares, 1e-6)).tolist()}
        for head, shares in prior.items()
    }
    if "fine" in prior:
        probabilities = np.tile(np.array(prior["fine"], np.float32), (len(fine), 1))
        least = plausible_from(probabilities, fine)
        calibration[""]["fine"] |= {} if least is None else {"plausible_from": least}
    return calibration
