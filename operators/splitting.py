"""Tiles or samples: how a scene's frame is split, and why."""

from __future__ import annotations

import bpy

TILES, SAMPLES = "TILES", "SAMPLES"
SAMPLE_SUBSET_SINCE = (4, 4, 0)


def choose(scene: bpy.types.Scene, wish: str) -> tuple[str, str]:
    """The split, and a sentence where the frame will not be F12's pixels, or not split as wished."""
    guided = scene.cycles.use_guiding and scene.cycles.device == "CPU"
    obstacle = _obstacle(scene)
    if wish == SAMPLES and obstacle:
        return TILES, f"The frame is split into tiles: {obstacle}."
    if wish == SAMPLES or (wish == "AUTO" and guided and not obstacle):
        return SAMPLES, _reason(scene, guided=guided)
    if guided:
        why = f" Splitting by samples is not possible: {obstacle}." if obstacle else ""
        return TILES, (
            "Path Guiding learns from what it renders, and each tile learns alone: edges of tiles may show,"
            f" and noise will not be that of one render.{why}"
        )
    return TILES, ""


def _obstacle(scene: bpy.types.Scene) -> str:
    if bpy.app.version < SAMPLE_SUBSET_SINCE:
        return "Blender renders parts of the samples from 4.4 on"
    if scene.cycles.use_sample_subset:
        return "the scene has a sample subset of its own"
    if scene.cycles.samples < 2:
        return "the scene has one sample"
    if scene.cycles.use_layer_samples != "IGNORE" and any(
        layer.samples for layer in scene.view_layers if layer.use
    ):
        return "a view layer has samples of its own"
    return ""


def _reason(scene: bpy.types.Scene, *, guided: bool) -> str:
    if guided:
        return (
            "Path Guiding learns from what it renders: the frame is split by samples, so that no edge shows;"
            " its noise will not be that of one render."
        )
    if scene.cycles.use_adaptive_sampling:
        return (
            "Split by samples, Adaptive Sampling judges each part of the samples alone:"
            " the frame will not be the same pixels as in one render."
        )
    return "Split by samples, the last digits of a pixel may differ from one render: it is the mean of its parts."
