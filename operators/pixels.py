"""Painted and generated pixels that no file holds and that F12 renders: they are saved beside the snapshot.

Until Blender 5.1 an image from a file is none of them: F12 too reads the file, whatever was
painted since (measured with 4.2 to 5.2).
"""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np

from ..engine.job import PixelFile
from .image import OWN_IMAGES


def unsaved() -> tuple[tuple[PixelFile, ...], list[str]]:
    """Images whose pixels have to be saved, and a warning for each of those that cannot be."""
    are_painted_files_rendered = bpy.app.version >= (5, 2, 0)
    found, warnings = [], []
    for image in bpy.data.images:
        if not (image.is_dirty and image.users) or image.name in OWN_IMAGES:
            continue
        if image.source == "TILED":
            if image.packed_files:
                warnings.append(
                    f"The tiled image {image.name!r} has unsaved changes that nodes will not see: save it first."
                )
        elif are_painted_files_rendered or image.packed_file or image.source == "GENERATED":
            if image.library:
                warnings.append(f"The linked image {image.name!r} has changes that nodes will not see.")
                continue
            width, height = image.size
            name = f"pixels/{len(found):03}.raw"
            found.append(PixelFile(image.name, name, width, height, image.channels, image.is_float))
    return tuple(found), warnings


def save(wanted: tuple[PixelFile, ...], folder: Path) -> None:
    """Write the pixels below the job's folder; the images stay as they are. Raises OSError."""
    for entry in wanted:
        image = bpy.data.images[entry.image]
        values = np.empty(entry.width * entry.height * entry.channels, np.float32)
        image.pixels.foreach_get(values)
        path = folder / entry.file
        path.parent.mkdir(mode=0o700, exist_ok=True)
        # A byte of an image is read as a fraction of 255.
        path.write_bytes((values if entry.is_float else np.rint(values * 255).astype(np.uint8)).tobytes())
        path.chmod(0o600)
