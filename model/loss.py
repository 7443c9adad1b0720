"""Coarse and fine cross-entropies joined, by a fixed alpha or by learned weights (equations 22-24).

convex       L = alpha L_C + (1 - alpha) L_F
additive     L = L_F + alpha L_C
uncertainty  L = sum_k exp(-s_k) L_k + s_k / 2, s learned               Kendall et al., CVPR 2018
dynamic      L = sum_k w_k L_k, w from the losses' recent rates         Liu et al., CVPR 2019

Every L_k is a sum over rows by the weight of those rows. A step whose rows go through the network in parts
(accumulated batches, several processes) divides by the weights of the whole step, so that its gradient is
that of one batch with all of them: see :func:`loss_weights`.

Letters of shapes: V utterances of all dialogues of a batch, M modalities, C labels. Equations are those of
arXiv 2501.15063.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
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


def loss_weights(
    fine_target: Tensor,
    coarse_target: Tensor,
    config: ModelConfig,
    *,
    present: Tensor | None = None,
    previous: Tensor | None = None,
    fine_counts: Tensor | None = None,
    coarse_counts: Tensor | None = None,
) -> dict[str, Tensor]:
    """What the sum over the rows of each task is divided by: the weight of the rows that count in it.

    Args:
        fine_target, coarse_target, fine_counts, coarse_counts: as in :func:`compute_loss`.
        present: (V, M) bool, for unimodal heads.
        previous: (V,) row of the speaker's previous utterance, for the auxiliary task ``shift``.
    """
    fine = _row_weights(fine_target, config, fine_counts)
    weights = {"fine": fine.sum(), "coarse": _row_weights(coarse_target, config, coarse_counts).sum()}
    if config.contrast_weight:
        weights["contrast"] = (fine_target != IGNORED).sum()
    if present is not None and config.unimodal_heads:
        for modality, observed in zip(config.modalities, present.T, strict=True):
            weights[f"unimodal {modality}"] = (fine * observed).sum()
            weights[f"distillation {modality}"] = observed.sum()
    if previous is not None and config.shift_weight:
        weights["shift"] = _with_known_change(previous, fine_target).sum()
    return weights


def compute_loss(
    output: Output,
    fine_target: Tensor,
    coarse_target: Tensor,
    config: ModelConfig,
    *,
    fine_counts: Tensor | None = None,
    coarse_counts: Tensor | None = None,
    task_weights: tuple[float, float] | None = None,
    whole: Mapping[str, Tensor] | None = None,
) -> Loss:
    """L = alpha L_C + (1 - alpha) L_F, or as the config says  (equations 22-24)

    The training loss of a batch.

    Args:
        fine_target, coarse_target: (V,) long, IGNORED (-100) where unlabelled. A head none of whose rows is
            labelled contributes nothing.
        fine_counts, coarse_counts: (C,) and (3,) labels in the training split; needed for
            ``logit_adjustment`` and ``class_balance``.
        task_weights: of the fine and the coarse task, for ``dynamic``: see :class:`DynamicWeights`.
        whole: :func:`loss_weights` of all the rows of a step of which this batch is a part; the losses of the
            parts then add up to that of the step. None: the batch is all of it.

    Raises:
        ValueError: something that the config needs is not given.
    """
    of_batch = loss_weights(
        fine_target, coarse_target, config, present=output.present, previous=output.previous,
        fine_counts=fine_counts, coarse_counts=coarse_counts,
    )  # fmt: skip
    over = {name: weight.clamp(min=1e-12) for name, weight in (of_batch if whole is None else whole).items()}
    fine = _cross_entropy(output.fine, fine_target, config, fine_counts) / over["fine"]
    coarse = _cross_entropy(output.coarse, coarse_target, config, coarse_counts) / over["coarse"]
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
        # A task without labels in this batch must not move its variance, and a part moves it by its share.
        share = torch.stack([of_batch[task] / over[task] for task in ("fine", "coarse")])
        s = output.log_variances
        total = (torch.exp(-s) * torch.stack((fine, coarse)) + share * s / 2).sum()

    parts: dict[str, Tensor] = {}
    if output.unimodal is not None:
        unimodal, distillation = _self_distillation(output, fine_target, config, fine_counts, over)
        parts |= {"unimodal": unimodal, "distillation": distillation}
        total = total + config.unimodal_weight * unimodal + config.distillation_weight * distillation
    if output.prototypes is not None:
        parts["contrast"] = _contrast(output, output.prototypes, fine_target, config) / over["contrast"]
        total = total + config.contrast_weight * parts["contrast"]
    if output.shift is not None and output.previous is not None:
        parts["shift"] = _shift(output.shift, output.previous, fine_target) / over["shift"]
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


def _row_weights(target: Tensor, config: ModelConfig, counts: Tensor | None) -> Tensor:
    """(V,) how much each row counts in a cross-entropy; 0 where it is unlabelled."""
    labelled = target != IGNORED
    weight = labelled.float()
    if config.class_balance:
        if counts is None:
            raise ValueError("class_balance needs the training split's label counts")
        effective = (1 - config.class_balance ** counts.float().clamp(min=1)) / (1 - config.class_balance)
        weight = weight * (1 / effective / (1 / effective).mean())[target.where(labelled, 0)]
    return weight


def _cross_entropy(logits: Tensor, target: Tensor, config: ModelConfig, counts: Tensor | None) -> Tensor:
    """Sum over the labelled rows, each by its weight."""
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
    log_p = log_softmax(logits, -1)
    right = log_p.gather(1, target.where(target != IGNORED, 0)[:, None])[:, 0]
    loss = -(1 - config.label_smoothing) * right - config.label_smoothing * log_p.mean(-1)
    if config.focal_gamma:
        loss = loss * (1 - right.exp()).clamp(min=0) ** config.focal_gamma
    return (_row_weights(target, config, counts) * loss).sum()


def _self_distillation(
    output: Output, target: Tensor, config: ModelConfig, counts: Tensor | None, over: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Of the per-modality heads, over utterances that have the modality: cross-entropy and divergence."""
    heads = output.unimodal or {}
    t = config.distillation_temperature
    teacher = log_softmax(output.fine.detach().float() / t, -1)
    cross, divergence = [], []
    for column, modality in enumerate(config.modalities):
        observed = output.present[:, column]
        cross_entropy = _cross_entropy(heads[modality], target.where(observed, IGNORED), config, counts)
        cross.append(cross_entropy / over[f"unimodal {modality}"])
        student = log_softmax(heads[modality].float() / t, -1)
        rows = kl_div(student, teacher, reduction="none", log_target=True).sum(-1) * t * t
        divergence.append((rows * observed).sum() / over[f"distillation {modality}"])
    return torch.stack(cross).mean(), torch.stack(divergence).mean()


