"""Recordings made of turns with known emotions, and the gate that learns from them how far to believe what.

In natural talk a speaker is mostly neutral, or in one mood throughout; only actors play every mood alike
often. A model that has seen actors alone subtracts the mood with the manner.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from annotator.encode.voice import ANSWERS, HINTS, VoiceScores
from train.prepare.meld import LABELS as MELD_LABELS
from train.starter.voice.clips import Voices, corpus_of
from train.starter.voice.fit import Unheard, labels_of

KINDS = ("turn", "one", "mostly neutral", "all")
# Turns, for all kinds alike: how long somebody talks must not tell the gate how varied the moods are.
LENGTHS = (2, 4, 8, 16, 30, 60, 200)
MOODY = (0.1, 0.25, 0.5, 0.75)  # share of a mood beside neutral
WORST = 5.0  # how much the worst corpora count among those heard across; 0: all alike
DECAY = 1e-3
SURE = 0.98  # share of the probabilities that the loss goes by: one odd clip must not count for everything
K = len(MELD_LABELS)


@dataclass(frozen=True)
class Made:
    """A made recording: some clips of a speaker through one channel."""

    group: str  # corpus, heard within or across, kind
    places: NDArray[np.int64]  # in Unheard


def made_recordings(voices: Voices, heard: Unheard, rng: np.random.Generator) -> Iterator[Made]:
    """A recording of each kind of every speaker in every channel."""
    classes = labels_of(voices, heard.rows)
    names = np.where(heard.across, "across ", "within ")
    keys = np.char.add(names, [voices.recordings[row] for row in heard.rows])
    for key in np.unique(keys):
        own = np.flatnonzero(keys == key)
        corpus = corpus_of(voices.speakers[heard.rows[own[0]]])
        for kind in KINDS:
            drawn = draw(kind, own, classes[own], rng)
            if len(drawn):
                yield Made(f"{corpus} {key.partition(' ')[0]} {kind}", drawn)


def draw(
    kind: str, own: NDArray[np.int64], classes: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Turns of a made recording, from a speaker's ``own``; none where the speaker lacks what it takes.

    Clips come again where the speaker has fewer than the recording has turns.
    """
    by = {k: own[classes == k] for k in np.unique(classes).tolist()}
    if kind == "turn":
        return rng.choice(own, 1)
    length = int(rng.choice(LENGTHS))
    if kind == "all":
        return some(own, length, rng)
    if kind == "one":
        return some(by[int(rng.choice(list(by)))], length, rng)
    neutral, moods = by.pop(MELD_LABELS.index("neutral"), None), list(by)
    if neutral is None or not moods:
        return own[:0]
    moody = int(np.clip(round(length * rng.choice(MOODY)), 1, length - 1))
    mood = by[int(rng.choice(moods))]
    return np.concatenate([some(mood, moody, rng), some(neutral, length - moody, rng)])


def some(clips: NDArray[np.int64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """So many of the clips; all of them again where they are too few, none where there are none."""
    if not len(clips):
        return clips
    again = [rng.permutation(clips) for _ in range(-(-count // len(clips)))]
    return np.concatenate(again)[:count]


class Gate(nn.Module):
    """Belief in each answer by a recording's hints, and how sharp each is; see ``VoiceScores.told``."""

    def __init__(self) -> None:
        super().__init__()
        self.belief = nn.Linear(HINTS, ANSWERS, dtype=torch.float64)
        self.log_sharpness = nn.Parameter(torch.zeros(ANSWERS, dtype=torch.float64))
        self.raw_doubt = nn.Parameter(torch.zeros(ANSWERS, dtype=torch.float64))
        nn.init.zeros_(self.belief.weight)
        nn.init.zeros_(self.belief.bias)

    @property
    def doubt(self) -> Tensor:
        return nn.functional.softplus(self.raw_doubt)

    def forward(self, answers: Tensor, hints: Tensor) -> Tensor:
        """Probabilities ``(n, k)`` of turns, from answers ``(n, 3, k)`` and hints ``(n, HINTS)``."""
        sharp = torch.exp(self.log_sharpness - self.doubt * hints[:, -1:])
        shares = torch.softmax(answers * sharp[:, :, None], 2)
        return (torch.softmax(self.belief(hints), 1)[:, :, None] * shares).sum(1)


def with_gate(model: VoiceScores, voices: Voices, heard: Unheard, seed: int = 0) -> VoiceScores:
    """The model with a gate learned on made recordings.

    Least negative log likelihood among the emotions that a corpus has: the mean over corpora heard within,
    and over those heard across a mean in which the worst count most: nobody knows how strange the next is.
    """
    rng = np.random.default_rng(seed)
    classes = labels_of(voices, heard.rows)
    made = list(made_recordings(voices, heard, rng))
    groups = sorted({m.group for m in made})
    counts = np.bincount([groups.index(m.group) for m in made], minlength=len(groups))
    answers, hints, places, group, weights = [], [], [], [], []
    for m in made:
        rows = heard.rows[m.places]
        strange = float(heard.strangeness[m.places].mean())
        told, hint = model.answers(heard.scores[m.places], voices.seconds[rows], strange)
        answers.append(told.transpose(1, 0, 2))
        hints.append(np.tile(hint, (len(rows), 1)))
        places.append(m.places)
        number = groups.index(m.group)
        group.append(np.full(len(rows), number))
        weights.append(np.full(len(rows), 1 / len(rows) / counts[number]))
    given = torch.from_numpy(np.concatenate(answers))
    by = torch.from_numpy(np.concatenate(hints))
    turns = np.concatenate(places)
    right = torch.from_numpy(classes[turns])
    of = torch.from_numpy(np.concatenate(group))
    weight = torch.from_numpy(np.concatenate(weights))
    corpora = np.array([corpus_of(voices.speakers[row]) for row in heard.rows])
    has = {
        c: torch.from_numpy(np.bincount(classes[corpora == c], minlength=K) > 0) for c in np.unique(corpora)
    }
    known = torch.stack([has[c] for c in corpora[turns]]).double()
    across = torch.tensor(["across" in name for name in groups])
    gate = Gate()

    def loss(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        vector_to_parameters(torch.from_numpy(values), gate.parameters())
        gate.zero_grad()
        told = gate(given, by) * known
        told = SURE * told / told.sum(1, keepdim=True) + (1 - SURE) / K
        wrong = -weight * torch.log(told[torch.arange(len(right)), right])
        each = torch.zeros(len(groups), dtype=torch.float64).index_add(0, of, wrong)
        total = each[~across].mean()
        if across.any():
            total = total + (torch.logsumexp(WORST * each[across], 0) - np.log(int(across.sum()))) / WORST
        total = total + DECAY * torch.cat([p.flatten() for p in gate.parameters()]).square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        slope = torch.cat([torch.as_tensor(p.grad).flatten() for p in gate.parameters()])
        return float(total.detach()), slope.numpy()

    start = parameters_to_vector(gate.parameters()).detach().numpy()
    minimum = minimize(loss, start, jac=True, method="L-BFGS-B")
    if not np.isfinite(minimum.fun):
        raise ValueError(f"The gate learned nothing: {minimum.message}.")
    vector_to_parameters(torch.from_numpy(minimum.x), gate.parameters())
    with torch.no_grad():
        belief = torch.cat((gate.belief.weight, gate.belief.bias[:, None]), 1).float().numpy()
        sharpness, doubt = torch.exp(gate.log_sharpness).float().numpy(), gate.doubt.float().numpy()
    return replace(model, gate=belief, sharpness=sharpness, doubt=doubt)
