"""The way back: frames go out in a thread of their own, so that a slow line holds no tile up.
Shipped to the node as source."""

from __future__ import annotations

import os
import queue
import threading
import time
from typing import Any

from .protocol import encode

WAITING_FRAMES = 4
"""A tile of many passes has tens of MiB; beyond so many the line is what is waited for."""
CHECK_S = 1.0


class Sender:
    """Writes to one descriptor. Methods may be called from any thread."""

    def __init__(self, out: int) -> None:
        self._out = out
        self._frames: queue.Queue[list[bytes | memoryview]] = queue.Queue(WAITING_FRAMES)
        self.is_broken = False
        """Nobody reads any more."""
        self._has_ended = False
        self._lock = threading.Lock()
        threading.Thread(target=self._run, daemon=True).start()

    @property
    def is_behind(self) -> bool:
        """Whether something is still on its way."""
        return self._frames.unfinished_tasks > 0

    def send(
        self, header: dict[str, Any], payload: bytes | memoryview = b"", *, is_last: bool = False
    ) -> bool:
        """Queue a frame, after waiting for room if need be; False where nobody reads it.

        What is sent after the last one is dropped.
        """
        return self.write(encode(header, payload), is_last=is_last)

    def write(self, pieces: list[bytes | memoryview], *, is_last: bool = False) -> bool:
        """The same with whatever bytes."""
        with self._lock:
            while not (self.is_broken or self._has_ended):
                try:
                    self._frames.put(pieces, timeout=CHECK_S)
                except queue.Full:
                    continue
                self._has_ended = is_last
                return True
        return not self.is_broken

    def flush(self, timeout: float) -> None:
        """Wait until all is written, for at most `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while self.is_behind and time.monotonic() < deadline:
            time.sleep(0.005)

    def _run(self) -> None:
        while True:
            pieces = self._frames.get()
            try:
                for piece in pieces:
                    view = memoryview(piece)
                    while view and not self.is_broken:
                        view = view[os.write(self._out, view) :]
            except OSError:
                self.is_broken = True
            self._frames.task_done()
