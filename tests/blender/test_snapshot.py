"""From the scene to a job: what is refused, what is warned of, what travels along."""

from __future__ import annotations

from pathlib import Path

import pytest

from .. import support
from ..support import exr
from .house import EXR_OUTPUT, python, render

SEQUENCER = """
strips = scene.sequence_editor_create()
strips = strips.strips if hasattr(strips, "strips") else strips.sequences
is_new = "length" in strips.bl_rna.functions["new_effect"].parameters
end = {"length": 9} if is_new else {"frame_end": 9}
strips.new_effect(name="Red", type="COLOR", channel=1, frame_start=1, **end)
"""
REFUSED = {
    "no camera": ("scene.camera = None", "has no camera"),
    "not Cycles": ("scene.render.engine = 'BLENDER_WORKBENCH'", "is not rendered by Cycles"),
    "stereo": ("scene.render.use_multiview = True", "Stereoscopy"),
    "time limit": ("scene.cycles.time_limit = 60", "Time Limit of 60 s"),
    "Freestyle": ("scene.render.use_freestyle = True", "Freestyle"),
    "sequencer": (
        SEQUENCER,
        "Video Sequencer has strips",
    ),
    "no view layer": ("scene.view_layers[0].use = False", "No view layer is enabled"),
    "empty region": (
        "scene.render.use_border = True; scene.render.border_max_x = scene.render.border_min_x = 0.5",
        "render region is empty",
    ),
    "output below a file": ("scene.render.filepath = bpy.data.filepath + '/x/y'", "is not writable"),
    "output where nothing may be made": ("scene.render.filepath = '/proc/x/y'", "is not writable"),
    "output is a folder": (
        "Path(sys.argv[-1] + '.d/x.png').mkdir(parents=True); scene.render.filepath = sys.argv[-1] + '.d/x'",
        "cannot be replaced",
    ),
}


def test_what_cannot_be_rendered_is_named(blend: Path) -> None:
    python(
        f"CASES = {REFUSED!r}"
        """
snapshot, job = module("operators.snapshot"), module("engine.job")
for name, (change, words) in CASES.items():
    bpy.ops.wm.open_mainfile(filepath=sys.argv[-1])
    scene = bpy.context.scene
    exec(change)
    try:
        snapshot.take(scene, "ViewLayer", snapshot.Wishes(), workers=1)
    except job.JobError as error:
        assert words in str(error) and error.hint, (name, str(error))
    else:
        raise AssertionError(f"{name}: not refused")
""",
        blend,
    )


def test_sound_is_no_obstacle_and_drawing_touches_no_file(blend: Path) -> None:
    """F12 renders the camera's picture beside sound; and a panel that is drawn must not try to write."""
    python(
        "scene = bpy.context.scene\n"
        + SEQUENCER
        + """
snapshot, job = module("operators.snapshot"), module("engine.job")
strip = strips[0]
def is_refused(check):
    try:
        check(scene)
    except job.JobError:
        return True
    return False
assert is_refused(snapshot.check_settings)
scene.render.use_sequencer = False
assert not is_refused(snapshot.check_settings)
scene.render.use_sequencer = True
strip.mute = True
assert not is_refused(snapshot.check_settings)
scene.render.filepath = "/proc/x/y"
assert not is_refused(snapshot.check_settings) and is_refused(snapshot.check)
""",
        blend=blend,
    )


