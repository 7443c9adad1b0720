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
