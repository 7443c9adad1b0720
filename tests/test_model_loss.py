"""The loss: labels that lack, ways to weigh the tasks, imbalance, auxiliary terms."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from model import DynamicWeights, ModelConfig, Output, compute_loss

FINE = torch.tensor([0, 1, 2, 2, -100, 1])
COARSE = torch.tensor([0, -100, 2, 1, 1, 0])


def config(**changes: Any) -> ModelConfig:
    return ModelConfig.paper({"text": 4, "audio": 3}, 3, **changes)


def output(**changes: Any) -> Output:
    torch.manual_seed(0)
    values: dict[str, Any] = {
        "fine": torch.randn(6, 3, requires_grad=True),
        "coarse": torch.randn(6, 3, requires_grad=True),
        "present": torch.tensor([[True, False]] * 3 + [[True, True]] * 3),
        "hidden": torch.randn(6, 5, requires_grad=True),
    }
    return Output(**{**values, **changes})


def test_convex_and_additive() -> None:
    out = output()
    fine, coarse = cross_entropy(out.fine, FINE), cross_entropy(out.coarse, COARSE)
    loss = compute_loss(out, FINE, COARSE, config(alpha=0.7))
    assert torch.allclose(loss.total, 0.7 * coarse + 0.3 * fine)
    assert torch.allclose(loss.fine, fine) and torch.allclose(loss.coarse, coarse)
    loss = compute_loss(out, FINE, COARSE, config(alpha=0.7, loss="additive"))
    assert torch.allclose(loss.total, fine + 0.7 * coarse)


def test_no_labels_at_all_is_zero_not_nan() -> None:
    out, none = output(), torch.full((6,), -100)
    loss = compute_loss(out, none, COARSE, config(alpha=0.5))
    assert loss.fine == 0
    torch.autograd.backward(loss.total)
    assert out.fine.grad is not None and (out.fine.grad == 0).all()
    assert compute_loss(output(), none, none, config()).total == 0


def test_uncertainty_leaves_an_unlabelled_task_alone() -> None:
    s = torch.tensor([0.3, -0.2], requires_grad=True)
    out = output(log_variances=s)
    loss = compute_loss(out, FINE, COARSE, config(loss="uncertainty"))
    expected = loss.fine * math.exp(-0.3) + 0.15 + loss.coarse * math.exp(0.2) - 0.1
    assert torch.allclose(loss.total, expected)
    torch.autograd.backward(
        compute_loss(out, torch.full((6,), -100), COARSE, config(loss="uncertainty")).total
    )
    assert s.grad is not None and s.grad[0] == 0 and s.grad[1] != 0


def test_dynamic_weights_follow_the_slower_task() -> None:
    weights = DynamicWeights()
    assert weights.weights == (1.0, 1.0)
    weights.update(1.0, 1.0)
    weights.update(0.5, 0.9)  # the fine loss falls faster
    weights.update(0.25, 0.81)
    fine, coarse = DynamicWeights(history=weights.history).weights
    assert fine < coarse and fine + coarse == pytest.approx(2)
    loss = compute_loss(output(), FINE, COARSE, config(loss="dynamic"), task_weights=(fine, coarse))
    assert torch.allclose(loss.total, fine * loss.fine + coarse * loss.coarse)
    with pytest.raises(ValueError, match="task_weights"):
        compute_loss(output(), FINE, COARSE, config(loss="dynamic"))


def test_logit_adjustment_adds_the_prior() -> None:
    counts, out = torch.tensor([70, 20, 10]), output()
    loss = compute_loss(
        out, FINE, COARSE, config(logit_adjustment=1.0), fine_counts=counts, coarse_counts=counts
    )
    shifted = out.fine + torch.tensor([0.7, 0.2, 0.1]).log()
    assert torch.allclose(loss.fine, cross_entropy(shifted, FINE))
    with pytest.raises(ValueError, match="3 label counts"):
        compute_loss(out, FINE, COARSE, config(logit_adjustment=1.0))


def test_focal_smoothing_and_class_balance() -> None:
    out, counts = output(), torch.tensor([1000, 10, 100])
    smoothed = compute_loss(out, FINE, COARSE, config(label_smoothing=0.1))
    assert torch.allclose(smoothed.fine, cross_entropy(out.fine, FINE, label_smoothing=0.1))
    focal = compute_loss(out, FINE, COARSE, config(focal_gamma=2.0))
    p = out.fine.softmax(1)[torch.arange(6), FINE.clamp(min=0)]
    rows = (-((1 - p) ** 2) * p.log())[FINE >= 0]
    assert torch.allclose(focal.fine, rows.mean())
    balanced = compute_loss(
        out, FINE, COARSE, config(class_balance=0.999), fine_counts=counts, coarse_counts=counts
    )
    effective = (1 - 0.999**counts) / (1 - 0.999)
    assert torch.allclose(balanced.fine, cross_entropy(out.fine, FINE, weight=1 / effective), rtol=1e-5)


def test_unimodal_heads_learn_where_their_modality_is() -> None:
    heads = {m: torch.randn(6, 3, requires_grad=True) for m in ("text", "audio")}
    out = output(unimodal=heads)
    loss = compute_loss(out, FINE, COARSE, config(unimodal_heads=True))
    torch.autograd.backward(loss.total)
    absent = heads["audio"].grad
    assert absent is not None and (absent[:3] == 0).all() and (absent[3:] != 0).any()
    assert out.fine.grad is not None
    plain = output()
    torch.autograd.backward(compute_loss(plain, FINE, COARSE, config()).total)
    assert plain.fine.grad is not None and torch.allclose(
        out.fine.grad, plain.fine.grad
    )  # the teacher stands
    same = output()
    same.unimodal = {m: same.fine.detach() for m in ("text", "audio")}
    agreed = compute_loss(same, FINE, COARSE, config(unimodal_heads=True))
    assert agreed.parts["distillation"].abs() < 1e-6


def test_contrast_prefers_classes_apart() -> None:
    axes = torch.eye(3, 5)
    labels = FINE.clamp(min=0)
    apart = output(hidden=axes[labels], prototypes=axes)
    mixed = output(hidden=axes[(labels + 1) % 3], prototypes=axes)
    settings = config(contrast_weight=0.5)
    good, bad = (compute_loss(o, FINE, COARSE, settings).parts["contrast"] for o in (apart, mixed))
    assert good < bad
    empty = compute_loss(apart, torch.full((6,), -100), COARSE, settings).parts["contrast"]
    assert empty == 0


def test_shift_counts_labelled_pairs_only() -> None:
    logits = torch.tensor([0.0, 9.0, -9.0, -9.0, 5.0, 5.0])
    # 1 follows 0 (changed), 3 follows 2 (same); 4 has no label, 5 follows 4.
    previous = torch.tensor([-1, 0, -1, 2, 1, 4])
    out = output(shift=logits, previous=previous)
    shift: Tensor = compute_loss(out, FINE, COARSE, config(shift_weight=0.1)).parts["shift"]
    assert shift.item() == pytest.approx(math.log1p(math.exp(-9)), rel=1e-2)
