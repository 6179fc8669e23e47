"""Blender's side of the worker: say what is here, open the snapshot, render one tile."""

from __future__ import annotations

import os
import platform
import re
import time
from array import array
from pathlib import Path
from typing import Any

from . import devices as cycles_devices
from .remap import remap

SWITCHES = {
    "Debug": "pass_debug_sample_count",
    "Denoising": "denoising_store_passes",
    "Render": "pass_render_time",
}
"""First word of a pass -> the view layer's property that adds it."""
SAMPLE = re.compile(r"\bSample (\d+)/")
WARM_UP_PX = 4


def describe() -> dict[str, Any]:
    """What kind of node this is; enough to decide whether it can take part."""
    import bpy

    return {
        "system": platform.system(),
        "machine": platform.machine(),
        "blender_version": list(bpy.app.version),
        "blender_path": bpy.app.binary_path or "",
        "cores": _cores(),
        "ocio": os.environ.get("OCIO", ""),
        "has_cycles": "cycles" in bpy.context.preferences.addons,
    }


def devices() -> list[str]:
    """Names of the render devices, CPU first. Loading the drivers of GPUs can take seconds."""
    import bpy

    preferences = bpy.context.preferences.addons["cycles"].preferences
    preferences.refresh_devices()
    found = [device for device in preferences.devices if device.type != "CPU"]
    return ["CPU", *(f"{device.name} ({device.type})" for device in found)]


def _cores() -> int:
    import os

    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        return os.cpu_count() or 1


class OpenScene:
    """The job's scene, set up so that each call of `render` gives one tile."""

    def __init__(self, root: Path, output: Path, request: dict[str, Any]) -> None:
        """Open the snapshot below `root`; tiles are written to `output`.

        Raises RuntimeError with Blender's own words where the file cannot be opened.
        """
        import bpy

        bpy.ops.wm.open_mainfile(
            filepath=str(root / request["blend"]), load_ui=False, use_scripts=request["use_scripts"]
        )
        remap(root)
        _refresh_prepared_textures(root)
        for entry in request["pixels"]:
            _set_pixels(root, entry)
        scene = bpy.data.scenes.get(request["scene"])
        if scene is None:
            raise RuntimeError(f"the snapshot has no scene named {request['scene']!r}")
        self._scene = scene
        self._output = output
        self._seconds = 0.0
        self._samples: list[int] = []
        _set_up(scene, request)
        self.device = cycles_devices.use(scene, request)
        """What renders: kind, names, and how many GPUs there are to share."""
        self._is_warm = False
        scene.render.filepath = str(output)
        scene.frame_set(request["frame"], subframe=request["subframe"])
        bpy.app.handlers.render_pre.append(self._render_pre)
        bpy.app.handlers.render_post.append(self._render_post)
        if any(layer.use and layer.cycles.pass_debug_sample_count for layer in scene.view_layers):
            bpy.app.handlers.render_stats.append(self._render_stats)

    def _render_pre(self, *_: object) -> None:
        self._samples = []
        self._seconds = -time.perf_counter()

    def _render_post(self, *_: object) -> None:
        self._seconds += time.perf_counter()

    def _render_stats(self, text: str, *_: object) -> None:
        """Note how many samples each view layer came to: the status counts up, then restarts at 0."""
        sample = SAMPLE.search(text)
        if sample is None:
            return
        count = int(sample[1])
        if count == 0 or not self._samples:
            self._samples.append(0)
        self._samples[-1] = max(self._samples[-1], count)

    @property
    def samples(self) -> dict[str, int]:
        """View layer -> the samples at which its last pixel of the last tile had converged.

        Cycles divides the Debug Sample Count pass by this number and tells it nowhere else.
        Empty where the scene has no such pass.
        """
        layers = [layer.name for layer in self._scene.view_layers if layer.use]
        counts = [count for count in self._samples if count]
        return dict(zip(layers, counts, strict=True)) if len(layers) == len(counts) else {}

    def warm_up(self, border: list[float], samples: list[int] | None) -> float:
        """Let Cycles build what it keeps between tiles, before the first one; returns the seconds.

        A first tile that took that upon itself would tell nothing of the node's speed. A few
        pixels in the middle of it are rendered, which cost some milliseconds.
        """
        if self._is_warm:
            return 0.0
        self._is_warm = True
        start = time.perf_counter()
        x, y = (border[0] + border[1]) / 2, (border[2] + border[3]) / 2
        render = self._scene.render
        scale = render.resolution_percentage / 100
        width = min(WARM_UP_PX / (render.resolution_x * scale), border[1] - border[0])
        height = min(WARM_UP_PX / (render.resolution_y * scale), border[3] - border[2])
        self.render([x - width / 2, x + width / 2, y - height / 2, y + height / 2], samples)
        return time.perf_counter() - start

    def render(
        self, border: list[float], samples: list[int] | None, *, use_zip: bool = False
    ) -> tuple[float, bytes]:
        """Render the part of the frame inside `border` (min x, max x, min y, max y; fractions).

        `samples` are the number of the first sample and how many; None for all that the scene has.
        With `use_zip` the file is compressed.
        Returns Cycles' own time in seconds and the multilayer EXR's bytes.
        """
        import bpy

        render = self._scene.render
        render.border_min_x, render.border_max_x, render.border_min_y, render.border_max_y = border
        render.image_settings.exr_codec = "ZIP" if use_zip else "NONE"
        if samples is not None:
            self._scene.cycles.use_sample_subset = True
            self._scene.cycles.sample_offset, self._scene.cycles.sample_subset_length = samples
        result = bpy.ops.render.render(write_still=True, scene=self._scene.name)
        if "FINISHED" not in result:
            raise RuntimeError(f"Blender answered {sorted(result)} to the request to render")
        try:
            return self._seconds, self._output.read_bytes()
        finally:
            self._output.unlink(missing_ok=True)


