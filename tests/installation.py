"""A Blender in one folder with all it needs, Python too, as an archive from blender.org unpacks to.

It is made of the bpy wheel and of the Python that the wheel runs on; nothing in it names a place outside.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from . import support

PYTHON = os.environ.get("BPY_PYTHON", sys.executable)
_PLACES = """
import sys, sysconfig
from importlib.util import find_spec
packages = [find_spec(name).submodule_search_locations[0] for name in ("bpy", "numpy")]
library = "%s/%s" % tuple(map(sysconfig.get_config_var, ("LIBDIR", "INSTSONAME")))
shared = library if sysconfig.get_config_var("Py_ENABLE_SHARED") else ""
print(*packages, sysconfig.get_path("stdlib"), sys._base_executable, shared, sys.prefix, sep="|")
"""
_LEFT_OUT = ("site-packages", "dist-packages", "test", "config-*", "idlelib", "__pycache__")
_GPU_KERNELS = "*/scripts/addons_core/cycles/lib/*.zst"
"""An eighth of the bytes, which no test needs."""
_PROGRAM = """#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
DC_TEST_PROGRAM="$here/blender" PYTHONHOME="$here/python" LD_LIBRARY_PATH="$here/python/lib" PYTHONPATH="$here/library" PYTHONDONTWRITEBYTECODE=1 \\
    exec "$here/python/bin/{python}" "$here/library/bpy_as_blender.py" "$@"
"""


def _places() -> list[Path]:
    done = subprocess.run([PYTHON, "-c", _PLACES], capture_output=True, text=True, check=True)
    return [Path(place) for place in done.stdout.strip().split("|")]


def wheels() -> Path:
    """The folder without which the wheel's own Blender does not start."""
    return _places()[-1].resolve()


def make(folder: Path) -> Path:
    """Make it in `folder`; returns the program's path."""
    *packages, standard, python, shared, _ = _places()
    library, home = folder / "library", folder / "python"
    for place in (library, home / "lib", home / "bin", folder / "4.5" / "config"):
        place.mkdir(parents=True)
    (folder / "4.5" / "config" / "userpref.blend").write_text("secret")
    for package in packages:
        for source in (package, package.with_name("numpy.libs")):
            if source.exists() and not (library / source.name).exists():
                # As links where they can be: nobody writes to them.
                linked = subprocess.run(
                    ["cp", "-Rl", str(source), str(library)], check=False, stderr=subprocess.DEVNULL
                )
                if linked.returncode:
                    shutil.copytree(source, library / source.name, symlinks=True, dirs_exist_ok=True)
    for kernel in (library / "bpy").glob(_GPU_KERNELS):
        kernel.unlink()
    shutil.copytree(
        standard, home / "lib" / standard.name, symlinks=True, ignore=shutil.ignore_patterns(*_LEFT_OUT)
    )
    shutil.copy(python.resolve(), home / "bin" / standard.name)
    if shared.name:
        shutil.copy(shared, home / "lib")
    shutil.copy(support.BLENDER.with_name("bpy_as_blender.py"), library)
    program = folder / "blender"
    program.write_text(_PROGRAM.format(python=standard.name))
    program.chmod(0o755)
    return program
