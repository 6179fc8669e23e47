"""A frame and its tiles: halving, the border Blender is asked for, and the margin around it.

All rectangles are in pixels of the full frame, origin bottom left.
"""

from __future__ import annotations

from bisect import bisect_left

from .job import Job, Rect, SampleRange, Tile

PARTS_PER_WORKER = 3

SMALLEST_PX = 8
SMALLEST_MARGINS = 8
"""A tile's edge is at least as many margins: 4 px around 32 px cost +56%, around 16 px +125%."""


def smallest_tile(overscan: int) -> int:
    """Edge in pixels below which a tile is not worth its margin."""
    return max(SMALLEST_PX, SMALLEST_MARGINS * overscan)


class Grid:
    """The region in cells, and each tile that is got by halving it until one cell is left.

    Tile 0 is the region; the halves of tile i are 2i + 1 and 2i + 2. So an index alone says which
    rectangle it is, also in another process, and two tiles are one inside the other or disjoint.
    """

    def __init__(self, region: Rect, cell: int, overscan: int) -> None:
        """Cells are at most `cell` pixels a side, cut evenly, so that no sliver is left at an edge."""
        self.region = region
        self.overscan = overscan
        self._xs = _cuts(region.x, region.width, cell)
        self._ys = _cuts(region.y, region.height, cell)

    @property
    def cells(self) -> int:
        """Number of the smallest tiles."""
        return (len(self._xs) - 1) * (len(self._ys) - 1)

    def tile(self, index: int) -> Tile:
        """Raise ValueError where halving does not lead to `index`."""
        tile = self._whole()
        for second in path(index):
            halves = self.halves(tile)
            if not halves:
                raise ValueError(f"there is no tile {index}")
            tile = halves[second]
        return tile

    def _whole(self) -> Tile:
        return Tile(0, self.region)

    def halves(self, tile: Tile) -> tuple[Tile, Tile] | None:
        """The tile cut across its longer side between two cells; None for a single cell."""
        rect = tile.rect
        x, y = _middle(self._xs, rect.x, rect.right), _middle(self._ys, rect.y, rect.top)
        if x is not None and (y is None or rect.width >= rect.height):
            one = Rect(rect.x, rect.y, x - rect.x, rect.height)
            other = Rect(x, rect.y, rect.right - x, rect.height)
        elif y is not None:
            one = Rect(rect.x, rect.y, rect.width, y - rect.y)
            other = Rect(rect.x, y, rect.width, rect.top - y)
        else:
            return None
        return Tile(2 * tile.index + 1, one), Tile(2 * tile.index + 2, other)

    def pixels(self, tile: Tile) -> int:
        """What the tile adds to the frame; as much as its halves together."""
        return tile.rect.area

    def rendered_pixels(self, tile: Tile) -> int:
        """How many pixels a node renders for the tile, margin included."""
        return with_overscan(tile.rect, self.overscan, self.region).area

    def from_centre(self, tile: Tile) -> int:
        """How far the tile's nearest point is from the region's centre: what a picture is about
        is there. Doubled and squared, so that it is whole and the same everywhere."""
        x, y = self.region.x + self.region.right, self.region.y + self.region.top
        rect = tile.rect
        dx = max(2 * rect.x - x, 0, x - 2 * rect.right)
        dy = max(2 * rect.y - y, 0, y - 2 * rect.top)
        return dx * dx + dy * dy


class SampleGrid(Grid):
    """The same with the region's samples in the place of its cells: each tile is the whole region."""

    def __init__(self, region: Rect, samples: int, parts: int) -> None:
        """`parts` as even as can be."""
        super().__init__(region, max(region.width, region.height), 0)
        self._edges = [samples * part // parts for part in range(parts + 1)]

    @property
    def cells(self) -> int:
        return len(self._edges) - 1

    def _whole(self) -> Tile:
        return Tile(0, self.region, SampleRange(0, self._edges[-1]))

    def halves(self, tile: Tile) -> tuple[Tile, Tile] | None:
        assert tile.samples is not None
        first, last = tile.samples.first, tile.samples.first + tile.samples.count
        middle = _middle(self._edges, first, last)
        if middle is None:
            return None
        one, other = SampleRange(first, middle - first), SampleRange(middle, last - middle)
        return Tile(2 * tile.index + 1, self.region, one), Tile(2 * tile.index + 2, self.region, other)

    def pixels(self, tile: Tile) -> int:
        assert tile.samples is not None
        return self.region.area * tile.samples.count

    def rendered_pixels(self, tile: Tile) -> int:
        return self.pixels(tile)

    def from_centre(self, tile: Tile) -> int:
        """The first samples come first."""
        assert tile.samples is not None
        return tile.samples.first


def grid_of(job: Job) -> Grid:
    """What the job's tiles are cut from."""
    if job.sample_parts:
        return SampleGrid(job.region, job.samples, job.sample_parts)
    return Grid(job.region, job.tile_size, job.overscan)


def sample_parts(samples: int, workers: int) -> int:
    """In how many parts to render `samples`, where a job is split by them.

    Each part is a whole frame to build, send and store, and path guiding learns anew in each.
    """
    return min(samples, PARTS_PER_WORKER * max(1, workers))


def path(index: int) -> list[int]:
    """The way from tile 0 to `index`: 0 to the first half, 1 to the second."""
    return [int(digit) for digit in f"{index + 1:b}"[1:]]


def _cuts(start: int, length: int, size: int) -> list[int]:
    count = -(-length // size)
    return [start + length * step // count for step in range(count + 1)]


def _middle(cuts: list[int], low: int, high: int) -> int | None:
    first, last = bisect_left(cuts, low), bisect_left(cuts, high)
    return cuts[(first + last) // 2] if last - first > 1 else None


def with_overscan(rect: Rect, overscan: int, region: Rect) -> Rect:
    """`rect` grown by `overscan` on every side, but not beyond `region`.

    Beyond the region nothing is rendered by F12 either, so its filters see nothing there.
    """
    left = max(rect.x - overscan, region.x)
    bottom = max(rect.y - overscan, region.y)
    right = min(rect.right + overscan, region.right)
    top = min(rect.top + overscan, region.top)
    return Rect(left, bottom, right - left, top - bottom)


def border(rect: Rect, width: int, height: int) -> tuple[float, float, float, float]:
    """Border fractions (min x, max x, min y, max y) that select exactly `rect`.

    Blender stores the fraction as float32 and truncates its product with the size. Half
    a pixel is added so that no rounding on the way falls below the whole number; plain
    x / width is one pixel off on about one edge in fifty.
    """

    def fraction(edge: int, size: int) -> float:
        return min((edge + 0.5) / size, 1.0)

    return (
        fraction(rect.x, width),
        fraction(rect.right, width),
        fraction(rect.y, height),
        fraction(rect.top, height),
    )
