"""Pictures that were painted and not saved: the snapshot alone would lose them.

Blender writes no unsaved pixels of an external image into a .blend. Such an image is written
beside the snapshot, and a node gets that file in the place of the one on disk. The image in
the user's session is only read.
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np
from numpy.typing import NDArray

from ..engine import exr
from .image import NAME as OWN_IMAGE

LINEAR_SPACES = ("Non-Color", "Linear Rec.709", "Linear")


@dataclass(frozen=True)
class Painted:
    """An image with unsaved pixels, and where they are going to be."""

    image: bpy.types.Image
    original: str
    """Absolute path of the file that they take the place of."""
    file: Path

    def write(self) -> None:
        """Write the pixels, exactly as they are in memory. Raises OSError."""
        self.file.parent.mkdir(mode=0o700, exist_ok=True)
        width, height = self.image.size
        values = np.empty(width * height * self.image.channels, np.float32)
        self.image.pixels.foreach_get(values)
        pixels = values.reshape(height, width, self.image.channels)[::-1]
        if self.image.is_float:
            planes = {
                name: np.ascontiguousarray(pixels[:, :, i])
                for i, name in enumerate("RGBA"[: pixels.shape[2]])
            }
            exr.write(self.file, planes, {})
        else:
            self.file.write_bytes(png(np.rint(pixels * 255).astype(np.uint8)))
        self.file.chmod(0o600)


def find(folder: Path) -> tuple[tuple[Painted, ...], tuple[str, ...]]:
    """Images whose unsaved pixels can be written below `folder`, and warnings about the others."""
    found, lost = [], []
    for image in bpy.data.images:
        if not image.is_dirty or image.name == OWN_IMAGE or image.type in ("RENDER_RESULT", "COMPOSITING"):
            continue
        if _is_simple(image):
            path = os.path.normpath(bpy.path.abspath(image.filepath, library=image.library))
            found.append(Painted(image, path, folder / "painted" / f"{len(found):03}"))
        elif image.users:
            lost.append(
                f"The image {image.name!r} has unsaved changes that nodes will not see: save or pack it first."
            )
    return tuple(found), tuple(lost)


def _is_simple(image: bpy.types.Image) -> bool:
    """Whether reading a plain file of the same pixels gives the same image."""
    if image.source != "FILE" or image.packed_file or not image.filepath or not image.has_data:
        return False
    if image.is_float:
        # Other files are converted while reading, and these pixels have been already.
        return image.alpha_mode != "STRAIGHT" and image.colorspace_settings.name in LINEAR_SPACES
    return image.channels == 4 and image.alpha_mode != "PREMUL"


def png(pixels: NDArray[np.uint8]) -> bytes:
    """An RGBA picture, top row first, as a PNG file."""
    height, width, _ = pixels.shape
    # Each row begins with its filter's number: 0, none.
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack("!I", len(data)) + kind + data + struct.pack("!I", zlib.crc32(kind + data))

    header = struct.pack("!IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows.tobytes(), 1))
        + chunk(b"IEND", b"")
    )
