"""A scene with one of every kind of file that a script can make, in a tree with spaces and letters of all sorts.

Each file is seen in the picture, so that a test can take it away and look. Fluids are apart (`FLUID`): none of the
Blenders here can run Mantaflow (the wheels and Debian's 4.3.2 end with an error of its Python module).
"""

from __future__ import annotations

MAKE = r"""
import math, os, shutil, struct, wave
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
UNSEEN = []
"Those of them that no picture shows."
SILENCED = []
"Sounds that can be seen."

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

# Libraries, one inside another: inner is by an absolute path outside of the project, deep by a relative one.
(proj / "lib/nest").mkdir()
picture(proj / "lib/nest/deep tex.png", 2)
bpy.ops.mesh.primitive_cube_add(location=(3, 0, 0))
bpy.context.object.name = "Deep"
image = bpy.data.images.load(str(proj / "lib/nest/deep tex.png"))
bpy.context.object.data.materials.append(textured("DeepMat", image)[0])
image.filepath = "//deep tex.png"
bpy.ops.wm.save_as_mainfile(filepath=str(proj / "lib/nest/deep.blend"), relative_remap=False)
bpy.ops.wm.read_factory_settings(use_empty=True)
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
bpy.ops.wm.save_as_mainfile(filepath=str(proj / "lib" / "middle.blend"), relative_remap=False)
with bpy.data.libraries.load(str(proj / "lib/nest/deep.blend"), link=True, relative=True) as (have, want):
    want.objects = ["Deep"]
group = bpy.data.collections.new("Middle")
bpy.context.scene.collection.children.link(group)
group.objects.link(bpy.data.objects["Inner"])
group.objects.link(bpy.data.objects["Deep"])
paths = {library.filepath for library in bpy.data.libraries}
assert paths == {str(outside / "inner.blend"), "//nest/deep.blend"}, paths
bpy.ops.wm.save_mainfile()
KIND["proj ä/shot 猫/lib/nest/deep.blend"] = "library 'deep.blend'"
KIND["proj ä/shot 猫/lib/nest/deep tex.png"] = "image 'deep tex.png'"
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
bpy.ops.mesh.primitive_cone_add(radius1=0.5, depth=0.8, rotation=(1, 1, 0))
bpy.context.object.name = "Cone"
monkey = bpy.data.objects["Suzanne"]
bpy.ops.wm.alembic_export(filepath=str(proj / "cache/monkey.abc"), start=1, end=10)
bpy.data.objects.remove(bpy.context.object)
(proj / "cache/layers").mkdir()
bpy.ops.wm.usd_export(filepath=str(proj / "cache/layers/monkey.usdc"), export_animation=True, root_prim_path="")
# A stage that has nothing of its own, and an archive in layers: the later one counts.
(proj / "cache/stage.usda").write_text("#usda 1.0\n(\n    subLayers = [@./layers/monkey.usdc@]\n    upAxis = \"Z\"\n)\n")
monkey.rotation_euler.z = 1
monkey.data.transform(__import__("mathutils").Matrix.Scale(0.6, 4))
bpy.ops.wm.alembic_export(filepath=str(proj / "cache/layers/small.abc"), start=1, end=10)

# A movie, in which the picture changes from frame to frame.
bpy.ops.wm.read_factory_settings(use_empty=True)
scene = bpy.context.scene
scene.render.engine = "CYCLES"
scene.cycles.samples = 1
scene.render.resolution_x = scene.render.resolution_y = 32
scene.frame_end = 9
bpy.ops.object.camera_add()
scene.camera = bpy.context.object
scene.world = bpy.data.worlds.new("World")
scene.world.use_nodes = True
color = scene.world.node_tree.nodes["Background"].inputs["Color"]
for frame in (1, 9):
    color.default_value = (frame / 9, 0.8, 1 - frame / 9, 1)
    color.keyframe_insert("default_value", frame=frame)
settings = scene.render.image_settings
if hasattr(settings, "media_type"):
    settings.media_type = "VIDEO"
settings.file_format = "FFMPEG"
scene.render.ffmpeg.format, scene.render.ffmpeg.codec = "MPEG4", "H264"
scene.render.filepath = str(proj / "tex/movie.mp4")
bpy.ops.render.render(animation=True)

bpy.ops.wm.read_factory_settings(use_empty=True)
scene = bpy.context.scene
scene.render.engine = "CYCLES"
scene.cycles.samples = 4
scene.cycles.use_adaptive_sampling = False
scene.cycles.use_denoising = False
scene.cycles.shading_system = True
if hasattr(scene.cycles, "volume_biased"):  # Blender 5.0 and later would look at all of a volume first, for seconds
    scene.cycles.volume_biased = True
scene.render.resolution_x, scene.render.resolution_y = 144, 96
scene.frame_end = 8
bpy.ops.wm.save_as_mainfile(filepath=str(proj / "zoo scene.blend"))
world = bpy.data.worlds.new("World")
scene.world = world
world.use_nodes = True
# Most of the time would be spent on how to sample the sky.
world.cycles.sampling_method, world.cycles.sample_map_resolution = "MANUAL", 16
bpy.ops.object.camera_add(location=(2.1, -16, 2.2), rotation=(math.pi / 2, 0, 0))
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
KIND["proj ä/shot 猫/tex/real/linked.png"] = "image 'linked.png'"
for number in (1001, 1002):
    picture(proj / f"tex/skin.{number}.png", number)
    KIND[f"proj ä/shot 猫/tex/skin.{number}.png"] = "image 'skin"
tiled = bpy.data.images.load(str(proj / "tex/skin.1001.png"))
tiled.source = "TILED"
tiled.filepath = "//tex/skin.<UDIM>.png"
material, node = textured("Tiled", tiled)
cube(0, 1, material)
# The second tile lies beside the first.
material, node = textured("Second tile", tiled)
place_on_it, beside = material.node_tree.nodes.new("ShaderNodeTexCoord"), material.node_tree.nodes.new("ShaderNodeMapping")
beside.inputs["Location"].default_value.x = 1
material.node_tree.links.new(place_on_it.outputs["UV"], beside.inputs["Vector"])
material.node_tree.links.new(beside.outputs[0], node.inputs["Vector"])
cube(-1, 0, material)
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

movie = bpy.data.images.load(str(proj / "tex/movie.mp4"))
movie.filepath = "//tex/movie.mp4"
assert movie.source == "MOVIE"
material, node = textured("Movie", movie)
node.image_user.frame_duration, node.image_user.use_auto_refresh = 9, True
cube(7, 0, material)
KIND["proj ä/shot 猫/tex/movie.mp4"] = "image 'movie.mp4'"
sky = bpy.data.images.new("sky", 16, 8, float_buffer=True)
sky.pixels.foreach_set(np.random.default_rng(5).random(16 * 8 * 4, dtype=np.float32))
sky.filepath_raw, sky.file_format = str(outside / "sky.exr"), "OPEN_EXR"
sky.save()
around = world.node_tree.nodes.new("ShaderNodeTexEnvironment")
around.image = bpy.data.images.load(str(outside / "sky.exr"))
world.node_tree.links.new(around.outputs[0], world.node_tree.nodes["Background"].inputs["Color"])
KIND["elsewhere/sky.exr"] = "image 'sky.exr'"

# A light by IES, a shader by OSL that includes a header beside it.
(proj / "tex/zoo.osl").write_text(
    '#include "stdosl.h"\n#include "stripes.h"\n'
    'shader zoo(output color Out = 0) { Out = color(STRIPES(u), STRIPES(v), 0.2); }\n')
(proj / "tex/stripes.h").write_text("#define STRIPES(x) (0.5 + 0.5 * sin(40 * (x)))\n")
material, _ = textured("OSL")
script = material.node_tree.nodes.new("ShaderNodeScript")
# Blender's own update of a Script node stops for want of oslquery, which the wheels do not bring; sockets as it would make.
with open(os.devnull, "w") as nowhere, __import__("contextlib").redirect_stderr(nowhere):
    script.mode, script.filepath = "EXTERNAL", "//tex/zoo.osl"
script.outputs.new("NodeSocketColor", "Out")
material.node_tree.links.new(script.outputs[0], material.node_tree.nodes["Principled BSDF"].inputs["Base Color"])
cube(0, 3, material)
KIND["proj ä/shot 猫/tex/zoo.osl"] = KIND["proj ä/shot 猫/tex/stripes.h"] = "of 'OSL'"
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
def from_cache(x, z, cache, name):
    item = cube(x, z, textured("Cached")[0])
    modifier = item.modifiers.new("Cache", "MESH_SEQUENCE_CACHE")
    modifier.cache_file = cache
    modifier.object_path = f"/{name}/{name}"

for name, path in (("monkey.abc", str(proj / "cache/monkey.abc")), ("stage.usda", "//cache/stage.usda")):
    bpy.ops.cachefile.open(filepath=str(proj / "cache" / name))
    cache = next(cache for cache in bpy.data.cache_files if cache.filepath.endswith(name))
    KIND[f"proj ä/shot 猫/cache/{name}"] = f"cache file {cache.name!r}"
    from_cache(6 if name == "stage.usda" else 5, 1, cache, "Suzanne")
    if name == "monkey.abc":
        from_cache(7, 1, cache, "Cone")
        cache.layers.new(filepath="//cache/layers/small.abc")
    cache.filepath = path
KIND["proj ä/shot 猫/cache/layers/small.abc"] = "cache file 'monkey.abc'"
KIND["proj ä/shot 猫/cache/layers/monkey.usdc"] = "cache file 'stage.usda'"
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

# An ocean that was baked. Without a window Blender does not note that it was, so that is put right in its memory:
# the flag is the byte before the mode.
bpy.ops.mesh.primitive_plane_add()
sea = bpy.context.object
ocean = sea.modifiers.new("Sea", "OCEAN")
ocean.resolution = ocean.viewport_resolution = 4
ocean.frame_start, ocean.frame_end = 5, 8
(proj / "cache/sea").mkdir()
ocean.filepath = "//cache/sea"
ocean.wave_scale = 4
sea.scale = (.01, .01, .01)
sea.rotation_euler = (1, 0, 0)
place(sea, 1, 2.2)
bpy.context.view_layer.objects.active = sea
assert bpy.ops.object.ocean_bake(modifier="Sea") == {"FINISHED"}
import ctypes
memory = (ctypes.c_ubyte * 4096).from_address(ocean.as_pointer())
before = bytes(memory)
ocean.geometry_mode = "DISPLACE"
changed = [at for at in range(4096) if before[at] != memory[at]]
ocean.geometry_mode = "GENERATE"
memory[changed[-1] - 1] = 1
assert ocean.is_cached and len(changed) == 1, changed
KIND["proj ä/shot 猫/cache/sea/disp_0007.exr"] = "modifier 'Sea' of object"

# Simulations in disk caches, each of which moves what is seen. They are baked at the end, all of them at once.
CACHES = []
def grid(x, z, size=0.9, cuts=6):
    bpy.ops.mesh.primitive_grid_add(x_subdivisions=cuts, y_subdivisions=cuts, size=size)
    item = bpy.context.object
    item.rotation_euler.x = 0.7
    place(item, x, z)
    return item

def on_disk(item, cache, name, words, moment="000007_00"):
    cache.name, cache.use_disk_cache, cache.frame_start, cache.frame_end = name, True, 1, 8
    CACHES.append((item, cache))
    KIND[f"proj ä/shot 猫/blendcache_zoo scene/{name}_{moment}.bphys"] = words

cloth = grid(2, 2.4)
on_disk(cloth, cloth.modifiers.new("Cloth", "CLOTH").point_cache, "cloth", "modifier 'Cloth' of object")
jelly = grid(3, 2.4)
on_disk(jelly, jelly.modifiers.new("Jelly", "SOFT_BODY").point_cache, "jelly", "modifier 'Jelly' of object")
jelly.modifiers["Jelly"].settings.use_goal = False
pond = grid(5, 2.2, cuts=12)
pond.modifiers.new("Pond", "DYNAMIC_PAINT")
with bpy.context.temp_override(active_object=pond, object=pond):
    bpy.ops.dpaint.type_toggle(type="CANVAS")
waves = pond.modifiers["Pond"].canvas_settings.canvas_surfaces[0]
waves.surface_type, waves.frame_start, waves.frame_end = "WAVE", 1, 8
on_disk(pond, waves.point_cache, "pond", "modifier 'Pond' of object")
bpy.ops.mesh.primitive_uv_sphere_add(radius=0.2, location=(5.1, 0, 2.2))
stone = bpy.context.object
stone.display_type = "WIRE"
stone.modifiers.new("Stone", "DYNAMIC_PAINT")
with bpy.context.temp_override(active_object=stone, object=stone):
    bpy.ops.dpaint.type_toggle(type="BRUSH")
stone.modifiers["Stone"].ui_type, stone.modifiers["Stone"].brush_settings.wave_type = "BRUSH", "DEPTH"
stone.keyframe_insert("location", frame=1)
stone.location.x -= 0.3
stone.keyframe_insert("location", frame=8)
bpy.ops.mesh.primitive_ico_sphere_add(subdivisions=1, radius=0.08, location=(0, 20, 0))
crumb = bpy.context.object

def fountain(x, z, name):
    item = grid(x, z, 0.4)
    item.modifiers.new(name, "PARTICLE_SYSTEM")
    system = item.particle_systems[0]
    system.name = name
    system.settings.brownian_factor = 3
    system.settings.count, system.settings.frame_start, system.settings.frame_end = 30, 1, 6
    system.settings.render_type, system.settings.instance_object, system.settings.particle_size = "OBJECT", crumb, 1
    return item, system.point_cache

item, cache = fountain(6, 2, "Sparks")
on_disk(item, cache, "sparks", "particles 'Sparks' of object")
item, cache = fountain(6, 3, "Guests")
on_disk(item, cache, "guests", "particles 'Guests' of object")
guests = cache
# What falls is kept in the .blend: a cache of rigid bodies on a disk ends Blender (4.2 to 5.2).
bpy.ops.rigidbody.world_add()
bpy.ops.mesh.primitive_cube_add(size=0.4, rotation=(0.3, 0.4, 0))
fallen = bpy.context.object
place(fallen, 4, 3.6)
bpy.ops.rigidbody.object_add(type="ACTIVE")
scene.rigidbody_world.point_cache.frame_end = 8

# A sound that a speaker plays: no picture shows it, but it is the scene's. From Blender 5.2 on nodes can hear.
def beep(name, hertz):
    with wave.open(str(proj / "more" / name), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(b"".join(struct.pack("<h", int(2e4 * math.sin(hertz * 6.28 * at / 8000))) for at in range(8000)))
    sound = bpy.data.sounds.load(str(proj / "more" / name))
    sound.filepath = f"//more/{name}"
    KIND[f"proj ä/shot 猫/more/{name}"] = f"sound '{name}'"
    return sound

bpy.ops.object.speaker_add()
bpy.context.object.data.sound = beep("beep.wav", 440)
UNSEEN.append("proj ä/shot 猫/more/beep.wav")

# Geometry nodes.
def geometry(name):
    tree = bpy.data.node_groups.new(name, "GeometryNodeTree")
    tree.interface.new_socket("Geometry", in_out="INPUT", socket_type="NodeSocketGeometry")
    tree.interface.new_socket("Geometry", in_out="OUTPUT", socket_type="NodeSocketGeometry")
    return tree, tree.nodes.new("NodeGroupInput"), tree.nodes.new("NodeGroupOutput")

def with_nodes(x, z, name, tree):
    bpy.ops.mesh.primitive_cube_add(size=0.5)
    item = bpy.context.object
    place(item, x, z)
    modifier = item.modifiers.new(name, "NODES")
    modifier.node_group = tree
    return item, modifier

def bake(item, modifier):
    bpy.context.view_layer.objects.active = item
    one = modifier.bakes[0]
    if hasattr(one, "bake_target"):
        one.bake_target = "DISK"
    done = bpy.ops.object.geometry_node_bake_single(
        session_uid=item.session_uid, modifier_name=modifier.name, bake_id=one.bake_id)
    assert done == {"FINISHED"}

def baked(tree):
    node = tree.nodes.new("GeometryNodeBake")
    if not node.bake_items:  # Blender 5.2 leaves that to the menu
        node.bake_items.new("GEOMETRY", "Geometry")
    return node

def blob_of(folder, moment, ending):
    return str(next(iter(sorted(folder.rglob(f"{moment}*{ending}")))).relative_to(base))

# A simulation that was baked to a folder of its own.
tree, enter, leave = geometry("Sim")
begin, end = tree.nodes.new("GeometryNodeSimulationInput"), tree.nodes.new("GeometryNodeSimulationOutput")
begin.pair_with_output(end)
move = tree.nodes.new("GeometryNodeTransform")
move.inputs["Translation"].default_value = (0.03, 0, 0.05)
join = tree.links.new
join(enter.outputs[0], begin.inputs["Geometry"])
join(begin.outputs["Geometry"], move.inputs[0])
join(move.outputs[0], end.inputs["Geometry"])
join(end.outputs["Geometry"], leave.inputs[0])
sim, modifier = with_nodes(4, 2.2, "Sim", tree)
modifier.bake_directory = "//bakes/sim"
bake(sim, modifier)
KIND[blob_of(proj / "bakes/sim", "00007", ".blob")] = "modifier 'Sim' of object"
# A Bake node with a folder of its own, and one that leaves it to Blender. A volume is baked as VDB.
for x, name, kind in ((-1, "Still", "GeometryNodeMeshIcoSphere"), (-2, "Cloud", "GeometryNodeVolumeCube")):
    tree, enter, leave = geometry(name)
    made, keep = tree.nodes.new(kind), baked(tree)
    if name == "Cloud":
        for axis in "XYZ":
            made.inputs[f"Resolution {axis}"].default_value = 8
    tree.links.new(made.outputs[0], keep.inputs[0])
    tree.links.new(keep.outputs[0], leave.inputs[0])
    item, modifier = with_nodes(x, 2.6, name, tree)
    item.scale = (.4, .4, .4)
    if name == "Still":
        modifier.bakes[0].use_custom_path, modifier.bakes[0].directory = True, "//bakes/still"
    modifier.bakes[0].bake_mode = "STILL"
    bake(item, modifier)
KIND[blob_of(proj / "bakes/still", "", ".blob")] = "modifier 'Still' of object"
cloud = blob_of(proj / "blendcache_zoo scene", "", ".vdb")
KIND[cloud] = "modifier 'Cloud' of object"

# Volumes by file, in a sequence: what was baked, once more.
for number in (6, 7, 8):
    shutil.copy(base / cloud, proj / f"cache/smoke_{number:04}.vdb")
volume = bpy.data.volumes.new("Smoke")
volume.filepath = "//cache/smoke_0006.vdb"
volume.is_sequence, volume.frame_start, volume.frame_duration, volume.frame_offset = True, 1, 9, 0
item = bpy.data.objects.new("Smoke", volume)
scene.collection.objects.link(item)
item.location, item.scale = (-2, 0, 1), (.4, .4, .4)
fog = bpy.data.materials.new("Fog")
fog.use_nodes = True
dense = fog.node_tree.nodes.new("ShaderNodeVolumePrincipled")
dense.inputs["Density"].default_value = 4
fog.node_tree.links.new(dense.outputs[0], fog.node_tree.nodes["Material Output"].inputs["Volume"])
volume.materials.append(fog)
KIND["proj ä/shot 猫/cache/smoke_0007.vdb"] = "volume 'Smoke'"

# Multires in a file of its own.
bpy.ops.mesh.primitive_cube_add(size=0.6)
carved = bpy.context.object
modifier = carved.modifiers.new("Carved", "MULTIRES")
bpy.ops.object.multires_subdivide(modifier="Carved", mode="LINEAR")
assert bpy.ops.object.multires_external_save(filepath=str(proj / "cache/carved.btx"), modifier="Carved") == {"FINISHED"}
modifier.filepath = "//cache/carved.btx"
place(carved, -1, 1)
KIND["proj ä/shot 猫/cache/carved.btx"] = "modifier 'Carved' of object"

# Nodes that read files (Blender 4.5 and later): the path in the node, in a String node, in a group, in the modifier.
if hasattr(bpy.types, "GeometryNodeImportSTL"):
    corners = "v 0 0 0\nv .6 0 .1\nv .6 .1 .6\nv 0 .2 .6\n"
    for name in ("in node", "in string", "in group", "in modifier"):
        (proj / f"more/{name}.obj").write_text(corners + "f 1 2 3 4\n")
    def reader(name):
        tree, enter, leave = geometry(name)
        node = tree.nodes.new("GeometryNodeImportOBJ")
        realize = tree.nodes.new("GeometryNodeRealizeInstances")
        tree.links.new(node.outputs[0], realize.inputs[0])
        tree.links.new(realize.outputs[0], leave.inputs[0])
        return tree, enter, leave, node
    tree, _, _, node = reader("Node")
    node.inputs["Path"].default_value = "//more/in node.obj"
    with_nodes(-1.2, 4, "Node", tree)
    KIND["proj ä/shot 猫/more/in node.obj"] = "node 'Import OBJ' of 'Node'"
    tree, _, _, node = reader("Text")
    text_node = tree.nodes.new("FunctionNodeInputString")
    text_node.string = str(proj / "more/in string.obj")
    bend = tree.nodes.new("NodeReroute")
    tree.links.new(text_node.outputs[0], bend.inputs[0])
    tree.links.new(bend.outputs[0], node.inputs["Path"])
    with_nodes(-.4, 4, "Text", tree)
    KIND["proj ä/shot 猫/more/in string.obj"] = "node 'String' of 'Text'"
    tree, enter, _, node = reader("Reader")
    socket = tree.interface.new_socket("Which", in_out="INPUT", socket_type="NodeSocketString")
    tree.links.new(enter.outputs["Which"], node.inputs["Path"])
    _, modifier = with_nodes(.4, 4, "Direct", tree)
    if hasattr(modifier, "properties"):  # Blender 5.2 and later
        getattr(modifier.properties.inputs, socket.identifier).value = str(proj / "more/in modifier.obj")
    else:
        modifier[socket.identifier] = str(proj / "more/in modifier.obj")
    KIND["proj ä/shot 猫/more/in modifier.obj"] = "modifier 'Direct' of object"
    outer, _, leave = geometry("Outer")
    group = outer.nodes.new("GeometryNodeGroup")
    group.node_tree = tree
    group.inputs["Which"].default_value = "//more/in group.obj"
    outer.links.new(group.outputs[0], leave.inputs[0])
    with_nodes(1.2, 4, "Grouped", outer)
    KIND["proj ä/shot 猫/more/in group.obj"] = "node 'Group' of 'Outer'"
if hasattr(bpy.types, "GeometryNodeSampleSoundFrequencies"):
    tree, enter, leave = geometry("Listen")
    ear, size = tree.nodes.new("GeometryNodeSampleSoundFrequencies"), tree.nodes.new("ShaderNodeCombineXYZ")
    # A Blender that misses it ends (5.2.3), so a test can only silence it.
    ear.inputs["Sound"].default_value = beep("heard.wav", 220)
    SILENCED.append("proj ä/shot 猫/more/heard.wav")
    ear.inputs["Time"].default_value, ear.inputs["Low"].default_value, ear.inputs["High"].default_value = 0.4, 100, 400
    move = tree.nodes.new("GeometryNodeTransform")
    tree.links.new(ear.outputs[0], size.inputs["X"])
    tree.links.new(size.outputs[0], move.inputs["Translation"])
    tree.links.new(enter.outputs[0], move.inputs[0])
    tree.links.new(move.outputs[0], leave.inputs[0])
    with_nodes(2.4, 4, "Listen", tree)

bpy.ops.wm.save_mainfile()
for item, cache in CACHES:
    with bpy.context.temp_override(scene=scene, active_object=item, object=item, point_cache=cache):
        assert bpy.ops.ptcache.bake(bake=True) == {"FINISHED"}
with bpy.context.temp_override(scene=scene, point_cache=scene.rigidbody_world.point_cache):
    assert bpy.ops.ptcache.bake(bake=True) == {"FINISHED"}
# From now on they would go elsewhere, were they not kept.
for system in (item.particle_systems[0] for item, _ in CACHES if item.particle_systems):
    system.settings.effector_weights.gravity = 0
waves.wave_speed, waves.wave_damping = 0.2, 0.5
# A cache that was moved away and is used from there.
(proj / "cache/guests").mkdir()
for file in (proj / "blendcache_zoo scene").glob("guests_*"):
    file.rename(proj / "cache/guests" / file.name)
guests.use_external, guests.filepath = True, "//cache/guests"
del KIND["proj ä/shot 猫/blendcache_zoo scene/guests_000007_00.bphys"]
KIND["proj ä/shot 猫/cache/guests/guests_000007_00.bphys"] = "particles 'Guests' of object"
scene.frame_set(7)
bpy.ops.wm.save_mainfile()
import json
(base / "kinds.json").write_text(json.dumps({"kinds": KIND, "unseen": UNSEEN, "silenced": SILENCED}))
"""

