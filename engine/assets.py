"""Which files a job needs on a node."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from .job import SceneFile
from .worker.paths import mirrored

UNSAVED = "untitled.blend"


def snapshot_path(blend: str) -> str:
    """Where the snapshot of the .blend at absolute path `blend` stands below a worker's root."""
    return mirrored(blend) if blend else UNSAVED


def scene_files(paths: Iterable[str]) -> tuple[tuple[SceneFile, ...], tuple[str, ...]]:
    """Split absolute paths into files to send, each once, and those that do not exist."""
    found: dict[str, SceneFile] = {}
    missing = []
    for path in paths:
        if Path(path).is_file():
            place = mirrored(path)
            found.setdefault(place, SceneFile(source=path, path=place))
        else:
            missing.append(path)
    return tuple(found.values()), tuple(dict.fromkeys(missing))
