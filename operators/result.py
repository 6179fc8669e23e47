"""The merged frame back into Blender: as the Render Result, and saved as the scene says.

A render engine that only reads the merged file fills the real Render Result with every pass.
Blender itself then runs the compositor on it and writes the file, as after F12.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bpy

from ..engine import exr
from ..engine.job import Job, JobError

ENGINE = "DISTRIBUTED_CYCLES_RESULT"


def finish(scene: bpy.types.Scene, job: Job, frame_path: Path, output: Path) -> Path:
    """Fill the Render Result from `frame_path`, composite it, save it; returns the saved path.

    The scene is as it was afterwards, also after an error. Raises JobError where it could
    not be saved.
    """
    before = _stamp(output)
    with _reading_engine(frame_path), _settings(scene, job, output):
        try:
            bpy.ops.render.render(write_still=True, scene=scene.name)
        except RuntimeError as error:
            raise JobError(
                f"The finished frame could not be saved as {output} ({error}).",
                f"It is safe, with every pass, in {frame_path}.",
            ) from None
    if _stamp(output) == before:
        raise JobError(
            f"The finished frame could not be saved as {output}.",
            f"Choose another output path; the frame is safe, with every pass, in {frame_path}.",
        )
    return output


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_mtime_ns, state.st_ino


@contextmanager
def _reading_engine(frame_path: Path) -> Iterator[None]:
    """Registered only while it is needed, so that it does not stand in the list of engines."""
    passes = exr.passes_of(frame_path)

    class ResultEngine(bpy.types.RenderEngine):
        bl_idname = ENGINE
        bl_label = "Distributed Cycles Result"
        bl_use_postprocess = True
        bl_use_shading_nodes_custom = False

        def update_render_passes(self, scene: Any, renderlayer: Any) -> None:
            for layer, name, channels in passes:
                if layer == renderlayer.name:
                    kind = {1: "VALUE", 4: "COLOR"}.get(len(channels), "VECTOR")
                    self.register_pass(scene, renderlayer, name, len(channels), channels, kind)

        def render(self, depsgraph: Any) -> None:
            scale = depsgraph.scene.render
            width, height = _result_size(scale)
            result = self.begin_result(0, 0, width, height)
            for layer in result.layers:
                present = {one.name for one in layer.passes}
                for owner, name, channels in passes:
                    if owner == layer.name and name not in present:
                        self.add_pass(name, len(channels), channels, layer=layer.name)
            result.load_from_file(str(frame_path))
            self.end_result(result)

    bpy.utils.register_class(ResultEngine)
    try:
        yield
    finally:
        bpy.utils.unregister_class(ResultEngine)


def _result_size(render: Any) -> tuple[int, int]:
    width = render.resolution_x * render.resolution_percentage // 100
    height = render.resolution_y * render.resolution_percentage // 100
    if render.use_border:
        left, right = int(render.border_min_x * width), int(render.border_max_x * width)
        bottom, top = int(render.border_min_y * height), int(render.border_max_y * height)
        return right - left, top - bottom
    return width, height


@contextmanager
def _settings(scene: bpy.types.Scene, job: Job, output: Path) -> Iterator[None]:
    """What the result needs and the user did not ask for, for as long as it is needed."""
    render = scene.render
    changes: dict[str, Any] = {"engine": ENGINE, "filepath": str(output), "use_sequencer": False}
    if not job.use_crop:
        changes["use_border"] = False  # The merged frame is whole, empty outside the region.
    before = {name: getattr(render, name) for name in changes}
    try:
        for name, value in changes.items():
            setattr(render, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(render, name, value)
