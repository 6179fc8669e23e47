"""Cutting a frame: nothing lost, nothing twice, and the border that Blender truncates to it."""

from __future__ import annotations

import random
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.job import Rect, Tile
from engine.tiling import Grid, border, smallest_tile, with_overscan

from ..support import cells

sizes = st.integers(1, 20000)


@st.composite
def regions(draw: st.DrawFn) -> Rect:
    return Rect(
        draw(st.integers(0, 500)),
        draw(st.integers(0, 500)),
        draw(st.integers(1, 700)),
        draw(st.integers(1, 700)),
    )


def coverage(region: Rect, tiles: Iterable[Tile]) -> np.ndarray:
    count = np.zeros((region.top, region.right), np.int32)
    for tile in tiles:
        assert region.contains(tile.rect)
        count[tile.rect.y : tile.rect.top, tile.rect.x : tile.rect.right] += 1
    assert count.sum() == count[region.y :, region.x :].sum()
    return count[region.y :, region.x :]


@given(regions(), st.integers(7, 256))
def test_cells_cover_every_pixel_once(region: Rect, size: int) -> None:
    grid = Grid(region, size, 0)
    found = cells(grid)
    assert (coverage(region, found) == 1).all()
    assert len(found) == grid.cells
    assert max(max(tile.rect.width, tile.rect.height) for tile in found) <= size


@given(regions(), st.integers(7, 256))
def test_no_slivers(region: Rect, size: int) -> None:
    found = cells(Grid(region, size, 0))
    for edges in ({tile.rect.width for tile in found}, {tile.rect.height for tile in found}):
        assert max(edges) - min(edges) <= 1


@given(regions(), st.integers(4, 64), st.randoms())
def test_an_index_alone_says_which_tile_it_is(region: Rect, size: int, chance: random.Random) -> None:
    grid, again = Grid(region, size, 0), Grid(region, size, 0)
    tile = grid.tile(0)
    assert tile.rect == region
    while halves := grid.halves(tile):
        assert halves[0].rect.area + halves[1].rect.area == tile.rect.area
        assert all(tile.rect.contains(half.rect) for half in halves)
        assert not halves[0].rect.contains(halves[1].rect)
        tile = chance.choice(halves)
        assert again.tile(tile.index) == tile
    with pytest.raises(ValueError, match="there is no tile"):
        grid.tile(2 * tile.index + 1)


def test_distance_is_that_of_the_nearest_point() -> None:
    grid = Grid(Rect(0, 0, 640, 360), 64, 0)
    assert grid.from_centre(Tile(0, Rect(0, 0, 640, 360))) == 0
    assert grid.from_centre(Tile(1, Rect(0, 0, 319, 360))) == 4
    near, far = Tile(1, Rect(300, 100, 10, 10)), Tile(1, Rect(0, 0, 10, 10))
    assert 0 < grid.from_centre(near) < grid.from_centre(far)


def as_blender_reads_it(fraction: float, size: int) -> int:
    return int(np.float32(fraction) * np.float32(size))


@given(sizes, st.data())
def test_border_selects_exactly_the_rectangle(size: int, data: st.DataObject) -> None:
    left = data.draw(st.integers(0, size - 1))
    right = data.draw(st.integers(left + 1, size))
    min_x, max_x, min_y, max_y = border(Rect(left, left, right - left, right - left), size, size)
    assert [as_blender_reads_it(edge, size) for edge in (min_x, max_x)] == [left, right]
    assert (min_x, max_x) == (min_y, max_y)
    assert 0 <= min_x < max_x <= 1


@pytest.mark.parametrize("size", [1, 2, 3, 7, 479, 853, 1080, 1920, 3840, 7680, 14000, 16384])
def test_border_on_every_edge_of_real_sizes(size: int) -> None:
    edges = range(size)
    fractions = [border(Rect(edge, 0, 1, 1), size, size)[:2] for edge in edges]
    assert [as_blender_reads_it(low, size) for low, _ in fractions] == list(edges)
    assert [as_blender_reads_it(high, size) for _, high in fractions] == [edge + 1 for edge in edges]


@given(regions(), st.integers(7, 256), st.integers(0, 32))
def test_overscan_stays_in_the_region(region: Rect, size: int, overscan: int) -> None:
    grid = Grid(region, size, overscan)
    for tile in cells(grid)[:20]:
        grown = with_overscan(tile.rect, overscan, region)
        assert region.contains(grown)
        assert grown.contains(tile.rect)
        assert tile.rect.x - grown.x == min(overscan, tile.rect.x - region.x)
        assert grown.top - tile.rect.top == min(overscan, region.top - tile.rect.top)
        assert grid.rendered_pixels(tile) == grown.area


@pytest.mark.parametrize("overscan", [4, 16])
def test_the_smallest_tile_is_worth_its_margin(overscan: int) -> None:
    edge = smallest_tile(overscan)
    assert (edge + 2 * overscan) ** 2 < 1.6 * edge**2
