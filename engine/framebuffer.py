"""The frame as it fills: the picture shown while tiles arrive, and the merged file at the end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from . import exr
from .job import Job, Rect, Tile
from .tiling import with_overscan


def window(planes: exr.Planes, tile: Tile, job: Job) -> exr.Planes:
    """The part of a rendered tile that is kept: views without the overscan, top row first.

    Raises ValueError where the planes are not of the size that was asked for.
    """
    asked = with_overscan(tile.rect, job.overscan, job.region)
    top, left = asked.top - tile.rect.top, tile.rect.x - asked.x
    kept = {}
    for name, plane in planes.items():
        if plane.shape != (asked.height, asked.width):
            raise ValueError(
                f"{name} came back as {plane.shape[1]}x{plane.shape[0]} px,"
                f" asked for {asked.width}x{asked.height}"
            )
        kept[name] = plane[top : top + tile.rect.height, left : left + tile.rect.width]
    return kept


class Framebuffer:
    """RGBA of the shown view layer. Written by the session, read by the user interface."""

    def __init__(self, job: Job) -> None:
        self._view_layer = job.view_layer
        self._origin = job.region if job.use_crop else Rect(0, 0, job.width, job.height)
        self.width = self._origin.width
        self.height = self._origin.height
        self.pixels: NDArray[np.float32] = np.zeros((self.height, self.width, 4), np.float32)
        """(height, width, 4), scene linear, bottom row first: the order of Image.pixels."""
        self._is_dirty = threading.Event()

    def paste(self, tile: Tile, kept: exr.Planes) -> None:
        """Show a tile; `kept` is what `window` returned."""
        x, y = tile.rect.x - self._origin.x, tile.rect.y - self._origin.y
        target = self.pixels[y : y + tile.rect.height, x : x + tile.rect.width]
        for component, name in enumerate(exr.combined(kept, self._view_layer)):
            target[:, :, component] = kept[name][::-1]
        self._is_dirty.set()

    def take_dirty(self) -> bool:
        """Whether anything was pasted since the last call."""
        was_dirty = self._is_dirty.is_set()
        self._is_dirty.clear()
        return was_dirty


def merge(job: Job, tiles: Iterable[tuple[Tile, Path]], path: Path) -> None:
    """Write the whole frame with every pass to `path` from the files of all its tiles.

    Pixels are copied, never blended. One row of tiles at a time is in memory: channels x frame
    width x tile height x 4 bytes. Raises OSError, and ValueError for a damaged tile.
    """
    whole = job.region if job.use_crop else Rect(0, 0, job.width, job.height)
    rows: dict[int, list[tuple[Tile, Path]]] = {}
    for tile, file in tiles:
        rows.setdefault(tile.rect.top, []).append((tile, file))
    first = next(iter(rows.values()))[0][1]
    header = exr.read_header(first)
    channels = exr.channels_of(header)

    def empty(count: int) -> exr.Planes:
        return dict.fromkeys(channels, np.zeros((count, whole.width), np.float32))

    with exr.Writer(path, whole.width, whole.height, channels, header) as writer:
        _write_in_parts(writer, empty, whole.top - job.region.top)
        for top in sorted(rows, reverse=True):
            height = rows[top][0][0].rect.height
            planes = {name: np.zeros((height, whole.width), np.float32) for name in channels}
            for tile, file in rows[top]:
                kept = window(exr.read(file)[0], tile, job)
                x = tile.rect.x - whole.x
                for name, plane in planes.items():
                    plane[:, x : x + tile.rect.width] = kept[name]
            writer.write_rows(planes)
        _write_in_parts(writer, empty, job.region.y - whole.y)


def _write_in_parts(writer: exr.Writer, empty: Callable[[int], exr.Planes], rows: int) -> None:
    """Rows outside the rendered region."""
    for done in range(0, rows, 64):
        writer.write_rows(empty(min(64, rows - done)))
