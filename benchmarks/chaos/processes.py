"""Processes: who belongs to whom, and their memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def family(pid: int) -> list[int]:
    """A process and all below it."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        parents.setdefault(parent, []).append(int(path.parent.name))
    found = [pid]
    for one in found:
        found += parents.get(one, [])
    return found


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def anonymous_mb(pid: int) -> float:
    """Memory of a process that is its own: not mapped files, which the kernel drops when it needs room."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon", "RssShmem"))) / 1024


@contextmanager
def sampled(pid: int) -> Iterator[Callable[[], float]]:
    """A function that gives the most memory (MB) of a process and all below it since it was last asked."""
    done = threading.Event()
    most = [0.0]

    def watch() -> None:
        while not done.wait(0.1):
            most[0] = max(most[0], sum(anonymous_mb(one) for one in family(pid)))

    def latest() -> float:
        value, most[0] = most[0], 0.0
        return value

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield latest
    finally:
        done.set()
        thread.join()


def wait_for_children(group: int) -> None:
    """Until nothing of a killed run works on: workers and decoders die with it, a moment later."""
    until = time.monotonic() + 180  # on a machine that has much else to do
    while time.monotonic() < until:
        if not any(state != "Z" and of == group for state, of in map(state_and_group, process_ids())):
            return
        time.sleep(0.05)
    raise SystemExit("a killed run has left processes behind")


def process_ids() -> list[int]:
    return [int(path.name) for path in Path("/proc").glob("[0-9]*")]


def state_and_group(pid: int) -> tuple[str, int]:
    """Of a process: its state letter, and the number of its group."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "Z", 0
    return fields[0], int(fields[2])
