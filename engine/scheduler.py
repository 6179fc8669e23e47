"""Who renders what: a state machine without clock, thread or socket.

    handle(event, now) -> [command, ...]

Events tell what happened, commands say what to do; the session carries them out. The same
events at the same times give the same commands, so the rules are tested as tables.

A tile handed to a node is a *lease* (node, tile, attempt). Nodes pull: each holds two leases,
so that the next tile is there before the last is back. The first valid result of a tile wins.
When nothing waits, an idle node takes over the tile that would otherwise be back last.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from .job import Tile

LEASES_PER_NODE = 2
ATTEMPTS_PER_TILE = 3
FAILURES_IN_ROW = 3
"""After as many a node is set aside, unless it is the tile that is to blame."""
FIRST_REST_S = 10.0
RESTS_PER_NODE = 3
"""Times a node is set aside, each twice as long as the last, before it is dropped."""


@dataclass(frozen=True, slots=True)
class NodeExpected:
    """A node was listed; it may join at any time."""

    node: str


@dataclass(frozen=True, slots=True)
class NodeJoined:
    """The node has the scene open and can render."""

    node: str
    speed: float | None = None
    """Pixels of this scene per second, from a benchmark; None if nobody knows."""


@dataclass(frozen=True, slots=True)
class NodeLeft:
    """The node's worker is gone. Unless `is_final`, it is expected back."""

    node: str
    reason: str
    is_final: bool


@dataclass(frozen=True, slots=True)
class TileDone:
    """A valid result arrived. `seconds` is the node's own time for it."""

    node: str
    tile: int
    attempt: int
    seconds: float


@dataclass(frozen=True, slots=True)
class TileFailed:
    """The node answered, but not with a valid tile."""

    node: str
    tile: int
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


Event = NodeExpected | NodeJoined | NodeLeft | TileDone | TileFailed | Tick


@dataclass(frozen=True, slots=True)
class Assign:
    """Send the tile to the node."""

    node: str
    tile: Tile
    attempt: int


@dataclass(frozen=True, slots=True)
class Keep:
    """This result is the tile: store it, show it."""

    node: str
    tile: Tile
    attempt: int
    seconds: float


@dataclass(frozen=True, slots=True)
class EndLease:
    """A lease ended without a result that is kept."""

    node: str
    tile: Tile
    attempt: int
    outcome: str
    """`failed`, or `dropped` where somebody else was first."""
    reason: str


@dataclass(frozen=True, slots=True)
class SetAside:
    """The node gets no tile for `seconds`."""

    node: str
    seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class Drop:
    """Do not use the node again."""

    node: str
    reason: str


@dataclass(frozen=True, slots=True)
class Finish:
    """Nothing is left to do. `failed` are the tiles nobody could render."""

    failed: tuple[Tile, ...]
    reason: str


Command = Assign | Keep | EndLease | SetAside | Drop | Finish


@dataclass(slots=True)
class _Lease:
    node: str
    tile: int
    attempt: int
    given: float


@dataclass(slots=True)
class _Tile:
    tile: Tile
    is_done: bool = False
    attempts: int = 0
    failures: int = 0
    failed_on: set[str] = field(default_factory=set)
    leases: list[_Lease] = field(default_factory=list)
    last_reason: str = ""

    @property
    def is_failed(self) -> bool:
        return not self.is_done and self.failures >= ATTEMPTS_PER_TILE

    @property
    def is_waiting(self) -> bool:
        return not (self.is_done or self.leases or self.is_failed)


@dataclass(slots=True)
class _Node:
    name: str
    is_here: bool = False
    is_gone: bool = False
    leases: list[_Lease] = field(default_factory=list)
    """In the order in which the node renders them."""
    head_since: float = 0.0
    failures_in_row: int = 0
    rests: int = 0
    resting_until: float = 0.0
    tiles_done: int = 0
    pixels_done: int = 0
    seconds: float = 0.0
    speed: float | None = None
    """Pixels per second, from a benchmark."""

    def seconds_for(self, tile: Tile) -> float | None:
        """Estimated from what it rendered so far, or from a benchmark before its first tile."""
        if self.pixels_done:
            return self.seconds / self.pixels_done * tile.rect.area
        return tile.rect.area / self.speed if self.speed else None


