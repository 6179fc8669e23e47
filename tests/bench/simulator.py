"""The real scheduler on simulated nodes: the same class, another clock.

A world is a frame with a cost for each pixel, taken from real heat maps, and nodes that render it,
die, arrive and slow down. Beside the scheduler stand the ways of others: a fixed grid that nodes
pull from, strips by speed, small tiles that each start a Blender.

    python -m tests.bench.simulator        # the tables of docs/performance.md
"""

from __future__ import annotations

import gc
import heapq
import random
import statistics
import time
import tracemalloc
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from engine.job import Rect, Tile
from engine.plan import (
    Assign,
    Drop,
    EndLease,
    Event,
    Finish,
    Keep,
    NodeExpected,
    NodeJoined,
    NodeLeft,
    Tick,
    TileDone,
)
from engine.scheduler import Scheduler
from engine.tiling import Grid, smallest_tile, with_overscan

MAPS = {path.stem: path for path in sorted((Path(__file__).parent / "cost_maps").glob("*.npy"))}
TICK_S = 0.5
PER_TILE_S = 0.008
"""What a kept Blender needs for a tile beyond its pixels (tests.bench.overhead)."""
DELAY_S = 0.002
"""One way between node and scheduler."""
DEATH_NOTICED_S = 1.0
FRESH_BLENDER_S = 3.0
"""What a new Blender needs before its first pixel (tests.bench.overhead, a real scene)."""


class Cost:
    """Seconds that a rectangle costs on a node of speed 1, from a map of any size."""

    def __init__(self, values: np.ndarray, width: int, height: int, seconds: float) -> None:
        """The whole frame costs `seconds`."""
        self._rows, self._columns = values.shape
        sums = np.zeros((self._rows + 1, self._columns + 1))
        # The map's first row is the top of the frame.
        sums[1:, 1:] = values[::-1].astype(float).cumsum(0).cumsum(1)
        sums *= seconds / sums[-1, -1]
        self._sums = sums.tolist()
        self._x, self._y = self._columns / width, self._rows / height
        self.frame = Rect(0, 0, width, height)

    @classmethod
    def of(cls, name: str, width: int, height: int, seconds: float) -> Cost:
        return cls(np.load(MAPS[name]), width, height, seconds)

    def __call__(self, rect: Rect) -> float:
        return (
            self._to(rect.right, rect.top)
            - self._to(rect.x, rect.top)
            - self._to(rect.right, rect.y)
            + self._to(rect.x, rect.y)
        )

    def _to(self, x: int, y: int) -> float:
        """Of all below and left of a point: exact for blocks of equal cost."""
        column, row = x * self._x, y * self._y
        i, j = min(int(column), self._columns - 1), min(int(row), self._rows - 1)
        u, v = column - i, row - j
        low, high = self._sums[j], self._sums[j + 1]
        return (low[i] * (1 - u) + low[i + 1] * u) * (1 - v) + (high[i] * (1 - u) + high[i + 1] * u) * v


@dataclass
class Machine:
    """A node of the world: what it does at which time is known to the world alone."""

    name: str
    speed: float
    joins: float = 0.0
    dies: float = float("inf")
    slows: float = float("inf")
    """When it becomes `slower` times slower."""
    slower: float = 1.0
    benchmark: float | None = None
    """What it says of its speed when it joins, in pixels per second."""
    queue: deque[tuple[Tile, int]] = field(default_factory=deque)
    running: tuple[Tile, int] | None = None
    work: float = 0.0
    since: float = 0.0
    began: float = 0.0
    version: int = 0
    skipped: set[tuple[int, int]] = field(default_factory=set)
    idle_s: float = 0.0
    tiles: int = 0

    def done_until(self, when: float) -> float:
        """What it could render at most from the beginning until `when`."""
        end = max(self.joins, min(when, self.dies))
        fast = max(self.joins, min(end, self.slows))
        return self.speed0 * ((fast - self.joins) + (end - fast) / self.slower)

    def __post_init__(self) -> None:
        self.speed0 = self.speed


def bound(work: float, machines: Iterable[Machine]) -> float:
    """When the frame could be there at the earliest: each node renders for as long as it is there."""
    machines = list(machines)
    low, high = 0.0, 1.0
    while sum(machine.done_until(high) for machine in machines) < work:
        high *= 2
        if high > 1e9:
            return float("inf")
    for _ in range(60):
        middle = (low + high) / 2
        if sum(machine.done_until(middle) for machine in machines) < work:
            low = middle
        else:
            high = middle
    return high


