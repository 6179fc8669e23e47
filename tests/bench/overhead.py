"""What a tile costs beyond its own rendering, with a kept Blender and with a fresh one per tile.

    python -m tests.bench.overhead

Renders one small scene in 64 tiles, first on This Computer, then on a node behind a real sshd on
loopback. Prints the median over the tiles of: round trip as the main process sees it, minus
Cycles' own time on the node. Beside it, tiles of the same frame with a new Blender for each, as
scripts do that start one per tile.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from engine.access import Access
from engine.job import Node
from engine.messages import TileEnded, TileStarted
from engine.session import RenderSession
from engine.store import JobStore
from engine.tiling import Grid, border

from .. import support
from ..sshd import Sshd

SLOW_SAMPLES = 320
"""A tile then lasts about a second."""
FRESH = """
import bpy, sys
scene, render = bpy.context.scene, bpy.context.scene.render
*edges, path = sys.argv[-5:]
render.border_min_x, render.border_max_x, render.border_min_y, render.border_max_y = map(float, edges)
render.use_border = render.use_crop_to_border = True
settings = render.image_settings
if hasattr(settings, "media_type"):
    settings.media_type = "MULTI_LAYER_IMAGE"
settings.file_format = "OPEN_EXR_MULTILAYER"
render.filepath = path
bpy.ops.render.render(write_still=True)
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        blend = support.make_scene(folder / "scene.blend", width=512, height=512)
        show("This Computer", kept(Node("This Computer"), blend, folder / "local", None))
        python = os.environ.get("BPY_PYTHON")
        with Sshd(folder / "sshd", environment={"BPY_PYTHON": python} if python else {}) as sshd:
            node = sshd.node("SSH node", blender=str(support.BLENDER))
            show("one SSH node", kept(node, blend, folder / "ssh", sshd.access()))
            slow = support.make_scene(
                folder / "slow.blend", width=512, height=512, more=f"scene.cycles.samples = {SLOW_SAMPLES}"
            )
            count, mean, idle = idle_part(node, slow, folder / "slow", sshd.access())
            print(
                f"one SSH node, {count} tiles of {mean:.2f} s on average: idle for {100 * idle:.2f}% of the render"
            )
        seconds = fresh(blend, folder)
        print("a fresh Blender for each tile, on this computer")
        print(f"  whole time per tile: median {1000 * statistics.median(seconds):.0f} ms")


def idle_part(node: Node, blend: Path, folder: Path, access: Access) -> tuple[int, float, float]:
    """Number of tiles, their mean time, and the part of the time from the first result to the last in
    which the node rendered none of them."""
    drive, count = begun(node, blend, folder, access, tile_size=128)
    ends: list[tuple[float, float]] = []

    def watch(message: object) -> bool:
        if isinstance(message, TileEnded) and message.outcome == "done":
            ends.append((time.perf_counter(), message.seconds))
        return len(ends) == count

    drive.until(watch, timeout=300)
    drive.to_the_end()
    wall = ends[-1][0] - ends[0][0]
    busy = sum(seconds for _, seconds in ends[1:])
    return len(ends), busy / (len(ends) - 1), 1 - busy / wall


def begun(
    node: Node, blend: Path, folder: Path, access: Access | None, *, tile_size: int
) -> tuple[support.Drive, int]:
    """A render on `node` that has just begun, and how many tiles it has."""
    job = dataclasses.replace(
        support.job_for(blend, support.blender_version(), width=512, height=512), tile_size=tile_size
    )
    store = JobStore.create(folder, job)
    shutil.copy(blend, store.snapshot)
    session = RenderSession(job, [node], store, access=access, local_blender=[str(support.BLENDER)])
    session.start()
    return support.Drive(session), Grid(job.region, tile_size, job.overscan).cells


def show(where: str, overheads: list[float]) -> None:
    milliseconds = [1000 * seconds for seconds in overheads]
    print(f"{where}: 64 tiles of 64x64 px, a kept Blender")
    print(
        f"  overhead per tile: median {statistics.median(milliseconds):.1f} ms, most {max(milliseconds):.1f} ms"
    )


def kept(node: Node, blend: Path, folder: Path, access: Access | None) -> list[float]:
    """Seconds of overhead of each tile but the first, in which the scene is built.

    Two tiles are at the node at a time, so a tile's turn begins when it was sent or when the
    tile before it was back, whichever came later.
    """
    drive, count = begun(node, blend, folder, access, tile_size=64)
    started: dict[int, float] = {}
    overheads = []
    last_end = 0.0

    def watch(message: object) -> bool:
        nonlocal last_end
        now = time.perf_counter()
        if isinstance(message, TileStarted):
            started[message.tile.index] = now
        if isinstance(message, TileEnded) and message.outcome == "done":
            overheads.append(now - max(started[message.tile.index], last_end) - message.render_seconds)
            last_end = now
        return len(overheads) == count

    drive.until(watch)
    drive.to_the_end()
    return overheads[1:]


def fresh(blend: Path, folder: Path, count: int = 8) -> list[float]:
    """Seconds of `count` of the tiles, each a whole process; Cycles' part of them is a few ms."""
    grid = Grid(support.job_for(blend, (0, 0, 0), width=512, height=512).region, 64, 0)
    tiles = support.cells(grid)[:count]
    script = folder / "fresh.py"
    script.write_text(FRESH)
    seconds = []
    for tile in tiles:
        edges = [repr(edge) for edge in border(tile.rect, 512, 512)]
        command = [str(support.BLENDER), "--background", "--factory-startup", str(blend)]
        start = time.perf_counter()
        subprocess.run(
            [*command, "--python", str(script), "--", *edges, str(folder / "tile.exr")],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        seconds.append(time.perf_counter() - start)
    return seconds


if __name__ == "__main__":
    main()
