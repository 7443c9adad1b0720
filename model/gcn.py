"""Edge weights by content, DropMessage, and the two-step adaptive graph convolution (equations 11-15).

    alpha_ij = softmax over j in the window of i, i included, of g_i^T W_e g_j
    h1_i = ReLU( sum_r sum_{j in N_i^r} (alpha_ij / c_ir) W_r drop(g_j) + alpha_ii W_0 g_i )
    h2_i = ReLU( (1 / |N_i|) sum_{j in N_i} W_2 drop(h1_j) + W_2,0 h1_i )

drop is DropMessage (Fang et al., AAAI 2023), on the matrix of messages, one row a directed edge:
M'_ek = eps_ek M_ek / (1 - delta), eps_ek ~ Bernoulli(1 - delta), in training only. One sender's messages to
different receivers are dropped independently.

A linear map and a sum commute, so messages are summed for each receiver and relation first and the sums
transformed after: V R products with a weight matrix in place of E.

Letters of shapes: V utterances of all dialogues of a batch, E directed edges (self-loops among them), R
relations, d the width of a vector. Equations are those of arXiv 2501.15063.
"""

from __future__ import annotations

import os
import sys
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from model.config import ModelConfig
from model.dropout import drop
from model.edges import drop_and_sum, edge_dot
from model.graph import Graph

with warnings.catch_warnings():
    # torch_geometric compiles some of its classes by torch.jit when it is imported.
    warnings.filterwarnings("ignore", "`torch.jit.script", DeprecationWarning)
    from torch_geometric import EdgeIndex
    from torch_geometric.nn import MessagePassing
    from torch_geometric.nn.conv import message_passing
    from torch_geometric.utils import softmax


def _module_from_template(module_name: str, template_path: str, tmp_dirname: str, **values: Any) -> Any:
    """torch_geometric's function of that name, but for the file that it leaves in the temporary folder."""
    from jinja2 import Environment, FileSystemLoader

    if module_name not in sys.modules:
        folder, name = os.path.split(template_path)
        text = Environment(loader=FileSystemLoader(folder)).get_template(name).render(**values)
        module = types.ModuleType(module_name)
        sys.modules[module_name] = module
        exec(compile(text, template_path, "exec"), module.__dict__)  # the library's own text, not a user's
    return sys.modules[module_name]


@contextmanager
def _no_files() -> Iterator[None]:
    """While a layer is made: torch_geometric writes code for it, in memory rather than on disk."""
    original = message_passing.module_from_template
    message_passing.module_from_template = _module_from_template
    try:
        yield
    finally:
        message_passing.module_from_template = original


