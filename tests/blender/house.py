"""Blender with this checkout enabled as the extension, for tests: as a program, and as a Python to run code in."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from .. import support

EXTENSION = "bl_ext.user_default.distributed_cycles"
HEAD = f"""
import bpy, sys, importlib
from pathlib import Path
EXTENSION = {EXTENSION!r}
def module(name):
    return importlib.import_module(EXTENSION + "." + name)
"""
EXR_OUTPUT = """
settings = bpy.context.scene.render.image_settings
if hasattr(settings, "media_type"):
    settings.media_type = "MULTI_LAYER_IMAGE"
settings.file_format = "OPEN_EXR_MULTILAYER"
if hasattr(settings, "use_exr_interleave"):
    settings.use_exr_interleave = True
settings.color_depth = "32"
"""


def start(*arguments: str | Path, **options: object) -> subprocess.Popen[str]:
    """Start Blender with the extension; without a window."""
    command = [str(support.BLENDER), "--background", *map(str, arguments)]
    return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def blender(*arguments: str | Path, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    """Run Blender with the extension to its end."""
    process = start(*arguments)
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def render(blend: Path, *arguments: str | Path, first: str = "") -> subprocess.CompletedProcess[str]:
    """`blender BLEND --command distributed_cycles render ...`; `first` is Python that changes the scene."""
    change = ["--python-expr", f"import bpy\n{first}"] if first else []
    return blender(blend, *change, "--command", "distributed_cycles", "render", *arguments)


def python(code: str, *arguments: str | Path, blend: Path | None = None) -> str:
    """Run `code` in Blender with the extension; `sys.argv[-n:]` are the arguments. Returns its output."""
    with tempfile.NamedTemporaryFile("w", suffix=".py") as script:
        script.write(HEAD + code)
        script.flush()
        first = [blend] if blend else []
        done = blender(*first, "--python-exit-code", "1", "--python", script.name, "--", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
