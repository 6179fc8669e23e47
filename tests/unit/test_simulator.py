"""The scheduler in the simulator: a small part of what tests.bench.simulator measures."""

from __future__ import annotations

import statistics

import pytest

from ..bench.simulator import (
    Simulation,
    ancestors_user,
    bound,
    fresh,
    large,
    policies,
    random_world,
)


def ratios(**options: bool) -> list[float]:
    found = []
    for seed in range(12):
        outcome = Simulation(*random_world(seed, **options)).run()
        assert outcome.failed == 0
        found.append(outcome.ratio)
    return found


@pytest.mark.parametrize("benchmark", [False, True])
def test_random_clusters_end_together(benchmark: bool) -> None:
    found = ratios(benchmark=benchmark)
    assert min(found) >= 1
    assert statistics.mean(found) < 1.02
    assert max(found) < 1.06


def test_deaths_arrivals_and_slow_downs_cost_little() -> None:
    found = ratios(trouble=True)
    assert min(found) >= 1
    assert statistics.mean(found) < 1.03
    assert max(found) < 1.1


def test_a_node_that_dies_and_one_that_slows_down_are_in_the_bound() -> None:
    cost, machines = ancestors_user()
    work = cost(cost.frame)
    plain = bound(work, machines)
    assert plain == pytest.approx(work / sum(machine.speed for machine in machines))
    machines[0].dies = plain / 2
    assert bound(work, machines) > plain


def test_the_ancestors_users_cluster() -> None:
    cost, machines = ancestors_user()
    found = policies(cost, fresh(machines))
    assert found["ours"].ratio < 1.01
    assert found["ours"].makespan < 0.8 * found["fixed grid, pull"].makespan


def test_work_per_event_does_not_grow_with_the_nodes() -> None:
    """Counted in commands and events, which no other load on the machine changes."""
    few, many = large(8, 2048), large(128, 2048)
    for outcome in (few, many):
        assert outcome.tiles == 4096
        assert outcome.commands < 2.3 * outcome.tiles
        assert outcome.events < 1.5 * outcome.tiles
    # In time the tenfold would be the growth of a loop over all nodes.
    assert many.cpu_s / many.events < 4 * few.cpu_s / few.events
