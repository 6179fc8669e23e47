"""The rules of who renders what, as tables of events and commands, and as properties of any story."""

from __future__ import annotations

import random
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.job import Rect, Tile
from engine.plan import (
    Assign,
    Command,
    Drop,
    EndLease,
    Event,
    Finish,
    Keep,
    NodeExpected,
    NodeJoined,
    NodeLeft,
    SetAside,
    Tick,
    TileDone,
    TileFailed,
)
from engine.scheduler import FIRST_REST_S, LEASES_PER_NODE, LONGEST_S, Scheduler
from engine.tiling import Grid


def row_of(count: int, done: Iterable[int] = ()) -> Scheduler:
    """A scheduler of a fixed grid: `count` cells in a row."""
    return Scheduler(Grid(Rect(0, 0, 10 * count, 10), 10, 0), is_fixed=True, done=done)


def free(edge: int = 512, overscan: int = 0, done: Iterable[int] = ()) -> Scheduler:
    """A scheduler whose tiles' sizes follow the work."""
    return Scheduler(Grid(Rect(0, 0, edge, edge), 8, overscan), is_fixed=False, done=done)


def of(kind: type, commands: list[Command]) -> list:
    return [command for command in commands if isinstance(command, kind)]


def leases(s: Scheduler, node: str) -> list[tuple[str, int, int]]:
    """What the node holds, as the first three values of TileDone and TileFailed."""
    return [(node, lease.piece.tile.index, lease.attempt) for lease in s._nodes[node].leases]


