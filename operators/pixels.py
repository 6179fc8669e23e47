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

LOSSLESS = {"PNG", "TIFF", "TARGA", "TARGA_RAW", "BMP"}
"""Formats that keep each byte of a tile."""
CAN_SAVE_TILES = "save_copy" in bpy.types.Image.bl_rna.functions["save"].parameters
"""Whether all tiles can be written without touching the image (4.2 has no way to)."""


def unsaved() -> tuple[tuple[PixelFile, ...], list[str]]:
    """Images whose pixels have to be saved, and a warning for each of those that cannot be."""
    are_painted_files_rendered = bpy.app.version >= (5, 2, 0)
    found, warnings = [], []
    for image in bpy.data.images:
        if not (image.is_dirty and image.users) or image.name in OWN_IMAGES:
            continue
        place = f"pixels/{len(found):03}"
        library = image.library.name if image.library else ""
        if image.source == "TILED":
            if not image.packed_files:
                continue
            if CAN_SAVE_TILES and image.file_format in LOSSLESS and not image.is_float:
                tiles = tuple(tile.number for tile in image.tiles)
                name = f"{place}.<UDIM>{Path(image.filepath).suffix}"
                found.append(PixelFile(image.name, name, 0, 0, 0, False, library, tiles))
            else:
                warnings.append(
                    f"The tiled image {image.name!r} has unsaved changes that nodes will not see: save it first."
                )
        elif are_painted_files_rendered or image.packed_file or image.source == "GENERATED":
            width, height = image.size
            found.append(
                PixelFile(image.name, f"{place}.raw", width, height, image.channels, image.is_float, library)
            )
    return tuple(found), warnings


def save(wanted: tuple[PixelFile, ...], folder: Path) -> None:
    """Write the pixels below the job's folder; the images stay as they are. Raises OSError and RuntimeError."""
    for entry in wanted:
        image = _image(entry)
        path = folder / entry.file
        path.parent.mkdir(mode=0o700, exist_ok=True)
        if entry.tiles:
            image.save(filepath=str(path), save_copy=True)
        else:
            values = np.empty(entry.width * entry.height * entry.channels, np.float32)
            image.pixels.foreach_get(values)
            # A byte of an image is read as a fraction of 255.
            data = values if entry.is_float else np.rint(values * 255).astype(np.uint8)
            path.write_bytes(data.tobytes())
        for name in entry.files:
            (folder / name).chmod(0o600)


def _image(entry: PixelFile) -> bpy.types.Image:
    return next(
        image
        for image in bpy.data.images
        if (image.name, image.library.name if image.library else "") == (entry.image, entry.library)
    )
