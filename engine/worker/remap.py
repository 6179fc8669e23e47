"""Every path of the open scene pointed below the worker's root. Shipped to the node as source.

Relative paths hold in the mirrored tree as they are. Absolute ones, and relative ones that climb
out of it, get the place where the tree mirrors what they name. Whether it was sent does not matter:
what the user's computer does not have is missing here too, whatever a node has under that
name; and what Blender writes while it renders (disk caches of simulations, compiled OSL scripts) stays
in the job's folder, whatever a .blend from a stranger says.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from typing import Any

from .blocks import file_paths, point_caches
from .paths import is_absolute, mirrored


def remap(root: Path) -> None:
    """Point all paths of the open .blend, which stands below `root`, at their places there."""
    _move_libraries(root)
    for found in file_paths():
        if _is_packed(found.owner) or found.text.startswith("<"):  # as Blender's own font is
            continue
        library = found.block.library
        if library is not None and _is_blenders_own(library):
            continue  # Its brushes: nothing of them renders.
        base = _folder(library)
        if root in (base, *base.parents):
            place = place_of(found.text, base, root)
        else:
            # A library that was not sent, as one that is packed into the .blend: Blender looks beside its own place.
            place = place_of(found.text, (root / mirrored(_path(library))).parent, root, is_elsewhere=True)
        if place is not None:
            found.set(str(place))
    for _, _, cache in point_caches():
        # It becomes part of a file's name. (What Blender kept under it cannot be sent: no file has such a name.)
        if re.search(r"[/\\]", cache.name):
            cache.name = re.sub(r"[/\\]", "_", cache.name)


def place_of(text: str, base: Path, root: Path, *, is_elsewhere: bool = False) -> Path | None:
    """Where a path has to point that stands in a .blend in the folder `base`; None: it may stay as it is.

    With `is_elsewhere` Blender takes that .blend to be in another place than in `base`.
    """
    if not text.startswith("//"):
        if is_absolute(text) and root in Path(posixpath.normpath(text)).parents:
            return None
        return root / mirrored(text)
    parts = text[2:].replace("\\", "/").split("/")
    depth = len(base.relative_to(root).parts)
    for part in parts:
        depth += -1 if part == ".." else 0 if part in ("", ".") else 1
        if depth < 0:
            # `/..` is `/`, so the user's Blender means something in the tree all the same.
            return root / mirrored("/".join((base.relative_to(root).as_posix(), *parts)))
    return base.joinpath(*parts) if is_elsewhere else None


def _move_libraries(root: Path) -> None:
    """Reload the libraries whose paths are absolute from their mirrored places."""
    import bpy

    seen: set[str] = set()
    # A library that is reloaded brings the libraries that it links, with paths of their own.
    while fresh := [library for library in bpy.data.libraries if library.filepath not in seen]:
        for library in fresh:
            seen.add(library.filepath)
            place = place_of(library.filepath, _folder(None), root)
            if place is not None and place.is_file():
                library.filepath = str(place)
                seen.add(library.filepath)
                library.reload()
                break  # The list is another one now.


def _folder(library: Any) -> Path:
    """The folder of a library, or of the .blend itself: what paths in it are relative to.

    A library's own path is relative to the .blend, also where another library links it.
    """
    import bpy

    return Path(os.path.normpath(bpy.data.filepath if library is None else _path(library))).parent


def _path(library: Any) -> str:
    if library.filepath.startswith("//"):
        return str(_folder(None) / library.filepath[2:].replace("\\", "/"))
    return str(library.filepath)


def _is_blenders_own(library: Any) -> bool:
    import bpy

    return Path(bpy.utils.system_resource("DATAFILES")) in Path(os.path.normpath(_path(library))).parents


def _is_packed(owner: Any) -> bool:
    """Setting the path of what is packed makes Blender look for the file."""
    return bool(getattr(owner, "packed_file", None) or getattr(owner, "packed_files", None))
