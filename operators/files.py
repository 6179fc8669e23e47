"""Which files beside the .blend a frame needs, and which of them are missing."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy

from ..engine import usd
from ..engine.assets import Wanted, scene_files
from ..engine.job import SceneFile
from ..engine.worker import blocks
from ..engine.worker.paths import is_absolute
from . import caches, ocio, sequences, textures
from .image import OWN_IMAGES

NOT_RENDERED = (bpy.types.Scene, bpy.types.Screen, bpy.types.Brush, bpy.types.WorkSpace)
"""Datablocks whose own use of an image or a sound no tile shows: the compositor and the sequencer
work on this computer."""
_INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)


@dataclass(frozen=True)
class Found:
    """What a scene needs beside its .blend."""

    files: tuple[SceneFile, ...]
    missing: tuple[str, ...]
    """A line for each missing file, which names who wants it."""


def find(scene: bpy.types.Scene) -> Found:
    """Look at the disk for all that this frame of `scene` needs."""
    files, missing = scene_files(_wanted(scene))
    return Found(files, tuple(f"Missing file: {want.path}, wanted by {want.owner}." for want in missing))


def _wanted(scene: bpy.types.Scene) -> Iterator[Wanted]:
    frame = scene.frame_current
    # Brushes that Blender brings along are linked from its own folder; so every node has them.
    blenders_own = Path(bpy.utils.system_resource("DATAFILES"))
    for library in bpy.data.libraries:
        path = absolute(library.filepath)
        # One that is an archive only holds what is packed from it (Blender 5.0 and later).
        is_elsewhere = library.packed_file is None and not getattr(library, "is_archive", False)
        if is_elsewhere and blenders_own not in Path(path).parents:
            yield from _placed(library.filepath, [path], path, f"library {library.name!r}")
    for path in ocio.files():
        yield Wanted(path, path, ocio.OWNER)
    unused = _not_rendered()
    users = sequences.image_users()
    for found in blocks.file_paths():
        block = found.block
        if block in unused or (block.library and blenders_own in _parents(block.library)):
            continue
        path = absolute(found.text, block.library)
        for want in _placed(found.text, _files_of(found, path, users, frame), path, found.kind):
            yield want
            if isinstance(found.owner, bpy.types.Image):
                for file, place in textures.prepared(scene, want.path):
                    yield Wanted(file, place, found.kind)
    for words, block, cache in blocks.point_caches():
        if cache.use_disk_cache and not cache.use_external and bpy.data.filepath:
            folder = caches.beside_blend(_blend_of(block))
            for path in caches.of_points(cache, block, folder, frame):
                yield Wanted(path, path, words)
    yield from _bakes_beside(bpy.data.filepath)
    for library in bpy.data.libraries:
        yield from _bakes_beside(absolute(library.filepath))


def _bakes_beside(blend: str) -> Iterator[Wanted]:
    """Bakes of geometry nodes whose place is left to Blender stand in folders of their own."""
    folder = caches.beside_blend(blend) if blend else ""
    if folder and Path(folder).is_dir():
        for inner in sorted(Path(folder).iterdir()):
            for path in caches.of_bake(str(inner)) if inner.is_dir() else ():
                yield Wanted(path, path, f"a bake in {inner}")


def _files_of(
    found: blocks.FilePath, path: str, users: dict[Any, list[bpy.types.ImageUser]], frame: int
) -> list[str]:
    """The files that a path stands for at `frame`; none where Blender opens none."""
    owner = found.owner
    match owner:
        case bpy.types.Image():
            if owner.packed_file or owner.packed_files or owner.source in {"GENERATED", "VIEWER"}:
                return []
            return sequences.of_image(owner, users.get(owner, []), path, frame)
        case bpy.types.VectorFont():
            return [] if owner.packed_file or owner.filepath.startswith("<") else [path]
        case bpy.types.Sound():
            return [] if owner.packed_file else [path]
        case bpy.types.Volume():
            return [] if owner.packed_file else sequences.of_volume(owner, path, frame)
        case bpy.types.CacheFile():
            read = sequences.of_cache_file(owner, path, frame)
            return (
                [file for first in read for file in usd.layers(first)]
                if path.lower().endswith(usd.LAYERS)
                else read
            )
        case bpy.types.OceanModifier():
            return caches.of_ocean(owner, path, frame)
        case bpy.types.FluidDomainSettings():
            return caches.of_fluid(path, frame)
        case bpy.types.NodesModifier() | bpy.types.NodesModifierBake() if found.name in blocks.BAKES:
            return caches.of_bake(path)
        case bpy.types.PointCache():
            return caches.of_points(owner, found.block, path, frame)
        case bpy.types.ShaderNodeScript():
            return _with_includes(path) if owner.mode == "EXTERNAL" else []
        case bpy.types.ShaderNodeTexIES():
            return [path] if owner.mode == "EXTERNAL" else []
        case bpy.types.Camera():
            return _with_includes(path) if owner.type == "CUSTOM" and owner.custom_mode == "EXTERNAL" else []
    return [path]


def _with_includes(path: str) -> list[str]:
    """An OSL script, and the files that it includes."""
    files = [path]
    for file in files:
        try:
            text = (
                Path(file).read_text(encoding="utf-8", errors="replace")
                if file.endswith((".osl", ".h"))
                else ""
            )
        except OSError:
            continue
        for name in _INCLUDE.findall(text):
            included = str(Path(file).parent / name)
            # Blender's own headers stand elsewhere, in every installation.
            if included not in files and (Path(included).is_file() or not _is_blenders_header(name)):
                files.append(included)
    return files


def _is_blenders_header(name: str) -> bool:
    cycles = sys.modules.get("cycles")
    return cycles is not None and Path(str(cycles.__file__)).with_name("shader").joinpath(name).is_file()


def _placed(text: str, files: list[str], path: str, owner: str) -> Iterator[Wanted]:
    """Each file with the place where the node's Blender will look for it.

    That follows from the text in the .blend where it is absolute: the worker knows nothing else.
    """
    for file in files:
        is_same_folder = is_absolute(text) and Path(file).parent == Path(path).parent
        if is_same_folder and "\\" in text and os.name != "nt":
            # A path of Windows, which Blender here has understood in its own way.
            yield Wanted(file, text[: text.rfind("\\") + 1] + Path(file).name, owner)
        else:
            yield Wanted(file, file, owner)


def _not_rendered() -> set[Any]:
    """Images and sounds that nothing uses which a tile could show."""
    blocks_ = {*bpy.data.images, *bpy.data.sounds}
    unused = set()
    for block, users in bpy.data.user_map(subset=blocks_).items():
        if block.name in OWN_IMAGES or all(_is_not_rendered(user) for user in users):
            unused.add(block)
    return unused


def _is_not_rendered(user: bpy.types.ID) -> bool:
    return isinstance(user, NOT_RENDERED) or getattr(user, "bl_idname", "") == "CompositorNodeTree"


def _blend_of(block: Any) -> str:
    library = block.library
    return absolute(library.filepath) if library else str(bpy.data.filepath)


def _parents(library: bpy.types.Library) -> tuple[Path, ...]:
    return tuple(Path(absolute(library.filepath)).parents)


def absolute(text: str, library: bpy.types.Library | None = None) -> str:
    """A path of a .blend as a whole path of this computer, `..` left as it is where a link may be
    before it. What a library names is relative to that library, but for other libraries: their
    paths Blender makes relative to the .blend that is open."""
    if not text.startswith("//"):
        return text
    if os.name != "nt":
        text = text.replace("\\", "/")  # as old files from Windows have it, and as Blender reads it
    start = os.path.dirname(absolute(library.filepath) if library else bpy.data.filepath)  # noqa: PTH120 - not normalised
    whole = os.path.join(start, text[2:])  # noqa: PTH118 - the same
    return whole if os.path.lexists(whole) else os.path.normpath(whole)