class Scheduler:
    """State of one render's tiles and nodes; changed by `handle` alone."""

    def __init__(self, tiles: Iterable[Tile], done: Iterable[int] = ()) -> None:
        """`tiles` in the order to render them; `done` are indices that need no rendering."""
        self._tiles = {tile.index: _Tile(tile) for tile in tiles}
        self._nodes: dict[str, _Node] = {}
        self._waiting = dict.fromkeys(self._tiles)
        self._is_finished = False
        self._pixels = self._pixels_left = sum(state.tile.rect.area for state in self._tiles.values())
        self._open = len(self._tiles)
        """Tiles that are neither done nor given up."""
        self.done = 0
        """Tiles that are there."""
        for index in done:
            del self._waiting[index]
            self._count_done(self._tiles[index])

    @property
    def total(self) -> int:
        return len(self._tiles)

    @property
    def fraction(self) -> float:
        """Done part of the frame's area, 0 to 1."""
        return 1.0 - self._pixels_left / self._pixels

    def seconds_left(self) -> float | None:
        """Estimated from the speeds of the nodes that are here; None while none is known."""
        speed = sum(
            node.pixels_done / node.seconds
            for node in self._nodes.values()
            if node.is_here and node.seconds > 0
        )
        return self._pixels_left / speed if speed else None

    def running_tile(self, node: str) -> Tile | None:
        """What the node renders at this moment, as far as is known here."""
        leases = self._nodes[node].leases if node in self._nodes else []
        return self._tiles[leases[0].tile].tile if leases else None

    def tiles_done_by(self, node: str) -> tuple[int, float]:
        """Number of tiles kept from `node`, and the seconds it took for them."""
        state = self._nodes.get(node)
        return (state.tiles_done, state.seconds) if state else (0, 0.0)

    def handle(self, event: Event, now: float) -> list[Command]:
        """Take in what happened at `now` (monotonic seconds) and say what to do about it."""
        if self._is_finished:
            return []
        commands: list[Command] = []
        match event:
            case NodeExpected(name):
                self._nodes[name] = self._nodes.get(name) or _Node(name)
                self._nodes[name].is_gone = False
            case NodeJoined(name, speed):
                self._node(name).is_here = True
                self._node(name).speed = speed
                self._node(name).is_gone = False
            case NodeLeft(name, reason, is_final):
                self._leave(self._node(name), reason, is_final, now, commands)
            case TileDone(name, index, attempt, seconds):
                self._done(self._node(name), index, attempt, seconds, now, commands)
            case TileFailed(name, index, attempt, reason):
                self._fail(self._node(name), index, attempt, reason, now, commands)
            case Tick():
                pass
        self._assign(now, commands)
        self._finish(commands)
        return commands

    def _count_done(self, tile: _Tile) -> None:
        tile.is_done = True
        self.done += 1
        self._open -= 1
        self._pixels_left -= tile.tile.rect.area

    def _node(self, name: str) -> _Node:
        return self._nodes.setdefault(name, _Node(name))

    def _lease(self, node: _Node, index: int, attempt: int) -> _Lease | None:
        for lease in node.leases:
            if (lease.tile, lease.attempt) == (index, attempt):
                return lease
        return None

    def _release(self, lease: _Lease, now: float) -> None:
        node, tile = self._nodes[lease.node], self._tiles[lease.tile]
        was_head = node.leases[0] is lease
        node.leases.remove(lease)
        tile.leases.remove(lease)
        if was_head:
            node.head_since = now
        if tile.is_waiting:
            self._waiting[lease.tile] = None

    def _end(self, lease: _Lease, outcome: str, reason: str, now: float, commands: list[Command]) -> None:
        self._release(lease, now)
        tile = self._tiles[lease.tile].tile
        commands.append(EndLease(lease.node, tile, lease.attempt, outcome, reason))

    def _done(
        self, node: _Node, index: int, attempt: int, seconds: float, now: float, commands: list[Command]
    ) -> None:
        lease = self._lease(node, index, attempt)
        if lease is None:
            return  # This lease was ended before: its tile is here, or it was given to others.
        tile = self._tiles[index]
        self._count_done(tile)
        node.failures_in_row = node.rests = 0
        node.tiles_done += 1
        node.pixels_done += tile.tile.rect.area
        node.seconds += seconds
        self._release(lease, now)
        commands.append(Keep(node.name, tile.tile, attempt, seconds))
        for other in list(tile.leases):
            self._end(other, "dropped", f"{node.name} was first", now, commands)

    def _fail(
        self, node: _Node, index: int, attempt: int, reason: str, now: float, commands: list[Command]
    ) -> None:
        lease = self._lease(node, index, attempt)
        if lease is None:
            return
        tile = self._tiles[index]
        # The failure counts before the lease ends, so that a given-up tile does not wait again.
        tile.failures += 1
        tile.failed_on.add(node.name)
        tile.last_reason = f"{node.name}: {reason}"
        self._end(lease, "failed", reason, now, commands)
        if tile.is_failed:
            self._open -= 1
            for other in list(tile.leases):
                self._end(other, "dropped", "the tile was given up", now, commands)
        # A tile that failed elsewhere too is itself to blame, not this node.
        if len(tile.failed_on) == 1:
            node.failures_in_row += 1
            if node.failures_in_row >= FAILURES_IN_ROW:
                self._set_aside(node, reason, now, commands)

    def _set_aside(self, node: _Node, reason: str, now: float, commands: list[Command]) -> None:
        node.failures_in_row = 0
        node.rests += 1
        for lease in list(node.leases):
            self._end(lease, "dropped", "the node was set aside", now, commands)
        if node.rests > RESTS_PER_NODE:
            node.is_here, node.is_gone = False, True
            commands.append(Drop(node.name, reason))
            return
        rest = FIRST_REST_S * 2 ** (node.rests - 1)
        node.resting_until = now + rest
        commands.append(SetAside(node.name, rest, reason))

    def _leave(self, node: _Node, reason: str, is_final: bool, now: float, commands: list[Command]) -> None:
        node.is_here = False
        node.is_gone = node.is_gone or is_final
        if node.leases:
            # Only what was being rendered can have ended the worker; the rest just waits again.
            head = node.leases[0]
            for lease in node.leases[1:]:
                self._end(lease, "failed", reason, now, commands)
            self._fail(node, head.tile, head.attempt, reason, now, commands)

    def _assign(self, now: float, commands: list[Command]) -> None:
        # One lease each before anybody gets a second: the first renders, the second only waits.
        for depth in range(LEASES_PER_NODE):
            for node in self._nodes.values():
                if not node.is_here or now < node.resting_until or len(node.leases) != depth:
                    continue
                tile = self._next_waiting(node)
                if tile is None and depth == 0:
                    tile = self._take_over(node, now)
                if tile is not None:
                    self._give(node, tile, now, commands)

    def _give(self, node: _Node, tile: _Tile, now: float, commands: list[Command]) -> None:
        tile.attempts += 1
        lease = _Lease(node.name, tile.tile.index, tile.attempts, now)
        if not node.leases:
            node.head_since = now
        node.leases.append(lease)
        tile.leases.append(lease)
        self._waiting.pop(tile.tile.index, None)
        commands.append(Assign(node.name, tile.tile, lease.attempt))

    def _next_waiting(self, node: _Node) -> _Tile | None:
        for index in self._waiting:
            tile = self._tiles[index]
            if node.name not in tile.failed_on or not self._somebody_else(tile):
                return tile
        return None

    def _somebody_else(self, tile: _Tile) -> bool:
        """Whether a node that has not failed on `tile` could take it."""
        return any(node.is_here and node.name not in tile.failed_on for node in self._nodes.values())

    def _take_over(self, node: _Node, now: float) -> _Tile | None:
        """The tile that would be back last and that `node` would have back sooner."""
        best, best_left = None, 0.0
        for owner in self._nodes.values():
            if owner is node:
                continue
            left = 0.0
            for lease in owner.leases:
                tile = self._tiles[lease.tile]
                here = node.seconds_for(tile.tile)
                there = owner.seconds_for(tile.tile)
                running = now - owner.head_since if lease is owner.leases[0] else 0.0
                if there is None:
                    # Nobody knows the owner's speed. What merely queues there is fair game;
                    # what it renders is left alone until it takes longer than it would here.
                    is_late = lease is not owner.leases[0] or (here is not None and running > here)
                    left = float("inf") if is_late else 0.0
                else:
                    # A tile that takes longer than estimated is taken to be half-way.
                    left += max(there - running, running / 2)
                is_alone = len(tile.leases) == 1 and node.name not in tile.failed_on
                if is_alone and left > best_left and left > (here or 0.0):
                    best, best_left = tile, left
        return best

    def _finish(self, commands: list[Command]) -> None:
        if self._open == 0:
            failed = [state for state in self._tiles.values() if state.is_failed]
            reason = failed[0].last_reason if failed else ""
        elif self._nodes and all(node.is_gone for node in self._nodes.values()):
            failed = [state for state in self._tiles.values() if not state.is_done]
            reason = "no node is left that could render"
        else:
            return
        self._is_finished = True
        commands.append(Finish(tuple(state.tile for state in failed), reason))
