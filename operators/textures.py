"""Textures that Blender 5.2 and later keep ready for Cycles in files of their own (.tx).

Where there is one, Cycles filters in another way, so nodes must have it too. It counts as long as
it is not older than the texture itself.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator
from pathlib import Path

import bpy

USUAL_FOLDER = "blender_tx"
"""Beside the texture; a worker, which has no preferences, looks only there."""


def prepared(scene: bpy.types.Scene, texture: str) -> Iterator[tuple[str, str]]:
    """The files of a texture: where they are, and where a node's Blender will look for them."""
    path = Path(texture)
    if not getattr(scene.render, "use_texture_cache", False) or Path(_folder()).is_absolute():
        return
    for file in sorted((path.parent / (_folder() or USUAL_FOLDER)).glob(f"{glob.escape(path.name)}.*.tx")):
        # Blender counts in whole seconds.
        if path.is_file() and int(file.stat().st_mtime) >= int(path.stat().st_mtime):
            yield str(file), str(path.parent / USUAL_FOLDER / file.name)


def warnings(scene: bpy.types.Scene) -> list[str]:
    """In a folder for all textures they have names that hold on this computer alone."""
    if (
        getattr(scene.render, "use_texture_cache", False)
        and not scene.render.use_auto_generate_texture_cache
        and Path(_folder()).is_absolute()
        and any(Path(_folder()).glob("*.tx"))
    ):
        words = f"Textures prepared in {_folder()} are not sent: nodes filter textures in another way."
        return [f"{words} Prepare them beside the textures (Preferences > File Paths > Texture Cache)."]
    return []


def _folder() -> str:
    return getattr(bpy.context.preferences.filepaths, "texture_cache_directory", "")
