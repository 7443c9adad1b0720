"""The convolution against naive loops in float64, its gradients, and DropMessage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from model import Graph, ModelConfig, build_graph
from model.dropout import draw_mask, drop
from model.edges import drop_and_sum, edge_dot
from model.gcn import EdgeAttention, SpeakerEncoder, WindowConvolution

LENGTHS = torch.tensor([7, 1, 4])


def made(**changes: Any) -> tuple[SpeakerEncoder, Graph, Tensor]:
    torch.manual_seed(0)
    config = ModelConfig.paper({"text": 4}, 3, recurrent_width=3, graph_width=5, **changes)
    speakers = torch.randint(0, 2, (12,))
    graph = build_graph(LENGTHS, speakers, 3, 2, config.relations, 2)
    encoder = SpeakerEncoder(config).double().eval()
    if encoder.log_c is not None:
        torch.nn.init.normal_(encoder.log_c)
    return encoder, graph, torch.randn(12, 6, dtype=torch.float64)


def naive(encoder: SpeakerEncoder, graph: Graph, g: Tensor) -> Tensor:
    """Equations 11-15, one edge at a time."""
    w_e, w_0, w_20 = encoder.attention.score.weight, encoder.first_root.weight, encoder.second_root.weight
    w: Tensor = encoder.first.weight
    mix = encoder.first.mix
    if mix is not None:
        w = torch.stack([sum(a * b for a, b in zip(row, w, strict=True)) for row in mix])
    both = list(zip(graph.senders.tolist(), graph.receivers.tolist(), graph.relations.tolist(), strict=True))
    used = both if encoder.self_loops == "both" else both[: graph.neighbours]
    h1: list[Tensor] = []
    alpha: dict[tuple[int, int], Tensor] = {}
    for i in range(len(g)):
        window = [j for j, k, _ in both if k == i]
        scores = torch.softmax(torch.stack([g[i] @ w_e.T @ g[j] for j in window]), 0)
        alpha |= {(i, j): a for j, a in zip(window, scores, strict=True)}
        out = alpha[i, i] * (w_0 @ g[i])
        for j, k, r in used:
            if k == i:
                size = sum(1 for _, k2, r2 in used if (k2, r2) == (i, r))
                c: Any = {"count": size, "one": 1}.get(encoder.c_ir)
                if encoder.log_c is not None:
                    c = encoder.log_c[r].exp()
                out = out + alpha[i, j] / c * (g[j] @ w[r])
        h1.append(torch.relu(out))
    h2 = []
    for i in range(len(g)):
        near = [j for j, k, _ in used if k == i]
        out = w_20 @ h1[i]
        for j in near:
            scale = len(near) if encoder.second_step == "mean" else 1
            out = out + h1[j] @ encoder.second.weight[0] / scale
        h2.append(torch.relu(out))
    return torch.stack(h2)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"relations": "speaker_pair"},
        {"relations": "speaker_pair", "bases": 3, "c_ir": "learned"},
        {"c_ir": "one", "second_step": "sum"},
        {"self_loops": "both", "relations": "speaker_pair"},
    ],
)
def test_equals_the_naive_double_loop(changes: dict[str, Any]) -> None:
    encoder, graph, g = made(**changes)
    with torch.no_grad():
        assert torch.allclose(encoder(g, graph), naive(encoder, graph, g), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("relations", ["same_diff", "speaker_pair"])
def test_gradients_equal_those_of_the_naive_double_loop(relations: str) -> None:
    encoder, graph, g = made(relations=relations)
    g.requires_grad_()
    inputs = (g, *encoder.parameters())
    ours = torch.autograd.grad(encoder(g, graph).square().sum(), inputs)
    theirs = torch.autograd.grad(naive(encoder, graph, g).square().sum(), inputs)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, rtol=1e-8, atol=1e-10)


def test_alpha_sums_to_one_per_receiver() -> None:
    torch.manual_seed(0)
    graph = build_graph(LENGTHS, torch.zeros(12, dtype=torch.long), 3, 2)
    alpha = EdgeAttention(6)(3 * torch.randn(12, 6), graph)
    sums = torch.zeros(12).index_add(0, graph.receivers, alpha)
    assert torch.allclose(sums, torch.ones(12), atol=1e-6)
    assert (alpha > 0).all()


@pytest.mark.parametrize("rate", [0.0, 0.4])
def test_gradient_of_the_sums(rate: float) -> None:
    # A width over that of a slice, so that slices are joined and the last one is narrower.
    x = torch.randn(4, 53, dtype=torch.float64, requires_grad=True)
    weight = torch.rand(6, dtype=torch.float64, requires_grad=True)
    senders, cells = torch.tensor([1, 0, 2, 3, 1, 1]), torch.tensor([0, 1, 1, 3, 3, 4])

    def sums(x: Tensor, weight: Tensor) -> Tensor:
        torch.manual_seed(3)  # the same mask every time
        return drop_and_sum(x, weight, senders, cells, 5, rate)

    assert torch.autograd.gradcheck(sums, (x, weight))
    if rate == 0:
        dense = torch.zeros(5, 53, dtype=torch.float64).index_add(0, cells, x[senders] * weight[:, None])
        assert torch.allclose(sums(x, weight), dense)


def test_gradient_of_the_edge_products() -> None:
    a, b = (torch.randn(4, 53, dtype=torch.float64, requires_grad=True) for _ in range(2))
    receivers, senders = torch.tensor([0, 3, 1, 1]), torch.tensor([2, 2, 0, 3])
    assert torch.autograd.gradcheck(lambda a, b: edge_dot(a, b, receivers, senders), (a, b))
    assert torch.allclose(edge_dot(a, b, receivers, senders), (a[receivers] * b[senders]).sum(-1))


def test_drop_message_keeps_the_mean() -> None:
    torch.manual_seed(0)
    x, weight = torch.rand(30, 60) + 0.5, torch.rand(200)
    senders = torch.randint(0, 30, (200,))
    cells = torch.randint(0, 8, (200,)).sort().values
    exact = drop_and_sum(x, weight, senders, cells, 8, 0.0)
    rounds = torch.stack([drop_and_sum(x, weight, senders, cells, 8, 0.3) for _ in range(300)])
    assert rounds.std(0).min() > 0
    assert torch.allclose(rounds.mean(0), exact, rtol=0.05)
    assert (rounds.mean((0, 2)) / exact.mean(1) - 1).abs().max() < 0.01


def test_drop_message_draws_every_element_by_itself() -> None:
    torch.manual_seed(0)
    # One sender, many receivers: the elements that arrive differ between edges and between columns.
    arrived = drop_and_sum(
        torch.ones(1, 64),
        torch.ones(4000),
        torch.zeros(4000, dtype=torch.long),
        torch.arange(4000),
        4000,
        0.2,
    )
    dropped = (arrived == 0).float()
    assert dropped.mean().item() == pytest.approx(0.2, abs=0.006)
    assert dropped.mean(0).std() < 0.01 and dropped.mean(1).std() < 0.06
    correlation = torch.corrcoef(dropped.T)
    assert (correlation - torch.eye(64)).abs().max() < 0.09


@pytest.mark.parametrize("kind", ["message", "dropout", "edge", "none"])
def test_dropping_is_the_identity_in_eval_only(kind: str) -> None:
    encoder, graph, g = made(graph_drop=kind, graph_drop_rate=0.5)
    without, _, _ = made(graph_drop="none")
    without.load_state_dict(encoder.state_dict())
    exact = without(g, graph)
    assert torch.equal(encoder(g, graph), exact)
    torch.manual_seed(1)
    assert torch.equal(encoder.train()(g, graph), exact) == (kind == "none")


def test_dropping_whole_edges_and_whole_elements() -> None:
    torch.manual_seed(0)
    edge_index = torch.stack((torch.zeros(50, dtype=torch.long), torch.arange(50)))
    none = torch.zeros(50, dtype=torch.long)
    x = torch.ones(50, 8)
    by_edge = WindowConvolution(8, 8, kind="edge", rate=0.5)
    by_edge.weight.data.copy_(torch.eye(8)[None])
    rows = by_edge(x, edge_index, torch.ones(50), none)
    assert {len(row.unique()) for row in rows} == {1} and len(rows.unique()) == 2
    by_element = WindowConvolution(8, 8, kind="dropout", rate=0.5)
    by_element.weight.data.copy_(torch.eye(8)[None])
    rows = by_element(x, edge_index, torch.ones(50), none)
    assert (rows == rows[0]).all() and len(rows[0].unique()) == 2


def test_the_rate_is_met_though_a_byte_decides() -> None:
    torch.manual_seed(0)
    for rate in (0.001, 0.1, 0.4, 0.99):
        calls = torch.stack([(drop(torch.ones(1000), rate, True) == 0).float().mean() for _ in range(1500)])
        assert calls.mean().item() == pytest.approx(rate, abs=1e-3)
    x = torch.ones(7)
    assert drop(x, 0.5, False) is x and drop(x, 0.0, True) is x


def test_a_window_of_nothing_leaves_the_root() -> None:
    encoder, _, g = made()
    graph = build_graph(LENGTHS, torch.zeros(12, dtype=torch.long), 0, 0)
    assert graph.neighbours == 0
    h1 = torch.relu(g @ encoder.first_root.weight.T)
    assert torch.allclose(encoder(g, graph), torch.relu(h1 @ encoder.second_root.weight.T))


def test_a_mask_drops_its_share_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    cpu = torch.device("cpu")
    keep, scale = draw_mask((3, 5, 7), 0.5, cpu)
    assert keep.shape == (3, 5, 7) and keep.dtype == torch.uint8 and set(keep.flatten().tolist()) == {0, 1}
    assert scale == pytest.approx(2, rel=0.01)
    keep, scale = draw_mask((40_000,), 0.25, cpu)
    assert float(keep.float().mean()) * scale == pytest.approx(1, abs=0.02)
    assert draw_mask((4,), 0.9999, cpu)[1] == 256, "at most 255 of 256 are dropped"
    assert draw_mask((9,), 1e-9, cpu)[1] == 1.0
    dropped = drop(torch.full((2000,), 3.0), 0.25, True)
    assert sorted(set(dropped.tolist())) == pytest.approx([0.0, 4.0], rel=0.01)


def test_weights_begin_within_glorots_bound() -> None:
    torch.manual_seed(0)
    free = WindowConvolution(30, 20, relations=4)
    assert free.weight.shape == (4, 30, 20) and free.mix is None
    bound, weight = (6 / 50) ** 0.5, free.weight.detach()
    assert 0.95 * bound < float(weight.abs().max()) <= bound
    assert float(weight.min()) < -0.9 * bound
    mixed = WindowConvolution(30, 20, relations=8, groups=2, bases=3)
    assert mixed.weight.shape == (3, 30, 20) and mixed.mix is not None and mixed.mix.shape == (8, 3)
    assert float(mixed.mix.detach().abs().max()) <= (6 / 11) ** 0.5
    assert (mixed.groups, mixed.kinds) == (2, 4)


def test_root_terms_are_dropped_where_that_is_asked_for() -> None:
    for asked in (False, True):
        encoder, graph, g = made(graph_drop="none", graph_drop_rate=0.5, drop_root=asked)
        exact = encoder(g, graph)
        torch.manual_seed(1)
        assert torch.equal(encoder.train()(g, graph), exact) != asked


def test_torch_geometric_leaves_no_file_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    made()
    assert not list(tmp_path.iterdir())
