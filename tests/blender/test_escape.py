"""A .blend from a stranger, rendered on a node: nothing is written there outside of the job's folder."""

from __future__ import annotations

import os
from pathlib import Path

from .. import support
from ..sshd import Sshd
from . import house, zoo
from .test_nodes import known_hosts, nodes_file

CRAFTED = (
    support.COMPOSITOR
    + r"""
from pathlib import Path
outside, up = sys.argv[-2], "//" + "../" * 40
scene.render.resolution_percentage = 50
scene.cycles.samples, scene.cycles.shading_system = 1, True
# Motion blur looks at the next frame too, so that a simulation takes a step.
scene.render.use_motion_blur, scene.render.motion_blur_shutter = True, 1
blur = scene.render if hasattr(scene.render, "motion_blur_position") else scene.cycles
blur.motion_blur_position = "START"
# Caches on a disk need a file that is saved; what is new would have its paths made relative.
bpy.ops.wm.save_as_mainfile(filepath=sys.argv[-1], relative_remap=False)
# Simulations, which write each frame that they compute. A name with slashes Blender itself does not give.
for number, (name, path) in enumerate((
    ("plain", outside + "/absolute"),
    ("plain", up + outside[1:] + "/relative"),
    ("plain", up.replace("/", "\\")[2:].join(("//", "")) + outside[1:].replace("/", "\\") + "\\windows"),
    (NAME, ""),
)):
    bpy.ops.mesh.primitive_grid_add(x_subdivisions=4, y_subdivisions=4, location=(number, 0, 2))
    cache = bpy.context.object.modifiers.new("Cloth", "CLOTH").point_cache
    cache.name, cache.use_disk_cache = name, True
    if path:
        cache.use_external, cache.filepath = True, path
bpy.ops.mesh.primitive_plane_add()
bpy.context.object.modifiers.new("P", "PARTICLE_SYSTEM")
cache = bpy.context.object.particle_systems[0].point_cache
cache.use_disk_cache, cache.name, cache.use_external, cache.filepath = True, "dust", True, outside + "/dust"
# Scripts of OSL, which Cycles compiles beside the source.
for name, path in (("evil", outside + "/evil.osl"), ("climb", up + outside[1:] + "/climb.osl")):
    Path(outside, name + ".osl").write_text("shader %s(output color Out = 0) { Out = color(0.2, u, v); }" % name)
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    node = material.node_tree.nodes.new("ShaderNodeScript")
    try:
        node.mode, node.filepath = "EXTERNAL", path
    except RuntimeError:
        pass
    socket = node.outputs.get("Out") or node.outputs.new("NodeSocketColor", "Out")
    material.node_tree.links.new(socket, material.node_tree.nodes["Principled BSDF"].inputs["Base Color"])
    bpy.ops.mesh.primitive_cube_add(location=(len(name), 1, 0))
    bpy.context.object.data.materials.append(material)
# Outputs.
tree.links.new(layers.outputs["Image"], output.inputs[0])
file = tree.nodes.new("CompositorNodeOutputFile")
if hasattr(file, "base_path"):
    file.base_path = outside + "/composited"
    tree.links.new(layers.outputs["Image"], file.inputs[0])
else:  # Blender 5.0 and later
    file.directory = outside + "/composited"
    file.file_output_items.new("RGBA", "Image")
    tree.links.new(layers.outputs["Image"], file.inputs[0])
# Pictures that are only read, whose paths lead to other places of the node.
for path in ("/etc/passwd", up + "etc/passwd", "C:\\..\\..\\etc\\passwd", "\\\\server\\..\\..\\etc\\passwd"):
    image = bpy.data.images.new("read", 4, 4)
    image.source, image.filepath = "FILE", path
    image.use_fake_user = True
"""
)


NAME = "NAME" * 15
"""What stands in the file for the name of a cache that climbs, until it is put there."""


