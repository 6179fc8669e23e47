"""Two one-core nodes against F12 with two threads on the same two cores, and with one of them slowed.

    python -m tests.bench.schedule

Real Blenders, each pinned to its core. The slowed one is stopped seven parts in eight of the time;
how much of its core it had is read from the system, and so is the bound: what both cores
gave together, evenly used to the end. Beside it the ancestor's way, with the same nodes: a fresh
Blender for each tile of a fixed grid, whoever is free takes the next.
"""

from __future__ import annotations

import dataclasses
import os
import queue
import shutil
import signal
import stat
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from engine.job import Node
from engine.messages import NodeChanged, SessionDone, TileEnded
from engine.session import RenderSession
from engine.store import JobStore
from engine.tiling import Grid, border

from .. import support
from .overhead import FRESH

WIDTH, HEIGHT = 960, 540
SAMPLES = int(os.environ.get("BENCH_SAMPLES", "110"))
STOPPED_S, RUNNING_S = 0.07, 0.01

WARM_F12 = """
import bpy, sys, time
scene = bpy.context.scene
scene.render.use_persistent_data = True
scene.render.use_border = scene.render.use_crop_to_border = True
scene.render.border_max_x = scene.render.border_max_y = 0.02
bpy.ops.render.render()
scene.render.use_border = scene.render.use_crop_to_border = False
start = time.perf_counter()
bpy.ops.render.render()
print("SECONDS", time.perf_counter() - start)
"""
LARGER = f"""
import bpy, sys
scene = bpy.context.scene
scene.render.resolution_x, scene.render.resolution_y = {WIDTH}, {HEIGHT}
scene.cycles.samples = {SAMPLES}
bpy.ops.wm.save_as_mainfile(filepath=sys.argv[-1])
"""


def main() -> None:
    os.sched_setaffinity(0, {0, 1})
    with tempfile.TemporaryDirectory() as name, support.marked() as mark:
        folder = Path(name)
        demo, blend = folder / "demo.blend", folder / "scene.blend"
        support.run_python((support.REPOSITORY / "tools" / "demo_scene.py").read_text(), str(demo))
        support.run_python(LARGER, str(blend), blend=demo)
        start = time.monotonic()
        words = support.run_python(WARM_F12, blend=blend).split()
        f12_cold, f12 = time.monotonic() - start, float(words[words.index("SECONDS") + 1])
        print(f"F12, two threads: {f12:.1f} s warm, {f12_cold:.1f} s with the start of Blender", flush=True)
        cold, warm, work, _ = ours(blend, folder, mark, slowed=False)
        print(
            f"two one-core nodes: {warm:.1f} s warm ({warm / f12:.3f} of F12), {cold:.1f} s with their start"
        )
        print(f"  ({cold / f12_cold:.3f}); both cores were busy for {work:.1f} s", flush=True)
        cold, warm, _, share = ours(blend, folder, mark, slowed=True)
        bound = work / (1 + share)
        print(
            f"one of them slowed to {share:.3f} of its core: {warm:.1f} s, bound {bound:.1f} s, {warm / bound:.3f}"
        )
        even, slowed = ancestor(blend, folder, share=1.0), ancestor(blend, folder, share=share)
        print(f"a fresh Blender for each tile of a grid of 8 x 5: {even:.1f} s; one slowed: {slowed:.1f} s")


def launcher(folder: Path, core: int) -> str:
    path = folder / f"core{core}"
    path.write_text(f'#!/bin/sh\nexec taskset -c {core} "{support.BLENDER}" "$@"\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def ours(blend: Path, folder: Path, mark: str, *, slowed: bool) -> tuple[float, float, float, float]:
    """Seconds from the start, from when the first one is ready; seconds that the nodes rendered; the
    share of its core that the second one had in that time."""
    job = dataclasses.replace(
        support.job_for(blend, support.blender_version(), width=WIDTH, height=HEIGHT),
        tile_size=8,
        use_auto_tile_size=True,
    )
    store = JobStore.create(folder / f"job-{slowed}", job)
    shutil.copy(blend, store.snapshot)
    nodes = [Node(f"core {core}", blender=launcher(folder, core), threads=1) for core in (0, 1)]
    session = RenderSession(job, nodes, store, access=None, local_blender=[])
    start = time.monotonic()
    session.start()
    ready: set[str] = set()
    begin = last = 0.0
    pid, used, brake = 0, 0.0, threading.Event()
    work = 0.0
    while True:
        for message in session.poll(0.2):
            now = time.monotonic()
            match message:
                case NodeChanged(status) if (
                    status.state in ("idle", "rendering") and status.name not in ready
                ):
                    ready.add(status.name)
                    begin = begin or now
                    if len(ready) == 2:
                        pid = worker_on(1, mark)
                        used = cpu_of(pid)
                        if slowed:
                            threading.Thread(target=hold_back, args=(pid, brake), daemon=True).start()
                case TileEnded(outcome="done"):
                    last = now
                    work += message.seconds
                    used_until = cpu_of(pid) if pid else 0.0
                case SessionDone():
                    brake.set()
                    assert message.outcome == "done", message.error
                    return last - start, last - begin, work, (used_until - used) / (last - begin)


def worker_on(core: int, mark: str) -> int:
    return next(pid for pid in support.marked_processes(mark) if os.sched_getaffinity(pid) == {core})


def cpu_of(pid: int) -> float:
    """Seconds of processor that the process has had; 0 where it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def hold_back(pid: int, brake: threading.Event) -> None:
    try:
        while not brake.is_set():
            os.kill(pid, signal.SIGSTOP)
            time.sleep(STOPPED_S)
            os.kill(pid, signal.SIGCONT)
            time.sleep(RUNNING_S)
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        return


def ancestor(blend: Path, folder: Path, *, share: float) -> float:
    """Wall seconds of its way; the second node gets `share` of its core."""
    grid = Grid(support.job_for(blend, (0, 0, 0), width=WIDTH, height=HEIGHT).region, WIDTH // 8, 0)
    tiles: queue.Queue = queue.Queue()
    for tile in sorted(support.cells(grid), key=grid.from_centre):
        tiles.put(tile)
    script = folder / "fresh.py"
    script.write_text(FRESH)

    def node(core: int) -> None:
        while True:
            try:
                tile = tiles.get_nowait()
            except queue.Empty:
                return
            edges = [repr(edge) for edge in border(tile.rect, WIDTH, HEIGHT)]
            command = [launcher(folder, core), "--background", "--factory-startup", str(blend)]
            output = str(folder / f"fresh-{tile.index}.exr")
            process = subprocess.Popen(
                [*command, "-t", "1", "--python", str(script), "--", *edges, output],
                stdout=subprocess.DEVNULL,
            )
            brake = threading.Event()
            if core and share < 1:
                threading.Thread(target=hold_back, args=(process.pid, brake), daemon=True).start()
            status = process.wait()
            brake.set()
            assert status == 0

    start = time.monotonic()
    threads = [threading.Thread(target=node, args=(core,)) for core in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.monotonic() - start


if __name__ == "__main__":
    main()
