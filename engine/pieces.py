"""What is left of a frame: tiles that are halved as they are handed out, and what they cost.

The tree of halves is the cost map as well: each result is added to the tile it is of and to all that
hold it, so the cost of a tile not rendered yet is known from its surroundings, the closer the better.
Cost is in seconds of a node of speed 1; only its ratios mean anything.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from .job import Tile
from .tiling import Grid, path

LARGEST_PX = 1 << 18
"""A tile's file is read into memory: 40 channels of so many pixels are 40 MiB."""
NEIGHBOUR_WEIGHT = 0.1
"""How much the surroundings say about a tile, as a part of its own area."""
PLACES = 2.0
"""How much places of a frame differ, as a variance of the logarithm: a factor of 2.7 either way."""
LEVELS = 5
MARGIN_WEIGHT = 50.0
"""How much larger a tile may be where halving it would add its own cost in margin once more."""
REFRESH_LEAST = 32


class Piece:
    """A tile of the tree. Every open pixel is in exactly one piece without halves."""

    __slots__ = (
        "area",
        "attempts",
        "cost",
        "estimate",
        "failed_on",
        "failures",
        "from_centre",
        "halves",
        "is_kept",
        "is_lost",
        "is_smallest",
        "known",
        "leases",
        "open",
        "parent",
        "reason",
        "rendered",
        "ticket",
        "tile",
    )

    def __init__(self, tile: Tile, grid: Grid, parent: Piece | None) -> None:
        self.tile = tile
        self.parent = parent
        self.from_centre = grid.from_centre(tile)
        self.halves: tuple[Piece, Piece] | None = None
        self.rendered = grid.rendered_pixels(tile)
        """Pixels that a node renders for it, margin included."""
        self.area = self.open = grid.pixels(tile)
        """Its pixels, and how many of them are not there yet."""
        self.is_kept = False
        """Whether a result of this very tile is there."""
        self.is_lost = False
        """Given up: it failed too often."""
        self.is_smallest = False
        """It was to be halved and could not."""
        self.ticket = 0
        """Number of its valid entry among those that wait; 0: it does not wait."""
        self.known = 0
        """Measured pixels in it."""
        self.cost = 0.0
        """Their cost."""
        self.estimate = 0.0
        """What rendering all of it costs, as it was last looked at."""
        self.attempts = 0
        # A half has its parent's history: a part of it is to blame.
        self.failures: int = parent.failures if parent else 0
        self.failed_on: frozenset[str] = parent.failed_on if parent else frozenset()
        self.reason: str = parent.reason if parent else ""
        self.leases: list[Any] = []


