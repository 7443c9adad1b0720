"""Coarse and fine cross-entropies joined, by a fixed alpha or by learned weights (equations 22-24).

convex       L = alpha L_C + (1 - alpha) L_F
additive     L = L_F + alpha L_C
uncertainty  L = sum_k exp(-s_k) L_k + s_k / 2, s learned               Kendall et al., CVPR 2018
dynamic      L = sum_k w_k L_k, w from the losses' recent rates         Liu et al., CVPR 2019
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, kl_div, log_softmax, normalize

from model.config import ModelConfig
from model.network import Output

IGNORED = -100  # a target without a label


@dataclass
class Loss:
    """``total`` is what to descend; the others are its parts, each unweighted, for the log."""

    total: Tensor
    fine: Tensor
    coarse: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)  # auxiliary terms that are switched on


def compute_loss(
    output: Output,
    fine_target: Tensor,
    coarse_target: Tensor,
    config: ModelConfig,
    *,
    fine_counts: Tensor | None = None,
    coarse_counts: Tensor | None = None,
    task_weights: tuple[float, float] | None = None,
) -> Loss:
    """The training loss of a batch.

    Args:
        fine_target, coarse_target: (V,) long, IGNORED (-100) where unlabelled. A head none of whose rows is
            labelled contributes nothing.
        fine_counts, coarse_counts: (C,) and (3,) labels in the training split; needed for
            ``logit_adjustment`` and ``class_balance``.
        task_weights: of the fine and the coarse task, for ``dynamic``: see :class:`DynamicWeights`.

    Raises:
        ValueError: something that the config needs is not given.
    """
    fine = _cross_entropy(output.fine, fine_target, config, fine_counts)
    coarse = _cross_entropy(output.coarse, coarse_target, config, coarse_counts)
    if config.loss == "convex":
        total = config.alpha * coarse + (1 - config.alpha) * fine
    elif config.loss == "additive":
        total = fine + config.alpha * coarse
    elif config.loss == "dynamic":
        if task_weights is None:
            raise ValueError("the dynamic loss needs task_weights, from DynamicWeights")
        total = task_weights[0] * fine + task_weights[1] * coarse
    else:
        if output.log_variances is None:
            raise ValueError("the uncertainty loss needs the network's log_variances")
        # A task without labels in this batch must not move its variance.
        labelled = torch.stack([(t != IGNORED).any() for t in (fine_target, coarse_target)])
        s = output.log_variances
        total = ((torch.exp(-s) * torch.stack((fine, coarse)) + s / 2) * labelled).sum()

    parts: dict[str, Tensor] = {}
    if output.unimodal is not None:
        unimodal, distillation = _self_distillation(output, fine_target, config, fine_counts)
        parts |= {"unimodal": unimodal, "distillation": distillation}
        total = total + config.unimodal_weight * unimodal + config.distillation_weight * distillation
    if output.prototypes is not None:
        parts["contrast"] = _contrast(output.hidden, output.prototypes, fine_target, config)
        total = total + config.contrast_weight * parts["contrast"]
    if output.shift is not None and output.previous is not None:
        parts["shift"] = _shift(output.shift, output.previous, fine_target)
        total = total + config.shift_weight * parts["shift"]
    return Loss(total, fine, coarse, parts)


class DynamicWeights:
    """Dynamic weight averaging: a task whose loss falls more slowly than the other's gets more weight.

        w_k = 2 exp(r_k / T) / sum exp(r / T),  r_k = L_k(epoch - 1) / L_k(epoch - 2)

    Call :meth:`update` after every epoch with its mean losses. ``history`` is all its state: store it to
    resume.
    """

    def __init__(self, temperature: float = 2.0, history: list[tuple[float, float]] | None = None) -> None:
        self.temperature = temperature
        self.history = list(history or [])

    def update(self, fine: float, coarse: float) -> None:
        self.history = [*self.history, (fine, coarse)][-2:]

    @property
    def weights(self) -> tuple[float, float]:
        """(fine, coarse), which sum to 2; both 1 in the first two epochs."""
        if len(self.history) < 2:
            return (1.0, 1.0)
        rates = [now / max(before, 1e-12) for before, now in zip(*self.history, strict=True)]
        top = max(rates)
        raised = [math.exp((r - top) / self.temperature) for r in rates]
        return (2 * raised[0] / sum(raised), 2 * raised[1] / sum(raised))


def _cross_entropy(logits: Tensor, target: Tensor, config: ModelConfig, counts: Tensor | None) -> Tensor:
    """Mean over the labelled rows; 0 when there are none."""
    if logits.dtype in (torch.bfloat16, torch.float16):
        logits = logits.float()
    classes = logits.shape[1]
    if config.logit_adjustment or config.class_balance:
        if counts is None or len(counts) != classes:
            raise ValueError(
                f"logit_adjustment and class_balance need the training split's {classes} label counts"
            )
        counts = counts.to(logits)
    if config.logit_adjustment and counts is not None:
        # A class without examples gets the prior of half an example, not minus infinity.
        logits = logits + config.logit_adjustment * (counts.clamp(min=0.5) / counts.sum()).log()
    labelled = target != IGNORED
    target = target.where(labelled, 0)
    log_p = log_softmax(logits, -1)
    right = log_p.gather(1, target[:, None])[:, 0]
    loss = -(1 - config.label_smoothing) * right - config.label_smoothing * log_p.mean(-1)
    weight = labelled.to(logits.dtype)
    if config.class_balance and counts is not None:
        effective = (1 - config.class_balance ** counts.clamp(min=1)) / (1 - config.class_balance)
        weight = weight * (1 / effective / (1 / effective).mean())[target]
    if config.focal_gamma:
        loss = loss * (1 - right.exp()).clamp(min=0) ** config.focal_gamma
    return (weight * loss).sum() / weight.sum().clamp(min=1e-12)


def _self_distillation(
    output: Output, target: Tensor, config: ModelConfig, counts: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Of the per-modality heads, over utterances that have the modality: cross-entropy and divergence."""
    heads = output.unimodal or {}
    t = config.distillation_temperature
    teacher = log_softmax(output.fine.detach().float() / t, -1)
    cross, divergence = [], []
    for column, modality in enumerate(config.modalities):
        there = output.present[:, column]
        cross.append(_cross_entropy(heads[modality], target.where(there, IGNORED), config, counts))
        student = log_softmax(heads[modality].float() / t, -1)
        rows = kl_div(student, teacher, reduction="none", log_target=True).sum(-1) * t * t
        divergence.append((rows * there).sum() / there.sum().clamp(min=1))
    return torch.stack(cross).mean(), torch.stack(divergence).mean()


