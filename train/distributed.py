"""One training on several processes, as ``torchrun`` starts them. Alone, all of this does nothing.

Every process draws the same batches and takes its share of each; losses are divided by the weights of the
whole batch and gradients are summed, so that a step is that of one process with the whole batch. Only the
first process writes and shows anything.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import distributed, nn

Item = TypeVar("Item")


@dataclass(frozen=True)
class Group:
    """The processes that train together."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share(self, batch: Sequence[Item]) -> Sequence[Item]:
        """This process' part of a batch; may be empty."""
        return batch[self.rank :: self.size]

    def device(self, asked: str) -> torch.device:
        """This process' device: of several graphics cards its own."""
        several = asked.startswith("cuda") and self.size > 1
        return torch.device("cuda", self.local_rank) if several else torch.device(asked)

    def join_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by the sum over the processes; a step is then the same in all."""
        if self.size == 1:
            return
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            distributed.all_reduce(parameter.grad)

    def summed(self, values: Sequence[float]) -> list[float]:
        """Each value summed over the processes, the same in all: not finite if it isn't in one."""
        if self.size == 1:
            return list(values)
        shared = self._shared(values)
        distributed.all_reduce(shared)
        found: list[float] = shared.tolist()
        return found

    def from_first(self, value: float) -> float:
        """The first process' value, so that all decide alike."""
        if self.size == 1:
            return value
        shared = self._shared([value])
        distributed.broadcast(shared, 0)
        return float(shared.item())

    def _shared(self, values: Sequence[float]) -> torch.Tensor:
        on = f"cuda:{self.local_rank}" if distributed.get_backend() == "nccl" else "cpu"
        return torch.tensor(values, dtype=torch.float64, device=on)

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            distributed.barrier()


def in_group() -> bool:
    """Whether ``torchrun`` started this process as one of several."""
    return os.environ.get("WORLD_SIZE", "1") != "1" and "RANK" in os.environ


@contextmanager
def group(device: str) -> Iterator[Group]:
    """The group that ``torchrun`` started, or a group of one."""
    if not in_group():
        yield Group()
        return
    size = int(os.environ["WORLD_SIZE"])
    distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield Group(int(os.environ["RANK"]), size, int(os.environ.get("LOCAL_RANK", "0")))
    finally:
        distributed.destroy_process_group()
