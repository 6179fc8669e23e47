"""Speeds that one render learned are what the next one begins with."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from engine.benchmark import Speeds
from engine.job import Node
from engine.messages import NodeChanged, TileEnded
from engine.plan import NodeJoined
from engine.scheduler import Scheduler
from engine.session import RenderSession
from engine.store import JobStore

from .. import support
from .conftest import Scene

FAST, SLOW = "fast", "slow"
LARGEST_ERROR = 0.25
"""Two workers share two cores with everything else."""
STOPPED_S, RUNNING_S = 0.06, 0.03
"""In turn, for the slow one."""


@contextmanager
def slowed() -> Iterator[None]:
    """Stop the slow node's worker two thirds of the time."""
    is_over = threading.Event()

    def send(pids: list[int], number: int) -> None:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def run() -> None:
        pids: list[int] = []
        while not is_over.wait(RUNNING_S):
            pids = [pid for pid in pids if Path(f"/proc/{pid}").exists()] or _with(SLOW)
            send(pids, signal.SIGSTOP)
            is_over.wait(STOPPED_S)
            send(pids, signal.SIGCONT)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _with(name: str) -> list[int]:
    """Processes that were started with DC_TEST_NODE in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and f"DC_TEST_NODE={name}\0".encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
    return found


def rendered(scene: Scene, folder: Path, speeds: Path) -> tuple[support.Drive, dict[str, float]]:
    """A render by two nodes of different speed; and each one's part of both speeds, as it came to.

    Of the frame the slow one has less: it takes longer to start.
    """
    nodes = [Node(FAST, threads=1), Node(SLOW, threads=1, launcher=f"env DC_TEST_NODE={SLOW}")]
    job = support.job_for(scene.blend, scene.version)
    store = JobStore.create(folder, job)
    shutil.copy(scene.blend, store.snapshot)
    session = RenderSession(
        job, nodes, store, access=None, local_blender=[str(support.BLENDER)], speeds=Speeds(speeds)
    )
    drive = support.Drive(session)
    try:
        with slowed():
            session.start()
            done = drive.to_the_end()
    finally:
        session.cancel()
        assert session.join(15)
        store.close()
    assert (done.outcome, done.error) == ("done", None)
    kept = [
        message for message in drive.messages if isinstance(message, TileEnded) and message.outcome == "done"
    ]
    pixels: Counter[str] = Counter()
    seconds: dict[str, float] = {}
    for message in kept:
        pixels[message.node] += message.tile.rect.area
        seconds[message.node] = seconds.get(message.node, 0.0) + message.render_seconds
    speeds_there = {name: pixels[name] / seconds[name] for name in seconds}
    return drive, {name: speed / sum(speeds_there.values()) for name, speed in speeds_there.items()}


def shown_at_the_start(drive: support.Drive) -> dict[str, float]:
    """The speed that each node has before its first tile."""
    shown: dict[str, float] = {}
    for message in drive.messages:
        if isinstance(message, NodeChanged) and message.status.state == "idle":
            shown.setdefault(message.status.name, message.status.speed)
    return shown


def told_to_the_scheduler(monkeypatch: pytest.MonkeyPatch) -> dict[str, float | None]:
    told: dict[str, float | None] = {}
    handle = Scheduler.handle

    def listen(self: Scheduler, event: object, now: float) -> object:
        if isinstance(event, NodeJoined):
            told[event.node] = event.speed
        return handle(self, event, now)  # type: ignore[arg-type]

    monkeypatch.setattr(Scheduler, "handle", listen)
    return told


def test_the_next_render_begins_with_what_was_learned(
    slow_scene: Scene, tmp_path: Path, node_tmp: Path, mark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = told_to_the_scheduler(monkeypatch)
    speeds = tmp_path / "speeds.json"
    first, _ = rendered(slow_scene, tmp_path / "first", speeds)
    assert shown_at_the_start(first) == {FAST: 0.0, SLOW: 0.0}
    stored = sorted(speed for speed, _ in json.loads(speeds.read_text()).values())
    assert len(stored) == 2
    assert told == {FAST: None, SLOW: None}

    second, shares = rendered(slow_scene, tmp_path / "second", speeds)
    shown = shown_at_the_start(second)
    assert sorted(shown.values()) == stored
    assert told == shown
    assert shown[FAST] > 1.5 * shown[SLOW]
    expected = {name: speed / sum(shown.values()) for name, speed in shown.items()}
    errors = {name: shares.get(name, 0.0) - expected[name] for name in expected}
    print(f"expected {expected}, came to {shares}")
    assert max(map(abs, errors.values())) < LARGEST_ERROR, (expected, shares)
