"""Which files beside the .blend a scene needs, and which of them are missing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bpy

from ..engine.assets import scene_files
from ..engine.job import SceneFile
from .image import OWN_IMAGES

KINDS = {
    "images": "image",
    "libraries": "library",
    "fonts": "font",
    "movieclips": "movie clip",
    "volumes": "volume",
    "cache_files": "cache file",
    "sounds": "sound",
}
TOKENS = ("<UDIM>", "<UVTILE>")
MOST_FILES_PER_FOLDER = 10_000


def find(scene: bpy.types.Scene) -> tuple[tuple[SceneFile, ...], list[str]]:
    """The files to send, and a warning per missing one that names who wants it."""
    owners = _owners()
    paths = [path for path in _paths(scene) if not owners.get(path, "").startswith("sound ")]
    found, missing = scene_files(paths)
    warnings = [f"Missing file: {path}, wanted by {owners.get(path, 'the scene')}." for path in missing]
    return found, warnings + _unsaved_pixels()


def _unsaved_pixels() -> list[str]:
    """Warnings of images whose pixels in memory F12 renders but no file holds.

    Until Blender 5.1 an image from a file is none of them: F12 too reads the file, whatever was
    painted since (measured with 4.2 to 5.2).
    """
    are_painted_files_rendered = bpy.app.version >= (5, 2, 0)
    return [
        f"The image {image.name!r} has unsaved changes that nodes will not see: save or pack it first."
        for image in bpy.data.images
        if image.is_dirty
        and image.users
        and image.name not in OWN_IMAGES
        and (are_painted_files_rendered or image.packed_file or image.source == "GENERATED")
    ]


def _paths(scene: bpy.types.Scene) -> Iterator[str]:
    own = [bpy.data.images[name] for name in OWN_IMAGES if name in bpy.data.images]
    skipped = {_absolute(image) for image in own if image.filepath}
    expanded = _expanded(scene)
    # Brushes that Blender brings along are linked from its own folder; so every node has them.
    blenders_own = Path(bpy.utils.system_resource("DATAFILES"))
    for named in bpy.utils.blend_paths(absolute=True, packed=False, local=False):
        path = os.path.normpath(named)
        if path in skipped or blenders_own in Path(path).parents:
            continue
        if path in expanded:
            yield from expanded[path]
        elif Path(path).is_dir():
            yield from _below(Path(path))
        else:
            yield path
    if bpy.data.filepath:
        # Disk caches of particles and cloth stand beside the .blend under this name.
        blend = Path(bpy.data.filepath)
        yield from _below(blend.with_name(f"blendcache_{blend.stem}"))


def _below(folder: Path) -> Iterator[str]:
    """Files of a cache's folder. A home or a root was set by mistake and is not sent."""
    if folder in (Path.home(), Path(folder.anchor)) or not folder.is_dir():
        return
    for number, path in enumerate(sorted(folder.rglob("*"))):
        if number >= MOST_FILES_PER_FOLDER:
            return
        if path.is_file():
            yield str(path)


def _owners() -> dict[str, str]:
    """Absolute path -> the datablock that wants it, in words."""
    owners = {}
    for collection, kind in KINDS.items():
        for block in getattr(bpy.data, collection):
            if block.filepath and not block.filepath.startswith("<"):
                owners.setdefault(_absolute(block), f"{kind} {block.name!r}")
    return owners


def _absolute(block: Any) -> str:
    # A library that another one links is relative to that one.
    library = block.parent if isinstance(block, bpy.types.Library) else block.library
    return os.path.normpath(bpy.path.abspath(block.filepath, library=library))


def _expanded(scene: bpy.types.Scene) -> dict[str, list[str]]:
    """Absolute path -> the files it stands for: the tiles of a tiled image, a frame of a sequence."""
    expanded: dict[str, list[str]] = {}
    for image in bpy.data.images:
        path = _absolute(image)
        if image.source == "TILED" and any(token in path for token in TOKENS):
            expanded[path] = [file for file in _tiles(image, path) if Path(file).is_file()] or [path]
        elif image.source == "SEQUENCE":
            expanded[path] = []
    for image, user in _image_users():
        if image.source == "SEQUENCE":
            path = _absolute(image)
            file = frame_file(path, sequence_frame(user, scene.frame_current))
            if file not in expanded[path]:
                expanded[path].append(file)
    # A sequence that is used in a way not known here: at least the file that it names.
    return {path: files or [path] for path, files in expanded.items()}


def _tiles(image: bpy.types.Image, path: str) -> Iterator[str]:
    for tile in image.tiles:
        u, v = (tile.number - 1001) % 10 + 1, (tile.number - 1001) // 10 + 1
        yield path.replace("<UDIM>", str(tile.number)).replace("<UVTILE>", f"u{u}_v{v}")


def _image_users() -> Iterator[tuple[bpy.types.Image, bpy.types.ImageUser]]:
    blocks = (*bpy.data.materials, *bpy.data.worlds, *bpy.data.lights)
    trees = [block.node_tree for block in blocks if block.node_tree]
    for tree in (*trees, *bpy.data.node_groups):
        for node in tree.nodes:
            if (
                isinstance(node, (bpy.types.ShaderNodeTexImage, bpy.types.ShaderNodeTexEnvironment))
                and node.image
            ):
                yield node.image, node.image_user
    for item in bpy.data.objects:
        if item.type == "EMPTY" and isinstance(item.data, bpy.types.Image):
            yield item.data, item.image_user


def sequence_frame(user: bpy.types.ImageUser, frame: int) -> int:
    """The number of the file that Blender reads at `frame` (BKE_image_user_frame_get)."""
    length = user.frame_duration
    position = frame - user.frame_start + 1
    if user.use_cyclic and length > 0:
        position = (position - 1) % length + 1
    return max(1, min(position, length)) + user.frame_offset


def frame_file(path: str, number: int) -> str:
    """`path` with its last run of digits replaced by `number`, as wide as it was."""
    stem = Path(path).stem
    end = len(stem)
    while end and not stem[end - 1].isdigit():
        end -= 1
    start = end
    while start and stem[start - 1].isdigit():
        start -= 1
    if start == end:
        return path
    return str(Path(path).with_stem(f"{stem[:start]}{number:0{end - start}}{stem[end:]}"))
