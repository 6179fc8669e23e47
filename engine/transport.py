"""A byte channel to a command: what the rest of the engine needs to know of pipes and SSH."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from typing import Protocol

from .job import BlenderNotFound, ConnectError
from .worker.protocol import widen

STDERR_TAIL_BYTES = 64 * 1024
BELOW_NORMAL_NICE = 10
ENDING_S = 1.5
TERM_S = 0.5


def survive_broken_pipes() -> None:
    """Let a write to a process or connection that is gone raise an error, in the whole process.

    Blender, unlike `python` itself and the bpy wheel, leaves SIGPIPE as it is: it would end
    Blender without a word. To be called from the main thread.
    """
    if os.name != "nt" and signal.getsignal(signal.SIGPIPE) == signal.SIG_DFL:
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)


class Channel(Protocol):
    """A running command's stdin and stdout. One thread reads, one thread writes at a time."""

    def read(self, size: int) -> bytes:
        """Block until there is something; 1 to `size` bytes, b"" at the end of the stream."""

    def write(self, data: bytes | memoryview) -> None:
        """Write all of `data`. Raise ConnectError where the other end is gone."""

    def end_input(self) -> None:
        """Let the command read the end of its stdin; it may still answer."""

    def stderr_tail(self) -> str:
        """The end of what the command wrote to stderr, at most STDERR_TAIL_BYTES of it."""

    def exit_status(self, timeout: float) -> int | None:
        """The command's exit status, None if it is not known within `timeout` seconds."""

    def close(self) -> None:
        """End the command and free any thread that reads or writes. Any thread, any number of
        times; bounded by a few seconds."""

    def let_go(self) -> None:
        """Free what a command has left that has ended; what it came over stays for the next one."""


class ProcessChannel:
    """A program on this computer. `gone` names it in the error of a write after its end."""

    def __init__(self, command: Sequence[str], flags: int, gone: str, *, has_launcher: bool = False) -> None:
        """Start `command`. Raise OSError where there is no such program."""
        self._has_launcher = has_launcher
        self._gone = gone
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            # Ctrl-C in the terminal is for us alone.
            start_new_session=os.name != "nt",
            creationflags=flags,
        )
        assert self._process.stdin is not None
        widen(self._process.stdin.fileno())
        self._stderr = bytearray()
        self._drain = threading.Thread(target=self._drain_stderr, name="dc-stderr", daemon=True)
        self._drain.start()

    def _drain_stderr(self) -> None:
        assert self._process.stderr is not None
        while data := self._process.stderr.read(65536):
            self._stderr += data
            del self._stderr[:-STDERR_TAIL_BYTES]

    def read(self, size: int) -> bytes:
        assert self._process.stdout is not None
        try:
            return self._process.stdout.read(size)
        except (OSError, ValueError):  # closed by close()
            return b""

    def write(self, data: bytes | memoryview) -> None:
        assert self._process.stdin is not None
        view = memoryview(data)
        try:
            while view:
                written = self._process.stdin.write(view)
                view = view[written or 0 :]
        except (OSError, ValueError) as error:
            raise ConnectError(f"{self._gone} ended ({error}).") from None

    def end_input(self) -> None:
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):  # It was gone already.
                self._process.stdin.close()

    def stderr_tail(self) -> str:
        # The last words come just before the end of the stream.
        if self._process.poll() is not None:
            self._drain.join(0.5)
        return bytes(self._stderr).decode(errors="replace")

    def exit_status(self, timeout: float) -> int | None:
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def close(self) -> None:
        """The worker ends by itself, cleaning up, when its stdin does; if not, it is killed."""
        self.end_input()
        if self.exit_status(ENDING_S) is None:
            self._kill()

    def let_go(self) -> None:
        self.close()

    def _kill(self) -> None:
        if os.name == "nt":
            self._process.kill()
            return
        # The whole group: a launcher may stand between us and Blender. It may be gone by now.
        with contextlib.suppress(ProcessLookupError):
            if self._has_launcher:
                # Asked first: srun takes its job out of the queue then.
                os.killpg(self._process.pid, signal.SIGTERM)
                self.exit_status(TERM_S)
            os.killpg(self._process.pid, signal.SIGKILL)


class LocalChannel(ProcessChannel):
    """A command on this computer, at lower priority, so that the desktop stays smooth."""

    def __init__(self, command: Sequence[str], *, has_launcher: bool = False) -> None:
        """Start `command`. Raise BlenderNotFound where there is no such program."""
        flags = windows_flags("BELOW_NORMAL_PRIORITY_CLASS", "CREATE_NEW_PROCESS_GROUP", "CREATE_NO_WINDOW")
        try:
            super().__init__(command, flags, "the worker on this computer", has_launcher=has_launcher)
        except OSError as error:
            raise BlenderNotFound(
                f"Blender could not be started: {error}.", "Check the path of Blender."
            ) from None
        if os.name != "nt":
            # It may have ended already, which the reader will notice and report.
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, self._process.pid, BELOW_NORMAL_NICE)


def windows_flags(*names: str) -> int:
    """Flags for a new process, 0 elsewhere than on Windows."""
    return sum(getattr(subprocess, name, 0) for name in names)
