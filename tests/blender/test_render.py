"""Render Distributed as a script calls it: the Image, the Render Result, the file, and what must stay as it was."""

from __future__ import annotations

from pathlib import Path

from .. import support
from ..support import exr
from .house import EXR_OUTPUT, python

COMPOSITOR = (
    support.COMPOSITOR
    + """
invert = tree.nodes.new("CompositorNodeInvert")
tree.links.new(layers.outputs["Image"], invert.inputs["Color"])
tree.links.new(invert.outputs["Color"], output.inputs[0])
"""
)


def test_image_result_and_file_hold_the_same_frame(blend: Path, f12: exr.Planes, tmp_path: Path) -> None:
    python(
        EXR_OUTPUT
        + """
import numpy
scene = bpy.context.scene
scene.render.filepath = sys.argv[-1] + "/out_##"
before = scene.render.engine, scene.render.filepath, scene.render.resolution_x, scene.render.use_border
dirty = bpy.data.is_dirty, bpy.data.filepath
assert bpy.ops.distributed_cycles.render() == {"FINISHED"}
assert before == (scene.render.engine, scene.render.filepath, scene.render.resolution_x, scene.render.use_border)
assert dirty == (bpy.data.is_dirty, bpy.data.filepath)
image = bpy.data.images["Distributed Render"]
assert image.is_float and image.use_view_as_render and not image.is_dirty
pixels = numpy.empty(len(image.pixels), numpy.float32)
image.pixels.foreach_get(pixels)
numpy.save(sys.argv[-1] + "/image.npy", pixels.reshape(image.size[1], image.size[0], 4)[::-1])
status = bpy.context.window_manager.distributed_cycles
assert (status.phase, status.progress, status.is_running) == ("Done", 1.0, False)
assert status.tiles_done > 1 and status.nodes["This Computer"].tiles_done > 0
assert not hasattr(bpy.types, "DistributedCyclesResultEngine")

# The same frame again, at another size: one Image takes the place of the other.
scene.render.resolution_percentage = 50
assert bpy.ops.distributed_cycles.render() == {"FINISHED"}
assert tuple(bpy.data.images["Distributed Render"].size) == (96, 54)
assert len([image for image in bpy.data.images if image.name.startswith("Distributed")]) == 1
""",
        tmp_path,
        blend=blend,
    )
    import numpy as np

    image = np.load(tmp_path / "image.npy")
    for number, component in enumerate("RGBA"):
        np.testing.assert_array_equal(image[:, :, number], f12[f"ViewLayer.Combined.{component}"])


def test_written_file_has_every_pass(blend: Path, f12: exr.Planes, tmp_path: Path) -> None:
    python(
        EXR_OUTPUT + "bpy.context.scene.render.filepath = sys.argv[-1]\nbpy.ops.distributed_cycles.render()",
        tmp_path / "out.exr",
        blend=blend,
    )
    support.assert_equal(exr.read(tmp_path / "out.exr")[0], f12)


def test_heat_map_is_an_image(blend: Path, tmp_path: Path) -> None:
    python(
        """
scene = bpy.context.scene
scene.render.filepath = sys.argv[-1] + "/out"
scene.distributed_cycles.use_heat_map = True
for percentage in (100, 50):
    scene.render.resolution_percentage = percentage
    assert bpy.ops.distributed_cycles.render() == {"FINISHED"}
    (image,) = [image for image in bpy.data.images if "Heat Map" in image.name]
    assert image.name == "Distributed Heat Map" and image.size[0] == 192 * percentage // 100
    assert Path(image.filepath).is_file() and len(set(image.pixels[:])) > 10
""",
        tmp_path,
        blend=blend,
    )


def test_compositor_runs_on_the_whole_frame(blend: Path, tmp_path: Path) -> None:
    python(
        COMPOSITOR
        + """
folder = sys.argv[-1]
scene.render.image_settings.file_format = "PNG"
scene.render.filepath = folder + "/f12"
bpy.ops.render.render(write_still=True)
scene.render.filepath = folder + "/distributed"
assert bpy.ops.distributed_cycles.render() == {"FINISHED"}
pictures = [bpy.data.images.load(folder + "/" + name + ".png") for name in ("f12", "distributed")]
first, second = (list(picture.pixels) for picture in pictures)
assert first == second and max(first) > 0.5
""",
        tmp_path,
        blend=blend,
    )


