"""Our end of the one channel to a worker: start it, speak frames, notice when it is gone."""

from __future__ import annotations

import queue
import re
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from .bootstrap import OLDEST_BLENDER, TOO_OLD, first_line
from .job import (
    BlenderNotFound,
    BlenderUnsuitable,
    ConnectError,
    NodeError,
    NodeInfo,
    SceneRefused,
    WorkerLost,
)
from .launcher import is_queued
from .transport import Channel
from .worker.protocol import FrameError, encode, read_frame

START_S = 120.0
"""From the command to the first word of the worker; Blender on a slow disk takes its time."""
START_CHECK_S = 0.5
SILENCE_S = 15.0
"""A worker beats each second, also while it renders; beside a render on saturated cores the
largest gap seen was 0.8 s."""
LONG_SILENCE_S = 900.0
"""Opening a file and denoising hold the interpreter, and so the beat, as long as they take."""
NOISE_BYTES = 1 << 20
ENDING_S = 3.0
"""For a worker that was told to end, or failed to begin."""

NOT_FOUND_STATUS = (126, 127, 9009)
"""sh's "not executable" and "not found", cmd.exe's "not found"."""
_LIBRARY = re.compile(
    r"(?P<name>[\w.+-]+\.so[\w.]*): cannot open shared object|Library not loaded: (?P<path>\S+)"
)
"""What the loaders of Linux and macOS say; a server without a desktop lacks what draws windows."""
_NOT_FOUND = re.compile(r"not found|No such file|not recognized|cannot find|Unknown command", re.IGNORECASE)


