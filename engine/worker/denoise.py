"""Denoise a finished frame with Cycles' own denoiser and the scene's settings, without the scene.

The main side prepares a file with the passes that the denoiser wants; here Cycles reads it and
writes it again with a denoised Combined pass.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any


def run(request: dict[str, Any]) -> None:
    """Denoise the EXR file `request["file"]` in its place. Raise RuntimeError with Cycles' own words."""
    import bpy

    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.cycles.use_denoising = True
    bpy.context.view_layer.cycles.use_denoising = True
    if request["device"]:
        _use_gpu(scene, request["device"])
    for name, value in request["settings"].items():
        if hasattr(scene.cycles, name):
            setattr(scene.cycles, name, value)
    file = Path(request["file"])
    before = file.stat().st_ino
    bpy.ops.cycles.denoise_animation(input_filepath=str(file))
    # The operator finishes whatever happened; a new file takes the place of the old one when it is whole.
    if file.stat().st_ino == before:
        raise RuntimeError("Cycles has written no denoised file")


def _use_gpu(scene: Any, device: str) -> None:
    """Factory settings know no GPU: all of the kind that the user's preferences name."""
    import bpy

    preferences = bpy.context.preferences.addons["cycles"].preferences
    preferences.compute_device_type = device
    preferences.refresh_devices()
    for entry in preferences.devices:
        entry.use = True
    scene.cycles.device = "GPU"
