"""From "render this" to a session that can be started; the same for window and command line."""

from __future__ import annotations

from pathlib import Path

import bpy

from ..engine.job import JobError, Node
from ..engine.session import RenderSession
from ..engine.store import JobStore, newest_resumable, unused_folder
from . import addon, snapshot
from .running import Running


def jobs_folder() -> Path:
    return addon.folder("jobs")


def resumable(folder: Path | None = None) -> JobStore | None:
    """The interrupted job in `folder`, or the newest one of the open .blend; opened.

    Raises StoreError where `folder` is given and holds none.
    """
    if folder is not None:
        return JobStore.open(folder)
    return newest_resumable(jobs_folder(), bpy.data.filepath)


def new(
    scene: bpy.types.Scene,
    nodes: list[Node],
    access: addon.Access,
    *,
    tile_size: int,
    can_ask: bool,
    folder: Path | None = None,
) -> Running:
    """Snapshot the scene and make ready to render it on `nodes`. Raises EngineError."""
    if not nodes:
        raise JobError("No node is enabled.", "Enable This Computer or another node in the preferences.")
    addon.check_online(nodes)
    output = snapshot.check_output(scene, scene.frame_current)
    taken = snapshot.take(scene, tile_size=tile_size, workers=len(nodes))
    folder = folder or unused_folder(jobs_folder(), taken.job.source)
    store, lost = snapshot.save(taken, folder)
    return _ready(store, nodes, access, output, [*taken.warnings, *lost], can_ask)


def again(
    store: JobStore, scene: bpy.types.Scene, nodes: list[Node], access: addon.Access, *, can_ask: bool
) -> Running:
    """Make ready to go on with an interrupted job. Raises EngineError."""
    try:
        addon.check_online(nodes)
        if store.job.blender_version[:2] != bpy.app.version[:2]:
            wanted = ".".join(map(str, store.job.blender_version))
            raise JobError(f"The interrupted render was begun with Blender {wanted}.", "Resume it with that one.")
        output = snapshot.check_output(scene, store.job.frame)
        return _ready(store, nodes, access, output, snapshot.notes(scene), can_ask)
    except JobError:
        store.close()
        raise


def _ready(
    store: JobStore,
    nodes: list[Node],
    access: addon.Access,
    output: Path,
    warnings: list[str],
    can_ask: bool,
) -> Running:
    session = RenderSession(
        store.job, nodes, store, access=access, local_blender=addon.local_blender(), can_ask=can_ask
    )
    return Running(session, store, output, warnings)
