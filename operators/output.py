"""Where the finished picture goes: the scene's output path, read as Blender reads it for a still."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import bpy

from ..engine.job import JobError

MARK_DIGITS = 12


def still_path(scene: bpy.types.Scene, frame: int) -> str:
    """Absolute path of the picture.

    `#` stands for digits of the frame's number, the extension follows the format, as Blender
    has it. As with any still, a name without `#` gets no number; a folder does, for want of a name.
    """
    render = scene.render
    written = render.filepath
    folder, slash, name = written.replace("\\", "/").rpartition("/")
    if "#" in name or not name:
        return str(render.frame_path(frame=frame))
    # Only for a path with a number does Blender tell what it will be; the number goes again.
    stem, dot, extension = name.rpartition(".")
    stem, dot, extension = (stem, dot, extension) if stem else (name, "", "")
    try:
        render.filepath = f"{folder}{slash}{stem}{'#' * MARK_DIGITS}{dot}{extension}"
        before, _, after = str(render.frame_path(frame=0)).rpartition("0" * MARK_DIGITS)
    finally:
        render.filepath = written
    return before + after


def check_writable(scene: bpy.types.Scene) -> None:
    """Raise JobError where the picture could not be saved, before any time is spent on it."""
    path = Path(still_path(scene, scene.frame_current)).absolute()
    # Blender makes folders that are missing.
    place = next(folder for folder in path.parents if folder.exists())
    try:
        # Only trying tells: rights, a full or read-only disk, a folder that is none.
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise JobError(
            f"The output folder {path.parent} is not writable ({error.strerror}).",
            "Choose another one in Output properties.",
        ) from None
    if path.is_dir() or (path.exists() and not os.access(path, os.W_OK)):
        raise JobError(f"The output file {path} cannot be replaced.", "Choose another name for it.")
