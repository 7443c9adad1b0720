"""Ten thousand hours on a cluster, simulated: makespan, idle shares and work done again.

    python -m benchmarks.scale [--hours 10000] [--workers 16 64 256 1024] [--cost 263]

Not a run: events in time (simpy), of which every rule is one of this tool's. A worker takes one recording at
a time. A lost node costs what its workers had in hand, and is replaced after a while.
Two ways to share out the work are compared: `--shard i/N`, a shard a node, which nobody else helps with; and
pulling from one queue, as `--engine ray` does. Some nodes are slow, and nodes are lost at random.

``--cost`` is what an hour of recording costs one core, in seconds: measure your own with `annotate run
--profile --workers 1 --threads 1`. The default is that of docs/scale.md. What else is assumed stands in
``Scenario``, with what it is; a seed gives the same numbers each time.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import sys
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import Any

import simpy

Steps = Generator[simpy.Event, Any, None]


@dataclass(frozen=True)
class Scenario:
    """What is simulated. Times are in seconds, lengths in hours."""

    hours: float = 10_000.0
    mean_length: float = 1.0  # of a recording; lengths are log-normal
    spread: float = 0.8  # standard deviation of a length's logarithm: one in a hundred is longer than 4.7 h
    cost: float = 263.0  # core seconds an hour of recording
    workers: int = 64
    workers_a_node: int = 16
    load: float = 20.0  # of a worker, before its first recording
    slow_nodes: float = 0.05  # share of them
    slowness: float = 2.0  # how many times as long they take
    mean_life: float = 20 * 3600.0  # of a node until it is lost, as of machines that are let by the hour
    replaced_after: float = 600.0
    pulled: bool = True  # from one queue; else a shard a node
    seed: int = 0


@dataclass
class Told:
    """What a simulation says; all but the makespan in seconds of workers."""

    makespan: float = 0.0
    useful: float = 0.0
    redone: float = 0.0  # in hand when a node was lost
    loading: float = 0.0
    down: float = 0.0
    lost_nodes: int = 0
    recordings: int = 0


class _Queue:
    """Recordings to be done (seconds of a core each), and how many have not been finished."""

    def __init__(self, env: simpy.Environment, recordings: list[float]) -> None:
        self._env, self.waiting, self.unfinished = env, deque(recordings), len(recordings)
        self.changed = env.event()

    def tell(self) -> None:
        self.changed.succeed()
        self.changed = self._env.event()


@dataclass
class _Node:
    env: simpy.Environment
    queue: _Queue
    scenario: Scenario
    slowness: float
    told: Told
    rng: random.Random
    workers: list[simpy.Process] = field(default_factory=list)

    def start(self) -> None:
        for _ in range(self.scenario.workers_a_node):
            self.workers.append(self.env.process(self.work()))
        self.env.process(self.fail())

    def fail(self) -> Steps:
        """Lose the node now and then, for as long as there is work that it could be given."""
        while self.queue.unfinished:
            yield self.env.timeout(self.rng.expovariate(1 / self.scenario.mean_life))
            if not self.queue.unfinished:
                return
            self.told.lost_nodes += 1
            for worker in self.workers:
                if worker.is_alive:
                    worker.interrupt()
            yield self.env.timeout(self.scenario.replaced_after)

    def work(self) -> Steps:
        env, queue, told = self.env, self.queue, self.told
        while queue.unfinished:
            since, recording = env.now, None
            try:
                yield env.timeout(self.scenario.load)
                told.loading += self.scenario.load
                while queue.unfinished:
                    if not queue.waiting:  # others have them in hand, and may lose them
                        yield queue.changed
                        continue
                    since, recording = env.now, queue.waiting.popleft()
                    yield env.timeout(recording * self.slowness)
                    told.useful += env.now - since
                    recording = None
                    queue.unfinished -= 1
                    told.makespan = env.now
                    if not queue.unfinished:
                        queue.tell()
            except simpy.Interrupt:
                if recording is not None:
                    told.redone += env.now - since
                    queue.waiting.appendleft(recording)
                    queue.tell()
                told.down += self.scenario.replaced_after
                yield env.timeout(self.scenario.replaced_after)


def lengths(scenario: Scenario) -> list[float]:
    """Hours of recordings that are as long as the scenario says, together and on average."""
    rng = random.Random(scenario.seed)
    count = max(1, round(scenario.hours / scenario.mean_length))
    drawn = [rng.lognormvariate(0, scenario.spread) for _ in range(count)]
    scale = scenario.hours / sum(drawn)
    return [scale * length for length in drawn]


def simulate(scenario: Scenario) -> Told:
    """What becomes of the scenario."""
    env, told, rng = simpy.Environment(), Told(), random.Random(scenario.seed + 1)
    nodes = scenario.workers // scenario.workers_a_node
    costs = [scenario.cost * length for length in lengths(scenario)]
    told.recordings = len(costs)
    if scenario.pulled:
        queues = [_Queue(env, costs)] * nodes
    else:  # by the hash of a name, which is as good as chance
        shards: list[list[float]] = [[] for _ in range(nodes)]
        for cost in costs:
            rng.choice(shards).append(cost)
        queues = [_Queue(env, shard) for shard in shards]
    slow = round(scenario.slow_nodes * nodes)
    for number, queue in enumerate(queues):
        slowness = scenario.slowness if number < slow else 1.0
        _Node(env, queue, scenario, slowness, told, random.Random(scenario.seed + 2 + number)).start()
    env.run()
    return told


def figures(scenario: Scenario, told: Told) -> dict[str, float]:
    """Makespan in hours, against that of equal workers that never wait; shares of all workers' time."""
    whole = told.makespan * scenario.workers
    best = scenario.cost * scenario.hours / scenario.workers
    shares = {name: getattr(told, name) / whole for name in ("useful", "redone", "loading", "down")}
    return {
        "makespan_hours": told.makespan / 3600,
        "over_best": told.makespan / best,
        "times_real_time": scenario.hours * 3600 / told.makespan,
        **shares,
        "idle": max(0.0, 1 - sum(shares.values())),
        "lost_nodes": told.lost_nodes,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    plain = Scenario()
    parser.add_argument("--hours", type=float, default=plain.hours)
    parser.add_argument("--workers", type=int, nargs="+", default=[16, 64, 256, 1024])
    parser.add_argument("--cost", type=float, default=plain.cost, help="core seconds an hour of recording")
    parser.add_argument("--seed", type=int, default=plain.seed)
    options = parser.parse_args()
    rows = []
    print(
        f"{'workers':>8} {'shared out':>10} {'makespan h':>11} {'over best':>10} {'x real time':>12} "
        f"{'useful':>7} {'redone':>7} {'idle':>6} {'nodes lost':>11}"
    )
    for workers in options.workers:
        for pulled in (True, False):
            of_all = replace(plain, hours=options.hours, cost=options.cost, seed=options.seed)
            scenario = replace(of_all, workers=workers, pulled=pulled)
            found = figures(scenario, simulate(scenario))
            way = "pulled" if pulled else "shards"
            rows.append({"workers": workers, "way": way, **{k: round(v, 5) for k, v in found.items()}})
            print(
                f"{workers:>8} {way:>10} {found['makespan_hours']:>11.2f} {found['over_best']:>10.2f} "
                f"{found['times_real_time']:>12.0f} {found['useful']:>7.1%} {found['redone']:>7.2%} "
                f"{found['idle']:>6.1%} {found['lost_nodes']:>11.0f}"
            )
    summary = {
        "benchmark": "scale",
        "figures": {"hours": options.hours, "cost": options.cost, "rows": rows},
        "short": [],
        "versions": {"python": platform.python_version(), "simpy": version("simpy")},
    }
    print(json.dumps(summary))
    return 0


if __name__ == "__main__":
    sys.exit(main())
