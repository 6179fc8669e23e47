"""From the open scene to a job: what is checked, what is frozen, what is saved."""

from __future__ import annotations

import datetime
import sys
import uuid
from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np

from ..engine import exactness, tiling
from ..engine.assets import snapshot_path
from ..engine.job import Job, JobError, Rect
from ..engine.store import JobStore
from ..engine.worker.paths import mirrored
from . import denoising, files, ocio, output, pixels, splitting, textures
from .image import OWN_IMAGES, working_space

AUTO_MARGIN = -1


@dataclass(frozen=True)
class Snapshot:
    """A job and what belongs to it before its folder is made."""

    job: Job
    warnings: tuple[str, ...]
    missing: tuple[str, ...] = ()
    """A line for each file that the scene needs and that does not exist."""


def check(scene: bpy.types.Scene) -> None:
    """Raise JobError where this scene cannot be rendered in tiles, or not be saved afterwards."""
    check_settings(scene)
    output.check_writable(scene)


def check_settings(scene: bpy.types.Scene) -> None:
    """The same as far as the scene alone tells; quick enough to be asked whenever a panel is drawn."""
    render = scene.render
    if render.engine != "CYCLES":
        raise JobError(f"The scene {scene.name!r} is not rendered by Cycles.", "Set Render Engine to Cycles.")
    if scene.camera is None:
        raise JobError(f"The scene {scene.name!r} has no camera.", "Add one, and make it the scene's camera.")
    if not any(layer.use for layer in scene.view_layers):
        raise JobError("No view layer is enabled.", "Enable Use for Rendering in View Layer properties.")
    if render.use_multiview:
        raise JobError(
            "Stereoscopy (multi-view) cannot be rendered in tiles.", "Disable it in Output properties."
        )
    if scene.cycles.time_limit > 0:
        raise JobError(
            f"The scene's Time Limit of {scene.cycles.time_limit:g} s would be spent on each tile anew.",
            "Set it to 0 in Render properties > Sampling; the noise threshold bounds the time as well.",
        )
    if render.use_freestyle:
        raise JobError(
            "Freestyle lines cannot be rendered in tiles.", "Disable Freestyle in Render properties."
        )
    if render.is_movie_format:
        raise JobError(
            f"The output format {render.image_settings.file_format} is for movies, this is a still.",
            "Choose an image format in Output properties.",
        )
    if render.use_sequencer and _has_pictures(scene.sequence_editor):
        raise JobError(
            "The Video Sequencer has strips: F12 would save what they show, not the camera's picture.",
            "Disable Sequencer in Output properties > Post Processing, or render the strip's own scene.",
        )


def _has_pictures(editor: bpy.types.SequenceEditor | None) -> bool:
    """Whether a strip shows something. Beside sound alone Blender renders the camera's picture."""
    if editor is None:
        return False
    # Until Blender 4.3 strips were called sequences.
    strips = editor.strips if hasattr(editor, "strips") else editor.sequences
    return any(strip.type != "SOUND" and not strip.mute for strip in strips)


def warnings_of(scene: bpy.types.Scene, wishes: Wishes) -> list[str]:
    """What will differ from F12 although the render goes on."""
    split, reason = splitting.choose(scene, wishes.split)
    found = [reason] if reason else []
    needed = overscan_of(scene)
    if split == splitting.TILES and 0 <= wishes.margin < needed:
        found.append(
            f"The margin of {wishes.margin} px is less than the {needed} px that this scene needs:"
            " pixels at the edges of tiles will differ from one render."
        )
    return found + denoising.warnings_of(scene)


@dataclass(frozen=True)
class Wishes:
    """How the job is to be made where the scene leaves it open."""

    tile_size: int = 0
    """0: sizes follow the work."""
    margin: int = AUTO_MARGIN
    split: str = "AUTO"
    """`TILES`, `SAMPLES`, or `AUTO`: samples where tiles cannot be exact."""
    use_heat_map: bool = False


def wishes_of(scene: bpy.types.Scene) -> Wishes:
    """What the panel is set to."""
    settings = scene.distributed_cycles
    return Wishes(
        tile_size=0 if settings.use_auto_tile_size else settings.tile_size,
        margin=AUTO_MARGIN if settings.use_auto_margin else settings.margin,
        split=settings.split,
        use_heat_map=settings.use_heat_map,
    )


def take(scene: bpy.types.Scene, view_layer: str, wishes: Wishes, *, workers: int) -> Snapshot:
    """Check `scene` and describe its job for so many `workers`; nothing is written yet. Raises JobError."""
    check(scene)
    width, height = size_of(scene)
    region = region_of(scene, width, height)
    split, _ = splitting.choose(scene, wishes.split)
    is_by_samples = split == splitting.SAMPLES
    overscan = 0 if is_by_samples else overscan_of(scene) if wishes.margin < 0 else wishes.margin
    denoised = denoising.settings(scene)
    helpers = dict.fromkeys(denoising.helpers(scene, denoised))
    if wishes.use_heat_map:
        helpers |= dict.fromkeys(denoising.heat_map_helpers(scene))
    found = files.find(scene)
    unsaved, warnings = pixels.unsaved()
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
        use_crop=scene.render.use_border and scene.render.use_crop_to_border,
        overscan=overscan,
        tile_size=wishes.tile_size or tiling.smallest_tile(overscan),
        blender_version=tuple(bpy.app.version),
        view_layer=shown_layer(scene, view_layer),
        denoising=denoised,
        samples=scene.cycles.samples,
        sample_parts=tiling.sample_parts(scene.cycles.samples, workers) if is_by_samples else 0,
        use_heat_map=wishes.use_heat_map,
        helpers=tuple(helpers),
        use_scripts=use_scripts(),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        files=found.files,
        pixels=unsaved,
        use_auto_tile_size=not (wishes.tile_size or is_by_samples),
        working_space=working_space(),
        ignored=tuple(f"IM{name}" for name in _pictures_of_renders()),
        ocio=ocio.setting(),
        ocio_files=tuple(mirrored(path) for path in ocio.files()),
        **_devices(scene),
    )
    # What is read from the disk is not asked for whenever a panel is drawn.
    of_files = (*ocio.warnings(), *textures.warnings(scene))
    return Snapshot(job, (*warnings_of(scene, wishes), *of_files, *warnings), found.missing)


