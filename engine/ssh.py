"""SSH to a node by paramiko: the connection and its channel.

The order is fixed: resolve, connect, exchange keys, judge the host key, and only then log in;
no proof of identity ever reaches a host that is not trusted. The same holds for each host on the way.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable

import paramiko

from .access import Access
from .host_certificate import SUFFIX, authority_of
from .job import ConnectError, Node, NodeError
from .known_hosts import KnownHosts
from .ssh_config import Target, resolve
from .ssh_login import Transport, log_in
from .tcp import ProxyCommand, reach
from .transport import STDERR_TAIL_BYTES
from .trust import judge

HANDSHAKE_S = 15.0
WINDOW_BYTES = 16 << 20
"""At 100 ms round trip the default window of 2 MiB holds a download to 17 MiB/s, this one
to 98 (measured)."""
PIECE_BYTES = 64 * 1024
PACKET_HEAD_BYTES = 64
"""What paramiko keeps free in a packet of the size that the server takes (32 KiB)."""
RUN_BYTES = 1 << 20

# Its thread logs whole tracebacks of connections that break, which is every day's business here.
logging.getLogger("paramiko").setLevel(logging.CRITICAL + 1)


class SshConnection:
    """One connection to a node, made once; after `close` it stays closed. See access.Connection."""

    def __init__(self, node: Node, access: Access) -> None:
        self.node = node
        self._access = access
        self._transports: list[Transport] = []
        """One for each host on the way, the node's own at the end."""
        self._socket: socket.socket | None = None
        self._proxy: ProxyCommand | None = None
        self._is_closed = False

    def connect(self) -> None:
        """Connect and log in, through all hosts on the way."""
        try:
            target = resolve(self.node, self._access.config)
            hops = (*target.jumps, target)
            self._refuse_if_closed()
            self._socket = self._reach(hops[0])
            stream: socket.socket | paramiko.Channel = self._socket
            for number, hop in enumerate(hops):
                if number:
                    stream = self._tunnel(hops[number - 1], hop)
                self._refuse_if_closed()
                transport = self._shake_hands(stream, hop)
                self._refuse_if_closed()
                self._judge_host_key(transport, hop)
                log_in(transport, hop, self._access)
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
        transports, self._transports = self._transports, []
        # First the socket: closing the transport waits for a thread that may be writing to it.
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()
        if self._proxy is not None:
            self._proxy.close()
        for transport in reversed(transports):
            threading.Thread(target=_close, args=(transport,), name="dc-ssh-close", daemon=True).start()

    @property
    def is_open(self) -> bool:
        return not self._is_closed and not self._is_broken()

    def _refuse_if_closed(self) -> None:
        if self._is_closed:
            raise ConnectError("The connection is closed.", node=self.node.name)

    def _is_broken(self) -> bool:
        return not self._transports or not self._transports[-1].is_active()

    def _session(self, command: str) -> paramiko.Channel:
        transports = self._transports
        if not transports:
            raise ConnectError("The connection is closed.", node=self.node.name)
        try:
            channel = transports[-1].open_session(window_size=WINDOW_BYTES, timeout=HANDSHAKE_S)
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

    def _reach(self, target: Target) -> socket.socket:
        if not target.proxy_command:
            return reach(target.host, target.port, lambda: self._is_closed, target.timeout)
        self._proxy = ProxyCommand(target.proxy_command)
        return self._proxy.socket

    def _tunnel(self, via: Target, target: Target) -> paramiko.Channel:
        """Let the last host that was reached connect to the next one."""
        try:
            return self._transports[-1].open_channel(
                "direct-tcpip",
                (target.host, target.port),
                ("127.0.0.1", 0),
                window_size=WINDOW_BYTES,
                timeout=target.timeout + HANDSHAKE_S,
            )
        except (OSError, EOFError, IndexError, paramiko.SSHException) as error:
            raise ConnectError(
                f"{via.host} does not bring us on to {target.host} port {target.port} ({getattr(error, 'text', error)}).",
                f"Does {via.host} reach it, and does its sshd allow TCP forwarding?",
            ) from None

    def _shake_hands(self, stream: socket.socket | paramiko.Channel, target: Target) -> Transport:
        try:
            transport = Transport(stream, default_window_size=WINDOW_BYTES)
            self._transports.append(transport)
            transport.banner_timeout = HANDSHAKE_S
            transport.handshake_timeout = HANDSHAKE_S
            _prefer_fast_ciphers(transport)
            transport.wanted_host_keys = _wanted(self._access.records(target), target)
            transport.start_client(timeout=HANDSHAKE_S)
            # start_client returns all the same when its time is over.
            if not transport.initial_kex_done:
                raise TimeoutError(f"no answer within {HANDSHAKE_S:.0f} s")
            return transport
        except (OSError, EOFError, paramiko.SSHException) as error:
            if target.proxy_command:
                raise ConnectError(
                    f"The ProxyCommand for {target.alias} brings us to no SSH server"
                    f" ({str(error) or 'it ended'}): {target.proxy_command}",
                    "Run it by hand to see why; its place is ~/.ssh/config.",
                ) from None
            raise ConnectError(
                f"What answers on port {target.port} of {target.host} does not speak SSH as it should"
                f" ({str(error) or 'it closed the connection'}).",
                "Is this the port of an SSH server? It also hangs up when too many log in at once.",
            ) from None

    def _judge_host_key(self, transport: Transport, target: Target) -> None:
        try:
            key = transport.get_remote_server_key()
        except paramiko.SSHException as error:
            raise ConnectError(f"The connection broke before the login ({error}).") from None
        authority = authority_of(key, target.record[0])
        judge(target, self._access.records(target), key.get_name(), key.get_base64(), authority)


class SshChannel:
    """A command on the node. See transport.Channel."""

    def __init__(self, channel: paramiko.Channel, connection: SshConnection) -> None:
        self._channel = channel
        self._connection = connection
        self._packet_bytes = channel.out_max_packet_size - PACKET_HEAD_BYTES
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
            # In pieces, since sendall copies all that is left for each packet; each piece is one packet.
            for start in range(0, len(view), self._packet_bytes):
                self._channel.sendall(bytes(view[start : start + self._packet_bytes]))
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
        """Close the whole connection: a channel's own close can wait for a peer that is gone."""
        self._connection.close()

    def let_go(self) -> None:
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            self._channel.close()


def _prefer_fast_ciphers(transport: Transport) -> None:
    """First those that need no second pass for a checksum, which costs as much as they do."""
    options = transport.get_security_options()
    fast = [name for name in options.ciphers if name.endswith("-gcm@openssh.com")]
    options.ciphers = [*fast, *(name for name in options.ciphers if name not in fast)]


def _close(transport: Transport) -> None:
    # What carried it may be gone already.
    with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
        transport.close()


def _wanted(records: KnownHosts, target: Target) -> tuple[str, ...]:
    """Algorithms of a host key that can be compared with what is on record, a certificate first."""
    names = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}
    plain = [name for kind in records.key_types(*target.record) for name in names.get(kind, (kind,))]
    if not records.has_authority(*target.record):
        return tuple(plain)
    return (*(f"{name}{SUFFIX}" for name in Transport.host_key_names), *plain)
