"""Putting finished tiles together: the region with every pass, in bands of rows, top row first.

Pixels are copied, never blended. Only a band is in memory at a time, and of each tile's file only
the rows that are in it: channels x region width x BAND_ROWS x 4 bytes, whatever the frame's height.

Where a job is split by samples, each tile is the whole region with a part of its samples, and the
parts are averaged by the rules of Cycles' own merge (intern/cycles/session/merge.cpp).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from . import exr, sample_count
from .exr import BAND_ROWS
from .job import Job, Rect, Tile
from .tiling import with_overscan

_TIME = re.compile(r"RenderTime|cycles\..+_time")
_FROM_FIRST = re.compile(r"Depth|Position|IndexOB|IndexMA|(?:Object|Material) Index|Crypto.*")
"""Passes that the first sample decides, or that mean nothing when averaged."""
_SUMMED = re.compile(r"(?:Debug )?Render Time")

Files = Sequence[tuple[Tile, Path]]


class Tiles:
    """The files of all tiles of one job, as one picture of the job's region."""

    def __init__(self, job: Job, files: Files, samples: Mapping[int, sample_count.Samples]) -> None:
        """`samples`: tile index -> what its node told of its sample counts.

        Raises ValueError for a damaged file.
        """
        self._job = job
        self._files = files
        self._samples = samples
        told = [samples.get(tile.index, {}) for tile, _ in files]
        self.samples = sample_count.of_parts(told) if job.sample_parts else sample_count.of_frame(told)
        """The scale of the Debug Sample Count passes in what `bands` returns."""
        first = exr.read_header(files[0][1])
        self.channels = exr.channels_of(first)
        self.header = {**first, **_times(exr.read_header(path) for _, path in files)}
        """Attributes of the frame: those of a tile, with the times that all took together."""
        if "File" in first:
            self.header["File"] = ("string", (job.source or "<untitled>").encode())

    def bands(self, names: Collection[str] | None = None) -> Iterator[exr.Planes]:
        """The region's rows, of the channels `names` or of all. Raises ValueError for a damaged tile."""
        region = self._job.region
        wanted = self.channels if names is None else names
        for top in range(region.top, region.y, -BAND_ROWS):
            bottom = max(top - BAND_ROWS, region.y)
            band = Rect(region.x, bottom, region.width, top - bottom)
            here = [item for item in self._files if item[0].rect.y < top and bottom < item[0].rect.top]
            yield (
                self._averaged(here, band, wanted)
                if self._job.sample_parts
                else self._stitched(here, band, wanted)
            )

    def _stitched(self, files: Files, band: Rect, names: Collection[str]) -> exr.Planes:
        planes = {name: np.zeros((band.height, band.width), np.float32) for name in names}
        for tile, path in files:
            # Tiles are of all sizes: this one may begin or end inside the band.
            top, bottom = min(band.top, tile.rect.top), max(band.y, tile.rect.y)
            part = Rect(band.x, bottom, band.width, top - bottom)
            x, y = tile.rect.x - band.x, band.top - top
            for name, rows in self._rows(tile, path, part, names).items():
                planes[name][y : y + part.height, x : x + tile.rect.width] = rows
        return planes

    def _rows(self, tile: Tile, path: Path, band: Rect, names: Collection[str]) -> exr.Planes:
        """The tile's part of the band, without its margin, sample counts in the frame's scale."""
        asked = with_overscan(tile.rect, self._job.overscan, self._job.region)
        file = exr.Reader(path)
        if (file.width, file.height) != (asked.width, asked.height):
            raise ValueError(f"{path.name} is no tile of {asked.width}x{asked.height} px")
        left = tile.rect.x - asked.x
        rows = file.rows(asked.top - band.top, band.height, names)
        planes = {name: plane[:, left : left + tile.rect.width] for name, plane in rows.items()}
        for layer, samples in self._samples.get(tile.index, {}).items():
            name = sample_count.channel(layer)
            if name in planes:
                counts = sample_count.counts(planes[name], samples)
                planes[name] = sample_count.fractions(counts, self.samples[layer])
        return planes

    def _averaged(self, files: Files, band: Rect, names: Collection[str]) -> exr.Planes:
        """Weighted by samples, in double precision: so the sum is rounded once."""
        sums = {name: np.zeros((band.height, band.width)) for name in names}
        weights = dict.fromkeys(names, np.zeros((band.height, band.width)))
        for tile, path in files:
            assert tile.samples is not None
            counts = {sample_count.channel(layer) for layer in self.samples}
            rows = self._rows(tile, path, band, {*names, *counts & set(self.channels)})
            for name in names:
                plane = rows[name]
                layer, pass_name, _ = name.rsplit(".", 2)
                if _FROM_FIRST.fullmatch(pass_name):
                    if tile.samples.first == 0:
                        sums[name] += plane
                elif pass_name == sample_count.NAME or _SUMMED.fullmatch(pass_name):
                    sums[name] += plane
                else:
                    weight = rows.get(sample_count.channel(layer), np.float64(tile.samples.count))
                    sums[name] += plane.astype(np.float64) * weight
                    weights[name] = weights[name] + weight
        return {
            name: np.divide(plane, weights[name], out=plane, where=weights[name] > 0).astype(np.float32)
            for name, plane in sums.items()
        }

    def write(self, path: Path) -> None:
        """The region with every channel, as a scratch file. Raises OSError, and ValueError as `bands`."""
        size = self._job.region.width, self._job.region.height
        with exr.Writer(path, *size, self.channels, self.header, exr.NO_COMPRESSION) as writer:
            for band in self.bands():
                writer.write_rows(band)