def _pictures_of_renders() -> list[str]:
    return [
        image.name
        for image in bpy.data.images
        if image.name in OWN_IMAGES or image.type in ("RENDER_RESULT", "COMPOSITING")
    ]


def _devices(scene: bpy.types.Scene) -> dict[str, Any]:
    """What F12 renders on in this Blender, as far as that is in its preferences."""
    cycles = bpy.context.preferences.addons.get("cycles")
    if scene.cycles.device != "GPU" or cycles is None:
        return {}
    chosen = cycles.preferences
    kind = chosen.get_compute_device_type()
    ids = tuple(entry.id for entry in chosen.devices if entry.use and entry.type in (kind, "CPU"))
    return {"compute_device": kind, "compute_device_ids": ids}


def save(store: JobStore) -> None:
    """Write the scene as it is now into the job folder. The user's file, its dirty flag and the
    undo steps stay as they are. Raises JobError."""
    try:
        # Copied as they are, relative paths hold in the mirrored tree on the nodes. Not compressed, so
        # that of the next snapshot only the parts that differ have to be sent.
        bpy.ops.wm.save_as_mainfile(
            filepath=str(store.snapshot),
            copy=True,
            relative_remap=False,
            check_existing=False,
            compress=False,
        )
        pixels.save(store.job.pixels, store.folder)
        # What is newly made with Blender's default rights is for this user alone.
        store.snapshot.chmod(0o600)
    except (RuntimeError, OSError) as error:
        raise JobError(f"The snapshot of the scene could not be saved: {error}".strip()) from None


def size_of(scene: bpy.types.Scene) -> tuple[int, int]:
    """Width and height of the whole frame in pixels, as Blender computes them."""
    render = scene.render
    percentage = render.resolution_percentage
    return render.resolution_x * percentage // 100, render.resolution_y * percentage // 100


def region_of(scene: bpy.types.Scene, width: int, height: int) -> Rect:
    """What F12 would render: the frame, or the user's own render region. Raises JobError."""
    render = scene.render
    if not render.use_border:
        return Rect(0, 0, width, height)

    def pixel(fraction: float, size: int) -> int:
        # Blender multiplies in single precision and drops the rest.
        return int(np.float32(fraction) * np.float32(size))

    left, right = pixel(render.border_min_x, width), pixel(render.border_max_x, width)
    bottom, top = pixel(render.border_min_y, height), pixel(render.border_max_y, height)
    if right <= left or top <= bottom:
        raise JobError("The render region is empty.", "Draw it anew, or disable Render Region.")
    return Rect(left, bottom, right - left, top - bottom)


def overscan_of(scene: bpy.types.Scene) -> int:
    """Margin in pixels that each tile needs to be exact."""
    return exactness.overscan(
        adaptive=scene.cycles.use_adaptive_sampling,
        volumes=has_volumes(scene),
        volume_biased=getattr(scene.cycles, "volume_biased", False),  # Blender 5.0 and later
        blender_version=tuple(bpy.app.version),
    )


def has_volumes(scene: bpy.types.Scene) -> bool:
    """Whether the scene may hold a volume. A yes too many costs some pixels of margin."""
    return (
        any(item.type == "VOLUME" for item in scene.objects)
        or (scene.world is not None and _is_volume(scene.world.node_tree))
        or any(_is_volume(material.node_tree) for material in bpy.data.materials)
        # The output may stand inside a group.
        or any(_is_volume(tree) for tree in bpy.data.node_groups)
    )


def _is_volume(tree: bpy.types.NodeTree | None) -> bool:
    return tree is not None and any(
        node.bl_idname in ("ShaderNodeOutputMaterial", "ShaderNodeOutputWorld")
        and node.inputs["Volume"].is_linked
        for node in tree.nodes
    )


def shown_layer(scene: bpy.types.Scene, wanted: str) -> str:
    """Name of the view layer whose picture is shown: the wanted one where it is rendered."""
    rendered = [layer.name for layer in scene.view_layers if layer.use]
    return wanted if wanted in rendered else rendered[0]


def use_scripts() -> bool:
    """Whether scripts in the file run in this Blender: then they do so on the nodes as well."""
    allowed = bpy.context.preferences.filepaths.use_scripts_auto_execute
    for argument in sys.argv:
        if argument in ("-y", "--enable-autoexec"):
            allowed = True
        elif argument in ("-Y", "--disable-autoexec"):
            allowed = False
        elif argument in ("--", "--command"):
            break
    # True where Blender has refused to run something of this file.
    return allowed and not bpy.app.autoexec_fail