def _contrast(hidden: Tensor, prototypes: Tensor, target: Tensor, config: ModelConfig) -> Tensor:
    """Supervised contrast (Khosla et al. 2020) with prototypes: each class has at least one positive."""
    labelled = target != IGNORED
    own, labels = normalize(hidden[labelled].float(), dim=-1), target[labelled]
    others = torch.cat((own, normalize(prototypes.float(), dim=-1)))
    similar = own @ others.T / config.contrast_temperature  # (V', V' + C)
    itself = torch.eye(*similar.shape, dtype=torch.bool, device=similar.device)
    log_p = log_softmax(similar.masked_fill(itself, float("-inf")), -1)
    kinds = torch.cat((labels, torch.arange(len(prototypes), device=labels.device)))
    positive = (labels[:, None] == kinds) & ~itself
    per_row = -log_p.masked_fill(~positive, 0).sum(-1) / positive.sum(-1)
    return per_row.sum() / max(1, len(labels))


def _shift(logits: Tensor, previous: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy of "differs from the speaker's previous utterance", where both are labelled."""
    before = target[previous.clamp(min=0)]
    known = (previous >= 0) & (target != IGNORED) & (before != IGNORED)
    changed = (before != target).float()
    rows = binary_cross_entropy_with_logits(logits.float(), changed, reduction="none")
    return (rows * known).sum() / known.sum().clamp(min=1)
