"""The loss: labels that lack, ways to weigh the tasks, imbalance, auxiliary terms."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from annotator.records import Conversation, Features
from model import DynamicWeights, ModelConfig, Network, Output, collate, compute_loss
from train.core import step_weights
from train.corpus import LabelledConversation
from train.evaluate.logits import targets

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


LOSSES: dict[str, dict[str, Any]] = {
    "convex": {},
    "additive": {"loss": "additive", "label_smoothing": 0.1, "focal_gamma": 1.0},
    "uncertainty": {"loss": "uncertainty"},
    "dynamic": {"loss": "dynamic", "logit_adjustment": 0.5},
    "balanced": {"class_balance": 0.99},
    "contrast": {"contrast_weight": 0.5},
    "unimodal": {"unimodal_heads": True, "class_balance": 0.99, "missing": True},
    "shift": {"shift_weight": 0.5},
}


@pytest.mark.parametrize("kind", LOSSES)
def test_a_step_in_parts_has_the_gradient_of_the_whole(kind: str) -> None:
    """With half of the sentiments unknown, a dialogue without any label, and classes of unequal number."""
    still = dict.fromkeys(("dropout", "co_dropout", "graph_drop_rate"), 0.0)
    small = {"co_width": 8, "co_heads": 2, "co_ffn": 8, "recurrent_width": 6, "graph_width": 6}
    settings = ModelConfig.paper(
        {"text": 4, "audio": 3}, 3, text_width=8, audio_width=8, classifier_width=8,
        **{**still, **small, **LOSSES[kind]},
    )  # fmt: skip
    draw = np.random.default_rng(0)
    talks = []
    for dialogue, length in enumerate((5, 1, 7, 4, 3)):
        speakers = draw.integers(0, 2, length)
        features = {
            m: Features(draw.normal(size=(length, d)).astype(np.float32), draw.random(length) < 0.7)
            for m, d in settings.input_dims.items()
        }
        fine = draw.choice([0, 0, 0, 1, 2, -100], length)
        coarse = np.where(draw.random(length) < 0.5, draw.integers(0, 3, length), -100)
        if dialogue == 1:
            fine[:], coarse[:] = -100, -100
        talks.append(LabelledConversation(Conversation(speakers, features), fine, coarse, str(dialogue), 0))
    torch.manual_seed(0)
    network = Network(settings)
    if network.log_variances is not None:
        torch.nn.init.uniform_(network.log_variances)
    counts = [torch.tensor([60, 30, 10]), torch.tensor([5, 50, 45])]

    def gradient(*parts: list[LabelledConversation]) -> tuple[float, dict[str, Tensor]]:
        network.zero_grad()
        whole = step_weights([t for part in parts for t in part], settings, counts, torch.device("cpu"))
        total = 0.0
        for part in parts:
            fine, coarse = (torch.from_numpy(t) for t in targets(part))
            loss = compute_loss(
                network(collate([t.conversation for t in part], settings.modalities)), fine, coarse, settings,
                fine_counts=counts[0], coarse_counts=counts[1], task_weights=(1.3, 0.7), whole=whole,
            )  # fmt: skip
            torch.autograd.backward(loss.total)
            total += float(loss.total.detach())
        return total, {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}

    total, at_once = gradient(talks)
    for parts in ((talks[:2], talks[2:]), tuple([t] for t in talks), (talks[::2], talks[1::2])):
        other, in_parts = gradient(*parts)
        assert other == pytest.approx(total, rel=1e-5)
        assert in_parts.keys() == at_once.keys()
        for name, grad in at_once.items():
            torch.testing.assert_close(in_parts[name], grad, atol=1e-6, rtol=1e-4, msg=name)
    # Where the batch is all of the step, it need not be said.
    told = [torch.from_numpy(t) for t in targets(talks)]
    alone = compute_loss(
        network(collate([t.conversation for t in talks], settings.modalities)), told[0], told[1],
        settings, fine_counts=counts[0], coarse_counts=counts[1], task_weights=(1.3, 0.7),
    )  # fmt: skip
    assert float(alone.total.detach()) == pytest.approx(total, rel=1e-5)


def test_dynamic_weights_are_those_of_their_equation() -> None:
    weights = DynamicWeights()
    weights.update(1.0, 2.0)
    assert weights.weights == (1.0, 1.0), "one epoch tells no rate"
    weights.update(0.5, 1.8)
    fine, coarse = math.exp(0.5 / 2), math.exp(0.9 / 2)
    assert weights.weights == pytest.approx((2 * fine / (fine + coarse), 2 * coarse / (fine + coarse)))
    weights.update(0.25, 0.9)
    assert weights.history == [(0.5, 1.8), (0.25, 0.9)] and weights.weights == pytest.approx((1.0, 1.0))
    vanished = DynamicWeights(history=[(0.0, 1.0), (0.0, 1.0)])
    assert vanished.weights[0] < vanished.weights[1] and sum(vanished.weights) == pytest.approx(2)
    colder = DynamicWeights(temperature=0.5, history=[(1.0, 2.0), (0.5, 1.8)])
    assert colder.weights[1] == pytest.approx(2 / (1 + math.exp((0.5 - 0.9) / 0.5)))


def test_a_class_without_examples_counts_as_half_of_one_in_the_prior_and_as_one_in_the_balance() -> None:
    counts, out = torch.tensor([70, 30, 0]), output()
    adjusted = compute_loss(
        out, FINE, COARSE, config(logit_adjustment=2.0), fine_counts=counts, coarse_counts=counts
    )
    shifted = out.fine + 2 * torch.tensor([0.7, 0.3, 0.005]).log()
    assert torch.allclose(adjusted.fine, cross_entropy(shifted, FINE))
    balanced = compute_loss(
        out, FINE, COARSE, config(class_balance=0.9), fine_counts=counts, coarse_counts=counts
    )
    effective = (1 - 0.9 ** torch.tensor([70.0, 30.0, 1.0])) / (1 - 0.9)
    assert torch.allclose(balanced.fine, cross_entropy(out.fine, FINE, weight=1 / effective), rtol=1e-5)
    with pytest.raises(ValueError, match="class_balance needs the training split's label counts"):
        compute_loss(output(), FINE, COARSE, config(class_balance=0.9), fine_counts=counts)
    with pytest.raises(ValueError, match="need the training split's 3 label counts"):
        compute_loss(
            output(), FINE, COARSE, config(logit_adjustment=1.0), fine_counts=counts[:2], coarse_counts=counts
        )


def test_distillation_is_the_divergence_at_its_temperature() -> None:
    heads = {m: torch.randn(6, 3) for m in ("text", "audio")}
    out = output(unimodal=heads)
    for t in (1.0, 3.0):
        settings = config(unimodal_heads=True, distillation_temperature=t)
        loss = compute_loss(out, FINE, COARSE, settings)
        teacher = (out.fine / t).softmax(1)
        divergences, crosses = [], []
        for column, modality in enumerate(("text", "audio")):
            there = out.present[:, column]
            student = (heads[modality] / t).log_softmax(1)
            rows = (teacher * (teacher.log() - student)).sum(1) * t * t
            divergences.append(rows[there].mean())
            crosses.append(cross_entropy(heads[modality], FINE.where(there, -100)))
        assert torch.allclose(loss.parts["distillation"], torch.stack(divergences).mean(), rtol=1e-5)
        assert torch.allclose(loss.parts["unimodal"], torch.stack(crosses).mean())
        plain = compute_loss(output(), FINE, COARSE, config()).total
        added = 0.3 * loss.parts["unimodal"] + 0.3 * loss.parts["distillation"]
        assert torch.allclose(loss.total, plain + added)


def test_contrast_equals_the_naive_loop() -> None:
    prototypes, dialogue = torch.randn(3, 5), torch.tensor([0, 0, 0, 1, 1, 1])
    out = output(prototypes=prototypes, dialogue=dialogue)
    loss = compute_loss(out, FINE, COARSE, config(contrast_weight=0.5, contrast_temperature=0.2))
    rows = []
    for i in range(6):
        if FINE[i] < 0:
            continue
        others = [j for j in range(6) if j != i and FINE[j] >= 0 and dialogue[j] == dialogue[i]]
        vectors = torch.cat((out.hidden[others], prototypes))
        kinds = [int(FINE[j]) for j in others] + [0, 1, 2]
        cosines = torch.cosine_similarity(out.hidden[i], vectors) / 0.2
        log_p = cosines.log_softmax(0)
        rows.append(-torch.stack([log_p[k] for k, kind in enumerate(kinds) if kind == FINE[i]]).mean())
    assert torch.allclose(loss.parts["contrast"], torch.stack(rows).mean(), rtol=1e-5)
    plain = compute_loss(output(), FINE, COARSE, config()).total
    assert torch.allclose(loss.total, plain + 0.5 * loss.parts["contrast"])
    whole = compute_loss(
        output(prototypes=prototypes), FINE, COARSE, config(contrast_weight=0.5, contrast_temperature=0.2)
    )
    assert not torch.allclose(whole.parts["contrast"], loss.parts["contrast"])


def test_shift_is_added_by_its_weight() -> None:
    previous = torch.tensor([-1, 0, 1, 2, 1, 4])
    out = output(shift=torch.tensor([3.0, -1.0, 2.0, 0.5, 9.0, 9.0]), previous=previous)
    loss = compute_loss(out, FINE, COARSE, config(shift_weight=0.1))
    # Rows 1, 2 and 3 have a labelled one before them: changed, changed, the same.
    expected = [math.log1p(math.exp(1)), math.log1p(math.exp(-2)), math.log1p(math.exp(0.5))]
    assert loss.parts["shift"].item() == pytest.approx(sum(expected) / 3, rel=1e-5)
    plain = compute_loss(output(), FINE, COARSE, config()).total
    assert torch.allclose(loss.total, plain + 0.1 * loss.parts["shift"])


def test_half_precision_logits_are_scored_in_single() -> None:
    out = output()
    exact = compute_loss(out, FINE, COARSE, config()).fine
    rough = output(fine=out.fine.detach().to(torch.bfloat16), coarse=out.coarse.detach().to(torch.float16))
    loss = compute_loss(rough, FINE, COARSE, config())
    assert loss.fine.dtype == loss.coarse.dtype == torch.float32
    assert torch.allclose(loss.fine, exact, rtol=1e-2)


def test_what_the_uncertainty_needs_is_said() -> None:
    with pytest.raises(ValueError, match="needs the network's log_variances"):
        compute_loss(output(), FINE, COARSE, config(loss="uncertainty"))