def _refresh_prepared_textures(root: Path) -> None:
    """Let no .tx be older than its texture (see operators/textures): those that were sent have the time of their arrival."""
    for prepared in root.rglob("blender_tx/*.tx"):
        texture = prepared.parent.parent / prepared.name.rsplit(".", 2)[0]
        # A link leads to a file of the user's, whose time is right.
        if texture.is_file() and not prepared.is_symlink():
            time_there = int(texture.stat().st_mtime)
            if time_there > int(prepared.stat().st_mtime):
                os.utime(prepared, (time_there, time_there))


def _set_pixels(root: Path, entry: dict[str, Any]) -> None:
    """Give an image the pixels that only the user's Blender had in memory."""
    image = _image(entry["image"], entry["library"])
    if entry["tiles"]:
        # Packed again, as it is on the user's computer: Cycles reads what is packed in another way than files.
        image.unpack(method="REMOVE")
        image.filepath = str(root / entry["file"])
        image.pack()
        return
    if tuple(image.size) != (entry["width"], entry["height"]):
        image.scale(entry["width"], entry["height"])
    data = (root / entry["file"]).read_bytes()
    if entry["is_float"]:
        values = array("f")
        values.frombytes(data)
    else:
        fractions = [value / 255 for value in range(256)]
        values = array("f", map(fractions.__getitem__, data))
    image.pixels.foreach_set(values)
    image.update()


def _image(name: str, library: str) -> Any:
    import bpy

    return next(
        image
        for image in bpy.data.images
        if (image.name, image.library.name if image.library else "") == (name, library)
    )


def _has_layers_with_own_samples(scene: Any) -> bool:
    layers = [layer for layer in scene.view_layers if layer.use]
    return (
        len(layers) > 1
        and scene.cycles.use_layer_samples != "IGNORE"
        and any(layer.samples for layer in layers)
    )


def _set_up(scene: Any, request: dict[str, Any]) -> None:
    """Whole tiles with every pass, nothing that belongs to the frame as a whole."""
    render = scene.render
    # What is kept has the sampling pattern of the layer before (seen in 4.5 and 5.2, not in 4.2).
    render.use_persistent_data = not _has_layers_with_own_samples(scene)
    render.use_border = True
    render.use_crop_to_border = True
    render.use_compositing = False
    render.use_sequencer = False
    render.use_stamp = False
    render.use_file_extension = True
    render.use_overwrite = True
    render.use_placeholder = False
    threads = cycles_devices.threads_for(request["threads"], request["share"][1])
    if threads:
        render.threads_mode = "FIXED"
        render.threads = threads
    else:
        render.threads_mode = "AUTO"
    scene.cycles.use_denoising = False
    for helper in request["helpers"]:
        layer, _, name = helper.rpartition(".")
        setattr(scene.view_layers[layer].cycles, SWITCHES[name.split()[0]], True)
    settings = render.image_settings
    if hasattr(settings, "media_type"):  # Blender 5.0 and later
        settings.media_type = "MULTI_LAYER_IMAGE"
    settings.file_format = "OPEN_EXR_MULTILAYER"
    if hasattr(settings, "use_exr_interleave"):  # else 5.0 and later write one part per pass
        settings.use_exr_interleave = True
    settings.color_depth = "32"
