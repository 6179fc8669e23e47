"""The rules of who renders what, as tables of events and commands."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.job import Rect, Tile
from engine.scheduler import (
    ATTEMPTS_PER_TILE,
    FIRST_REST_S,
    LEASES_PER_NODE,
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
    Scheduler,
    SetAside,
    Tick,
    TileDone,
    TileFailed,
)


def tiles(count: int) -> list[Tile]:
    return [Tile(index, Rect(index * 10, 0, 10, 10)) for index in range(count)]


def assigned(commands: list[Command]) -> list[tuple[str, int, int]]:
    return [(c.node, c.tile.index, c.attempt) for c in commands if isinstance(c, Assign)]


def of(kind: type, commands: list[Command]) -> list[Command]:
    return [command for command in commands if isinstance(command, kind)]


def test_a_node_gets_two_tiles_and_one_more_for_each_it_returns() -> None:
    s = Scheduler(tiles(4))
    assert assigned(s.handle(NodeJoined("a"), 0)) == [("a", 0, 1), ("a", 1, 1)]
    commands = s.handle(TileDone("a", 0, 1, 1.0), 1)
    assert of(Keep, commands) == [Keep("a", tiles(4)[0], 1, 1.0)]
    assert assigned(commands) == [("a", 2, 1)]


def test_first_tiles_are_shared_before_anybody_queues_a_second() -> None:
    s = Scheduler(tiles(3))
    s.handle(NodeExpected("a"), 0)
    s.handle(NodeExpected("b"), 0)
    assert assigned(s.handle(NodeJoined("a"), 0)) == [("a", 0, 1), ("a", 1, 1)]
    assert assigned(s.handle(NodeJoined("b"), 0)) == [("b", 2, 1)]


def test_a_late_node_gets_work_at_once() -> None:
    s = Scheduler(tiles(9))
    s.handle(NodeJoined("a"), 0)
    s.handle(TileDone("a", 0, 1, 1.0), 1)
    assert assigned(s.handle(NodeJoined("late"), 5)) == [("late", 3, 1), ("late", 4, 1)]


def test_a_failed_tile_goes_to_another_node() -> None:
    s = Scheduler(tiles(6))
    s.handle(NodeJoined("a"), 0)
    s.handle(NodeJoined("b"), 0)
    commands = s.handle(TileFailed("a", 0, 1, "wrong size"), 1)
    assert of(EndLease, commands) == [EndLease("a", tiles(6)[0], 1, "failed", "wrong size")]
    assert ("a", 0, 2) not in assigned(commands)
    commands = s.handle(TileDone("b", 2, 1, 1.0), 2)
    commands += s.handle(TileDone("b", 3, 1, 1.0), 2)
    assert ("b", 0, 2) in assigned(commands)


def test_a_failed_tile_is_retried_by_the_only_node() -> None:
    s = Scheduler(tiles(1))
    s.handle(NodeJoined("a"), 0)
    assert assigned(s.handle(TileFailed("a", 0, 1, "x"), 1)) == [("a", 0, 2)]


def test_a_lost_node_s_tiles_wait_again_and_only_the_running_one_counts_as_failed() -> None:
    s = Scheduler(tiles(4))
    s.handle(NodeJoined("a"), 0)
    s.handle(NodeJoined("b"), 0)
    commands = s.handle(NodeLeft("a", "gone", False), 1)
    assert {(c.tile.index, c.outcome) for c in of(EndLease, commands)} == {(0, "failed"), (1, "failed")}
    s.handle(TileDone("b", 2, 1, 1.0), 2)
    s.handle(TileDone("b", 3, 1, 1.0), 2)
    state = s._tiles
    assert (state[0].failures, state[1].failures) == (1, 0)
    s.handle(TileDone("b", 0, 2, 1.0), 2)
    finish = s.handle(TileDone("b", 1, 2, 1.0), 3)
    assert of(Finish, finish) == [Finish((), "")]


def test_a_poison_tile_is_given_up_and_blames_no_node() -> None:
    """It ends the worker of whoever touches it; the rest of the frame is rendered."""
    s = Scheduler(tiles(30))
    nodes = ["a", "b", "c"]
    for name in nodes:
        s.handle(NodeJoined(name), 0)
    now, commands = 0.0, []
    for _ in range(400):
        now += 1
        for name in nodes:
            lease = s._nodes[name].leases[0] if s._nodes[name].leases else None
            if lease is None:
                continue
            if lease.tile == 0:
                commands += s.handle(NodeLeft(name, "crashed", False), now)
                commands += s.handle(NodeJoined(name), now)
            else:
                commands += s.handle(TileDone(name, lease.tile, lease.attempt, 1.0), now)
    finish = of(Finish, commands)
    assert len(finish) == 1
    assert [tile.index for tile in finish[0].failed] == [0]
    assert not of(SetAside, commands)
    assert not of(Drop, commands)
    assert len({c.node for c in of(EndLease, commands) if c.tile.index == 0 and c.outcome == "failed"}) == 3


def test_a_bad_node_is_set_aside_longer_each_time_and_dropped_at_last() -> None:
    s = Scheduler(tiles(100))
    s.handle(NodeJoined("good"), 0)
    s.handle(NodeJoined("bad"), 0)
    now, rests, drops = 0.0, [], []
    for _ in range(40):
        now += 100
        commands = s.handle(Tick(), now)
        for lease in list(s._nodes["bad"].leases):
            commands += s.handle(TileFailed("bad", lease.tile, lease.attempt, "nonsense"), now)
        rests += [c.seconds for c in of(SetAside, commands)]
        drops += of(Drop, commands)
    assert rests == [FIRST_REST_S, 2 * FIRST_REST_S, 4 * FIRST_REST_S]
    assert [drop.node for drop in drops] == ["bad"]
    assert not any(state.is_failed for state in s._tiles.values())


def test_a_resting_node_gets_nothing_until_its_time() -> None:
    s = Scheduler(tiles(50))
    s.handle(NodeJoined("a"), 0)
    for index in range(3):
        lease = s._nodes["a"].leases[0]
        commands = s.handle(TileFailed("a", lease.tile, lease.attempt, "x"), index)
    assert not assigned(commands)
    assert not assigned(s.handle(Tick(), FIRST_REST_S))
    assert assigned(s.handle(Tick(), 3 + FIRST_REST_S))


def test_an_idle_node_takes_over_what_would_come_last() -> None:
    s = Scheduler(tiles(6))
    s.handle(NodeJoined("fast"), 0)  # 0, 1
    s.handle(NodeJoined("slow"), 0)  # 2, 3
    s.handle(TileDone("fast", 0, 1, 1.0), 1)  # gets 4
    s.handle(TileDone("fast", 1, 1, 1.0), 2)  # gets 5
    s.handle(TileDone("slow", 2, 1, 30.0), 30)
    s.handle(TileDone("fast", 4, 1, 1.0), 31)
    commands = s.handle(TileDone("fast", 5, 1, 1.0), 32)
    assert assigned(commands) == [("fast", 3, 2)]
    commands = s.handle(TileDone("fast", 3, 2, 1.0), 33)
    assert of(Keep, commands) == [Keep("fast", tiles(6)[3], 2, 1.0)]
    assert [(c.node, c.outcome) for c in of(EndLease, commands)] == [("slow", "dropped")]
    assert of(Finish, commands)


def test_nothing_is_taken_from_a_node_that_will_be_sooner() -> None:
    s = Scheduler(tiles(4))
    s.handle(NodeJoined("slow"), 0)
    s.handle(NodeJoined("fast"), 0)
    s.handle(TileDone("fast", 2, 1, 1.0), 1)
    commands = s.handle(TileDone("slow", 0, 1, 30.0), 1)
    assert not assigned(commands)


def test_a_node_that_hangs_on_its_first_tile_is_overtaken() -> None:
    s = Scheduler(tiles(3))
    s.handle(NodeJoined("hangs"), 0)  # 0, 1
    s.handle(NodeJoined("works"), 0)  # 2
    assert assigned(s.handle(TileDone("works", 2, 1, 1.0), 1)) == [("works", 1, 2)]
    assert assigned(s.handle(TileDone("works", 1, 2, 1.0), 1.5)) == [("works", 0, 2)]


def test_a_result_of_an_ended_lease_is_passed_over() -> None:
    s = Scheduler(tiles(3))
    s.handle(NodeJoined("a"), 0)
    s.handle(NodeLeft("a", "gone", False), 1)
    s.handle(NodeJoined("a"), 2)
    assert not of(Keep, s.handle(TileDone("a", 0, 1, 1.0), 3))
    assert of(Keep, s.handle(TileDone("a", 0, 2, 1.0), 4)) or s.done == 0


def test_the_render_fails_when_no_node_can_come_back() -> None:
    s = Scheduler(tiles(2))
    s.handle(NodeExpected("a"), 0)
    s.handle(NodeExpected("b"), 0)
    assert not s.handle(NodeLeft("a", "no such host", True), 1)
    finish = of(Finish, s.handle(NodeLeft("b", "no such host", True), 2))
    assert [tile.index for tile in finish[0].failed] == [0, 1]
    assert "no node" in finish[0].reason


def test_resumed_tiles_are_not_rendered_again() -> None:
    s = Scheduler(tiles(4), done=[0, 2])
    assert assigned(s.handle(NodeJoined("a"), 0)) == [("a", 1, 1), ("a", 3, 1)]
    assert s.fraction == 0.5


def test_all_resumed_is_finished() -> None:
    assert of(Finish, Scheduler(tiles(2), done=[0, 1]).handle(Tick(), 0)) == [Finish((), "")]


def test_seconds_left_follows_the_nodes_that_are_here() -> None:
    s = Scheduler(tiles(10))
    assert s.seconds_left() is None
    s.handle(NodeJoined("a"), 0)
    s.handle(TileDone("a", 0, 1, 2.0), 2)
    assert s.seconds_left() == 9 * 2.0
    s.handle(NodeLeft("a", "", False), 3)
    assert s.seconds_left() is None


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 10**9), st.integers(1, 40), st.integers(1, 5), st.floats(0, 0.5))
def test_any_story_ends_well(seed: int, count: int, nodes: int, trouble: float) -> None:
    """Random deaths, failures and returns: each lease ends once, each tile is kept at most once,
    no node holds more than it should, and the render always comes to its end."""
    chance = random.Random(seed)
    s = Scheduler(tiles(count))
    names = [f"n{number}" for number in range(nodes)]
    running: dict[tuple[str, int, int], Tile] = {}
    kept: set[int] = set()
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
                    kept.add(tile.index)
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
            if not mine:
                send(Tick())
            elif chance.random() < trouble:
                send(TileFailed(*mine[0], "bad"))
            else:
                send(TileDone(*mine[0], chance.random()))
    assert len(finish) == 1
    assert len(kept) + len(finish[0].failed) == count
    assert not s.handle(Tick(), now + 1000)
    if trouble == 0:
        assert len(kept) == count
    assert all(state.failures <= ATTEMPTS_PER_TILE for state in s._tiles.values())
