"""Supervised contrast: vectors of one class are drawn together, those of others apart.

Khosla et al., Supervised contrastive learning, NeurIPS 2020, with a prototype of each class among the vectors
that a vector is compared with, so that a class with one utterance in a batch has something to be drawn to
(Song et al., SPCL, EMNLP 2022).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

TEMPERATURE = 0.1
KEPT = 0.95  # of a prototype in each step
FAR = -1e9  # a likeness of what is not to be compared


class Prototypes:
    """A running mean direction of each class. ``values`` is all its state: store it to resume.

    Args:
        center: (d,) that directions are seen from.
    """

    def __init__(self, classes: int, center: Tensor) -> None:
        self.center = center
        self.values = center.new_zeros(classes, len(center))  # (C, d), zeros for a class not met yet

    def loss(self, vectors: Tensor, labels: Tensor) -> Tensor:
        """Mean over the labelled vectors; the prototypes follow them first.

        -log of the mean likeness to those of the same class, against all (Khosla et al., equation 2).

        Args:
            vectors: (n, d) with gradients.
            labels: (n,) classes, negative where unknown.
        """
        of_class = labels[labels >= 0]
        if not len(of_class):
            return vectors.new_zeros(())
        directions = normalize(vectors[labels >= 0] - self.center, dim=1)  # (m, d)
        self._follow(directions.detach(), of_class)
        itself = torch.eye(len(of_class), dtype=torch.bool, device=vectors.device)
        among = (directions @ directions.T / TEMPERATURE).masked_fill(itself, FAR)  # (m, m)
        met = self.values.any(1)
        to_classes = (directions @ self.values.T / TEMPERATURE).masked_fill(~met, FAR)  # (m, C)
        whole = torch.cat([among, to_classes], 1).logsumexp(1)
        same = (of_class[:, None] == of_class[None]) & ~itself
        own_class = to_classes.gather(1, of_class[:, None])[:, 0]
        likeness = (among.where(same, 0.0).sum(1) + own_class) / (same.sum(1) + 1)
        return (whole - likeness).mean()

    @torch.no_grad()
    def _follow(self, directions: Tensor, labels: Tensor) -> None:
        for c in set(labels.tolist()):
            mean = normalize(directions[labels == c].mean(0), dim=0)
            before = self.values[c]
            self.values[c] = normalize(KEPT * before + (1 - KEPT) * mean, dim=0) if before.any() else mean
