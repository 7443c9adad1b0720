"""How much a turn sounds of each emotion, judged beside all turns of its speaker in the recording.

A few linear scores z of a turn's voice features are modelled as

    z = centre of the emotion + what is the speaker's and the room's + chance

with the second and third part normal, as in probabilistic linear discriminant analysis (Prince & Elder, ICCV
2007). Two speakers who sound alike when they are calm differ little; a speaker's manner is known the better
the more turns there are. So three answers are possible, and each is right for some recordings:

    alone    the turn by itself: the speaker's part is as uncertain as that of anybody
    varied   the speaker's part follows from all turns, any mix of emotions taken for likely
    settled  the same, where few emotions throughout are taken for likely, so that one mood is not subtracted

How far each is believed, and how surely, a gate says that has learned it from recordings made of turns with
known emotions: all moods, mostly neutral, one mood throughout (docs/results/voice.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from scipy.linalg import eigh
from scipy.special import digamma, gammaln, log_softmax, softmax

from annotator import plain_json
from annotator.records import SetupError

Array = NDArray[np.float64]
LIMIT = 4.0  # deviations from the mean: further out lies an odd recording, not a stronger emotion
FEW_MOODS = 0.5  # concentration of the Dirichlet prior of a speaker's emotions, where few are likely
STEPS = 12  # of the variational inference, after which nothing moves
LEAST_LOG = -60.0  # of an answer
LEAST = 1e-4  # probability of an emotion: no voice rules one out
ANSWERS = 3  # alone, varied, settled
MANY = 200  # turns, beyond which the gate has learned nothing of their number
HINTS = 7  # what the gate goes by, see `_Heard.hints`
MOST = 1e6  # of any number in a file
STRANGEST = 1.0  # log distance from the training, beyond which nothing was learned
STRANGENESS = (-1.0, 2.0)  # bounds of what a network is told of it


@dataclass(frozen=True)
class VoiceScores:
    """The model of a voice's scores, over ``features`` of width d, for k labels, with s linear scores."""

    features: str  # name of the audio encoder
    labels: tuple[str, ...]  # k
    mean: NDArray[np.float32]  # (d,)
    scale: NDArray[np.float32]  # (d,) one over the deviation; 0 for a feature that never varied
    linear: NDArray[np.float32]  # (s, d + 1) the last column is the bias
    basis: NDArray[np.float32]  # (c, d) principal directions of training turns around their middle
    middle: NDArray[np.float32]  # (d,) of the standardised training turns
    usual: float  # mean square of what the basis leaves of a training turn
    centres: NDArray[np.float32]  # (k, s) of the emotions
    within: NDArray[np.float32]  # (s, s) covariance of a speaker's turns of an emotion
    between: NDArray[np.float32]  # (s, s) covariance of the speakers' parts
    short_s: float  # seconds of a turn that says half as much as a long one
    gate: NDArray[np.float32]  # (3, HINTS + 1) belief in each answer, the last column the bias
    sharpness: NDArray[np.float32]  # (3,) factor of each answer's logarithms
    doubt: NDArray[np.float32]  # (3,) by how much its log falls with the distance from the training

    @property
    def width(self) -> int:
        """Of a turn's scores: one for each label, and the strangeness."""
        return len(self.labels) + 1

    def near(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Features ``(n, d)`` against the statistics of the training, in [-4, 4]."""
        out: NDArray[np.float32] = np.clip((values - self.mean) * self.scale, -LIMIT, LIMIT)
        return out

    def linear_scores(self, near: NDArray[np.float32]) -> Array:
        """The scores z ``(n, s)`` of standardised features: turn by turn, whatever others there are."""
        weight, bias = self.linear[:, :-1].astype(np.float64), self.linear[:, -1].astype(np.float64)
        return np.stack([weight @ row.astype(np.float64) + bias for row in near])

    def strangeness(self, near: NDArray[np.float32]) -> Array:
        """Log of how far each turn lies from the training: ``(n,)``, about 0 for turns like those in it.

        By what the principal directions of the training leave of its features, a usual measure of novelty.
        """
        basis = self.basis.astype(np.float64)
        found = np.zeros(len(near))
        for i, row in enumerate(near):
            off = row.astype(np.float64) - self.middle
            left = off @ off - np.square(basis @ off).sum()
            found[i] = np.log(max(left / len(row), 1e-12) / self.usual)
        return found

    def __call__(
        self,
        values: NDArray[np.float32],
        seconds: NDArray[np.float64],
        present: NDArray[np.bool_],
        speakers: Sequence[str],
    ) -> NDArray[np.float32]:
        """Scores ``(n, k + 1)`` of the turns of one recording.

        Log probabilities, all emotions alike beforehand, and how strange the speaker's voice is, which a
        network needs to know how far to believe them. Absent turns are zeros.

        Args:
            values: ``(n, d)``.
            seconds: ``(n,)`` how long they are, without silence around them.
            speakers: ``(n,)``.
        """
        out = np.zeros((len(values), self.width), np.float32)
        names = np.asarray(speakers)
        for speaker in sorted(set(speakers)):
            rows = np.flatnonzero((names == speaker) & present)
            if len(rows):
                near = self.near(values[rows])
                strange = float(self.strangeness(near).mean())
                out[rows, :-1] = np.log(self.told(self.linear_scores(near), seconds[rows], strange))
                out[rows, -1] = np.clip(strange, *STRANGENESS)
        return out

    def told(self, scores: Array, seconds: Array, strange: float) -> Array:
        """Probabilities ``(n, k)`` of a speaker's turns.

        Args:
            scores: z ``(n, s)``.
            seconds: ``(n,)``.
            strange: mean strangeness of the turns.
        """
        answers, hints = self.answers(scores, seconds, strange)
        belief = softmax(self.gate[:, :-1] @ hints + self.gate[:, -1])
        sharp = self.sharpness * np.exp(-self.doubt * hints[-1])
        shares = np.einsum("a,ank->nk", belief, softmax(answers * sharp[:, None, None], 2))
        floor = LEAST * len(self.labels)
        mixed: Array = (1 - floor) * shares + floor / len(self.labels)
        return mixed

    def answers(self, scores: Array, seconds: Array, strange: float) -> tuple[Array, Array]:
        """The three answers, log probabilities ``(3, n, k)``, and what the gate goes by ``(HINTS,)``."""
        heard = _Heard(self, scores, seconds / (seconds + self.short_s))
        varied, _ = heard.together(None)
        settled, evidence = heard.together(FEW_MOODS)
        chosen = softmax(evidence)
        mixed = np.einsum("h,hnk->nk", chosen, softmax(settled, 2))
        answers = np.stack([heard.alone, log_softmax(varied[0], 1), np.log(mixed + 1e-9)])
        answers = np.maximum(answers, LEAST_LOG)
        return answers, heard.hints(evidence, chosen, mixed, strange)

    @cached_property
    def axes(self) -> tuple[Array, Array]:
        """Directions ``(s, s)``, as columns, in which a turn's chance is of variance 1 and speakers differ by
        independent variances ``(s,)``: the two covariances made diagonal at once."""
        variances, directions = eigh(self.between.astype(np.float64), self.within.astype(np.float64))
        return np.asarray(directions), np.maximum(variances, 0)


class _Heard:
    """The turns of a speaker along ``VoiceScores.axes``.

    Args:
        scores: ``(n, s)``.
        weights: how much each turn says ``(n,)`` in (0, 1): its chance has the variance 1 / weight.
    """

    def __init__(self, model: VoiceScores, scores: Array, weights: Array) -> None:
        directions, self.speakers = model.axes
        self.turns, self.centres = scores @ directions, model.centres.astype(np.float64) @ directions
        self.weights = weights
        self.alone = log_softmax(self._likelihood(np.zeros((1, 1, 1)), self._uncertain(self.speakers))[0], 1)

    def together(self, few: float | None) -> tuple[Array, Array]:
        """Variational inference over the speaker's part, the turns' emotions and their mix.

        Args:
            few: concentration of the mix; None: every mix is alike, and the likeliest beginning is enough.

        Returns: for each of the h beginnings log probabilities ``(h, n, k)``, up to a constant for each turn,
            and the evidence for it ``(h,)``. The first beginning is what each turn says alone, the others one
            emotion throughout.
        """
        n, k = self.alone.shape
        shares = np.exp(self.alone)[None]
        if few is not None:
            shares = np.concatenate([shares, np.repeat(np.eye(k)[:, None], n, 1)])
        said = self.weights.sum()
        spread = self.speakers / (1 + self.speakers * said)  # of the speaker's part, known so far
        exact = 1 / self.weights[:, None]
        for _ in range(STEPS):
            part = spread * self._left(shares).sum(1, keepdims=True)
            shares = softmax(self._likelihood(part, exact) + self._mix(shares, few)[:, None], 2)
        # A turn is judged by what the others say of the speaker, not by what it says itself.
        left = self._left(shares)
        rest = self.speakers / (1 + self.speakers * (said - self.weights)[:, None])
        told = self._likelihood(rest * (left.sum(1, keepdims=True) - left), self._uncertain(rest))
        if few is None:
            return told, np.zeros(1)
        counts = shares.sum(1)
        others = few + np.maximum(counts[:, None] - shares, 0)
        told = told + np.log(others / others.sum(2, keepdims=True))
        of_speaker = left.sum(1)
        part = (spread * of_speaker)[:, None]
        evidence = (shares * self._likelihood(part, exact)).sum((1, 2))
        evidence -= 0.5 * (self.weights[:, None] * np.square(self.turns - part)).sum((1, 2))
        evidence -= 0.5 * said * spread.sum()
        evidence -= 0.5 * (spread / (1 + self.speakers * said) * np.square(of_speaker)).sum(1)
        evidence -= (shares * np.log(shares + 1e-12)).sum((1, 2))
        evidence += (gammaln(few + counts) - gammaln(few)).sum(1)
        return told, evidence  # less what is the same for all beginnings

    def hints(self, evidence: Array, chosen: Array, settled: Array, strange: float) -> Array:
        """What the gate goes by: the number of turns, how much they vary, what speaks for one mood, how sure
        that is, how varied the moods are, how much is said, and how strange the voice is."""
        n, width = self.turns.shape
        distance = float(np.clip(strange, 0, STRANGEST))
        if n == 1:
            return np.array([0.0, 0.0, 0.0, 0.0, 0.0, self.weights.mean(), distance])
        off = np.square(self.turns - self.turns.mean(0)) * self.weights[:, None]
        varied = off.sum() / (n - 1) / width - 1
        return np.array(
            [
                np.log(min(n, MANY)) / 4,
                np.clip(varied, -2, 3) / 2,
                np.tanh((evidence[1:].max() - evidence[0]) / (2 + 0.1 * n)),
                _entropy(chosen),
                _entropy(settled.mean(0)) / 2,
                self.weights.mean(),
                distance,
            ]
        )

    def _left(self, shares: Array) -> Array:
        """What each turn says of the speaker ``(h, n, s)``, given what it is of."""
        out: Array = self.weights[:, None] * (self.turns - shares @ self.centres)
        return out

    def _uncertain(self, speakers: Array) -> Array:
        """Variances ``(n, s)`` of turns around an emotion's centre and the speaker's part, if that is known
        with variances ``(s,)`` or ``(n, s)``."""
        out: Array = 1 / self.weights[:, None] + speakers
        return out

    def _likelihood(self, part: Array, variances: Array) -> Array:
        """Log likelihoods ``(h, n, k)`` of the turns less the speaker's part, up to a constant for each turn.

        Args:
            part: ``(h, 1, s)`` or ``(h, n, s)``.
            variances: ``(n, s)`` or ``(n, 1)``.
        """
        precision = np.broadcast_to(1 / variances, self.turns.shape)
        of_centres = precision @ np.square(self.centres).T
        out: Array = ((self.turns - part) * precision) @ self.centres.T - 0.5 * of_centres
        return out

    def _mix(self, shares: Array, few: float | None) -> Array:
        """Expected log share of each emotion ``(h, k)``, given what each turn is of."""
        if few is None:
            return np.zeros((len(shares), shares.shape[2]))
        counts = few + shares.sum(1)
        out: Array = digamma(counts) - digamma(counts.sum(1, keepdims=True))
        return out


def _entropy(shares: Array) -> float:
    return float(-(shares * np.log(shares + 1e-12)).sum())


def load_voice_scores(file: Path, width: int) -> VoiceScores:
    """The model in a safetensors file whose metadata has its ``config``.

    Args:
        width: of the features that it should be of.

    Raises: SetupError when the file is something else.
    """
    try:
        with safe_open(file, "np") as stored:
            config = plain_json.loads((stored.metadata() or {})["config"])
            arrays = {name: stored.get_tensor(name).astype(np.float32) for name in stored.keys()}
        labels = tuple(map(str, config["labels"]))
        if len(labels) < 2 or len(set(labels)) < len(labels):
            raise ValueError("labels are not two or more different names")
        k, s, c = len(labels), len(arrays["linear"]), len(arrays["basis"])
        shapes = {
            "mean": (width,), "scale": (width,), "middle": (width,), "basis": (c, width),
            "linear": (s, width + 1), "centres": (k, s), "within": (s, s), "between": (s, s),
            "gate": (ANSWERS, HINTS + 1), "sharpness": (ANSWERS,), "doubt": (ANSWERS,),
        }  # fmt: skip
        for name, shape in shapes.items():
            sound = arrays[name].shape == shape and np.isfinite(arrays[name]).all()
            if not sound or (arrays[name].size and np.abs(arrays[name]).max() > MOST):
                raise ValueError(f"{name} is not {shape} finite numbers")
        if unknown := set(arrays) - set(shapes):
            raise ValueError(f"{unknown.pop()} has no place in it")
        numbers = {name: float(config[name]) for name in ("usual", "short_s")}
        if not all(0 < number < MOST for number in numbers.values()):
            raise ValueError("usual and short_s are not positive")
        if min(arrays["sharpness"].min(), arrays["doubt"].min()) < 0:
            raise ValueError("sharpness and doubt are not positive")
        for name in ("within", "between"):
            matrix = arrays[name].astype(np.float64)
            if not np.allclose(matrix, matrix.T, rtol=1e-3) or np.linalg.eigvalsh(matrix).min() <= 0:
                raise ValueError(f"{name} is no covariance")
        return VoiceScores(
            str(config["features"]), labels, usual=numbers["usual"], short_s=numbers["short_s"], **arrays
        )
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())[:200]
        raise SetupError(f"{file} holds no voice scores of this version: {reason}") from error


ARRAYS = tuple(
    f.name for f in fields(VoiceScores) if f.name not in ("features", "labels", "usual", "short_s")
)
