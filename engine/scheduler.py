"""Who renders what: a state machine without clock, thread or socket.

    handle(event, now) -> [command, ...]

Events tell what happened, commands say what to do; the session carries them out. The same
events at the same times give the same commands, so the rules are tested as tables.

A tile handed to a node is a *lease* (node, tile, attempt). Nodes pull: each holds two leases,
so that the next tile is there before the last is back. A tile is as large as what it lasts on
that node is a small part of what is left, so all come to their end together. When nothing waits,
what would be back last is opened again: a lease that has not begun is called back, the halves of
one that runs are rendered beside it. The first valid result of a pixel wins.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from .job import Tile
from .pieces import Piece, Pieces
from .plan import (
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
from .tiling import Grid

LEASES_PER_NODE = 2
ATTEMPTS_PER_TILE = 3
FAILURES_IN_ROW = 3
"""After as many a node is set aside, unless it is the tile that is to blame."""
FIRST_REST_S = 10.0
RESTS_PER_NODE = 3
"""Times a node is set aside, each twice as long as the last, before it is dropped."""

SHARE = 0.4
"""A tile lasts at most as large a part of what is left of the render."""
SHORTEST_S = 0.1
"""Shorter tiles would cost more by their number than they even out."""
LONGEST_S = 30.0
"""Nobody wants to look at an unchanged picture for longer, or to lose more where a node dies."""
PROBES = 256
"""A node whose speed nobody knows gets so small a part of its share of the frame."""
GAIN_S = 0.05
"""Nothing is taken over for less."""

TRIED_NODES = (4, 2)
"""So many with no lease, and with one, are asked at most whether they can use what waits. On a tile three may have failed;
the second lease is no necessity, and most of what an event costs is asking."""
TRIED_LEASES = 8
"""So many are looked at for one that an idle node may take over."""
STUCK_S = 30.0
STUCK_TIMES = 4.0
"""A node that takes so long, and so many times longer than expected, for a tile is not counted on any more."""
STUCK_UNKNOWN_S = 300.0
"""The same where nobody knows how fast it is."""

UNKNOWN = 4.0
"""Doubt about the speed of a node that has rendered nothing yet, as a variance of its logarithm:
a factor of 7 either way."""
BENCHMARKED = 0.5
DRIFT = 0.01
"""What a tile adds to it: a node may be slowed down by others at any time."""
NOISE = 0.02
SURPRISE = 6.0
"""A tile that is off by so much more than usual, squared, brings the speed of its node into doubt."""


@dataclass(slots=True, eq=False)
class _Lease:
    node: _Node
    piece: Piece
    attempt: int
    cost: float
    ends: float = math.inf
    """When it is expected back."""
    is_open: bool = True
    is_reopened: bool = False


@dataclass(slots=True, eq=False)
class _Node:
    name: str
    is_here: bool = False
    leases: list[_Lease] = field(default_factory=list)
    """In the order in which the node renders them."""
    head_since: float = 0.0
    ticket: int = 0
    """Number of its valid entry among those that may get a lease."""
    failures_in_row: int = 0
    rests: int = 0
    resting_until: float = 0.0
    tiles_done: int = 0
    seconds: float = 0.0
    speed: float | None = None
    """Cost per second."""
    doubt: float = UNKNOWN
    is_warm: bool = False
    """Its Blender has rendered a tile; the first one also builds the scene."""
    counted: tuple[bool, bool, float, float, float] = (False, False, 0.0, 0.0, 0.0)
    """Its part in the scheduler's sums."""

    def learn(self, expected: float, seconds: float, doubt_of_place: float) -> None:
        """Share the surprise between the node's speed and the place, by which is less certain."""
        if self.speed is None:
            self.speed = expected / seconds
        surprise = math.log(seconds * self.speed / expected)
        self.doubt += DRIFT
        usual = self.doubt + doubt_of_place + NOISE
        if surprise * surprise > SURPRISE * usual:
            self.doubt += surprise * surprise / 4
        share = self.doubt / (self.doubt + doubt_of_place + NOISE)
        self.speed *= math.exp(-share * surprise)
        self.doubt *= 1 - share