@dataclass
class Outcome:
    """What a simulated render came to."""

    makespan: float
    bound: float
    events: int = 0
    commands: int = 0
    tiles: int = 0
    cpu_s: float = 0.0
    rendered_twice: float = 0.0
    """Part of the work whose result was not needed."""
    failed: int = 0
    gantt: list[tuple[str, float, float, Rect]] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        return self.makespan / self.bound


class Simulation:
    """One render by the real scheduler."""

    def __init__(
        self,
        cost: Cost,
        machines: list[Machine],
        *,
        overscan: int = 0,
        tile_size: int = 0,
        per_tile: float = PER_TILE_S,
        delay: float = DELAY_S,
    ) -> None:
        """`tile_size` 0: sizes follow the work."""
        self._cost = cost
        self._machines = {machine.name: machine for machine in machines}
        self._overscan = overscan
        self._per_tile = per_tile
        self._delay = delay
        grid = Grid(cost.frame, tile_size or smallest_tile(overscan), overscan)
        self.scheduler = Scheduler(grid, is_fixed=bool(tile_size))
        self._agenda: list[tuple[float, int, str, tuple[object, ...]]] = []
        self._number = 0
        self._now = 0.0
        self._work = cost(cost.frame)
        self._finish: Finish | None = None
        self.outcome = Outcome(0.0, bound(self._work, machines))
        self._spent = 0.0

    def run(self) -> Outcome:
        """Go through the whole render."""
        for machine in self._machines.values():
            self._tell(NodeExpected(machine.name))
            self._at(machine.joins, "join", machine)
            if machine.slows < float("inf"):
                self._at(machine.slows, "slow", machine)
            if machine.dies < float("inf"):
                self._at(machine.dies, "die", machine)
        self._at(TICK_S, "tick")
        while self._finish is None:
            self._now, _, kind, values = heapq.heappop(self._agenda)
            getattr(self, f"_{kind}")(*values)
        outcome = self.outcome
        outcome.makespan = self._now
        outcome.failed = len(self._finish.failed)
        outcome.rendered_twice = self._spent / self._work - 1
        return outcome

    def _at(self, when: float, kind: str, *values: object) -> None:
        self._number += 1
        heapq.heappush(self._agenda, (when, self._number, kind, values))

    def _tell(self, event: Event) -> None:
        start = time.process_time_ns()
        commands = self.scheduler.handle(event, self._now)
        self.outcome.cpu_s += (time.process_time_ns() - start) / 1e9
        self.outcome.events += 1
        self.outcome.commands += len(commands)
        for command in commands:
            match command:
                case Assign(name, tile, attempt):
                    self._at(self._now + self._delay, "arrive", self._machines[name], tile, attempt)
                case EndLease(name, tile, attempt, "dropped"):
                    self._at(self._now + self._delay, "skip", self._machines[name], tile, attempt)
                case Keep():
                    self.outcome.tiles += 1
                case Drop():
                    raise AssertionError("no simulated node misbehaves")
                case Finish():
                    self._finish = command

    def _tick(self) -> None:
        self._at(self._now + TICK_S, "tick")
        self._tell(Tick())

    def _join(self, machine: Machine) -> None:
        self._tell(NodeJoined(machine.name, machine.benchmark))

    def _arrive(self, machine: Machine, tile: Tile, attempt: int) -> None:
        if self._now < machine.dies:
            machine.queue.append((tile, attempt))
            self._start_next(machine)

    def _skip(self, machine: Machine, tile: Tile, attempt: int) -> None:
        machine.skipped.add((tile.index, attempt))

    def _start_next(self, machine: Machine) -> None:
        while machine.running is None and machine.queue:
            tile, attempt = machine.queue.popleft()
            if (tile.index, attempt) in machine.skipped:
                continue
            machine.running = tile, attempt
            asked = with_overscan(tile.rect, self._overscan, self._cost.frame)
            machine.work = self._cost(asked) + self._per_tile * machine.speed
            machine.since = machine.began = self._now
            self._plan_end(machine)

    def _plan_end(self, machine: Machine) -> None:
        machine.version += 1
        self._at(self._now + machine.work / machine.speed, "end", machine, machine.version)

    def _end(self, machine: Machine, version: int) -> None:
        if version != machine.version or machine.running is None:
            return
        tile, attempt = machine.running
        machine.running = None
        machine.tiles += 1
        self._spent += self._cost(tile.rect)
        self.outcome.gantt.append((machine.name, machine.began, self._now, tile.rect))
        done = TileDone(machine.name, tile.index, attempt, self._now - machine.began)
        self._at(self._now + self._delay, "tell", done)
        self._start_next(machine)

    def _slow(self, machine: Machine) -> None:
        if machine.running is not None:
            machine.work -= (self._now - machine.since) * machine.speed
            machine.since = self._now
        machine.speed /= machine.slower
        if machine.running is not None:
            self._plan_end(machine)

    def _die(self, machine: Machine) -> None:
        machine.version += 1
        machine.running = None
        machine.queue.clear()
        self._at(self._now + DEATH_NOTICED_S, "tell", NodeLeft(machine.name, "died", True))


