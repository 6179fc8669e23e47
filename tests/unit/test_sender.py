"""The worker's way back: nobody waits for a slow line until there is too much on its way."""

from __future__ import annotations

import os
import threading
import time

from engine.worker.protocol import encode
from engine.worker.sender import WAITING_FRAMES, Sender

TILE = os.urandom(4 << 20)
"""More than any pipe holds."""


def test_who_sends_does_not_wait_for_who_reads() -> None:
    there, here = os.pipe()
    sender = Sender(here)
    start = time.monotonic()
    for number in range(WAITING_FRAMES):
        assert sender.send({"type": "tile", "tile": number}, TILE)
    assert time.monotonic() - start < 1
    assert sender.is_behind
    whole = b"".join(
        bytes(p) for n in range(WAITING_FRAMES) for p in encode({"type": "tile", "tile": n}, TILE)
    )
    with os.fdopen(there, "rb") as pipe:
        assert pipe.read(len(whole)) == whole
        sender.flush(5)
        assert not sender.is_behind


def test_more_than_may_wait_is_waited_for() -> None:
    there, here = os.pipe()
    sender = Sender(here)
    sent: list[int] = []

    def send() -> None:
        for number in range(WAITING_FRAMES + 4):
            sender.send({"type": "tile"}, TILE)
            sent.append(number)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    thread.join(0.5)
    assert WAITING_FRAMES <= len(sent) <= WAITING_FRAMES + 1
    with os.fdopen(there, "rb") as pipe:
        pipe.read(len(b"".join(encode({"type": "tile"}, TILE))) * (WAITING_FRAMES + 4))
    thread.join(5)
    assert len(sent) == WAITING_FRAMES + 4


def test_where_nobody_reads_it_says_so() -> None:
    there, here = os.pipe()
    sender = Sender(here)
    os.close(there)
    sender.send({"type": "beat"})
    sender.flush(5)
    assert sender.is_broken
    assert not sender.send({"type": "beat"})


def test_nothing_follows_the_last_frame() -> None:
    """Another Blender goes on with the descriptor."""
    there, here = os.pipe()
    sender = Sender(here)
    sender.send({"type": "restarting"}, is_last=True)
    assert sender.send({"type": "beat"})
    sender.flush(5)
    os.close(here)
    with os.fdopen(there, "rb") as pipe:
        assert pipe.read() == b"".join(encode({"type": "restarting"}))
