"""A frame and its tiles: cutting, the border Blender is asked for, and the margin around it.

All rectangles are in pixels of the full frame, origin bottom left.
"""

from __future__ import annotations

import math
from itertools import pairwise

from .job import Job, Rect, SampleRange, Tile

SMALLEST_AUTO_PX = 32
LARGEST_AUTO_PX = 256
PARTS_PER_WORKER = 3
TILES_PER_WORKER = 24
"""Enough that the last tile of the slowest node is a small part of the whole."""


def auto_tile_size(region: Rect, workers: int, overscan: int) -> int:
    """Edge in pixels that gives each worker some TILES_PER_WORKER tiles.

    A margin makes small tiles dear (4 px cost +27% on 64 px tiles), so with one the
    edge stays at sixteen margins or more.
    """
    wanted = math.sqrt(region.area / (max(1, workers) * TILES_PER_WORKER))
    smallest = max(SMALLEST_AUTO_PX, min(16 * overscan, LARGEST_AUTO_PX))
    return round(min(max(wanted, smallest), LARGEST_AUTO_PX) / 8) * 8


def tiles_of(job: Job) -> tuple[Tile, ...]:
    """All tiles of the job, in the order to render them."""
    if job.sample_parts:
        return split_samples(job.region, job.samples, job.sample_parts)
    return split(job.region, job.tile_size)


def sample_parts(samples: int, workers: int) -> int:
    """In how many parts to render `samples`, where a job is split by them.

    Each part is a whole frame to build, send and store, and path guiding learns anew in each.
    """
    return min(samples, PARTS_PER_WORKER * max(1, workers))


def split_samples(region: Rect, samples: int, parts: int) -> tuple[Tile, ...]:
    """The whole region, `parts` times, each with its share of the samples, as even as can be."""
    edges = [samples * part // parts for part in range(parts + 1)]
    return tuple(
        Tile(index, region, SampleRange(first, last - first))
        for index, (first, last) in enumerate(pairwise(edges))
    )


def split(region: Rect, size: int) -> tuple[Tile, ...]:
    """Cut `region` into tiles of at most `size` pixels a side, in the order to render them.

    The cuts are spread evenly, so no sliver is left at an edge. The order is from the
    centre outward: what a picture is about shows first.
    """
    xs = _cuts(region.x, region.width, size)
    ys = _cuts(region.y, region.height, size)
    rects = [
        Rect(left, bottom, right - left, top - bottom)
        for bottom, top in pairwise(ys)
        for left, right in pairwise(xs)
    ]

    def from_centre(rect: Rect) -> tuple[float, int, int]:
        # Doubled, so that half pixels stay whole and the order is the same everywhere.
        dx = rect.x + rect.right - region.x - region.right
        dy = rect.y + rect.top - region.y - region.top
        return dx * dx + dy * dy, rect.y, rect.x

    return tuple(Tile(index, rect) for index, rect in enumerate(sorted(rects, key=from_centre)))


def _cuts(start: int, length: int, size: int) -> list[int]:
    count = -(-length // size)
    return [start + length * step // count for step in range(count + 1)]


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
