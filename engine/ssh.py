"""SSH to a node by paramiko: the connection and its channel. With ssh_login all that imports it.

The order is fixed: resolve, connect, exchange keys, judge the host key, and only then log in;
no proof of identity ever reaches a host that is not trusted.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import paramiko

from .job import ConnectError, Node, NodeError
from .known_hosts import KnownHosts
from .ssh_login import Transport, log_in
from .tcp import reach
from .transport import STDERR_TAIL_BYTES
from .trust import judge

HANDSHAKE_S = 15.0
WINDOW_BYTES = 16 << 20
"""At 100 ms round trip the default window of 2 MiB holds a download to 17 MiB/s, this one
to 98 (measured)."""
PIECE_BYTES = 64 * 1024
RUN_BYTES = 1 << 20

# Its thread logs whole tracebacks of connections that break, which is every day's business here.
logging.getLogger("paramiko").setLevel(logging.CRITICAL + 1)


@dataclass
class Access:
    """What is needed to be let in. Passphrases are kept in memory only."""

    known_hosts: KnownHosts
    passphrases: dict[str, str] = field(default_factory=dict, repr=False)
    """Key file -> passphrase."""


class SshConnection:
    """One connection to a node, made once; after `close` it stays closed."""

    def __init__(self, node: Node, access: Access) -> None:
        self.node = node
        self._access = access
        self._transport: Transport | None = None
        self._socket: socket.socket | None = None
        self._is_closed = False

    def connect(self) -> None:
        """Connect and log in. Raises a NodeError that says what to do; bounded in time."""
        try:
            self._refuse_if_closed()
            self._socket = reach(self.node.host, self.node.port, lambda: self._is_closed)
            self._refuse_if_closed()
            self._transport = self._shake_hands(self._socket)
            self._refuse_if_closed()
            self._judge_host_key(self._transport)
            log_in(self._transport, self.node, self._access.passphrases)
        except NodeError as error:
            error.node = self.node.name
            self.close()
            raise

    def open(self, command: str) -> SshChannel:
        """Run `command` with its stdin, stdout and stderr as a channel. Never on a terminal."""
        return SshChannel(self._session(command), self)

    def run(self, command: str, timeout: float) -> tuple[int, str, str]:
        """Run a small command to its end: exit status, stdout, stderr."""
        channel = self._session(command)
        deadline = time.monotonic() + timeout
        try:
            channel.shutdown_write()
            output = self._read_all(channel, channel.recv, deadline)
            errors = self._read_all(channel, channel.recv_stderr, deadline)
            if not channel.status_event.wait(deadline - time.monotonic()):
                raise TimeoutError
            if channel.exit_status == -1 and self._is_broken():
                raise EOFError("closed by the server")
            return channel.exit_status, output, errors
        except TimeoutError:
            raise ConnectError(
                f"A command on the node did not end within {timeout:.0f} s.",
                "Does its login shell wait for something?",
                self.node.name,
            ) from None
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise ConnectError(f"The connection broke ({error}).", node=self.node.name) from None
        finally:
            channel.close()

    def close(self) -> None:
        """Close at once, whether or not anybody is at the other end. From any thread."""
        self._is_closed = True
        transport, self._transport = self._transport, None
        # First the socket: closing the transport waits for a thread that may be writing to it.
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()
        if transport is not None:
            threading.Thread(target=transport.close, name="dc-ssh-close", daemon=True).start()

    def _refuse_if_closed(self) -> None:
        if self._is_closed:
            raise ConnectError("The connection is closed.", node=self.node.name)

    def _is_broken(self) -> bool:
        return self._transport is None or not self._transport.is_active()

    def _session(self, command: str) -> paramiko.Channel:
        transport = self._transport
        if transport is None:
            raise ConnectError("The connection is closed.", node=self.node.name)
        try:
            channel = transport.open_session(window_size=WINDOW_BYTES, timeout=HANDSHAKE_S)
            channel.exec_command(command)
            return channel
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise ConnectError(
                f"The SSH server opened no session ({error}).",
                "Its MaxSessions may be reached.",
                self.node.name,
            ) from None

    def _read_all(self, channel: paramiko.Channel, receive: Callable[[int], bytes], deadline: float) -> str:
        data = bytearray()
        while (left := deadline - time.monotonic()) > 0:
            channel.settimeout(left)
            piece = receive(PIECE_BYTES)
            if not piece:
                return data.decode(errors="replace")
            data += piece
            if len(data) > RUN_BYTES:
                raise ConnectError(
                    "The node answers a short question with more than 1 MiB.",
                    "Look at what its login shell prints.",
                    self.node.name,
                )
        raise TimeoutError

    def _shake_hands(self, sock: socket.socket) -> Transport:
        try:
            transport = Transport(sock, default_window_size=WINDOW_BYTES)
            transport.banner_timeout = HANDSHAKE_S
            transport.handshake_timeout = HANDSHAKE_S
            _prefer(transport, self._access.known_hosts.key_types(self.node.host, self.node.port))
            transport.start_client(timeout=HANDSHAKE_S)
            # start_client returns all the same when its time is over.
            if not transport.initial_kex_done:
                raise TimeoutError(f"no answer within {HANDSHAKE_S:.0f} s")
            return transport
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise ConnectError(
                f"What answers on port {self.node.port} does not speak SSH as it should"
                f" ({str(error) or 'it closed the connection'}).",
                "Is this the port of an SSH server? It also hangs up when too many log in at once.",
            ) from None

    def _judge_host_key(self, transport: Transport) -> None:
        try:
            key = transport.get_remote_server_key()
        except paramiko.SSHException as error:
            raise ConnectError(f"The connection broke before the login ({error}).") from None
        judge(self.node, self._access.known_hosts, key.get_name(), key.get_base64())


class SshChannel:
    """A command on the node. See transport.Channel."""

    def __init__(self, channel: paramiko.Channel, connection: SshConnection) -> None:
        self._channel = channel
        self._connection = connection
        self._stderr = bytearray()
        # Unread, stderr would fill the window and stop the command.
        self._drain = threading.Thread(target=self._drain_stderr, name="dc-stderr", daemon=True)
        self._drain.start()

    def _drain_stderr(self) -> None:
        with contextlib.suppress(OSError, paramiko.SSHException):
            while data := self._channel.recv_stderr(PIECE_BYTES):
                self._stderr += data
                del self._stderr[:-STDERR_TAIL_BYTES]

    def read(self, size: int) -> bytes:
        try:
            data: bytes = self._channel.recv(size)
            return data
        except (OSError, paramiko.SSHException):
            return b""

    def write(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        try:
            # In pieces, since sendall copies all that is left for each packet.
            for start in range(0, len(view), PIECE_BYTES):
                self._channel.sendall(bytes(view[start : start + PIECE_BYTES]))
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise ConnectError(
                f"the connection broke ({str(error) or 'closed'}).", node=self._connection.node.name
            ) from None

    def end_input(self) -> None:
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            self._channel.shutdown_write()

    def stderr_tail(self) -> str:
        if self._channel.closed or self._channel.exit_status_ready():
            self._drain.join(0.5)
        return bytes(self._stderr).decode(errors="replace")

    def exit_status(self, timeout: float) -> int | None:
        """paramiko gives -1 for a command that a signal ended, and for a broken connection."""
        if not self._channel.status_event.wait(timeout):
            return None
        status: int = self._channel.exit_status
        transport = self._channel.get_transport()
        return None if status == -1 and (transport is None or not transport.is_active()) else status

    def close(self) -> None:
        """Close the whole connection: it serves this one command, and a channel's own close can
        wait for a peer that is gone."""
        self._connection.close()


def _prefer(transport: Transport, types: list[str]) -> None:
    """Ask for a host key of a type that is on record, so that it can be compared."""
    if not types:
        return
    algorithms = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}
    wanted = [name for kind in types for name in algorithms.get(kind, (kind,))]
    options = transport.get_security_options()
    known = [name for name in wanted if name in options.key_types]
    options.key_types = [*known, *(name for name in options.key_types if name not in known)]


def usual_known_hosts() -> list[Path]:
    """The files in which this user's ssh looks."""
    personal = Path("~/.ssh").expanduser()
    system = Path("/etc/ssh")
    if os.name == "nt":
        system = Path(os.environ.get("PROGRAMDATA", "C:/ProgramData"), "ssh")
    return [personal / "known_hosts", personal / "known_hosts2", system / "ssh_known_hosts"]
