"""Peak memory of the main process for an 8K frame with a dozen passes.

    python -m tests.bench.memory [WIDTH HEIGHT]

Renders from the command line with one worker beside it and prints the main process' peak in each
phase: while tiles arrive, while they are put together, and when the frame is in the Render Result.
The first two are this project's doing and are bounded by

    what Blender takes with the scene open + 16 bytes x pixels + 3 x (channels x width x 64 rows x 4 bytes)
    + channels x (4 tiles of each node + one row of tiles across the region) x 4 bytes

The row of tiles is mapped files, which the system may drop at any time. The last phase is Blender's
own: it reads all passes into its Render Result. F12 of the same frame is measured beside it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from engine import exr

from .. import support
from ..blender import house

PASSES = """
layer = bpy.context.view_layer
for name in ("mist", "position", "normal", "vector", "uv", "object_index", "diffuse_color", "glossy_color"):
    setattr(layer, "use_pass_" + name, True)
layer.use_pass_emit = layer.use_pass_environment = True
scene.cycles.samples = 1
"""
ROWS = 64
TILE = 256


def main() -> None:
    width, height = map(int, sys.argv[1:3]) if len(sys.argv) > 2 else (7680, 4320)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        blend = support.make_scene(folder / "scene.blend", width=width, height=height, more=PASSES)
        peaks = {"scene open": idle(blend)}
        process = house.start(
            *(blend, "--command", "distributed_cycles", "render", "--job-dir", folder / "job"),
            *("--tile-size", TILE, "--output", folder / "frame", "--json"),
        )
        phase = ["tiles arrive"]
        watcher = threading.Thread(target=follow, args=[process, phase])
        watcher.start()
        while process.poll() is None:
            peaks[phase[0]] = max(peaks.get(phase[0], 0), resident(process.pid))
            time.sleep(0.05)
        watcher.join()
        assert process.returncode == 0
        peaks["F12 of the same frame"] = f12(blend, folder)
        channels = len(exr.channels_of(exr.read_header(folder / "job" / "frame.exr")))
    bound = peaks["scene open"] + 16 * width * height + 3 * channels * width * ROWS * 4
    bound += channels * TILE * (4 * TILE + width) * 4
    print(f"{width}x{height} px, {channels} channels in 12 passes")
    for name, peak in peaks.items():
        print(f"  {name}: {peak / 2**20:.0f} MiB")
    print(f"  bound until the frame is put together: {bound / 2**20:.0f} MiB")
    print(f"  all passes as float: {4 * channels * width * height / 2**20:.0f} MiB")


def idle(blend: Path) -> int:
    """Memory of Blender with the scene open."""
    code = "import bpy, os, sys; print(open('/proc/self/statm').read()); sys.stdout.flush()"
    printed = house.blender(blend, "--python-expr", code).stdout
    return next(int(line.split()[1]) for line in printed.splitlines() if line.count(" ") == 6) * 4096


def f12(blend: Path, folder: Path) -> int:
    """Peak memory of Blender that renders the frame alone."""
    process = subprocess.Popen(
        [str(support.BLENDER), "--background", str(blend), "-o", str(folder / "f12"), "-f", "1"],
        stdout=subprocess.DEVNULL,
    )
    peak = 0
    while process.poll() is None:
        peak = max(peak, resident(process.pid))
        time.sleep(0.05)
    return peak


def resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
    except (OSError, IndexError):
        return 0


def follow(process: subprocess.Popen[str], phase: list[str]) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("Putting the frame together"):
            phase[0] = "put together"
        elif line.startswith("Saving the picture"):
            phase[0] = "in the Render Result"


if __name__ == "__main__":
    main()
