"""Stitching: each pixel of each pass comes from its tile, copied, the margin thrown away."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import OpenEXR
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine import exr
from engine.framebuffer import Framebuffer, window
from engine.job import Job, Rect, Tile
from engine.merge import Tiles, write_frame
from engine.tiling import Grid, with_overscan

from ..support import cells
from .test_store import job

CHANNELS = (*(f"ViewLayer.Combined.{c}" for c in "RGBA"), "ViewLayer.Depth.Z", "Other.Normal.X")


def whole_frame(job: Job, seed: int) -> exr.Planes:
    """What F12 would have written: random values everywhere, top row first."""
    random = np.random.default_rng(seed)
    return {name: random.standard_normal((job.height, job.width), np.float32) for name in CHANNELS}


def as_rendered(frame: exr.Planes, job: Job, rect: Rect) -> exr.Planes:
    asked = with_overscan(rect, job.overscan, job.region)
    top = job.height - asked.top
    return {
        name: plane[top : top + asked.height, asked.x : asked.right].copy() for name, plane in frame.items()
    }


def of_all_sizes(grid: Grid, data: st.DataObject) -> list[Tile]:
    """Tiles that make up the region, some halved oftener than others."""
    tiles, rest = [], [grid.tile(0)]
    while rest:
        tile = rest.pop()
        halves = grid.halves(tile)
        if halves and data.draw(st.booleans()):
            rest += halves
        else:
            tiles.append(tile)
    return tiles


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    width=st.integers(1, 150),
    height=st.integers(1, 150),
    size=st.integers(5, 64),
    overscan=st.sampled_from([0, 4, 16]),
    use_crop=st.booleans(),
    data=st.data(),
)
def test_the_merged_frame_is_the_whole_frame(
    tmp_path: Path, width: int, height: int, size: int, overscan: int, use_crop: bool, data: st.DataObject
) -> None:
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    region = Rect(x, y, data.draw(st.integers(1, width - x)), data.draw(st.integers(1, height - y)))
    this = dataclasses.replace(
        job(), width=width, height=height, region=region, use_crop=use_crop, overscan=overscan
    )
    frame = whole_frame(this, seed=width)
    shown = Framebuffer(this)
    files = []
    for tile in of_all_sizes(Grid(region, size, overscan), data):
        planes = as_rendered(frame, this, tile.rect)
        path = tmp_path / f"{tile.index}.exr"
        exr.write(path, planes, {"cycles.ViewLayer.samples": ("string", b"16")})
        files.append((tile, path))
        shown.paste(tile, window(planes, tile, this))
    tiles = Tiles(this, files, {})
    write_frame(this, tiles.bands(), tiles.channels, tiles.header, tmp_path / "frame.exr")
    merged, header = exr.read(tmp_path / "frame.exr")
    top = height - region.top
    inside = (slice(top, top + region.height), slice(region.x, region.right))
    for name, plane in frame.items():
        expected = plane[inside]
        if not use_crop:
            expected = np.zeros_like(plane)
            expected[inside] = plane[inside]
        np.testing.assert_array_equal(merged[name], expected)
    assert header["cycles.ViewLayer.samples"] == ("string", b"16")
    picture = np.stack([merged[name] for name in CHANNELS[:4]], axis=-1)
    np.testing.assert_array_equal(shown.pixels[::-1], picture)


def test_a_tile_of_another_size_is_refused() -> None:
    this = dataclasses.replace(job(), overscan=4)
    tile = cells(Grid(this.region, 32, 0))[0]
    planes = as_rendered(whole_frame(this, 1), this, tile.rect)
    with pytest.raises(ValueError, match=r"came back as \d+x\d+ px, asked for"):
        window({name: plane[1:] for name, plane in planes.items()}, tile, this)


def test_dirty_is_taken_once() -> None:
    this = dataclasses.replace(job(), overscan=0)
    shown = Framebuffer(this)
    assert not shown.take_dirty()
    tile = cells(Grid(this.region, 32, 0))[0]
    shown.paste(tile, window(as_rendered(whole_frame(this, 1), this, tile.rect), tile, this))
    assert shown.take_dirty()
    assert not shown.take_dirty()


def test_the_picture_has_a_file_that_is_blank_at_first_and_takes_no_room(tmp_path: Path) -> None:
    """Blender's main thread makes it and reads it: it must cost no time at any size."""
    size = {"width": 2000, "height": 1000, "region": Rect(0, 0, 2000, 1000)}
    framebuffer = Framebuffer(dataclasses.replace(job(), **size))
    framebuffer.save()
    assert not framebuffer.is_saved
    path = tmp_path / "picture.exr"
    framebuffer.make_file(path)
    blank = OpenEXR.File(str(path), separate_channels=True).channels()
    assert {name: channel.pixels.shape for name, channel in blank.items()} == dict.fromkeys(
        "ABGR", (1000, 2000)
    )
    assert not any(channel.pixels.any() for channel in blank.values())
    assert path.stat().st_blocks * 512 < path.stat().st_size
    framebuffer.pixels[:] = np.random.default_rng(1).random(framebuffer.pixels.shape, np.float32)
    framebuffer.save()
    assert framebuffer.is_saved
    for number, name in enumerate("RGBA"):
        np.testing.assert_array_equal(
            exr.read(path)[0][name], framebuffer.pixels[::-1, :, number], err_msg=name
        )
