"""How fast a node renders this very scene, remembered from one render to the next.

No stock scene and no render apart is timed: a node's first tiles are the benchmark. What would
spoil the first one, that Cycles builds its scene then, is done just before it (worker.scene.warm_up).
What is learned is kept per node, device, Blender and scene, so that the next render begins with it.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import suppress
from pathlib import Path

from .job import Job, Node, NodeInfo

KEPT = 1000
"""Speeds remembered; the oldest are forgotten."""


def key(node: Node, info: NodeInfo, device: str, job: Job) -> str:
    """What a speed holds for. A scene that was never saved has no name to remember it by."""
    if not job.source:
        return ""
    machine = (node.address, node.launcher, node.threads, node.workers)
    scene = (job.source, job.scene, job.view_layer, job.width, job.height)
    words = json.dumps((machine, info.system, info.machine, info.blender_version, device, scene))
    return hashlib.sha256(words.encode()).hexdigest()[:32]


class Speeds:
    """Pixels per second by key, in a file; without a file they are forgotten with the session."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._new: dict[str, tuple[float, float]] = {}
        self._known = self._read()

    def of(self, key: str) -> float | None:
        entry = self._new.get(key) or self._known.get(key)
        return entry[0] if entry else None

    def learn(self, key: str, speed: float) -> None:
        if key:
            self._new[key] = (speed, time.time())

    def save(self) -> None:
        """Add what was learned to the file. It is a help and no more: what cannot be written is let go."""
        if self._path is None or not self._new:
            return
        # Another Blender may have written meanwhile.
        entries = sorted((self._read() | self._new).items(), key=lambda entry: entry[1][1])[-KEPT:]
        partial = self._path.with_suffix(f".{os.getpid()}.part")
        with suppress(OSError):
            partial.write_text(json.dumps(dict(entries)), encoding="utf-8")
            partial.replace(self._path)

    def _read(self) -> dict[str, tuple[float, float]]:
        try:
            data = json.loads(self._path.read_text(encoding="utf-8")) if self._path else {}
            return {str(key): (float(speed), float(when)) for key, (speed, when) in data.items() if speed > 0}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}
