"""Scenes that differ in one thing each: what it is, in Python that changes the scene of `BASE`."""

from __future__ import annotations

from dataclasses import dataclass

from .. import support

BASE = """
import bpy, math, random, sys
from mathutils import Vector
scene = bpy.context.scene
scene.render.engine = "CYCLES"
cycles = scene.cycles
cycles.samples = 16
cycles.use_adaptive_sampling = False
cycles.use_denoising = False
scene.render.resolution_x, scene.render.resolution_y = 112, 63
scene.frame_set(3)
layer = bpy.context.view_layer
camera = scene.camera.data
def material(name, index):
    made = bpy.data.materials.new(name)
    made.use_nodes = True
    made.pass_index = index
    return made, made.node_tree, next(node for node in made.node_tree.nodes if node.type == "BSDF_PRINCIPLED")
chance = random.Random(1)
rough, tree, shader = material("Rough", 1)
noise = tree.nodes.new("ShaderNodeTexNoise")
tree.links.new(noise.outputs["Color"], shader.inputs["Base Color"])
glass, _, shader = material("Glass", 2)
shader.inputs["Transmission Weight"].default_value = 1
shader.inputs["Roughness"].default_value = 0.1
lamp, _, shader = material("Lamp", 3)
shader.inputs["Emission Color"].default_value = (1, 0.4, 0.1, 1)
shader.inputs["Emission Strength"].default_value = 3
balls = []
for number in range(14):
    place = [chance.uniform(-3, 3) for _ in range(3)]
    bpy.ops.mesh.primitive_uv_sphere_add(location=place, radius=chance.uniform(.3, .9), segments=16, ring_count=8)
    ball = bpy.context.object
    ball.pass_index = number + 1
    ball.data.materials.append((rough, glass, lamp)[number % 3])
    balls.append(ball)
bpy.ops.mesh.primitive_plane_add(size=14, location=(0, 0, -2))
ground = bpy.context.object
ground.data.materials.append(rough)
"""

ADAPTIVE = """
cycles.use_adaptive_sampling = True
cycles.samples = 40
cycles.adaptive_threshold = 0.02
cycles.adaptive_min_samples = 4
"""
DENOISE = "cycles.use_denoising = True\n"
FOG = """
world = scene.world
world.use_nodes = True
fog = world.node_tree.nodes.new("ShaderNodeVolumeScatter")
fog.inputs["Density"].default_value = 0.05
output = next(node for node in world.node_tree.nodes if node.type == "OUTPUT_WORLD")
world.node_tree.links.new(fog.outputs[0], output.inputs["Volume"])
"""
COMPOSITOR = (
    support.COMPOSITOR
    + """
blur = tree.nodes.new("CompositorNodeBlur")
if "Size" in blur.inputs:
    is_pair = hasattr(blur.inputs["Size"].default_value, "__len__")
    blur.inputs["Size"].default_value = (6, 6) if is_pair else 1
if hasattr(blur, "size_x"):
    blur.size_x = blur.size_y = 6
tree.links.new(layers.outputs["Image"], blur.inputs["Image"])
tree.links.new(blur.outputs[0], output.inputs[0])
"""
)
DATA_PASSES = """
for name in ("z", "mist", "position", "normal", "vector", "uv", "object_index", "material_index"):
    setattr(layer, "use_pass_" + name, True)
"""
LIGHT_PASSES = """
for kind in ("diffuse", "glossy", "transmission"):
    for part in ("direct", "indirect", "color"):
        setattr(layer, f"use_pass_{kind}_{part}", True)
for name in ("emit", "environment", "ambient_occlusion"):
    setattr(layer, "use_pass_" + name, True)
layer.cycles.use_pass_volume_direct = layer.cycles.use_pass_volume_indirect = True
"""
BORDER = """
scene.render.use_border = True
edges = 0.13, 0.77, 0.21, 0.9
scene.render.border_min_x, scene.render.border_max_x, scene.render.border_min_y, scene.render.border_max_y = edges
"""


@dataclass(frozen=True)
class Variant:
    """One scene, and how far its frame may be from F12's."""

    code: str
    limit: float = 0.0
    """Greatest absolute difference in a channel; more than 0 has its reason in the documentation."""
    since: tuple[int, int, int] = (4, 2, 0)
    in_ci: bool = False
    """Whether CI renders it, too: a third of all."""
    options: str = ""
    """Settings of the extension, as Python with `settings`."""


