"""The worker: one Blender process that renders tiles until it is told, or seen, to end.

    stdin  ->  reader thread  ->  queue  ->  main thread (all that touches Blender)
    stdout <-  frames of all threads, one at a time
               heartbeat thread: a beat each second
               watch thread: ends the process when nothing is heard

Blender prints to stdout whenever it likes, so the frames get a private copy of that
descriptor and descriptor 1 is pointed at stderr. The process must end by itself when the
other side is gone: a silent process survives every kind of disconnect on every system.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import sys
import threading
import time
import traceback
from io import BufferedReader
from pathlib import Path
from typing import Any, NoReturn

from . import denoise, receive, restart, scene
from .files import WorkerFolder
from .protocol import CHUNK_BYTES, CHUNKS, HEARTBEAT_S, FrameError, read_frame, widen
from .sender import Sender

ALONE_S = 60.0
"""Having heard nothing for this long, the worker takes the other side for gone."""
GOODBYE_S = 1.0
"""For what was said before the end."""
STORE_S = 30.0
"""For chunks that arrived before the connection was cut, on a disk that is slow."""
SOON_S = 0.5
"""For a tile that is being rendered at the end, so that its file is removed with the rest."""


class Worker:
    """Owns the descriptors, the folder and the open scene of this process."""

    def __init__(self, nonce: str) -> None:
        if os.name != "nt":
            # Blender leaves it as it is; the process would end without removing its folder.
            signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        self._out = os.dup(1)
        os.dup2(2, 1)
        if os.name == "nt":
            import msvcrt

            msvcrt.setmode(self._out, os.O_BINARY)  # type: ignore[attr-defined,unused-ignore] # Windows only
        self._sender = Sender(self._out)
        self._send = self._sender.send
        self._in: BufferedReader = sys.stdin.buffer  # type: ignore[assignment]  # never replaced in Blender
        widen(self._in.fileno())
        self._heard = time.monotonic()
        self._work: queue.Queue[tuple[dict[str, Any], bytes | memoryview]] = queue.Queue(maxsize=64)
        self._arrived = 0
        """How many frames of chunks were put into `_work`: the reader's own count."""
        self._stored = 0
        """How many of them were dealt with: the main thread's own count."""
        self._rooms: list[bytearray] = []
        """Memory in which chunks came. Taken again, it spares the system the clearing of each page."""
        self._rendering = threading.Lock()
        """Held while a tile is rendered."""
        self._is_over = False
        """No tile is begun any more, whose file would outlive the folder."""
        self._skipped: set[tuple[int, int]] = set()
        self._is_replaced = False
        """Whether another Blender takes over the connection."""
        self._folder = WorkerFolder()
        self._receiver = receive.Receiver(self._folder, self._send)
        _move_blenders_temporary_folder(str(self._folder.path))
        self._scene: scene.OpenScene | None = None
        self._sender.write([nonce.encode()])
        self._send({"type": "ready", **scene.describe()})

    def run(self) -> NoReturn:
        for loop in (self._read, self._beat, self._watch):
            threading.Thread(target=loop, daemon=True).start()
        while True:
            header, payload = self._work.get()
            try:
                self._handle(header, payload)
            except Exception as error:  # noqa: BLE001 - whatever it is, the other side must hear of it
                # Where it cannot be printed nobody listens any more, and the reader is at the end of it all.
                with contextlib.suppress(OSError):
                    traceback.print_exc()
                text = str(error).strip() or type(error).__name__
                what = {"request": header["type"], "is_os_error": isinstance(error, OSError)}
                self._send({**header, "type": "error", **what, "text": text})
            if header["type"] == CHUNKS:
                self._give_back(payload)
                self._stored += 1

    def _handle(self, header: dict[str, Any], payload: bytes | memoryview) -> None:
        kind = header["type"]
        if kind == "render":
            with self._rendering:
                self._render(header)
        elif kind in receive.REQUESTS:
            self._receiver.handle(header, payload)
        elif kind == "open":
            self._rooms.clear()
            start = time.perf_counter()
            output = self._folder.path / "tile.exr"
            self._scene = scene.OpenScene(self._folder.root, output, header)
            seconds = time.perf_counter() - start
            self._send({"type": "opened", "seconds": seconds, **self._scene.device})
        elif kind == "restart":
            self._restart(header["ocio"])
        elif kind == "denoise":
            denoise.run(header)
            self._send({"type": "denoised"})
        elif kind == "rest":
            # Numbers of tiles begin anew with the next render.
            self._skipped.clear()
            self._send({"type": "resting"})
        elif kind == "devices":
            self._send({"type": "devices", "names": scene.devices()})
        else:
            raise ValueError(f"a request of unknown type {kind!r}")

    def _restart(self, ocio: str) -> NoReturn:
        """Start Blender anew on the same connection and folder, with another OCIO configuration."""
        self._receiver.close()
        self._is_replaced = True
        # Nothing of this one may come between the words of the next.
        self._send({"type": "restarting"}, is_last=True)
        self._sender.flush(ALONE_S)
        try:
            restart.replace(self._folder, self._out, ocio)
        except OSError as error:
            self.end(f"Blender could not be started anew: {error}")

    def _render(self, header: dict[str, Any]) -> None:
        if self._is_over or self._sender.is_broken or (header["tile"], header["attempt"]) in self._skipped:
            return
        if self._scene is None:
            raise RuntimeError("no scene is open")
        build_seconds = self._scene.warm_up(header["border"], header["samples"])
        start = time.perf_counter()
        render_seconds, exr = self._scene.render(
            header["border"], header["samples"], use_zip=header["use_zip"]
        )
        answer = {
            "type": "tile",
            "tile": header["tile"],
            "attempt": header["attempt"],
            "render_seconds": render_seconds,
            "samples": self._scene.samples,
            "seconds": time.perf_counter() - start,
            "build_seconds": build_seconds,
        }
        self._send(answer, exr)

    def _read(self) -> None:
        """Queue what is asked, answer at once what cannot wait for a tile to end."""
        try:
            while True:
                header, payload = read_frame(self._read_exactly, self._read_chunks)
                self._heard = time.monotonic()
                if header["type"] == "ping":
                    continue
                if header["type"] == "echo":
                    self._send(header, payload)
                elif header["type"] == "skip":
                    self._skipped.add((header["tile"], header["attempt"]))
                elif header["type"] == "bye":
                    self._send({"type": "bye"})
                    self._sender.flush(GOODBYE_S)
                    self._store()
                    self.end("told to end")
                else:
                    self._queue(header, payload)
                if header["type"] == "restart":
                    return  # The next byte is for another Blender.
        except EOFError:
            self._store()
            self.end("the connection was closed")
        except (FrameError, OSError, KeyError) as error:
            self.end(f"what arrived is not the protocol: {error}")

    def _store(self) -> None:
        """What has arrived need not be sent again; it is written in a moment."""
        deadline = time.monotonic() + STORE_S
        while self._stored < self._arrived and time.monotonic() < deadline:
            time.sleep(0.05)

    def _queue(self, header: dict[str, Any], payload: bytes | memoryview) -> None:
        """What waits here for its turn was sent by somebody: that is no silence."""
        if header["type"] == CHUNKS:
            self._arrived += 1
        while True:
            try:
                self._work.put((header, payload), timeout=HEARTBEAT_S)
                return
            except queue.Full:
                self._heard = time.monotonic()

    def _read_exactly(self, size: int) -> bytes:
        data = self._in.read(size)
        if len(data) < size:
            raise EOFError
        return data

    def _read_chunks(self, size: int) -> memoryview:
        if size > CHUNK_BYTES:
            raise FrameError(f"{size} bytes of chunks are over the limit")
        room = memoryview(self._rooms.pop() if self._rooms else bytearray(CHUNK_BYTES))[:size]
        if self._in.readinto(room) < size:
            raise EOFError
        return room

    def _give_back(self, chunks: bytes | memoryview) -> None:
        if isinstance(chunks, memoryview) and isinstance(chunks.obj, bytearray):
            self._rooms.append(chunks.obj)

    def _beat(self) -> None:
        while True:
            time.sleep(HEARTBEAT_S)
            # What is on its way says as much; a queue that is full would take it for nothing.
            if not self._sender.is_behind and not self._send({"type": "beat"}):
                break
        # What was sent before that may still be in the pipe; where the reader finds its end, it ends us first.
        time.sleep(HEARTBEAT_S)
        self._store()
        self.end("nobody reads the answers")

    def _watch(self) -> None:
        """Apart from the beat, whose write blocks for ever on a black-holed connection.

        Only time in which somebody could have listened counts: opening a large file and
        denoising hold the interpreter, and the reader with it, for minutes.
        """
        alone = 0.0
        while alone < ALONE_S or self._is_replaced:
            before = self._heard
            time.sleep(HEARTBEAT_S)
            alone = alone + HEARTBEAT_S if self._heard == before else 0.0
        self.end(f"nothing heard for {ALONE_S:.0f} s")

    def end(self, reason: str) -> NoReturn:
        """End the process now, from any thread, leaving no file. Exit handlers of Blender and
        of GPU drivers can hang, so none is run."""
        self._is_over = True
        with contextlib.suppress(Exception):  # Whatever happens here, the process ends.
            self._receiver.close()
        words = f"distributed_cycles worker ends: {reason}\n".encode(errors="replace")
        # Nobody may be draining stderr any more.
        last_words = threading.Thread(target=os.write, args=(2, words), daemon=True)
        last_words.start()
        last_words.join(0.2)
        # Last of all: a Blender that renders on would make the folder anew to write its tile. One that is soon
        # back is waited for, the rest is unlikely to be written between the last look and the end.
        self._rendering.acquire(timeout=SOON_S)
        self._folder.remove()
        os._exit(0)


def _move_blenders_temporary_folder(path: str) -> None:
    """Blender removes its own temporary folder only on a normal exit; put it inside ours."""
    import bpy

    before = Path(bpy.app.tempdir)
    bpy.context.preferences.filepaths.temporary_directory = path
    if Path(bpy.app.tempdir) != before and before.is_dir() and not any(before.iterdir()):
        before.rmdir()


def main(nonce: str) -> NoReturn:
    """Start the worker. `nonce` is what the other side waits for before it listens."""
    Worker(nonce).run()
