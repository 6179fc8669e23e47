"""From Blender's scene to the engine's job: what is rendered, of what files, and what to warn of."""

from __future__ import annotations

import datetime
import glob
import os
import re
import sys
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import bpy

from ..engine import exactness
from ..engine.assets import scene_files, snapshot_path
from ..engine.job import Job, JobError, Rect, SceneFile
from ..engine.store import JobStore
from ..engine.tiling import auto_tile_size
from ..engine.worker.paths import mirrored


@dataclass(frozen=True)
class Snapshot:
    """A job, and what a person should know before it is rendered."""

    job: Job
    warnings: tuple[str, ...]


def check(scene: bpy.types.Scene) -> None:
    """Raise JobError where the scene cannot be rendered distributed, with the reason."""
    if scene.render.engine != "CYCLES":
        raise JobError("The render engine is not Cycles.", "Choose Cycles in the Render properties.")
    if scene.camera is None:
        raise JobError("The scene has no camera.", "Add one, or make one the scene's active camera.")
    if scene.render.use_multiview:
        raise JobError(
            "Stereoscopy renders several views at once, which cannot be distributed yet.",
            "Switch Stereoscopy off in the Output properties.",
        )
    if scene.cycles.time_limit > 0:
        raise JobError(
            "A Time Limit would be spent on each tile anew, and the tiles would not fit together.",
            "Set Sampling > Time Limit to 0.",
        )
    if not any(layer.use for layer in scene.view_layers):
        raise JobError("No view layer is used for rendering.", "Enable Use for Rendering in one.")
    if scene.render.is_movie_format:
        raise JobError("The output format is a movie.", "Choose an image format in the Output properties.")


def check_output(scene: bpy.types.Scene, frame: int) -> Path:
    """The path the picture will have. Raise JobError where it could not be written there."""
    path = Path(bpy.path.abspath(scene.render.frame_path(frame=frame)))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JobError(
            f"The output folder {path.parent} cannot be made ({error.strerror}).", "Choose another output path."
        ) from None
    if not os.access(path.parent, os.W_OK) or path.is_dir():
        raise JobError(f"The output {path} cannot be written.", "Choose another output path.")
    return path


def overscan(scene: bpy.types.Scene) -> int:
    """The margin in pixels that makes this scene's tiles exact."""
    return exactness.overscan(
        adaptive=scene.cycles.use_adaptive_sampling,
        volumes=_may_have_volumes(),
        volume_biased=getattr(scene.cycles, "volume_biased", False),
        blender_version=bpy.app.version,
    )


def _may_have_volumes() -> bool:
    """Whether anything could be a volume. A margin too many costs little, one too few exactness."""
    if any(block.type == "VOLUME" for block in bpy.data.objects):
        return True
    owners = [*bpy.data.materials, *bpy.data.worlds]
    trees = [owner.node_tree for owner in owners if owner.node_tree] + list(bpy.data.node_groups)
    return any("VOLUME" in node.type or "Volume" in node.bl_idname for tree in trees for node in tree.nodes)


def notes(scene: bpy.types.Scene) -> list[str]:
    """What would make the picture differ from F12's."""
    found = []
    if scene.cycles.use_denoising:
        found.append("Denoising: this version returns the frame before denoising, with the data for it.")
    if getattr(scene.cycles, "use_guiding", False):
        found.append("Path guiding learns from its own samples: tiles will differ from F12 in their noise.")
    if scene.render.use_sequencer and scene.sequence_editor and _strips(scene):
        found.append("The sequencer is left out: the picture is the scene's own.")
    return found


def _strips(scene: bpy.types.Scene) -> bool:
    editor = scene.sequence_editor
    return bool(len(editor.strips if hasattr(editor, "strips") else editor.sequences))


def take(scene: bpy.types.Scene, *, tile_size: int, workers: int) -> Snapshot:
    """Describe the scene as it is now; `tile_size` 0 chooses one for so many `workers`.

    Nothing is written yet. Raises JobError.
    """
    check(scene)
    render = scene.render
    width = render.resolution_x * render.resolution_percentage // 100
    height = render.resolution_y * render.resolution_percentage // 100
    region = _region(render, width, height)
    margin = overscan(scene)
    files, missing = scene_files(_paths())
    warnings = notes(scene) + [f"{_owner(path)} is missing: {path}" for path in missing]
    job = Job(
        id=uuid.uuid4().hex,
        source=bpy.data.filepath,
        blend=snapshot_path(bpy.data.filepath),
        scene=scene.name,
        frame=scene.frame_current,
        subframe=scene.frame_subframe,
        width=width,
        height=height,
        region=region,
        use_crop=render.use_border and render.use_crop_to_border,
        overscan=margin,
        tile_size=tile_size or auto_tile_size(region, workers, margin),
        blender_version=bpy.app.version,
        view_layer=next(layer.name for layer in scene.view_layers if layer.use),
        use_denoising_data=scene.cycles.use_denoising,
        use_scripts=_runs_scripts(),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        files=files,
    )
    return Snapshot(job, tuple(warnings))


