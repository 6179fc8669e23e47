"""A TCP proxy that delivers everything after a while: `python -m tests.bench.delay PORT MILLISECONDS`.

Prints the port it listens on. A process of its own, so that it takes no time from what is measured.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import sys
import threading
import time

PIECE_BYTES = 1 << 18
DEPTH = 512
"""Pieces on their way; a long line holds many."""


def main() -> None:
    port, delay = int(sys.argv[1]), float(sys.argv[2]) / 1000
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    while True:
        client, _ = listener.accept()
        server = socket.create_connection(("127.0.0.1", port))
        for source, sink in ((client, server), (server, client)):
            sink.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            line: queue.Queue[tuple[float, bytes]] = queue.Queue(DEPTH)
            threading.Thread(target=take, args=(source, line, delay), daemon=True).start()
            threading.Thread(target=give, args=(sink, line), daemon=True).start()


def take(source: socket.socket, line: queue.Queue[tuple[float, bytes]], delay: float) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(PIECE_BYTES):
            line.put((time.monotonic() + delay, data))
    line.put((0.0, b""))


def give(sink: socket.socket, line: queue.Queue[tuple[float, bytes]]) -> None:
    with contextlib.suppress(OSError):
        while True:
            due, data = line.get()
            if not data:
                sink.shutdown(socket.SHUT_WR)
                return
            time.sleep(max(0.0, due - time.monotonic()))
            sink.sendall(data)


if __name__ == "__main__":
    main()
