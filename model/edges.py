"""The operations on E edges that time and memory go into, with their gradients written out.

Sums over edges run through ``embedding_bag``, which gathers, weighs and adds in one pass. What needs a matrix
of E rows takes a slice of the columns at a time. Left to autograd, each operation would write and keep
several such matrices.

Letters of shapes: V utterances, E directed edges, d the width of a vector, n sums.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding_bag

from model.dropout import draw_mask

_COLUMNS = 50  # of a slice; wider slices leave the processor's cache, narrower ones cost calls


def edge_dot(at_receiver: Tensor, at_sender: Tensor, receivers: Tensor, senders: Tensor) -> Tensor:
    """at_receiver[receiver] . at_sender[sender] of every edge.

    Shapes:
        at_receiver (V, d), at_sender (V, d), receivers (E,), senders (E,) -> (E,)
    """
    out: Tensor = _EdgeDot.apply(at_receiver, at_sender, receivers, senders)  # type: ignore[no-untyped-call]
    return out


def drop_and_sum(x: Tensor, weight: Tensor, senders: Tensor, cells: Tensor, n: int, rate: float) -> Tensor:
    """Row c of the result is the sum of weight_e drop(x[sender_e]) over the edges with cell_e = c.

    The messages drop(x[sender]) have their elements dropped one by one at ``rate``, the others scaled so that
    the mean stays; 0 drops nothing.

    Shapes:
        x (V, d), weight (E,), senders (E,), cells (E,) in ascending order, below n -> (n, d)
    """
    out: Tensor = _DropAndSum.apply(x, weight, senders, cells, n, rate)  # type: ignore[no-untyped-call]
    return out


class _EdgeDot(Function):
    @staticmethod
    def forward(
        ctx: Any, at_receiver: Tensor, at_sender: Tensor, receivers: Tensor, senders: Tensor
    ) -> Tensor:
        ctx.save_for_backward(at_receiver, at_sender, receivers, senders)
        return _dot(at_receiver, receivers, at_sender, senders)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        at_receiver, at_sender, receivers, senders = ctx.saved_tensors
        to_receivers, to_senders = _Sum(receivers, len(at_receiver)), _Sum(senders, len(at_sender))
        return to_receivers(at_sender, senders, grad), to_senders(at_receiver, receivers, grad), None, None


class _DropAndSum(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, senders: Tensor, cells: Tensor, n: int, rate: float
    ) -> Tensor:
        ctx.keep, ctx.scale = None, 1.0
        ctx.save_for_backward(x, weight, senders, cells)
        total = _Sum(cells, n, in_order=True)
        if rate == 0:
            return total(x, senders, weight)
        # One mask of a byte an element is all of E rows that is kept for the way back.
        slices = list(_slices(x))
        ctx.keep, ctx.scale = draw_mask((len(slices), len(senders), slices[0].shape[1]), rate, x.device)
        scaled, edges = weight * ctx.scale, torch.arange(len(senders), device=x.device)
        sums = []
        for part, keep in zip(slices, ctx.keep, strict=True):
            messages = keep[:, : part.shape[1]].to(x.dtype).mul_(part.index_select(0, senders))
            sums.append(total(messages, edges, scaled))
        return torch.cat(sums, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, senders, cells = ctx.saved_tensors
        to_senders = _Sum(senders, len(x))
        if ctx.keep is None:
            grad_weight = _dot(grad, cells, x, senders) if ctx.needs_input_grad[1] else None
            return to_senders(grad, cells, weight), grad_weight, None, None, None, None
        grad_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        scaled, edges = weight * ctx.scale, torch.arange(len(senders), device=x.device)
        sums = []
        for values, part, keep in zip(_slices(x), _slices(grad), ctx.keep, strict=True):
            rows = keep[:, : part.shape[1]].to(x.dtype).mul_(part.index_select(0, cells))
            sums.append(to_senders(rows, edges, scaled))
            if grad_weight is not None:
                grad_weight += rows.mul_(values.index_select(0, senders)).sum(-1)
        if grad_weight is not None:
            grad_weight *= ctx.scale
        return torch.cat(sums, 1), grad_weight, None, None, None, None


class _Sum:
    """Sums over edges by ``group`` (E,), numbers below n."""

    def __init__(self, group: Tensor, n: int, in_order: bool = False) -> None:
        self.order = None
        if not in_order:
            group, self.order = torch.sort(group)
        self.starts = torch.searchsorted(group, torch.arange(n, device=group.device))

    def __call__(self, table: Tensor, index: Tensor, weight: Tensor) -> Tensor:
        """(n, d): row g is the sum of weight_e table[index_e] over the edges with group_e = g."""
        if self.order is not None:
            index, weight = index[self.order], weight[self.order]
        weight = weight.to(table.dtype)
        out: Tensor = embedding_bag(index, table, self.starts, mode="sum", per_sample_weights=weight)
        return out


def _dot(left: Tensor, left_index: Tensor, right: Tensor, right_index: Tensor) -> Tensor:
    """(E,) left[left_index] . right[right_index]."""
    out = left.new_zeros(len(left_index))
    for a, b in zip(_slices(left), _slices(right), strict=True):
        out += a.index_select(0, left_index).mul_(b.index_select(0, right_index)).sum(-1)
    return out


def _slices(x: Tensor) -> Iterator[Tensor]:
    """The columns of x (V, d) in slices of equal width but for the last."""
    count = -(-x.shape[1] // _COLUMNS)
    for part in torch.split(x, -(-x.shape[1] // count), 1):
        yield part.contiguous()