def save(snapshot: Snapshot, folder: Path) -> tuple[JobStore, tuple[str, ...]]:
    """Make the job folder with the scene as it is at this moment; further warnings come with it.

    The user's file, undo steps and modified mark stay as they are. Raises StoreError.
    """
    changed = [image for image in bpy.data.images if image.is_dirty and not image.packed_file]
    painted = [image for image in changed if image.source == "FILE" and image.filepath]
    places = [
        SceneFile(str(folder / "images" / f"{number}{Path(image.filepath).suffix}"), mirrored(_absolute(image)))
        for number, image in enumerate(painted)
    ]
    replaced = {file.path for file in places}
    files = tuple(file for file in snapshot.job.files if file.path not in replaced)
    store = JobStore.create(folder, replace(snapshot.job, files=(*files, *places)))
    for image, place in zip(painted, places, strict=True):
        Path(place.source).parent.mkdir(mode=0o700, exist_ok=True)
        image.save(filepath=place.source, save_copy=True)
    bpy.ops.wm.save_as_mainfile(filepath=str(store.snapshot), copy=True, relative_remap=False, check_existing=False)
    lost = [image.name for image in changed if image not in painted]
    return store, tuple(f"Unsaved changes of image {name!r} are not rendered: save or pack it." for name in lost)


def _region(render: bpy.types.RenderSettings, width: int, height: int) -> Rect:
    if not render.use_border:
        return Rect(0, 0, width, height)
    # Truncated, as Blender does with its own render border.
    left, right = int(render.border_min_x * width), int(render.border_max_x * width)
    bottom, top = int(render.border_min_y * height), int(render.border_max_y * height)
    if right <= left or top <= bottom:
        raise JobError("The render region is empty.", "Clear it (Ctrl Alt B), or draw it larger.")
    return Rect(left, bottom, right - left, top - bottom)


def _runs_scripts() -> bool:
    """Whether scripts in the file run in this Blender: by preference or by command line."""
    last = [word for word in sys.argv if word in ("-y", "--enable-autoexec", "-Y", "--disable-autoexec")]
    if last:
        return last[-1] in ("-y", "--enable-autoexec")
    return bool(bpy.context.preferences.filepaths.use_scripts_auto_execute)


def _absolute(block: bpy.types.ID) -> str:
    return os.path.normpath(bpy.path.abspath(block.filepath, library=block.library))


def _paths() -> Iterable[str]:
    """Absolute paths of all external files that Blender names, sequences and UDIM sets whole."""
    sequences = {_absolute(image) for image in bpy.data.images if image.source in ("SEQUENCE", "TILED")}
    for path in bpy.utils.blend_paths(absolute=True, packed=False, local=False):
        absolute = os.path.normpath(path)
        if absolute in sequences or "<UDIM>" in absolute or "<UVTILE>" in absolute:
            yield from _expanded(absolute) or [absolute]
        elif not os.path.isdir(absolute):
            yield absolute


def _expanded(path: str) -> list[str]:
    head, name = os.path.split(path)
    for token, pattern in (("<UDIM>", "[0-9]" * 4), ("<UVTILE>", "u*_v*")):
        if token in name:
            before, _, after = name.partition(token)
            return glob.glob(os.path.join(glob.escape(head), glob.escape(before) + pattern + glob.escape(after)))
    digits = re.search(r"\d+(?=\D*$)", name)
    if digits is None:
        return []
    before, after = name[: digits.start()], name[digits.end() :]
    return glob.glob(os.path.join(glob.escape(head), glob.escape(before) + "[0-9]*" + glob.escape(after)))


def _owner(path: str) -> str:
    """The datablock that wants a file, in words."""
    for collection in ("images", "libraries", "fonts", "sounds", "movieclips", "volumes", "cache_files"):
        for block in getattr(bpy.data, collection):
            if block.filepath and _absolute(block) == path:
                kind = block.bl_rna.name
                return f"The file of {kind} {block.name!r}"
    return "A file"
