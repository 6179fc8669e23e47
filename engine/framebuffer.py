"""The frame as it fills: the picture shown while tiles arrive, and the merged file at the end."""

from __future__ import annotations

import threading
from collections.abc import Iterable
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

    Pixels are copied, never blended. Raises OSError, and ValueError for a damaged tile.
    """
    planes: exr.Planes = {}
    header: dict[str, object] = {}
    whole = job.region if job.use_crop else Rect(0, 0, job.width, job.height)
    for tile, file in tiles:
        rendered, tile_header = exr.read(file)
        kept = window(rendered, tile, job)
        if not planes:
            header = tile_header
            planes = {name: np.zeros((whole.height, whole.width), np.float32) for name in kept}
        x, y = tile.rect.x - whole.x, whole.top - tile.rect.top
        for name, part in kept.items():
            planes[name][y : y + tile.rect.height, x : x + tile.rect.width] = part
    exr.write(path, planes, header)
