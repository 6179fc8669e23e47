"""A scene with one of every kind of file that a script can make, in a tree with spaces and letters of all sorts."""

from __future__ import annotations

MAKE = r"""
import math, random, struct, wave
import numpy as np
base = Path(sys.argv[-1])
outside = base / "elsewhere"
proj = base / "proj ä" / "shot 猫"
for folder in ("tex", "lib", "cache", "more", "bakes"):
    (proj / folder).mkdir(parents=True, exist_ok=True)
outside.mkdir(exist_ok=True)
bpy.ops.wm.read_factory_settings(use_empty=True)
KIND = {}
"File below base -> words that must name who wants it."

def picture(path, seed, size=16):
    image = bpy.data.images.new("made", size, size)
    values = np.random.default_rng(seed).random((size, size, 4), dtype=np.float32)
    values[..., 3] = 1
    image.pixels.foreach_set(values.reshape(-1))
    image.filepath_raw, image.file_format = str(path), "PNG"
    image.save()
    bpy.data.images.remove(image)

def textured(name, image=None):
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    node = material.node_tree.nodes.new("ShaderNodeTexImage")
    material.node_tree.links.new(node.outputs[0], material.node_tree.nodes["Principled BSDF"].inputs["Base Color"])
    node.image = image
    return material, node

# Libraries, one inside another: inner is by an absolute path outside of the project.
picture(outside / "inner tex.png", 1)
bpy.ops.mesh.primitive_cube_add()
inner = bpy.context.object
inner.name = "Inner"
image = bpy.data.images.load(str(outside / "inner tex.png"))
inner.data.materials.append(textured("InnerMat", image)[0])
image.filepath = "//inner tex.png"
bpy.ops.wm.save_as_mainfile(filepath=str(outside / "inner.blend"), relative_remap=False)
bpy.ops.wm.read_factory_settings(use_empty=True)
with bpy.data.libraries.load(str(outside / "inner.blend"), link=True) as (have, want):
    want.objects = ["Inner"]
group = bpy.data.collections.new("Middle")
bpy.context.scene.collection.children.link(group)
group.objects.link(bpy.data.objects["Inner"])
bpy.ops.wm.save_as_mainfile(filepath=str(proj / "lib" / "middle.blend"), relative_remap=False)
KIND["elsewhere/inner.blend"] = "library 'inner.blend'"
KIND["elsewhere/inner tex.png"] = "image 'inner tex.png'"
KIND["proj ä/shot 猫/lib/middle.blend"] = "library 'middle.blend'"

bpy.ops.wm.read_factory_settings(use_empty=True)
scene = bpy.context.scene
# A cache of geometry in both Alembic and USD, and a mesh cache.
bpy.ops.mesh.primitive_monkey_add(size=0.8)
bpy.context.object.keyframe_insert("location", frame=1)
bpy.context.object.location.z = 0.4
bpy.context.object.keyframe_insert("location", frame=10)
scene.frame_end = 10
bpy.ops.wm.alembic_export(filepath=str(proj / "cache/monkey.abc"), start=1, end=10)
bpy.ops.wm.usd_export(filepath=str(proj / "cache/monkey.usdc"), export_animation=True)
bpy.ops.wm.read_factory_settings(use_empty=True)
scene = bpy.context.scene
scene.render.engine = "CYCLES"
scene.cycles.samples = 4
scene.cycles.use_adaptive_sampling = False
scene.cycles.use_denoising = False
scene.cycles.shading_system = True
scene.render.resolution_x, scene.render.resolution_y = 96, 64
bpy.ops.wm.save_as_mainfile(filepath=str(proj / "zoo scene.blend"))
world = bpy.data.worlds.new("World")
scene.world = world
world.use_nodes = True
bpy.ops.object.camera_add(location=(3, -13, 3), rotation=(1.35, 0, 0))
scene.camera = bpy.context.object

def place(item, x, z):
    item.location = (x, 0, z)
    item.select_set(False)

def cube(x, z, material):
    bpy.ops.mesh.primitive_cube_add(size=0.9)
    item = bpy.context.object
    item.data.materials.append(material)
    place(item, x, z)
    return item

with bpy.data.libraries.load(str(proj / "lib/middle.blend"), link=True, relative=True) as (have, want):
    want.collections = ["Middle"]
bpy.ops.object.collection_instance_add(collection="Middle", location=(-2, 0, 4))
bpy.context.object.scale = (.4, .4, .4)

# Images: relative, absolute and outside, by a link, with capital letters, tiles, a sequence, a movie, packed, old Windows.
for number, (file, path) in enumerate((
    ("proj ä/shot 猫/tex/plain é.png", "//tex/plain é.png"),
    ("elsewhere/far.png", str(outside / "far.png")),
    ("proj ä/shot 猫/tex/Tex.png", "//tex/Tex.png"),
    ("proj ä/shot 猫/tex/tex.png", "//tex/tex.png"),
    ("proj ä/up.png", "//../up.png"),
    ("proj ä/shot 猫/tex/windows.png", "//tex\\windows.png"),
)):
    picture(base / file, 10 + number)
    image = bpy.data.images.load(str(base / file))
    image.filepath = path
    cube(number, 0, textured(f"M{number}", image)[0])
    KIND[file] = f"image {image.name!r}"
(proj / "tex/real").mkdir()
picture(proj / "tex/real/linked.png", 30)
(proj / "tex/by link").symlink_to(proj / "tex/real")
image = bpy.data.images.load(str(proj / "tex/by link/linked.png"))
image.filepath = "//tex/by link/linked.png"
cube(6, 0, textured("Linked", image)[0])
for number in (1001, 1002):
    picture(proj / f"tex/skin.{number}.png", number)
    KIND[f"proj ä/shot 猫/tex/skin.{number}.png"] = "image 'skin"
tiled = bpy.data.images.load(str(proj / "tex/skin.1001.png"))
tiled.source = "TILED"
tiled.filepath = "//tex/skin.<UDIM>.png"
cube(0, 1, textured("Tiled", tiled)[0])
for number in range(1, 5):
    picture(proj / f"tex/walk_{number:03}.png", 100 + number)
KIND["proj ä/shot 猫/tex/walk_003.png"] = "image 'walk_001.png'"
walk = bpy.data.images.load(str(proj / "tex/walk_001.png"))
walk.source = "SEQUENCE"
material, node = textured("Walk", walk)
node.image_user.frame_duration, node.image_user.frame_start = 4, 5
walk.filepath = "//tex/walk_001.png"
cube(1, 1, material)
picture(proj / "tex/packed.png", 200)
packed = bpy.data.images.load(str(proj / "tex/packed.png"))
packed.pack()
(proj / "tex/packed.png").unlink()
cube(2, 1, textured("Packed", packed)[0])

# A light by IES, a shader by OSL that includes a header.
(proj / "tex/lamp.ies").write_text(
    "IESNA:LM-63-1995\nTILT=NONE\n1 1000 1 5 1 1 2 0 0 0\n1 1 0\n0 22.5 45 67.5 90\n0\n1000 900 500 100 0\n")
bpy.ops.object.light_add(type="POINT", location=(3, -3, 4))
light = bpy.context.object.data
light.energy = 300
light.use_nodes = True
ies = light.node_tree.nodes.new("ShaderNodeTexIES")
ies.mode, ies.filepath = "EXTERNAL", "//tex/lamp.ies"
light.node_tree.links.new(ies.outputs[0], light.node_tree.nodes["Emission"].inputs["Strength"])
KIND["proj ä/shot 猫/tex/lamp.ies"] = "of 'Point'"
bpy.ops.object.light_add(type="SUN", rotation=(.7, .2, 0))

# Font, cache files, mesh cache.
import shutil
font = next(iter(sorted(Path(bpy.utils.system_resource("DATAFILES"), "fonts").glob("*.ttf"))), None) or next(
    iter(sorted(Path(bpy.utils.system_resource("DATAFILES"), "fonts").glob("*.woff2"))))
shutil.copy(font, proj / f"more/font{font.suffix}")
bpy.ops.object.text_add(rotation=(1.5, 0, 0))
text = bpy.context.object
text.data.body = "zoo"
text.data.font = bpy.data.fonts.load(str(proj / f"more/font{font.suffix}"))
text.data.font.filepath = f"//more/font{font.suffix}"
place(text, 3, 1)
KIND[f"proj ä/shot 猫/more/font{font.suffix}"] = "font "
for number, name in enumerate(("monkey.abc", "monkey.usdc")):
    cache = None
    bpy.ops.cachefile.open(filepath=str(proj / "cache" / name))
    cache = bpy.data.cache_files[-1] if bpy.data.cache_files[-1].filepath.endswith(name) else next(
        c for c in bpy.data.cache_files if c.filepath.endswith(name))
    item = cube(5 + number, 1, textured(f"Cached{number}")[0])
    modifier = item.modifiers.new("Cache", "MESH_SEQUENCE_CACHE")
    modifier.cache_file = cache
    paths = [entry.path for entry in cache.object_paths]
    modifier.object_path = next((p for p in paths if "mesh" in p.lower() or "Suzanne/" in p), paths[-1] if paths else "/Suzanne/Suzanne")
    cache.filepath = f"//cache/{name}" if number else str(proj / "cache" / name)
    KIND[f"proj ä/shot 猫/cache/{name}"] = f"cache file {cache.name!r}"
bpy.ops.mesh.primitive_plane_add(size=0.9, rotation=(1.5, 0, 0))
plane = bpy.context.object
points = np.zeros((2, 4, 3), "<f4")
for frame in range(2):
    points[frame] = [(-.5 + .1 * frame, -.5, 0), (.5, -.5, .1), (-.5, .5, .3 * frame), (.4, .5, 0)]
(proj / "cache/wave.pc2").write_bytes(struct.pack("<12siiffi", b"POINTCACHE2\0", 1, 4, 0.0, 1.0, 2) + points.tobytes())
modifier = plane.modifiers.new("Wave", "MESH_CACHE")
modifier.cache_format, modifier.filepath = "PC2", str(proj / "cache/wave.pc2")
place(plane, 0, 2)
KIND["proj ä/shot 猫/cache/wave.pc2"] = "modifier 'Wave' of object"

# An ocean that was baked, cloth in a disk cache.
bpy.ops.mesh.primitive_plane_add()
sea = bpy.context.object
ocean = sea.modifiers.new("Sea", "OCEAN")
ocean.resolution = ocean.viewport_resolution = 4
ocean.frame_start, ocean.frame_end = 5, 8
(proj / "cache/sea").mkdir()
ocean.filepath = "//cache/sea"
sea.scale = (.03, .03, .03)
place(sea, 1, 2.4)
bpy.context.view_layer.objects.active = sea
assert bpy.ops.object.ocean_bake(modifier="Sea") == {"FINISHED"}
# Without a window Blender does not note that it has baked, so the files travel but are not missed.
bpy.ops.mesh.primitive_grid_add(x_subdivisions=6, y_subdivisions=6, size=0.9)
cloth = bpy.context.object
cloth.modifiers.new("Cloth", "CLOTH")
place(cloth, 2, 2.4)
cache = cloth.modifiers["Cloth"].point_cache
cache.name, cache.use_disk_cache, cache.frame_start, cache.frame_end = "cloth", True, 1, 8

# A volume in a sequence, where there is a library to write it.
try:
    import openvdb as vdb
except ImportError:
    try:
        import pyopenvdb as vdb
    except ImportError:
        vdb = None
if vdb is not None:
    for number in (6, 7, 8):
        grid = vdb.FloatGrid()
        grid.name = "density"
        grid.copyFromArray(np.random.default_rng(number).random((8, 8, 8)).astype(np.float32) * 3)
        grid.transform = vdb.createLinearTransform(voxelSize=0.12)
        vdb.write(str(proj / f"cache/smoke_{number:04}.vdb"), grids=[grid])
    volume = bpy.data.volumes.new("Smoke")
    volume.filepath = "//cache/smoke_0006.vdb"
    volume.is_sequence, volume.frame_start, volume.frame_duration, volume.frame_offset = True, 1, 9, 0
    item = bpy.data.objects.new("Smoke", volume)
    scene.collection.objects.link(item)
    item.location = (3, 0, 2)
    KIND["proj ä/shot 猫/cache/smoke_0007.vdb"] = "volume 'Smoke'"

# A sound that a speaker plays: no tile needs it, but it is the scene's.
with wave.open(str(proj / "more/beep.wav"), "wb") as sound:
    sound.setparams((1, 2, 8000, 0, "NONE", ""))
    sound.writeframes(bytes(1600))
bpy.ops.object.speaker_add()
bpy.context.object.data.sound = bpy.data.sounds.load(str(proj / "more/beep.wav"))
bpy.context.object.data.sound.filepath = "//more/beep.wav"
KIND["proj ä/shot 猫/more/beep.wav"] = "sound 'beep.wav'"

# Geometry nodes: a simulation that was baked to disk.
bpy.ops.mesh.primitive_cube_add(size=0.5)
sim = bpy.context.object
place(sim, 4, 2.4)
tree = bpy.data.node_groups.new("Sim", "GeometryNodeTree")
tree.interface.new_socket("Geometry", in_out="INPUT", socket_type="NodeSocketGeometry")
tree.interface.new_socket("Geometry", in_out="OUTPUT", socket_type="NodeSocketGeometry")
enter, leave = tree.nodes.new("NodeGroupInput"), tree.nodes.new("NodeGroupOutput")
begin, end = tree.nodes.new("GeometryNodeSimulationInput"), tree.nodes.new("GeometryNodeSimulationOutput")
begin.pair_with_output(end)
move = tree.nodes.new("GeometryNodeTransform")
move.inputs["Translation"].default_value = (0.03, 0, 0.05)
link = tree.links.new
link(enter.outputs[0], begin.inputs["Geometry"])
link(begin.outputs["Geometry"], move.inputs[0])
link(move.outputs[0], end.inputs["Geometry"])
link(end.outputs["Geometry"], leave.inputs[0])
modifier = sim.modifiers.new("Sim", "NODES")
modifier.node_group = tree
modifier.bake_directory = "//bakes/sim"
scene.frame_end = 8
bpy.ops.wm.save_mainfile()
bpy.context.view_layer.objects.active = sim
for item in bpy.context.selected_objects:
    item.select_set(False)
sim.select_set(True)
bake = modifier.bakes[0]
if hasattr(bake, "bake_target"):
    bake.bake_target = "DISK"
assert bpy.ops.object.geometry_node_bake_single(session_uid=sim.session_uid, modifier_name="Sim", bake_id=bake.bake_id) == {"FINISHED"}
blob = sorted((proj / "bakes/sim").rglob("*.blob"))
if blob:
    KIND[str(blob[0].relative_to(base))] = "modifier 'Sim' of object"
with bpy.context.temp_override(scene=scene, active_object=cloth, object=cloth, point_cache=cloth.modifiers["Cloth"].point_cache):
    bpy.ops.ptcache.bake(bake=True)
KIND["proj ä/shot 猫/blendcache_zoo scene/cloth_000007_00.bphys"] = "modifier 'Cloth' of object"
scene.frame_set(7)
bpy.ops.wm.save_mainfile()
import json
(base / "kinds.json").write_text(json.dumps(KIND))
"""
