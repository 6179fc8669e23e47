"""Which files of a cache's folder a frame needs: simulations, oceans, bakes."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bpy

from ..engine.job import JobError

MOST_FILES_PER_FOLDER = 200_000
_NUMBERED = re.compile(r"_(\d{4,6})\.[\w.]+$")


def below(folder: str) -> Iterator[str]:
    """All files of a folder. A home or a root was set by mistake and is not sent."""
    if is_too_wide(folder) or not Path(folder).is_dir():
        return
    for number, path in enumerate(sorted(Path(folder).rglob("*"))):
        if number >= MOST_FILES_PER_FOLDER:
            raise JobError(
                f"The cache folder {folder} holds more than {MOST_FILES_PER_FOLDER:,} files.",
                "Give the cache a folder of its own.",
            )
        if path.is_file():
            yield str(path)


def is_too_wide(folder: str) -> bool:
    """Whether a folder holds so much else that it cannot be a cache."""
    path = Path(os.path.normpath(folder))
    return path in (Path.home(), Path(path.anchor), *Path.home().parents)


def of_fluid(folder: str, frame: int) -> list[str]:
    """Files of the frame and of its neighbours, which motion is computed from, and those without a number.

    What both neighbours have, the frame must have.
    """
    kept, expected = [], []
    files = list(below(folder))
    known = set(files)
    for path in files:
        number = _NUMBERED.search(path)
        if number is None or abs(int(number[1]) - frame) <= 1:
            kept.append(path)
        if number is not None and int(number[1]) == frame - 1:
            now, after = (
                f"{path[: number.start(1)]}{at:0{len(number[1])}}{path[number.end(1) :]}"
                for at in (frame, frame + 1)
            )
            if after in known and now not in known:
                expected.append(now)
    return [*kept, *expected]


def of_ocean(modifier: bpy.types.OceanModifier, folder: str, frame: int) -> list[str]:
    """The pictures of the frame: displacement, and what else was baked. Without a bake none is read."""
    if is_too_wide(folder) or not modifier.is_cached:
        return []
    number = max(modifier.frame_start, min(frame, modifier.frame_end))
    wanted = [
        "disp",
        *(["foam"] if modifier.use_foam else []),
        *(["spray"] if modifier.use_foam and modifier.use_spray else []),
    ]
    expected = [str(Path(folder) / f"{name}_{number:04}.exr") for name in wanted]
    return list(dict.fromkeys([*map(str, sorted(Path(folder).glob(f"*_{number:04}.exr"))), *expected]))


def of_points(cache: Any, block: Any, folder: str, frame: int) -> list[str]:
    """All files of one cache: Blender computes between those that are there.

    The frame's own is among them, also where it is missing, if the cache must hold it.
    """
    name = cache.name or block.name_full.encode("utf-8").hex().upper()
    found = [path for path in below(folder) if Path(path).name.startswith(f"{name}_")]
    is_held = cache.frame_start <= frame <= cache.frame_end and not (frame - cache.frame_start) % max(
        1, cache.frame_step
    )
    if is_held and (cache.is_baked or cache.use_external):
        expected = str(Path(folder) / f"{name}_{frame:06}_{max(0, cache.index):02}.bphys")
        return list(dict.fromkeys([*found, expected]))
    return found


def of_bake(folder: str) -> list[str]:
    """A geometry-nodes bake: all that is there, and what its frames say must be there."""
    found = list(below(folder))
    wanted = []
    for path in found:
        meta = Path(path)
        if meta.parent.name != "meta" or meta.suffix != ".json":
            continue
        try:
            data = json.loads(meta.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        blobs = meta.parent.parent / "blobs"
        wanted += [str(blobs / name) for name in _blobs(data)]
    return list(dict.fromkeys([*found, *wanted]))


def _blobs(data: Any) -> Iterator[str]:
    """Names of the blobs that a frame's description mentions."""
    if isinstance(data, dict):
        name = data.get("name")
        if isinstance(name, str) and re.fullmatch(r"[\w.-]+\.(blob|vdb)", name):
            yield name
        for value in data.values():
            yield from _blobs(value)
    elif isinstance(data, list):
        for value in data:
            yield from _blobs(value)


def beside_blend(blend: str) -> str:
    """The folder of disk caches and bakes of a .blend where nothing else was said."""
    path = Path(blend)
    return str(path.with_name(f"blendcache_{path.stem}"))
