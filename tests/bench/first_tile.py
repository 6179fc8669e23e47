"""How long the first tile of the demo scene takes: with a Blender that has to start, and with one that stayed.

    python -m tests.bench.first_tile

From the start of the session, which is what a click of the button does once the snapshot is saved, to the
message that a tile is there, on This Computer; medians. The same from the mouse's click in a window, with a node over
SSH beside it, is printed by `python -m pytest -s tests/gui -k pressed_again`.
"""

from __future__ import annotations

import dataclasses
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from engine.job import Node
from engine.pool import WorkerPool
from engine.session import RenderSession
from engine.store import JobStore

from .. import support

RUNS = 3
WIDTH, HEIGHT = 640, 360
KEPT_S = 60.0
ENDS_S = 120.0


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        blend = folder / "demo.blend"
        support.run_python((support.REPOSITORY / "tools" / "demo_scene.py").read_text(), str(blend))
        cold, kept = [], []
        for run in range(RUNS):
            pool = WorkerPool()
            pool.seconds = KEPT_S
            try:
                cold.append(first_tile(blend, folder / f"cold{run}", pool))
                kept.append(first_tile(blend, folder / f"kept{run}", pool))
            finally:
                pool.close()
    print(f"first tile of the demo scene: {statistics.median(cold):.2f} s from cold")
    print(f"  {statistics.median(kept):.2f} s with the Blender that stayed")


def first_tile(blend: Path, folder: Path, pool: WorkerPool) -> float:
    """Seconds from the start of a render until its first tile is there; the render is gone on with to its end."""
    job = dataclasses.replace(
        support.job_for(blend, support.blender_version(), width=WIDTH, height=HEIGHT),
        tile_size=8,
        use_auto_tile_size=True,
    )
    store = JobStore.create(folder, job)
    shutil.copy(blend, store.snapshot)
    command = [str(support.BLENDER)]
    session = RenderSession(job, [Node("here")], store, access=None, local_blender=command, pool=pool)
    drive = support.Drive(session)
    start = time.monotonic()
    session.start()
    try:
        drive.tiles(1)
        seconds = time.monotonic() - start
        assert drive.to_the_end(ENDS_S).outcome == "done"
    finally:
        session.cancel()
        session.join(15)
        store.close()
    return seconds


if __name__ == "__main__":
    main()
