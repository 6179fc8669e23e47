"""What it costs that the first tile of a node is a fair measure of its speed.

    python -m tests.bench.warm_up

Before its first tile a worker renders a few pixels, in which Cycles builds the scene. Workers with
and without that are started in turn, on a scene whose building takes a while. Printed are medians: the
time until the first tile is there, which should not differ, and how far the first tile's time is from
that of the same tile rendered again, which is what a wrong first speed would come from.
"""

from __future__ import annotations

import base64
import json
import queue
import statistics
import tempfile
import zlib
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from engine import bootstrap, link
from engine.job import Node
from engine.starter import open_worker

from .. import support

RUNS = 5
SIZE = 512
TILE = (0.375, 0.625, 0.375, 0.625)
HEAVY = """
for number in range(8):
    bpy.ops.mesh.primitive_monkey_add(location=[chance.uniform(-3, 3) for _ in range(3)])
    bpy.context.object.modifiers.new("Fine", "SUBSURF").render_levels = 4
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        blend = support.make_scene(Path(name) / "scene.blend", width=SIZE, height=SIZE, more=HEAVY)
        runs: dict[bool, list[tuple[float, float, float]]] = {True: [], False: []}
        for _ in range(RUNS):
            for is_warm, found in runs.items():
                found.append(first_tiles(blend, is_warm))
    for is_warm, found in runs.items():
        build, first, again = map(statistics.median, zip(*found, strict=True))
        there = statistics.median(build + first for build, first, _ in found)
        print(f"{'with' if is_warm else 'without'} warm-up: first tile there after {1000 * there:.0f} ms")
        print(
            f"  building {1000 * build:.0f} ms, first tile {1000 * first:.0f} ms, the same again {1000 * again:.0f} ms"
        )


def first_tiles(blend: Path, is_warm: bool) -> tuple[float, float, float]:
    """Seconds for building the scene, for the first tile, and for that tile once more."""
    inbox: queue.Queue[Any] = queue.Queue()
    original = link.first_line
    link.first_line = original if is_warm else _without_warm_up
    try:
        with ExitStack() as cleanup:
            worker, _ = open_worker(
                Node("here"),
                inbox,
                access=None,
                local_blender=[str(support.BLENDER)],
                version=None,
                cleanup=cleanup,
            )
            path = str(blend).lstrip("/")
            worker.send({"type": "links"}, json.dumps([(path, str(blend))]).encode())
            opening = {"type": "open", "blend": path, "scene": "Scene", "frame": 1, "subframe": 0.0}
            opening |= {"use_scripts": False, "helpers": [], "threads": 0, "pixels": [], "codec": "NONE"}
            opening |= {"device": "", "share": (0, 1), "use_preferences": False}
            worker.send({**opening, "own_device": "", "own_device_ids": []})
            _answer(inbox, "opened")
            tiles = []
            for attempt in range(2):
                worker.send(
                    {"type": "render", "tile": 0, "attempt": attempt, "border": TILE, "samples": None}
                )
                tiles.append(_answer(inbox, "tile"))
            return tiles[0]["build_seconds"], tiles[0]["seconds"], tiles[1]["seconds"]
    finally:
        link.first_line = original


def _without_warm_up(nonce: str) -> bytes:
    """The worker as it would be if it took its first tile as it comes."""
    packed = bootstrap.first_line(nonce).split(b"'")[1]
    program = zlib.decompress(base64.b64decode(packed))
    changed = program.replace(b"self._is_warm = False", b"self._is_warm = True", 1)
    assert changed != program
    line = base64.b64encode(zlib.compress(changed)).decode()
    return f"import base64,zlib;exec(zlib.decompress(base64.b64decode('{line}')))\n".encode()


def _answer(inbox: queue.Queue[Any], kind: str) -> dict[str, Any]:
    header, _ = inbox.get(timeout=120)
    assert header["type"] == kind, header
    return dict(header)


if __name__ == "__main__":
    main()
