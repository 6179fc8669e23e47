"""What the main process keeps up with: 64 real channels whose workers answer at once.

    python -m tests.bench.channels

Each worker is a process of its own behind the real channel, threads, protocol, scheduler, store and
framebuffer; only the rendering is left out. Prints tiles a second and what a tile costs the main
process, and with --profile where its session thread spends that.
"""

from __future__ import annotations

import cProfile
import dataclasses
import os
import pstats
import stat
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from engine import exr
from engine.job import Node
from engine.messages import SessionDone, TileEnded
from engine.session import RenderSession
from engine.store import JobStore

from .. import support

NODES = 64
FRAMES = ((64, 128, 64), (512, 16, 16))
"""Edge of a tile in pixels, columns and rows of tiles."""


def main() -> None:
    for edge, columns, rows in FRAMES:
        with tempfile.TemporaryDirectory() as name:
            measure(Path(name), edge, columns, rows)


def measure(folder: Path, edge: int, columns: int, rows: int) -> None:
    """Render a frame of so many tiles with canned results."""
    tile = folder / "canned.exr"
    plane = np.random.default_rng(1).random((edge, edge), np.float32)
    channels = dict.fromkeys((f"ViewLayer.Combined.{letter}" for letter in "RGBA"), exr.FLOAT)
    with exr.Writer(tile, edge, edge, channels, {}, exr.NO_COMPRESSION) as writer:
        writer.write_rows(dict.fromkeys(channels, plane))
    os.environ["CANNED_TILE"] = str(tile)
    worker = folder / "worker"
    script = Path(__file__).with_name("canned_worker.py")
    worker.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "{script}"\n')
    worker.chmod(worker.stat().st_mode | stat.S_IXUSR)
    blend = folder / "scene.blend"
    blend.write_bytes(b"")
    job = dataclasses.replace(
        support.job_for(blend, (4, 5, 15), width=columns * edge, height=rows * edge), tile_size=edge
    )
    store = JobStore.create(folder / "job", job)
    store.snapshot.write_bytes(b"")
    nodes = [Node(f"n{number}", blender=str(worker)) for number in range(NODES)]
    count, seconds, cpu = run(RenderSession(job, nodes, store, access=None, local_blender=[]))
    megapixels = edge * edge / 1e6
    print(
        f"{NODES} channels, {columns * rows} tiles of {edge}x{edge} px RGBA in float, {tile.stat().st_size} bytes each"
    )
    print(f"  {count / seconds:.0f} tiles a second")
    print(
        f"  main process: {1000 * cpu / count:.2f} ms of CPU a tile, {1000 * cpu / count / megapixels:.0f} a megapixel"
    )


def run(session: RenderSession) -> tuple[int, float, float]:
    """Number of tiles after the first part, their seconds, and the main process's CPU seconds."""
    profile = cProfile.Profile() if "--profile" in sys.argv else None
    if profile is not None:
        session._thread = threading.Thread(target=lambda: profile.runcall(session._run), daemon=True)
    session.start()
    times: list[tuple[float, float]] = []
    done = None
    while done is None:
        for message in session.poll(0.2):
            if isinstance(message, TileEnded) and message.outcome == "done":
                times.append((time.perf_counter(), time.process_time()))
            elif isinstance(message, SessionDone):
                done = message
    assert done.outcome == "done", done.error
    # All nodes are there after the first part; merging comes after the last.
    first, last = times[len(times) // 4], times[-1]
    count = len(times) - len(times) // 4
    if profile is not None:
        pstats.Stats(profile).sort_stats("tottime").print_stats(18)
    return count, last[0] - first[0], last[1] - first[1]


if __name__ == "__main__":
    main()
