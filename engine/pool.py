"""Workers that stay when a render ends, for the next one.

    NodeLife --keep--> WorkerPool (beats, notices who is gone, ends who waited too long) --take--> NodeLife

A kept worker has its scene open and what Cycles built of it. Before it is taken over, and before it is given
away, it is asked to `rest`, which it answers after all that it was asked before: so it is alive, renders
nothing that nobody waits for, and nothing of the last render can come any more.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Hashable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from .job import NodeError, NodeInfo
from .link import WorkerLink
from .worker.protocol import HEARTBEAT_S

END_S = 2.0
SETTLE_S = 0.5
"""One that still renders what others had first would be in the way of what comes next."""
LIVENESS_S = 2.0
"""A kept worker that does not answer within so long is not waited for: a new one starts sooner."""


@dataclass(slots=True)
class KeptWorker:
    """A running worker and what it has open."""

    link: WorkerLink
    info: NodeInfo
    scene: str = ""
    """Which scene it has open, as NodeLife compares it; empty if none is known."""
    device: str = ""
    gpus: int = 0
    cleanup: ExitStack = field(default_factory=ExitStack)
    """Ends it and closes what it came through."""
    has_run_scripts: bool = False
    """Whether the file that was open last might leave something behind in its Python."""


@dataclass(slots=True)
class _Entry:
    worker: KeptWorker
    key: Hashable
    since: float = field(default_factory=time.monotonic)
    inbox: queue.Queue[Any] = field(default_factory=queue.Queue)

    def __post_init__(self) -> None:
        self.worker.link.deliver_to(self.inbox)


class WorkerPool:
    """Kept workers by the name of the worker. Methods may be called from any thread."""

    def __init__(self) -> None:
        self.seconds = 0.0
        """How long a worker is kept."""
        self._lock = threading.Lock()
        self._kept: dict[str, _Entry] = {}
        self._watch: threading.Thread | None = None

    def names(self) -> list[str]:
        """The workers that are kept."""
        with self._lock:
            return sorted(self._kept)

    def keep(self, name: str, key: Hashable, worker: KeptWorker) -> None:
        """Take a worker over, if it is at rest. It is given only to who asks with the same `key`."""
        entry = _Entry(worker, key)
        if not _answers(entry, SETTLE_S):
            _end([entry])
            return
        with self._lock:
            last = self._kept.pop(name, None)
            self._kept[name] = entry
            if self._watch is None:
                self._watch = threading.Thread(target=self._run, name="dc-pool", daemon=True)
                self._watch.start()
        if last is not None:
            _end([last])

    def take(self, name: str, key: Hashable) -> KeptWorker | None:
        """The worker kept under this name, alive and at rest; None where there is none.

        One that was kept under another key ends: its node has other settings now.
        """
        with self._lock:
            found = self._kept.pop(name, None)
        if found is None:
            return None
        if found.key == key and _answers(found, LIVENESS_S):
            return found.worker
        _end([found])
        return None

    def close(self) -> None:
        """End all of them."""
        with self._lock:
            kept = list(self._kept.values())
            self._kept.clear()
        for thread in _end(kept):
            thread.join(END_S)

    def _run(self) -> None:
        """Until none is left: a worker that hears nothing ends itself."""
        while True:
            time.sleep(HEARTBEAT_S)
            with self._lock:
                kept = list(self._kept.items())
            # Looking at one may close a connection, which takes its time.
            bad = [(name, entry) for name, entry in kept if not self._is_good(entry)]
            with self._lock:
                entries = [self._kept.pop(name) for name, entry in bad if self._kept.get(name) is entry]
                is_last = not self._kept
                if is_last:
                    self._watch = None
            _end(entries)
            if is_last:
                return

    def _is_good(self, entry: _Entry) -> bool:
        with contextlib.suppress(queue.Empty):
            while True:
                if isinstance(entry.inbox.get_nowait(), NodeError):
                    return False
        entry.worker.link.check_silence()
        try:
            # A few bytes: they find room in buffers for longer than silence is borne.
            entry.worker.link.send({"type": "ping"})
        except NodeError:
            return False
        return time.monotonic() - entry.since < self.seconds


def _answers(entry: _Entry, timeout: float) -> bool:
    """Whether it is alive, and done with what it was asked before. What came until then is dropped."""
    deadline = time.monotonic() + timeout
    try:
        entry.worker.link.send({"type": "rest"})
        while True:
            item = entry.inbox.get(timeout=max(0.0, deadline - time.monotonic()))
            if isinstance(item, NodeError):
                return False
            if item[0]["type"] == "resting":
                return True
    except (NodeError, queue.Empty):
        return False


def _end(entries: list[_Entry]) -> list[threading.Thread]:
    """Each is given a moment to remove its files: side by side, and while others go on."""
    threads = [threading.Thread(target=entry.worker.cleanup.close, daemon=True) for entry in entries]
    for thread in threads:
        thread.start()
    return threads
