"""Everything in an open .blend that names a file: the same list on the user's computer, which sends
the files, and on the node, which points absolute paths at them. Shipped to the node as source.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from . import trees

COLLECTIONS = {
    "images": "image",
    "fonts": "font",
    "sounds": "sound",
    "movieclips": "movie clip",
    "volumes": "volume",
    "cache_files": "cache file",
}
"""Kinds of datablocks with a `filepath`, in words. Libraries are apart: they are reloaded."""
TREES = ("materials", "worlds", "lights", "node_groups")
BAKES = ("bake_directory", "directory")
"""Properties of a geometry-nodes modifier and its bakes that are folders; its other paths are files."""
CACHED_MODIFIERS = ("CLOTH", "SOFT_BODY")


class FilePath(NamedTuple):
    """One place in a .blend that holds the path of a file or of a folder."""

    kind: str
    """In words for a person, with the name of the datablock: `image 'Wood'`."""
    block: Any
    """The datablock it belongs to; its library is what a relative path is relative to."""
    owner: Any
    """What has the property: the datablock itself, a modifier, a node, a point cache."""
    name: str
    """Of the property; `["name"]` for an input of a node group."""

    @property
    def text(self) -> str:
        return str(self.owner[self._key] if self._key else getattr(self.owner, self.name))

    def set(self, text: str) -> None:
        if self._key:
            self.owner[self._key] = text
        else:
            setattr(self.owner, self.name, text)

    @property
    def _key(self) -> str:
        return self.name[2:-2] if self.name.startswith("[") else ""


def file_paths() -> Iterator[FilePath]:
    """All that is set, packed files included."""
    return (found for found in _all() if found.text)


def _all() -> Iterator[FilePath]:
    import bpy

    for collection, kind in COLLECTIONS.items():
        for block in getattr(bpy.data, collection):
            words = f"{kind} {block.name!r}"
            yield FilePath(words, block, block, "filepath")
            for layer in getattr(block, "layers", ()) if kind == "cache file" else ():
                yield FilePath(words, block, layer, "filepath")
    for camera in bpy.data.cameras:
        if hasattr(camera, "custom_filepath"):  # later than Blender 4.2: a lens written in OSL
            yield FilePath(f"camera {camera.name!r}", camera, camera, "custom_filepath")
    for collection in TREES:
        for block in getattr(bpy.data, collection):
            tree = block if collection == "node_groups" else block.node_tree
            yield from _of_nodes(block, tree) if tree else ()
    for block in bpy.data.objects:
        yield from _of_object(block)
    for words, block, cache in point_caches():
        if cache.use_external:
            yield FilePath(words, block, cache, "filepath")


def _of_nodes(block: Any, tree: Any) -> Iterator[FilePath]:
    for node, owner, name in trees.of_tree(tree):
        yield FilePath(f"node {node.name!r} of {block.name!r}", block, owner, name)


def _of_object(block: Any) -> Iterator[FilePath]:
    for modifier in block.modifiers:
        words = f"modifier {modifier.name!r} of object {block.name!r}"
        if modifier.type in ("MESH_CACHE", "OCEAN") or (modifier.type == "MULTIRES" and modifier.is_external):
            yield FilePath(words, block, modifier, "filepath")
        elif modifier.type == "NODES":
            yield FilePath(words, block, modifier, "bake_directory")
            for owner, name in trees.of_modifier(modifier):
                yield FilePath(words, block, owner, name)
            for bake in modifier.bakes:
                if bake.use_custom_path:
                    yield FilePath(words, block, bake, "directory")
        elif modifier.type == "FLUID" and modifier.fluid_type == "DOMAIN":
            yield FilePath(words, block, modifier.domain_settings, "cache_directory")


def point_caches() -> Iterator[tuple[str, Any, Any]]:
    """All caches of simulations: whose in words, the datablock, the cache."""
    import bpy

    for block in bpy.data.objects:
        for modifier in block.modifiers:
            words = f"modifier {modifier.name!r} of object {block.name!r}"
            if modifier.type in CACHED_MODIFIERS:
                yield words, block, modifier.point_cache
            elif modifier.type == "DYNAMIC_PAINT" and modifier.canvas_settings is not None:
                for surface in modifier.canvas_settings.canvas_surfaces:
                    yield words, block, surface.point_cache
        for system in block.particle_systems:
            yield f"particles {system.name!r} of object {block.name!r}", block, system.point_cache
    for scene in bpy.data.scenes:
        if scene.rigidbody_world is not None:
            yield f"scene {scene.name!r}", scene, scene.rigidbody_world.point_cache
