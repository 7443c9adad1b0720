"""Dropout whose mask is cheap on a CPU.

torch draws a double for each element; here a random byte decides, at a small part of the time. A byte knows
rates in steps of 1/256 only, so every call rounds the rate up or down at random: an element is dropped with
exactly the probability asked for (up to 255/256), and the scale follows the rounded rate, so the mean is kept
in every call.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout


def drop(x: Tensor, rate: float, training: bool) -> Tensor:
    """x with every element zeroed with probability ``rate``, the others scaled so that the mean stays.

    The identity outside training.
    """
    if not training or rate == 0:
        return x
    if x.device.type != "cpu":
        return dropout(x, rate, training)  # a fused kernel
    keep, scale = draw_mask(x.shape, rate, x.device)
    return x * keep.to(x.dtype).mul_(scale)


def draw_mask(shape: tuple[int, ...], rate: float, device: torch.device) -> tuple[Tensor, float]:
    """(uint8 of ``shape``: 1 where kept, 0 where dropped; the factor that restores the mean)."""
    if device.type != "cpu":
        keep = torch.empty(shape, dtype=torch.uint8, device=device).bernoulli_(1 - rate)
        return keep, 1 / (1 - rate)
    dropped = min(math.floor(256 * rate + float(torch.rand(()))), 255)  # of the 256 values of a byte
    size = math.prod(shape)
    words = torch.empty(-(-size // 8), dtype=torch.int64).random_(-(1 << 63), None)  # all 64 bits
    draws = words.view(torch.uint8)[:size].view(shape)
    return draws.ge_(dropped), 256 / (256 - dropped)


class Dropout(nn.Module):
    """:func:`drop` as a layer."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        return drop(x, self.rate, self.training)
