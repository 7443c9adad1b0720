"""Co-attention: what may be attended to, local attention, gates."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from model import ModelConfig
from model.alignment import Alignment, CoAttentionBlock, attend, positions

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


def test_scores_can_be_scaled_otherwise() -> None:
    query, key, value, keys = made()
    root = 5**0.5
    assert torch.allclose(attend(query, key, value, keys, scale=1.0), attend(query * root, key, value, keys))
    local = attend(query, key, value, keys, span=4, scale=1.0)
    assert torch.allclose(local, attend(query * root, key, value, keys, span=4))


@pytest.mark.parametrize("span", [None, 4])
def test_attention_weights_are_dropped_where_that_is_asked_for(span: int | None) -> None:
    query, key, value, keys = made()
    torch.manual_seed(1)
    assert not torch.allclose(
        attend(query, key, value, keys, span=span, dropout=0.5), attend(query, key, value, keys, span=span)
    )


def test_positions_are_sines_and_cosines_of_falling_rates() -> None:
    table = positions(3, 6, torch.zeros(1, dtype=torch.float64))
    rates = [10_000 ** (-k / 6) for k in (0, 2, 4)]
    expected = [[f(n * rate) for rate in rates for f in (math.sin, math.cos)] for n in range(3)]
    assert table.dtype == torch.float64
    assert torch.allclose(table, torch.tensor(expected, dtype=torch.float64), atol=1e-6)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_a_block_is_what_its_equation_says(norm: str) -> None:
    torch.manual_seed(0)
    config = ModelConfig.paper({"text": 6, "audio": 6}, 3, co_width=8, co_heads=2, co_norm=norm)
    block = CoAttentionBlock(config).eval()
    assert block.feed_forward[0].out_features == config.co_ffn == 400
    for layer in (block.norm_query, block.norm_other, block.norm_out):  # not the identity
        torch.nn.init.normal_(layer.weight), torch.nn.init.normal_(layer.bias)
    query, other = torch.randn(1, 5, 8), torch.randn(1, 5, 8)
    keys = torch.tensor([[True, True, False, True, True]])

    def attention(q: Tensor, kv: Tensor) -> Tensor:
        heads = [
            layer(x)[0].unflatten(-1, (2, 4)).transpose(0, 1)
            for layer, x in ((block.query, q), (block.key, kv), (block.value, kv))
        ]
        scores = heads[0] @ heads[1].mT / 4**0.5
        weights = scores.masked_fill(~keys[0], -math.inf).softmax(-1)
        joined: Tensor = block.join((weights @ heads[2]).transpose(0, 1).flatten(1))
        return joined

    def inner(z: Tensor) -> Tensor:
        narrow: Tensor = block.feed_forward[3](torch.relu(block.feed_forward[0](z)))
        return narrow

    with torch.no_grad():
        heard = block.norm_other(other)
        if norm == "pre":
            z = query[0] + attention(block.norm_query(query), heard)
            expected = z + inner(block.norm_out(z))
        else:
            z = block.norm_query(query[0] + attention(query, heard))
            expected = block.norm_out(z + inner(z))
        assert torch.allclose(block(query, other, keys)[0], expected, atol=1e-5)
        block.train()
        assert not torch.allclose(block(query, other, keys)[0], expected, atol=1e-2)


def test_several_layers_follow_each_other() -> None:
    alignment, unimodal, keys = pair(co_layers=2)
    before = crossed(alignment, unimodal, keys)[0]
    with torch.no_grad():
        text, audio = (alignment.project[m](unimodal[m]) for m in ("text", "audio"))
        text, audio = (x + positions(6, 8, x) for x in (text, audio))
        first = alignment.blocks["text_audio_0"](text, audio, keys["audio"])
        second = alignment.blocks["text_audio_1"](first, audio, keys["audio"])
    assert torch.allclose(before, second[0], atol=1e-6)


def test_a_gate_weighs_what_the_other_modality_adds() -> None:
    gated, unimodal, keys = pair(gated=True)
    assert gated.gates.keys() == {"text_audio", "audio_text"}
    biases = [p for name, p in gated.gates.named_parameters() if name.endswith("bias")]
    assert len(biases) == 2 and all((bias == -2.0).all() for bias in biases)
    ours, _ = crossed(gated, unimodal, keys)
    with torch.no_grad():
        text, audio = (gated.project[m](unimodal[m]) for m in ("text", "audio"))
        added = gated.blocks["text_audio_0"](
            text + positions(6, 8, text), audio + positions(6, 8, audio), keys["audio"]
        )
        weight = torch.sigmoid(gated.gates["text_audio"](torch.cat((text, added), -1)))
        assert torch.allclose(ours, (text + weight * added)[0], atol=1e-6)


def test_unaligned_modalities_stand_side_by_side() -> None:
    config = ModelConfig.paper({"text": 6, "audio": 6}, 3, alignment=False)
    unimodal = {m: torch.randn(2, 4, config.width(m)) for m in config.modalities}
    keys = {m: torch.ones(2, 4, dtype=torch.bool) for m in config.modalities}
    alignment = Alignment(config)
    assert torch.equal(alignment(unimodal, keys), torch.cat((unimodal["text"], unimodal["audio"]), -1))
    assert not list(alignment.parameters())