def _times(headers: Iterable[exr.Header]) -> exr.Header:
    """The sum of each time in the headers."""
    seconds: dict[str, float] = {}
    for header in headers:
        for name, (kind, value) in header.items():
            if kind == "string" and _TIME.fullmatch(name):
                seconds[name] = seconds.get(name, 0.0) + _seconds(value.decode())
    return {name: ("string", _clock(total).encode()) for name, total in seconds.items()}


def _seconds(clock: str) -> float:
    """From `1:02:03.45`, or without hours."""
    total = 0.0
    for part in clock.split(":"):
        total = 60 * total + float(part)
    return total


def _clock(seconds: float) -> str:
    """As Blender writes it: `02:03.45`, `01:02:03.45` from an hour on."""
    minutes, rest = divmod(round(100 * seconds), 6000)
    hours, minutes = divmod(minutes, 60)
    text = f"{minutes:02}:{rest / 100:05.2f}"
    return f"{hours:02}:{text}" if hours else text


def write_frame(
    job: Job, bands: Iterable[exr.Planes], channels: Mapping[str, int], header: exr.Header, path: Path
) -> None:
    """Write the frame from bands of its region: `channels` and nothing else, black around the region
    unless the job crops. Raises OSError."""
    whole = job.picture
    x = job.region.x - whole.x

    def black(rows: int) -> None:
        for done in range(0, rows, BAND_ROWS):
            count = min(BAND_ROWS, rows - done)
            writer.write_rows(dict.fromkeys(channels, np.zeros((count, whole.width), np.float32)))

    with exr.Writer(path, whole.width, whole.height, channels, header) as writer:
        black(whole.top - job.region.top)
        for band in bands:
            if whole.width == job.region.width:
                writer.write_rows({name: band[name] for name in channels})
                continue
            rows = {}
            for name in channels:
                rows[name] = np.zeros((len(band[name]), whole.width), np.float32)
                rows[name][:, x : x + job.region.width] = band[name]
            writer.write_rows(rows)
        black(job.region.y - whole.y)


def without_helpers(job: Job, channels: Mapping[str, int]) -> dict[str, int]:
    """Those channels that the frame has."""
    return {name: kind for name, kind in channels.items() if name.rpartition(".")[0] not in job.helpers}