VARIANTS = {
    "fixed samples": Variant(""),
    "adaptive sampling": Variant(ADAPTIVE),
    "denoised": Variant(DENOISE, in_ci=True),
    "denoised, adaptive": Variant(ADAPTIVE + DENOISE, in_ci=True),
    "denoised, adaptive, fast prefilter, albedo": Variant(
        ADAPTIVE
        + DENOISE
        + "cycles.denoising_prefilter, cycles.denoising_input_passes = 'FAST', 'RGB_ALBEDO'"
    ),
    "denoised, color only, balanced": Variant(
        DENOISE + "cycles.denoising_input_passes, cycles.denoising_quality = 'RGB', 'BALANCED'"
    ),
    "denoised, with its passes stored": Variant(
        ADAPTIVE
        + DENOISE
        + "layer.cycles.denoising_store_passes = layer.cycles.pass_debug_sample_count = True"
    ),
    "data passes": Variant(ADAPTIVE + DATA_PASSES, in_ci=True),
    "light passes": Variant(LIGHT_PASSES + FOG, in_ci=True),
    "light groups and AOVs": Variant(
        ADAPTIVE
        + """
layer.lightgroups.add(name="Key")
lights = [item for item in scene.objects if item.type == "LIGHT"]
lights[0].lightgroup = "Key"
balls[2].lightgroup = "Key"
for name, kind in (("Tint", "COLOR"), ("Grain", "VALUE")):
    aov = layer.aovs.add()
    aov.name, aov.type = name, kind
for name, socket in (("Tint", "Color"), ("Grain", "Value")):
    node = rough.node_tree.nodes.new("ShaderNodeOutputAOV")
    if hasattr(node, "aov_name"):
        node.aov_name = name
    else:
        node.name = name
    rough.node_tree.links.new(noise_of(rough).outputs["Color" if socket == "Color" else 0], node.inputs[socket])
""".replace("noise_of(rough)", "next(n for n in rough.node_tree.nodes if n.type == 'TEX_NOISE')"),
        in_ci=True,
    ),
    "Cryptomatte": Variant(
        ADAPTIVE
        + """
for kind in ("object", "material", "asset"):
    setattr(layer, "use_pass_cryptomatte_" + kind, True)
layer.pass_cryptomatte_depth = 6
""",
        in_ci=True,
    ),
    "shadow catcher": Variant(
        "scene.render.film_transparent = True\nground.is_shadow_catcher = True\n"
        "layer.cycles.use_pass_shadow_catcher = True"
    ),
    "sample count, tiles that are done early": Variant(
        ADAPTIVE
        + "layer.cycles.pass_debug_sample_count = True\nground.hide_render = True\ncamera.lens = 15\n"
        + "cycles.adaptive_threshold = 0.01",
        in_ci=True,
    ),
    "several view layers": Variant(
        ADAPTIVE
        + DENOISE
        + """
second = scene.view_layers.new("Second one")
second.cycles.use_denoising = False
second.use_pass_normal = True
second.layer_collection.children[0].holdout = True
third = scene.view_layers.new("Third")
third.samples = 24
scene.view_layers.new("Off").use = False
""",
        in_ci=True,
    ),
    "compositor, denoised": Variant(ADAPTIVE + DENOISE + COMPOSITOR, in_ci=True),
    "resolution percentage and pixel aspect": Variant(
        ADAPTIVE
        + "scene.render.resolution_x, scene.render.resolution_y = 853, 479\n"
        + "scene.render.resolution_percentage = 23\nscene.render.pixel_aspect_x = 1.5"
    ),
    "render region, cropped": Variant(
        ADAPTIVE + DENOISE + BORDER + "scene.render.use_crop_to_border = True", in_ci=True
    ),
    "render region, not cropped": Variant(ADAPTIVE + DENOISE + BORDER, in_ci=True),
    "one pixel": Variant(
        ADAPTIVE
        + BORDER.replace("0.13, 0.77, 0.21, 0.9", "(50.5/112, 51.5/112, 30.5/63, 31.5/63)")
        + "scene.render.use_crop_to_border = True"
    ),
    "a strip 14000 px wide": Variant(
        "scene.render.resolution_x, scene.render.resolution_y = 14000, 16\ncycles.samples = 2\n"
        + BORDER.replace("0.13, 0.77, 0.21, 0.9", "0.0, 1.0, 0.3, 0.7")
        + "scene.render.use_crop_to_border = True"
    ),
    "film transparent": Variant(ADAPTIVE + DENOISE + "scene.render.film_transparent = True"),
    "panoramic camera": Variant(
        ADAPTIVE
        + """
camera.type = "PANO"
where = camera if hasattr(camera, "panorama_type") else camera.cycles
where.panorama_type = "EQUIRECTANGULAR"
"""
    ),
    "orthographic camera, shifted": Variant(
        ADAPTIVE + "camera.type = 'ORTHO'\ncamera.ortho_scale = 9\ncamera.shift_x, camera.shift_y = 0.2, -0.1"
    ),
    "depth of field": Variant(
        ADAPTIVE
        + "camera.dof.use_dof = True\ncamera.dof.focus_distance = 7\ncamera.dof.aperture_fstop = 0.3\n"
        + "camera.dof.aperture_blades = 5"
    ),
    "motion blur": Variant(
        ADAPTIVE
        + """
scene.render.use_motion_blur = True
for frame, shift in ((1, 0), (6, 3)):
    balls[0].location.x = shift
    balls[0].keyframe_insert("location", frame=frame)
    scene.camera.location.z += shift / 10
    scene.camera.keyframe_insert("location", frame=frame)
""",
        in_ci=True,
    ),
    "adaptive subdivision": Variant(
        ADAPTIVE
        + """
if hasattr(cycles, "feature_set"):
    cycles.feature_set = "EXPERIMENTAL"
cycles.dicing_rate = 4
cycles.dicing_camera = scene.camera
for ball in balls[:4]:
    change = ball.modifiers.new("Subdivision", "SUBSURF")
    if hasattr(change, "use_adaptive_subdivision"):
        change.use_adaptive_subdivision = True
    else:
        ball.cycles.use_adaptive_subdivision = True
""",
        in_ci=True,
    ),
    "animated seed, another frame": Variant(
        ADAPTIVE + "cycles.use_animated_seed = True\ncycles.seed = 5\nscene.frame_set(37)"
    ),
    "markers switch the camera": Variant(
        ADAPTIVE
        + """
other = bpy.data.objects.new("Other", scene.camera.data.copy())
other.matrix_world = scene.camera.matrix_world @ __import__("mathutils").Matrix.Translation((1, 0, 1))
scene.collection.objects.link(other)
for frame, which in ((1, scene.camera), (10, other)):
    scene.timeline_markers.new(which.name, frame=frame).camera = which
scene.frame_set(12)
"""
    ),
    "simplify": Variant(
        ADAPTIVE
        + """
scene.render.use_simplify = True
scene.render.simplify_subdivision_render = 1
balls[0].modifiers.new("Subdivision", "SUBSURF").render_levels = 3
balls[1].hide_render = True
"""
    ),
    "OSL": Variant(
        """
cycles.shading_system = True
text = bpy.data.texts.new("stripes.osl")
text.write("shader stripes(output color Color = 0) { Color = color(mod(floor(P[0] * 4), 2), 0.5, P[2]); }")
script = rough.node_tree.nodes.new("ShaderNodeScript")
script.script = text
script.update()
shader = next(node for node in rough.node_tree.nodes if node.type == "BSDF_PRINCIPLED")
if script.outputs:
    rough.node_tree.links.new(script.outputs[0], shader.inputs["Base Color"])
"""
    ),
    "another scene is the active one": Variant(
        ADAPTIVE
        + """
copy = scene.copy()
copy.name = "Take two"
copy.use_fake_user = True
copy.camera = scene.camera
copy.cycles.seed = 9
bpy.context.window.scene = copy
scene = copy
"""
    ),
    "hair": Variant(
        ADAPTIVE
        + """
system = balls[0].modifiers.new("Hair", "PARTICLE_SYSTEM").particle_system
system.settings.type = "HAIR"
system.settings.count = 60
system.settings.hair_length = 0.6
"""
    ),
    "volume": Variant(FOG, in_ci=True),
    "volume, biased": Variant(FOG + "if hasattr(cycles, 'volume_biased'): cycles.volume_biased = True"),
    "pixel filter, light tree off, fast GI": Variant(
        ADAPTIVE
        + "cycles.pixel_filter_type = 'GAUSSIAN'\ncycles.filter_width = 3\ncycles.use_light_tree = False\n"
        + "cycles.use_fast_gi = True"
    ),
    "exposure": Variant(ADAPTIVE + "cycles.film_exposure = 1.7"),
    "scrambling distance": Variant(
        "cycles.sampling_pattern = 'TABULATED_SOBOL'\ncycles.scrambling_distance = 0.5\n"
        "cycles.auto_scrambling_distance = False"
    ),
    "denoised, 48 fixed samples": Variant(DENOISE + "cycles.samples = 48", limit=2e-5),
    "denoised, exposure": Variant(ADAPTIVE + DENOISE + "cycles.film_exposure = 1.7", limit=5e-5),
    "denoised, shadow catcher": Variant(
        DENOISE + "scene.render.film_transparent = True\nground.is_shadow_catcher = True", limit=1.0
    ),
    "by samples": Variant("", limit=1e-5, since=(4, 4, 0), options="settings.split = 'SAMPLES'"),
    "by samples, data passes": Variant(
        DATA_PASSES, limit=1e-4, since=(4, 4, 0), options="settings.split = 'SAMPLES'", in_ci=True
    ),
    "by samples, light passes": Variant(
        LIGHT_PASSES, limit=100, since=(4, 4, 0), options="settings.split = 'SAMPLES'"
    ),
    "by samples, adaptive": Variant(
        ADAPTIVE, limit=10, since=(4, 4, 0), options="settings.split = 'SAMPLES'"
    ),
    "path guiding": Variant("cycles.use_guiding = True\ncycles.samples = 64", limit=100),
}