class Scheduler:
    """State of one render's tiles and nodes; changed by `handle` alone."""

    def __init__(self, grid: Grid, *, is_fixed: bool, done: Iterable[int] = ()) -> None:
        """With `is_fixed` every tile is one cell of `grid`. `done` are tiles that need no rendering."""
        done = tuple(done)
        self._grid = grid
        self._is_fixed = is_fixed
        self._pieces = Pieces(grid, is_fixed=is_fixed, done=done)
        self._nodes: dict[str, _Node] = {}
        self._gone: set[str] = set()
        """Nodes that will not come back."""
        self._leases: dict[tuple[str, int, int], _Lease] = {}
        self._ready: tuple[list[tuple[float, int, _Node]], ...] = ([], [])
        """Nodes with no lease, and with one; the fastest first."""
        self._due: list[tuple[float, int, _Lease]] = []
        """What is being rendered, by when it is expected back."""
        self._last: list[tuple[float, int, _Lease]] = []
        """All leases, the last to be back first."""
        self._resting: list[tuple[float, int, _Node]] = []
        self._tickets = 0
        self._speed_here = self._speed_busy = self._busy = 0.0
        self._here = self._known = 0
        self._is_finished = False
        self.done = len(done)
        """Results that are there."""

    @property
    def total(self) -> int | None:
        """Number of tiles; None where they are cut as they are needed."""
        return self._grid.cells if self._is_fixed else None

    @property
    def is_complete(self) -> bool:
        """Whether every pixel is there."""
        return self._pieces.missing == 0

    @property
    def fraction(self) -> float:
        """Done part of the frame's area, 0 to 1."""
        return 1.0 - self._pieces.missing

    def kept(self) -> list[Tile]:
        """The tiles that make up what is there of the frame: each pixel in exactly one."""
        return list(self._pieces.kept())

    def seconds_left(self, now: float) -> float | None:
        """Estimated from the speeds of the nodes that are here; None while none is known."""
        if not self._known:
            return None
        running = self._busy - now * self._speed_busy
        # Those whose speed is not known yet are taken to be like the others.
        speed = self._speed_here * self._here / self._known
        return max(0.0, self._pieces.waiting_cost + running) / speed

    def running_tile(self, node: str) -> Tile | None:
        """What the node renders at this moment, as far as is known here."""
        leases = self._nodes[node].leases if node in self._nodes else []
        return leases[0].piece.tile if leases else None

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
                self._node(name)
                self._gone.discard(name)
            case NodeJoined(name, speed):
                self._join(self._node(name), speed, now)
            case NodeLeft(name, reason, is_final):
                self._leave(self._node(name), reason, is_final, now, commands)
            case TileDone(name, index, attempt, seconds):
                self._done(self._node(name), index, attempt, seconds, now, commands)
            case TileFailed(name, index, attempt, reason):
                self._fail(self._node(name), index, attempt, reason, now, commands)
            case Tick():
                pass
        self._look_at_the_clock(now)
        self._assign(now, commands)
        self._finish(now, commands)
        return commands

    def _node(self, name: str) -> _Node:
        return self._nodes.setdefault(name, _Node(name))

    def _join(self, node: _Node, speed: float | None, now: float) -> None:
        node.is_here, node.is_warm = True, False
        self._gone.discard(node.name)
        if speed is not None and node.speed is None:
            # A benchmark counts pixels; the frame's mean pixel stands for them.
            node.speed = speed * self._pieces.mean_density
            node.doubt = BENCHMARKED
        self._changed(node, now)

    def _release(self, lease: _Lease, now: float) -> None:
        node, piece = lease.node, lease.piece
        del self._leases[node.name, piece.tile.index, lease.attempt]
        lease.is_open = False
        if node.leases[0] is lease:
            node.head_since = now
        node.leases.remove(lease)
        piece.leases.remove(lease)
        is_left = all(other.is_reopened for other in piece.leases)
        if piece.open and is_left and not (piece.halves or piece.is_lost):
            self._pieces.put(piece)
        self._changed(node, now)

    def _end(self, lease: _Lease, outcome: str, reason: str, now: float, commands: list[Command]) -> None:
        self._release(lease, now)
        commands.append(EndLease(lease.node.name, lease.piece.tile, lease.attempt, outcome, reason))

    def _done(
        self, node: _Node, index: int, attempt: int, seconds: float, now: float, commands: list[Command]
    ) -> None:
        lease = self._leases.get((node.name, index, attempt))
        if lease is None:
            return  # This lease was ended before: its pixels are here, or were given to others.
        piece = lease.piece
        # The first tile of a Blender also builds the scene: it says nothing about the next.
        if node.is_warm and seconds > 0:
            node.learn(self._pieces.cost_of(piece), seconds, self._pieces.doubt_of(piece))
            assert node.speed is not None
            self._pieces.learn(piece, seconds * node.speed)
        node.is_warm = True
        node.failures_in_row = node.rests = 0
        node.tiles_done += 1
        node.seconds += seconds
        self.done += 1
        ended = self._pieces.keep(piece)
        self._release(lease, now)
        commands.append(Keep(node.name, piece.tile, attempt, seconds))
        for other in ended:
            if other is not lease:
                self._end(other, "dropped", f"{node.name} was first", now, commands)

    def _fail(
        self, node: _Node, index: int, attempt: int, reason: str, now: float, commands: list[Command]
    ) -> None:
        lease = self._leases.get((node.name, index, attempt))
        if lease is None:
            return
        piece = lease.piece
        # The failure counts before the lease ends, so that a given-up tile does not wait again.
        piece.failures += 1
        piece.failed_on |= {node.name}
        piece.reason = f"{node.name}: {reason}"
        # Somebody who is at it since before may yet bring it.
        is_alone = len(piece.leases) == 1 or piece.failures >= 2 * ATTEMPTS_PER_TILE
        if piece.failures >= ATTEMPTS_PER_TILE and is_alone and not piece.halves:
            self._pieces.give_up(piece)
        self._end(lease, "failed", reason, now, commands)
        if piece.is_lost:
            for other in list(piece.leases):
                self._end(other, "dropped", "the tile was given up", now, commands)
        # A tile that failed elsewhere too is itself to blame, not this node.
        if len(piece.failed_on) == 1:
            node.failures_in_row += 1
            if node.failures_in_row >= FAILURES_IN_ROW:
                self._set_aside(node, reason, now, commands)

    def _set_aside(self, node: _Node, reason: str, now: float, commands: list[Command]) -> None:
        node.failures_in_row = 0
        node.rests += 1
        for lease in list(node.leases):
            self._end(lease, "dropped", "the node was set aside", now, commands)
        if node.rests > RESTS_PER_NODE:
            node.is_here = False
            self._gone.add(node.name)
            commands.append(Drop(node.name, reason))
        else:
            rest = FIRST_REST_S * 2 ** (node.rests - 1)
            node.resting_until = now + rest
            heapq.heappush(self._resting, (node.resting_until, self._ticket(), node))
            commands.append(SetAside(node.name, rest, reason))
        self._changed(node, now)

    def _leave(self, node: _Node, reason: str, is_final: bool, now: float, commands: list[Command]) -> None:
        node.is_here = False
        if is_final:
            self._gone.add(node.name)
        if node.leases:
            # Only what was being rendered can have ended the worker; the rest just waits again.
            head = node.leases[0]
            for lease in node.leases[1:]:
                self._end(lease, "failed", reason, now, commands)
            self._fail(node, head.piece.tile.index, head.attempt, reason, now, commands)
        self._changed(node, now)

    # When leases are expected back, and who may get one

    def _ticket(self) -> int:
        self._tickets += 1
        return self._tickets

    def _changed(self, node: _Node, now: float) -> None:
        """Bring all that is known of the node's future up to date."""
        time = node.head_since
        for lease in node.leases:
            is_head = lease is node.leases[0]
            time += lease.cost / node.speed if node.speed else GAIN_S
            if is_head and time <= now:
                # One that takes longer than expected is taken to be half-way.
                time = now + max(now - node.head_since, GAIN_S)
            if time != lease.ends:
                lease.ends = time
                heapq.heappush(self._last, (-time, self._ticket(), lease))
                if is_head:
                    heapq.heappush(self._due, (time, self._tickets, lease))
        if len(self._last) > 4 * len(self._leases) + 64:
            self._last = [entry for entry in self._last if self._is_valid(-entry[0], entry[2])]
            heapq.heapify(self._last)
        is_usable = node.is_here and now >= node.resting_until
        speed = node.speed or 0.0
        self._count(node, -1)
        busy = speed if node.leases else 0.0
        node.counted = is_usable, is_usable and speed > 0, speed * is_usable, busy, busy * time
        self._count(node, 1)
        node.ticket = 0
        if is_usable and len(node.leases) < LEASES_PER_NODE:
            node.ticket = self._ticket()
            heapq.heappush(self._ready[len(node.leases)], (-speed, node.ticket, node))

    def _count(self, node: _Node, sign: int) -> None:
        here, known, speed, busy, ends = node.counted
        self._here += sign * here
        self._known += sign * known
        self._speed_here += sign * speed
        self._speed_busy += sign * busy
        self._busy += sign * ends

    def _is_valid(self, time: float, lease: _Lease) -> bool:
        return lease.is_open and not lease.is_reopened and lease.ends == time

    def _look_at_the_clock(self, now: float) -> None:
        while self._due and self._due[0][0] <= now:
            time, _, lease = heapq.heappop(self._due)
            if lease.is_open and lease.ends == time:
                self._changed(lease.node, now)
        while self._resting and self._resting[0][0] <= now:
            self._changed(heapq.heappop(self._resting)[2], now)

    # Handing out

    def _assign(self, now: float, commands: list[Command]) -> None:
        # One lease each before anybody gets a second: the first renders, the second only waits.
        for depth, ready in enumerate(self._ready):
            refused: list[tuple[float, int, _Node]] = []
            # What is too slow for the fastest is so for all; but a tile may have failed on those.
            while ready and len(refused) < TRIED_NODES[depth]:
                entry = ready[0]
                node = entry[2]
                if entry[1] != node.ticket:
                    heapq.heappop(ready)
                    continue
                piece = self._next(node, depth, now)
                if piece is not None:
                    self._give(node, piece, now, commands)
                elif depth or self._pieces.waiting or not self._take_over(node, now, commands):
                    refused.append(heapq.heappop(ready))
            for entry in refused:
                heapq.heappush(ready, entry)

    def _give(self, node: _Node, piece: Piece, now: float, commands: list[Command]) -> None:
        piece.attempts += 1
        lease = _Lease(node, piece, piece.attempts, piece.estimate)
        if not node.leases:
            node.head_since = now
        node.leases.append(lease)
        piece.leases.append(lease)
        self._leases[node.name, piece.tile.index, lease.attempt] = lease
        commands.append(Assign(node.name, piece.tile, lease.attempt))
        self._changed(node, now)

    def _next(self, node: _Node, depth: int, now: float) -> Piece | None:
        """What waits and suits the node, in a size that suits it."""
        if not self._pieces.waiting:
            return None
        left = self.seconds_left(now)
        if node.speed is None or left is None or not node.is_warm:
            probe = self._grid.pixels(self._grid.tile(0)) / (PROBES * len(self._nodes))
            return self._pieces.take(
                probe * self._pieces.mean_density, math.inf, lambda piece: self._suits(piece, node, now)
            )
        begins = node.leases[-1].ends - now if depth else 0.0
        room = left - begins
        if depth and room < SHORTEST_S:
            return None
        share = SHARE * math.exp(-math.sqrt(node.doubt)) * room
        most = node.speed * max(min(share, LONGEST_S), SHORTEST_S)
        limit = math.inf
        if depth:
            limit = node.speed * room
        elif self._speed_busy > node.speed:
            # Somebody else would have it back sooner, even after what he does now.
            mean = self._speed_here / len(self._nodes)
            if node.speed < mean:
                limit = left / (1 / node.speed - 1 / mean)
        return self._pieces.take(most, limit, lambda piece: self._suits(piece, node, now))

    def _suits(self, piece: Piece, node: _Node, now: float) -> bool:
        return node.name not in piece.failed_on or not self._somebody_else(piece, now)

    def _somebody_else(self, piece: Piece, now: float) -> bool:
        """Whether a node that has not failed on `piece` could take it."""
        return any(
            node.is_here and node.name not in piece.failed_on and not self._is_stuck(node, now)
            for node in self._nodes.values()
        )

    def _is_stuck(self, node: _Node, now: float) -> bool:
        if not node.leases:
            return False
        patience = STUCK_UNKNOWN_S
        if node.speed:
            patience = max(STUCK_S, STUCK_TIMES * node.leases[0].cost / node.speed)
        return now - node.head_since > patience

    def _take_over(self, node: _Node, now: float, commands: list[Command]) -> bool:
        """Open again what would be back last, if `node` can have a part of it back sooner."""
        passed: list[tuple[float, int, _Lease]] = []
        found: _Lease | None = None
        while self._last and found is None and len(passed) < TRIED_LEASES:
            entry = heapq.heappop(self._last)
            time, _, lease = entry
            if not self._is_valid(-time, lease):
                continue
            if not self._gains(node, lease, now):
                passed.append(entry)
                break
            if self._suits(lease.piece, node, now):
                found = lease
            else:
                passed.append(entry)
        for entry in passed:
            heapq.heappush(self._last, entry)
        if found is None:
            return False
        if found is found.node.leases[0]:
            found.is_reopened = True
            self._pieces.reopen(found.piece)
        else:
            self._end(found, "dropped", f"{node.name} is free sooner", now, commands)
        return True

    def _gains(self, node: _Node, lease: _Lease, now: float) -> bool:
        left = lease.ends - now
        owner = lease.node
        is_head = lease is owner.leases[0]
        if not is_head and (owner.speed is None or owner.leases[0].ends - now > GAIN_S):
            if node.speed is None:
                return True
            parts = 2 if self._pieces.can_be_halved(lease.piece) else 1
            return lease.cost / (parts * node.speed) + GAIN_S < left
        if is_head and self._is_stuck(owner, now):
            return True
        if not is_head or node.speed is None:
            return False
        speed = node.speed
        if self._pieces.can_be_halved(lease.piece):
            speed = max(speed, self._speed_here - self._speed_busy)
        return lease.cost / speed + GAIN_S < left

    def _finish(self, now: float, commands: list[Command]) -> None:
        if self._pieces.open == 0:
            failed = list(self._pieces.missing_pieces())
            if any(self._is_still_rendered(piece, now) for piece in failed):
                return
            reason = failed[0].reason if failed else ""
        elif self._nodes and len(self._gone) == len(self._nodes):
            failed = list(self._pieces.missing_pieces())
            reason = "no node is left that could render"
        else:
            return
        self._is_finished = True
        commands.append(Finish(tuple(piece.tile for piece in failed), reason))

    def _is_still_rendered(self, piece: Piece, now: float) -> bool:
        """Whether somebody who is at a tile that holds `piece` may yet bring it, though others could not."""
        holder: Piece | None = piece
        while holder is not None:
            if any(not self._is_stuck(lease.node, now) for lease in holder.leases):
                return True
            holder = holder.parent
        return False
