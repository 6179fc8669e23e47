"""The zip installed into a real Blender, one that is no bpy wheel."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from .node import TrixieNode
from .window import Home

EXTENSION = "bl_ext.user_default.distributed_cycles"


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