FLUID = r"""
base = Path(sys.argv[-1])
(base / "smoke/data").mkdir(parents=True)
(base / "smoke/config").mkdir()
for number in (3, 5, 6, 7, 8, 12):
    (base / f"smoke/data/fluid_data_{number:04}.vdb").write_bytes(b"density")
    (base / f"smoke/config/config_{number:04}.uni").write_bytes(b"config")
bpy.ops.wm.read_factory_settings(use_empty=True)
scene = bpy.context.scene
scene.render.engine = "CYCLES"
bpy.ops.object.camera_add()
scene.camera = bpy.context.object
bpy.ops.mesh.primitive_cube_add()
domain = bpy.context.object
modifier = domain.modifiers.new("Smoke", "FLUID")
# Not computed: see above.
modifier.show_viewport = modifier.show_render = False
modifier.fluid_type = "DOMAIN"
settings = modifier.domain_settings
settings.domain_type, settings.cache_type = "GAS", "ALL"
settings.cache_frame_start, settings.cache_frame_end = 1, 20
settings.cache_directory = sys.argv[-2] or str(base / "smoke")
scene.frame_set(7)
bpy.ops.wm.save_as_mainfile(filepath=str(base / "smoke.blend"), relative_remap=False)
"""
"""A domain and the folder of its cache, as Mantaflow lays it out; `sys.argv[-2]` is the path to it in the .blend."""
