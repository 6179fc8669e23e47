"""Make the demo scene: run inside Blender, with the .blend to write as the last argument.

    blender --background --factory-startup --python tools/demo_scene.py -- build/demo/demo.blend

A still life of glass, metal and clay with procedural materials only, so that one file is all.
"""

from __future__ import annotations

import math
import random
import sys
from typing import Any

import bpy
from mathutils import Vector

SIZE = (640, 360)
SAMPLES = 96


def material(name: str, **inputs: Any) -> Any:
    """A Principled material; `inputs` name its sockets with underscores for spaces."""
    made = bpy.data.materials.new(name)
    made.use_nodes = True
    shader = made.node_tree.nodes["Principled BSDF"]
    for key, value in inputs.items():
        shader.inputs[key.replace("_", " ")].default_value = value
    return made


def add_texture(made: Any, kind: str, scale: float, colors: list[tuple[float, float, float]]) -> Any:
    """Colour a material by a procedural texture, spread over `colors`. Returns the ramp's node."""
    tree = made.node_tree
    coordinates = tree.nodes.new("ShaderNodeTexCoord")
    texture = tree.nodes.new(kind)
    texture.inputs["Scale"].default_value = scale
    ramp = tree.nodes.new("ShaderNodeValToRGB")
    for number, color in enumerate(colors):
        elements = ramp.color_ramp.elements
        place = number / (len(colors) - 1)
        element = elements[number] if number < 2 else elements.new(place)
        element.position, element.color = place, (*color, 1)
    tree.links.new(coordinates.outputs["Object"], texture.inputs["Vector"])
    tree.links.new(texture.outputs["Distance" if kind.endswith("Voronoi") else 0], ramp.inputs["Fac"])
    tree.links.new(ramp.outputs["Color"], tree.nodes["Principled BSDF"].inputs["Base Color"])
    return ramp


def add_bump(made: Any, scale: float, strength: float) -> None:
    """Roughen a material's surface by noise."""
    tree = made.node_tree
    coordinates = tree.nodes.new("ShaderNodeTexCoord")
    noise = tree.nodes.new("ShaderNodeTexNoise")
    noise.inputs["Scale"].default_value = scale
    bump = tree.nodes.new("ShaderNodeBump")
    bump.inputs["Strength"].default_value = strength
    tree.links.new(coordinates.outputs["Object"], noise.inputs["Vector"])
    tree.links.new(noise.outputs[0], bump.inputs["Height"])
    tree.links.new(bump.outputs["Normal"], tree.nodes["Principled BSDF"].inputs["Normal"])


def finish(made: Any, *, subdivide: int = 0, bevel: float = 0) -> Any:
    """Give the newest object its material, smooth faces and round edges."""
    shape = bpy.context.object
    shape.data.materials.append(made)
    if bevel:
        modifier = shape.modifiers.new("Bevel", "BEVEL")
        modifier.width, modifier.segments = bevel, 3
    if subdivide:
        modifier = shape.modifiers.new("Subdivision", "SUBSURF")
        modifier.levels = modifier.render_levels = subdivide
    bpy.ops.object.shade_smooth()
    return shape


