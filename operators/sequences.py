"""Which file of a numbered set is read at a frame, by the rules of each kind of datablock."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import bpy

TOKENS = ("<UDIM>", "<UVTILE>")


def frame_file(path: str, number: int) -> str:
    """`path` with its last run of digits replaced by `number`, as wide as it was."""
    folder, name = path[: -len(Path(path).name)], Path(path).name
    found = re.match(r"(.*?)(\d+)(\D*)$", Path(name).stem)
    if not found:
        return path
    # The last run of digits: what is before it may hold others.
    head, digits, tail = found.groups()
    return f"{folder}{head}{number:0{len(digits)}}{tail}{Path(name).suffix}"


def of_image(image: bpy.types.Image, users: list[bpy.types.ImageUser], path: str, frame: int) -> list[str]:
    """The files that `image` reads: its tiles, or one for each of its users."""
    if image.source == "TILED" and any(token in path for token in TOKENS):
        return list(_tiles(image, path))
    if image.source == "SEQUENCE":
        # Used in a way that is not known here: at least the file that it names.
        files = [frame_file(path, sequence_frame(user, frame)) for user in users] or [path]
        return list(dict.fromkeys(files))
    return [path]


def _tiles(image: bpy.types.Image, path: str) -> Iterator[str]:
    for tile in image.tiles:
        u, v = (tile.number - 1001) % 10 + 1, (tile.number - 1001) // 10 + 1
        yield path.replace("<UDIM>", str(tile.number)).replace("<UVTILE>", f"u{u}_v{v}")


def sequence_frame(user: bpy.types.ImageUser, frame: int) -> int:
    """The number of the file that Blender reads at `frame` (BKE_image_user_frame_get)."""
    length = user.frame_duration
    position = frame - user.frame_start + 1
    if user.use_cyclic and length > 0:
        position = (position - 1) % length + 1
    return max(1, min(position, length)) + user.frame_offset


def image_users() -> dict[bpy.types.Image, list[bpy.types.ImageUser]]:
    """Who reads an image, each with a frame of its own."""
    users: dict[bpy.types.Image, list[bpy.types.ImageUser]] = {}
    blocks = (*bpy.data.materials, *bpy.data.worlds, *bpy.data.lights)
    trees = [block.node_tree for block in blocks if block.node_tree]
    for tree in (*trees, *bpy.data.node_groups):
        for node in tree.nodes:
            if (
                isinstance(node, (bpy.types.ShaderNodeTexImage, bpy.types.ShaderNodeTexEnvironment))
                and node.image
            ):
                users.setdefault(node.image, []).append(node.image_user)
    for item in bpy.data.objects:
        if item.type == "EMPTY" and isinstance(item.data, bpy.types.Image):
            users.setdefault(item.data, []).append(item.image_user)
    return users


def of_volume(volume: bpy.types.Volume, path: str, frame: int) -> list[str]:
    """The file that Blender reads at `frame`; none outside of a clipped sequence (BKE_volume)."""
    if not volume.is_sequence:
        return [path]
    length = volume.frame_duration
    position = frame - volume.frame_start + 1
    if length == 0 or (volume.sequence_mode == "CLIP" and not 1 <= position <= length):
        return []
    if volume.sequence_mode == "REPEAT":
        position = (position - 1) % length + 1
    elif volume.sequence_mode == "PING_PONG":
        turn = max(1, 2 * length - 2)
        position = (position - 1) % turn + 1
        position = 2 * length - position if position > length else position
    position = max(1, min(position, length))
    return [frame_file(path, position + volume.frame_offset)]


def of_cache_file(cache: bpy.types.CacheFile, path: str, frame: int) -> list[str]:
    """The file that Blender reads at `frame` (BKE_cachefile_filepath_get)."""
    if not cache.is_sequence:
        return [path]
    return [frame_file(path, int(cache.frame) if cache.override_frame else frame)]
