"""Which files a job needs on a node."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .job import SceneFile
from .worker.paths import mirrored

UNSAVED = "untitled.blend"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file that a scene names."""

    path: str
    """Absolute path on this computer."""
    name: str
    """The path under which the node's Blender will ask for it."""
    owner: str
    """Who wants it, in words."""


def snapshot_path(blend: str) -> str:
    """Where the snapshot of the .blend at absolute path `blend` stands below a worker's root."""
    return mirrored(blend) if blend else UNSAVED


def scene_files(wanted: Iterable[Wanted]) -> tuple[tuple[SceneFile, ...], tuple[Wanted, ...]]:
    """Split what a scene names into files to send, each once, and those that do not exist."""
    found: dict[str, SceneFile] = {}
    missing: dict[str, Wanted] = {}
    for want in wanted:
        if Path(want.path).is_file():
            place = mirrored(os.path.normpath(want.name))
            found.setdefault(place, SceneFile(source=str(Path(want.path).absolute()), path=place))
        else:
            missing.setdefault(want.path, want)
    return tuple(found.values()), tuple(missing.values())
