"""The zip installed into a real Blender, one that is no bpy wheel."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

from engine import exr

from .. import support
from .node import TrixieNode
from .window import Home

BROKEN_PIPE = """
import json
import subprocess
ended = subprocess.Popen(["true"], stdin=subprocess.PIPE, bufsize=0)
ended.wait()
try:
    ended.stdin.write(b"to nobody")
except BrokenPipeError:
    print("still here")
"""


def test_blender_survives_a_worker_that_is_gone(home: Home) -> None:
    """Its own Python leaves SIGPIPE deadly, unlike that of the bpy wheel in all other tests."""
    assert "still here" in home.run("blender", "--background", "--python-expr", BROKEN_PIPE)


def test_it_goes_without_a_trace(home: Home) -> None:
    home.run("blender", "--command", "extension", "remove", "user_default.distributed_cycles")
    left = home.run(
        *("blender", "--background", "--python-expr"),
        "import bpy; print([a.module for a in bpy.context.preferences.addons if 'distributed' in a.module],"
        " hasattr(bpy.types.Scene, 'distributed_cycles'))",
    )
    assert "[] False" in left
    names = [path.name for path in home.folder.glob(".config/blender/*/extensions/**/*")]
    assert not [name for name in names if "paramiko" in name or "distributed_cycles" in name]


def test_the_node_has_blender(home: Home, tmp_path: Path) -> None:
    """The other tests' node is a real one: plain ssh reaches Blender on it."""
    with TrixieNode(home) as node:
        options = ["-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={tmp_path / 'known_hosts'}"]
        command = ["ssh", "-p", str(node.port), "-i", str(node.user_key), *options]
        command += [f"{node.user}@{node.address}", "blender --version"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout.startswith("Blender 4.3")


def test_json_stands_alone(home: Home) -> None:
    """A real Blender prints its first words into a pipe when it quits, after everything else."""
    printed = home.run(
        "blender", "--background", "--command", "distributed_cycles", "nodes", "test", "--json"
    )
    (node,) = json.loads(printed)["nodes"]
    assert (node["node"], node["error"]) == ("This Computer", None)
    assert node["blender_version"].startswith("4.3.")


SCENE = """
import bpy, sys
scene = bpy.context.scene
scene.render.engine = "CYCLES"
scene.cycles.samples, scene.cycles.use_denoising = 16, False
scene.render.resolution_x, scene.render.resolution_y = 192, 108
scene.render.image_settings.file_format = "OPEN_EXR_MULTILAYER"
scene.render.image_settings.color_depth = "32"
bpy.ops.mesh.primitive_monkey_add(location=(1, -2, 1))
folder = sys.argv[-1]
bpy.ops.wm.save_as_mainfile(filepath=folder + "/scene.blend")
scene.render.filepath = folder + "/f12.exr"
bpy.ops.render.render(write_still=True)
"""


def render(home: Home, node: TrixieNode, program: str, *options: str, settings: str = "") -> exr.Planes:
    """The frame that the node alone renders, by the command line."""
    (home.folder / "nodes.toml").write_text(
        f'[[node]]\nhost = "{node.address}"\nport = {node.port}\nuser = "{node.user}"\n'
        f'key_file = "{node.key_file}"\n{settings}'
    )
    arguments = ("--nodes", home.inside("nodes.toml"), "--no-local", "--accept-new-host-keys", *options)
    arguments += ("--job-dir", home.inside("job"), "--output", home.inside("picture"))
    home.run(
        *(program, "--background", "--online-mode", home.inside("scene.blend")),
        *("--command", "distributed_cycles", "render", *arguments),
    )
    return exr.read(home.folder / "picture.exr")[0]


def test_a_node_without_blender_renders_with_the_one_it_is_sent(home: Home) -> None:
    """A real Blender in one folder, as from blender.org, and a machine that has none at all."""
    program = home.portable()
    home.run(program, "--background", "--factory-startup", "--python-expr", SCENE, "--", home.inside())
    with TrixieNode(home, name="bare", is_bare=True) as node:
        start = time.monotonic()
        picture = render(home, node, program, "--send-blender")
        print(f"a Blender sent and the picture made in {time.monotonic() - start:.1f} s")
        (sent,) = node.own_home.glob(".cache/distributed-cycles/blender/*/blender")
        assert sent.read_bytes() == (home.folder / "blender-4.3.2-linux-x64" / "blender").read_bytes()
    support.assert_equal(picture, exr.read(home.folder / "f12.exr")[0])


ADDON = """
bl_info = {"name": "Red", "blender": (4, 2, 0), "category": "Render"}
import bpy
@bpy.app.handlers.persistent
def paint(*_):
    light = bpy.data.lights.new("Red", "SUN")
    light.color, light.energy = (1, 0, 0), 5
    bpy.context.scene.collection.objects.link(bpy.data.objects.new("Red", light))
def register():
    bpy.app.handlers.load_post.append(paint)
def unregister():
    bpy.app.handlers.load_post.remove(paint)
"""
ENABLE = """
import bpy
bpy.ops.preferences.addon_enable(module="red")
bpy.ops.wm.save_userpref()
"""


def test_a_node_loads_its_own_preferences_if_it_is_told_to(home: Home) -> None:
    """An add-on that only the node's user has changes the picture; F12 on that machine is the judge."""
    home.run("blender", "--background", "--factory-startup", "--python-expr", SCENE, "--", home.inside())
    plain = exr.read(home.folder / "f12.exr")[0]
    with TrixieNode(home) as node:
        addons = node.own_home / ".config" / "blender" / "4.3" / "scripts" / "addons"
        addons.mkdir(parents=True)
        (addons / "red.py").write_text(ADDON)
        there = ("env", f"HOME={home.inside('workhorse', 'home')}", "blender", "--background")
        home.run(*there, "--python-expr", ENABLE)
        home.run(
            *(*there, home.inside("scene.blend"), "--render-output", home.inside("red_")),
            *("--render-format", "OPEN_EXR_MULTILAYER", "--render-frame", "1"),
        )
        (red,) = home.folder.glob("red_*.exr")
        support.assert_equal(render(home, node, "blender"), plain)
        own = render(home, node, "blender", settings="use_preferences = true\n")
        support.assert_equal(own, exr.read(red)[0])
        assert own["ViewLayer.Combined.R"].mean() > 1.1 * plain["ViewLayer.Combined.R"].mean()
