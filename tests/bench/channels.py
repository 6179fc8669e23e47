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
EDGE = 64
COLUMNS, ROWS = 128, 64


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tile = folder / "canned.exr"
        plane = np.random.default_rng(1).random((EDGE, EDGE), np.float32)
        channels = dict.fromkeys((f"ViewLayer.Combined.{letter}" for letter in "RGBA"), exr.FLOAT)
        with exr.Writer(tile, EDGE, EDGE, channels, {}, exr.NO_COMPRESSION) as writer:
            writer.write_rows(dict.fromkeys(channels, plane))
        os.environ["CANNED_TILE"] = str(tile)
        worker = folder / "worker"
        script = Path(__file__).with_name("canned_worker.py")
        worker.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "{script}"\n')
        worker.chmod(worker.stat().st_mode | stat.S_IXUSR)
        width, height = COLUMNS * EDGE, ROWS * EDGE
        blend = folder / "scene.blend"
        blend.write_bytes(b"")
        job = dataclasses.replace(
            support.job_for(blend, (4, 5, 15), width=width, height=height), tile_size=EDGE
        )
        store = JobStore.create(folder / "job", job)
        store.snapshot.write_bytes(b"")
        nodes = [Node(f"n{number}", blender=str(worker)) for number in range(NODES)]
        run(RenderSession(job, nodes, store, access=None, local_blender=[]))


def run(session: RenderSession) -> None:
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
    print(f"{NODES} channels, {len(times)} tiles of {EDGE}x{EDGE} px RGBA in float")
    print(f"  {count / (last[0] - first[0]):.0f} tiles a second")
    print(f"  main process: {1000 * (last[1] - first[1]) / count:.2f} ms of CPU a tile")
    if profile is not None:
        pstats.Stats(profile).sort_stats("tottime").print_stats(18)


if __name__ == "__main__":
    main()
