"""Beginning and ending a render: what the button and the command line have in common."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import bpy

from ..engine.job import EngineError, JobError, MissingFiles, Node
from ..engine.store import JobStore, newest_resumable, unused_folder
from . import addon, output, running, snapshot

if TYPE_CHECKING:
    from ..engine.access import Access


def new_job(
    scene: bpy.types.Scene,
    view_layer: str,
    nodes: list[Node],
    *,
    access: Access | None,
    wishes: snapshot.Wishes,
    can_ask: bool,
    folder: Path | None = None,
    is_strict: bool = False,
) -> running.Running:
    """Freeze the scene into a new job folder and start rendering it.

    Raises EngineError; among them, if `is_strict`, MissingFiles.
    """
    if not nodes:
        raise JobError(
            "No node can take part.", "Enable This Computer or another node in the extension's preferences."
        )
    taken = snapshot.take(scene, view_layer, wishes, workers=len(nodes))
    if taken.missing and is_strict:
        raise MissingFiles(taken.missing)
    store = JobStore.create(folder or unused_folder(addon.jobs_folder(), bpy.data.filepath), taken.job)
    try:
        snapshot.save(store)
    except EngineError:
        store.close()
        raise
    started = running.begin(taken.job, store, nodes, access=access, can_ask=can_ask)
    for text in (*taken.warnings, *taken.missing):
        running.say(text, "WARNING")
    return started


def old_job(
    nodes: list[Node], *, access: Access | None, can_ask: bool, folder: Path | None = None
) -> running.Running:
    """Go on with an interrupted job: that in `folder`, or the newest of this .blend. Raises EngineError."""
    store = JobStore.open(folder) if folder else newest_resumable(addon.jobs_folder(), bpy.data.filepath)
    if store is None:
        name = bpy.data.filepath or "a file that was never saved"
        raise JobError(f"There is no interrupted render of {name}.", "Start a new one.")
    needed, here = store.job.blender_version, tuple(bpy.app.version)
    if needed[:2] != here[:2]:
        store.close()
        raise JobError(
            f"That render was begun in Blender {'.'.join(map(str, needed))}.",
            "Resume it there: other versions compute other pixels.",
        )
    scene = bpy.data.scenes.get(store.job.scene)
    try:
        if scene is None:
            raise JobError(
                f"That render was of the scene {store.job.scene!r}, which is gone.", "Start a new one."
            )
        output.check_writable(scene)
    except JobError:
        store.close()
        raise
    return running.begin(store.job, store, nodes, access=access, can_ask=can_ask)