def fixed_grid(
    cost: Cost,
    machines: list[Machine],
    *,
    columns: int,
    rows: int,
    overscan: int = 0,
    per_tile: float = PER_TILE_S,
) -> Outcome:
    """Nodes that are free pull the next tile of a fixed grid; nothing is taken over."""
    frame = cost.frame
    xs = [frame.width * step // columns for step in range(columns + 1)]
    ys = [frame.height * step // rows for step in range(rows + 1)]
    free = [(machine.joins, number, machine) for number, machine in enumerate(machines)]
    heapq.heapify(free)
    end = 0.0
    for j in range(rows):
        for i in range(columns):
            rect = Rect(xs[i], ys[j], xs[i + 1] - xs[i], ys[j + 1] - ys[j])
            begin, number, machine = heapq.heappop(free)
            done = begin + per_tile + cost(with_overscan(rect, overscan, frame)) / machine.speed0
            end = max(end, done)
            heapq.heappush(free, (done, number, machine))
    return Outcome(end, bound(cost(frame), machines), tiles=columns * rows)


def strips(cost: Cost, machines: list[Machine], *, per_tile: float = PER_TILE_S) -> Outcome:
    """One strip for each node, as high as its speed is great; speeds are known exactly."""
    frame = cost.frame
    whole = sum(machine.speed0 for machine in machines)
    end, below, part = 0.0, 0, 0.0
    for machine in machines:
        part += machine.speed0
        top = round(frame.height * part / whole)
        rect = Rect(0, below, frame.width, top - below)
        end = max(end, per_tile + cost(rect) / machine.speed0)
        below = top
    return Outcome(end, bound(cost(frame), machines), tiles=len(machines))


def cluster(chance: random.Random, *, count: int | None = None, spread: float = 100.0) -> list[Machine]:
    """Two to 64 nodes with speeds over a factor `spread`, even in their logarithm."""
    count = count or round(2 ** chance.uniform(1, 6))
    return [Machine(f"n{number}", spread ** chance.random()) for number in range(count)]


def random_world(
    seed: int, *, trouble: bool = False, benchmark: bool = False, low_s: float = 60.0, high_s: float = 1800.0
) -> tuple[Cost, list[Machine]]:
    """A frame that all nodes together need one to thirty minutes for."""
    chance = random.Random(seed)
    machines = cluster(chance)
    wall = low_s * (high_s / low_s) ** chance.random()
    seconds = wall * sum(machine.speed for machine in machines)
    width, height = chance.choice([(1920, 1080), (3840, 2160), (2048, 2048), (1080, 1920)])
    cost = Cost.of(chance.choice(sorted(MAPS)), width, height, seconds)
    if benchmark:
        for machine in machines:
            # A small piece of the scene says it within some 20%.
            machine.benchmark = width * height * machine.speed / seconds * chance.lognormvariate(0, 0.2)
    if trouble:
        for machine in machines[1:]:
            fate = chance.random()
            when = wall * chance.random()
            if fate < 0.15:
                machine.dies = when
            elif fate < 0.3:
                machine.joins = when
            elif fate < 0.45:
                machine.slows, machine.slower = when, chance.choice([2.0, 8.0])
    return cost, machines


def ancestors_user() -> tuple[Cost, list[Machine]]:
    """A cluster that a user of the ancestor told of: 22 of 32 tiles at 1:22, 9 at 3:07, and a
    Raspberry Pi whose one tile lasted 22:33."""
    seconds = (82.0, 187.0, 1353.0)
    machines = [Machine(name, 1 / each) for name, each in zip(("fast", "middle", "pi"), seconds, strict=True)]
    return Cost.of("demo", 1920, 1080, 32.0), machines


def fresh(machines: list[Machine]) -> list[Machine]:
    """The same nodes before anything has happened to them."""
    return [Machine(m.name, m.speed0, m.joins, m.dies, m.slows, m.slower, m.benchmark) for m in machines]


def policies(cost: Cost, machines: list[Machine], *, startup: float = FRESH_BLENDER_S) -> dict[str, Outcome]:
    """Ours and others' ways with the same frame and nodes. Theirs start a Blender for each tile."""
    frame = cost.frame
    # As many blocks a node as the ancestor's user had: 32 for three.
    count = 32 * len(machines) / 3
    columns = max(1, round((count * frame.width / frame.height) ** 0.5))
    rows = max(1, round(count / columns))
    small = {"columns": -(-frame.width // 64), "rows": -(-frame.height // 64), "overscan": 16}
    return {
        "ours": Simulation(cost, fresh(machines)).run(),
        "fixed grid, pull": fixed_grid(cost, machines, columns=columns, rows=rows),
        "ours, 4 px margin": Simulation(cost, fresh(machines), overscan=4).run(),
        "fixed grid, pull, 4 px margin": fixed_grid(cost, machines, columns=columns, rows=rows, overscan=4),
        "the same, fresh Blenders": fixed_grid(cost, machines, columns=columns, rows=rows, per_tile=startup),
        "strips by speed": strips(cost, machines, per_tile=startup),
        "64 px tiles, 16 px margin, fresh Blenders": fixed_grid(cost, machines, per_tile=startup, **small),
    }


def large(nodes: int, edge: int, *, tile_size: int = 32) -> Outcome:
    """A square frame in so many tiles: what an event costs the scheduler."""
    chance = random.Random(nodes)
    machines = cluster(chance, count=nodes)
    seconds = 600 * sum(machine.speed for machine in machines)
    return Simulation(Cost.of("demo", edge, edge, seconds), machines, tile_size=tile_size).run()


def table(title: str, ratios: Iterable[float]) -> str:
    """A line of mean, 99th percentile and worst of makespan over bound."""
    found = sorted(ratios)
    high = found[min(len(found) - 1, int(0.99 * len(found)))]
    return f"{title:45} {statistics.mean(found):8.3f} {statistics.median(found):8.3f} {high:8.3f} {found[-1]:8.3f}"


def _random_clusters(count: int) -> None:
    print(f"\n{count} random clusters, makespan over lower bound     mean   median      p99    worst")
    for title, options in (
        ("speeds unknown", {}),
        ("speeds from a benchmark", {"benchmark": True}),
        ("with deaths, arrivals, slow-downs", {"trouble": True}),
    ):
        ratios = []
        for seed in range(count):
            cost, machines = random_world(seed, **options)
            ratios.append(Simulation(cost, machines).run().ratio)
        print(table(title, ratios), flush=True)


def _policies(count: int) -> None:
    print(f"\n{count} of the clusters, every way: makespan over lower bound")
    found: dict[str, list[float]] = {}
    for seed in range(count):
        for name, outcome in policies(*random_world(seed)).items():
            found.setdefault(name, []).append(outcome.ratio)
    for name, ratios in found.items():
        print(table(name, ratios))
    print("\nThe ancestor's user's cluster")
    cost, machines = ancestors_user()
    for name, outcome in policies(cost, machines).items():
        print(f"{name:45} {outcome.makespan:8.0f} s {outcome.ratio:8.3f} {outcome.tiles:6} tiles")
    grid = fixed_grid(cost, machines, columns=8, rows=4)
    print(f"{'fixed grid of 32, pull':45} {grid.makespan:8.0f} s {grid.ratio:8.3f}")


def _cpu() -> None:
    print("\nScheduler alone: nodes, tiles, events, CPU per event, commands per tile, memory per tile")
    gc.disable()  # Its passes over the simulator's own objects would be counted as the scheduler's.
    for nodes, edge, tile_size in (
        (10, 1024, 32),
        (100, 3200, 32),
        (1000, 10112, 32),
        (10, 10112, 32),
        (100, 10112, 32),
    ):
        outcome = large(nodes, edge, tile_size=tile_size)
        print(
            f"{nodes:6} {outcome.tiles:8} {outcome.events:8} {1e6 * outcome.cpu_s / outcome.events:8.1f} us"
            f" {outcome.commands / outcome.tiles:6.2f}",
            flush=True,
        )
    for nodes in (10, 100, 1000):
        outcome = large(nodes, 16384, tile_size=0)
        print(
            f"{nodes:6} {outcome.tiles:8} {outcome.events:8} {1e6 * outcome.cpu_s / outcome.events:8.1f} us"
            f" {outcome.commands / outcome.tiles:6.2f}   (sizes follow the work; ratio {outcome.ratio:.3f})",
            flush=True,
        )
    gc.enable()
    tracemalloc.start()
    simulation = Simulation(
        Cost.of("demo", 10112, 10112, 6e5), cluster(random.Random(1), count=1000), tile_size=32
    )
    before = tracemalloc.get_traced_memory()[0]
    outcome = simulation.run()
    simulation.outcome.gantt.clear()
    print(
        f"memory at the end: {(tracemalloc.get_traced_memory()[0] - before) / outcome.tiles:.0f} bytes a tile"
    )
    tracemalloc.stop()


def main() -> None:
    _cpu()
    _policies(200)
    _random_clusters(1000)


if __name__ == "__main__":
    main()