class Pieces:
    """The tree and those of its pieces that wait to be rendered, dear ones first.

    Among equally dear ones the nearest to the centre comes first.
    """

    def __init__(self, grid: Grid, *, is_fixed: bool, done: Iterable[int]) -> None:
        """With `is_fixed` every piece handed out is one cell. `done` are tiles that are there.

        Raises ValueError for a tile that is not of this grid.
        """
        self._grid = grid
        self._is_fixed = is_fixed
        self._root = self._piece(grid.tile(0), None)
        self._heap: list[tuple[int, int, int, Piece]] = []
        self._tickets = 0
        self._stale = 0
        self.waiting = 0
        self.waiting_cost = 0.0
        self.lost = 0
        """Pixels given up."""
        # A tile's index is greater than that of any tile that holds it.
        for index in sorted(done):
            piece = self._find(index)
            if piece is not None:
                self.keep(piece)
        self._wait_below(self._root)

    @property
    def open(self) -> int:
        """Pixels that are neither there nor given up."""
        return self._root.open - self.lost

    @property
    def missing(self) -> float:
        """Part of the frame that is not there, 0 to 1."""
        return self._root.open / self._root.area

    def kept(self) -> Iterator[Tile]:
        """The tiles that make up what is there of the frame: each pixel in one of them."""
        return (piece.tile for piece in self._walk(self._root, lambda piece: piece.is_kept))

    def missing_pieces(self) -> Iterator[Piece]:
        """The pieces that make up what is not there."""
        leaves = self._walk(self._root, lambda piece: not piece.open or not piece.halves)
        return (piece for piece in leaves if piece.open)

    @property
    def mean_density(self) -> float:
        """Cost of the mean pixel, as far as is known."""
        return self._root.cost / self._root.known if self._root.known else 1.0

    def put(self, piece: Piece) -> None:
        """Let a piece without halves wait."""
        if not piece.ticket:
            self.waiting += 1
            self._enter(piece, self._order(piece))

    def reopen(self, piece: Piece) -> None:
        """Let it be rendered once more, in halves where it has any, by whoever is free."""
        self._halve(piece)
        if not piece.halves:
            self.put(piece)
            return
        self._wait_below(piece)

    def can_be_halved(self, piece: Piece) -> bool:
        return self._grid.halves(piece.tile) is not None

    def take(self, most: float, limit: float, is_wanted: Callable[[Piece], bool]) -> Piece | None:
        """The next piece that waits, halved until it costs at most `most`; None if there is none.

        Where it costs more than `limit` even so, it goes on waiting, as those do that `is_wanted` refuses.
        """
        refused: list[tuple[int, int, int, Piece]] = []
        taken: Piece | None = None
        while self._heap and taken is None and len(refused) < REFRESH_LEAST:
            entry = self._heap[0]
            piece = entry[-1]
            if entry[2] != piece.ticket:
                heapq.heappop(self._heap)
            elif not is_wanted(piece):
                refused.append(heapq.heappop(self._heap))
            elif piece.is_smallest and piece.estimate > limit:
                break  # Where nodes are many, most that are asked whether they can use it are too slow.
            else:
                heapq.heappop(self._heap)
                self._withdraw(piece)
                taken = piece
        for entry in refused:
            heapq.heappush(self._heap, entry)
        if taken is None:
            return None
        while self._is_too_large(taken, most) and self._halve(taken):
            assert taken.halves
            taken, other = taken.halves
            order, later = self._order(taken), self._order(other)
            if later < order:
                taken, other, later = other, taken, order
            if not other.ticket:
                self.waiting += 1
                self._enter(other, later)
        if taken.estimate > limit:
            self.put(taken)
            return None
        return taken

    def keep(self, piece: Piece) -> list[Any]:
        """A result of `piece` is there. Returns the leases that it ends."""
        leases: list[Any] = []
        new = piece.open
        piece.is_kept = True
        self._close(piece, leases)
        holder = piece.parent
        while holder is not None:
            holder.open -= new
            if not holder.open:
                leases += holder.leases
            holder = holder.parent
        return leases

    def give_up(self, piece: Piece) -> None:
        """Nobody could render this piece without halves."""
        self._withdraw(piece)
        piece.is_lost = True
        self.lost += piece.open

    def learn(self, piece: Piece, cost: float) -> None:
        """A result of `piece` cost as much."""
        area = piece.area
        cost *= area / piece.rendered
        holder: Piece | None = piece
        while holder is not None:
            holder.known += area
            holder.cost += cost
            holder = holder.parent
        self._stale += 1
        if self._stale > max(REFRESH_LEAST, 2 * self.waiting):
            self._refresh()

    def cost_of(self, piece: Piece) -> float:
        """What rendering all of `piece` costs, by what is known so far."""
        return self._density(piece) * piece.rendered

    def doubt_of(self, piece: Piece) -> float:
        """How far its cost may be from what its surroundings say, as a variance of the logarithm."""
        holder = piece.parent or piece
        return PLACES * (1.0 - min(1.0, holder.known / holder.area))

    def _density(self, piece: Piece) -> float:
        """Cost per pixel: measured where it was, else as in the tile around it."""
        around: list[Piece] = []
        holder: Piece | None = piece
        while holder is not None and not holder.known:
            holder = holder.parent
        # Farther away each level says a tenth of the last.
        while holder is not None and len(around) < LEVELS:
            around.append(holder)
            holder = holder.parent
        if not around:
            return 1.0
        density = around[-1].cost / around[-1].known
        for holder in around[-2::-1]:
            weight = NEIGHBOUR_WEIGHT * holder.area
            density = (holder.cost + density * weight) / (holder.known + weight)
        return density

    def _piece(self, tile: Tile, parent: Piece | None) -> Piece:
        return Piece(tile, self._grid, parent)

    def _halve(self, piece: Piece) -> bool:
        if not (piece.halves or piece.is_smallest):
            halves = self._grid.halves(piece.tile)
            piece.is_smallest = halves is None
            if halves:
                piece.halves = self._piece(halves[0], piece), self._piece(halves[1], piece)
        return piece.halves is not None

    def _is_too_large(self, piece: Piece, most: float) -> bool:
        if self._is_fixed or piece.rendered > LARGEST_PX:
            return True
        # A cut adds its margin, a part of twice the margin by the shorter edge.
        rect = piece.tile.rect
        dear = 1 + MARGIN_WEIGHT * 2 * self._grid.overscan / min(rect.width, rect.height)
        return piece.estimate * math.exp(math.sqrt(self.doubt_of(piece))) > most * dear

    def _find(self, index: int) -> Piece | None:
        """The piece of a tile; None if it is inside one that is there."""
        piece = self._root
        for second in path(index):
            if piece.is_kept:
                return None
            if not self._halve(piece):
                raise ValueError(f"there is no tile {index}")
            assert piece.halves
            piece = piece.halves[second]
        return None if piece.is_kept else piece

    def _walk(self, piece: Piece, is_end: Callable[[Piece], bool]) -> Iterator[Piece]:
        rest = [piece]
        while rest:
            piece = rest.pop()
            if is_end(piece):
                yield piece
            elif piece.halves:
                rest += piece.halves[::-1]

    def _wait_below(self, piece: Piece) -> None:
        for leaf in self._walk(piece, lambda piece: not piece.halves):
            if leaf.open and not leaf.leases and not leaf.is_lost:
                self.put(leaf)

    def _close(self, piece: Piece, leases: list[Any]) -> None:
        """Nothing of `piece` needs rendering any more."""
        rest = [piece]
        while rest:
            part = rest.pop()
            leases += part.leases
            self._withdraw(part)
            if part.is_lost:
                part.is_lost = False
                self.lost -= part.open
            part.open = 0
            rest += part.halves or ()

    def _withdraw(self, piece: Piece) -> None:
        if piece.ticket:
            piece.ticket = 0
            self.waiting -= 1
            self.waiting_cost -= piece.estimate

    def _order(self, piece: Piece) -> tuple[int, int]:
        density = self._density(piece)
        piece.estimate = density * piece.rendered
        # In steps of a factor 1.4: small differences are noise, and a picture that fills
        # steadily from its centre is easier to read.
        return -round(2 * math.log2(density)), piece.from_centre

    def _enter(self, piece: Piece, order: tuple[int, int]) -> None:
        self._tickets += 1
        piece.ticket = self._tickets
        heapq.heappush(self._heap, (*order, piece.ticket, piece))
        self.waiting_cost += piece.estimate

    def _refresh(self) -> None:
        """Look at everything that waits anew, with what was learned since."""
        self._stale = 0
        waiting = [entry[-1] for entry in self._heap if entry[2] == entry[-1].ticket]
        self._heap.clear()
        self.waiting_cost = 0.0
        for piece in waiting:
            self._enter(piece, self._order(piece))
