"""How many processors this process may use, and how many threads libraries take of them: set here alone.

Nothing that a run gives depends on these numbers. What would add up in another order with more threads, as
most of PyTorch on a CPU and the products of NumPy and SciPy, works in one: several batches side by side, not
several threads on a batch. That is quicker, too, where a network has many small steps.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from annotator.records import UsageError

if TYPE_CHECKING:
    import torch

Task = TypeVar("Task")
Result = TypeVar("Result")

OPENMP = "OMP_NUM_THREADS"
_CGROUPS, _OWN_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def processors() -> int:
    """Those that this process may use: by its affinity, and by the quota of its control groups."""
    may = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroup_quota()
    return may if quota is None else max(1, min(may, int(quota)))


def cgroup_quota(own: Path = _OWN_CGROUP, root: Path = _CGROUPS) -> float | None:
    """How many processors' time the kernel gives this process's control groups, or those above them.

    Args:
        own: which groups it is in, as ``/proc/self/cgroup`` says.
        root: where the groups are mounted, version 1 with a folder for each controller.

    Returns: None where there is no bound.
    """
    try:
        groups = own.read_text().splitlines()
    except OSError:  # no Linux
        return None
    quotas = []
    for group in groups:
        number, controllers, path = group.split(":", 2)
        if number == "0" and not controllers:
            top = root
        elif "cpu" in controllers.split(","):
            top = next((root / c for c in (controllers, "cpu") if (root / c).is_dir()), root)
        else:
            continue
        # A container may not see its own group, only what is mounted as the top.
        below = Path(path.lstrip("/"))
        for folder in (top / below, *(top / above for above in below.parents)):
            if (quota := _quota(folder)) is not None:
                quotas.append(quota)
    return min(quotas, default=None)


def _quota(folder: Path) -> float | None:
    """The quota of one group, in processors; None where it has none."""
    try:
        if (both := folder / "cpu.max").is_file():  # version 2: "max 100000" or "150000 100000"
            quota, period = both.read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
    except OSError:
        return None
    return None if quota in ("max", "-1") else int(quota) / int(period)


def most() -> int:
    """Threads that one process may have: no more than processors, nor than ``OMP_NUM_THREADS`` says.

    Raises: UsageError when that is no number.
    """
    told = os.environ.get(OPENMP, "").partition(",")[0].strip()  # further numbers are of nested regions
    if not told:
        return processors()
    if not told.isdigit() or int(told) == 0:
        raise UsageError(f"{OPENMP} is {told!r}, which is no number of threads: set it to one or unset it.")
    return min(processors(), int(told))


def of_worker(workers: int, asked: int | None = None) -> int:
    """Threads of each of ``workers`` processes: as many as ``asked`` for, else its share of the processors;
    in either case no more than :func:`most`.

    Raises: UsageError as above.
    """
    return max(1, min(most(), asked or processors() // workers))


def environment(threads: int) -> dict[str, str]:
    """What a process that is to have so many threads is started with: most libraries look only once.

    A thread of OpenMP that waits for its part of the work does so asleep. By default it spins, which on a
    machine with other work keeps the very thread from its processor that it waits for. What the user has set
    of this stays.
    """
    counts = {
        OPENMP: str(threads),
        "MKL_NUM_THREADS": str(threads),
        "POLARS_MAX_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": "1",  # NumPy's and SciPy's products: see above
    }
    waiting = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}  # of GNU's OpenMP, of Intel's and LLVM's
    return counts | {name: value for name, value in waiting.items() if name not in os.environ}


def use(threads: int) -> None:
    """Hold the libraries of this process that can be told to so many threads."""
    import cv2
    import torch

    cv2.setNumThreads(threads)
    torch.set_num_threads(threads)


@contextmanager
def one_thread(device: torch.device) -> Iterator[None]:
    """One thread on a CPU: products of few rows are added in another order by several.

    Numbers would differ in their last bits with the number of workers, whose threads are fewer when they are
    more.
    """
    import torch

    threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def same_number() -> Iterator[None]:
    """PyTorch has as many threads after the body as before.

    CTranslate2, where it loads a model, sets those of OpenMP, which are PyTorch's as well.
    """
    import torch

    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def side_by_side(
    do: Callable[[Task], Result], tasks: Sequence[Task], device: torch.device
) -> Iterator[Result]:
    """``do`` of each task in order, for inference; on a CPU as many at once as there are threads."""
    import torch

    def inferred(task: Task) -> Result:
        with torch.inference_mode():  # holds for the thread that enters it
            return do(task)

    many = torch.get_num_threads() if device.type == "cpu" else 1
    with one_thread(device):
        if many == 1 or len(tasks) < 2:
            yield from map(inferred, tasks)
        else:
            with ThreadPoolExecutor(many) as pool:
                yield from pool.map(inferred, tasks)