def add_shapes() -> None:
    """The table and what stands on it."""
    add = bpy.ops.mesh
    wood = material("Wood", Roughness=0.35)
    add_texture(wood, "ShaderNodeTexWave", 0.7, [(0.16, 0.07, 0.03), (0.34, 0.17, 0.08), (0.22, 0.1, 0.05)])
    wave = wood.node_tree.nodes["Wave Texture"]
    wave.inputs["Distortion"].default_value, wave.inputs["Detail"].default_value = 6, 4
    add.primitive_plane_add(size=60)
    finish(wood)

    gold = material("Brushed gold", Metallic=1, Roughness=0.18, Base_Color=(1, 0.66, 0.25, 1))
    add_bump(gold, 60, 0.03)
    add.primitive_monkey_add(
        size=2.1, location=(0, 0.5, 0.9), rotation=(math.radians(-18), 0, math.radians(12))
    )
    finish(gold, subdivide=2)

    glass = material("Glass", Roughness=0, Transmission_Weight=1, IOR=1.45, Base_Color=(0.92, 0.98, 1, 1))
    add.primitive_uv_sphere_add(segments=64, ring_count=32, radius=0.8, location=(-2.1, -0.5, 0.8))
    finish(glass)

    clay = material("Glazed clay", Roughness=0.3, Coat_Weight=1, Coat_Roughness=0.05)
    add_texture(clay, "ShaderNodeTexNoise", 2.2, [(0.01, 0.08, 0.1), (0.03, 0.3, 0.33), (0.6, 0.75, 0.62)])
    add.primitive_torus_add(
        major_segments=96, minor_segments=32, major_radius=0.75, minor_radius=0.32, location=(2.2, -0.3, 0.32)
    )
    finish(clay)

    steel = material("Steel", Metallic=1, Roughness=0.06, Base_Color=(0.75, 0.77, 0.8, 1))
    add.primitive_uv_sphere_add(segments=64, ring_count=32, radius=0.45, location=(2.2, -0.3, 0.9))
    finish(steel)

    stone = material("Stone", Roughness=0.7)
    add_texture(stone, "ShaderNodeTexVoronoi", 5, [(0.5, 0.1, 0.05), (0.75, 0.28, 0.12), (0.85, 0.5, 0.3)])
    add.primitive_cube_add(size=1.3, location=(-3.6, 1.7, 0.65), rotation=(0, 0, 0.5))
    finish(stone, bevel=0.08)
    add.primitive_cylinder_add(vertices=64, radius=0.6, depth=2.2, location=(3.4, 2.1, 1.1))
    finish(stone, bevel=0.06)

    chance = random.Random(7)
    beads = [
        material("Red bead", Roughness=0.15, Base_Color=(0.6, 0.02, 0.03, 1)),
        material("Blue glass bead", Roughness=0, Transmission_Weight=1, Base_Color=(0.35, 0.6, 1, 1)),
        material("White bead", Roughness=0.4, Base_Color=(0.85, 0.83, 0.78, 1)),
    ]
    for number in range(21):
        radius = chance.uniform(0.08, 0.17)
        place = (chance.uniform(-3.2, 3.2), chance.uniform(-2.3, -1.35), radius)
        add.primitive_uv_sphere_add(segments=32, ring_count=16, radius=radius, location=place)
        finish(beads[number % len(beads)])


def add_light(
    location: tuple[float, float, float], size: float, power: float, color: tuple[float, ...]
) -> None:
    """An area light that looks at the middle of the table."""
    bpy.ops.object.light_add(type="AREA", location=location)
    light = bpy.context.object
    light.rotation_euler = (Vector((0, 0, 0.8)) - light.location).to_track_quat("-Z", "Y").to_euler()
    light.data.size, light.data.energy, light.data.color = size, power, color


def add_camera() -> None:
    bpy.ops.object.camera_add(location=(0.6, -8.2, 3.1))
    camera = bpy.context.object
    camera.rotation_euler = (Vector((0, 0, 0.75)) - camera.location).to_track_quat("-Z", "Y").to_euler()
    camera.data.lens = 42
    camera.data.dof.use_dof = True
    camera.data.dof.focus_distance = 8.2
    camera.data.dof.aperture_fstop = 1.8
    bpy.context.scene.camera = camera


def set_up(scene: Any) -> None:
    """Cycles with fixed samples: tiles then need no margin to be exact."""
    scene.render.engine = "CYCLES"
    scene.render.resolution_x, scene.render.resolution_y = SIZE
    scene.render.image_settings.file_format = "PNG"
    scene.cycles.samples = SAMPLES
    scene.cycles.use_adaptive_sampling = False
    scene.cycles.use_denoising = False
    scene.cycles.sample_clamp_indirect = 4
    scene.cycles.caustics_reflective = False
    scene.cycles.blur_glossy = 1
    scene.world.use_nodes = True
    background = scene.world.node_tree.nodes["Background"]
    background.inputs["Color"].default_value = (0.09, 0.12, 0.18, 1)


def main() -> None:
    for thing in list(bpy.data.objects):
        bpy.data.objects.remove(thing)
    add_shapes()
    add_light((-5, -4, 6), 4, 750, (1, 0.86, 0.7))
    add_light((6, -2, 5), 3, 380, (0.65, 0.8, 1))
    add_light((0, 7, 5), 6, 520, (1, 0.95, 0.9))
    add_camera()
    set_up(bpy.context.scene)
    bpy.ops.wm.save_as_mainfile(filepath=sys.argv[-1], compress=True)


main()