@pytest.mark.parametrize(("change", "words"), [REFUSED["no camera"], REFUSED["not Cycles"]])
def test_command_line_says_so_too(blend: Path, change: str, words: str) -> None:
    done = render(blend, first=f"scene = bpy.context.scene; {change}")
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_what_will_differ_is_said(blend: Path) -> None:
    python(
        """
snapshot = module("operators.snapshot")
scene = bpy.context.scene
def words(**wishes):
    return " ".join(snapshot.warnings_of(scene, snapshot.Wishes(**wishes)))
assert words() == "", words()
scene.cycles.use_guiding = True
can_split = bpy.app.version >= (4, 4, 0)
assert ("split by samples" in words()) == can_split and "Path Guiding" in words()
assert "each tile learns alone" in words(split="TILES")
assert ("from 4.4 on" in words(split="SAMPLES")) != can_split
scene.cycles.use_guiding = False
assert ("is the mean of its parts" in words(split="SAMPLES")) == can_split
scene.cycles.use_adaptive_sampling = True
assert words(margin=4) == "" and "less than the 4 px" in words(margin=3)
scene.cycles.use_denoising = True
assert words() == "", words()
scene.objects[-1].is_shadow_catcher = True
assert "Shadow catchers" in words()
""",
        blend=blend,
    )


def test_margin_follows_the_scene(blend: Path) -> None:
    python(
        """
snapshot = module("operators.snapshot")
scene = bpy.context.scene
assert snapshot.overscan_of(scene) == 0
scene.cycles.use_adaptive_sampling = True
assert snapshot.overscan_of(scene) == 4
world = scene.world
world.use_nodes = True
fog = world.node_tree.nodes.new("ShaderNodeVolumeScatter")
output = next(node for node in world.node_tree.nodes if node.type == "OUTPUT_WORLD")
world.node_tree.links.new(fog.outputs[0], output.inputs["Volume"])
assert snapshot.overscan_of(scene) == (16 if bpy.app.version >= (5, 0, 0) else 4)
""",
        blend=blend,
    )


TEXTURE = """
material = bpy.data.materials.new("Painted")
material.use_nodes = True
node = material.node_tree.nodes.new("ShaderNodeTexImage")
shader = material.node_tree.nodes["Principled BSDF"]
material.node_tree.links.new(node.outputs[0], shader.inputs["Base Color"])
for item in bpy.data.objects:
    if item.type == "MESH":
        item.data.materials.clear()
        item.data.materials.append(material)
def picture(path, *color):
    image = bpy.data.images.new("made", 8, 8)
    image.pixels = [*color, 1.0] * 64
    image.filepath_raw, image.file_format = str(path), "PNG"
    image.save()
    bpy.data.images.remove(image)
folder = Path(bpy.data.filepath).parent
"""


def test_relative_tiled_and_animated_images_travel(blend: Path, tmp_path: Path) -> None:
    """Equal to F12 with the originals, which the worker must find below its own root."""
    python(
        TEXTURE
        + """
scene = bpy.context.scene
bpy.ops.wm.save_as_mainfile(filepath=sys.argv[-1])
folder = Path(sys.argv[-1]).parent
(folder / "tex").mkdir()
for number in range(1, 5):
    picture(folder / f"tex/walk_{number:03}.png", number / 4, 0.2, 0)
for number in (1001, 1002):
    picture(folder / f"tex/skin.{number}.png", 0, 0.9, 0.3)
sequence = bpy.data.images.load(str(folder / "tex/walk_001.png"))
sequence.source = "SEQUENCE"
node.image = sequence
node.image_user.frame_duration, node.image_user.frame_start = 4, 5
tiled = bpy.data.images.load(str(folder / "tex/skin.1001.png"))
tiled.source = "TILED"
tiled.filepath = str(folder / "tex/skin.<UDIM>.png")
other = material.node_tree.nodes.new("ShaderNodeTexImage")
other.image = tiled
material.node_tree.links.new(other.outputs[0], shader.inputs["Emission Color"])
shader.inputs["Emission Strength"].default_value = 0.5
bpy.ops.file.make_paths_relative()
scene.frame_set(7)
bpy.ops.wm.save_mainfile()

files = module("operators.files")
found = files.find(scene)
names = sorted(Path(file.source).name for file in found.files)
assert names == ["skin.1001.png", "skin.1002.png", "walk_003.png"], found
assert not found.missing, found
""",
        tmp_path / "textured.blend",
        blend=blend,
    )
    done = render(tmp_path / "textured.blend", "--output", tmp_path / "out.exr", first=EXR_OUTPUT)
    assert done.returncode == 0, done.stderr
    expected = support.render_f12(tmp_path / "textured.blend", tmp_path / "f12.exr")
    support.assert_equal(exr.read(tmp_path / "out.exr")[0], expected)


