"""Cutting a frame: nothing lost, nothing twice, and the border that Blender truncates to it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.job import Rect
from engine.tiling import LARGEST_AUTO_PX, auto_tile_size, border, split, with_overscan

sizes = st.integers(1, 20000)


@st.composite
def regions(draw: st.DrawFn) -> Rect:
    return Rect(
        draw(st.integers(0, 500)),
        draw(st.integers(0, 500)),
        draw(st.integers(1, 700)),
        draw(st.integers(1, 700)),
    )


@given(regions(), st.integers(7, 256))
def test_tiles_cover_every_pixel_once(region: Rect, size: int) -> None:
    count = np.zeros((region.top, region.right), np.int32)
    for tile in split(region, size):
        count[tile.rect.y : tile.rect.top, tile.rect.x : tile.rect.right] += 1
        assert region.contains(tile.rect)
        assert 0 < tile.rect.width <= size
        assert 0 < tile.rect.height <= size
    assert (count[region.y :, region.x :] == 1).all()
    assert count.sum() == region.area


@given(regions(), st.integers(7, 256))
def test_no_slivers_and_stable_order(region: Rect, size: int) -> None:
    tiles = split(region, size)
    widths = {tile.rect.width for tile in tiles}
    heights = {tile.rect.height for tile in tiles}
    assert max(widths) - min(widths) <= 1
    assert max(heights) - min(heights) <= 1
    assert [tile.index for tile in tiles] == list(range(len(tiles)))
    assert tiles == split(region, size)


def test_the_centre_comes_first() -> None:
    tiles = split(Rect(0, 0, 640, 360), 64)
    first, last = tiles[0].rect, tiles[-1].rect
    assert abs(first.x + first.width / 2 - 320) <= 64
    assert abs(first.y + first.height / 2 - 180) <= 64
    assert last.x in (0, 576)


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
    for tile in split(region, size)[:20]:
        grown = with_overscan(tile.rect, overscan, region)
        assert region.contains(grown)
        assert grown.contains(tile.rect)
        assert tile.rect.x - grown.x == min(overscan, tile.rect.x - region.x)
        assert grown.top - tile.rect.top == min(overscan, region.top - tile.rect.top)


@given(regions(), st.integers(1, 64), st.sampled_from([0, 4, 16]))
def test_automatic_size_is_usable(region: Rect, workers: int, overscan: int) -> None:
    size = auto_tile_size(region, workers, overscan)
    assert size % 8 == 0
    assert max(32, 16 * overscan) <= size <= LARGEST_AUTO_PX


def test_automatic_size_gives_each_worker_its_share() -> None:
    region = Rect(0, 0, 1920, 1080)
    few, many = (len(split(region, auto_tile_size(region, workers, 0))) for workers in (2, 16))
    assert 40 <= few <= 100
    assert many >= 16 * 20
