"""Make the cost maps of the simulator: Cycles' own render time per pixel of real scenes.

    build/venv-newest/bin/python -m tests.bench.make_cost_maps

Needs bpy 5.0 or later, which have the pass. The maps are kept in tests/bench/cost_maps, so that
the simulator needs no Blender; they are relative, with a mean of 1.
"""

from __future__ import annotations

import math
import os
import random
import runpy
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import bpy
import numpy as np

from engine import exr

HERE = Path(__file__).resolve().parent
SIZE = (320, 180)
SAMPLES = 48
BLOCK = 2
"""Pixels a side that are averaged: a single pixel's time is mostly noise of the clock."""


def demo() -> None:
    """The demo scene: a still life that fills the middle of the frame."""
    arguments, sys.argv = (
        sys.argv,
        ["demo_scene.py", str(Path(tempfile.gettempdir()) / "cost-map-demo.blend")],
    )
    try:
        runpy.run_path(str(HERE.parents[1] / "tools" / "demo_scene.py"), run_name="__main__")
    finally:
        sys.argv = arguments


def glass_in_a_corner() -> None:
    """Nearly all of the cost in a small part of the frame, and sky around it."""
    empty()
    glass = bpy.data.materials.new("Glass")
    glass.use_nodes = True
    glass.node_tree.nodes["Principled BSDF"].inputs["Transmission Weight"].default_value = 1
    chance = random.Random(3)
    for _ in range(40):
        place = (chance.uniform(2.0, 3.8), chance.uniform(-0.5, 0.5), chance.uniform(0.6, 1.9))
        bpy.ops.mesh.primitive_ico_sphere_add(
            subdivisions=4, radius=chance.uniform(0.15, 0.35), location=place
        )
        bpy.context.object.data.materials.append(glass)
    look((0, -9, 0), (0, 0, 0))
    bpy.context.scene.cycles.transmission_bounces = 24
    bpy.context.scene.cycles.max_bounces = 24


def fog() -> None:
    """A volume over the lower half."""
    empty()
    bpy.ops.mesh.primitive_cube_add(size=1, location=(0, 0, -1.2), scale=(9, 4, 2.2))
    mist = bpy.data.materials.new("Mist")
    mist.use_nodes = True
    tree = mist.node_tree
    tree.nodes.clear()
    volume = tree.nodes.new("ShaderNodeVolumePrincipled")
    volume.inputs["Density"].default_value = 0.5
    output = tree.nodes.new("ShaderNodeOutputMaterial")
    tree.links.new(volume.outputs["Volume"], output.inputs["Volume"])
    bpy.context.object.data.materials.append(mist)
    bpy.ops.mesh.primitive_monkey_add(size=2, location=(0, 0, 0.4))
    look((0, -9, 0.6), (0, 0, 0))


def room() -> None:
    """An interior: light from one window, no sky, every pixel costs much the same."""
    empty()
    bpy.context.scene.world.node_tree.nodes["Background"].inputs["Strength"].default_value = 0
    bpy.ops.mesh.primitive_cube_add(size=8, location=(0, 0, 2))
    chance = random.Random(5)
    for _ in range(25):
        place = (chance.uniform(-3, 3), chance.uniform(-1, 3), chance.uniform(-1.8, 2.5))
        bpy.ops.mesh.primitive_torus_add(location=place, major_radius=0.5, minor_radius=0.2)
    bpy.ops.object.light_add(type="AREA", location=(-3.5, 0, 3))
    bpy.context.object.data.energy = 300
    bpy.context.object.rotation_euler = (0, math.radians(-90), 0)
    look((0, -3.8, 1.5), (0, 1, 1))


def empty() -> None:
    for thing in list(bpy.data.objects):
        bpy.data.objects.remove(thing)
    bpy.context.scene.world.use_nodes = True
    bpy.ops.object.light_add(type="SUN", location=(0, 0, 5), rotation=(0.6, 0.3, 0))


def look(place: tuple[float, float, float], target: tuple[float, float, float]) -> None:
    from mathutils import Vector

    bpy.ops.object.camera_add(location=place)
    camera = bpy.context.object
    camera.rotation_euler = (Vector(target) - Vector(place)).to_track_quat("-Z", "Y").to_euler()
    bpy.context.scene.camera = camera


def measured(make: Callable[[], None]) -> np.ndarray:
    """Relative cost of each block of pixels of the scene, top row first."""
    bpy.ops.wm.read_factory_settings()
    make()
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.render.resolution_x, scene.render.resolution_y = SIZE
    scene.render.resolution_percentage = 100
    scene.cycles.samples = SAMPLES
    scene.cycles.use_adaptive_sampling = False
    scene.cycles.use_denoising = False
    bpy.context.view_layer.cycles.pass_render_time = True
    settings = scene.render.image_settings
    settings.media_type = "MULTI_LAYER_IMAGE"
    settings.file_format = "OPEN_EXR_MULTILAYER"
    settings.use_exr_interleave = True
    settings.color_depth = "32"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "map.exr"
        scene.render.filepath = str(path)
        bpy.ops.render.render(write_still=True)
        planes, _ = exr.read(path)
    name = next(name for name in planes if "Render Time" in name)
    height, width = planes[name].shape
    blocks = planes[name].reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK).mean(axis=(1, 3))
    return blocks / blocks.mean()


def main() -> None:
    for scene in (demo, glass_in_a_corner, fog, room):
        found = measured(scene)
        np.save(HERE / "cost_maps" / f"{scene.__name__}.npy", found.astype(np.float16))
        print(f"{scene.__name__}: {found.min():.2f} to {found.max():.2f}, deviation {found.std():.2f}")
    # A script that uses the bpy wheel can hang when it ends.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
