"""The frame as it fills: the picture that is shown while tiles arrive."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from . import exr
from .job import Job, Tile
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
        self._origin = job.picture
        self._samples = 0
        self.width = self._origin.width
        self.height = self._origin.height
        self.pixels: NDArray[np.float32] = np.zeros((self.height, self.width, 4), np.float32)
        """(height, width, 4), scene linear, bottom row first: the order of Image.pixels."""
        self._is_dirty = threading.Event()
        self.file: Path | None = None
        """Where the picture is to be saved at the end; None: nowhere."""
        self.is_saved = False

    def make_file(self, path: Path) -> None:
        """An empty picture at `path`, to be filled at the end. Raise OSError."""
        with self._writer(path) as writer:
            writer.leave_blank(self.height)
        path.chmod(0o600)
        self.file = path

    def save(self) -> None:
        """Fill the file, if one was made. Raise OSError."""
        if self.file is None:
            return
        with self._writer(self.file) as writer:
            for first in range(0, self.height, exr.BAND_ROWS):
                rows = self.pixels[::-1][first : first + exr.BAND_ROWS]
                writer.write_rows({name: rows[:, :, i] for i, name in enumerate("RGBA")})
        self.file.chmod(0o600)
        self.is_saved = True

    def _writer(self, path: Path) -> exr.Writer:
        # Not compressed: Blender's main thread reads it, and 8K would take it seconds.
        return exr.Writer(
            path, self.width, self.height, dict.fromkeys("RGBA", exr.FLOAT), {}, exr.NO_COMPRESSION
        )

    def paste(self, tile: Tile, kept: exr.Planes) -> None:
        """Show a tile; `kept` is what `window` returned."""
        x, y = tile.rect.x - self._origin.x, tile.rect.y - self._origin.y
        target = self.pixels[y : y + tile.rect.height, x : x + tile.rect.width]
        for component, name in enumerate(exr.combined(kept, self._view_layer)):
            rows = kept[name][::-1]
            if tile.samples is None:
                target[:, :, component] = rows
            else:
                part = tile.samples.count / (self._samples + tile.samples.count)
                target[:, :, component] += (rows - target[:, :, component]) * np.float32(part)
        self._samples += tile.samples.count if tile.samples else 0
        self._is_dirty.set()

    def show_file(self, path: Path) -> None:
        """Show the finished frame. Raises ValueError where it is none."""
        file = exr.Reader(path)
        names = exr.combined(file.channels, self._view_layer)
        for first in range(0, file.height, exr.BAND_ROWS):
            count = min(exr.BAND_ROWS, file.height - first)
            rows = file.rows(first, count, names)
            target = self.pixels[self.height - first - count : self.height - first]
            for component, name in enumerate(names):
                target[:, :, component] = rows[name][::-1]
        self._is_dirty.set()

    def take_dirty(self) -> bool:
        """Whether anything was pasted since the last call."""
        was_dirty = self._is_dirty.is_set()
        self._is_dirty.clear()
        return was_dirty