def test_missing_texture_is_named_with_who_wants_it(blend: Path, tmp_path: Path) -> None:
    change = TEXTURE + (
        "picture('/tmp/dc_gone.png', 1, 0, 0)\n"
        "node.image = bpy.data.images.load('/tmp/dc_gone.png')\n"
        "Path('/tmp/dc_gone.png').unlink()\n"
    )
    done = render(blend, "--output", tmp_path / "out", first="from pathlib import Path\n" + change)
    assert done.returncode == 0, done.stderr
    assert "Missing file: /tmp/dc_gone.png, wanted by image 'dc_gone.png'" in done.stderr


def test_unsaved_edits_reach_the_nodes(blend: Path, tmp_path: Path) -> None:
    """Equal to F12 of the session as it is, and the session is as it was.

    Until Blender 5.1 F12 reads an image file from disk also where it was painted over; pixels
    that only memory holds travel beside the snapshot.
    """
    python(
        TEXTURE
        + EXR_OUTPUT
        + """
scene = bpy.context.scene
folder = Path(sys.argv[-1])
picture(folder / "paint.png", 0.1, 0.1, 0.1)
image = bpy.data.images.load(str(folder / "paint.png"))
node.image = image
image.pixels[0:64] = [0.9, 0.3, 0.0, 1.0] * 16
import random
def scribble(name, **options):
    made = bpy.data.images.new(name, 16, 8, **options)
    return made, [random.Random(name).random() for _ in range(16 * 8 * 4)]
used = []
for name, options in (("Byte", {}), ("Float", {"float_buffer": True}), ("Packed", {})):
    made, values = scribble(name, **options)
    if name == "Packed":
        made.pixels.foreach_set([0.5] * len(values))
        made.pack()
        assert made.packed_file and not made.is_dirty
    made.pixels.foreach_set(values)
    made.update()
    used.append(made)
    shown = material.node_tree.nodes.new("ShaderNodeTexImage")
    shown.image = made
    socket = {"Byte": "Roughness", "Float": "Coat Weight", "Packed": "Metallic"}[name]
    material.node_tree.links.new(shown.outputs[0], shader.inputs[socket])
bpy.data.objects[-1].location.x += 0.5
assert image.is_dirty

scene.render.filepath = str(folder / "out.exr")
dirty = [made.is_dirty for made in used]
before = bpy.data.filepath, bpy.data.is_dirty, image.filepath, [library.filepath for library in bpy.data.libraries]
assert bpy.ops.distributed_cycles.render() == {"FINISHED"}
after = bpy.data.filepath, bpy.data.is_dirty, image.filepath, [library.filepath for library in bpy.data.libraries]
assert before == after, (before, after)
assert (image.is_dirty, image.source) == (True, "FILE"), (image.is_dirty, image.source)
assert [made.is_dirty for made in used] == dirty, (dirty, [made.is_dirty for made in used])
assert [made.source for made in used] == ["GENERATED", "GENERATED", "FILE"]

# Last, because without a window F12 drops unsaved pixels when it is done.
scene.render.filepath = str(folder / "f12.exr")
bpy.ops.render.render(write_still=True)
""",
        tmp_path,
        blend=blend,
    )
    support.assert_equal(exr.read(tmp_path / "out.exr")[0], exr.read(tmp_path / "f12.exr")[0])


