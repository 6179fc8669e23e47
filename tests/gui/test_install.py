"""The zip in a real Blender with a window: what a person finds after installing it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from .. import support
from .desktop import Desktop
from .node import TrixieNode
from .window import Home, Window

SHOW_RENDER_PROPERTIES = """
C.scene.render.engine = "CYCLES"
for area in C.window_manager.windows[0].screen.areas:
    if area.type == "PROPERTIES":
        area.spaces.active.context = "RENDER"
value = None
"""
EXTENSION = "bl_ext.user_default.distributed_cycles"


def test_the_panel_is_there(home: Home, desktop: Desktop) -> None:
    with Window(home, desktop) as window:
        window.execute(SHOW_RENDER_PROPERTIES)
        window.wait_for_drawing()
        window.find_operator("bpy.ops.distributed_cycles.render()", "PROPERTIES", at=0.4)
        window.find_property("distributed_cycles.use_auto_tile_size", "PROPERTIES")
        desktop.screenshot(support.REPOSITORY / "build" / "gui" / "panel.png")


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