class EdgeAttention(nn.Module):
    """alpha_ij = softmax_j(g_i^T W_e g_j), j in the window of i  (equation 11)

    The weights that i receives sum to 1.

    Shapes:
        g (V, d) -> alpha (E,)
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, width, bias=False)  # W_e

    def forward(self, g: Tensor, graph: Graph) -> Tensor:
        """g (V, width) -> alpha (E,) in the order of the graph's edges, in g's precision."""
        scored = self.score(g).to(g.dtype)
        scores = edge_dot(scored, g, graph.receivers, graph.senders)
        alpha: Tensor = softmax(scores, graph.receivers, num_nodes=graph.nodes)
        return alpha


class WindowConvolution(MessagePassing):  # type: ignore[misc]  # torch_geometric carries no types
    """sum_r W_r sum_{j in N_i^r} w_ij drop(x_j)  (the sums of equations 14 and 15)

    Messages dropped, weighted and summed by receiver and relation, then a weight matrix for each relation.

    Receivers may fall into groups that have their own relations, as where relations depend on the receiver's
    speaker: relations k r .. k (r + 1) - 1 reach receivers of group r, with k = relations / groups. Each
    receiver then takes part in k products instead of R.

    This is torch_geometric's fused form of message passing: the matrix of messages exists only inside
    :func:`model.edges.drop_and_sum`, a few columns at a time.

    Args:
        relations: R; 1 where edges are not told apart.
        bases: number of basis matrices that the R weights are mixed from, None for free weights.
        kind, rate: what is dropped in training, and how much of it.

    Shapes:
        x (V, width), edge_index (2, E), edge_weight (E,), relation (E,), group (V,) below groups or None
        where there is one -> (V, out_width)
    """

    SUPPORTS_FUSED_EDGE_INDEX = True

    def __init__(
        self,
        width: int,
        out_width: int,
        relations: int = 1,
        groups: int = 1,
        bases: int | None = None,
        kind: Literal["message", "dropout", "edge", "none"] = "message",
        rate: float = 0.2,
    ) -> None:
        with _no_files():
            super().__init__(aggr=None)
        self.groups, self.kinds = groups, relations // groups
        self.kind, self.rate = kind, rate
        self.weight = nn.Parameter(torch.empty(bases or relations, width, out_width))
        self.mix = nn.Parameter(torch.empty(relations, bases)) if bases else None
        for parameter in self.parameters():  # Glorot's bound, a matrix at a time
            bound = (6 / sum(parameter.shape[-2:])) ** 0.5
            nn.init.uniform_(parameter, -bound, bound)

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        edge_weight: Tensor,
        relation: Tensor,
        group: Tensor | None = None,
    ) -> Tensor:
        if self.kind == "dropout":
            x = drop(x, self.rate, self.training)
        if self.kind == "edge":
            edge_weight = drop(edge_weight, self.rate, self.training)
        # One cell for each receiver and kind of relation that can reach it.
        cells, order = torch.sort(edge_index[1] * self.kinds + relation % self.kinds)
        edges = EdgeIndex(edge_index[:, order], sparse_size=(len(x), len(x)), sort_order="col")
        weight, senders = edge_weight[order], edge_index[0, order]
        out: Tensor = self.propagate(
            edges, x=x, edge_weight=weight, senders=senders, cells=cells, group=group
        )
        return out

    def message_and_aggregate(
        self, edge_index: Tensor, x: Tensor, edge_weight: Tensor, senders: Tensor, cells: Tensor
    ) -> Tensor:
        rate = self.rate if self.training and self.kind == "message" else 0.0
        sums = drop_and_sum(x, edge_weight, senders, cells, len(x) * self.kinds, rate)
        return sums.view(len(x), -1)  # (V, kinds width)

    def update(self, inputs: Tensor, group: Tensor | None) -> Tensor:
        weight: Tensor = self.weight
        if self.mix is not None:
            weight = torch.einsum("rb,bio->rio", self.mix, weight)
        weight = weight.reshape(self.groups, inputs.shape[1], -1)
        if group is None:
            return inputs @ weight[0]  # (V, out_width)
        members = [(group == k).nonzero()[:, 0] for k in range(self.groups)]
        products = [inputs[rows] @ weight[k] for k, rows in enumerate(members)]
        back = torch.argsort(torch.cat(members))
        return torch.cat(products)[back]


class SpeakerEncoder(nn.Module):
    """h1_i = ReLU(sum_r sum_j (alpha_ij / c_ir) W_r drop(g_j) + alpha_ii W_0 g_i)  (equation 14)
    h2_i = ReLU((1 / |N_i|) sum_j W_2 drop(h1_j) + W_2,0 h1_i)  (equation 15)

    The two steps: context g and a graph -> h2.

    Shapes:
        g (V, 2 recurrent_width) -> (V, graph_width)
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, out = 2 * config.recurrent_width, config.graph_width
        self.c_ir, self.second_step, self.self_loops = config.c_ir, config.second_step, config.self_loops
        self.relation_count, self.root_drop = config.relation_count, config.graph_drop_rate * config.drop_root
        self.groups = config.n_speakers if config.relations == "speaker_pair" else 1
        kind, rate = config.graph_drop, config.graph_drop_rate
        self.attention = EdgeAttention(width)
        self.first = WindowConvolution(width, out, self.relation_count, self.groups, config.bases, kind, rate)
        self.first_root = nn.Linear(width, out, bias=False)  # W_0
        self.second = WindowConvolution(out, out, kind=kind, rate=rate)
        self.second_root = nn.Linear(out, out, bias=False)  # W_2,0
        self.log_c = nn.Parameter(torch.zeros(self.relation_count)) if self.c_ir == "learned" else None

    def forward(self, g: Tensor, graph: Graph) -> Tensor:
        return self.convolve(g, graph, self.attention(g, graph))

    def convolve(self, g: Tensor, graph: Graph, alpha: Tensor) -> Tensor:
        """Both steps, for given edge weights alpha (E,)."""
        used = graph.neighbours if self.self_loops == "root" else len(graph.senders)
        edges = torch.stack((graph.senders[:used], graph.receivers[:used]))
        relation, group = graph.relations[:used], None
        if self.groups > 1:  # a self-loop's relation tells the speaker
            group = graph.relations[graph.neighbours :] // (self.relation_count // self.groups)

        weight = alpha[:used] * self._inverse_c(edges[1], relation, graph.nodes, g)
        root = drop(g, self.root_drop, self.training)
        self_weight = alpha[graph.neighbours :].unsqueeze(-1)  # alpha_ii
        received = self.first(g, edges, weight, relation, group)
        h1 = torch.relu(received + self_weight * self.first_root(root)).to(g.dtype)

        even = torch.ones_like(weight)
        if self.second_step == "mean":
            even = even.new_zeros(graph.nodes).index_add(0, edges[1], even).reciprocal()[edges[1]]
        root = drop(h1, self.root_drop, self.training)
        received = self.second(h1, edges, even.detach(), torch.zeros_like(relation))
        return torch.relu(received + self.second_root(root)).to(g.dtype)

    def _inverse_c(self, receivers: Tensor, relation: Tensor, nodes: int, like: Tensor) -> Tensor:
        """(E,) the factor 1 / c_ir of each edge."""
        if self.log_c is not None:
            return torch.exp(-self.log_c)[relation]
        ones = like.new_ones(len(relation))
        if self.c_ir == "one":
            return ones
        cell = receivers * self.relation_count + relation
        counts = like.new_zeros(nodes * self.relation_count).index_add(0, cell, ones)
        return counts.reciprocal()[cell]