def places(commands: list[Command]) -> list[tuple[str, int]]:
    """Who was given which cell of a row."""
    return [(c.node, c.tile.rect.x // 10) for c in of(Assign, commands)]


def render(s: Scheduler, speeds: dict[str, float], until: float = 1e9) -> tuple[float, list[Command]]:
    """Let nodes of so many pixels a second render; returns when they are finished, and all commands."""
    now, commands = 0.0, []
    for name in speeds:
        commands += s.handle(NodeJoined(name), 0.0)
    begun = dict.fromkeys(speeds, 0.0)
    while not of(Finish, commands[-1:]):
        ends = {}
        for name, speed in speeds.items():
            if speed and leases(s, name):
                lasts = s._nodes[name].leases[0].piece.tile.rect.area / speed
                ends[name] = max(begun[name] + lasts, now), lasts
        if ends:
            name = min(ends, key=lambda name: ends[name][0])
            when, lasts = ends[name]
        if not ends or when > now + 0.5:
            now += 0.5
            commands += s.handle(Tick(), now)
        else:
            now = begun[name] = when
            given = s.handle(TileDone(*leases(s, name)[0], lasts), now)
            for other in speeds:
                if (
                    other != name
                    and any(c.node == other for c in of(Assign, given))
                    and len(leases(s, other)) == 1
                ):
                    begun[other] = now
            commands += given
        if now > until:
            break
    return now, commands


def test_a_node_gets_two_tiles_and_one_more_for_each_it_returns() -> None:
    s = row_of(5)
    commands = s.handle(NodeJoined("a"), 0)
    assert places(commands) == [("a", 2), ("a", 1)]
    commands = s.handle(TileDone(*leases(s, "a")[0], 1.0), 1)
    assert [(c.node, c.tile.rect, c.seconds) for c in of(Keep, commands)] == [("a", Rect(20, 0, 10, 10), 1.0)]
    assert len(places(commands)) == 1


def test_the_centre_comes_first() -> None:
    s = row_of(9)
    order = []
    commands = s.handle(NodeJoined("a"), 0)
    for now in range(1, 10):
        order += [place for _, place in places(commands)]
        commands = s.handle(TileDone(*leases(s, "a")[0], 1.0), now)
    assert [abs(place - 4) for place in order] == [0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_dear_regions_come_first_once_they_are_known() -> None:
    """The right half costs ten times as much: when both are known, it is what is rendered first."""
    s = row_of(64)
    s.handle(NodeJoined("a"), 0)
    now, order = 0.0, []
    while leases(s, "a"):
        tile = s._nodes["a"].leases[0].piece.tile
        order.append(tile.rect.x // 10)
        seconds = 10.0 if tile.rect.x >= 320 else 1.0
        now += seconds
        s.handle(TileDone(*leases(s, "a")[0], seconds), now)
    assert sum(place >= 32 for place in order[8:36]) > 22
    assert sorted(order) == list(range(64))


def test_first_tiles_are_shared_before_anybody_queues_a_second() -> None:
    s = row_of(3)
    assert len(places(s.handle(NodeJoined("a"), 0))) == 2
    assert len(places(s.handle(NodeJoined("b"), 0))) == 1


def test_a_late_node_gets_work_at_once() -> None:
    s = row_of(9)
    s.handle(NodeJoined("a"), 0)
    s.handle(TileDone(*leases(s, "a")[0], 1.0), 1)
    assert [node for node, _ in places(s.handle(NodeJoined("late"), 5))] == ["late", "late"]


def test_a_failed_tile_goes_to_another_node() -> None:
    s = row_of(8)
    s.handle(NodeJoined("a"), 0)
    s.handle(NodeJoined("b"), 0)
    lost = leases(s, "a")[0]
    commands = s.handle(TileFailed(*lost, "wrong size"), 1)
    assert [(c.node, c.outcome, c.reason) for c in of(EndLease, commands)] == [("a", "failed", "wrong size")]
    now = 1.0
    while not any(c.tile.index == lost[1] and c.node == "b" for c in of(Assign, commands)):
        assert not any(c.tile.index == lost[1] for c in of(Assign, commands))
        now += 1
        commands = s.handle(TileDone(*leases(s, "b")[0], 1.0), now)
    assert next(c.attempt for c in of(Assign, commands) if c.tile.index == lost[1]) == 2


def test_a_failed_tile_is_retried_by_the_only_node() -> None:
    s = row_of(1)
    s.handle(NodeJoined("a"), 0)
    assert [(c.node, c.attempt) for c in of(Assign, s.handle(TileFailed("a", 0, 1, "x"), 1))] == [("a", 2)]


def test_a_lost_node_s_tiles_wait_again_and_only_the_running_one_counts_as_failed() -> None:
    s = row_of(4)
    s.handle(NodeJoined("a"), 0)
    s.handle(NodeJoined("b"), 0)
    pieces = [lease.piece for lease in s._nodes["a"].leases]
    commands = s.handle(NodeLeft("a", "gone", False), 1)
    assert [c.outcome for c in of(EndLease, commands)] == ["failed", "failed"]
    assert [piece.failures for piece in pieces] == [1, 0]
    for now in range(2, 6):
        commands = s.handle(TileDone(*leases(s, "b")[0], 1.0), now)
    assert of(Finish, commands) == [Finish((), "")]


@pytest.mark.parametrize("s", [row_of(30), free(64)], ids=["fixed", "free"])
def test_a_poison_place_is_given_up_and_blames_no_node(s: Scheduler) -> None:
    """It ends the worker of whoever touches it; the rest of the frame is rendered."""
    nodes = ["a", "b", "c"]
    for name in nodes:
        s.handle(NodeJoined(name), 0)
    now, commands = 0.0, []
    for _ in range(3000):
        now += 1
        for name in nodes:
            held = leases(s, name)
            if not held:
                continue
            rect = s._nodes[name].leases[0].piece.tile.rect
            if rect.contains(Rect(3, 3, 1, 1)):
                commands += s.handle(NodeLeft(name, "crashed", False), now)
                commands += s.handle(NodeJoined(name), now)
            else:
                commands += s.handle(TileDone(*held[0], rect.area / 100), now)
    (finish,) = of(Finish, commands)
    assert len(finish.failed) == 1
    assert finish.failed[0].rect.contains(Rect(3, 3, 1, 1))
    assert not of(SetAside, commands)
    assert not of(Drop, commands)


def test_a_bad_node_is_set_aside_longer_each_time_and_dropped_at_last() -> None:
    s = row_of(100)
    s.handle(NodeJoined("good"), 0)
    s.handle(NodeJoined("bad"), 0)
    now, rests, drops = 0.0, [], []
    for _ in range(40):
        now += 100
        commands = s.handle(Tick(), now)
        for lease in leases(s, "bad"):
            commands += s.handle(TileFailed(*lease, "nonsense"), now)
        rests += [c.seconds for c in of(SetAside, commands)]
        drops += of(Drop, commands)
    assert rests == [FIRST_REST_S, 2 * FIRST_REST_S, 4 * FIRST_REST_S]
    assert [drop.node for drop in drops] == ["bad"]


def test_a_resting_node_gets_nothing_until_its_time() -> None:
    s = row_of(50)
    s.handle(NodeJoined("a"), 0)
    for now in range(3):
        commands = s.handle(TileFailed(*leases(s, "a")[0], "x"), now)
    assert not of(Assign, commands)
    assert not of(Assign, s.handle(Tick(), FIRST_REST_S))
    assert of(Assign, s.handle(Tick(), 3 + FIRST_REST_S))


def test_what_has_not_begun_is_called_back_by_an_idle_node() -> None:
    s = row_of(6)
    s.handle(NodeJoined("fast"), 0)
    s.handle(NodeJoined("slow"), 0)
    held = leases(s, "slow")
    now, commands = 0.0, []
    while s.done < 5:
        now += 1
        commands += s.handle(TileDone(*leases(s, "fast")[0], 1.0), now)
    called_back = [(c.node, c.tile.index, c.attempt) for c in of(EndLease, commands)]
    assert called_back == held[1:]
    assert held[0] not in called_back, "it keeps what it renders"
    assert ("fast", held[1][1]) in [(c.node, c.tile.index) for c in of(Keep, commands)]


def test_what_hangs_is_rendered_by_others_in_parts() -> None:
    s = free()
    end, commands = render(s, {"hangs": 0.0, "one": 10000.0, "two": 10000.0})
    assert of(Finish, commands) == [Finish((), "")]
    assert end < 1.3 * 512 * 512 / 20000
    assert [c.outcome for c in of(EndLease, commands) if c.node == "hangs"]


def test_a_tile_that_failed_here_holds_no_idle_node_up_while_another_hangs() -> None:
    """The last in the queue is one that this node failed on: the one before it is taken over all the same."""
    s = row_of(2)
    s.handle(NodeJoined("hangs", 100.0), 0)
    s.handle(NodeJoined("good", 100.0), 0)
    s.handle(TileFailed(*leases(s, "good")[0], "not a number"), 1)
    now, finish = 1.0, []
    while not finish and now < 60:
        now += 0.5
        commands = s.handle(Tick(), now)
        for lease in leases(s, "good"):
            commands += s.handle(TileDone(*lease, 1.0), now)
        finish = of(Finish, commands)
    assert finish == [Finish((), "")]


def test_a_node_that_never_answers_is_overtaken_though_nobody_knows_how_fast_it_is() -> None:
    s = row_of(1)
    s.handle(NodeJoined("hangs"), 0)
    s.handle(NodeJoined("good"), 0)
    now = 0.0
    while not leases(s, "good") and now < 1000:
        now += 0.5
        s.handle(Tick(), now)
    assert of(Finish, s.handle(TileDone(*leases(s, "good")[0], 1.0), now)) == [Finish((), "")]


def test_who_still_renders_a_tile_that_failed_elsewhere_is_waited_for() -> None:
    s = row_of(1)
    s.handle(NodeJoined("slow", 5.0), 0)
    mine = leases(s, "slow")[0]
    now, commands = 0.0, []
    for name in ("b", "c", "d"):
        now += 1
        commands += s.handle(NodeJoined(name, 100.0), now)
        for lease in leases(s, name):
            commands += s.handle(TileFailed(*lease, "out of memory"), now)
    assert len([c for c in of(EndLease, commands) if c.outcome == "failed"]) >= 3
    assert not of(Finish, commands)
    commands = s.handle(TileDone(*mine, 20.0), 20)
    assert of(Keep, commands)
    assert of(Finish, commands) == [Finish((), "")]


def test_nothing_is_taken_from_a_node_that_will_be_sooner() -> None:
    s = row_of(12)
    s.handle(NodeJoined("slow"), 0)
    s.handle(NodeJoined("fast"), 0)
    now = 0.0
    while len(leases(s, "fast")) > 1 or s._pieces.waiting:
        now += 1
        s.handle(TileDone(*leases(s, "fast")[0], 1.0), now)
        if now % 8 == 0:
            s.handle(TileDone(*leases(s, "slow")[0], 8.0), now)
    commands = s.handle(TileDone(*leases(s, "slow")[0], 8.0), now)
    assert not of(Assign, commands)


def test_a_result_of_an_ended_lease_is_passed_over() -> None:
    s = row_of(1)
    s.handle(NodeJoined("a"), 0)
    s.handle(NodeLeft("a", "gone", False), 1)
    s.handle(NodeJoined("a"), 2)
    assert not of(Keep, s.handle(TileDone("a", 0, 1, 1.0), 3))
    assert of(Keep, s.handle(TileDone("a", 0, 2, 1.0), 4))


def test_the_render_fails_when_no_node_can_come_back() -> None:
    s = row_of(2)
    s.handle(NodeExpected("a"), 0)
    s.handle(NodeExpected("b"), 0)
    assert not s.handle(NodeLeft("a", "no such host", True), 1)
    (finish,) = of(Finish, s.handle(NodeLeft("b", "no such host", True), 2))
    assert sum(tile.rect.area for tile in finish.failed) == 200
    assert "no node" in finish.reason


def test_resumed_tiles_are_not_rendered_again() -> None:
    s = row_of(4, done=[3, 6])
    assert s.fraction == 0.5
    assert {place for _, place in places(s.handle(NodeJoined("a"), 0))} == {1, 2}


def test_a_resumed_tile_covers_those_inside_it() -> None:
    s = free(done=[1, 3, 7, 2])
    assert sorted(tile.index for tile in s.kept()) == [1, 2]
    assert s.is_complete
    assert of(Finish, s.handle(Tick(), 0)) == [Finish((), "")]


def test_a_tile_of_another_grid_is_an_error() -> None:
    with pytest.raises(ValueError, match="there is no tile"):
        row_of(2, done=[99])


def test_seconds_left_follows_the_nodes_that_are_here() -> None:
    s = row_of(10)
    assert s.seconds_left(0) is None
    s.handle(NodeJoined("a"), 0)
    s.handle(TileDone(*leases(s, "a")[0], 9.0), 9)  # It also built the scene.
    assert s.seconds_left(9) is None
    s.handle(TileDone(*leases(s, "a")[0], 2.0), 11)
    assert s.seconds_left(11) == pytest.approx(8 * 2.0)
    s.handle(NodeLeft("a", "", False), 12)
    assert s.seconds_left(12) is None


def test_sizes_follow_speed_and_what_is_left() -> None:
    s = free(1024)
    end, commands = render(s, {"fast": 40000.0, "slow": 1000.0})
    sizes = {
        name: [c.tile.rect.area for c in of(Keep, commands) if c.node == name] for name in ("fast", "slow")
    }
    assert max(sizes["fast"]) > 8 * max(sizes["slow"])
    assert max(sizes["fast"]) > 16 * sizes["fast"][-1]
    assert end < 1.05 * 1024 * 1024 / 41000


def test_nobody_waits_long_for_a_tile_of_a_long_render() -> None:
    """A day's work: what is seen of it, and what a crash costs, is half a minute."""
    s = free(1024)
    _, commands = render(s, {"a": 12.0, "b": 12.0}, until=40_000)
    known = list(of(Assign, commands)[2 * LEASES_PER_NODE :])  # the first ones find out how fast they are
    seconds = [c.tile.rect.area / 12 for c in known]
    assert 10 < max(seconds) <= LONGEST_S


def test_a_benchmark_tells_the_speed_of_a_node_that_has_rendered_nothing() -> None:
    s = free()
    s.handle(NodeJoined("a", 1000.0), 0)
    assert s.seconds_left(0) == pytest.approx(512 * 512 / 1000)


def test_a_margin_makes_tiles_larger() -> None:
    counts = [len(of(Keep, render(free(512, margin), {"a": 5000.0, "b": 5000.0})[1])) for margin in (0, 4)]
    assert counts[1] < 0.7 * counts[0]


@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 10**9),
    width=st.integers(1, 90),
    height=st.integers(1, 90),
    overscan=st.sampled_from([0, 4]),
    is_fixed=st.booleans(),
    nodes=st.integers(1, 5),
    trouble=st.floats(0, 0.5),
)
def test_any_story_ends_well(
    seed: int, width: int, height: int, overscan: int, is_fixed: bool, nodes: int, trouble: float
) -> None:
    """Random deaths, hangs, failures and returns: each lease ends once, no node holds more than it
    should, every pixel is covered exactly once by what is kept, and the render comes to its end,
    also when it is taken up again half-way."""
    chance = random.Random(seed)
    grid = Grid(Rect(3, 5, width, height), 12, overscan)
    s = Scheduler(grid, is_fixed=is_fixed)
    names = [f"n{number}" for number in range(nodes)]
    hangs = names[0] if nodes > 1 and trouble > 0.25 else ""
    running: dict[tuple[str, int, int], Tile] = {}
    kept: dict[int, Tile] = {}
    finish: list[Finish] = []
    here: set[str] = set()
    gone: set[str] = set()
    now = 0.0

    def send(event: Event) -> None:
        for command in s.handle(event, now):
            match command:
                case Assign(name, tile, attempt):
                    assert name in here
                    assert (name, tile.index, attempt) not in running
                    assert tile.index not in kept
                    running[name, tile.index, attempt] = tile
                    assert sum(key[0] == name for key in running) <= LEASES_PER_NODE
                case Keep(name, tile, attempt, _):
                    del running[name, tile.index, attempt]
                    assert tile.index not in kept
                    kept[tile.index] = tile
                case EndLease(name, tile, attempt, _, _):
                    del running[name, tile.index, attempt]
                case Drop(name, _):
                    here.discard(name)
                    gone.add(name)
                case Finish():
                    finish.append(command)

    for name in names:
        send(NodeExpected(name))
    steps = 0
    while not finish:
        steps += 1
        assert steps < 20000
        now += chance.random() * 5
        name = chance.choice(names)
        if name in gone:
            send(Tick())
        elif name not in here:
            here.add(name)
            send(NodeJoined(name))
        elif chance.random() < trouble / 4:
            here.discard(name)
            is_final = chance.random() < 0.2
            if is_final:
                gone.add(name)
            send(NodeLeft(name, "lost", is_final))
        else:
            mine = [key for key in running if key[0] == name]
            if not mine or (trouble and name == hangs):
                send(Tick())
            elif chance.random() < trouble:
                send(TileFailed(*mine[0], "bad"))
            else:
                send(TileDone(*mine[0], chance.random()))
    assert len(finish) == 1
    assert not s.handle(Tick(), now + 1000)
    count = np.zeros((height, width), np.int32)
    for tile in (*s.kept(), *finish[0].failed):
        rect = tile.rect
        count[rect.y - 5 : rect.top - 5, rect.x - 3 : rect.right - 3] += 1
    assert (count == 1).all()
    assert set(s.kept()) <= set(kept.values())
    if trouble == 0:
        assert not finish[0].failed
        assert s.fraction == 1
    again = Scheduler(grid, is_fixed=is_fixed, done=kept)
    assert set(again.kept()) == set(s.kept())
    assert again.fraction == s.fraction
