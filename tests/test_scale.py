"""The simulation of a cluster, in small: what it must say whatever it draws."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.scale import Scenario, Told, figures, lengths, simulate

SMALL = Scenario(hours=200, workers=32, workers_a_node=4, mean_life=1800.0)


def test_without_faults_the_work_takes_what_it_costs() -> None:
    calm = replace(SMALL, slow_nodes=0.0, mean_life=1e12, load=0.0, hours=400)
    told = simulate(calm)
    assert told.redone == told.down == told.lost_nodes == 0
    assert told.useful == pytest.approx(calm.cost * calm.hours)
    longest = calm.cost * max(lengths(calm))
    best = calm.cost * calm.hours / calm.workers
    assert best <= told.makespan <= best + longest, "whoever pulls waits for the last recording at most"


@pytest.mark.parametrize("pulled", [True, False])
def test_lost_nodes_cost_what_was_in_hand(pulled: bool) -> None:
    told = simulate(replace(SMALL, pulled=pulled))
    assert told.lost_nodes > 0
    longest = SMALL.slowness * SMALL.cost * max(lengths(SMALL))
    assert 0 < told.redone <= told.lost_nodes * SMALL.workers_a_node * longest
    found = figures(replace(SMALL, pulled=pulled), told)
    shares = [found[name] for name in ("useful", "redone", "loading", "down", "idle")]
    assert sum(shares) == pytest.approx(1, abs=0.05) and min(shares) >= 0


def test_pulling_is_no_slower_than_shards_where_nodes_are_slow() -> None:
    calm = replace(SMALL, hours=400, slow_nodes=0.25, mean_life=1e12)
    times = [simulate(replace(calm, pulled=pulled)).makespan for pulled in (True, False)]
    assert times[0] < times[1]


def test_a_seed_gives_the_same_again() -> None:
    first, second, other = (simulate(replace(SMALL, seed=seed)) for seed in (1, 1, 2))
    assert first == second != other and isinstance(first, Told)
