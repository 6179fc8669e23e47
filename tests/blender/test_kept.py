"""Pressing Render Distributed again: which changes make nodes open the scene anew, and which do not."""

from __future__ import annotations

from pathlib import Path

from .house import python

AGAIN = """
import time
running = module("operators.running")
NodeChanged = module("engine.messages").NodeChanged
opened = []
show = running.show
def watch(message):
    if isinstance(message, NodeChanged) and message.status.detail == "opening the scene":
        opened.append(message)
    show(message)
running.show = watch

def opens():
    opened.clear()
    assert bpy.ops.distributed_cycles.render() == {"FINISHED"}
    assert running.pool.names() == ["This Computer"]
    return bool(opened)

scene = bpy.context.scene
scene.render.filepath = sys.argv[-1] + "/out"
assert opens()
assert not opens(), "nothing has changed"
"""


def test_only_what_changes_the_scene_opens_it_anew(blend: Path, tmp_path: Path) -> None:
    """F12 in between adds a Render Result, which is a datablock of the file; ours is another."""
    code = """
bpy.ops.render.render()
assert not opens(), "F12 changes no scene"
material = bpy.data.materials.new("Red")
bpy.data.objects[-1].data.materials.append(material)
assert opens()
assert not opens()
material.diffuse_color = material.diffuse_color
material.use_nodes = True
material.node_tree.nodes[0].location.x += 1
material.node_tree.nodes["Principled BSDF"].inputs["Roughness"].default_value = 0.123
assert opens()
bpy.data.objects[-1].scale.x = 1.1
assert opens()
scene.frame_set(scene.frame_current + 1)
assert opens()
scene.cycles.samples += 1
assert opens()
assert not opens()
if hasattr(bpy.data, "colorspace"):  # Blender 5.0 and later
    assert bpy.ops.wm.set_working_color_space(working_space="ACEScg", convert_colors=False) == {"FINISHED"}
    assert opens()
"""
    python(AGAIN + code, tmp_path, blend=blend)


def test_the_first_tile_comes_at_once_and_workers_end_when_told(blend: Path, tmp_path: Path) -> None:
    code = """
import addon_utils
TileEnded = module("engine.messages").TileEnded
times = []
def watch_tiles(message):
    if isinstance(message, TileEnded) and not times:
        times.append(time.monotonic())
    watch(message)
running.show = watch_tiles
start = time.monotonic()
assert not opens()
assert times[0] - start < 1, times[0] - start  # 0.2 s where nothing else uses the processor
assert bpy.ops.distributed_cycles.end_workers() == {"FINISHED"}
assert running.pool.names() == []
assert opens()
addon_utils.disable(EXTENSION)
assert running.pool.names() == []
"""
    python(AGAIN + code, tmp_path, blend=blend)