def _contrast(output: Output, prototypes: Tensor, target: Tensor, config: ModelConfig) -> Tensor:
    """Supervised contrast (Khosla et al. 2020) with prototypes: each class has at least one positive.

    A row is held against the prototypes and its own dialogue, whatever else the batch has. Summed over rows.
    """
    labelled = target != IGNORED
    embedded, labels = normalize(output.hidden[labelled].float(), dim=-1), target[labelled]
    others = torch.cat((embedded, normalize(prototypes.float(), dim=-1)))
    similar = embedded @ others.T / config.contrast_temperature  # (V', V' + C)
    apart = torch.eye(*similar.shape, dtype=torch.bool, device=similar.device)
    if output.dialogue is not None:
        dialogue = output.dialogue[labelled]
        apart[:, : len(embedded)] |= dialogue[:, None] != dialogue
    log_p = log_softmax(similar.masked_fill(apart, float("-inf")), -1)
    kinds = torch.cat((labels, torch.arange(len(prototypes), device=labels.device)))
    positive = (labels[:, None] == kinds) & ~apart
    return (-log_p.masked_fill(~positive, 0).sum(-1) / positive.sum(-1)).sum()


def _with_known_change(previous: Tensor, target: Tensor) -> Tensor:
    """(V,) bool: the row and its speaker's previous one are both labelled."""
    return (previous >= 0) & (target != IGNORED) & (target[previous.clamp(min=0)] != IGNORED)


def _shift(logits: Tensor, previous: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy of "differs from the speaker's previous utterance", summed where that is known."""
    changed = (target[previous.clamp(min=0)] != target).float()
    rows = binary_cross_entropy_with_logits(logits.float(), changed, reduction="none")
    return (rows * _with_known_change(previous, target)).sum()
