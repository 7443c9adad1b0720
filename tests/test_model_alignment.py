"""Co-attention: what may be attended to, local attention, gates."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from model import ModelConfig
from model.alignment import Alignment, attend, positions

SHAPE = (2, 3, 23, 5)  # B, H, N, d


def made() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    query, key, value = (torch.randn(SHAPE, dtype=torch.float64) for _ in range(3))
    keys = torch.rand(2, 23) < 0.7
    keys[1, :9] = False
    return query, key, value, keys


def naive(query: Tensor, key: Tensor, value: Tensor, keys: Tensor, span: int, causal: bool) -> Tensor:
    out = torch.zeros_like(query)
    for b, h, i in torch.cartesian_prod(*(torch.arange(n) for n in SHAPE[:3])).tolist():
        at = [j for j in range(23) if keys[b, j] and abs(i - j) <= span and (j <= i or not causal)]
        if at:
            weight = torch.softmax(key[b, h, at] @ query[b, h, i] / 5**0.5, 0)
            out[b, h, i] = weight @ value[b, h, at]
    return out


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("span", [None, 1, 4, 11, 40])
def test_equals_the_naive_loop(span: int | None, causal: bool) -> None:
    query, key, value, keys = made()
    out = attend(query, key, value, keys, span=span, causal=causal)
    assert torch.allclose(out, naive(query, key, value, keys, span or 99, causal), atol=1e-12)


def test_no_key_at_all_gives_zeros_and_finite_gradients() -> None:
    query, key, value, keys = made()
    for t in (query, key, value):
        t.requires_grad_()
    keys[0] = False
    out = attend(query, key, value, keys)
    assert (out[0] == 0).all() and out[1].abs().min() > 0
    for grad in torch.autograd.grad(out.sum(), (query, key, value)):
        assert grad.isfinite().all()


def test_positions_tell_utterances_apart() -> None:
    table = positions(50, 100, torch.zeros(1))
    assert table.shape == (50, 100)
    assert torch.cdist(table, table).add(torch.eye(50) * 9).min() > 0.5
    assert positions(4, 7, torch.zeros(1, dtype=torch.float64)).shape == (4, 7)


def test_closed_gates_leave_each_modality_as_it_is() -> None:
    torch.manual_seed(0)
    config = ModelConfig.paper({"text": 6, "audio": 6, "face": 6}, 3, gated=True, gate_bias=-80.0)
    alignment = Alignment(config).eval()
    unimodal = {m: torch.randn(1, 4, config.width(m)) for m in config.modalities}
    keys = {m: torch.ones(1, 4, dtype=torch.bool) for m in config.modalities}
    fused = alignment(unimodal, keys)
    assert fused.shape == (1, 4, 1000)
    assert torch.allclose(fused[..., 400:500], alignment.project["text"](unimodal["text"]), atol=1e-5)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_layers_and_norms_run(norm: str) -> None:
    config = ModelConfig.paper({"text": 6, "audio": 6}, 3, co_layers=2, co_norm=norm, co_positions=False)
    unimodal = {m: torch.randn(2, 4, config.width(m)) for m in config.modalities}
    keys = {m: torch.ones(2, 4, dtype=torch.bool) for m in config.modalities}
    assert Alignment(config)(unimodal, keys).shape == (2, 4, config.fused_width)


def pair(**changes: object) -> tuple[Alignment, dict[str, Tensor], dict[str, Tensor]]:
    """Text and audio of one dialogue of six utterances; their E_TA and E_AT are the last two parts."""
    torch.manual_seed(0)
    config = ModelConfig.paper({"text": 6, "audio": 6}, 3, co_width=8, co_heads=2, **changes)
    unimodal = {m: torch.randn(1, 6, config.width(m)) for m in config.modalities}
    keys = {m: torch.ones(1, 6, dtype=torch.bool) for m in config.modalities}
    return Alignment(config).eval(), unimodal, keys


def crossed(alignment: Alignment, unimodal: dict[str, Tensor], keys: dict[str, Tensor]) -> tuple[Tensor, ...]:
    """E_TA and E_AT, each (N, 8)."""
    with torch.no_grad():
        ours, theirs = alignment(unimodal, keys)[0, :, -16:].split(8, -1)
    return ours, theirs


def test_the_order_of_utterances_matters_where_positions_are_added() -> None:
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    for added in (True, False):
        alignment, unimodal, keys = pair(co_positions=added)
        before = crossed(alignment, unimodal, keys)[0]
        after = crossed(alignment, {**unimodal, "audio": unimodal["audio"][:, order]}, keys)[0]
        assert torch.allclose(before, after, atol=1e-6) != added


def test_each_direction_asks_with_one_modality_and_hears_the_other() -> None:
    alignment, unimodal, keys = pair()
    before = crossed(alignment, unimodal, keys)
    for other in ("audio", "text"):
        changed = unimodal[other].clone()
        changed[0, 2] += 1
        after = crossed(alignment, {**unimodal, other: changed}, keys)
        heard, asked = (0, 1) if other == "audio" else (1, 0)  # E_TA hears audio, E_AT asks with it
        moved = [(a - b).abs().amax(-1) > 1e-6 for a, b in zip(after, before, strict=True)]
        assert moved[heard].all()  # every utterance hears the one that has changed
        assert moved[asked].tolist() == [False, False, True, False, False, False]


def test_what_is_no_key_is_not_heard() -> None:
    alignment, unimodal, keys = pair()
    keys["audio"][0, 2] = False
    changed = {**unimodal, "audio": unimodal["audio"].clone()}
    changed["audio"][0, 2] += 1
    before, after = crossed(alignment, unimodal, keys), crossed(alignment, changed, keys)
    assert torch.equal(before[0], after[0]) and not torch.equal(before[1], after[1])
