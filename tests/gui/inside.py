"""Runs inside the windowed Blender: evaluates what the test asks, on Blender's main thread.

The test acts by mouse and keyboard only; through here it looks. Code that it sends finds `bpy`,
`C` (the context) and `pulse`.
"""

from __future__ import annotations

import json
import os
import queue
import socket
import threading
import time
from typing import Any

import bpy

PERIOD_S = 0.05

_questions: queue.Queue[tuple[str, queue.Queue[dict[str, Any]]]] = queue.Queue()


class Pulse:
    """How long Blender was away from its event loop: between two calls of a timer of 0.05 s."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self._last = time.perf_counter()
        self.beats = 0
        self.longest_s = 0.0

    def beat(self) -> None:
        now = time.perf_counter()
        self.longest_s = max(self.longest_s, now - self._last)
        self.beats += 1
        self._last = now


_pulse = Pulse()


def _listen(path: str) -> None:
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen()
    while True:
        connection, _ = server.accept()
        with connection, connection.makefile("rw") as stream:
            for line in stream:
                answer: queue.Queue[dict[str, Any]] = queue.Queue()
                _questions.put((json.loads(line), answer))
                stream.write(json.dumps(answer.get()) + "\n")
                stream.flush()


def _answer() -> float:
    _pulse.beat()
    while not _questions.empty():
        code, answer = _questions.get()
        names: dict[str, Any] = {"bpy": bpy, "C": bpy.context, "pulse": _pulse}
        try:
            exec(code, names)
            answer.put({"value": names.get("value")})
        except Exception as error:  # noqa: BLE001 - whatever it is, the test is to see it
            answer.put({"error": repr(error)})
    return PERIOD_S


threading.Thread(target=_listen, args=[os.environ["DC_TEST_SOCKET"]], daemon=True).start()
bpy.app.timers.register(_answer, persistent=True)
