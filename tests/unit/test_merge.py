"""Sample counts get the frame's scale; parts of the samples become their mean; times add up."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine import exr, sample_count
from engine.job import Job, Rect
from engine.merge import Tiles, write_frame
from engine.tiling import Grid, SampleGrid, grid_of

from ..support import cells
from .test_store import job

COUNT = "ViewLayer.Debug Sample Count.X"
F32 = np.float32


def small(**changes: object) -> Job:
    plain = dataclasses.replace(
        job(), width=40, height=24, region=Rect(0, 0, 40, 24), use_crop=False, overscan=0, tile_size=16
    )
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def merged(tiles: Tiles, this: Job, folder: Path) -> tuple[exr.Planes, exr.Header]:
    write_frame(this, tiles.bands(), tiles.channels, tiles.header, folder / "frame.exr")
    return exr.read(folder / "frame.exr")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1000), most=st.integers(2, 300))
def test_sample_counts_have_the_scale_of_the_frame(tmp_path: Path, seed: int, most: int) -> None:
    this = small()
    random = np.random.default_rng(seed)
    counts = random.integers(1, most + 1, (24, 40)).astype(F32)
    files, samples = [], {}
    for tile in cells(Grid(this.region, 16, 0)):
        top = 24 - tile.rect.top
        part = counts[top : top + tile.rect.height, tile.rect.x : tile.rect.right]
        path = tmp_path / f"{tile.index}.exr"
        exr.write(path, {COUNT: part * (F32(1) / F32(part.max()))}, {})
        files.append((tile, path))
        samples[tile.index] = {"ViewLayer": int(part.max())}
    tiles = Tiles(this, files, samples)
    assert tiles.samples == {"ViewLayer": int(counts.max())}
    frame, _ = merged(tiles, this, tmp_path)
    np.testing.assert_array_equal(frame[COUNT], counts * (F32(1) / F32(counts.max())))


def test_parts_of_the_samples(tmp_path: Path) -> None:
    this = small(samples=10, sample_parts=3)
    parts = cells(grid_of(this))
    assert [(part.samples.first, part.samples.count) for part in parts if part.samples] == [
        (0, 3),
        (3, 3),
        (6, 4),
    ]
    random = np.random.default_rng(3)
    values = [random.random((24, 40), F32) for _ in parts]
    files = []
    for part, plane in zip(parts, values, strict=True):
        planes = {
            "ViewLayer.Combined.R": plane,
            "ViewLayer.Depth.Z": plane + 1,
            "ViewLayer.Object Index.X": plane + 2,
            "ViewLayer.CryptoObject00.r": plane + 3,
            "ViewLayer.Render Time.X": plane + 4,
        }
        path = tmp_path / f"{part.index}.exr"
        exr.write(path, planes, {})
        files.append((part, path))
    frame, _ = merged(Tiles(this, files, {}), this, tmp_path)
    first, second, third = (plane.astype(float) for plane in values)
    mean = (3 * first + 3 * second + 4 * third) / 10
    np.testing.assert_array_equal(frame["ViewLayer.Combined.R"], mean.astype(F32))
    np.testing.assert_array_equal(frame["ViewLayer.Depth.Z"], values[0] + F32(1))
    np.testing.assert_array_equal(frame["ViewLayer.Object Index.X"], values[0] + F32(2))
    np.testing.assert_array_equal(frame["ViewLayer.CryptoObject00.r"], values[0] + F32(3))
    np.testing.assert_allclose(frame["ViewLayer.Render Time.X"], sum(values) + F32(12), rtol=1e-6)


def test_parts_are_weighted_by_the_samples_of_each_pixel(tmp_path: Path) -> None:
    """Adaptive sampling: pixels have fewer samples in one part than in the other."""
    this = small(samples=64, sample_parts=2)
    files = []
    for part, (value, count) in zip(cells(grid_of(this)), ((1.0, 8), (4.0, 24)), strict=True):
        planes = {
            "ViewLayer.Combined.R": np.full((24, 40), value, F32),
            COUNT: np.full((24, 40), count / 32, F32),
        }
        path = tmp_path / f"{part.index}.exr"
        exr.write(path, planes, {})
        files.append((part, path))
    tiles = Tiles(this, files, {part.index: {"ViewLayer": 32} for part, _ in files})
    frame, _ = merged(tiles, this, tmp_path)
    assert frame["ViewLayer.Combined.R"] == pytest.approx((8 * 1 + 24 * 4) / 32)
    assert sample_count.counts(frame[COUNT], tiles.samples["ViewLayer"]) == pytest.approx(32)


@given(samples=st.integers(1, 5000), parts=st.integers(1, 200))
def test_every_sample_is_rendered_once(samples: int, parts: int) -> None:
    ranges = [tile.samples for tile in cells(SampleGrid(Rect(0, 0, 8, 8), samples, min(parts, samples)))]
    covered = [first for part in ranges if part for first in range(part.first, part.first + part.count)]
    assert covered == list(range(samples))
    assert all(part and part.count > 0 for part in ranges)


def test_times_add_up_and_the_rest_is_kept(tmp_path: Path) -> None:
    this = small(source="/home/me/scene.blend")
    files = []
    for tile in cells(Grid(this.region, 16, 0)):
        path = tmp_path / f"{tile.index}.exr"
        header = {
            "cycles.ViewLayer.render_time": ("string", b"20:00.50"),
            "cycles.ViewLayer.samples": ("string", b"16"),
            "File": ("string", b"/tmp/somewhere/root/home/me/scene.blend"),
        }
        exr.write(path, {"ViewLayer.Combined.R": np.zeros((tile.rect.height, tile.rect.width), F32)}, header)
        files.append((tile, path))
    _, header = merged(Tiles(this, files, {}), this, tmp_path)
    assert len(files) == 6
    assert header["cycles.ViewLayer.render_time"] == ("string", b"02:00:03.00")
    assert header["cycles.ViewLayer.samples"] == ("string", b"16")
    assert header["File"] == ("string", b"/home/me/scene.blend")
