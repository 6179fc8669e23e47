"""The merged frame becomes Blender's own Render Result: composited, with every pass, and saved.

Blender takes pixels for a Render Result only from a render engine. So the scene gets, for a
moment, an engine that renders nothing and hands over the finished frame; all that follows a
render (compositor, handlers, file output) is Blender's own doing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, ClassVar

import bpy

from ..engine import exr
from ..engine.job import EngineError, Job
from ..engine.tiling import border
from . import output, snapshot

STAMPED = ("cycles.", "cryptomatte/")
PASS_TYPES = {"RGBA": "COLOR", "RGB": "COLOR", "XYZ": "VECTOR", "XYZW": "VECTOR"}


class DistributedCyclesResultEngine(bpy.types.RenderEngine):
    """Hands over a frame that is already rendered."""

    # Not longer than CYCLES: the rest of a longer name stays behind it in the .blend, and an unchanged
    # scene would look changed.
    bl_idname = "DCYCLE"
    bl_label = "Distributed Cycles Result"
    bl_use_postprocess = True
    bl_use_exclude_layers = True

    frame: ClassVar[Path] = Path()
    passes: ClassVar[list[tuple[str, str, str]]] = []
    stamps: ClassVar[dict[str, str]] = {}
    """Attributes of the frame that Blender does not set itself: Cryptomatte manifests, sample counts."""
    error: ClassVar[str] = ""

    def update_render_passes(self, scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer) -> None:
        """Declare the passes for which the compositor's Render Layers node gets sockets."""
        for layer, name, channels in self.passes:
            if layer == view_layer.name:
                self.register_pass(scene, view_layer, name, len(channels), channels, _type(channels))

    def render(self, depsgraph: bpy.types.Depsgraph) -> None:
        """Called by Blender once per view layer."""
        wanted = depsgraph.view_layer_eval.name
        for layer, name, channels in self.passes:
            if layer == wanted and name != "Combined":
                self.add_pass(name, len(channels), channels, layer=layer)
        width, height = self.resolution_x, self.resolution_y
        result = self.begin_result(0, 0, width, height, layer=wanted)
        try:
            result.load_from_file(str(self.frame))
        except RuntimeError as error:
            # An exception here would only be printed.
            type(self).error = str(error).strip()
        self.end_result(result)
        for name, value in self.stamps.items():
            self.get_result().stamp_data_add_field(name, value)


def _type(channels: str) -> str:
    return PASS_TYPES.get(channels, "VALUE" if len(channels) == 1 else "COLOR")


def finish(job: Job, frame: Path) -> str:
    """Make the file `frame` the Render Result of the job's scene, and save the picture.

    Returns the path of the picture. The scene's settings are as before afterwards, whatever
    happens. Raises EngineError; the frame itself stays in the job folder.
    """
    where = f"The frame with all its passes is in {frame}."
    scene = bpy.data.scenes.get(job.scene)
    if scene is None:
        raise EngineError(f"The scene {job.scene!r} is gone.", where)
    target = output.still_path(scene, job.frame)
    before = _stamp(target)
    engine = DistributedCyclesResultEngine
    engine.frame, engine.passes, engine.error = frame, exr.passes_of(frame), ""
    engine.stamps = _stamps(frame)
    try:
        with _engine_registered(), _as_job(scene, job, target):
            bpy.ops.render.render(write_still=True, scene=scene.name)
    except RuntimeError as error:
        raise EngineError(f"The picture could not be saved: {_words(error)}.", where) from None
    if engine.error:
        raise EngineError(f"The frame could not be read back: {engine.error}.", where)
    if _stamp(target) == before:
        raise EngineError(f"Blender has written no file {target}.", where)
    return target


def _stamps(frame: Path) -> dict[str, str]:
    texts = {name: value for name, (kind, value) in exr.read_header(frame).items() if kind == "string"}
    return {name: value.decode(errors="replace") for name, value in texts.items() if name.startswith(STAMPED)}


def _stamp(path: str) -> tuple[int, int] | None:
    """What tells a file that was written just now from the one that was there before."""
    try:
        state = Path(path).stat()
    except OSError:
        return None
    return state.st_mtime_ns, state.st_ino


def _words(error: RuntimeError) -> str:
    return str(error).removeprefix("Error: ").strip().rstrip(".")


@contextmanager
def _engine_registered() -> Iterator[None]:
    # Only for this moment, so that nobody finds it in the list of render engines.
    bpy.utils.register_class(DistributedCyclesResultEngine)
    try:
        yield
    finally:
        bpy.utils.unregister_class(DistributedCyclesResultEngine)


@contextmanager
def _as_job(scene: bpy.types.Scene, job: Job, path: str) -> Iterator[None]:
    """The scene with the job's size and frame; it may have been changed since the job began."""
    with ExitStack() as restore:

        def put(owner: Any, name: str, value: Any) -> None:
            before = getattr(owner, name)
            if before != value:
                restore.callback(setattr, owner, name, before)
                setattr(owner, name, value)

        render = scene.render
        # First, and so restored last: Cycles' own settings are never touched by the rest.
        put(render, "engine", DistributedCyclesResultEngine.bl_idname)
        if (scene.frame_current, scene.frame_subframe) != (job.frame, job.subframe):
            restore.callback(scene.frame_set, scene.frame_current, subframe=scene.frame_subframe)
            scene.frame_set(job.frame, subframe=job.subframe)
        if snapshot.size_of(scene) != (job.width, job.height):
            put(render, "resolution_percentage", 100)
            put(render, "resolution_x", job.width)
            put(render, "resolution_y", job.height)
        # Without a crop the file is the whole frame.
        put(render, "use_border", job.use_crop)
        if job.use_crop:
            put(render, "use_crop_to_border", True)
            edges = border(job.region, job.width, job.height)
            for name, edge in zip(("min_x", "max_x", "min_y", "max_y"), edges, strict=True):
                put(render, f"border_{name}", edge)
        # A job is of the camera's picture; strips may have been added since.
        put(render, "use_sequencer", False)
        put(render, "filepath", path)
        put(render, "use_overwrite", True)
        put(render, "use_placeholder", False)
        yield