def test_scripts_run_on_nodes_as_they_do_here(blend: Path) -> None:
    code = """
snapshot = module("operators.snapshot")
files = bpy.context.preferences.filepaths
for allowed in (True, False):
    files.use_scripts_auto_execute = allowed
    assert snapshot.use_scripts() is allowed
sys.argv.insert(1, "-y")
assert snapshot.use_scripts()
"""
    python(code, blend=blend)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("/tmp/a/still", "/tmp/a/still.png"),
        ("/tmp/a/still.png", "/tmp/a/still.png"),
        ("/tmp/a/v1.2", "/tmp/a/v1.2.png"),
        ("/tmp/a/.hidden", "/tmp/a/.hidden.png"),
        ("/tmp/a/still_####", "/tmp/a/still_0012.png"),
        ("/tmp/a/##_still.png", "/tmp/a/12_still.png"),
        ("/tmp/a/", "/tmp/a/0012.png"),
        ("//pic", "{blend}/pic.png"),
    ],
)
def test_output_path_is_read_as_blender_reads_it(blend: Path, written: str, expected: str) -> None:
    found = python(
        f"bpy.context.scene.render.filepath = {written!r}\n"
        "print('PATH', module('operators.output').still_path(bpy.context.scene, 12))",
        blend=blend,
    )
    assert f"PATH {expected.format(blend=blend.parent)}" in found.splitlines()


def test_painted_tiles_and_linked_images_reach_the_nodes(blend: Path, tmp_path: Path) -> None:
    """Tiles that are packed (from Blender 4.3 on; 4.2 cannot write them and says so), and images of a library."""
    python(
        "bpy.ops.wm.read_factory_settings(use_empty=True)\nimport random"
        """
def painted(name, **options):
    made = bpy.data.images.new(name, 16, 8, **options)
    made.use_fake_user = True
    return made
painted("Linked"); painted("Linked float", float_buffer=True); painted("Linked packed").pack()
bpy.ops.wm.save_as_mainfile(filepath=sys.argv[-1])
""",
        tmp_path / "library.blend",
    )
    python(
        TEXTURE
        + EXR_OUTPUT
        + """
import random
scene, folder = bpy.context.scene, Path(sys.argv[-1])
for number in (1001, 1002):
    picture(folder / f"skin.{number}.png", 0.2, 0.5, number / 2000)
tiled = bpy.data.images.load(str(folder / "skin.1001.png"))
tiled.source, tiled.filepath = "TILED", str(folder / "skin.<UDIM>.png")
tiled.pack()
for number in (1001, 1002):
    (folder / f"skin.{number}.png").unlink()
with bpy.data.libraries.load(str(folder / "library.blend"), link=True) as (have, want):
    want.images = ["Linked", "Linked float", "Linked packed"]
# The scene has one of that name, too.
own = bpy.data.images.new("Linked", 16, 8)
sockets = dict(zip((own, *want.images), ("Metallic", "Roughness", "Coat Weight", "Sheen Weight")))
for image, socket in sockets.items():
    shown = material.node_tree.nodes.new("ShaderNodeTexImage")
    shown.image = image
    material.node_tree.links.new(shown.outputs[0], shader.inputs[socket])
node.image = tiled
dirty = [*sockets, tiled]
for image in dirty:
    chance = random.Random(image.name_full)
    image.pixels.foreach_set([chance.random() for _ in image.pixels])
    image.update()
assert all(image.is_dirty for image in dirty)
before = tiled.filepath, len(tiled.packed_files), tiled.source
scene.render.filepath = str(folder / "out.exr")
snapshot = module("operators.snapshot")
warnings = " ".join(module("operators.pixels").unsaved()[1])
can = bpy.app.version >= (4, 3, 0)
assert ("The tiled image" in warnings) != can, warnings
if not can:
    node.image = None
assert bpy.ops.distributed_cycles.render() == {"FINISHED"}
assert before == (tiled.filepath, len(tiled.packed_files), tiled.source)
assert all(image.is_dirty for image in dirty)
scene.render.filepath = str(folder / "f12.exr")
bpy.ops.render.render(write_still=True)
""",
        tmp_path,
        blend=blend,
    )
    support.assert_equal(exr.read(tmp_path / "out.exr")[0], exr.read(tmp_path / "f12.exr")[0])