def test_own_render_region(blend: Path, tmp_path: Path) -> None:
    python(
        EXR_OUTPUT
        + """
scene = bpy.context.scene
render = scene.render
render.use_border = True
render.border_min_x, render.border_max_x, render.border_min_y, render.border_max_y = 0.13, 0.77, 0.21, 0.9
for name, use_crop in (("crop", True), ("whole", False)):
    render.use_crop_to_border = use_crop
    render.filepath = f"{sys.argv[-1]}/{name}_f12.exr"
    bpy.ops.render.render(write_still=True)
    render.filepath = f"{sys.argv[-1]}/{name}.exr"
    assert bpy.ops.distributed_cycles.render() == {"FINISHED"}
    assert render.use_border
""",
        tmp_path,
        blend=blend,
    )
    for name in ("crop", "whole"):
        expected = exr.read(tmp_path / f"{name}_f12.exr")[0]
        found = exr.read(tmp_path / f"{name}.exr")[0]
        # Outside the region F12 leaves other passes than Combined as they come.
        keys = [key for key in expected if name == "crop" or ".Combined." in key]
        support.assert_equal({key: found[key] for key in keys}, {key: expected[key] for key in keys})


def test_several_view_layers_and_another_current_frame(tmp_path: Path) -> None:
    blend = support.make_scene(
        tmp_path / "layers.blend", more='scene.view_layers.new("Second"); scene.frame_set(7)'
    )
    f12 = support.render_f12(blend, tmp_path / "f12.exr")
    python(
        EXR_OUTPUT
        + """
bpy.context.scene.render.filepath = sys.argv[-1] + "/out_####"
assert bpy.ops.distributed_cycles.render() == {"FINISHED"}
""",
        tmp_path,
        blend=blend,
    )
    support.assert_equal(exr.read(tmp_path / "out_0007.exr")[0], f12)


def test_a_failing_finish_restores_the_scene_and_says_where_the_frame_is(blend: Path, tmp_path: Path) -> None:
    python(
        """
scene = bpy.context.scene
target = Path(sys.argv[-1]) / "out.png"
scene.render.filepath = str(target)
scene.render.image_settings.file_format = "PNG"
# The place is taken while the frame renders.
bpy.app.handlers.save_post.append(lambda *_: target.mkdir())
try:
    bpy.ops.distributed_cycles.render()
    raise AssertionError("no error")
except RuntimeError as error:
    assert "frame.exr" in str(error), error
assert scene.render.engine == "CYCLES" and scene.render.filepath == str(target)
status = bpy.context.window_manager.distributed_cycles
assert status.phase == "Failed" and status.messages[-1].level == "ERROR" and not status.is_running
assert not hasattr(bpy.types, "DistributedCyclesResultEngine")
""",
        tmp_path,
        blend=blend,
    )


def test_a_large_image_takes_a_small_part_of_blenders_time(blend: Path, tmp_path: Path) -> None:
    """As at 8K, where bringing the whole framebuffer into the Image lasts longer than a tick."""
    python(
        """
import time
from types import SimpleNamespace
render, image = module("operators.render"), module("operators.image")
scene = bpy.context.scene
scene.render.filepath = sys.argv[-1] + "/out"
assert bpy.ops.distributed_cycles.render() == {"FINISHED"}
shown = []
def slow(framebuffer, folder):
    shown.append(time.monotonic())
    time.sleep(0.05)
image.flush = slow
framebuffer = SimpleNamespace(take_dirty=lambda: True)
running = SimpleNamespace(session=SimpleNamespace(framebuffer=framebuffer), store=SimpleNamespace(folder=None))
operator = SimpleNamespace(_next_flush=0.0, _running=running)
end = time.monotonic() + 1.2
while time.monotonic() < end:
    render._RenderOperator._flush(operator)
    time.sleep(0.01)
assert 2 <= len(shown) <= 3, shown
""",
        tmp_path,
        blend=blend,
    )
