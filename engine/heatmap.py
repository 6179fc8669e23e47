"""Where the frame was expensive: relative render time of each pixel, as a picture.

What is known best is taken: Cycles' own time per pixel (pass Render Time, Blender 5.0 and later, on
a CPU), or else each tile's time, spread within the tile by its sample counts where adaptive
sampling left some.

Times from different machines are made comparable first. Tiles that touch cost about the same, so
where two that touch were rendered by different nodes, their ratio tells of the nodes' speeds; all
such pairs together give each node's slowness by least squares.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import sample_count
from .job import Job, Rect
from .merge import Files, Tiles

Map = NDArray[np.float32]
RENDER_TIME = "Render Time"
BRIGHTEST = 0.999
"""Quantile that is drawn in the brightest color: a few single pixels shall not darken the rest."""
SMOOTHED = 160
"""The longer edge of the frame over the radius of what is averaged."""

# Anchors of matplotlib's viridis, a perceptually uniform color map (CC0).
_VIRIDIS = np.array(
    [
        *[(68, 1, 84), (71, 44, 122), (59, 81, 139), (44, 113, 142), (33, 144, 141)],
        *[(39, 173, 129), (92, 200, 99), (170, 220, 50), (253, 231, 37)],
    ],
    np.float32,
)
_GLYPHS = {
    "0": "75557",
    "1": "26227",
    "2": "71747",
    "3": "71717",
    "4": "55711",
    "5": "74717",
    "6": "74757",
    "7": "71111",
    "8": "75757",
    "9": "75717",
    ".": "00002",
    "m": "07755",
    "s": "34216",
    "/": "11244",
    "p": "06564",
    "x": "05255",
    " ": "00000",
}
"""Letters of 3x5 px, one octal digit a row, for the scale; the engine has no font at hand."""
LETTER_PX = 2
SCALE_PX = 26
"""Height of the scale below the picture."""


@dataclass(frozen=True)
class HeatMap:
    """What each pixel took."""

    milliseconds: Map
    """Per pixel, on a node of mean speed; (height, width), top row first."""
    source: str
    """What it was made from, for a person."""

    @property
    def most(self) -> float:
        """The value that is drawn brightest, in milliseconds."""
        return float(np.quantile(self.milliseconds, BRIGHTEST)) or 1.0

    def grey(self) -> NDArray[np.uint8]:
        """(height, width, 3): black is nothing, white is `most`."""
        levels = np.clip(self.milliseconds / self.most, 0, 1) * 255
        return np.repeat(levels.astype(np.uint8)[:, :, None], 3, axis=2)

    def colored(self) -> NDArray[np.uint8]:
        """(height + SCALE_PX, width, 3): in colors, with their scale below."""
        picture = _colors(np.clip(self.milliseconds / self.most, 0, 1))
        return np.concatenate((picture, _scale(picture.shape[1], self.most)))


def make(job: Job, files: Files, tiles: Tiles, entries: Mapping[int, Mapping[str, Any]]) -> HeatMap:
    """The heat map of a finished job. `entries`: tile index -> node and seconds, as in the journal."""
    of_pixels, source = _of_pixels(job, tiles)
    if job.sample_parts:
        scale = np.float32(1) if source == RENDER_TIME else _mean_ms(job, entries) / of_pixels.mean()
        return HeatMap(of_pixels * scale, source)
    costs = {tile.index: 1000 * entries[tile.index]["seconds"] / tile.rect.area for tile, _ in files}
    nodes = {tile.index: str(entries[tile.index]["node"]) for tile, _ in files}
    pairs = list(_touching({tile.index: tile.rect for tile, _ in files}))
    # A node's first tile also waited for its scene to be built.
    firsts = {nodes[index]: index for index in reversed(list(entries)) if index in nodes}.values()
    timed = [(one, other) for one, other in pairs if one not in firsts and other not in firsts]
    slowness = _slowness(nodes, timed, costs)
    for tile, _ in files:
        costs[tile.index] /= slowness[nodes[tile.index]]
    costs |= {first: _mean_around(first, pairs, costs, set(firsts)) for first in firsts}
    for tile, _ in files:
        y, x = job.region.top - tile.rect.top, tile.rect.x - job.region.x
        part = of_pixels[y : y + tile.rect.height, x : x + tile.rect.width]
        if source == RENDER_TIME:
            part /= slowness[nodes[tile.index]]
        else:
            part *= costs[tile.index] / (float(part.mean()) or 1.0)
    return HeatMap(of_pixels, source)


def _mean_around(
    index: int, pairs: Sequence[tuple[int, int]], costs: Mapping[int, float], but: Collection[int]
) -> float:
    """The mean cost of the tiles that touch tile `index`, or its own where there are none."""
    near = {one + other - index for one, other in pairs if index in (one, other)}.difference(but)
    return sum(costs[tile] for tile in near) / len(near) if near else costs[index]


def _of_pixels(job: Job, tiles: Tiles) -> tuple[Map, str]:
    """Relative cost within the frame as Cycles tells it: milliseconds, sample counts, or all the same."""
    for name, source in ((RENDER_TIME, RENDER_TIME), (sample_count.NAME, "sample counts and tile times")):
        channels = [channel for channel in tiles.channels if channel.rsplit(".", 2)[1] == name]
        if channels:
            bands = [sum(band[channel] for channel in channels) for band in tiles.bands(channels)]
            return _smoothed(np.concatenate(bands).astype(np.float32)), source
    return np.ones((job.region.height, job.region.width), np.float32), "tile times"


def _smoothed(values: Map) -> Map:
    """Averaged over a small square, twice: the time of a single pixel is mostly chance."""
    size = 2 * max(1, max(values.shape) // SMOOTHED) + 1
    for axis in (0, 1, 0, 1):
        near = np.pad(values, [(size // 2, size // 2) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
        sums = np.cumsum(near, axis=axis, dtype=np.float64)
        sums = np.insert(sums, 0, 0, axis=axis)
        upper, lower = np.arange(size, sums.shape[axis]), np.arange(sums.shape[axis] - size)
        values = ((sums.take(upper, axis) - sums.take(lower, axis)) / size).astype(np.float32)
    return values


def _mean_ms(job: Job, entries: Mapping[int, Mapping[str, Any]]) -> np.float32:
    return np.float32(1000 * sum(entry["seconds"] for entry in entries.values()) / job.region.area)


def _slowness(
    nodes: Mapping[int, str], pairs: Sequence[tuple[int, int]], costs: Mapping[int, float]
) -> dict[str, float]:
    """Node -> its time for the same work, relative to the mean of all nodes."""
    names = sorted(set(nodes.values()))
    # The mean of all is 1; a node that touches no other keeps it.
    rows, ratios = [np.ones(len(names))], [0.0]
    for one, other in pairs:
        if nodes[one] != nodes[other] and costs[one] > 0 and costs[other] > 0:
            row = np.zeros(len(names))
            row[names.index(nodes[one])], row[names.index(nodes[other])] = 1, -1
            rows.append(row)
            ratios.append(float(np.log(costs[one] / costs[other])))
    logarithms = np.linalg.lstsq(np.array(rows), np.array(ratios), rcond=None)[0]
    return dict(zip(names, np.exp(logarithms).tolist(), strict=True))


def _touching(rects: Mapping[int, Rect]) -> Iterator[tuple[int, int]]:
    """Pairs of tiles of which one begins where the other ends, to the right or above."""
    lefts: dict[tuple[int, int], list[int]] = {}
    bottoms: dict[tuple[int, int], list[int]] = {}
    for index, rect in rects.items():
        lefts.setdefault((rect.x, rect.y), []).append(index)
        bottoms.setdefault((rect.y, rect.x), []).append(index)
    for index, rect in rects.items():
        for other in (*lefts.get((rect.right, rect.y), ()), *bottoms.get((rect.top, rect.x), ())):
            yield index, other


def _colors(values: Map) -> NDArray[np.uint8]:
    places = values * (len(_VIRIDIS) - 1)
    below = np.minimum(places.astype(int), len(_VIRIDIS) - 2)
    part = (places - below)[..., None]
    colors: NDArray[np.uint8] = np.rint(_VIRIDIS[below] * (1 - part) + _VIRIDIS[below + 1] * part).astype(
        np.uint8
    )
    return colors


def _scale(width: int, most: float) -> NDArray[np.uint8]:
    """From nothing to `most`, with both written on it."""
    scale = np.zeros((SCALE_PX, width, 3), np.uint8)
    values = np.broadcast_to(np.linspace(0, 1, width, dtype=np.float32), (SCALE_PX // 3, width))
    scale[2 : 2 + len(values)] = _colors(values)
    _write(scale, "0", left=2)
    text = f"{most:.3g} ms/px"
    _write(scale, text, left=width - 2 - 4 * LETTER_PX * len(text))
    return scale


def _write(picture: NDArray[np.uint8], text: str, *, left: int) -> None:
    top = SCALE_PX // 3 + 4
    for number, letter in enumerate(text):
        bits = [[int(row) >> bit & 1 for bit in (2, 1, 0)] for row in _GLYPHS.get(letter, "00000")]
        glyph = np.kron(np.array(bits, np.uint8), np.ones((LETTER_PX, LETTER_PX), np.uint8)) * 230
        x = left + 4 * LETTER_PX * number
        if x >= 0:
            target = picture[top : top + glyph.shape[0], x : x + glyph.shape[1]]
            target[:] = glyph[: target.shape[0], : target.shape[1], None]


def grey_path(path: Path) -> Path:
    """Where the picture in greys goes that belongs to the one in colors at `path`."""
    return path.with_stem(f"{path.stem}_grey")


def write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write (height, width, 3) as a PNG file (https://www.w3.org/TR/png/). Raises OSError."""
    height, width, _ = pixels.shape

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack("!I", len(data)) + kind + data + struct.pack("!I", zlib.crc32(data, zlib.crc32(kind)))
        )

    rows = np.concatenate((np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)), axis=1)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack("!IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(rows.tobytes(), 6))
        + chunk(b"IEND", b"")
    )
