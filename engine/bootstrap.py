"""How a worker gets onto a node: as the first line its Blender reads.

The command works in every shell, and behind any launcher that passes stdin and stdout through.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from pathlib import Path

from .job import Node
from .launcher import prepared
from .shells import Shell, command_line

FACTORY = "--factory-startup"
BLENDER_ARGUMENTS = (
    "--background",
    FACTORY,
    "--python-exit-code",
    "1",
    "--python-expr",
    "import sys;exec(sys.stdin.buffer.readline())",
)
PACKAGE = "distributed_cycles_worker"
OLDEST_BLENDER = (4, 2, 0)
TOO_OLD = "distributed_cycles: too old: Blender"
MODULES = (
    *("protocol", "paths", "files", "restart", "trees", "blocks", "remap", "devices", "scene"),
    *("denoise", "recipe", "cache_folder", "leases", "arrival", "cache", "receive", "main"),
)
"""In the order in which they import each other."""


def first_line(nonce: str) -> bytes:
    """The line that starts the worker, with its newline.

    The nonce stands in it reversed: a terminal that echoes the line is not mistaken for
    a worker that answers.
    """
    folder = Path(__file__).parent / "worker"
    sources = {name: (folder / f"{name}.py").read_text(encoding="utf-8") for name in MODULES}
    program = f"""
import os, sys, types
import bpy
# Asked before anything else is compiled: an old Blender brings an old Python.
if bpy.app.version < {OLDEST_BLENDER!r}:
    sys.stderr.write({TOO_OLD!r} + " %d.%d.%d\\n" % tuple(bpy.app.version))
    sys.stderr.flush()
    os._exit(3)
# See locate.HOME_THERE.
if os.name != "nt" and not os.path.isdir(os.environ.get("HOME", "")):
    os.environ["HOME"] = os.getcwd()
package = types.ModuleType({PACKAGE!r})
package.__path__ = []
sys.modules[{PACKAGE!r}] = package
for name, source in {sources!r}.items():
    module = types.ModuleType({PACKAGE!r} + "." + name)
    module.__package__ = {PACKAGE!r}
    sys.modules[module.__name__] = module
    setattr(package, name, module)
    exec(compile(source, "<" + module.__name__ + ">", "exec"), module.__dict__)
module.main({nonce[::-1]!r}[::-1])
"""
    packed = base64.b64encode(zlib.compress(program.encode(), 9)).decode()
    return f"import base64,zlib;exec(zlib.decompress(base64.b64decode('{packed}')))\n".encode()


def worker_words(blender: Sequence[str], node: Node) -> list[str]:
    """Program and arguments that make the Blender at `blender` a worker."""
    left_out = FACTORY if node.use_preferences else ""
    return [*blender, *(word for word in BLENDER_ARGUMENTS if word != left_out)]


def remote_command(blender: str, node: Node, shell: Shell, job_name: str = "") -> str:
    """The command line for a shell on the node. Raise ValueError where it cannot be written."""
    return command_line(worker_words([blender], node), shell, prepared(node.launcher, job_name))