class WorkerLink:
    """A running worker. Frames it sends are put on `inbox`; NodeError, once, when it ended."""

    def __init__(
        self, channel: Channel, inbox: queue.Queue[Any], leave_queue: Callable[[], None] | None = None
    ) -> None:
        """`leave_queue` is called where the worker is given up before it has answered."""
        self._channel = channel
        self._inbox = inbox
        self._leave_queue = leave_queue
        self._ended: NodeError | None = None
        self._inbox_lock = threading.Lock()
        self._write_lock = threading.Lock()
        self._heard = time.monotonic()
        self._patience = float("inf")
        """Of `check_silence`; the start has a limit of its own."""
        self._abort_reason = ""
        self._has_said_bye = False
        self._has_answered = False

    def start(self, say: Callable[[str], None] | None = None, longest_wait: float = float("inf")) -> NodeInfo:
        """Send the worker's source and wait until it answers.

        `say` is told the last line on stderr whenever it is another one. A command that waits in
        a queue is waited for, for at most `longest_wait` seconds.
        Raises BlenderNotFound, BlenderUnsuitable or WorkerLost. Whatever is printed before
        the worker's nonce (a banner, a login script's greeting) is passed over.
        """
        nonce = secrets.token_hex(16)
        is_here = threading.Event()
        watch = (is_here, say, time.monotonic() + longest_wait)
        threading.Thread(target=self._watch_start, args=watch, name="dc-start", daemon=True).start()
        try:
            self._channel.write(first_line(nonce))
            self._skip_noise(nonce.encode())
            header, _ = read_frame(self._read_exactly)
            info = NodeInfo(
                system=str(header["system"]),
                machine=str(header["machine"]),
                blender_version=_version(header["blender_version"]),
                blender_path=str(header["blender_path"]),
                cores=int(header["cores"]),
                devices=(),
                ocio=str(header.get("ocio", "")),
            )
            has_cycles = bool(header["has_cycles"])
        except (EOFError, ConnectError):
            raise self._start_failure() from None
        except (FrameError, KeyError, TypeError, ValueError) as error:
            raise WorkerLost(f"The node's first answer makes no sense: {error}.") from None
        finally:
            is_here.set()
        if not has_cycles:
            raise BlenderUnsuitable(
                f"Blender {info.version_text} on the node was built without Cycles.",
                "Install a Blender from blender.org there, and give its path.",
            )
        self._leave_queue = None
        self._has_answered = True
        self._patience = SILENCE_S
        self._heard = time.monotonic()
        threading.Thread(target=self._receive, name="dc-receive", daemon=True).start()
        return info

    def restart(self, ocio: str) -> None:
        """Have Blender start anew in the same place, with `ocio` for its OCIO configuration.

        Its folder stays. Raises what start() raises, and WorkerLost.
        """
        self.send({"type": "restart", "ocio": ocio})
        while True:
            item = self._inbox.get()
            if isinstance(item, NodeError):
                raise item
            if isinstance(item[0], str):
                continue  # An order to stop is not for here; who gave it has noted it elsewhere too.
            if item[0]["type"] == "error":
                raise SceneRefused(f"The color management could not be stored there: {item[0].get('text')}.")
            if item[0]["type"] == "restarting":
                break
        self._patience = float("inf")
        self.start()

    def send(self, header: dict[str, Any], payload: bytes | memoryview = b"") -> None:
        """Send one frame; blocks while the channel is full. Raise WorkerLost with the reason."""
        if header["type"] in ("open", "denoise"):
            self._patience = LONG_SILENCE_S
        try:
            with self._write_lock:
                for piece in encode(header, payload):
                    self._channel.write(piece)
        except ConnectError:
            raise self._end_reason() from None

    def deliver_to(self, inbox: queue.Queue[Any]) -> None:
        """From now on frames go there, and so does the error, also where it came before."""
        with self._inbox_lock:
            self._inbox = inbox
            if self._ended is not None:
                inbox.put(self._ended)

    def check_silence(self) -> None:
        """Abort a worker that has been silent for too long. Called about once a second."""
        silence = time.monotonic() - self._heard
        if silence > self._patience:
            self.abort(f"no sign of life for {silence:.0f} s")

    def abort(self, reason: str) -> None:
        """End the connection, from any thread; the reason becomes the error."""
        self._abort_reason = self._abort_reason or reason
        leave_queue, self._leave_queue = self._leave_queue, None
        if leave_queue is not None:
            leave_queue()
        self._channel.close()

    def close(self, timeout: float) -> None:
        """Ask the worker to end, wait up to `timeout` seconds for it, and free everything."""
        try:
            self.send({"type": "bye"})
            self._channel.exit_status(timeout)
        except NodeError:
            pass  # It ended before it was asked to.
        self.abort("closed")

    def give_up(self) -> None:
        """The worker is not used: end it, and leave the connection to others where it has ended."""
        with suppress(NodeError):
            if self._has_answered:
                self.send({"type": "bye"})
        if self._abort_reason or self._channel.exit_status(ENDING_S) is None:
            self.abort("not used")
        else:
            self._channel.let_go()

    def _watch_start(
        self, is_here: threading.Event, say: Callable[[str], None] | None, latest: float
    ) -> None:
        """Give a command up that does not become a worker; the time it is queued does not count."""
        begin = time.monotonic()
        deadline = begin + START_S
        said = ""
        while not is_here.wait(START_CHECK_S):
            line = _last_line(self._channel.stderr_tail())
            now = time.monotonic()
            if is_queued(line):
                deadline = now + START_S
            if line != said and say is not None:
                said = line
                say(line)
            if now > min(deadline, latest):
                words = f"; its last words: {line}" if line else ""
                self.abort(f"no answer within {now - begin:.0f} s{words}")
                return

    def _read_exactly(self, size: int) -> bytes:
        pieces = bytearray()
        while len(pieces) < size:
            data = self._channel.read(min(size - len(pieces), 1 << 20))
            if not data:
                raise EOFError
            # A large tile on a slow line is a sign of life as well.
            self._heard = time.monotonic()
            pieces += data
        return bytes(pieces)

    def _skip_noise(self, nonce: bytes) -> None:
        seen = bytearray()
        while not seen.endswith(nonce):
            # One byte at a time, never past the nonce: what follows is the first frame.
            seen += self._read_exactly(1)
            if len(seen) > NOISE_BYTES:
                raise FrameError("it prints without end, but it is not the worker")

    def _receive(self) -> None:
        error: NodeError
        try:
            while True:
                frame = read_frame(self._read_exactly)
                kind = frame[0]["type"]
                if kind in ("opened", "denoised"):
                    self._patience = SILENCE_S
                if kind == "bye":
                    self._has_said_bye = True
                elif kind != "beat":
                    with self._inbox_lock:
                        self._inbox.put(frame)
                if kind == "restarting":
                    return  # What follows is the start of another one.
        except EOFError:
            error = self._end_reason()
        except FrameError as damaged:
            error = WorkerLost(f"The connection is damaged: {damaged}.", "It is opened anew.")
        except Exception as bug:  # noqa: BLE001 - a thread's failure must reach its owner
            error = WorkerLost(f"Reading from the node failed: {bug!r}.")
        self._channel.close()
        with self._inbox_lock:
            self._ended = error
            self._inbox.put(error)

    def _end_reason(self) -> NodeError:
        if self._abort_reason:
            return WorkerLost(f"The node was given up: {self._abort_reason}.")
        if self._has_said_bye:
            return WorkerLost("The worker ended as it was told.")
        status = self._channel.exit_status(2.0)
        if status is None:
            return WorkerLost("The connection to the node broke.")
        last = _last_line(self._channel.stderr_tail())
        ended = "was ended by a signal" if status < 0 else f"ended with status {status}"
        return WorkerLost(f"Blender on the node {ended}.", last and f"Its last words: {last}")

    def _start_failure(self) -> NodeError:
        """Say why no worker came up, from what is left of the command."""
        if self._abort_reason:
            return WorkerLost(f"Blender on the node did not start: {self._abort_reason}.")
        status = self._channel.exit_status(5.0)
        stderr = self._channel.stderr_tail()
        last = _last_line(stderr)
        old = re.search(re.escape(TOO_OLD) + r" ([\d.]+)", stderr)
        if old:
            return BlenderUnsuitable(
                f"Blender {old[1]} on the node is too old.",
                f"Install {'.'.join(map(str, OLDEST_BLENDER[:2]))} or later there, and give its path.",
            )
        library = _LIBRARY.search(stderr)
        if library:
            return BlenderUnsuitable(
                f"Blender on the node does not start: the library {library['name'] or library['path']} is missing there.",
                "Install it there: Blender needs the libraries of a desktop, if not a screen.",
            )
        if status in NOT_FOUND_STATUS or (status not in (None, 0) and _NOT_FOUND.search(last)):
            return BlenderNotFound(
                f"There is no Blender on the node where it was looked for{f' ({last})' if last else ''}.",
                "Install it there, or give its path in the node's settings.",
            )
        if status is None:
            return WorkerLost("The connection broke while Blender was starting.")
        ended = "was ended by a signal" if status < 0 else f"ended with status {status}"
        return BlenderUnsuitable(
            f"Blender on the node {ended} before it answered{f': {last}' if last else ''}.",
            "Log in there and start it by hand with --background to see why.",
        )


def _version(numbers: Any) -> tuple[int, int, int]:
    major, minor, patch = (int(number) for number in numbers)
    return major, minor, patch


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
