"""The real command under whatever ends, stops or damages it: ``python -m benchmarks.chaos``."""

from benchmarks.chaos.processes import wait_for_children

__all__ = ["wait_for_children"]