def test_nothing_is_written_outside_of_the_jobs_folder(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    code = support.SCENE.format(width=96, height=64, more=CRAFTED)
    code = code.replace("filepath=sys.argv[-1])", "filepath=sys.argv[-1], compress=False)")
    blend = tmp_path / "a" / "crafted.blend"
    blend.parent.mkdir()
    house.python(code.replace("(NAME,", f"({NAME!r},"), outside, blend)
    climb = ("../" * (len(blend.parent.parts) + 2) + "escaped").encode()
    data = blend.read_bytes()
    assert NAME.encode() in data
    assert len(climb) < len(NAME)
    blend.write_bytes(data.replace(NAME.encode(), climb.ljust(len(NAME), b"\0")))
    environment = {"TMPDIR": str(temporary)}
    if "BPY_PYTHON" in os.environ:
        environment["BPY_PYTHON"] = os.environ["BPY_PYTHON"]
    with Sshd(tmp_path / "node", environment=environment, hidden=outside) as machine:
        as_it_sees = Path(f"/proc/{machine.pid}/root") / outside.relative_to("/")
        (as_it_sees / "proof").touch()
        assert not (outside / "proof").exists(), "the node has an empty folder of its own there"
        # Where the paths lead to it has something of its own.
        there = {"proof", "evil.osl", "climb.osl"}
        for name in there - {"proof"}:
            (as_it_sees / name).write_bytes((outside / name).read_bytes())
        done = house.blender(
            *("--online-mode", blend, "--command", "distributed_cycles", "render"),
            *("--nodes", nodes_file(tmp_path, [machine]), "--known-hosts", known_hosts(tmp_path, [machine])),
            *("--no-local", "--tile-size", "32", "--job-dir", tmp_path / "job"),
            *("--output", tmp_path / "picture"),
        )
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "picture.png").is_file()
        assert {path.name for path in as_it_sees.rglob("*")} == there
        assert support.wait_until(lambda: not any(temporary.iterdir()), 10), sorted(temporary.rglob("*"))


def test_a_fluid_would_write_below_the_root_too(tmp_path: Path) -> None:
    """None can be computed here (see zoo), so this looks at where the node's Blender would write."""
    place = tmp_path / "root" / "home" / "me"
    place.mkdir(parents=True)
    for path in ("//../../../../../../../../../../etc/smoke", "/etc/smoke", "C:\\..\\smoke"):
        house.python(zoo.FLUID.replace("mkdir(parents=True)", "mkdir(parents=True, exist_ok=True)").replace(
            '"smoke/config").mkdir()', '"smoke/config").mkdir(exist_ok=True)'), path, place)  # fmt: skip
        house.python(
            """
root, text = Path(sys.argv[-2]), sys.argv[-1]
settings = bpy.data.objects["Cube"].modifiers["Smoke"].domain_settings
module("engine.worker.remap").remap(root)
assert Path(settings.cache_directory) == root / ("smoke" if text[0] == "C" else "etc/smoke"), settings.cache_directory
""",
            tmp_path / "root",
            path,
            blend=place / "smoke.blend",
        )


def test_paths_in_a_library_that_is_packed_lead_below_the_root_too(tmp_path: Path) -> None:
    """Nothing of the library itself is sent then, so Blender would look beside the place that it had elsewhere."""
    code = """
from pathlib import Path
remap = module("engine.worker.remap").remap
folder, root = Path(sys.argv[-1]) / "project", Path(sys.argv[-1]) / "root"
(folder / "lib").mkdir(parents=True)
picture = bpy.data.images.new("picture", 4, 4)
picture.filepath_raw, picture.file_format = str(folder / "lib" / "picture.png"), "PNG"
picture.save()
for name, path in (("beside", "//picture.png"), ("absolute", str(folder / "lib" / "picture.png"))):
    image = bpy.data.images.load(str(folder / "lib" / "picture.png"))
    image.name, image.use_fake_user = name, True
bpy.ops.wm.save_as_mainfile(filepath=str(folder / "lib" / "lib.blend"))
bpy.data.images["beside"].filepath = "//picture.png"
bpy.data.images["absolute"].filepath = str(folder / "lib" / "picture.png")
bpy.ops.wm.save_as_mainfile(filepath=str(folder / "lib" / "lib.blend"), relative_remap=False)
bpy.ops.wm.read_homefile(use_empty=True)
with bpy.data.libraries.load(str(folder / "lib" / "lib.blend"), link=True) as (there, here):
    here.images = ["beside", "absolute"]
for image in bpy.data.images:
    bpy.data.objects.new(image.name, None)["image"] = image
    bpy.context.scene.collection.objects.link(bpy.data.objects[image.name])
# Blender packs libraries with relative paths only.
bpy.ops.wm.save_as_mainfile(filepath=str(folder / "main.blend"))
library = bpy.data.libraries[0]
library.filepath = "//lib/lib.blend"
bpy.ops.file.pack_libraries()
library.filepath = str(folder / "lib" / "lib.blend")
place = root / str(folder)[1:]
place.mkdir(parents=True)
bpy.ops.wm.save_as_mainfile(filepath=str(place / "main.blend"), relative_remap=False)
(folder / "lib" / "lib.blend").unlink()
bpy.ops.wm.open_mainfile(filepath=str(place / "main.blend"))
assert bpy.data.libraries[0].packed_file
remap(root)
wanted = str(place / "lib" / "picture.png")
assert [image.filepath for image in bpy.data.images if image.library] == [wanted, wanted], [i.filepath for i in bpy.data.images]
"""
    house.python(code, tmp_path)
